"""The space of a lane: every candidate that its knobs, conditions and constraints allow.

A candidate is a value per knob. It is canonical if each value is one that its knob allows and each inactive knob is at
rest; it is allowed if it is canonical and breaks no rule. A knob is active while its condition holds and the knobs that
the condition names are active too. A rule counts while all its knobs are active.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product
from random import Random
from types import MappingProxyType
from typing import Any

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.expressions import Expression, UndefinedError
from lanelock.sweeps.lanes.balance import Balance
from lanelock.sweeps.lanes.intervals import never
from lanelock.sweeps.lanes.knob import Condition, Knob, Value, When, is_number
from lanelock.sweeps.lanes.rules import Predicate, Rule, Spans, Values, rules_of

COUNTED = 100_000  # candidates; a larger space is not counted
GRID_POINTS = 5  # values in a grid of a knob without a step
_STEPS = 1_000_000  # partial candidates looked at while counting
_COSTLY = 20  # times as long as a sum takes another rule
_CORNERED = 6  # knobs of which all corners are looked at
_LOOKED = 4096  # combinations of values looked at for one that makes a knob count
_HALVINGS = 12  # on the way from a candidate to the start
_TRIES = 48  # random neighbours tried before a repair is given up


@dataclass(frozen=True)
class Space:
    """The knobs, the rules among them, and where each knob rests."""

    knobs: tuple[Knob, ...]
    rules: tuple[Rule | Predicate, ...]
    resting: Values  # an inactive knob's value: the allowed value nearest to the authority's

    @classmethod
    def of(
        cls,
        knobs: Sequence[Knob],
        rows: Iterable[Mapping[str, Any] | str],
        authority: Mapping[str, Any],
        at: str,
        constants: Mapping[str, Any] | None = None,
    ) -> Space:
        """Returns a lane's space; `authority` is the pack's content by knob name, `at` the lane in an error's words.

        `constants` are the further names that texts may use. Raises LaneError for a condition or rule that names no
        fitting knob, and for rules that nothing can keep.
        """
        rules = tuple(
            rule
            for place, row in enumerate(rows)
            for rule in rules_of(row, f"/constraints/{place}", at, constants or {})
        )
        known = {knob.name: knob for knob in knobs}
        plain = tuple(_plain_condition(knob, known) for knob in knobs)
        space = cls(plain, rules, {knob.name: _resting(knob, authority[knob.name]) for knob in knobs})
        _check_conditions(space, at)
        _check_rules(space, at)
        return space

    @cached_property
    def by_name(self) -> Mapping[str, Knob]:
        return {knob.name: knob for knob in self.knobs}

    def path(self, knob: Knob) -> tuple[Knob, ...]:
        """Returns the knobs on which a knob's being active depends, outermost first, and the knob itself."""
        above = () if knob.when is None else (self.path(self.by_name[name]) for name in sorted(knob.when.names))
        return (*dict.fromkeys(other for path in above for other in path), knob)

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
        found = self._near(self.resting, 0)
        try:
            allowed = self._allowed(self._ordered) if found is None else ()
            found = min(islice(allowed, COUNTED), key=self._from_rest, default=found)
        except _TooMany:
            pass
        if found is None:
            broken = (rule for rule in self.predicates if rule.excess(self.resting))
            rule = next(broken, self.rules[0])
            stated = f"{rule.expression.text}: " if isinstance(rule, Predicate) else ""
            raise LaneError(f"{rule.field}: {stated}no candidate was found that keeps all constraints")
        return found

    @cached_property
    def worded(self) -> bool:
        """Returns whether a constraint is a text: then a point is moved to where it is kept, never just left out."""
        return bool(self.predicates or self.balances) or any(
            isinstance(rule, Rule) and rule.exactly is not None for rule in self.rules
        )

    @cached_property
    def predicates(self) -> tuple[Predicate, ...]:
        return tuple(rule for rule in self.rules if isinstance(rule, Predicate))

    @cached_property
    def balances(self) -> tuple[Balance, ...]:
        """Returns the equalities among knobs, in the order in which they are settled."""
        equal = (rule for rule in self.rules if isinstance(rule, Rule) and rule.equality)
        return tuple(Balance.of(rule, self.by_name) for rule in equal)

    def corner(self, sides: Mapping[str, int], base: Values) -> dict[str, Value]:
        """Returns `base` with each numeric knob of `sides` at its least (-1) or greatest (1) value. Rules may break."""
        knobs = (self.by_name[name] for name, side in sides.items() if side)
        ends = {knob.name: knob.span[sides[knob.name] > 0] for knob in knobs if knob.numeric}
        return self.canonical({**base, **ends})

    def repaired(self, values: Values, seed: int) -> dict[str, Value] | None:
        """Returns an allowed candidate at or near `values`, the same for the same seed; None if none is found."""
        if not self.predicates:
            return self._near(values, seed)
        near = self._projected(values)
        return near if self.broken(near) is None else self._toward_start(near) or self._near(values, seed)

    def nearby(self, values: Values) -> dict[str, Value]:
        """Returns the canonical candidate at which the equalities are kept; it may break another rule."""
        return self._projected(values)

    def _toward_start(self, values: Values) -> dict[str, Value] | None:
        """Returns the allowed candidate first met on the way to the start's numbers; None if there is none."""
        found, least, most = None, 0.0, 1.0
        place = 1.0
        for _ in range(_HALVINGS):
            near = self._projected(self._between(values, place))
            if allowed := self.broken(near) is None:
                found = near
            elif place == 1.0:
                return None
            least, most = (least, place) if allowed else (place, most)
            place = (least + most) / 2
        return found

    def _between(self, values: Values, place: float) -> dict[str, Value]:
        """Returns values moved by a part (0 … 1) of the way to the start along each range; choices stay."""
        moved = dict(values)
        for knob in self.knobs:
            if not knob.choices:
                unit, end = knob.unit(values[knob.name]), knob.unit(self.start[knob.name])
                moved[knob.name] = knob.along(unit + place * (end - unit))
        return moved

    def _near(self, values: Values, seed: int) -> dict[str, Value] | None:
        """Returns an allowed candidate at `values` or among random neighbours; None if none is found."""
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
        if self.balances and self.broken(candidate):
            candidate = self._projected(candidate, frozenset(row)) if len(row) < len(self.knobs) else candidate
            if moved := [name for name in row if candidate[name] != values[name]]:
                raise LaneError(f"{where}: {moved[0]}: breaks {self.broken(self.canonical(values))}")
        if broken := self.broken(candidate):
            raise LaneError(f"{where}: breaks {broken}")
        return candidate

    def activating(self, knob: Knob) -> dict[str, Value] | None:
        """Returns values of the knobs on which a knob depends that make it active; None if none are found."""
        above = self.path(knob)[:-1]
        whens = [child.when for child in self.path(knob) if child.when is not None]
        plain = [when for when in whens if isinstance(when, When)]
        if len(plain) == len(whens):
            return {when.knob: when.values[0] for when in plain}
        rows = product(*(self._looked_at(other, whens) for other in above))
        found = (dict(zip((other.name for other in above), row, strict=True)) for row in islice(rows, _LOOKED))
        return next((values for values in found if self._counts(knob, {**self.resting, **values})), None)

    def _looked_at(self, knob: Knob, whens: Sequence[When | Condition]) -> tuple[Value, ...]:
        """Returns a few values of a knob: where it rests, and all that its conditions name or a grid has."""
        if knob.choices:
            return knob.choices
        named = [number for when in whens if isinstance(when, Condition) for number in when.expression.numbers()]
        near = [knob.rounded(number, up) for number in named for up in (True, False)]
        beside = [knob.beside(value, up) for value in near for up in (True, False)]
        return tuple(dict.fromkeys((self.resting[knob.name], *knob.extent, *near, *beside)))

    def extremes(self, names: Sequence[str]) -> Iterator[dict[str, Value]]:
        """Yields allowed candidates at or near the corners of a few knobs; of many, at and near two of them."""
        axes = [self.by_name[name].choices or self.by_name[name].span for name in names]
        rows = product(*axes) if len(names) <= _CORNERED else zip(*((axis[0], axis[-1]) for axis in axes), strict=True)
        for row in islice(rows, 2**_CORNERED):
            values = self.canonical({**self.start, **dict(zip(names, row, strict=True))})
            allowed = values if self.broken(values) is None else self.repaired(values, 0)
            if allowed is not None:
                yield allowed

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
        conditions = [knob for knob in self.knobs if isinstance(knob.when, Condition)]
        named = {other.name for knob in conditions for other in self.path(knob)}
        named |= {other.name for name in self._tied for other in self.path(self.by_name[name])}
        roots = {self.path(self.by_name[name])[0].name for name in named}
        apart = [knob.name for knob in self.knobs if not any(other.name in roots for other in self.path(knob))]
        free = math.prod(self._count(self.by_name[name]) for name in apart if self.by_name[name].when is None)
        tied = [knob for knob in self._ordered if knob.name not in apart]
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
        whens = [(other, other.when) for other in self.knobs if isinstance(other.when, When)]
        inner = [(other, when.values) for other, when in whens if when.knob == knob.name]
        if not inner:
            return knob.size
        values = map(knob.value, range(knob.size))
        return math.fsum(math.prod(self._count(other) for other, on in inner if value in on) for value in values)

    def _allowed(self, order: Sequence[Knob]) -> Iterator[dict[str, Value]]:
        """Yields each allowed candidate of some knobs, parents first in `order`, while the others rest.

        Of a knob without a step it takes a grid's values. Raises _TooMany when it has looked at `_STEPS` beginnings.
        """
        budget = iter(range(_STEPS // _COSTLY if self.worded else _STEPS))

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
        if (left := self._remainder(knob, chosen)) is not None:
            return left
        return knob.points(GRID_POINTS) if knob.size is None else map(knob.value, range(knob.size))

    def _may_be_kept(self, chosen: Values) -> bool:
        """Returns whether some values of the other knobs may keep every rule beside the chosen values."""
        domains = {name: self.domain(name, chosen) for name in self._tied}
        return all(
            not rule.excess(chosen) if self.worded and rule.names <= chosen.keys() else rule.can_be_kept(domains)
            for rule in self.rules
            if self._surely_in_force(rule, chosen)
        )

    def domain(self, name: str, chosen: Values = MappingProxyType({})) -> Any:
        """Returns the span of a knob of numbers, or the set of its values; of a chosen knob its value alone."""
        knob = self.by_name[name]
        if not knob.numeric:
            return frozenset({chosen[name]} if name in chosen else knob.choices)
        return (float(chosen[name]),) * 2 if name in chosen else knob.span

    def _remainder(self, knob: Knob, chosen: Values) -> tuple[Value, ...] | None:
        """Returns the one value that an equality leaves to a knob (or nothing) if all others are chosen; else None."""
        for balance in self.balances:
            rule = balance.rule
            others = rule.names - {knob.name}
            last = knob.lattice is not None and knob.name in rule.names and others <= chosen.keys()
            if last and self._surely_in_force(rule, {**chosen, knob.name: knob.low}):
                whole = balance.settled({**chosen, knob.name: knob.low}, others)
                return () if whole is None else (whole[knob.name],)
        return None

    def _surely_in_force(self, rule: Rule | Predicate, chosen: Values) -> bool:
        knobs = (self.by_name[name] for name in rule.scope)
        return all(self._counts(knob, chosen) if knob.name in chosen else knob.when is None for knob in knobs)

    @cached_property
    def _tied(self) -> frozenset[str]:
        """Returns the names of the knobs that a rule names."""
        return frozenset(name for rule in self.rules for name in rule.scope)

    @cached_property
    def _ordered(self) -> tuple[Knob, ...]:
        """Returns the knobs, each after the knob that its condition names."""
        return tuple(sorted(self.knobs, key=lambda knob: len(self.path(knob))))

    def _counts(self, knob: Knob, values: Values) -> bool:
        if knob.when is None:
            return True
        return knob.when.holds(values) and all(self._counts(self.by_name[name], values) for name in knob.when.names)

    def _in_force(self, values: Values) -> Iterator[Rule | Predicate]:
        if self.rules:
            active = self.active(values)
            yield from (rule for rule in self.rules if rule.scope <= active)

    def _excess(self, values: Values) -> float:
        return math.fsum(abs(rule.excess(values)) for rule in self._in_force(values))

    def _projected(self, values: Values, held: frozenset[str] = frozenset()) -> dict[str, Value]:
        """Returns the canonical candidate near the point of the box nearest to `values` that keeps the rules.

        The knobs `held` are not moved by an equality.
        """
        numbers = self.canonical(values)
        rules = tuple(rule for rule in self._in_force(numbers) if isinstance(rule, Rule))
        for _ in range(40):
            for rule in rules:
                self._level(rule, numbers, held) if rule.equality else self._push(rule, numbers)
            if not any(rule.pull(numbers) for rule in rules):
                break
        return self._settled(self._polished(self.canonical(numbers)), held)

    def _level(self, rule: Rule, numbers: dict[str, Value], held: frozenset[str]) -> None:
        """Moves numbers to where they keep an equality, all by the same part of their way to the corner beyond it.

        So a share that is 0 stays 0, and no number leaves its range.
        """
        excess, corner = rule.pull(numbers), dict[str, float]()
        for name, weight in rule.weights.items() if excess else ():
            if name not in held:
                corner[name] = self.by_name[name].span[excess * weight < 0]
        way = math.fsum(rule.weights[name] * (float(numbers[name]) - end) for name, end in corner.items())
        part = min(max(excess / way, 0.0), 1.0) if way else 0.0
        for name, end in corner.items():
            numbers[name] = float(numbers[name]) + part * (end - float(numbers[name]))

    def _settled(self, values: dict[str, Value], held: frozenset[str] = frozenset()) -> dict[str, Value]:
        """Returns values that keep every equality to the last digit, where that can be had by moving a little."""
        settled = self._balanced(values, held)
        for rule in self._in_force(settled) if self.balances else ():
            if isinstance(rule, Rule) and not rule.equality and rule.excess(settled):  # by what was given back
                mended = ((name, self._moved_alone(rule, name, settled)) for name in rule.weights)
                again = (self._balanced(moved, held | {name}) for name, moved in mended)
                settled = min((settled, *again), key=self._excess)
        return settled

    def _balanced(self, values: dict[str, Value], held: frozenset[str]) -> dict[str, Value]:
        for balance in self.balances:
            if balance.rule.excess(values) and balance.rule.scope <= self.active(values):
                others = (other.rule.names for other in self.balances if other is not balance)
                shared = frozenset(name for names in others for name in names)
                apart = balance.settled(values, held | shared) if shared else None
                values = apart or balance.settled(values, held) or values
        return values

    def _push(self, rule: Rule, numbers: dict[str, Value]) -> None:
        """Moves numbers to where they keep a rule, by the shortest way in units of the knobs' ranges."""
        excess, pulls = rule.pull(numbers), dict[str, float]()
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
        while rule := next(self._mendable(values), None):
            best = min(self._mended(rule, values), key=self._excess)
            if self._excess(best) >= self._excess(values):
                break
            values = best
        return values

    def _mendable(self, values: Values) -> Iterator[Rule]:
        """Yields the rules that are broken and that moving one knob can mend: an equality takes several."""
        for rule in self._in_force(values):
            if isinstance(rule, Rule) and not rule.equality and rule.excess(values):
                yield rule

    def _mended(self, rule: Rule, values: Values) -> Iterator[dict[str, Value]]:
        """Yields the candidate that each knob of a rule gives by moving alone to where the rule is kept."""
        return (self._moved_alone(rule, name, values) for name in rule.weights)

    def _moved_alone(self, rule: Rule, name: str, values: Values) -> dict[str, Value]:
        knob, excess, weight = self.by_name[name], rule.excess(values), rule.weights[name]
        target = knob.rounded(float(values[name]) - excess / weight, up=excess * weight < 0)
        if target == values[name] and rule.exactly is not None:  # less than the last digit
            target = knob.beside(values[name], up=excess * weight < 0)
        return self.canonical({**values, name: target})

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
        if self.space.balances:  # hardly any combination keeps an equality
            return self.space.repaired(candidate, self.seed)
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


def _plain_condition(knob: Knob, known: Mapping[str, Knob]) -> Knob:
    """Returns a knob whose condition says no more than `law == 'smooth'` or `law in [...]` with it as an object has."""
    if isinstance(knob.when, Condition) and len(knob.when.names) == 1:
        (name,) = knob.when.names
        parent = known.get(name)
        if parent is not None and parent.choices and (values := _meant(knob.when.expression, parent)):
            return replace(knob, when=When(name, values))
    return knob


def _meant(condition: Expression, parent: Knob) -> tuple[Value, ...]:
    """Returns the choices for which a condition on one knob is true; nothing where it cannot be told."""
    if any(value not in parent.choices for _, values in condition.asked() for value in values):
        return ()  # a slip of the pen, perhaps: `_check_text` says which
    try:
        return tuple(value for value in parent.choices if condition.exact({parent.name: value}) is True)
    except PolicyError:
        return ()


def _check_conditions(space: Space, at: str) -> None:
    for knob in space.knobs:
        field = f"{at}: /knobs/{knob.name}/when"
        if isinstance(knob.when, When):
            _check_when(space, knob.when, field)
        elif knob.when is not None:
            _check_text(space, knob.when.expression, field)
        _check_circle(space, knob.name, field)
    for knob in space.knobs:
        if isinstance(knob.when, Condition):
            domains = {name: space.domain(name) for name in knob.when.names}
            if never(knob.when.expression, domains):
                raise LaneError(f"{at}: /knobs/{knob.name}/when: {knob.when} is false for all values of its knobs")


def _check_when(space: Space, when: When, field: str) -> None:
    parent = space.by_name.get(when.knob)
    if parent is None or not parent.choices:
        raise LaneError(f"{field}/knob: {when.knob} is not a knob with choices or options")
    if unknown := [value for value in when.values if value not in parent.choices]:
        raise LaneError(f"{field}/is: {unknown[0]} is not a value of {parent.name}: {parent.range_text()}")


def _check_circle(space: Space, name: str, field: str) -> None:
    """Raises LaneError if a knob's being active depends on itself."""
    seen, further = set[str](), [name]
    while further:
        when = space.by_name[further.pop()].when
        above = (when.names if when is not None else frozenset()) & space.by_name.keys()
        if name in above:
            raise LaneError(f"{field}{'/knob' if isinstance(space.by_name[name].when, When) else ''}: "
                            f"{name} depends on itself")  # fmt: skip
        further += above - seen
        seen |= above


def _check_text(space: Space, text: Expression, field: str) -> None:
    """Raises LaneError for a name that is no knob, for a value that a knob cannot have, and for mixed kinds."""
    for name in sorted(text.names):
        if name not in space.by_name:
            known = ", ".join(space.by_name)
            raise LaneError(f"{field}: {text}: {name} is not a knob of the lane: {known}")
    for name, values in text.asked():
        knob = space.by_name[name]
        if strange := [value for value in values if isinstance(value, str) and value not in knob.choices]:
            raise LaneError(f"{field}: {text}: {strange[0]!r} is not a value of {name}: {knob.range_text()}")
    try:
        kind = type(text.exact(space.resting))
    except UndefinedError:
        return
    except PolicyError as error:
        raise LaneError(str(error)) from None
    if kind is not bool:
        raise LaneError(f"{field}: {text}: it is neither true nor false; compare it with something")


def _check_rules(space: Space, at: str) -> None:
    for rule in space.rules:
        if isinstance(rule, Predicate):
            _check_text(space, rule.expression, f"{at}: {rule.field}")
            continue
        for name in rule.weights:
            if name not in space.by_name or not space.by_name[name].numeric:
                stated = "" if rule.exactly is None else f"{rule.exactly.text}: "
                raise LaneError(f"{at}: {rule.field}: {stated}{name} is not a knob of numbers")
        if unknown := sorted(rule.scope - space.by_name.keys()):
            raise LaneError(f"{at}: {rule.field}: {unknown[0]} is not a knob of the lane: {', '.join(space.by_name)}")
    domains = {name: space.domain(name) for name in space._tied}
    for rule in space.rules:
        if not rule.can_be_kept(domains):
            raise LaneError(f"{at}: {rule.field}: no candidate can keep it: {rule.reach_words(domains)}")
    for balance in space.balances:
        if (near := balance.unreachable()) is not None:
            text = balance.rule.exactly.text if balance.rule.exactly else ""
            raise LaneError(
                f"{at}: {balance.rule.field}: no candidate can keep it: {text}: with the knobs' steps the left side "
                f"comes to {near[0]:.12g} or {near[1]:.12g}, never to what is asked for"
            )
    sums = [rule for rule in space.rules if isinstance(rule, Rule)]
    always = [rule for rule in sums if all(space.by_name[name].when is None for name in rule.scope)]
    spans = {name: domain for name, domain in domains.items() if not isinstance(domain, frozenset)}
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
