"""A lock: an immutable, self-contained record of an accepted (or terminal) candidate.

It carries the candidate's pack, the authority's pack, the lane, the gates, and per seed the digests of
world and surfaces and the whole scorecard. Its id is the SHA-256 of everything else in it. Proving a
lock needs only the lock and the installed package (and the folder of an imported world): every digest
is computed again, every seed run and scored again.

`sweeps.proof.lock_files` stores locks and finds them by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, LanelockError, Pack, PolicyError, WorkspaceError
from lanelock.policies.documents import digest, read_json, shipped_schema, validate
from lanelock.policies.pack import CarriedPack
from lanelock.scoring.scorecard import Scorecard, combine, score
from lanelock.sweeps.decision.confirmation import band_of, confirm_seeds, graded_on
from lanelock.sweeps.decision.decision import Blocker, Decision
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane, lane_of
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.proof.checks import Check, Watch, collected, same

FORMAT = "lanelock.lock/1"


@dataclass(frozen=True, slots=True)
class SeedProof:
    """The candidate's results on one seed."""

    run_id: str
    world: str  # digest
    surfaces: Mapping[str, str]  # name -> digest
    metrics: Mapping[str, float]
    card: Mapping[str, Any]  # the scorecard's document


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The candidate's results on fresh seeds, which follow from its pack's digest."""

    band: str | None  # the highest band that holds on every one of them
    metrics: Mapping[int, Mapping[str, float]]  # by seed

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Confirmation | None:
        if document is None:
            return None
        return cls(document["band"], {int(seed): metrics for seed, metrics in document["metrics"].items()})

    @property
    def document(self) -> dict[str, Any]:
        return {"band": self.band, "metrics": {str(seed): dict(metrics) for seed, metrics in self.metrics.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock. Law: `Lock.of(lock.document) == lock`, and the id follows from the other fields."""

    decision: str  # "GO" or "NO_GO"
    verdict: str
    reason: str
    blockers: tuple[Blocker, ...]
    candidate: str  # "accepted" or "terminal"
    sweep: str
    trial: int | None
    runs: Mapping[str, str | None]  # "sweep" and "trial" -> tracking run; None where the tracking server was away
    engine: str
    code_version: str
    lane_document: Mapping[str, Any]
    knobs: Mapping[str, Value]
    seeds: tuple[int, ...]
    candidate_pack: CarriedPack
    authority: CarriedPack
    authority_metrics: Mapping[int, Mapping[str, float]]  # seed -> what rails compare with
    references: Mapping[str, CarriedPack]
    gates: Mapping[str, Any]  # the gate file
    world_source: str  # "drawn" or "imported"
    proof: Mapping[int, SeedProof]  # by seed
    confirmation: Confirmation | None = None
    chosen_by_hand: str | None = None  # why a person chose this trial; None: the sweep's decision chose it
    lock_id: str = field(init=False)  # SHA-256 of everything else

    def __post_init__(self) -> None:
        object.__setattr__(self, "lock_id", digest(self._body))

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> Lock:
        """Returns the lock in a document. Raises PolicyError off its schema, IntegrityError if its id is wrong."""
        validate(document, shipped_schema("lock"), where)
        authority, references = document["authority"], document["references"]
        try:
            metrics = {int(seed): values for seed, values in authority["metrics"].items()}
            proof = {int(seed): SeedProof(**row) for seed, row in document["proof"].items()}
            confirmation = Confirmation.of(document.get("confirmation"))
        except ValueError as error:
            raise PolicyError(
                f"{where}: /proof, /confirmation, /authority/metrics: seeds are whole numbers: {error}"
            ) from None
        lock = cls(
            **{name: document[name] for name in _PLAIN},
            blockers=tuple(Blocker.of(row) for row in document["blockers"]),
            lane_document=document["lane"],
            seeds=tuple(document["seeds"]),
            candidate_pack=CarriedPack.of(document["pack"]),
            authority=CarriedPack.of(authority),
            authority_metrics=metrics,
            references={name: CarriedPack.of(pack) for name, pack in references.items()},
            proof=proof,
            confirmation=confirmation,
            chosen_by_hand=document.get("chosen_by_hand"),
        )
        if lock.lock_id != document["lock_id"]:
            raise IntegrityError(
                f"{where}: /lock_id: the lock states {document['lock_id']}, its content digests to {lock.lock_id}"
            )
        return lock

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Returns the lock in a file. Raises IntegrityError if it was changed, PolicyError if there is no such file."""
        try:
            return cls.of(read_json(path), str(path))
        except PolicyError as error:
            if not path.is_file():
                raise
            raise IntegrityError(f"not a whole lock: {error}") from None

    @property
    def document(self) -> dict[str, Any]:
        """JSON under `lock.schema.json`."""
        return {**self._body, "lock_id": self.lock_id}

    @property
    def _body(self) -> dict[str, Any]:
        """The part that the id is the digest of."""
        metrics = {str(seed): dict(values) for seed, values in self.authority_metrics.items()}
        confirmed = {} if self.confirmation is None else {"confirmation": self.confirmation.document}
        chosen = {} if self.chosen_by_hand is None else {"chosen_by_hand": self.chosen_by_hand}
        return {
            **confirmed,
            "format": FORMAT,
            **chosen,
            **{name: getattr(self, name) for name in _PLAIN},
            "blockers": [blocker.as_document() for blocker in self.blockers],
            "lane": self.lane_document,
            "seeds": list(self.seeds),
            "pack": asdict(self.candidate_pack),
            "authority": {**asdict(self.authority), "metrics": metrics},
            "references": {name: asdict(pack) for name, pack in self.references.items()},
            "proof": {str(seed): asdict(proof) for seed, proof in self.proof.items()},
        }

    @property
    def short_id(self) -> str:
        return self.lock_id[:12]

    @property
    def name(self) -> str:
        """The name of its file, without the suffix. One chosen by hand has its trial in it: it is not its sweep's."""
        by_hand = "" if self.chosen_by_hand is None else f".{self.trial}"
        return f"{self.sweep}{by_hand}.{self.short_id}"

    def lane(self, where: str = "") -> Lane:
        """Returns its lane, rebuilt from the lock alone. `where` is the name that errors give."""
        return lane_of(self.lane_document, self.authority, self.references, self.gates, where or self.name)

    def pack(self, where: str = "") -> Pack:
        """Returns its candidate. Raises PolicyError if the installed engine's schemas do not allow it."""
        return self.candidate_pack.opened(engine_named(self.engine).policy_schemas, where or self.name)

    def cards(self, lane: Lane) -> tuple[Scorecard, ...]:
        """Returns one scorecard per lane seed, in lane order, computed from the metrics in the lock."""
        return tuple(
            score(self.proof[seed].metrics, lane.gates, seed=seed, authority=self.authority_metrics[seed])
            for seed in lane.seeds
        )

    def card(self, lane: Lane) -> Scorecard:
        """Returns the worst of its scorecards over seeds."""
        return combine(self.cards(lane), lane.gates)

    def needs_its_world(self, world: Path | None, where: str = "") -> None:
        """Raises PolicyError if the lock needs an imported world and `world` is None."""
        if self.world_source == "imported" and world is None:
            raise PolicyError(f"{where or self.name}: the lock needs its imported world; name it with --world DIR")


