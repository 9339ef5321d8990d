"""The records of a campaign: how its run began, and each phase as it was played. All else is derived from these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.names import check_name, inside
from lanelock.policies.pack import CarriedPack, FieldChange
from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.campaign.movement import Movement
from lanelock.sweeps.campaign.triggers import Trigger
from lanelock.sweeps.decision.decision import Blocker
from lanelock.sweeps.decision.runtime import Runtime
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.workspace import phase_files, write_document

BEGUN = "campaign.json"  # in the run's folder
CANDIDATE, AUTHORITY = "candidate", "authority"  # which pack a phase passes on
_NEEDED = ("phase", "kind", "title", "outcome", "reason", "next", "seconds")  # fields of every record, as they are
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Holder:
    """The pack that a phase passes on, and the file name of the lock it came from, if any."""

    pack: CarriedPack
    lock: str | None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Holder:
        lock = document["lock"]
        return cls(CarriedPack.of(document), None if lock is None else check_name(lock, "a lock's file"))

    @property
    def document(self) -> dict[str, Any]:
        return {**asdict(self.pack), "lock": self.lock}


@dataclass(frozen=True, slots=True)
class KnobRange:
    """The range of a knob."""

    at: str  # policy#/pointer
    values: tuple[Value, ...]  # all choices, or both ends


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a lane's sweep."""

    sweep: str
    trials: int
    vetoes: Mapping[str, int]  # veto id -> trials it ended
    values: Mapping[str, Value]  # of the candidate, by knob
    best: Mapping[str, float]  # gate -> the best that a trial reached, worst over seeds
    runtime: Runtime | None
    lock: str | None  # the file name of its lock; older records lack it

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Swept:
        runtime = None if row.get("runtime") is None else Runtime(**row["runtime"])
        vetoes, values, best = (row.get(name, {}) for name in ("vetoes", "values", "best"))
        lock = None if row.get("lock") is None else check_name(row["lock"], "a lock's file")
        return cls(row["sweep"], row["trials"], vetoes, values, best, runtime, lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A lane, and how far its phase came: refused, or swept."""

    lane: Mapping[str, Any]  # id, title, why, seeds and budget
    knobs: Mapping[str, KnobRange]
    reach: tuple[GateReach, ...] | None = None  # None: refused before it was computed
    blockers: tuple[Blocker, ...] | None = None  # likewise
    swept: Swept | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Tried:
        return cls(
            lane=row["lane"],
            knobs={name: KnobRange(knob["at"], tuple(knob["values"])) for name, knob in row["knobs"].items()},
            reach=None if "reach" not in row else tuple(GateReach(**gate) for gate in row["reach"]),
            blockers=None if "blockers" not in row else tuple(Blocker.of(blocker) for blocker in row["blockers"]),
            swept=None if "sweep" not in row else Swept.of(row),
        )

    @property
    def document(self) -> dict[str, Any]:
        return {
            "lane": self.lane,
            "knobs": {name: {"at": knob.at, "values": list(knob.values)} for name, knob in self.knobs.items()},
            **({} if self.reach is None else {"reach": [asdict(gate) for gate in self.reach]}),
            **({} if self.blockers is None else {"blockers": [blocker.as_document() for blocker in self.blockers]}),
            **({} if self.swept is None else asdict(self.swept)),
        }


@dataclass(frozen=True, slots=True)
class Graded:
    """The result of a certification."""

    band: str | None
    certification: Mapping[str, Any]  # its document
    evidence: str  # the folder of its pack


@dataclass(frozen=True, slots=True)
class End:
    """The result of a freeze."""

    status: str
    certified: bool
    freeze: str | None = None  # id of its own lock; None: an older version wrote none


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a person decided: who, why and when."""

    who: str
    why: str
    at: str | None  # UTC, ISO 8601; None: given beforehand, in the campaign's file
    signed_by: str | None = None  # the public key that signed it

    @property
    def beforehand(self) -> bool:
        return self.at is None

    def __str__(self) -> str:
        """Returns who, when and why, in words."""
        when = "given beforehand" if self.at is None else f"at {self.at}"
        signed = "" if self.signed_by is None else f", signed by {self.signed_by[:12]}"
        return f"{self.who}, {when}{signed}: {self.why}"


@dataclass(frozen=True, slots=True)
class Checked:
    """A check of a phase's checklist, as it was evaluated."""

    check: str
    ok: bool
    witness: str  # what shows it: a file, a digest, a number
    waiver: Ruling | None = None  # why it need not hold

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Checked:
        waiver = None if row["waiver"] is None else Ruling(**row["waiver"])
        return cls(row["check"], row["ok"], row["witness"], waiver)

    @property
    def green(self) -> bool:
        return self.ok or self.waiver is not None

    @property
    def waived(self) -> bool:
        """Whether it does not hold, and need not."""
        return not self.ok and self.waiver is not None

    @property
    def state(self) -> str:
        return "holds" if self.ok else "waived" if self.waiver is not None else "does not hold"


@dataclass(frozen=True, slots=True)
class Finding:
    """A phase's outcome and reason, as they were shown beside a question."""

    phase: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, what was shown with it, and its answer."""

    asks: str
    consequences: Mapping[str, str]  # by answer
    findings: tuple[Finding, ...]
    answer: str  # "yes" or "no"
    ruling: Ruling

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Answered:
        findings = tuple(Finding(**finding) for finding in row["findings"])
        return cls(row["asks"], row["consequences"], findings, row["answer"], Ruling(**row["ruling"]))


@dataclass(frozen=True, slots=True)
class Pinned:
    """The run of an authority on one seed: what it was computed from, and how long its states took."""

    run_id: str
    manifest_fingerprint: str  # the world's digest
    parameter_hash: str  # the pack's
    code_version: str
    seconds: Mapping[str, float]  # by state; 0 where the state was computed before
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Floor:
    """A metric of a lane's authority and of its candidate, by seed."""

    metric: str
    authority: Mapping[int, float]
    candidate: Mapping[int, float] | None  # None: the lane was not played

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Floor:
        authority, candidate = ((row[side] and _by_seed(row[side])) for side in ("authority", "candidate"))
        return cls(row["metric"], authority or {}, candidate)

    @property
    def document(self) -> dict[str, Any]:
        candidate = None if self.candidate is None else _by_text(self.candidate)
        return {"metric": self.metric, "authority": _by_text(self.authority), "candidate": candidate}


def _by_seed(row: Mapping[str, float]) -> dict[int, float]:
    return {int(seed): value for seed, value in row.items()}


def _by_text(values: Mapping[int, float]) -> dict[str, float]:
    return {str(seed): value for seed, value in values.items()}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a state takes: processor seconds, with their interval, and how its wall seconds stand to its budget."""

    state: str
    seconds: float
    low: float
    high: float
    wall_s: float
    colour: str  # GREEN, AMBER, RED; empty: no budget
    target_s: float | None
    limit_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """The result of a performance phase."""

    mode: str  # "baseline", "compare" or "lock"
    focus: str  # the state that it is about, `publishing` or `all`
    costs: tuple[Cost, ...]  # the hot spots, most first
    machine: Mapping[str, Any]
    file: str | None  # in the workspace's perf: the baseline, or the comparison
    measured: Mapping[str, Any] | None = None  # of a baseline: its rounds, to compare with
    lock: str | None = None  # the name of the runtime lock
    runtime_id: str | None = None
    recorded: Mapping[str, float] | None = None  # seconds before and after, of an earlier cycle

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Performance:
        return cls(**{**row, "costs": tuple(Cost(**cost) for cost in row["costs"])})

    def cost_of(self, state: str) -> Cost | None:
        return next((cost for cost in self.costs if cost.state == state), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a phase, before it is decided what follows."""

    outcome: str
    reason: str
    verdict: str | None = None
    metrics: Mapping[int, Mapping[str, float]] | None = None  # of its candidate, on the campaign's seeds
    tried: Tried | None = None  # of a lane
    graded: Graded | None = None  # of a certification that had a lock
    end: End | None = None  # of a freeze
    movement: Movement | None = None  # of a lane that may earn a retry, and gave a candidate
    floors: tuple[Floor, ...] = ()  # of a lane
    pinned: Mapping[int, Pinned] | None = None  # of an authority, by seed
    answered: Answered | None = None  # of a question
    skipped: Ruling | None = None  # why the phase was not played
    triggers: tuple[Trigger, ...] = ()  # the conditions that decided whether it was needed, and what follows
    performance: Performance | None = None  # of a performance phase

    @property
    def ending(self) -> str:
        """The outcome, or the status of a freeze."""
        return self.outcome if self.end is None else self.end.status

    @property
    def lock(self) -> str | None:
        """The file name of the lock that its sweep left; None without a sweep."""
        return None if self.tried is None or self.tried.swept is None else self.tried.swept.lock

    @property
    def trials(self) -> int | None:
        """The number of trials of its sweep; None without a sweep."""
        return None if self.tried is None or self.tried.swept is None else self.tried.swept.trials


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRecord(Result):
    """One phase as it was played. Law: `PhaseRecord.of(record.document) == record`."""

    phase: str
    kind: str
    title: str
    why: str
    authority: Mapping[str, str] | None  # name and digest of the pack that it started from
    changes: tuple[FieldChange, ...]  # from that pack to its candidate
    carried: str | None  # which of the two it passes on: "candidate" or "authority"
    holder: Holder | None
    next: str | None  # the phase that follows
    seconds: float
    decision: str | None = None  # its name; older records have none
    pruned: str | None = None  # the summary of what was pruned before it was played
    checks: tuple[Checked, ...] = ()  # its checklist
    waivers: tuple[str, ...] = ()  # of a freeze: all waivers of the run, in words

    @property
    def red(self) -> Checked | None:
        """The first check that neither holds nor is waived: until there is none, the next phase is not played."""
        return next((check for check in self.checks if not check.green), None)

    @property
    def waived(self) -> tuple[str, ...]:
        """What was waived in this phase, in words."""
        whole = [] if self.skipped is None else [f"{self.phase} as a whole, by {self.skipped}"]
        checks = [f"{self.phase}: {row.check}, by {row.waiver} ({row.witness})" for row in self.checks if row.waived]
        return (*whole, *checks)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> PhaseRecord:
        """Returns the record in a document. Older versions may lack the fields that only a report shows."""
        metrics, holder, graded = row.get("metrics"), row["holder"], row.get("certification")
        return cls(
            **{name: row[name] for name in _NEEDED},
            authority=row.get("authority"),
            carried=row.get("carried"),
            verdict=row.get("verdict"),
            why=row.get("why", ""),
            metrics=None if metrics is None else {int(seed): values for seed, values in metrics.items()},
            tried=None if "lane" not in row else Tried.of(row),
            graded=None if graded is None else Graded(row["band"], graded, row["evidence"]),
            end=None if "status" not in row else End(row["status"], row["certified"], row.get("freeze")),
            changes=tuple(FieldChange(**change) for change in row.get("changes", ())),
            holder=None if holder is None else Holder.of(holder),
            decision=row.get("decision"),
            pruned=row.get("pruned"),
            checks=tuple(map(Checked.of, row.get("checks", ()))),
            waivers=tuple(row.get("waivers", ())),
            movement=None if "material" not in row else Movement(**row["material"]),
            floors=tuple(map(Floor.of, row.get("floors", ()))),
            pinned=None if "pinned" not in row else {int(seed): Pinned(**pin) for seed, pin in row["pinned"].items()},
            answered=None if "answered" not in row else Answered.of(row["answered"]),
            skipped=None if "skipped" not in row else Ruling(**row["skipped"]),
            triggers=tuple(map(Trigger.of, row.get("triggers", ()))),
            performance=None if "performance" not in row else Performance.of(row["performance"]),
        )

    @property
    def document(self) -> dict[str, Any]:
        """JSON, without the fields that this kind of phase does not have."""
        metrics = None if self.metrics is None else {str(seed): dict(values) for seed, values in self.metrics.items()}
        return {
            **{name: getattr(self, name) for name in (*_NEEDED, "why", "authority", "carried")},
            "metrics": metrics,
            "changes": [asdict(change) for change in self.changes],
            "holder": None if self.holder is None else self.holder.document,
            **({} if self.verdict is None else {"verdict": self.verdict}),
            **({} if self.tried is None else self.tried.document),
            **({} if self.graded is None else asdict(self.graded)),
            **({} if self.end is None else {name: v for name, v in asdict(self.end).items() if v is not None}),
            **self._further,
        }

    @property
    def _further(self) -> dict[str, Any]:
        """The fields that were added later, where the phase has them."""
        fields = {
            "decision": self.decision,
            "pruned": self.pruned,
            "checks": [asdict(check) for check in self.checks],
            "waivers": list(self.waivers),
            "material": None if self.movement is None else asdict(self.movement),
            "floors": [floor.document for floor in self.floors],
            "pinned": None if self.pinned is None else {str(seed): asdict(pin) for seed, pin in self.pinned.items()},
            "answered": None if self.answered is None else asdict(self.answered),
            "skipped": None if self.skipped is None else asdict(self.skipped),
            "triggers": [asdict(trigger) for trigger in self.triggers],
            "performance": None if self.performance is None else asdict(self.performance),
        }
        return {name: value for name, value in fields.items() if value not in (None, [])}


def write_phase(folder: Path, place: int, record: PhaseRecord) -> None:
    """Writes the record of phase number `place` of a run, whole or not at all."""
    write_document(inside(folder, f"{place:02d}.{record.phase}.json"), record.document)


def records_in(folder: Path) -> Iterator[PhaseRecord]:
    """Yields the records of a run's phases, in order. Raises IntegrityError that names a broken record."""
    return (_read(path, "campaign_phase", PhaseRecord.of) for path in phase_files(folder))


def write_begun(folder: Path, identity: str, campaign: Mapping[str, Any], source: str) -> None:
    """Writes how a run began: the campaign's identity, its document, and the name or path that it was read from."""
    write_document(folder / BEGUN, {"identity": identity, "campaign": dict(campaign), "source": source})


def begun_with(folder: Path) -> str:
    """Returns the identity of the campaign when the run began. Raises IntegrityError if its record is broken."""
    return _read(folder / BEGUN, "campaign_run", lambda begun: str(begun["identity"]))


def begun_from(folder: Path) -> str:
    """Returns the name or path that the campaign was read from; its id where an older run does not state it."""
    return _read(folder / BEGUN, "campaign_run", lambda begun: str(begun.get("source") or begun["campaign"]["id"]))


def _read(path: Path, schema: str, of: Callable[[Mapping[str, Any]], _Read]) -> _Read:
    document = whole(path, schema, "record")
    try:
        return of(document)
    except PolicyError as error:  # a name that no lock's file has
        raise IntegrityError(f"not a whole record: {path}: {error}") from None
