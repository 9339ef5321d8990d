"""A trial as the durable study holds it, and what a run stood on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lanelock.sweeps.lanes.lane import Value  # `status` counts letters, which hold inputs, and needs no engine


@dataclass(frozen=True, slots=True)
class Told:
    """A trial as the durable storage holds it."""

    number: int
    values: Mapping[str, Value]
    objectives: tuple[float, ...] | None  # None: the trial could not be graded
    constraints: Mapping[str, float]  # veto or rail id -> signed violation, feasible where <= 0
    record: Mapping[str, Any]  # what sweeps.sweep wrote about it


@dataclass(frozen=True, slots=True)
class Input:
    """A data set that a run stood on."""

    name: str
    digest: str  # whole; MLflow shows its beginning
    kind: str  # "drawn" or "imported"
    context: str  # what it was for
    source: Mapping[str, Any]  # where it comes from
    profile: Mapping[str, float]  # what was measured of it
