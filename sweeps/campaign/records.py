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
from lanelock.sweeps.decision.decision import Blocker
from lanelock.sweeps.decision.runtime import Runtime
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.workspace import write_document

BEGUN, _PHASES = "campaign.json", "[0-9][0-9].*.json"  # in the run's folder
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

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Swept:
        runtime = None if row.get("runtime") is None else Runtime(**row["runtime"])
        vetoes, values, best = (row.get(name, {}) for name in ("vetoes", "values", "best"))
        return cls(row["sweep"], row["trials"], vetoes, values, best, runtime)


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

    @property
    def ending(self) -> str:
        """The outcome, or the status of a freeze."""
        return self.outcome if self.end is None else self.end.status

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
        }


def write_phase(folder: Path, place: int, record: PhaseRecord) -> None:
    """Writes the record of phase number `place` of a run, whole or not at all."""
    write_document(inside(folder, f"{place:02d}.{record.phase}.json"), record.document)


def records_in(folder: Path) -> Iterator[PhaseRecord]:
    """Yields the records of a run's phases, in order. Raises IntegrityError that names a broken record."""
    return (_read(path, "campaign_phase", PhaseRecord.of) for path in sorted(folder.glob(_PHASES)))


def write_begun(folder: Path, identity: str, campaign: Mapping[str, Any]) -> None:
    """Writes how a run began: the campaign's identity and its document."""
    write_document(folder / BEGUN, {"identity": identity, "campaign": dict(campaign)})


def begun_with(folder: Path) -> str:
    """Returns the identity of the campaign when the run began. Raises IntegrityError if its record is broken."""
    return _read(folder / BEGUN, "campaign_run", lambda begun: str(begun["identity"]))


def _read(path: Path, schema: str, of: Callable[[Mapping[str, Any]], _Read]) -> _Read:
    document = whole(path, schema, "record")
    try:
        return of(document)
    except PolicyError as error:  # a name that no lock's file has
        raise IntegrityError(f"not a whole record: {path}: {error}") from None
