"""A lock: an immutable, self-contained record of an accepted (or terminal) candidate.

It carries the candidate's pack, the authority's pack, the lane, the gates, and per seed the digests of world and
surfaces and the whole scorecard. Its id is the SHA-256 of everything else in it. Proving a lock needs only the lock and
the installed package (and the folder of an imported world): every digest is computed again, every seed run and scored
again, and decision, verdict, blockers and reason are derived again from that.

What follows from the search alone (`Search`: that the candidate is the best of N) is proved where the sweep's study is
(`sweeps.proof.searched`); who made the lock is proved by a signature or not at all. `unproved` lists both.

`sweeps.proof.lock_files` stores locks and finds them by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lanelock.engine.chain import UpstreamRun, upstream_runs
from lanelock.policies import IntegrityError, Pack, PolicyError, WorkspaceError
from lanelock.policies.documents import digest, read_json, shipped_schema, validate
from lanelock.policies.errors import out_of_memory
from lanelock.policies.pack import CarriedPack
from lanelock.scoring.gates import parse_gates
from lanelock.scoring.scorecard import Scorecard, combine, score
from lanelock.sweeps.decision.confirmation import Confirm, decide_confirmed
from lanelock.sweeps.decision.decision import Blocker, Decision
from lanelock.sweeps.decision.runtime import RUNTIME
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane, lane_of
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.proof.whole import WholeRun, whole_runs
from lanelock.sweeps.provenance import here

FORMAT = "lanelock.lock/3"
BEFORE_WHOLE_RUNS = "lanelock.lock/2"  # still read; states nothing of whole runs
NO_CANDIDATE = "no trial gave a candidate"


@dataclass(frozen=True, slots=True)
class SeedProof:
    """The candidate's results on one seed."""

    run_id: str
    world: str  # digest
    surfaces: Mapping[str, str]  # name -> digest
    metrics: Mapping[str, float]
    card: Mapping[str, Any]  # the scorecard's document
    upstream: tuple[UpstreamRun, ...] = ()  # the runs it stands on, the nearest first

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> SeedProof:
        return cls(**{**row, "upstream": tuple(UpstreamRun(**run) for run in row.get("upstream", ()))})

    @property
    def document(self) -> dict[str, Any]:
        """JSON; without an upstream, as before there were any."""
        document = asdict(self)
        runs = document.pop("upstream")
        return document | ({"upstream": list(runs)} if runs else {})


