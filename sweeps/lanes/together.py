"""How one knob moves many numbers: several fields, or the numbers of a vector, a table or an object.

`set` puts the knob's value into every field. The other laws start from what the lane starts from: `scale` multiplies
each number, `shift` adds to it, `temper` raises each innermost vector or object to a power and brings it back to its
sum. Products and sums are of the decimals as written; an integer field takes the nearest integer, a half the even one.
Powers are Lanelock's own, with the same bits on every processor. The value that changes nothing is `NEUTRAL`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.expressions import exact_number

NEUTRAL = {"scale": 1.0, "shift": 0.0, "temper": 1.0}
_PLACES = 12  # significant decimals of a tempered number, relative to the sum
_HALVINGS = 32


@dataclass(frozen=True, slots=True)
class Together:
    """The fields of one knob, the law by which they move, and what the lane starts from."""

    by: str  # set, scale, shift or temper
    contents: Mapping[str, Any]  # address -> the start's content
    integers: frozenset[str]  # addresses of numbers that the policy's schema says are integers

    def check(self, span: tuple[float, float] | None, field: str) -> None:
        """Raises LaneError where the law does not fit the fields; `span` are the knob's ends, None if not numbers."""
        if self.by == "set":
            return
        if span is None:
            raise LaneError(f"{field}/by: {self.by} takes numbers, and the knob's values are not numbers")
        for address, content in self.contents.items():
            if not list(_leaves(content, address)):
                raise LaneError(f"{field}/at: {address} holds no number to {self.by}")
            if self.by == "temper":
                self._check_weights(address, content, f"{field}/at")
        if self.by == "temper" and span[0] < 0:
            raise LaneError(f"{field}/low: {span[0]:g}: weights are tempered by 0 or more")
        if self.moved(span[0]) == self.moved(span[1]):
            raise LaneError(
                f"{field}: nothing moves: {self.by} by {span[0]:g} and by {span[1]:g} give the same numbers"
            )

    def _check_weights(self, address: str, content: Any, field: str) -> None:
        if not isinstance(content, list | Mapping):
            raise LaneError(f"{field}: {address} is a single number; weights to temper are a vector or an object")
        for leaf, number in _leaves(content, address):
            if leaf in self.integers:
                raise LaneError(f"{field}: {leaf} is an integer in the policy's schema; weights to temper are not")
            if number < 0:
                raise LaneError(f"{field}: {leaf} is {number:g}; weights to temper are 0 or more")
        for vector in _vectors(content):
            if not math.fsum(vector) > 0:
                raise LaneError(f"{field}: {address} has weights that are all 0; they cannot be tempered")

    def moved(self, value: float) -> dict[str, Any]:
        """Returns address -> content for a value of the knob."""
        if value == NEUTRAL[self.by]:
            return dict(self.contents)
        return {address: self._moved(content, address, value) for address, content in self.contents.items()}

    def leaves(self, value: float) -> dict[str, float]:
        """Returns address -> number for each number that the knob moves."""
        return dict(pair for address, content in self.moved(value).items() for pair in _leaves(content, address))

    def ends(self, low: float, high: float) -> dict[str, tuple[float, float]]:
        """Returns address -> least and greatest content of each number while the knob goes from `low` to `high`."""
        first, last = self.leaves(low), self.leaves(high)
        ends = {at: (min(first[at], last[at]), max(first[at], last[at])) for at in first}
        return ends if self.by != "temper" else {at: self._tempered_ends(at, *pair) for at, pair in ends.items()}

    def _tempered_ends(self, at: str, least: float, most: float) -> tuple[float, float]:
        """Returns the ends of a tempered number: its greatest value may lie between.

        A number has at least as large a share as every smaller one, so it never has more than its part among those
        that are not smaller. The largest only grows, the least only falls.
        """
        start, beside = self._vector_of(at)
        if start in (max(beside), min(beside)):
            return least, most
        return least, max(most, math.fsum(beside) / sum(1 for number in beside if number >= start))

    def _vector_of(self, at: str) -> tuple[float, list[float]]:
        """Returns a number of the start, and the numbers of its vector or object."""
        numbers = numbers_of(self.contents)
        beside = at.rpartition("/")[0]
        return numbers[at], [number for other, number in numbers.items() if other.rpartition("/")[0] == beside]

    def reached(self, contents: Mapping[str, Any], along: Callable[[float], float], first: bool) -> float:
        """Returns where along the knob (0 … 1) every number has reached its content, from below or from above.

        Each number is taken to grow or to fall all the way, as by every law the number does that moves the most.
        """
        low, high = self.leaves(along(0.0)), self.leaves(along(1.0))
        target = dict(pair for address, content in contents.items() for pair in _leaves(content, address))
        names = [name for name in low if low[name] != high[name] and name in target]
        if self.by == "temper":
            names = [max(names, key=lambda name: abs(high[name] - low[name]))] if names else []
        least, most = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (least + most) / 2
            here = self.leaves(along(middle))
            signs = [(here[name] - target[name]) * (1 if high[name] > low[name] else -1) for name in names]
            short = any(sign < 0 for sign in signs) if first else all(sign <= 0 for sign in signs)
            least, most = (middle, most) if short else (least, middle)
        return (least + most) / 2

    def _moved(self, content: Any, address: str, value: float) -> Any:
        if isinstance(content, Mapping | list):
            rows = list(content.items()) if isinstance(content, Mapping) else list(enumerate(content))
            inner = {key: self._moved(part, f"{address}/{_escaped(key)}", value) for key, part in rows}
            if self.by == "temper":
                inner |= _tempered({key: part for key, part in rows if _is_number(part)}, value)
            return inner if isinstance(content, Mapping) else list(inner.values())
        if not _is_number(content) or self.by == "temper":
            return content
        start, by = exact_number(content), exact_number(value)
        exact = start * by if self.by == "scale" else start + by
        try:
            return round(exact) if address in self.integers else float(exact)
        except OverflowError:
            raise PolicyError(f"{address}: {self.by} by {value:g} gives a number beyond all numbers") from None


