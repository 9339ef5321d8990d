"""A knob: a field, or fields that move together, and all arithmetic along its values.

A position along a knob is a number from 0 (first end) to 1 (last end) on the knob's own scale: by ratio where it is
logarithmic, by index where it has choices. Every value that a knob gives is a decimal as short as its range or step
allows, never 0.6000000000000001: `nearest` is idempotent, and `knob.along(knob.unit(value)) == value` for every
allowed value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from typing import Any, TypeGuard

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.expressions import Expression, parse
from lanelock.sweeps.lanes.together import Together

Value = float | int | str | bool

_DIGITS = 6  # of a range without a step: its values are a millionth of the range apart; significant on a log scale
_BEYOND = 1e300  # no knob reaches so far; an integer of a file may be too long for a float
_EXACT = 14  # significant digits that a float always holds


@dataclass(frozen=True, slots=True)
class When:
    """The condition under which a knob counts: another knob, and that knob's values."""

    knob: str
    values: tuple[Value, ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.knob})

    def holds(self, values: Mapping[str, Value]) -> bool:
        return values[self.knob] in self.values

    def __str__(self) -> str:
        return f"{self.knob} is {' or '.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition under which a knob counts that several knobs or numbers decide."""

    expression: Expression

    @property
    def names(self) -> frozenset[str]:
        return self.expression.names

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Returns whether it is true; where it is undefined, it is not."""
        try:
            return self.expression.exact(values) is True
        except PolicyError:
            return False

    def __str__(self) -> str:
        return self.expression.text


@dataclass(frozen=True, slots=True)
class Knob:
    """Fields that a trial may move: `choices`, or a range [low, high] with an optional step."""

    name: str
    at: str  # policy#/pointer; of several fields the first
    low: float | int = 0
    high: float | int = 0
    step: float | int | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    options: Mapping[str, Any] | None = None  # choice -> the structure that the pack holds for it
    integral: bool = False  # the policy's schema says integer
    when: When | Condition | None = None
    narrows: str | None = None  # "down" or "up": the side on which a candidate before leaves values
    around: float | None = None  # greatest distance from the authority's value
    together: Together | None = None  # how it moves several fields, or the numbers within one

    @classmethod
    def of(
        cls,
        name: str,
        row: Mapping[str, Any],
        field: str,
        integral: bool = False,
        together: Together | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> Knob:
        """Returns the knob that a lane's file declares; `integral` is what the policy's schema says of its field.

        `constants` are further names that its condition may use. Raises LaneError naming the field and what is wrong.
        """
        at = row["at"] if isinstance(row["at"], str) else row["at"][0]
        when = _when(row.get("when"), f"{field}/when", constants or {})
        cuts: dict[str, Any] = {key: row[key] for key in ("narrows", "around") if key in row}
        if together is not None:
            cuts["together"] = together
        limits = [key for key in cuts if key != "together"]
        if limits and not all(map(is_number, row.get("choices", row.get("options", ())))):
            raise LaneError(f"{field}/{limits[0]}: only a knob of numbers has it, and its values are not numbers")
        if "choices" in row:
            choices = (_whole(choice) if integral else choice for choice in row["choices"])
            return cls(name, at, choices=tuple(choices), integral=integral, when=when, **cuts)
        if "options" in row:
            return cls(name, at, choices=tuple(row["options"]), options=row["options"], when=when, **cuts)
        low, high = (_bound(row[key], integral, f"{field}/{key}", at) for key in ("low", "high"))
        step = _bound(row["step"], integral, f"{field}/step", at) if "step" in row else None
        log = row.get("scale") == "log"
        if not low < high:
            raise LaneError(f"{field}: low {low:g} is not below high {high:g}")
        if log and (low <= 0 or step is not None):
            raise LaneError(f"{field}: a log scale needs low above 0 and no step")
        if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
            raise LaneError(f"{field}: step {step:g} does not divide the range {low:g} … {high:g}")
        return cls(name, at, low, high, step, log, integral=integral, when=when, **cuts)

    def cut(self, limit: float, down: bool, whose: str) -> Knob:
        """Returns the knob without the values above a limit (`down`) or below it; `whose` names the limit in an error.

        Raises LaneError where no value is left.
        """
        kept = [number for number in self._numbers or self.span if (number <= limit if down else number >= limit)]
        if not kept:
            raise LaneError(
                f"{whose} is {limit:g}: no value of {self.range_text()} is at {'most' if down else 'least'} that"
            )
        if self.choices:
            return replace(self, choices=tuple(kept))
        if len(kept) == 2:
            return self
        end = limit if self._spacing is None else self.rounded(limit, up=not down)
        assert is_number(end)  # as all values of a range are
        if end == kept[0]:  # a range has two ends
            return replace(self, low=0, high=0, step=None, log=False, choices=(kept[0],))
        return replace(self, high=end) if down else replace(self, low=end)

    @property
    def scale(self) -> str:
        return "log" if self.log else "linear"

    @property
    def extent(self) -> tuple[Value, ...]:
        return self.choices or (self.low, self.high)

    def ends(self) -> tuple[Any, ...]:
        """Returns the pack's content at each choice, or at both ends; if both ends are valid, so is all between."""
        return tuple(map(self.placed, self.extent))

    @property
    def fields(self) -> tuple[str, ...]:
        """Returns the addresses that the lane gives the knob."""
        return (self.at,) if self.together is None else tuple(self.together.contents)

    @property
    def fields_text(self) -> str:
        """Returns what it moves, in short."""
        more = len(self.fields) - 1
        by = "" if self.together is None or self.together.by == "set" else f" ({self.together.by})"
        return f"{self.at}{f' and {more} more' if more else ''}{by}"

    def contents(self, value: Value) -> dict[str, Any]:
        """Returns field -> the pack's content for a value of the knob."""
        if self.together is None or self.together.by == "set":
            return dict.fromkeys(self.fields, self.placed(value))
        assert is_number(value)  # as `Together.check` asks for
        return self.together.moved(value)

    def found(self, contents: Mapping[str, Any]) -> Value | None:
        """Returns a value that gives the fields these contents; None where no value does."""
        if self.together is None:
            return self.value_of(contents[self.at])
        if self.together.by == "set":
            value = self.value_of(contents[self.at])
            same = all(content == contents[self.at] for content in contents.values())
            return value if same else None
        near = self.choices or self._around(contents)
        return next((value for value in near if self.contents(value) == contents), None)

    def _around(self, contents: Mapping[str, Any]) -> tuple[Value, ...]:
        """Returns the few values about which the contents are reached, since each number grows or falls with it."""
        assert self.together is not None
        ends = [self.together.reached(contents, lambda unit: float(self.along(unit)), side) for side in (True, False)]
        near = [self.along(unit) for unit in (*ends, sum(ends) / 2)]
        return tuple(dict.fromkeys(chain(near, *((self.beside(v, True), self.beside(v, False)) for v in near))))

    @property
    def lattice(self) -> tuple[Fraction, Fraction] | None:
        """Returns (origin, spacing): its values are origin + a whole number of spacings. None if they are not even.

        The ends of a range without a step are values too, and may lie beside the lattice.
        """
        if self.choices or self.log:
            return None
        if self._spacing is not None:
            return Fraction(repr(self.low)), Fraction(repr(self._spacing))
        return Fraction(0), Fraction(10) ** -self._places(0.0)

    def beside(self, value: Value, up: bool) -> Value:
        """Returns the next allowed value above (`up`) or below; at an end the value itself."""
        if self.choices:
            return self.rounded(math.nextafter(float(value), math.inf if up else -math.inf), up)
        gap = self._spacing or 10.0 ** -self._places(float(value) or self.low)
        return self.nearest(float(value) + (gap if up else -gap))

    def placed(self, value: Value) -> Any:
        """Returns the pack's content for a value of the knob."""
        return value if self.options is None else self.options[str(value)]

    def value_of(self, placed: Any) -> Value | None:
        """Returns the knob's value for a pack's content; None where the knob cannot give that content."""
        if self.choices:
            return next((value for value in self.choices if self.placed(value) == placed), None)
        return placed if is_number(placed) and self.low <= placed <= self.high else None

    def unit(self, value: Value) -> float:
        """Returns a value's position along the knob, 0 … 1 on its own scale."""
        if self.choices:
            return self.choices.index(value) / max(1, len(self.choices) - 1)
        ends = (float(number) for number in (self.low, self.high, value))
        low, high, at = map(math.log, ends) if self.log else ends
        return (at - low) / (high - low)

    def along(self, unit: float) -> Value:
        """Returns the allowed value nearest to a position along the knob."""
        return self.value(round(unit * (len(self.choices) - 1))) if self.choices else self.nearest(self._number(unit))

    def drawn(self, unit: float) -> Value:
        """Returns a value for a uniform draw from [0, 1): each choice, and each value on a step, is equally likely."""
        return self.along(unit) if self.size is None or self.log else self.value(int(unit * self.size))

    @property
    def numeric(self) -> bool:
        """Returns whether every value is a number, so that a constraint may name the knob."""
        return not self.choices or bool(self._numbers)

    @property
    def span(self) -> tuple[float, float]:
        """Returns the least and the greatest value of a numeric knob."""
        ends = self._numbers or (self.low, self.high)
        return min(ends), max(ends)

    @property
    def size(self) -> int | None:
        """Returns how many values are allowed; None for a range of real numbers without a step."""
        if self.choices:
            return len(self.choices)
        return None if self._spacing is None else round((self.high - self.low) / self._spacing) + 1

    def value(self, index: int) -> Value:
        """Returns an allowed value by its index, where `size` counts them."""
        if self.choices:
            return self.choices[index]
        if self.integral or self._spacing is None:
            return self.low + index * (self._spacing or 1)
        if index == round((self.high - self.low) / self._spacing):
            return self.high
        return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))

    def nearest(self, value: Value) -> Value:
        """Returns the allowed value nearest to any number. Text that is not a choice gives the first choice."""
        if value in self.choices:
            return self.choices[self.choices.index(value)]
        if self.choices:
            near = self._numbers if is_number(value) else ()
            return min(near, key=lambda choice: abs(choice - float(value)), default=self.choices[0])
        number = min(max(float(value), self.low), self.high)
        if self._spacing is not None:
            return self.value(round((number - self.low) / self._spacing))
        short = round(number, self._places(number)) + 0.0  # -0.0 is 0.0
        inside = (end for end in (short, self.low, self.high) if self.low <= end <= self.high)
        return min(inside, key=lambda end: abs(end - number))

    def rounded(self, number: float, up: bool) -> Value:
        """Returns the allowed value nearest to a number, not below it (`up`) or not above it where there is one."""
        if self.choices:
            beyond = (choice for choice in self._numbers if (choice >= number if up else choice <= number))
            return min(beyond, key=lambda choice: abs(choice - number), default=self.nearest(number))
        number = min(max(number, self.low), self.high)
        near = self.nearest(number)
        if near == number or (float(near) > number) == up:
            return near
        gap = self._spacing or 10.0 ** -self._places(number)
        return self.nearest(number + gap if up else number - gap)

    def given(self, value: Any) -> Value | None:
        """Returns the allowed value that a value in a file means, up to its last digits; None where it means none."""
        if self.choices:
            same = (choice for choice in self.choices if choice == value and is_number(choice) == is_number(value))
            return next(chain(same, (choice for choice in self.choices if str(choice) == str(value))), None)
        if not is_number(value) or not abs(value) < _BEYOND:
            return None
        near = self.nearest(value)
        if self._spacing is None:
            return near if self.low <= value <= self.high else None
        return near if abs(float(near) - value) <= 1e-6 * self._spacing else None

    def indexed(self, count: int) -> tuple[int, Callable[[int], Value]]:
        """Returns the number of a grid's values, and the function from index to value, as `points` lists them."""
        if self.size is not None and (self.choices or self.step is not None or self.size <= count):
            return self.size, self.value
        spread = tuple(dict.fromkeys(self.along(i / (count - 1)) for i in range(count)))
        return len(spread), spread.__getitem__

    def points(self, count: int) -> tuple[Value, ...]:
        """Returns the values of a grid: every value where there is a step or few integers, else at most `count`."""
        size, value = self.indexed(count)
        return tuple(map(value, range(size)))

    @property
    def _numbers(self) -> tuple[float, ...]:
        """Returns the choices if all are numbers, else nothing."""
        numbers = tuple(choice for choice in self.choices if is_number(choice))
        return numbers if self.options is None and len(numbers) == len(self.choices) else ()

    @property
    def _spacing(self) -> float | None:
        """Returns the distance between neighbouring values; None for a range of real numbers without a step."""
        return 1 if self.step is None and self.integral else self.step

    def _places(self, number: float) -> int:
        """Returns how many decimal places a value near `number` has in a range without a step."""
        if self.log:
            return _DIGITS - 1 - _magnitude(number)
        return min(_DIGITS - _magnitude(self.high - self.low), _EXACT - _magnitude(max(abs(self.low), abs(self.high))))

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


def _when(row: Any, field: str, constants: Mapping[str, Any]) -> When | Condition | None:
    """Returns a condition, as an object or as a text. Raises LaneError if the text cannot be read."""
    if row is None or not isinstance(row, str):
        return None if row is None else When(row["knob"], tuple(row["is"]))
    try:
        return Condition(parse(row, field).given(constants))
    except PolicyError as error:
        raise LaneError(str(error)) from None


def is_number(value: Any) -> TypeGuard[float | int]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bound(number: float, integral: bool, field: str, at: str) -> float | int:
    """Returns a bound or step as the type of its field. Raises LaneError for a fraction where the field is integer."""
    if not integral:
        return float(number)
    if number != int(number):
        raise LaneError(
            f"{field}: {number} is not a whole number, and {at} is an integer in the policy's schema: "
            f"give a whole number, such as {math.ceil(number)}"
        )
    return int(number)


def _whole(choice: Value) -> Value:
    """Returns 9 for 9.0: the policy's schema says integer."""
    return int(choice) if isinstance(choice, float) and choice.is_integer() else choice


def _magnitude(number: float) -> int:
    """Returns the exponent of a number's first digit."""
    return math.floor(math.log10(number))
