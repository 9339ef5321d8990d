"""The figures of a candidate beside its authority, from whatever engine draws some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lanelock.scoring.scorecard import Showing
from lanelock.sweeps.lanes.lane import Lane

if TYPE_CHECKING:
    from lanelock.policies import Pack
    from lanelock.scoring.figures.drawing import Figure


def figures(lane: Lane, pack: Pack, seed: int, world: Path | None) -> tuple[Figure, ...]:
    """The figures of a pack on one seed of a lane; none where the lane's engine draws none."""
    if not isinstance(lane.metrics, Showing):
        return ()
    candidate, authority = (
        lane.engine.evaluate(each, seed, world=world, until=lane.until) for each in (pack, lane.authority)
    )
    return tuple(lane.metrics.figures(candidate, authority, lane.gates))
