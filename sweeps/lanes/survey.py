"""What every trial of a sweep shares, and what is decided and locked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.lanes.lane import Lane


@dataclass(frozen=True, slots=True)
class Ground:
    """The lane, the world, and what the authority measures there."""

    lane: Lane
    world: Path | None
    authority: Mapping[int, Mapping[str, float]]  # seed -> metrics of the authority's pack
    reach: tuple[GateReach, ...]  # what each gate can at best reach in this lane

    @property
    def unreachable(self) -> Mapping[str, frozenset[str]]:
        """Band -> ids of the gates that no trial of this lane can pass."""
        return {
            band: frozenset(row.gate for row in self.reach if not row.reachable.get(band, True))
            for band in self.lane.gates.bands
        }
