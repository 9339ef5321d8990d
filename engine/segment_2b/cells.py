"""The cells of a user's tables: each column in its declared type, or every fault of the table in one line.

An id is written in digits, or stored as an integer: a float above 2^53 is another number, and 007 beside 7 would be
one merchant. The error has the first row of every kind of fault, and counts the rows like it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lanelock.policies import DataError

Fault = tuple[NDArray[np.bool_], str | Callable[[int], str]]  # [n] whether a row has it; why, perhaps by row from 0
_SHOWN, _LONGEST, _CELL = 3, 240, 60  # further rows that an error names; characters of a reason, and of a cell in it
_WHOLE = r"^(0|[1-9][0-9]*)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TRUTH = r"^((?i)true|false|0|1)$"


def refuse(path: Path, bad: NDArray[np.bool_], reason: str | Callable[[int], str]) -> None:
    """Raises DataError naming the first bad row, counted from 1; `reason` may depend on its index, from 0."""
    refuse_all(path, [(bad, reason)])


def refuse_all(path: Path, faults: Sequence[Fault]) -> None:
    """Raises DataError if any row has a fault: for each fault its first row, and how many rows are like it."""
    found = sorted((int(np.argmax(bad)), place) for place, (bad, _) in enumerate(faults) if bad.any())
    if found:
        raise DataError(f"{path}: {'; '.join(_sentence(row, *faults[place]) for row, place in found)}")


def _sentence(row: int, bad: NDArray[np.bool_], reason: str | Callable[[int], str]) -> str:
    more = np.flatnonzero(bad)[1:] + 1
    sentence = f"row {row + 1}: {clean(reason if isinstance(reason, str) else reason(row))}"
    if not len(more):
        return sentence
    rows = ", ".join(map(str, more[:_SHOWN])) + (", …" if len(more) > _SHOWN else "")
    return f"{sentence}; {len(more):,} more row{'s' * (len(more) > 1)} like it ({rows})"


def clean(text: str, longest: int = _LONGEST) -> str:
    """Returns a text from a file for an error: one line of bounded length, what cannot be printed escaped."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in short)


def typed_columns(
    path: Path, table: pa.Table, types: Mapping[str, Any], needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, NDArray[Any]]:
    """Returns the columns in their Arrow `types`. Raises DataError naming rows and fields, also for empty cells."""
    _check_names(path, table.column_names, needed, optional)
    columns = {name: plain(path, name, table[name]) for name in table.column_names if name in types}
    refuse_all(path, [_fault(name, values, types[name]) for name, values in columns.items()])
    return {name: _typed(values, types[name]) for name, values in columns.items()}


