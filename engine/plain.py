"""Columns of any library as Arrow arrays in one plain form, so that the same values give the same bytes.

A column is a list, tuple, range, NumPy array of one dimension, Arrow array, or pandas Series, Index or array. Chunks,
dictionaries (pandas categories), widths of offsets and what lies below a null are not kept; aware moments are in UTC;
-0.0 is 0.0, and every NaN has the same bits. A NaN stays a NaN, while None, NaT, pandas' NA, and a NaN among objects
become nulls. Values are copied.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lanelock.engine.columns import arrow, numbers_of
from lanelock.policies import DataError

_EXTENSION = "api.extensions.ExtensionArray"
_COLUMNS = ("Series", "Index", _EXTENSION)  # of pandas
UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError)  # what Arrow says of values that it cannot hold


def is_column(value: Any) -> bool:
    """Returns whether a value is a column, whatever it holds."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.names is None
    if isinstance(value, list | tuple | range):
        return not are_rows(value)
    return isinstance(value, pa.Array | pa.ChunkedArray) or any(is_pandas(value, kind) for kind in _COLUMNS)


def are_rows(value: Any) -> bool:
    """Returns whether a value is a list of mappings: the rows of a table."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(row, Mapping) for row in value)


def is_pandas(value: Any, kind: str) -> bool:
    """Returns whether a value is of a type of pandas, by its name there; pandas is not imported for the answer."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, attrgetter(kind)(pandas))


def plain_column(values: Any, where: str) -> pa.Array:
    """Returns a column in its plain form. Raises DataError after `where`, with the row where one is at fault."""
    try:
        if not is_column(values):
            raise TypeError(f"{shown(values)} is not a column: give a list or an array")
        made = _as_arrow(values, where)
        chunks = made.chunks if isinstance(made, pa.ChunkedArray) else [made]
        plain = [chunk.cast(_plain_type(chunk.type)) for chunk in map(_decoded, chunks)]
        if not plain:
            plain = [pa.array([], _plain_type(made.type))]
        return copied(plain[0] if len(plain) == 1 else pa.concat_arrays(plain))
    except UNFIT as error:
        raise DataError(f"{where}: {said(error)}") from None


def _as_arrow(values: Any, where: str) -> pa.Array | pa.ChunkedArray:
    """Returns values as Arrow holds them."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if not isinstance(values, np.ndarray | list | tuple | range):  # of pandas
        if is_pandas(values, _EXTENSION):
            values = sys.modules["pandas"].Series(values)
        if _awareness(values.dtype) is not None:
            moments = pa.array(values.array.tz_convert(None).to_numpy())
            return moments.cast(pa.timestamp(moments.type.unit, "UTC"))
        if not isinstance(values.dtype, np.dtype):
            return pa.array(values, from_pandas=True)
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise ValueError(f"it has {values.ndim} dimensions; a column has one")
        if values.dtype.kind in "biuf" and not isinstance(values, np.ma.MaskedArray):
            return _of_numbers(values)
        if values.dtype.kind != "O":
            return pa.array(values)
    return _of_objects(list(values), where)


def _awareness(kind: Any) -> Any:
    """Returns where the moments of a type of Arrow or pandas are local to; None if they are naive."""
    return getattr(kind, "tz", None)


def _of_numbers(values: NDArray[Any]) -> pa.Array:
    """Returns numbers as an Arrow array, without asking pandas whether they are its own."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return arrow(native, pa.from_numpy_dtype(native.dtype))


def _of_objects(values: list[Any], where: str) -> pa.Array:
    """Returns Python objects as an Arrow array. Raises DataError naming the first row that does not fit."""
    if all(type(value) is float for value in values):
        return arrow(np.array(values, np.float64), pa.float64())
    try:
        return pa.array(values)
    except UNFIT:  # a NaN among texts is what pandas calls missing
        fits, fails = 0, len(values)
    try:
        return pa.array(values, from_pandas=True)
    except UNFIT:
        while fails - fits > 1:
            half = (fits + fails) // 2
            fits, fails = (half, fails) if _fit(values[:half]) else (fits, half)
    what = "does not fit the rows above" if _fit(values[fails - 1 : fails]) else "is of no type that Arrow has"
    raise DataError(f"{where}, row {fails}: {shown(values[fails - 1])} {what}")


def _fit(values: list[Any]) -> bool:
    try:
        pa.array(values, from_pandas=True)
    except UNFIT:
        return False
    return True


