"""What a lane's document declares about its fields: knobs, names of fields that stand still, and derived fields.

Where a knob leaves out its range, the policy's schema gives it, and the lane's document is completed with it: so a lock
says the range itself. Nothing here runs anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanelock.policies import LaneError, Pack, PolicyError
from lanelock.policies.expressions import Expression, exact_number, parse
from lanelock.policies.pack import is_integer, nodes_at, split_address, value_at
from lanelock.sweeps.lanes.intervals import Domain, outcomes
from lanelock.sweeps.lanes.knob import Knob, Value, is_number
from lanelock.sweeps.lanes.space import Space
from lanelock.sweeps.lanes.together import NEUTRAL, Together, numbers_of

Document = Mapping[str, Any]

_KINDS = ("choices", "options", "low", "high")  # what says which values a knob has
_MOST_CHOICES = 64


@dataclass(frozen=True, slots=True)
class Derived:
    """A field whose content follows from the knobs."""

    at: str
    expression: Expression
    integral: bool  # the policy's schema says integer: the nearest one, a half to the even one

    def content(self, values: Mapping[str, Value]) -> Any:
        """Returns the field's content. Raises PolicyError where the expression is undefined."""
        return self._typed(self.expression.exact(values))

    def ends(self, domains: Mapping[str, Domain], bounds: tuple[float, float]) -> tuple[Any, ...]:
        """Returns the least and greatest content, within the schema's bounds, or all contents that are no numbers."""
        if (affine := self.expression.affine()) is not None:
            spans = {name: domains[name] for name in affine[0]}
            sums = [sorted(weight * exact_number(end) for end in spans[name]) for name, weight in affine[0].items()]
            low, high = (float(affine[1] + sum(row[side] for row in sums)) for side in (0, 1))
        else:
            found = outcomes(self.expression, domains)
            if isinstance(found, frozenset) and not all(map(is_number, found)):
                return tuple(sorted(found, key=str))
            low, high = (min(found), max(found)) if isinstance(found, frozenset) else found
        ends = max(low, bounds[0]), min(high, bounds[1])
        return tuple(round(end) if self.integral and math.isfinite(end) else end for end in ends)

    def _typed(self, value: Any) -> Any:
        if isinstance(value, bool | str):
            return value
        try:
            return round(value) if self.integral else float(value)
        except OverflowError:
            raise PolicyError(f"{self.at}: {self.expression} is beyond all numbers") from None


def completed(document: Document, authority: Pack, where: str) -> Document:
    """Returns a lane's document in which every knob has its range or its choices. Idempotent.

    Raises LaneError for a knob without them to which the policy's schema gives none either.
    """
    rows = {name: _completed(row, authority, f"{where}: /knobs/{name}") for name, row in document["knobs"].items()}
    return document if rows == document["knobs"] else {**document, "knobs": rows}


def _completed(row: Document, authority: Pack, field: str) -> Document:
    kinds = [kind for kind in _KINDS if kind in row]
    if "choices" in kinds or "options" in kinds:
        if len(kinds) > 1:
            raise LaneError(f"{field}: a knob has low and high, or choices, or options; this one has {kinds}")
        return row
    if {"low", "high"} <= set(kinds):
        return row
    if row.get("by", "set") != "set":
        raise LaneError(f"{field}: a knob that moves its fields by {row['by']} needs low and high")
    nodes = [node for at in _addresses(row) for node in _nodes(authority, at, field)]
    if not kinds and (choices := _choices(nodes, field)):
        return {**row, "choices": choices}
    ends = {end: _end(nodes, end) for end in ("low", "high") if end not in row}
    for end in (end for end, number in ends.items() if number is None):
        raise LaneError(
            f"{field}/{end}: missing, and the policy's schema has no {'least' if end == 'low' else 'greatest'} value "
            f"for {_addresses(row)[0]}: give {end}, or choices, or options"
        )
    return {**row, **ends}


def _choices(nodes: Sequence[Document], field: str) -> list[Any]:
    """Returns the values of a field that the schema lists; nothing where it gives a range."""
    listed = [node["enum"] for node in nodes if "enum" in node]
    if not listed and any(node.get("type") == "boolean" for node in nodes):
        return [False, True]
    choices = [value for value in (listed[0] if listed else ()) if all(value in other for other in listed)]
    if any(not isinstance(value, str | int | float) for value in choices) or len(choices) > _MOST_CHOICES:
        raise LaneError(f"{field}: the schema lists values that are no choices of a knob: give choices or options")
    return choices


