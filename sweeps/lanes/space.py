"""The space of a lane: every candidate that its knobs, conditions and constraints allow.

A candidate is a value per knob. It is canonical if each value is one that its knob allows and each inactive knob is at
rest; it is allowed if it is canonical and breaks no rule. A knob is active while its condition holds and the knob that
the condition names is active too. A rule counts while all its knobs are active.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from random import Random
from typing import Any

from lanelock.policies import LaneError
from lanelock.sweeps.lanes.knob import Knob, Value, is_number

Values = Mapping[str, Value]  # by knob name
Spans = Mapping[str, tuple[float, float]]  # least and greatest value, by knob name

COUNTED = 100_000  # candidates; a larger space is not counted
GRID_POINTS = 5  # values in a grid of a knob without a step
_ROUNDING = 1e-9  # by which a float sum may exceed its limit
_STEPS = 1_000_000  # partial candidates looked at while counting
_TRIES = 48  # random neighbours tried before a repair is given up


@dataclass(frozen=True, slots=True)
class Rule:
    """A weighted sum of numeric knobs that must lie between two limits. An order is one rule per neighbouring pair."""

    weights: Mapping[str, float]  # by knob name
    least: float
    most: float
    field: str  # where the lane states it

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
        total = self.sum(values)
        beyond = max(total - self.most, 0.0) + min(total - self.least, 0.0)
        scale = math.fsum(abs(weight * float(values[name])) for name, weight in self.weights.items())
        return beyond if abs(beyond) > _ROUNDING * max(1.0, scale) else 0.0

    def reach(self, spans: Spans) -> tuple[float, float]:
        """Returns the least and the greatest sum while each knob stays in its span."""
        ends = [sorted(weight * end for end in spans[name]) for name, weight in self.weights.items()]
        return math.fsum(low for low, _ in ends), math.fsum(high for _, high in ends)

    def can_be_kept(self, spans: Spans) -> bool:
        """Returns whether some values within the spans keep the rule."""
        low, high = self.reach(spans)
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
        if list(self.weights.values()) == [1.0, -1.0] and (self.least, self.most) == (-math.inf, 0.0):
            lower, upper = self.weights
            return f"{self.field}: {lower} is {values[lower]}, above {upper}, {values[upper]}"
        knobs = ", ".join(f"{name} {values[name]}" for name in self.weights)
        return f"{self.field}: {self._terms()} is {self.sum(values):.9g} ({knobs}), {self._limit(self.sum(values))}"

    def reach_words(self, spans: Spans) -> str:
        """Returns in words how the whole of the spans breaks the rule."""
        low, high = self.reach(spans)
        return (
            f"{self._terms()} is at {f'least {low:.9g}' if low > self.most else f'most {high:.9g}'}, {self._limit(low)}"
        )

    def _limit(self, total: float) -> str:
        return f"at most {self.most:g} is allowed" if total > self.most else f"at least {self.least:g} is needed"

    def _terms(self) -> str:
        terms = (f"{'-' if weight < 0 else '+'} {_factor(abs(weight))}{name}" for name, weight in self.weights.items())
        return " ".join(terms).removeprefix("+ ")


@dataclass(frozen=True)
class Space:
    """The knobs, the rules among them, and where each knob rests."""

    knobs: tuple[Knob, ...]
    rules: tuple[Rule, ...]
    resting: Values  # an inactive knob's value: the allowed value nearest to the authority's

    @classmethod
    def of(
        cls, knobs: Sequence[Knob], rows: Iterable[Mapping[str, Any]], authority: Mapping[str, Any], at: str
    ) -> Space:
        """Returns a lane's space; `authority` is the pack's content by knob name, `at` the lane in an error's words.

        Raises LaneError for a condition or rule that names no fitting knob, and for rules that nothing can keep.
        """
        rules = tuple(rule for place, row in enumerate(rows) for rule in Rule.of(row, f"/constraints/{place}", at))
        space = cls(tuple(knobs), rules, {knob.name: _resting(knob, authority[knob.name]) for knob in knobs})
        _check_conditions(space, at)
        _check_rules(space, at)
        return space

    @cached_property
    def by_name(self) -> Mapping[str, Knob]:
        return {knob.name: knob for knob in self.knobs}

    def path(self, knob: Knob) -> tuple[Knob, ...]:
        """Returns the knobs on which a knob's being active depends, outermost first, and the knob itself."""
        return (knob,) if knob.when is None else (*self.path(self.by_name[knob.when.knob]), knob)

    def active(self, values: Values) -> frozenset[str]:
        """Returns the names of the knobs that count."""
        return frozenset(knob.name for knob in self.knobs if self._counts(knob, values))

    def canonical(self, values: Values) -> dict[str, Value]:
        """Returns the nearest canonical candidate. A missing knob rests. Idempotent."""
        placed = {knob.name: knob.nearest(values.get(knob.name, self.resting[knob.name])) for knob in self.knobs}
        active = self.active(placed)
        return {name: value if name in active else self.resting[name] for name, value in placed.items()}

    def broken(self, values: Values) -> str | None:
        """Returns in words, with its numbers, the first rule that values break; None if they keep all."""
        return next((rule.words(values) for rule in self._in_force(values) if rule.excess(values)), None)

    @cached_property
    def start(self) -> dict[str, Value]:
        """Returns the authority placed in the space: the nearest allowed candidate found."""
        found = self.repaired(self.resting, 0)
        try:
            allowed = self._allowed(self._ordered) if found is None else ()
            found = min(islice(allowed, COUNTED), key=self._from_rest, default=found)
        except _TooMany:
            pass
        if found is None:
            raise LaneError(f"{self.rules[0].field}: no candidate was found that keeps all constraints")
        return found

    def corner(self, sides: Mapping[str, int], base: Values) -> dict[str, Value]:
        """Returns `base` with each numeric knob of `sides` at its least (-1) or greatest (1) value. Rules may break."""
        knobs = (self.by_name[name] for name, side in sides.items() if side)
        ends = {knob.name: knob.span[sides[knob.name] > 0] for knob in knobs if knob.numeric}
        return self.canonical({**base, **ends})

    def repaired(self, values: Values, seed: int) -> dict[str, Value] | None:
        """Returns an allowed candidate at or near `values`, the same for the same seed; None if none is found."""
        draw = Random(seed)
        for attempt in range(_TRIES + 1):
            near = self._projected(self._neighbour(values, draw, attempt / _TRIES) if attempt else values)
            if self.broken(near) is None:
                return near
        return None

    def stated(self, row: Mapping[str, Any], where: str) -> dict[str, Value]:
        """Returns the candidate that a user's row means; a knob left out has the start's value. Raises LaneError."""
        values = dict(self.start)
        for name, value in row.items():
            if name not in self.by_name:
                raise LaneError(f"{where}: {name}: not a knob of the lane: {', '.join(self.by_name)}")
            knob = self.by_name[name]
            given = knob.given(value)
            if given is None:
                raise LaneError(f"{where}: {name}: {value!r} is not a value of the knob: {_allowed_text(knob)}")
            values[name] = given
        candidate = self.canonical(values)
        if idle := [name for name in row if candidate[name] != values[name]]:
            raise LaneError(f"{where}: {idle[0]}: {values[idle[0]]} counts only while {self.condition(idle[0])}")
        if broken := self.broken(candidate):
            raise LaneError(f"{where}: breaks {broken}")
        return candidate

    def condition(self, name: str) -> str:
        """Returns in words when a conditional knob is active."""
        return " and ".join(str(knob.when) for knob in self.path(self.by_name[name]) if knob.when is not None)

    def design(self, count: int, seed: int) -> list[dict[str, Value]]:
        """Returns up to `count` distinct allowed candidates that fill the space: a scrambled Sobol sequence.

        A point that breaks a rule is left out; if too few are left, the first ones left out are repaired.
        """
        from scipy.stats import qmc  # half a second that only a sweep pays

        power = math.ceil(math.log2(max(count, 1))) + 3
        units = qmc.Sobol(len(self.knobs), rng=seed).random_base2(power)
        found = dict[Any, dict[str, Value]]()
        allowed = (point for row in units if self.broken(point := self._drawn(row)) is None)
        for point in islice(allowed, 8 * count):
            found.setdefault(_key(point), point)
            if len(found) == count:  # usually after an eighth of the points
                break
        for place, row in enumerate(units[: 2 * count] if len(found) < count else ()):
            if len(found) < count and (near := self.repaired(self._drawn(row), seed + place)):
                found.setdefault(_key(near), near)
        return list(found.values())

    def _drawn(self, units: Iterable[float]) -> dict[str, Value]:
        """Returns the candidate at uniform draws, one per knob."""
        return self.canonical({knob.name: knob.drawn(unit) for knob, unit in zip(self.knobs, units, strict=True)})

    def grid(self, seed: int) -> Grid:
        """Returns the grid of every knob's `points`, in an order that follows from the seed."""
        return Grid(self, seed)

    def everything(self) -> Iterator[dict[str, Value]]:
        """Yields each allowed candidate of a space that can be counted."""
        return self._allowed(self._ordered)

    def size(self) -> int | None:
        """Returns the number of allowed candidates; None if it is above COUNTED or too costly to count."""
        return self._size

    @cached_property
    def _size(self) -> int | None:
        named = {self.path(self.by_name[name])[0].name for name in self._tied}
        free = math.prod(self._count(knob) for knob in self.knobs if knob.when is None and knob.name not in named)
        tied = [knob for knob in self._ordered if self.path(knob)[0].name in named]
        if free > COUNTED or any(knob.size is None for knob in tied):
            return None
        try:
            count = int(free) * sum(1 for _ in islice(self._allowed(tied), COUNTED // int(free) + 1))
        except _TooMany:
            return None
        return count if count <= COUNTED else None

    def _count(self, knob: Knob) -> float:
        """Returns the number of candidates of a knob and the knobs that depend on it, rules left aside."""
        if knob.size is None:
            return math.inf
        inner = [(other, other.when.values) for other in self.knobs if other.when and other.when.knob == knob.name]
        if not inner:
            return knob.size
        values = map(knob.value, range(knob.size))
        return math.fsum(math.prod(self._count(other) for other, on in inner if value in on) for value in values)

    def _allowed(self, order: Sequence[Knob]) -> Iterator[dict[str, Value]]:
        """Yields each allowed candidate of some knobs, parents first in `order`, while the others rest.

        Of a knob without a step it takes a grid's values. Raises _TooMany when it has looked at `_STEPS` beginnings.
        """
        budget = iter(range(_STEPS))

        def beyond(place: int, chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
            if next(budget, None) is None:
                raise _TooMany
            if not self._may_be_kept(chosen):
                return
            if place == len(order):
                yield {**self.resting, **chosen}
                return
            for value in self._values(order[place], chosen):
                yield from beyond(place + 1, {**chosen, order[place].name: value})

        return beyond(0, {})

    def _values(self, knob: Knob, chosen: Values) -> Iterable[Value]:
        """Returns the values that a knob can have beside chosen ones."""
        if not self._counts(knob, chosen):
            return (self.resting[knob.name],)
        return knob.points(GRID_POINTS) if knob.size is None else map(knob.value, range(knob.size))

    def _may_be_kept(self, chosen: Values) -> bool:
        """Returns whether some values of the other knobs may keep every rule beside the chosen values."""
        spans = {name: (float(chosen[name]),) * 2 if name in chosen else self.by_name[name].span for name in self._tied}
        return all(rule.can_be_kept(spans) for rule in self.rules if self._surely_in_force(rule, chosen))

    def _surely_in_force(self, rule: Rule, chosen: Values) -> bool:
        knobs = (self.by_name[name] for name in rule.weights)
        return all(self._counts(knob, chosen) if knob.name in chosen else knob.when is None for knob in knobs)

    @cached_property
    def _tied(self) -> frozenset[str]:
        """Returns the names of the knobs that a rule names."""
        return frozenset(name for rule in self.rules for name in rule.weights)

    @cached_property
    def _ordered(self) -> tuple[Knob, ...]:
        """Returns the knobs, each after the knob that its condition names."""
        return tuple(sorted(self.knobs, key=lambda knob: len(self.path(knob))))

    def _counts(self, knob: Knob, values: Values) -> bool:
        if knob.when is None:
            return True
        return values[knob.when.knob] in knob.when.values and self._counts(self.by_name[knob.when.knob], values)

    def _in_force(self, values: Values) -> Iterator[Rule]:
        if self.rules:
            active = self.active(values)
            yield from (rule for rule in self.rules if rule.weights.keys() <= active)

    def _excess(self, values: Values) -> float:
        return math.fsum(abs(rule.excess(values)) for rule in self._in_force(values))

    def _projected(self, values: Values) -> dict[str, Value]:
        """Returns the canonical candidate near the point of the box nearest to `values` that keeps the rules."""
        numbers = self.canonical(values)
        rules = tuple(self._in_force(numbers))
        for _ in range(40):
            for rule in rules:
                self._push(rule, numbers)
            if not any(rule.excess(numbers) for rule in rules):
                break
        return self._polished(self.canonical(numbers))

    def _push(self, rule: Rule, numbers: dict[str, Value]) -> None:
        """Moves numbers to where they keep a rule, by the shortest way in units of the knobs' ranges."""
        excess, pulls = rule.excess(numbers), dict[str, float]()
        for name, weight in rule.weights.items() if excess else ():
            low, high = self.by_name[name].span
            room = float(numbers[name]) - low if excess * weight > 0 else high - float(numbers[name])
            pulls[name] = weight * (high - low) ** 2 if room > 0 else 0.0
        along = math.fsum(rule.weights[name] * pull for name, pull in pulls.items())
        for name, pull in pulls.items() if along else ():
            low, high = self.by_name[name].span
            numbers[name] = min(max(float(numbers[name]) - excess * pull / along, low), high)

    def _polished(self, values: dict[str, Value]) -> dict[str, Value]:
        """Returns values without what rounding broke: knob by knob, while the sum of all excesses falls."""
        while rule := next((rule for rule in self._in_force(values) if rule.excess(values)), None):
            best = min(self._mended(rule, values), key=self._excess)
            if self._excess(best) >= self._excess(values):
                break
            values = best
        return values

    def _mended(self, rule: Rule, values: Values) -> Iterator[dict[str, Value]]:
        """Yields the candidate that each knob of a rule gives by moving alone to where the rule is kept."""
        excess = rule.excess(values)
        for name, weight in rule.weights.items():
            target = self.by_name[name].rounded(float(values[name]) - excess / weight, up=excess * weight < 0)
            yield self.canonical({**values, name: target})

    def _neighbour(self, values: Values, draw: Random, reach: float) -> dict[str, Value]:
        """Returns values moved at random: along each range by about `reach` of it, to another choice as often."""
        moved = self.canonical(values)
        for knob in self.knobs:
            if not knob.choices:
                moved[knob.name] = knob.along(min(max(knob.unit(moved[knob.name]) + draw.gauss(0.0, reach), 0.0), 1.0))
            elif draw.random() < reach:
                moved[knob.name] = draw.choice(knob.choices)
        return moved

    def _from_rest(self, values: Values) -> float:
        """Returns the squared distance from where the knobs rest, in units of their ranges."""
        pairs = ((knob, values[knob.name], self.resting[knob.name]) for knob in self.knobs)
        return math.fsum((knob.unit(value) - knob.unit(rest)) ** 2 for knob, value, rest in pairs)


@dataclass(frozen=True)
class Grid:
    """Every combination of the knobs' grid values, each found by its index without building the others."""

    space: Space
    seed: int

    @cached_property
    def size(self) -> int:
        """Returns the number of indices, which may exceed what `len` can return."""
        return math.prod(size for size, _ in self._axes)

    def __getitem__(self, index: int) -> dict[str, Value] | None:
        """Returns the candidate at an index; None where it breaks a rule, or differs from another in inactive knobs."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        rest, values, moved = permuted(index, self.size, self.seed), dict[str, Value](), set[str]()
        for knob, (size, value) in zip(self.space.knobs, self._axes, strict=True):
            rest, place = divmod(rest, size)
            values[knob.name] = value(place)
            moved |= {knob.name} if place else set()
        if not moved <= self.space.active(values):
            return None
        candidate = self.space.canonical(values)
        return candidate if self.space.broken(candidate) is None else None

    @cached_property
    def _axes(self) -> tuple[tuple[int, Callable[[int], Value]], ...]:
        return tuple(knob.indexed(GRID_POINTS) for knob in self.space.knobs)


def permuted(index: int, size: int, seed: int) -> int:
    """Returns where a seeded permutation of `range(size)` takes an index.

    Four rounds of a Feistel network permute the numbers of twice `half` bits; a result beyond `size` is permuted again.
    """
    half = max(1, (size.bit_length() + 1) // 2)
    while True:
        left, right = divmod(index, 1 << half)
        for turn in range(4):
            drawn = hashlib.shake_256(f"{seed}/{turn}/{right}".encode()).digest((half + 7) // 8)
            left, right = right, left ^ (int.from_bytes(drawn, "little") & ((1 << half) - 1))
        index = (left << half) | right
        if index < size:
            return index


class _TooMany(Exception):
    """More partial candidates than may be looked at."""


def _resting(knob: Knob, content: Any) -> Value:
    """Returns the allowed value nearest to a pack's content; the first one where the content is near none."""
    value = knob.value_of(content)
    if value is None:
        value = content if knob.numeric and is_number(content) else knob.extent[0]
    return knob.nearest(value)


def _check_conditions(space: Space, at: str) -> None:
    for knob in space.knobs:
        field, seen = f"{at}: /knobs/{knob.name}/when", {knob.name}
        when = knob.when
        while when is not None:
            parent = space.by_name.get(when.knob)
            if parent is None or not parent.choices:
                raise LaneError(f"{field}/knob: {when.knob} is not a knob with choices or options")
            if unknown := [value for value in when.values if value not in parent.choices]:
                raise LaneError(f"{field}/is: {unknown[0]} is not a value of {parent.name}: {parent.range_text()}")
            if parent.name in seen:
                raise LaneError(f"{field}/knob: {parent.name} depends on itself")
            seen.add(parent.name)
            when = parent.when


def _check_rules(space: Space, at: str) -> None:
    for rule in space.rules:
        for name in rule.weights:
            if name not in space.by_name or not space.by_name[name].numeric:
                raise LaneError(f"{at}: {rule.field}: {name} is not a knob of numbers")
    spans = {name: space.by_name[name].span for name in space._tied}
    for rule in space.rules:
        if not rule.can_be_kept(spans):
            raise LaneError(f"{at}: {rule.field}: no candidate can keep it: {rule.reach_words(spans)}")
    always = [rule for rule in space.rules if all(space.by_name[name].when is None for name in rule.weights)]
    if (contrary := _contradiction(always, spans)) is not None:
        raise LaneError(f"{at}: {contrary.field}: no candidate can keep it together with the other constraints")


def _contradiction(rules: Sequence[Rule], spans: Spans) -> Rule | None:
    """Returns a rule that no values within the spans keep together with the others, as far as intervals show it."""
    for _ in range(len(rules) + 8):
        for rule in rules:
            if not rule.can_be_kept(spans):
                return rule
            spans = rule.narrowed(spans)
    return None


def _allowed_text(knob: Knob) -> str:
    return knob.range_text() if knob.step is None else f"{knob.range_text()}, step {knob.step}"


def _key(candidate: Values) -> tuple[Value, ...]:
    return tuple(candidate.values())


def _factor(weight: float) -> str:
    return "" if weight == 1.0 else f"{weight:g} "
