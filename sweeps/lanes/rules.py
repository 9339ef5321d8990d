"""The constraints of a lane, as rules among its knobs.

A weighted sum between two limits is a `Rule`; so is a text that compares two affine sides, such as
`floor <= cap - 0.1` or `a + b + c == 1`, and such a text is decided in decimals as they are written, without any
rounding. Every other text, such as `x * y <= 3` or `law == 'smooth' or knee <= 0.5`, is a `Predicate`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.expressions import Expression, exact_number, parse
from lanelock.sweeps.lanes.intervals import Domain, never
from lanelock.sweeps.lanes.knob import Value

Values = Mapping[str, Value]  # by knob name
Spans = Mapping[str, tuple[float, float]]  # least and greatest value, by knob name

_FAR = 10**15  # beyond which a weight or a limit is not taken for that of a sum
_ROUNDING = 1e-9  # by which a float sum may exceed its limit
_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exactly:
    """What a text says of a weighted sum: `sum sign limit`, in decimals as written."""

    text: str
    weights: Mapping[str, Fraction]
    sign: str
    limit: Fraction
    scope: frozenset[str]  # the knobs of the whole text, of which this may be a part

    def gap(self, values: Values) -> Fraction:
        """Returns the sum minus its limit."""
        exact = (weight * exact_number(values[name]) for name, weight in self.weights.items())
        return sum(exact, -self.limit)

    def holds(self, gap: Fraction) -> bool:
        return _HOLDS[self.sign](gap, 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A weighted sum of numeric knobs that must lie between two limits. An order is one rule per neighbouring pair."""

    weights: Mapping[str, float]  # by knob name
    least: float
    most: float
    field: str  # where the lane states it
    exactly: Exactly | None = None  # the text that states it

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.weights)

    @property
    def scope(self) -> frozenset[str]:
        """Returns the knobs that must count for the rule to count."""
        return self.names if self.exactly is None else self.exactly.scope

    @property
    def equality(self) -> bool:
        return self.exactly is not None and self.exactly.sign == "=="

    @classmethod
    def of(cls, row: Mapping[str, Any], field: str, at: str) -> Iterator[Rule]:
        """Yields the rules that one constraint of the lane `at` states."""
        for lower, upper in pairwise(row.get("order", ())):
            yield cls({lower: 1.0, upper: -1.0}, -math.inf, 0.0, field)
        if "sum" in row:
            least, most = row.get("at_least", -math.inf), row.get("at_most", math.inf)
            if (least, most) == (-math.inf, math.inf):
                raise LaneError(f"{at}: {field}: a sum needs at_most, at_least or both")
            if least > most:
                raise LaneError(f"{at}: {field}: at_least {least:g} is above at_most {most:g}")
            yield cls({name: float(weight) for name, weight in row["sum"].items() if weight}, least, most, field)

    def sum(self, values: Values) -> float:
        return math.fsum(weight * float(values[name]) for name, weight in self.weights.items())

    def excess(self, values: Values) -> float:
        """Returns how far the sum is above its greatest (positive) or below its least value (negative); 0: kept."""
        if self.exactly is None:
            return self.pull(values)
        total = self.sum(values)
        scale = self._scale(values)
        if min(abs(total - self.most), abs(total - self.least)) > _ROUNDING * scale:
            return self.pull(values)
        gap = self.exactly.gap(values)
        if self.exactly.holds(gap):
            return 0.0
        up = gap > 0 or (gap == 0 and self.exactly.sign == "<")
        return math.copysign(max(abs(float(gap)), 1e-12 * scale), 1.0 if up else -1.0)

    def pull(self, values: Values) -> float:
        """Returns `excess` as floats tell it, which is 0 within their rounding."""
        total = self.sum(values)
        beyond = max(total - self.most, 0.0) + min(total - self.least, 0.0)
        return beyond if abs(beyond) > _ROUNDING * self._scale(values) else 0.0

    def _scale(self, values: Values) -> float:
        return max(1.0, math.fsum(abs(weight * float(values[name])) for name, weight in self.weights.items()))

    def reach(self, spans: Spans) -> tuple[float, float]:
        """Returns the least and the greatest sum while each knob stays in its span."""
        ends = [sorted(weight * end for end in spans[name]) for name, weight in self.weights.items()]
        return math.fsum(low for low, _ in ends), math.fsum(high for _, high in ends)

    def can_be_kept(self, spans: Mapping[str, Any]) -> bool:
        """Returns whether some values within the spans keep the rule."""
        low, high = self.reach(spans)
        if self.exactly is not None and self.exactly.sign in "<>":
            end = {name: sorted(spans[name], reverse=(weight > 0) == (self.exactly.sign == ">"))[0]
                   for name, weight in self.weights.items()}  # fmt: skip
            return not self.excess(end)
        room = _ROUNDING * max(1.0, abs(low), abs(high))
        return low <= self.most + room and high >= self.least - room

    def narrowed(self, spans: Spans) -> Spans:
        """Returns the spans without what the rule forbids whatever the other knobs are."""
        low, high = self.reach(spans)
        narrow = dict(spans)
        for name, weight in self.weights.items():
            ends = sorted(weight * end for end in spans[name])
            limits = sorted(((self.least - high + ends[1]) / weight, (self.most - low + ends[0]) / weight))
            least = max(spans[name][0], limits[0])
            narrow[name] = least, max(least, min(spans[name][1], limits[1]))
        return narrow

    def words(self, values: Values) -> str:
        """Returns in words how values break the rule."""
        if self.exactly is not None:
            return f"{self.field}: {_broken(self.exactly.text, self.weights, values)}"
        if list(self.weights.values()) == [1.0, -1.0] and (self.least, self.most) == (-math.inf, 0.0):
            lower, upper = self.weights
            return f"{self.field}: {lower} is {values[lower]}, above {upper}, {values[upper]}"
        knobs = ", ".join(f"{name} {values[name]}" for name in self.weights)
        return f"{self.field}: {self._terms()} is {self.sum(values):.9g} ({knobs}), {self._limit(self.sum(values))}"

    def reach_words(self, spans: Spans) -> str:
        """Returns in words how the whole of the spans breaks the rule."""
        low, high = self.reach(spans)
        if self.exactly is not None:
            return f"{self.exactly.text}: {self._terms()} is at least {low:.9g} and at most {high:.9g}"
        end = f"least {low:.9g}" if low > self.most else f"most {high:.9g}"
        return f"{self._terms()} is at {end}, {self._limit(low)}"

    def _limit(self, total: float) -> str:
        return f"at most {self.most:g} is allowed" if total > self.most else f"at least {self.least:g} is needed"

    def _terms(self) -> str:
        terms = (f"{'-' if weight < 0 else '+'} {_factor(abs(weight))}{name}" for name, weight in self.weights.items())
        return " ".join(terms).removeprefix("+ ")


