"""A finished trial, its stored record, and the data sets that a run used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lanelock.sweeps.lanes.knob import Value

RECORD = "lanelock"  # the attribute of an Optuna trial that carries the record


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """The metrics of a trial and the digests of its inputs; everything else about the trial is derived from these."""

    measures: Mapping[int, Mapping[str, float]]  # seed -> metrics, in the order in which the seeds were run
    pack: str  # digest
    policies: Mapping[str, str]  # name -> digest
    worlds: Mapping[int, str]  # seed -> digest
    seconds: Mapping[str, float]  # "engine" and "scoring"
    at_ms: int
    asked_at: int = 0  # number of trials that had finished when it was proposed: those of one batch have it in common
    repeats: int = 0  # proposals of known candidates before this one, which cost nothing
    stopped: str = ""  # why it did not run on every seed, where no veto ended it
    failure: str = ""  # why it has no result: what the engine raised, or what it did not return
    ended_by: str = ""  # what ended its process: "seconds" or "memory_mb" (a limit of the lane), or "worker" (it died)
    source: str = ""  # SWEEP/N of the earlier trial whose measurements these are; empty: it was run here
    chain: str = ""  # head of the transcript after this trial; empty: stored by an older version
    details: str = field(default="", compare=False)  # all that the engine said of its failure: tracked, not stored
    # where the lane limits runs, the most that a run took: "seconds" and "peak_mb"
    used: Mapping[str, float] = field(default_factory=dict)
    # stage -> seed -> metrics: what the stages before the full run measured, which is no grade
    staged: Mapping[str, Mapping[int, Mapping[str, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrialRecord:
        """Returns the record of a stored trial. `TrialRecord.of(record.document) == record`.

        Raises ValueError, TypeError, KeyError or AttributeError for what is no record.
        """
        measures = _by_seed(document["measures"])
        worlds = {int(seed): world for seed, world in document["worlds"].items()}
        plain = {part.name: document[part.name] for part in fields(cls) if part.compare and part.name in document}
        staged = {stage: _by_seed(rows) for stage, rows in document.get("staged", {}).items()}
        record = cls(**{**plain, "measures": measures, "worlds": worlds, "staged": staged})
        record._check()
        return record

    def _check(self) -> None:
        """Raises ValueError naming a field that is not what its type says."""
        texts = (self.pack, self.stopped, self.failure, self.ended_by, self.source, self.chain)
        staged = (metrics for by_seed in self.staged.values() for metrics in by_seed.values())
        rows = (*self.measures.values(), *staged, self.seconds, self.used)
        for name, right in (
            ("texts", all(isinstance(text, str) for text in (*texts, *self.policies.values(), *self.worlds.values()))),
            ("numbers", all(_is_number(value) for row in rows for value in row.values())),
            ("counts", all(type(count) is int and count >= 0 for count in (self.at_ms, self.asked_at, self.repeats))),
        ):
            if not right:
                raise ValueError(f"/{name}: not as in a record")

    @property
    def document(self) -> dict[str, Any]:
        """JSON; what has its default is left out."""
        stored = (part for part in fields(self) if part.compare and part.name not in ("staged", "used"))
        stated = {part.name: value for part in stored if (value := getattr(self, part.name)) != part.default}
        if self.staged:
            stated["staged"] = {stage: _by_text(by_seed) for stage, by_seed in self.staged.items()}
        if self.used:
            stated["used"] = dict(self.used)
        return stated | {
            "measures": _by_text(self.measures),
            "policies": dict(self.policies),
            "worlds": {str(seed): world for seed, world in self.worlds.items()},
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial, as the durable study stores it."""

    number: int
    values: Mapping[str, Value]  # by knob name
    objectives: tuple[float, ...] | None  # None: the trial could not be graded
    constraints: Mapping[str, float]  # veto or rail id -> signed violation, feasible where <= 0
    record: TrialRecord

    @property
    def failed(self) -> bool:
        """Whether it has no result, for a reason that the record gives."""
        return bool(self.record.failure)

    @property
    def paid(self) -> bool:
        """Whether it was run in this sweep, so that it counts in the budget."""
        return not self.record.source


@dataclass(frozen=True, slots=True)
class Input:
    """A data set that a run used."""

    name: str
    digest: str  # complete; MLflow shows its beginning
    kind: str  # "drawn" or "imported"
    context: str  # its purpose
    source: Mapping[str, Any]  # its origin
    profile: Mapping[str, float]  # its metrics


def _by_seed(rows: Mapping[str, Mapping[str, float]]) -> dict[int, Mapping[str, float]]:
    return {int(seed): metrics for seed, metrics in rows.items()}


def _by_text(rows: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {str(seed): dict(metrics) for seed, metrics in rows.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def engine_runs(trials: Iterable[Trial]) -> int:
    """Returns how many runs of the engine the trials of a sweep cost."""
    return sum(len(trial.record.measures) for trial in trials if trial.paid)
