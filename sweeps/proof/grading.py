"""A lock's candidate, graded on seeds: whole runs, measured and scored by the gates of the installed engine.

The held-out seeds follow from the candidate's digest, so nobody could have tuned to them, or choose them afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.protocol import Worlds
from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.scoring.certification import Certification, Claim, Precondition, certify, claim_of, conclude
from lanelock.scoring.gates import GateSet, Verdict, load_gates
from lanelock.scoring.scorecard import MetricSource, Scorecard, measured, score
from lanelock.sweeps.decision.confirmation import fresh_seeds
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.proof.lock import Lock, SeedProof

FORMAT = "lanelock.evidence/2"


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of one seed; small, so that hundreds can be kept."""

    card: Scorecard
    audited: bool  # the engine's own audit passed, or it has none
    document: Mapping[str, Any]  # run id, world, digests of surfaces, metrics

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

    def as_document(self, lock: Lock, code_version: str) -> dict[str, Any]:
        """Returns JSON under `evidence.schema.json`."""
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
        }
        validate(document, shipped_schema("evidence"), "certification")
        return document


def gates_of_engine(name: str) -> GateSet:
    """Returns the gates of an installed engine: by these every lock is graded, whatever gates it carries.

    Raises PolicyError for a profile that asks for what the engine's policies do not have.
    """
    file = str(metrics_named(name).gates_file)
    gates = load_gates(file)
    gates.check_spec(engine_named(name).policy_schemas, file)
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
        return fresh_seeds(self.pack.digest, count, (*asked, *self.lock.seeds))

    def run(self, seed: int) -> Proof:
        """Runs one seed to the last state, measures every row and scores it. Nothing of the run itself is kept."""
        run = self.engine.evaluate(self.pack, seed, world=self.world)
        card = score(measured(self.metrics, run), self.gates, seed=seed, authority=None)
        document = {
            "seed": seed,
            "run_id": run.run_id,
            "world": run.world_digest,
            "surfaces": run.digests(),
            "metrics": dict(card.metrics),
        }
        return Proof(card, run.audit is None or bool(run.audit.passed), document)

    def runs(self, seeds: Sequence[int], jobs: int) -> Iterator[tuple[int, Proof]]:
        """Yields each seed's proof, in the order of the seeds for any number of workers.

        Where the caller stops, seeds that have not begun are not run.
        """
        with ThreadPoolExecutor(jobs, thread_name_prefix="seed") as workers:
            try:
                yield from zip(seeds, workers.map(self.run, seeds), strict=True)
            finally:
                workers.shutdown(cancel_futures=True)

    def conclude(self, proofs: Mapping[int, Proof], asked: Sequence[int], confidence: float) -> Finding:
        """Grades the proofs of the seeds asked for and, apart from them, of all others, which were held out."""
        graded = certify([proofs[seed].card for seed in asked], self.gates)
        fresh = [proof.card for seed, proof in proofs.items() if seed not in asked]
        holdout = certify(fresh, self.gates) if fresh else None
        preconditions = tuple(self._preconditions(proofs))
        verdict, reason = conclude(graded, holdout, preconditions, self.gates)
        claim = claim_of(holdout, verdict, confidence, self._drawn())
        return Finding(verdict, reason, graded, holdout, preconditions, claim)

    def _drawn(self) -> str:
        """Returns what a seed draws: a world, or only a run where all seeds have the same world or none."""
        return "worlds" if isinstance(self.engine.own, Worlds) and self.world is None else "runs"

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


def _moved(stated: SeedProof, computed: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs from a lock's statements about a seed; its lane may have stopped at an earlier state."""
    if stated.world != computed["world"]:
        yield "the world"
    yield from (name for name, sha256 in stated.surfaces.items() if computed["surfaces"].get(name) != sha256)
    yield from (name for name, value in stated.metrics.items() if computed["metrics"].get(name) != value)