def numbers_of(contents: Mapping[str, Any]) -> dict[str, float]:
    """Returns address -> number for each number within contents by address."""
    return dict(pair for address, content in contents.items() for pair in _leaves(content, address))


def _tempered(weights: Mapping[Any, float], power: float) -> dict[Any, float]:
    """Returns weights^power brought back to their sum, exactly in decimals; a weight of 0 stays 0."""
    from lanelock.engine.arithmetic import power as raised  # compiled: only a lane that tempers pays for it

    if len(weights) < 2:
        return dict(weights)
    total, most = sum(map(exact_number, weights.values())), max(weights.values())
    heights = {key: raised(weight / most, power) if weight else 0.0 for key, weight in weights.items()}
    share = float(total) / math.fsum(heights.values())
    unit = Fraction(10) ** (Decimal(repr(float(total))).adjusted() - _PLACES)
    exact = {key: round(exact_number(height * share) / unit) * unit for key, height in heights.items()}
    largest = max(exact, key=lambda key: exact[key])
    exact[largest] += total - sum(exact.values())
    return {key: float(number) for key, number in exact.items()}


def _leaves(content: Any, address: str) -> Iterator[tuple[str, Any]]:
    """Yields address and number of each number within a content."""
    if isinstance(content, Mapping | list):
        for key, part in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from _leaves(part, f"{address}/{_escaped(key)}")
    elif _is_number(content):
        yield address, content


def _vectors(content: Any) -> Iterator[list[float]]:
    """Yields the numbers of each innermost vector or object."""
    parts = list(content.values() if isinstance(content, Mapping) else content)
    if numbers := [part for part in parts if _is_number(part)]:
        yield numbers
    for part in parts:
        if isinstance(part, list | Mapping):
            yield from _vectors(part)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _escaped(key: Any) -> str:
    """Returns a key or an index as part of a JSON pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")