# Fields that the document holds unchanged.
_PLAIN = (
    "decision", "verdict", "reason", "candidate", "sweep", "trial", "runs", "engine", "code_version", "knobs", "gates",
    "world_source",
)  # fmt: skip


def make_lock(
    ground: Ground, decision: Decision, sweep: str, runs: Mapping[str, str | None], chosen_by_hand: str | None = None
) -> Lock:
    """Returns the lock of a closed sweep, after running the candidate again on every seed, with digests.

    `chosen_by_hand`: why a person chose the candidate instead. Raises IntegrityError if its metrics differ from those
    that the sweep recorded.
    """
    lane, best = ground.lane, decision.best
    if best is None:
        pack, proof = _without_candidate(ground)
    else:
        pack = lane.candidate(best.values)
        proof = {seed: _prove(lane, pack, seed, ground.world) for seed in lane.seeds}
    for seed, recorded in (best.record.measures if best is not None else {}).items():
        if proof[seed].metrics != recorded:
            raise IntegrityError(f"{sweep}: the candidate on seed {seed} does not measure what the sweep recorded")
    fresh = decision.confirmation
    lock = Lock(
        decision=decision.outcome,
        verdict=decision.verdict,
        reason=decision.reason,
        blockers=decision.blockers,
        candidate="accepted" if decision.outcome == "GO" else "terminal",
        sweep=sweep,
        trial=None if best is None else best.number,
        runs=dict(runs),
        engine=lane.engine.name,
        code_version=lane.engine.code_version,
        lane_document=dict(lane.document),
        knobs={} if best is None else dict(best.values),
        seeds=lane.seeds,
        candidate_pack=pack.carried(),
        authority=lane.authority.carried(),
        authority_metrics={seed: ground.authority[seed] for seed in lane.seeds},
        references={name: pack.carried() for name, pack in lane.references.items()},
        gates=lane.gates_file,
        world_source="drawn" if ground.world is None else "imported",
        proof=proof,
        confirmation=None if fresh is None or not fresh.metrics else Confirmation(fresh.band, fresh.metrics),
        chosen_by_hand=chosen_by_hand,
    )
    validate(lock.document, shipped_schema("lock"), sweep)
    return lock