@dataclass(frozen=True, slots=True)
class Search:
    """What a lock states of the search that chose its candidate. Only the sweep's study can prove it."""

    origin: str  # digest of what the sweep began with
    trials: int  # that had finished
    head: str  # of the transcript after them
    because: str  # by which rule the candidate was taken, and among how many


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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Lock:
    """A lock. Law: `Lock.of(lock.document) == lock`, and the id follows from the other fields."""

    decision: str  # "GO" or "NO_GO"
    verdict: str
    reason: str
    blockers: tuple[Blocker, ...]
    candidate: str  # "accepted" or "terminal"
    sweep: str
    trial: int | None
    search: Search
    engine: str
    code_version: str
    arithmetic: str  # fingerprint of the functions that the engine computes with; empty where it gives none
    made_by: Mapping[str, Any]  # provenance
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
    whole: Mapping[int, WholeRun] = field(default_factory=dict)  # by seed; empty if the engine publishes no runs
    format: str = FORMAT
    lock_id: str = field(init=False)  # SHA-256 of everything else

    def __post_init__(self) -> None:
        object.__setattr__(self, "lock_id", digest(self._body))

    def __repr__(self) -> str:
        return f"<lock {self.name}: {self.decision}, {self.verdict}>"

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> Lock:
        """Returns the lock in a document. Raises PolicyError off its schema, IntegrityError if its id is wrong."""
        _check_format(document, where)
        validate(document, shipped_schema("lock"), where)
        authority, references = document["authority"], document["references"]
        try:
            metrics = {int(seed): values for seed, values in authority["metrics"].items()}
            proof = {int(seed): SeedProof.of(row) for seed, row in document["proof"].items()}
            confirmation = Confirmation.of(document.get("confirmation"))
            whole = {int(seed): WholeRun(**row) for seed, row in document.get("whole", {}).items()}
        except ValueError as error:
            raise PolicyError(
                f"{where}: /proof, /confirmation, /whole, /authority/metrics: seeds are whole numbers: {error}"
            ) from None
        if whole and sorted(whole) != sorted(document["seeds"]):
            raise PolicyError(f"{where}: /whole: must have a row for each of /seeds, or none at all")
        if not sorted(proof) == sorted(metrics) == sorted(document["seeds"]):
            raise PolicyError(
                f"{where}: /proof, /authority/metrics: both must have a row for each of /seeds and no other"
            )
        lock = cls(
            **{name: document[name] for name in _PLAIN},
            search=Search(**document["search"]),
            blockers=tuple(Blocker.of(row) for row in document["blockers"]),
            lane_document=document["lane"],
            seeds=tuple(map(int, document["seeds"])),
            candidate_pack=CarriedPack.of(document["pack"]),
            authority=CarriedPack.of(authority),
            authority_metrics=metrics,
            references={name: CarriedPack.of(pack) for name, pack in references.items()},
            proof=proof,
            confirmation=confirmation,
            chosen_by_hand=document.get("chosen_by_hand"),
            whole=whole,
            format=document["format"],
        )
        # The text itself is digested as well: it could state a seed twice, as 7 and as 07, of which only one is read.
        stated = digest({name: value for name, value in document.items() if name != "lock_id"})
        for found in (lock.lock_id, stated):
            if found != document["lock_id"]:
                raise IntegrityError(
                    f"{where}: /lock_id: the lock states {document['lock_id']}, its content digests to {found}"
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
        whole = {str(seed): asdict(row) for seed, row in self.whole.items()}
        return {
            **confirmed,
            "format": self.format,
            **chosen,
            **({} if self.format == BEFORE_WHOLE_RUNS else {"whole": whole}),
            **{name: getattr(self, name) for name in _PLAIN},
            "search": asdict(self.search),
            "blockers": [blocker.as_document() for blocker in self.blockers],
            "lane": self.lane_document,
            "seeds": list(self.seeds),
            "pack": asdict(self.candidate_pack),
            "authority": {**asdict(self.authority), "metrics": metrics},
            "references": {name: asdict(pack) for name, pack in self.references.items()},
            "proof": {str(seed): proof.document for seed, proof in self.proof.items()},
        }

    @property
    def because(self) -> str:
        """The decision in words: by which rule its candidate was taken, or why none was."""
        return self.search.because

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

    @property
    def profile(self) -> str | None:
        """The name of the strongest profile of its gates whose required seeds it has; None if there is none."""
        met = parse_gates(self.gates, self.name).profile_of(self.seeds)
        return None if met is None else met.name

    def needs_its_world(self, world: Path | None, where: str = "") -> None:
        """Raises PolicyError if the lock needs an imported world and `world` is None."""
        if self.world_source == "imported" and world is None:
            raise PolicyError(f"{where or self.name}: the lock needs its imported world; name it with --world DIR")


def _check_format(document: Any, where: str) -> None:
    """Raises PolicyError in one line for a lock of another version, whatever else is in it."""
    stated = document.get("format") if isinstance(document, Mapping) else None
    known = stated in (FORMAT, BEFORE_WHOLE_RUNS)
    if isinstance(stated, str) and not known and re.fullmatch("lanelock[.]lock/[0-9]{1,4}", stated):
        raise PolicyError(
            f"{where}: /format: {stated} is of another version; this one reads {FORMAT} and {BEFORE_WHOLE_RUNS}: play "
            "the sweep again"
        )
    if known and ("whole" in document) != (stated == FORMAT):
        raise PolicyError(f"{where}: /whole: a lock of format {FORMAT} states its whole runs, and no earlier one does")


# Fields that the document holds unchanged.
_PLAIN = (
    "decision", "verdict", "reason", "candidate", "sweep", "trial", "engine", "code_version", "arithmetic", "made_by",
    "knobs", "gates", "world_source",
)  # fmt: skip


def make_lock(
    ground: Ground, decision: Decision, sweep: str, search: Search, chosen_by_hand: str | None = None
) -> Lock:
    """Returns the lock of a closed sweep, after running the candidate again on every seed, with digests.

    Where the engine publishes runs, each seed is run to the last state, audited and bundled, wherever the lane stops.

    `chosen_by_hand`: why a person chose the candidate instead. Raises IntegrityError if its metrics differ from those
    that the sweep recorded.
    """
    lane, best = ground.lane, decision.best
    with out_of_memory(f"engine {lane.engine.name}: the candidate of {sweep}"):
        pack, proof, whole = _proved(ground, decision)
    for seed, recorded in (best.record.measures if best is not None else {}).items():
        if proof[seed].metrics != recorded:
            raise IntegrityError(
                f"{sweep}: the candidate on seed {seed} does not measure what the sweep recorded: the engine gives "
                "other results the second time, or something that it reads was changed"
            )
    knobs = {} if best is None else dict(best.values)
    measures = {seed: row.metrics for seed, row in proof.items()}
    ran = decision.confirmation
    stated = standing(ground, pack, knobs, measures, None if ran is None else lambda *_: ran)
    if timed := any(row.gate == RUNTIME for row in decision.blockers):
        stated = replace(decision, reason=reason_of(decision, lane, ()))
    if not timed and stated.outcome != decision.outcome:
        raise IntegrityError(f"{sweep}: the sweep closed {decision.outcome}, its candidate alone is {stated.outcome}")
    fresh = stated.confirmation
    lock = Lock(
        decision=stated.outcome,
        verdict=stated.verdict,
        reason=stated.reason,
        blockers=stated.blockers,
        candidate=KIND[stated.outcome],
        sweep=sweep,
        trial=None if best is None else best.number,
        search=search,
        engine=lane.engine.name,
        code_version=lane.engine.code_version,
        arithmetic=lane.engine.fingerprint,
        made_by=here().document,
        lane_document=dict(lane.document),
        knobs=knobs,
        seeds=lane.seeds,
        candidate_pack=pack.carried(),
        authority=lane.authority.carried(),
        authority_metrics={seed: ground.authority[seed] for seed in lane.seeds},
        references={name: pack.carried() for name, pack in lane.references.items()},
        gates=lane.gates_file,
        world_source=source_of(ground.world),
        proof=proof,
        confirmation=None if fresh is None or not fresh.metrics else Confirmation(fresh.band, fresh.metrics),
        chosen_by_hand=chosen_by_hand,
        whole=whole,
    )
    validate(lock.document, shipped_schema("lock"), sweep)
    return lock


KIND = {"GO": "accepted", "NO_GO": "terminal"}


def source_of(world: Path | None) -> str:
    return "drawn" if world is None else "imported"


def _proved(ground: Ground, decision: Decision) -> tuple[Pack, dict[int, SeedProof], dict[int, WholeRun]]:
    """Returns the pack to lock, and its results and whole runs by seed."""
    lane, world = ground.lane, ground.world
    if decision.best is None:
        return *_without_candidate(ground), {}
    pack = lane.candidate(decision.best.values)
    proof = {seed: prove_on(lane, pack, seed, world) for seed in lane.seeds}
    return pack, proof, whole_runs(lane.engine, pack, lane.seeds, world)


def _without_candidate(ground: Ground) -> tuple[Pack, dict[int, SeedProof]]:
    """Returns what is locked without a candidate: the lane's start, or the authority where that fails as well."""
    lane = ground.lane
    try:
        return lane.start, {seed: prove_on(lane, lane.start, seed, ground.world) for seed in lane.seeds}
    except (IntegrityError, WorkspaceError):
        raise
    except Exception:  # whatever the engine raises
        return lane.authority, {seed: prove_on(lane, lane.authority, seed, ground.world) for seed in lane.seeds}


def standing(
    ground: Ground,
    pack: Pack,
    knobs: Mapping[str, Value],
    measures: Mapping[int, Mapping[str, float]],
    confirm: Confirm | None = None,
) -> Decision:
    """Returns what the lane's rule says of a candidate alone, from its metrics on every seed of the lane.

    `confirm` stands in for runs on fresh seeds. Without knobs there is no candidate, and nothing to accept.
    """
    if not knobs:
        return Decision("NO_GO", str(ground.lane.gates.invalid), NO_CANDIDATE, None, ())
    cards = [ground.graded(seed, measures[seed]) for seed in ground.lane.seeds]
    record = TrialRecord({seed: measures[seed] for seed in ground.lane.seeds}, pack.digest, {}, {}, {}, 0)
    trial, ledger = Trial(0, knobs, objectives_of(ground, cards), constraints_of(cards), record), Ledger(ground)
    decision = decide_confirmed((trial,), ledger, confirm)
    return replace(decision, reason=reason_of(decision, ground.lane, ledger.vetoed(trial)))


def reason_of(decision: Decision, lane: Lane, vetoed: Sequence[str]) -> str:
    """Returns the reason that follows from the candidate alone: not that it is the best, but what it holds."""
    if decision.outcome != "GO":
        failing = [f"vetoed by {', '.join(vetoed)}"] if vetoed else []
        return "; ".join([*failing, *map(str, decision.blockers)]) or "it could not be graded on every seed"
    reason = f"every gate of band {_band(decision, lane)} holds on seeds {', '.join(map(str, lane.seeds))}"
    fresh = decision.confirmation
    if fresh is None:
        return reason
    witness = [seed for seed in fresh.metrics if seed in lane.witness]
    on = [f"witness seeds {', '.join(map(str, witness))}"] if witness else []
    count = len(fresh.metrics) - len(witness)
    return f"{reason}, and {fresh.band} on {' and '.join([*on, *([f'{count} fresh seeds'] if count else [])])}"


def _band(decision: Decision, lane: Lane) -> str:
    return next(band for band in lane.gates.bands if str(lane.gates.of_band(band)) == decision.verdict)


def by_hand(why: str, decision: Decision, ledger: Ledger) -> str:
    """Returns how a lock states that a person chose its candidate. `decision`: the lane's rule on that alone."""
    best, reason = decision.best, decision.reason
    if decision.outcome == "GO" and best is not None:
        reason = f"trial {best.number} meets band {ledger.band(best)} on every seed"
    return f"chosen by hand: {why}; {reason}"


def prove_on(
    lane: Lane, pack: Pack, seed: int, world: Path | None, measured: Mapping[str, float] | None = None
) -> SeedProof:
    run = lane.engine.evaluate(pack, seed, world=world, until=lane.until)
    metrics = lane.measure(run, world)
    authority = lane.yardstick(seed, world) if measured is None else measured
    card = score(metrics, lane.gates, seed=seed, authority=authority)
    return SeedProof(
        run.run_id, run.world_digest, run.digests(), metrics, card.as_document(), upstream_runs(run)
    )  # fmt: skip
