"""A knob: one field that a trial may move, and all arithmetic along it.

A position along a knob is a number from 0 (first end) to 1 (last end) on the knob's own scale: by ratio where it is
logarithmic, by index where it has choices. `knob.along(knob.unit(value)) == value` for every allowed value; without a
step, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lanelock.policies import LaneError

Value = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Knob:
    """One field that a trial may move: `choices`, or a range [low, high] with an optional step."""

    name: str
    at: str  # policy#/pointer
    low: float | int = 0
    high: float | int = 0
    step: float | int | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    options: Mapping[str, Any] | None = None  # choice -> the structure that the pack holds for it

    @classmethod
    def of(cls, name: str, row: Mapping[str, Any], field: str) -> Knob:
        """Returns the knob that a lane's file declares. Raises LaneError naming the field and what is wrong with it."""
        if "choices" in row:
            return cls(name, row["at"], choices=tuple(row["choices"]))
        if "options" in row:
            return cls(name, row["at"], choices=tuple(row["options"]), options=row["options"])
        low, high, step, log = row["low"], row["high"], row.get("step"), row.get("scale") == "log"
        if not low < high:
            raise LaneError(f"{field}: low {low} is not below high {high}")
        if log and (low <= 0 or step is not None):
            raise LaneError(f"{field}: a log scale needs low above 0 and no step")
        if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
            raise LaneError(f"{field}: step {step} does not divide the range {low} … {high}")
        return cls(name, row["at"], low, high, step, log)

    @property
    def integral(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def scale(self) -> str:
        return "log" if self.log else "linear"

    @property
    def extent(self) -> tuple[Value, ...]:
        return self.choices or (self.low, self.high)

    def ends(self) -> tuple[Any, ...]:
        """Returns the pack's content at each choice, or at both ends; if both ends are valid, so is all between."""
        return tuple(map(self.placed, self.extent))

    def placed(self, value: Value) -> Any:
        """Returns the pack's content for a value of the knob."""
        return value if self.options is None else self.options[str(value)]

    def value_of(self, placed: Any) -> Value | None:
        """Returns the knob's value for a pack's content; None where the knob cannot give that content."""
        if self.choices:
            return next((value for value in self.choices if self.placed(value) == placed), None)
        number = isinstance(placed, int | float) and not isinstance(placed, bool)
        return placed if number and self.low <= placed <= self.high else None

    def unit(self, value: Value) -> float:
        """Returns a value's position along the knob, 0 … 1 on its own scale."""
        if self.choices:
            return self.choices.index(value) / max(1, len(self.choices) - 1)
        ends = (float(number) for number in (self.low, self.high, value))
        low, high, at = map(math.log, ends) if self.log else ends
        return (at - low) / (high - low)

    def along(self, unit: float) -> Value:
        """Returns the allowed value nearest to a position along the knob."""
        if self.choices:
            return self.choices[round(unit * (len(self.choices) - 1))]
        number = self._number(unit)
        if self.step is not None:
            return self.low + self.step * round((number - self.low) / self.step)
        return round(number) if self.integral else number

    def points(self, count: int) -> tuple[Value, ...]:
        """Returns the values of a grid: every value where there is a step or few integers, else at most `count`."""
        if self.choices:
            return self.choices
        if self.step is not None or (self.integral and self.high - self.low < count):
            step = self.step or 1
            return tuple(self.low + step * i for i in range(round((self.high - self.low) / step) + 1))
        return tuple(dict.fromkeys(self.along(i / (count - 1)) for i in range(count)))

    def bin(self, value: Value, count: int) -> int:
        """Returns which of `count` equal parts of the range holds a value; of a choice, its index."""
        return self.choices.index(value) if self.choices else min(count - 1, int(count * self.unit(value)))

    def bins(self, count: int) -> tuple[dict[str, Value], ...]:
        """Returns the extent of each of `bin`'s parts: a choice, or low and high."""
        if self.choices:
            return tuple({"choice": choice} for choice in self.choices)
        edges = [self._number(part / count) for part in range(count + 1)]
        return tuple({"low": low, "high": high} for low, high in pairwise(edges))

    def middle(self, low: float, high: float) -> float:
        """Returns the midpoint of two numbers on the knob's scale."""
        return math.sqrt(low * high) if self.log else (low + high) / 2

    def _number(self, unit: float) -> float:
        """Returns the number at a position along the range, ignoring the step."""
        low, high = float(self.low), float(self.high)
        return low * (high / low) ** unit if self.log else low + unit * (high - low)

    def ends_text(self) -> tuple[str, str]:
        """Returns the first and the last value as short text."""
        first, last = (str(end) if self.choices else f"{end:g}" for end in (self.extent[0], self.extent[-1]))
        return first, last

    def range_text(self) -> str:
        return ", ".join(map(str, self.choices)) or f"{self.low} … {self.high}"