def _without_candidate(ground: Ground) -> tuple[Pack, dict[int, SeedProof]]:
    """Returns what is locked without a candidate: the lane's start, or the authority where that fails as well."""
    lane = ground.lane
    try:
        return lane.start, {seed: _prove(lane, lane.start, seed, ground.world) for seed in lane.seeds}
    except (IntegrityError, WorkspaceError):
        raise
    except Exception:  # whatever the engine raises
        return lane.authority, {seed: _prove(lane, lane.authority, seed, ground.world) for seed in lane.seeds}


def by_hand(why: str) -> str:
    """Returns how the reason of a lock begins whose candidate a person chose."""
    return f"chosen by hand: {why};"


def verify_lock(path: Path, world: Path | None = None, watch: Watch = lambda check: None) -> list[Check]:
    """Returns every check, in order; the lock holds if all are ok. A difference does not stop it."""
    return collected(_checks(Lock.read(path), str(path), world), watch)


def _checks(lock: Lock, where: str, world: Path | None) -> Iterator[Check]:
    yield same("lock_id", lock.lock_id, lock.lock_id)  # `read` has checked it
    lock.needs_its_world(world, where)
    try:
        lane, pack = lock.lane(where), lock.pack(where)
        admitted = lane.admit(pack) if lock.knobs else {}
    except LanelockError as error:
        yield Check("content", False, "a lane and packs valid under this package", str(error))
        return
    if lock.chosen_by_hand is not None:
        begins = by_hand(lock.chosen_by_hand)
        yield same("reason", lock.reason[: len(begins)], begins)
    yield same("pack digest", lock.candidate_pack.digest, pack.digest)
    yield same("authority digest", lock.authority.digest, lane.authority.digest)
    yield same("pack = authority + fixed fields + knobs", lock.knobs, admitted)
    if not admitted:
        bare = lane.authority if pack.digest == lane.authority.digest else lane.start
        yield same("pack = authority + fixed fields", pack.digest, bare.digest)
    for seed, stated_card in zip(lane.seeds, lock.cards(lane), strict=True):
        measured = lane.yardstick(seed, world)
        yield same(f"seed {seed}: authority metrics", lock.authority_metrics[seed], measured)
        stated, computed = lock.proof[seed], _prove(lane, pack, seed, world)
        yield same(f"seed {seed}: world", stated.world, computed.world)
        for surface in {**stated.surfaces, **computed.surfaces}:
            yield same(f"seed {seed}: {surface}", stated.surfaces.get(surface), computed.surfaces.get(surface))
        yield same(f"seed {seed}: metrics", stated.metrics, computed.metrics)
        card = score(computed.metrics, lane.gates, seed=seed, authority=measured).as_document()
        yield same(f"seed {seed}: scorecard", stated.card, card)
        yield same(f"seed {seed}: scorecard of the stated metrics", stated.card, stated_card.as_document())
    if lock.confirmation is not None:
        yield from _confirmed(lock.confirmation, lane, pack, world)


def _confirmed(stated: Confirmation, lane: Lane, pack: Pack, world: Path | None) -> Iterator[Check]:
    """Yields whether the fresh seeds follow from the candidate, and whether it measures there what is stated."""
    seeds = confirm_seeds(lane, world, pack)[: len(stated.metrics)]
    yield same("fresh seeds", sorted(stated.metrics), sorted(seeds))
    cards = [graded_on(lane, pack, seed, world) for seed in sorted(stated.metrics)]
    for card in cards:
        yield same(f"fresh seed {card.seed}: metrics", stated.metrics[int(card.seed or 0)], dict(card.metrics))
    yield same("band on fresh seeds", stated.band, band_of(cards, lane))


def _prove(lane: Lane, pack: Pack, seed: int, world: Path | None) -> SeedProof:
    run = lane.engine.evaluate(pack, seed, world=world, until=lane.until)
    metrics = lane.measure(run)
    card = score(metrics, lane.gates, seed=seed, authority=lane.yardstick(seed, world))
    return SeedProof(run.run_id, run.world_digest, run.digests(), metrics, card.as_document())
