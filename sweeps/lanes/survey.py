"""What all trials of a sweep share: the lane, the world, the authority's metrics, and each gate's reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from lanelock.engine.protocol import Run
from lanelock.policies import LaneError, Pack
from lanelock.policies.errors import EngineError, LanelockError, cause
from lanelock.scoring.feasibility import Bound, Box, Floor, GateReach, frozen, reach_of_mean
from lanelock.scoring.feasibility import reach as reach_in
from lanelock.scoring.scorecard import Bounding, Directing, Flooring, Scorecard, floors, score
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.stages import Stage, stages_of


@dataclass(frozen=True)
class Ground:
    """A lane on a world, with the values that its trials are compared with."""

    lane: Lane
    world: Path | None
    authority: Mapping[int, Mapping[str, float]]  # seed -> metrics of the authority's pack
    reach: tuple[GateReach, ...]  # per gate, the best value that any trial of the lane can give

    @cached_property
    def unreachable(self) -> Mapping[str, frozenset[str]]:
        """Returns band -> ids of the gates that no trial of this lane can pass."""
        return {
            band: frozenset(row.gate for row in self.reach if not row.reachable.get(band, True))
            for band in self.lane.gates.bands
        }

    def graded(self, seed: int, metrics: Mapping[str, float]) -> Scorecard:
        """Returns the scorecard of a pack's metrics on a seed of the lane."""
        return score(metrics, self.lane.gates, seed=seed, authority=self.authority[seed])

    @cached_property
    def stages(self) -> tuple[tuple[Stage, Ground], ...]:
        """The lane's stages before the full run, in order, each with what its runs are compared with."""
        return tuple((stage, self._at(stage.lane)) for stage in stages_of(self.lane))

    def _at(self, stage: Lane) -> Ground:
        return Ground(stage, self.world, {seed: self.authority.get(seed, {}) for seed in stage.seeds}, self.reach)


def survey(lane: Lane, world: Path | None, reach: tuple[GateReach, ...] | None = None) -> Ground:
    """Measures the authority (what rails compare with) on the lane's seeds, and each gate's reach if not given."""
    stages_of(lane)  # raises before anything is run
    with _explained(lane, f"the engine cannot run the authority {lane.authority.name}"):
        measures = {seed: lane.yardstick(seed, world, partial(_check, lane, seed)) for seed in lane.seeds}
    return Ground(lane, world, measures, prospect(lane, world) if reach is None else reach)


def _check(lane: Lane, seed: int, metrics: Mapping[str, float]) -> None:
    """Raises LaneError where what the authority measures shows that no trial could be graded or recorded.

    That an absolute gate's metric is NaN is no error: the lane may be there to mend that.
    """
    where = f"lane {lane.id}: engine {lane.engine.name}: metric"
    relative = (gate.relative.followed(gate.metric) for gate in lane.gates.gates if gate.relative is not None)
    for name in (name for name in relative if not math.isfinite(metrics.get(name, 0.0))):
        raise LaneError(f"{where} {name} is {metrics[name]} for the authority on seed {seed}, and a gate follows it")
    if missing := [name for name in lane.needed if name not in metrics]:
        raise LaneError(
            f"{where} {missing[0]} is not measured on seed {seed}, and the lane needs it; it measures "
            f"{', '.join(sorted(metrics)[:8]) or 'nothing'}"
        )
    if unknown := sorted(name for name in metrics if not lane.declares(name)):
        raise LaneError(
            f"{where} {unknown[0]!r:.200} is measured on seed {seed}, and no gate file declares it; add it to /metrics "
            "of the gate file, or do not measure it"
        )


@contextmanager
def _explained(lane: Lane, what: str) -> Iterator[None]:
    """Turns what the engine raises into an EngineError of the lane: without this, no trial could be graded."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, LanelockError) and not isinstance(error, EngineError):
            raise
        raise EngineError(f"lane {lane.id}: {what}", cause(error)) from error


def prospect(lane: Lane, world: Path | None) -> tuple[GateReach, ...]:
    """Returns each gate's reach in this lane, from the frozen upstream and the knobs' ranges alone.

    Objectives that are metrics follow as rows of their own, where a bound of theirs is known.
    """
    bounds = {seed: _bounds(lane, seed, world) for seed in lane.seeds}
    metrics = [(row.name, row.metric, row.maximize) for row in lane.objectives if row.metric is not None]
    means = [reach_of_mean(objective_row(name), metric, up, bounds) for name, metric, up in metrics]
    return (*reach_in(lane.gates, bounds), *chain.from_iterable(means))


def standing_floors(lane: Lane, world: Path | None) -> dict[int, tuple[Floor, ...]]:
    """Returns seed -> the floors under the lane's authority; nothing if its metrics have none."""
    if not isinstance(lane.metrics, Flooring):
        return {}
    with _explained(lane, f"the engine cannot run the authority {lane.authority.name}"):
        runs = {seed: lane.engine.evaluate(lane.authority, seed, world=world, until=lane.until) for seed in lane.seeds}
        return {seed: floors(lane.metrics, lane.measure(run, world)) for seed, run in runs.items()}


def objective_row(name: str) -> str:
    """Returns the name of an objective's row among those of gates."""
    return f"objective {name}"


def corners(lane: Lane, world: Path | None) -> tuple[Mapping[str, Value], ...]:
    """Returns the two candidates in which the directions end that the engine knows, the least intervention first."""
    if not isinstance(lane.metrics, Directing):
        return ()
    sides = lane.metrics.directions(_box(lane, lane.seeds[0], world))
    named = {knob.name: side for knob in lane.knobs if (side := _side(knob, sides))}
    ends = (
        lane.space.corner({name: sign * side for name, side in named.items()}, lane.space.start) for sign in (-1, 1)
    )
    if lane.space.worded:
        ends = (near for values in ends if (near := lane.space.repaired(values, 0)) is not None)
    return tuple(values for values in ends if lane.space.broken(values) is None) if named else ()


def _side(knob: Knob, sides: Mapping[str, int]) -> int:
    """Returns the side of a knob to which its fields' sides point; 0 if they say nothing or contradict each other."""
    if knob.together is None or knob.together.by == "set":
        found = {sides[at] for at in knob.fields if at in sides}
    else:
        first, last = map(knob.together.leaves, knob.span)
        grows = {at: (last[at] > first[at]) - (last[at] < first[at]) for at in first if at in sides}
        found = {sides[at] * sign for at, sign in grows.items() if sign}
    return found.pop() if len(found) == 1 else 0


def _box(lane: Lane, seed: int, world: Path | None) -> Box:
    def run(pack: Pack, until: str) -> Run:
        return lane.engine.evaluate(pack, seed, world=world, until=until)

    return Box(lane.start, lane.moves, lane.choices, run)


def _bounds(lane: Lane, seed: int, world: Path | None) -> list[Bound]:
    box = _box(lane, seed, world)
    with _explained(lane, f"what its gates can reach cannot be proven on seed {seed}"):
        proved = lane.metrics.bounds(box) if isinstance(lane.metrics, Bounding) else ()
        return [*proved, *frozen(box, lane.engine.states, lane.gates, partial(lane.measure, world=world))]