def _check_names(path: Path, seen: list[str], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if missing := [column for column in needed if column not in seen]:
        few = f"column {missing[0]} is" if len(missing) == 1 else f"columns {', '.join(missing)} are"
        found = clean(", ".join(map(repr, seen)))
        raise DataError(f"{path}: {few} missing (needed: {', '.join(needed)}; found: {found})")
    if unknown := [column for column in seen if column not in needed + optional]:
        raise DataError(f"{path}: unknown column {clean(unknown[0])} (known: {', '.join(needed + optional)})")
    if twice := [column for column in needed + optional if seen.count(column) > 1]:
        raise DataError(f"{path}: the column {twice[0]} is given twice")


def plain(path: Path, column: str, values: Any) -> Any:
    """Returns a column without the ways in which a file may store it: coded, as bytes, or as exact decimals."""
    kind = values.type
    try:
        if pa.types.is_dictionary(kind):
            values, kind = values.cast(kind.value_type), kind.value_type
        bytes_like = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
        text_like = pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
        return values.cast(pa.string()) if bytes_like or text_like or pa.types.is_decimal(kind) else values
    except pa.ArrowException as error:
        raise DataError(f"{path}: {column}: {values.type} cannot be read: {clean(str(error))}") from None


def _fault(column: str, values: Any, want: pa.DataType) -> Fault:
    """Returns which cells of a column are empty or not of its type, and why."""
    bad = values.is_null().to_numpy()
    empty = bad.copy()
    bad[~empty] = _misfits(values.drop_null(), want)

    def reason(row: int) -> str:
        if empty[row]:
            return f"{column}: empty, a value of type {want} is needed"
        return f"{column}: {_shown(values[row])} is not of type {want}: {_rule(want, values.type)}"

    return bad, reason


def _misfits(values: Any, want: pa.DataType) -> NDArray[np.bool_]:
    """Returns [n] whether a cell, none of them empty, is not a value of the wanted type."""
    if pa.types.is_integer(want):
        return _not_whole(values, int(np.iinfo(want.to_pandas_dtype()).max))
    if pa.types.is_floating(want):
        return _not_finite(values)
    if pa.types.is_boolean(want):
        return _not_truth(values)
    return _all(values, not (pa.types.is_string(values.type) or pa.types.is_date(values.type)))


def _not_whole(values: Any, largest: int) -> NDArray[np.bool_]:
    if pa.types.is_integer(values.type):
        numbers = values.to_numpy()
        return np.asarray((numbers < 0) | (numbers > largest))
    if not pa.types.is_string(values.type):
        return _all(values, True)
    length, digits = pc.binary_length(values).to_numpy(), len(str(largest))
    above = pc.greater(values, str(largest)).to_numpy()  # of numbers as long as it, the greater text is the greater
    return np.asarray(_unlike(values, _WHOLE) | (length > digits) | ((length == digits) & above))


def _not_finite(values: Any) -> NDArray[np.bool_]:
    if pa.types.is_string(values.type):
        bad = _unlike(values, _NUMBER)
        values = pc.if_else(pa.array(bad), "0", values).cast(pa.float64())  # 1e400 is read as infinite
        return np.asarray(bad | ~np.isfinite(values.to_numpy()))
    if pa.types.is_floating(values.type):
        return np.asarray(~np.isfinite(values.to_numpy()))
    return _all(values, not pa.types.is_integer(values.type))


def _not_truth(values: Any) -> NDArray[np.bool_]:
    if pa.types.is_string(values.type):
        return _unlike(values, _TRUTH)
    if pa.types.is_integer(values.type):
        return ~np.isin(values.to_numpy(), (0, 1))
    return _all(values, not pa.types.is_boolean(values.type))


def _unlike(values: Any, pattern: str) -> NDArray[np.bool_]:
    return ~np.asarray(pc.match_substring_regex(values, pattern).to_numpy(), np.bool_)


def _all(values: Any, answer: bool) -> NDArray[np.bool_]:
    return np.full(len(values), answer)


def _typed(values: Any, want: pa.DataType) -> NDArray[Any]:
    """Returns a column without faults in its type. A whole number above 2^53 may be rounded to a floating one."""
    return np.asarray(values.cast(want, safe=not pa.types.is_floating(want)).to_numpy(zero_copy_only=False))


def _shown(cell: pa.Scalar) -> str:
    """Returns a cell for an error: its value where the type has a plain one."""
    kind = cell.type
    if pa.types.is_string(kind) or (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)):
        return clean(repr(cell.as_py()), _CELL)
    return f"a value of type {clean(str(kind), _CELL)}"


def _rule(want: pa.DataType, given: pa.DataType) -> str:
    """Returns what a cell of a type may hold."""
    if pa.types.is_integer(want):
        inexact = "; a floating-point column is not exact" if pa.types.is_floating(given) else ""
        return f"digits without a leading zero, at most {np.iinfo(want.to_pandas_dtype()).max}{inexact}"
    if pa.types.is_floating(want):
        return "a finite number, with a decimal point"
    return "true or false, 1 or 0" if pa.types.is_boolean(want) else "text"
