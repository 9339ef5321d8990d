"""A finished trial, its stored record, and the data sets that a run used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lanelock.sweeps.lanes.knob import Value


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """The metrics of a trial and the digests of its inputs; everything else about the trial is derived from these."""

    measures: Mapping[int, Mapping[str, float]]  # seed -> metrics, in the order in which the seeds were run
    pack: str  # digest
    policies: Mapping[str, str]  # name -> digest
    worlds: Mapping[int, str]  # seed -> digest
    seconds: Mapping[str, float]  # "engine" and "scoring"
    at_ms: int

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrialRecord:
        """Returns the record of a stored trial. `TrialRecord.of(record.document) == record`."""
        measures = {int(seed): metrics for seed, metrics in document["measures"].items()}
        worlds = {int(seed): world for seed, world in document["worlds"].items()}
        policies, seconds = document["policies"], document["seconds"]
        return cls(measures, document["pack"], policies, worlds, seconds, document["at_ms"])

    @property
    def document(self) -> dict[str, Any]:
        return {
            "measures": {str(seed): dict(metrics) for seed, metrics in self.measures.items()},
            "pack": self.pack,
            "policies": dict(self.policies),
            "worlds": {str(seed): world for seed, world in self.worlds.items()},
            "seconds": dict(self.seconds),
            "at_ms": self.at_ms,
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial, as the durable study stores it."""

    number: int
    values: Mapping[str, Value]  # by knob name
    objectives: tuple[float, ...] | None  # None: the trial could not be graded
    constraints: Mapping[str, float]  # veto or rail id -> signed violation, feasible where <= 0
    record: TrialRecord


@dataclass(frozen=True, slots=True)
class Input:
    """A data set that a run used."""

    name: str
    digest: str  # complete; MLflow shows its beginning
    kind: str  # "drawn" or "imported"
    context: str  # its purpose
    source: Mapping[str, Any]  # its origin
    profile: Mapping[str, float]  # its metrics
