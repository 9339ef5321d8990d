"""The kinds of value that the record's files hold, each checked in a JSON document and in a column of a table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


class Unreadable(Exception):
    """A file that the record's readers refuse: which file, where in it, and why."""


def refuse(where: str, why: str) -> None:
    """Raises Unreadable."""
    raise Unreadable(f"{where}: {why}")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int = 0
    high: int = 2**64 - 1
    arrow: pa.DataType = field(default_factory=pa.uint64)

    def value(self, value: Any, where: str) -> None:
        """Refuses a JSON value that is none."""
        if type(value) is not int or not self.low <= value <= self.high:
            refuse(where, f"{value!r}: not a whole number from {self.low} to {self.high}")

    def column(self, column: pa.ChunkedArray, where: str) -> None:
        """Refuses a column that holds something else."""
        if not pa.types.is_integer(column.type):
            refuse(where, f"{column.type}: not whole numbers")
        for value in pc.min_max(column).as_py().values() if len(column) else ():
            self.value(value, where)


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`; `beyond`: more than `low`."""

    low: float = -math.inf
    high: float = math.inf
    beyond: bool = False
    arrow: pa.DataType = field(default_factory=pa.float64)

    def value(self, value: Any, where: str) -> None:
        """Refuses a JSON value that is none."""
        if type(value) not in (int, float) or not math.isfinite(value):
            refuse(where, f"{value!r}: not a number")
        if not self.low <= value <= self.high or (self.beyond and value == self.low):
            refuse(where, f"{value!r}: out of bounds")

    def column(self, column: pa.ChunkedArray, where: str) -> None:
        """Refuses a column that holds something else."""
        if column.type != self.arrow:
            refuse(where, f"{column.type}: not {self.arrow}")
        if not pc.all(pc.is_finite(column), min_count=0).as_py():
            refuse(where, "not finite")
        for value in pc.min_max(column).as_py().values() if len(column) else ():
            self.value(value, where)


@dataclass(frozen=True, slots=True)
class Text:
    """A text that matches `pattern` from end to end."""

    pattern: str = r".+"
    arrow: pa.DataType = field(default_factory=pa.string)

    def value(self, value: Any, where: str) -> None:
        """Refuses a JSON value that is none."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value, re.DOTALL):
            refuse(where, f"{value!r}: not a text of the form {self.pattern}")

    def column(self, column: pa.ChunkedArray, where: str) -> None:
        """Refuses a column that holds something else."""
        if column.type != self.arrow:
            refuse(where, f"{column.type}: not {self.arrow}")
        for value in pc.unique(column).to_pylist():
            self.value(value, where)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    arrow: pa.DataType = field(default_factory=pa.bool_)

    def value(self, value: Any, where: str) -> None:
        """Refuses a JSON value that is none."""
        if not isinstance(value, bool):
            refuse(where, f"{value!r}: not a flag")

    def column(self, column: pa.ChunkedArray, where: str) -> None:
        """Refuses a column that holds something else."""
        if column.type != self.arrow:
            refuse(where, f"{column.type}: not {self.arrow}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; of one, a constant."""

    values: tuple[Any, ...]

    @property
    def arrow(self) -> pa.DataType:
        """The type of a column of these."""
        kind = type(self.values[0])
        return pa.string() if kind is str else pa.bool_() if kind is bool else pa.uint64()

    def value(self, value: Any, where: str) -> None:
        """Refuses a JSON value that is none of them."""
        if not any(type(value) is type(allowed) and value == allowed for allowed in self.values):
            refuse(where, f"{value!r}: not {' or '.join(map(repr, self.values))}")

    def column(self, column: pa.ChunkedArray, where: str) -> None:
        """Refuses a column that holds something else."""
        for value in pc.unique(column).to_pylist():
            self.value(value, where)


@dataclass(frozen=True, slots=True)
class Anything:
    """An object whose fields the record does not state."""

    def value(self, value: Any, where: str) -> None:
        """Refuses what is no object."""
        if not isinstance(value, dict):
            refuse(where, f"{value!r}: not an object")


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of one kind."""

    of: Any
    least: int = 0

    def value(self, value: Any, where: str) -> None:
        """Refuses a list of which one item is of another kind."""
        if not isinstance(value, list) or len(value) < self.least:
            refuse(where, f"not a list of {self.least} items or more")
        for place, item in enumerate(value):
            self.of.value(item, f"{where}/{place}")


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of these fields and no others; those in `may` may be left out."""

    needed: Mapping[str, Any]
    may: Mapping[str, Any] = field(default_factory=dict)

    def value(self, value: Any, where: str) -> None:
        """Refuses another object."""
        if not isinstance(value, dict):
            refuse(where, f"{value!r}: not an object")
        for name in self.needed:
            if name not in value:
                refuse(where, f"the field {name} is missing")
        for name, inner in value.items():
            kind = self.needed.get(name, self.may.get(name))
            if kind is None:
                refuse(where, f"the field {name} is not known")
            kind.value(inner, f"{where}/{name}")


@dataclass(frozen=True, slots=True)
class Keyed:
    """An object with keys of one form and values of one kind."""

    key: Text
    of: Any

    def value(self, value: Any, where: str) -> None:
        """Refuses another object."""
        if not isinstance(value, dict):
            refuse(where, f"{value!r}: not an object")
        for name, inner in value.items():
            self.key.value(name, where)
            self.of.value(inner, f"{where}/{name}")


def constant(value: Any) -> Choice:
    """Returns the kind that allows one value only."""
    return Choice((value,))


ID64 = Whole(low=1)
UINT64 = Whole()
ORDINAL = Whole(low=1, high=2**31 - 1)
COUNT = Whole(high=2**63 - 1)
HEX64 = Text(r"[0-9a-f]{64}")
HEX32 = Text(r"[0-9a-f]{32}")
HEX = Text(r"[A-Fa-f0-9]+")
ISO2 = Text(r"[A-Z]{2}")
DAY = Text(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
MICROS = Text(DAY.pattern + r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z")
ZONE = Text(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
SHARE = Number(0.0, 1.0)
NAME = Text()
VERSION = Text(r"[0-9]+\.[0-9]+\.[0-9]+")
DECIMAL = Text(r"0|[1-9][0-9]*")
PATH = Text(r"(?!/)(?!.*\\)(?!.*\.\.).+")
PARTITION = Keyed(Text(r"[a-z0-9_]+"), NAME)
STATUS = Choice(("PASS", "FAIL", "WARN"))
OVERALL = Choice(("PASS", "FAIL"))
