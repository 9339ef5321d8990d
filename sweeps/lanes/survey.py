"""What all trials of a sweep share: lane, world, what the authority measures, and what each gate can reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lanelock.engine.protocol import Run
from lanelock.policies import Pack
from lanelock.scoring.feasibility import Bound, Box, GateReach, frozen, reach
from lanelock.scoring.scorecard import Bounding
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


def survey(lane: Lane, world: Path | None, found: tuple[GateReach, ...] | None = None) -> Ground:
    """What rails compare with, on the lane's seeds, and each gate's reach (computed here where not `found` before)."""
    measures = {seed: lane.yardstick(seed, world) for seed in lane.seeds}
    return Ground(lane, world, measures, prospect(lane, world) if found is None else found)


def prospect(lane: Lane, world: Path | None) -> tuple[GateReach, ...]:
    """What each gate can at best reach in this lane, from the frozen upstream and the knob box alone."""
    return reach(lane.gates, {seed: _bounds(lane, seed, world) for seed in lane.seeds})


def _bounds(lane: Lane, seed: int, world: Path | None) -> list[Bound]:
    box = Box(
        lane.start,
        {knob.at: knob.ends() for knob in lane.knobs},
        frozenset(knob.at for knob in lane.knobs if knob.choices),
        partial(_run, lane, seed, world),
    )
    proved = lane.metrics.bounds(box) if isinstance(lane.metrics, Bounding) else ()
    return [*proved, *frozen(box, lane.engine.states, lane.gates, lane.measure)]


def _run(lane: Lane, seed: int, world: Path | None, pack: Pack, until: str) -> Run:
    return lane.engine.evaluate(pack, seed, world=world, until=until)