def _end(nodes: Sequence[Document], end: str) -> float | int | None:
    """Returns the schema's least or greatest value of a field; None where it has none that the field may have."""
    word, step = ("minimum", 1) if end == "low" else ("maximum", -1)
    beyond = f"exclusive{word.capitalize()}"
    numbers = [node[word] for node in nodes if word in node]
    whole = [node for node in nodes if node.get("type") == "integer" and beyond in node]
    numbers += [math.floor(node[beyond]) + 1 if step > 0 else math.ceil(node[beyond]) - 1 for node in whole]
    return (max if end == "low" else min)(numbers, default=None)


def space_of(document: Document, authority: Pack, where: str) -> Space:
    """Returns the space of a lane's document, whose knobs must be different fields, none of them fixed."""
    _check_apart(document, where)
    try:
        start = authority.with_knobs(document["fixed"])
    except PolicyError as error:
        raise LaneError(f"{where}: /fixed: {error}") from None
    constants = constants_of(document, start, where)
    rows = document["knobs"].items()
    knobs = [_knob(name, row, authority, start, constants, f"{where}: /knobs/{name}") for name, row in rows]
    contents = {knob.name: _content(knob, start) for knob in knobs}
    after = document.get("after", {})
    if free := sorted(set(after) - {knob.name for knob in knobs if knob.narrows is not None}):
        raise LaneError(f"{where}: /after/{free[0]}: not the name of a knob that narrows")
    knobs = [_cut(knob, contents[knob.name], after.get(knob.name), f"{where}: /knobs/{knob.name}") for knob in knobs]
    for knob in knobs:
        if knob.together is not None:
            knob.together.check(knob.span if knob.numeric else None, f"{where}: /knobs/{knob.name}")
    return Space.of(knobs, document.get("constraints", ()), contents, where, constants)


def constants_of(document: Document, start: Pack, where: str) -> dict[str, Any]:
    """Returns the content of each field that the lane gives a name to."""
    constants = {}
    for name, at in document.get("constants", {}).items():
        field = f"{where}: /constants/{name}"
        if name in document["knobs"]:
            raise LaneError(f"{field}: {name} is a knob of the lane; a constant needs a name of its own")
        constants[name] = _stated(start, at, field)
        if not isinstance(constants[name], int | float | str):
            raise LaneError(f"{field}: {at} is not a number, a text, true or false")
    return constants


def derived_of(document: Document, space: Space, start: Pack, where: str) -> tuple[Derived, ...]:
    """Returns the derived fields. Raises LaneError for one that is not there or does not follow from knobs."""
    constants, rows = constants_of(document, start, where), []
    for at, text in document.get("derived", {}).items():
        field = f"{where}: /derived/{at}"
        _stated(start, at, field)
        try:
            expression = parse(text, field).given(constants)
            if unknown := sorted(expression.names - space.by_name.keys()):
                raise LaneError(f"{field}: {text}: {unknown[0]} is not a knob of the lane: {', '.join(space.by_name)}")
            expression.exact(space.resting)
        except PolicyError as error:
            raise LaneError(str(error)) from None
        if not expression.names:
            raise LaneError(f"{field}: {text}: it follows from no knob; state it under /fixed")
        rows.append(Derived(at, expression, is_integer(*_schema(start, at))))
    return tuple(rows)


def bounds_of(pack: Pack, at: str) -> tuple[float, float]:
    """Returns the least and the greatest number that the policy's schema allows in a field; infinite where none."""
    nodes = nodes_at(*_schema(pack, at))
    lows = [max(node.get("minimum", -math.inf), node.get("exclusiveMinimum", -math.inf)) for node in nodes]
    highs = [min(node.get("maximum", math.inf), node.get("exclusiveMaximum", math.inf)) for node in nodes]
    return min(lows, default=-math.inf), max(highs, default=math.inf)


def field_of(pack: Pack, at: str, where: str) -> Any:
    policy, pointer = split_address(at)
    return value_at(pack[policy], pointer, where)


