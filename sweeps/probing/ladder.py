"""A knob moved alone from where the lane starts: the candidates along it, and the levels that the lane does not admit.

Every level is stated to the lane as a user would state it, so conditions, constraints and derived fields hold. A knob
that does not count at the start is moved from the nearest candidate in which it does; where an equality holds, the
other knobs of it give way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lanelock.policies import LanelockError
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane

Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Level:
    """A value of a knob, and the candidate that has it."""

    at: Value
    candidate: Values | None  # None: the lane does not admit it
    why: str = ""  # it does not


@dataclass(frozen=True, slots=True)
class Ladder:
    """A knob's levels in their order, the start's own among them."""

    knob: Knob
    above: Values  # what other knobs are set to so that it counts; empty: it counts at the start
    levels: tuple[Level, ...]

    @property
    def admitted(self) -> tuple[tuple[Value, Values], ...]:
        """The levels that can be run, with their candidates."""
        return tuple((level.at, level.candidate) for level in self.levels if level.candidate is not None)

    @property
    def left_out(self) -> tuple[Level, ...]:
        return tuple(level for level in self.levels if level.candidate is None)

    @property
    def moving(self) -> frozenset[str]:
        """The knobs that are moved along it: itself, and those that give way."""
        rows = [candidate for _, candidate in self.admitted]
        return frozenset({self.knob.name} | {name for row in rows for name in row if row[name] != rows[0][name]})


def ladder(lane: Lane, knob: Knob, steps: int) -> Ladder:
    """Returns the ladder of a knob, of `steps` levels; of all its values if they have no order or are no more."""
    space = lane.space
    counts = knob.name in space.active(space.start)
    above = {} if counts else space.activating(knob)
    rest = space.start[knob.name] if counts else space.resting[knob.name]
    values = sorted({*_values(knob, steps), rest}, key=knob.unit)
    if above is None:
        why = f"no values were found for which {space.condition(knob.name)}"
        return Ladder(knob, {}, tuple(Level(value, None, why) for value in values))
    return Ladder(knob, above, tuple(_level(lane, knob, value, above) for value in values))


def _values(knob: Knob, steps: int) -> Iterator[Value]:
    if knob.size is not None and (knob.size <= steps or not knob.numeric):
        yield from map(knob.value, range(knob.size))
    else:
        yield from (knob.along(step / (steps - 1)) for step in range(steps))


def _level(lane: Lane, knob: Knob, value: Value, above: Values) -> Level:
    try:
        candidate = lane.space.stated({**above, knob.name: value}, f"{knob.name} {value}")
        lane.candidate(candidate)  # raises where a derived field leaves its policy's bounds
    except LanelockError as error:
        return Level(value, None, str(error))
    return Level(value, candidate)