def _decoded(array: pa.Array) -> pa.Array:
    """Returns an array without what only says how it is stored."""
    if isinstance(array, pa.ExtensionArray):
        return _decoded(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return _decoded(array.dictionary_decode())
    if isinstance(array, pa.RunEndEncodedArray):
        return _decoded(pc.run_end_decode(array))
    return array


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type in which values of a kind are kept, which Parquet reads back. Raises TypeError for others."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp("ms" if kind.unit == "s" else kind.unit, "UTC" if _awareness(kind) else None)
    if types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_struct(kind) and kind.num_fields:
        return pa.struct([(field.name, _plain_type(field.type)) for field in kind])
    if any(test(kind) for test in _LISTS):
        return pa.list_(_plain_type(kind.value_type))
    for test, plain in _PLAIN:
        if test(kind):
            return kind if plain is None else plain
    raise TypeError(f"values of the type {kind} cannot be kept")


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType | None], ...] = (
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_date64, pa.date32()),
    (lambda kind: kind == pa.time32("s"), pa.time32("ms")),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    *(
        (test, None)
        for test in (
            pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string,
            pa.types.is_binary, pa.types.is_fixed_size_binary, pa.types.is_decimal, pa.types.is_date, pa.types.is_time,
            pa.types.is_duration,
        )
    ),
)  # fmt: skip


def copied(array: pa.Array) -> pa.Array:
    """Returns an array of a plain type in buffers of its own: no offset, no spare bytes, zeros below nulls."""
    kind, rows, valid, bitmap = array.type, len(array), None, None
    if pa.types.is_null(kind):
        return pa.nulls(rows)
    if array.null_count:
        valid = numbers_of(pc.is_valid(array).cast(pa.uint8()))
        bitmap = _packed(valid)
    if pa.types.is_struct(kind):
        return pa.Array.from_buffers(kind, rows, [bitmap], children=[copied(part) for part in array.flatten()])
    if pa.types.is_list(kind):
        lengths = numbers_of(pc.fill_null(pc.list_value_length(array), 0))
        return pa.Array.from_buffers(kind, rows, [bitmap, _ends(lengths)], children=[copied(array.flatten())])
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = numbers_of(pc.fill_null(pc.binary_length(array), 0))
        data = pc.fill_null(array, b"" if pa.types.is_binary(kind) else "") if bitmap else array
        return pa.Array.from_buffers(kind, rows, [bitmap, _ends(lengths), _text_of(data)])
    if pa.types.is_boolean(kind):
        flags = numbers_of(pc.fill_null(array, False).cast(pa.uint8()))
        return pa.Array.from_buffers(kind, rows, [bitmap, _packed(flags)])
    return pa.Array.from_buffers(kind, rows, [bitmap, _values(array, valid)])


def _packed(flags: NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _ends(lengths: NDArray[Any]) -> pa.Buffer:
    ends = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=ends[1:])
    return pa.py_buffer(ends)


def _text_of(array: pa.Array) -> pa.Buffer:
    """Returns the bytes of texts without nulls, end to end."""
    _, ends, data = array.buffers()
    first, last = np.frombuffer(ends, np.int32)[[array.offset, array.offset + len(array)]] if len(array) else (0, 0)
    return pa.py_buffer(data[first:last].to_pybytes() if data is not None else b"")


def _values(array: pa.Array, valid: NDArray[Any] | None) -> pa.Buffer:
    """Returns values of a fixed width: zeros where they are not valid, one zero and one NaN among floats."""
    width, data = array.type.bit_width // 8, array.buffers()[1]
    raw = np.frombuffer(data if data is not None else b"", np.uint8, len(array) * width, array.offset * width).copy()
    if valid is not None:
        raw.reshape(-1, width)[valid == 0] = 0
    if pa.types.is_floating(array.type):
        numbers = raw.view(f"f{width}")
        with np.errstate(invalid="ignore"):  # of a NaN that signals
            numbers[np.isnan(numbers)] = np.nan
            numbers += 0.0
    return pa.py_buffer(raw)


def number_of(value: Any) -> float | None:
    """Returns a number of any library as a float, and None for anything else; an array must have no dimension."""
    try:
        if isinstance(value, np.generic | np.ndarray):
            if value.ndim > 0 or value.dtype.kind not in "biufO":
                return None
        elif isinstance(value, str | bytes | bytearray):
            return None
        return float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf
    except (TypeError, ValueError):
        return None


def shown(value: Any) -> str:
    """Returns a value as errors show it."""
    if value is None:
        return "None"
    try:
        text = re.sub(" at 0x[0-9a-f]+", "", ascii(value))  # an address differs in every process
    except Exception:  # an object of a user's own may fail to say what it is
        text = ""
    return " ".join(f"{type(value).__name__} {text}".split())[:80]


def said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