def _check_apart(document: Document, where: str) -> None:
    """Raises LaneError if two of fixed, knobs and derived move the same field."""
    fields = [at for row in document["knobs"].values() for at in _addresses(row)]
    if both := sorted(set(document["fixed"]) & set(fields)):
        raise LaneError(f"{where}: {both[0]} is both fixed and a knob")
    if len(set(fields)) < len(fields):
        raise LaneError(f"{where}: /knobs: two knobs move the same field")
    still = [("fixed", "/fixed", at) for at in document["fixed"]]
    still += [("named as a constant", f"/constants/{name}", at) for name, at in document.get("constants", {}).items()]
    moved = [(f"moved by knob {name}", f"/knobs/{name}", at, "by" in row or not isinstance(row["at"], str))
             for name, row in document["knobs"].items() for at in _addresses(row)]  # fmt: skip
    moved += [("derived", f"/derived/{at}", at, True) for at in document.get("derived", {})]
    for place, (_, field, at, new) in enumerate(moved):
        others = [(words, other, new) for words, _, other in still]
        others += [(words, other, new or either) for words, _, other, either in moved[:place]]
        for words, other, either in others:
            constant = words.startswith("named")
            if (either or constant) and _overlap(at, other):
                raise LaneError(f"{where}: {field}: {at} is {words} too" if at == other else
                                f"{where}: {field}: {at} overlaps {other}, which is {words}")  # fmt: skip


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _knob(name: str, row: Document, authority: Pack, start: Pack, constants: Mapping[str, Any], field: str) -> Knob:
    """Returns a knob whose fields are there, with the type that the policy's schema gives them."""
    contents = {at: _stated(start, at, field) for at in _addresses(row)}
    by = row.get("by", "set")
    if isinstance(row["at"], str) and by == "set":
        return Knob.of(name, row, field, is_integer(*_schema(authority, row["at"])), constants=constants)
    numbers = contents if by == "set" else numbers_of(contents)
    integers = frozenset(at for at in numbers if is_integer(*_schema(authority, at)))
    integral = bool(integers) if by == "set" else by == "shift" and len(integers) == len(numbers) > 0
    return Knob.of(name, row, field, integral, Together(by, contents, integers), constants)


def _content(knob: Knob, start: Pack) -> Any:
    """Returns the start's content of a knob's field; where it moves numbers by a law, the value that changes none."""
    if knob.together is not None and knob.together.by != "set":
        return NEUTRAL[knob.together.by]
    return field_of(start, knob.at, knob.at)


def _cut(knob: Knob, start: Any, after: float | None, field: str) -> Knob:
    """Returns a knob as far as it is around the start's content, and not past a candidate's value."""
    if knob.around is not None:
        for limit, down in ((start + knob.around, True), (start - knob.around, False)):
            knob = knob.cut(round(limit, 12), down, f"{field}/around: its {'upper' if down else 'lower'} limit")
    return knob if after is None else knob.cut(after, knob.narrows == "down", f"{field}/narrows: the candidate's value")


def _addresses(row: Document) -> tuple[str, ...]:
    return (row["at"],) if isinstance(row["at"], str) else tuple(row["at"])


def _schema(pack: Pack, at: str) -> tuple[Mapping[str, Any], str]:
    policy, pointer = split_address(at)
    return pack.schemas[policy], pointer


def _nodes(pack: Pack, at: str, field: str) -> Iterable[Document]:
    _stated(pack, at, field)
    return nodes_at(*_schema(pack, at))


def _stated(pack: Pack, at: str, field: str) -> Any:
    """Returns the content of a field of a pack. Raises LaneError or PolicyError, naming the place, if it has none."""
    policy, _ = split_address(at)
    if policy not in pack.policies:
        raise LaneError(f"{field}: {pack.name} has no policy {policy}")
    return field_of(pack, at, field)


def shown(before: Any, after: Any, at: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yields a field's old and new content: a vector or an object number by number if few of them changed."""
    old, new = numbers_of({at: before}), numbers_of({at: after})
    rows = {leaf: (old[leaf], new[leaf]) for leaf in new if leaf in old and old[leaf] != new[leaf]}
    if isinstance(before, list | Mapping) and old.keys() == new.keys() and 0 < len(rows) <= 4:
        yield from rows.items()
    else:
        yield at, (before, after)
