"""How an equality among knobs is kept to the last digit, each knob staying on its own values.

Every knob with evenly spaced values is counted in spacings from its origin, so the equality is one among integers: the
numbers of spacings, each times a coefficient. What rounding left over is given back to the knobs, as evenly as their
coefficients allow, coarse ones first; a remainder that the finer ones cannot make up is never left to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lanelock.policies.expressions import exact_number
from lanelock.sweeps.lanes.knob import Knob, Value, is_number
from lanelock.sweeps.lanes.rules import Rule, Values

_TRIES = 6  # numbers of spacings tried per knob
_VISITED = 2000  # knobs looked at before it is given up


@dataclass(frozen=True, slots=True)
class Count:
    """A knob of an equality, counted in spacings."""

    knob: Knob
    origin: Fraction
    spacing: Fraction
    least: int
    most: int
    coefficient: int  # of one spacing, in units of the balance

    def number(self, value: Value) -> int:
        """Returns the number of spacings nearest to a value."""
        return min(max(round((exact_number(_number(value)) - self.origin) / self.spacing), self.least), self.most)

    def value(self, number: int) -> Value:
        exact = self.origin + number * self.spacing
        return int(exact) if self.knob.integral else float(exact)


@dataclass(frozen=True, slots=True)
class Balance:
    """An equality among knobs, as one among integers."""

    rule: Rule
    counts: tuple[Count, ...]  # of the knobs with evenly spaced values, coarse ones first
    unit: Fraction

    @classmethod
    def of(cls, rule: Rule, knobs: Mapping[str, Knob]) -> Balance:
        assert rule.exactly is not None
        rows = [row for name, weight in rule.exactly.weights.items() if (row := _lattice(knobs[name], weight))]
        unit = Fraction(1, math.lcm(*(abs(weight * spacing).denominator for _, weight, _, spacing, *_ in rows), 1))
        counts = (
            Count(knob, origin, spacing, least, most, int(weight * spacing / unit))
            for knob, weight, origin, spacing, least, most in rows
        )
        return cls(rule, tuple(sorted(counts, key=lambda count: -abs(count.coefficient))), unit)

    def settled(self, values: Values, held: frozenset[str] = frozenset()) -> dict[str, Value] | None:
        """Returns values near `values` that keep the equality, those of the knobs `held` as they are; None if none."""
        assert self.rule.exactly is not None
        counts = [count for count in self.counts if count.knob.name not in held]
        numbers = [count.number(values[count.knob.name]) for count in counts]
        near = dict(values) | {
            count.knob.name: count.value(number) for count, number in zip(counts, numbers, strict=True)
        }
        left = -self.rule.exactly.gap(near) / self.unit
        if left.denominator != 1:
            return None
        moves = _shared(int(left), counts, numbers)
        if moves is None:
            return None
        rows = zip(counts, numbers, moves, strict=True)
        return near | {count.knob.name: count.value(number + move) for count, number, move in rows if move}

    def unreachable(self) -> tuple[float, float] | None:
        """Returns the sums nearest to the limit, below and above, if the spacings of the knobs never sum to it."""
        exactly = self.rule.exactly
        assert exactly is not None
        if len(self.counts) < len(exactly.weights):
            return None  # the other knobs' values are not even
        common = math.gcd(*(count.coefficient for count in self.counts)) * self.unit
        start = sum(exactly.weights[row.knob.name] * (row.origin + row.least * row.spacing) for row in self.counts)
        steps = (exactly.limit - start) / common
        if steps.denominator == 1 or any(row.knob.step is None and not row.knob.integral for row in self.counts):
            return None
        return float(start + math.floor(steps) * common), float(start + math.ceil(steps) * common)


def _lattice(knob: Knob, weight: Fraction) -> tuple[Knob, Fraction, Fraction, Fraction, int, int] | None:
    """Returns knob, weight, origin, spacing and the least and greatest number of spacings; None if not even."""
    if (lattice := knob.lattice) is None:
        return None
    (origin, spacing), (low, high) = lattice, (exact_number(_number(end)) for end in (knob.low, knob.high))
    least, most = math.ceil((low - origin) / spacing), math.floor((high - origin) / spacing)
    return (knob, weight, origin, spacing, least, most) if least <= most else None


def _shared(left: int, counts: Sequence[Count], numbers: Sequence[int]) -> list[int] | None:
    """Returns how many spacings each knob moves, so that the coefficients times the moves sum to `left`."""
    ranges = [(count.least - number, count.most - number) for count, number in zip(counts, numbers, strict=True)]
    factors = [count.coefficient for count in counts]
    reach = [sorted(factor * end for end in ends) for factor, ends in zip(factors, ranges, strict=True)]
    below, above, common, squares = [0], [0], [0], [0]
    for factor, (least, most) in zip(factors[::-1], reach[::-1], strict=True):
        below.append(below[-1] + least)
        above.append(above[-1] + most)
        common.append(math.gcd(common[-1], factor))
        squares.append(squares[-1] + factor * factor)
    tails = list(zip(below[-2::-1], above[-2::-1], common[-2::-1], squares[-1:0:-1], strict=True))
    budget = iter(range(_VISITED))

    def beyond(place: int, rest: int) -> list[int] | None:
        if place == len(counts):
            return [] if rest == 0 else None
        if next(budget, None) is None:
            return None
        least, most, inner, square = tails[place]
        for move in _moves(rest, factors[place], ranges[place], (least, most), inner, square):
            if (found := beyond(place + 1, rest - factors[place] * move)) is not None:
                return [move, *found]
        return None

    return beyond(0, left)


def _moves(
    rest: int, factor: int, own: tuple[int, int], others: tuple[int, int], inner: int, square: int
) -> Iterator[int]:
    """Yields the moves of one knob after which the others can make up the rest, the fairest first.

    `inner` is the common divisor of the others' factors (0: there are none), `others` what they can reach.
    """
    ends = sorted((Fraction(rest - others[0], factor), Fraction(rest - others[1], factor)))
    least, most = max(own[0], math.ceil(ends[0])), min(own[1], math.floor(ends[1]))
    common = math.gcd(factor, inner)
    if least > most or rest % common:
        return
    period = inner // common
    if period == 0:  # the last knob: everything is left to it
        if rest % factor == 0 and least <= rest // factor <= most:
            yield rest // factor
        return
    first = (rest // common * pow(factor // common, -1, period)) % period if period > 1 else 0
    fair = min(max(round(rest * factor / square), least), most)
    near = fair + (first - fair) % period
    candidates = (near + sign * turn * period for turn in range(_TRIES) for sign in (1, -1))
    inside = dict.fromkeys(move for move in (near, near - period, *candidates) if least <= move <= most)
    yield from sorted(inside, key=lambda move: abs(move - fair))[:_TRIES]


def _number(value: Value) -> float | int:
    assert is_number(value)
    return value
