"""A lock's candidate, graded on seeds: whole runs, measured and scored by the gates of the installed engine.

Where the gate file has profiles, a grade carries the strongest whose required seeds are all asked for. There is none
on fewer seeds than any profile requires, with other laws than its profile's spec, or without the bundles it asks for.

The held-out seeds follow from the candidate's digest, so nobody could have tuned to them, or choose them afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from lanelock.engine.chain import draws_worlds
from lanelock.engine.protocol import Publishing, Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.scoring.certification import Certification, Claim, Precondition, certify, claim_of, conclude
from lanelock.scoring.gates import GateSet, Profile, Verdict
from lanelock.scoring.scorecard import MetricSource, Scorecard, gates_of, keepsake_of, measured, score
from lanelock.sweeps.decision.confirmation import fresh_seeds
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.proof.lock import Lock, SeedProof
from lanelock.sweeps.proof.whole import audit_of, bundle_of

FORMAT = "lanelock.evidence/2"
REQUIRED, SPEC, BUNDLE = "required seeds", "spec", "bundle"  # preconditions that follow from a profile


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of one seed; small, so that hundreds can be kept."""

    card: Scorecard
    audited: bool  # the engine's own audit passed, or it has none
    document: Mapping[str, Any]  # run id, world, digests of surfaces, metrics; of a bundled run also its bundle

    @property
    def holds(self) -> bool:
        """Whether this seed alone leaves the certification a pass."""
        return self.card.verdict.passed and self.audited


@dataclass(frozen=True, slots=True)
class Finding:
    """The conclusion from the proofs of a lock's seeds."""

    verdict: Verdict
    reason: str
    graded: Certification
    holdout: Certification | None
    preconditions: tuple[Precondition, ...]
    claim: Claim | None
    profile: Profile | None = None  # that the seeds asked for meet

    def as_document(self, lock: Lock, code_version: str) -> dict[str, Any]:
        """Returns JSON under `evidence.schema.json`."""
        name = None if self.profile is None else self.profile.name
        document = {
            "format": FORMAT,
            "lock_id": lock.lock_id,
            "sweep": lock.sweep,
            "engine": lock.engine,
            "code_version": code_version,
            "pack": lock.candidate_pack.digest,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "seeds": [card.seed for card in self.graded.cards],
            "holdout_seeds": [] if self.holdout is None else [card.seed for card in self.holdout.cards],
            "preconditions": [asdict(row) for row in self.preconditions],
            "graded": self.graded.as_document(),
            "holdout": None if self.holdout is None else self.holdout.as_document(),
            "claim": None if self.claim is None else asdict(self.claim),
            **({"profile": name} if any(row.name == REQUIRED for row in self.preconditions) else {}),
        }
        validate(document, shipped_schema("evidence"), "certification")
        return document


def gates_of_engine(name: str) -> GateSet:
    """Returns the gates of an installed engine: by these every lock is graded, whatever gates it carries.

    Raises PolicyError for a profile that asks for what the engine's policies do not have.
    """
    gates = gates_of(metrics_named(name))
    gates.check_spec(engine_named(name).policy_schemas, f"gates {gates.document['id']}")
    return gates