@dataclass(frozen=True, slots=True)
class Predicate:
    """A text that must be true of a candidate. Where it is undefined, it is not kept."""

    expression: Expression
    field: str
    scope: frozenset[str]  # the knobs of the whole text, of which this may be a part

    @property
    def names(self) -> frozenset[str]:
        return self.expression.names

    def excess(self, values: Values) -> float:
        try:
            return 0.0 if self.expression.exact(values) is True else 1.0
        except PolicyError:
            return 1.0

    def can_be_kept(self, domains: Mapping[str, Domain]) -> bool:
        """Returns whether some values within the domains may keep it, as far as intervals show it."""
        return not never(self.expression, domains)

    def words(self, values: Values) -> str:
        return f"{self.field}: {_broken(self.expression.text, sorted(self.names), values)}"

    def reach_words(self, domains: Mapping[str, Domain]) -> str:
        return f"{self.expression.text}: it is false for all values of {', '.join(sorted(self.names))}"


def rules_of(row: Any, field: str, at: str, constants: Mapping[str, Any]) -> Iterator[Rule | Predicate]:
    """Yields the rules that one constraint of the lane `at` states, an object or a text.

    Raises LaneError for a text that cannot be read, and for one that names no knob.
    """
    if not isinstance(row, str):
        yield from Rule.of(row, field, at)
        return
    try:
        expression = parse(row, f"{at}: {field}").given(constants)
    except PolicyError as error:
        raise LaneError(str(error)) from None
    for part in expression.conjuncts():
        rule = _compared(part, field, expression.names) or Predicate(part, field, expression.names)
        if not rule.names:
            raise LaneError(f"{at}: {field}: {part.text}: it names no knob whose value matters to it")
        yield rule


def _compared(part: Expression, field: str, scope: frozenset[str]) -> Rule | None:
    """Returns the rule of a text that compares two affine sides; None for any other."""
    for left, sign, right in part.comparisons():
        sides = left.affine(), right.affine()
        if sign not in _HOLDS or sides[0] is None or sides[1] is None:
            return None
        names = dict.fromkeys((*sides[0][0], *sides[1][0]))
        difference = {name: sides[0][0].get(name, Fraction(0)) - sides[1][0].get(name, Fraction(0)) for name in names}
        weights = {name: weight for name, weight in difference.items() if weight}
        limit = sides[1][1] - sides[0][1]
        numbers: tuple[Fraction, ...] = (*weights.values(), limit or Fraction(1))
        if not all(Fraction(1, _FAR) <= abs(number) <= _FAR for number in numbers):
            return None  # floats would not tell where it is kept
        least = float(limit) if sign in (">", ">=", "==") else -math.inf
        most = float(limit) if sign in ("<", "<=", "==") else math.inf
        floats = {name: float(weight) for name, weight in weights.items()}
        return Rule(floats, least, most, field, Exactly(part.text, weights, sign, limit, scope))
    return None


def _broken(text: str, names: Any, values: Values) -> str:
    return f"{text} ({', '.join(f'{name} {values[name]}' for name in names)})"


def _factor(weight: float) -> str:
    return "" if weight == 1.0 else f"{weight:g} "