@dataclass(frozen=True, slots=True)
class Examination:
    """A lock's candidate, and what it takes to run and grade it on any seed."""

    lock: Lock
    engine: Resolved
    metrics: MetricSource
    gates: GateSet
    pack: Pack
    world: Path | None  # imported; None: drawn

    @classmethod
    def of(cls, lock: Lock, world: Path | None, where: str) -> Examination:
        """Raises PolicyError for a lock that cannot be run here, or not on that world."""
        lock.needs_its_world(world, where)
        if world is not None and lock.world_source != "imported":
            raise PolicyError(f"{where}: the lock's worlds are drawn from its policy; leave out --world")
        engine, gates = engine_named(lock.engine), gates_of_engine(lock.engine)
        return cls(lock, engine, metrics_named(lock.engine), gates, lock.pack(where), world)

    def holdout_seeds(self, asked: Sequence[int], count: int) -> tuple[int, ...]:
        """Returns the first `count` held-out seeds; more seeds begin with the same."""
        witness = map(int, self.lock.lane_document.get("witness", ()))
        return fresh_seeds(self.pack.digest, count, (*asked, *self.lock.seeds, *witness))

    def bundled(self, asked: Sequence[int]) -> tuple[int, ...]:
        """Returns the seeds whose runs are to be bundled: those that the profile requires, if it asks for bundles."""
        profile = self.gates.profile_of(asked)
        bundles = profile is not None and profile.bundled and isinstance(self.engine.own, Publishing)
        return profile.seeds if profile is not None and bundles else ()

    def graded_by(self, asked: Sequence[int]) -> GateSet:
        """Returns the gates with the limits of the profile that these seeds meet."""
        return self.gates.under(self.gates.profile_of(asked))

    def run(self, seed: int, bundled: bool = False, gates: GateSet | None = None) -> Proof:
        """Runs one seed to the last state, measures every row and scores it. Nothing of the run itself is kept."""
        run = self.engine.evaluate(self.pack, seed, world=self.world)
        keepsake = keepsake_of(self.metrics, partial(self._authority, seed))
        card = score(measured(self.metrics, run, keepsake), gates or self.gates, seed=seed, authority=None)
        document = {
            "seed": seed,
            "run_id": run.run_id,
            "world": run.world_digest,
            "surfaces": run.digests(),
            "metrics": dict(card.metrics),
            **({"bundle": bundle_of(self.engine, run)} if bundled else {}),
        }
        return Proof(card, audit_of(run) is not False, document)

    def _authority(self, seed: int) -> Run:
        """Returns the run that metrics compare with: of the pack that the lock's lane started from."""
        pack = self.lock.authority.opened(self.engine.policy_schemas, f"{self.lock.name}: /authority")
        return self.engine.evaluate(pack, seed, world=self.world)

    def runs(self, asked: Sequence[int], fresh: Sequence[int], jobs: int) -> Iterator[tuple[int, Proof]]:
        """Yields the proof of each seed asked for and held out, in this order for any number of workers.

        Where the caller stops, seeds that have not begun are not run.
        """
        seeds, bundled, gates = (*asked, *fresh), self.bundled(asked), self.graded_by(asked)
        with ThreadPoolExecutor(jobs, thread_name_prefix="seed") as workers:
            try:
                bundling = [seed in bundled for seed in seeds]
                yield from zip(seeds, workers.map(self.run, seeds, bundling, repeat(gates)), strict=True)
            finally:
                workers.shutdown(cancel_futures=True)

    def conclude(self, proofs: Mapping[int, Proof], asked: Sequence[int], confidence: float) -> Finding:
        """Grades the proofs of the seeds asked for and, apart from them, of all others, which were held out."""
        gates = self.graded_by(asked)
        graded = certify([proofs[seed].card for seed in asked], gates)
        fresh = [proof.card for seed, proof in proofs.items() if seed not in asked]
        holdout = certify(fresh, gates) if fresh else None
        profile = self.gates.profile_of(asked)
        preconditions = (*self._required(asked, profile), *self._preconditions(proofs))
        verdict, reason = conclude(graded, holdout, preconditions, self.gates)
        claim = claim_of(holdout, verdict, confidence, self._drawn())
        return Finding(verdict, reason, graded, holdout, preconditions, claim, profile)

    def _drawn(self) -> str:
        """Returns what a seed draws: a world, or only a run where all seeds have the same world or none."""
        return "worlds" if draws_worlds(self.engine, self.world) else "runs"

    def _required(self, asked: Sequence[int], profile: Profile | None) -> Iterator[Precondition]:
        """Yields what the gate file's profiles ask for beside the gates; nothing if it has no profiles."""
        if not self.gates.profiles:
            return
        if profile is None:
            yield Precondition(REQUIRED, False, _missing(self.gates, asked))
            return
        yield Precondition(REQUIRED, True, f"those of profile {profile.name}: {_listed(profile.seeds)}")
        if profile.spec:
            others = [*profile.otherwise(self.pack)]
            yield Precondition(SPEC, not others, "; ".join(others) or f"as profile {profile.name} asks")
        if profile.bundled:
            ok = isinstance(self.engine.own, Publishing)
            made = f"published and checked on seeds {_listed(profile.seeds)}"
            lacks = f"engine {self.engine.name} publishes no runs, and profile {profile.name} asks for bundles"
            yield Precondition(BUNDLE, ok, made if ok else lacks)

    def _preconditions(self, proofs: Mapping[int, Proof]) -> Iterator[Precondition]:
        """Yields the preconditions; if one fails, there is no grade."""
        stated = self.lock.candidate_pack.digest
        same_pack = f"the pack digests to {self.pack.digest}, the lock states {stated}"
        yield Precondition("policies", self.pack.digest == stated, same_pack)
        for seed, proof in proofs.items():
            if seed in self.lock.proof:
                moved = [*_moved(self.lock.proof[seed], proof.document)]
                differs = f"{', '.join(moved) or 'nothing'} is other than the lock states"
                yield Precondition(f"lock on seed {seed}", not moved, differs)
        failed = [str(seed) for seed, proof in proofs.items() if not proof.audited]
        yield Precondition("audit", not failed, f"the engine's own audit fails on seeds {', '.join(failed) or 'none'}")


def _missing(gates: GateSet, asked: Sequence[int]) -> str:
    """Returns which required seeds are missing from those asked for, by profile."""
    lacks = (f"{row.name} also needs {_listed(row.missing(asked))}" for row in gates.profiles.values())
    return f"{_listed(asked)} meet no profile: {'; '.join(lacks)}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _moved(stated: SeedProof, computed: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs from a lock's statements about a seed; its lane may have stopped at an earlier state."""
    if stated.world != computed["world"]:
        yield "the world"
    yield from (name for name, sha256 in stated.surfaces.items() if computed["surfaces"].get(name) != sha256)
    yield from (name for name, value in stated.metrics.items() if computed["metrics"].get(name) != value)
