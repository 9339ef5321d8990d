"""What engines of other people return, as surfaces: numbers, columns and tables of any library in one plain form.

An engine may return

    a mapping of names to numbers                       surface `metrics` (name: string, value: double)
    a table, or a mapping of names to columns           surface `output`
    a mapping of names to tables, numbers and columns   a surface of each table's name; `metrics`; `output`

A table is a pandas DataFrame, an Arrow table or record batch (or anything with `__arrow_c_stream__`), a NumPy
structured array, a mapping of names to columns, or a list of mappings, one per row. A column is a list, tuple, range,
NumPy array of one dimension, Arrow array, or pandas Series.

The same content gives the same bytes: chunks, dictionaries (pandas categories), widths of offsets, field metadata and
what lies below a null are not kept; aware moments are in UTC; -0.0 is 0.0, and every NaN has the same bits.
A NaN stays a NaN, while None, NaT, pandas' NA, and a NaN among objects become nulls. Of a pandas index the levels that
have a name are columns, in front; those without a name are dropped. Columns stand in the order in which they are
returned. Everything is copied, so that an engine may use its buffers again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lanelock.engine.columns import arrow, numbers_of
from lanelock.engine.surface import Surface
from lanelock.policies import DataError
from lanelock.policies.names import ALLOWED, is_name

METRICS, OUTPUT = "metrics", "output"  # the surface of the numbers, the surface of the one table
_ALLOWED = "a mapping of names to numbers, columns or tables, or a table (lanelock.engine.tables)"
_UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError)  # what Arrow says of values that it cannot hold


@dataclass(frozen=True, slots=True, eq=False)
class TableSurface(Surface):
    """A surface whose columns are Arrow arrays in plain form, so that nulls, lists and moments are kept."""

    def __getitem__(self, column: str) -> NDArray[Any]:
        """Returns a column as a NumPy array: nulls are NaN among numbers, NaT among moments, else None."""
        values: NDArray[Any] = self.columns[column].to_numpy(zero_copy_only=False)  # type: ignore[union-attr]
        return values

    def part(self, rows: slice) -> TableSurface:
        """Returns a view of these rows."""
        return TableSurface(self.name, self.schema, {name: column[rows] for name, column in self.columns.items()})

    def table(self) -> pa.Table:
        """Returns the Arrow table."""
        return pa.Table.from_arrays([*self.columns.values()], schema=self.schema)


def surfaces_of(result: Any, where: str) -> dict[str, Surface]:
    """Returns what an engine gave, as surfaces by name. Raises DataError naming table, column and row."""
    if _is_pandas(result, "Series"):
        result = result.to_dict()  # such as the means of a frame
    if not isinstance(result, Mapping):
        return {OUTPUT: surface_of(OUTPUT, result, where)}
    numbers, columns, tables = _sorted_out(result, where)
    if columns:
        if OUTPUT in tables:
            raise DataError(f"{where}: {OUTPUT}: given twice: as a table and as the columns {', '.join(columns)}")
        tables = {OUTPUT: columns, **tables}
    if METRICS in tables:
        raise DataError(f"{where}: {METRICS}: a table may not have this name, which is that of the numbers")
    if not numbers and not tables:
        raise DataError(f"{where}: it is empty; give {_ALLOWED}")
    surfaces = {METRICS: metrics_of(numbers)} if numbers else {}
    return surfaces | {name: surface_of(name, table, where) for name, table in tables.items()}


def metrics_of(numbers: Mapping[str, float]) -> Surface:
    """Returns the surface of named numbers, in their order."""
    names, values = arrow([*numbers], pa.string()), arrow(np.array([*numbers.values()], np.float64), pa.float64())
    return _surface(METRICS, {"name": names, "value": _copied(values)})


def surface_of(name: str, table: Any, where: str) -> Surface:
    """Returns one table as a surface. Raises DataError naming table, column and row."""
    if not is_name(name):
        raise DataError(f"{where}: {name!r:.60} is not a name for a table: {ALLOWED}")
    columns = dict[str, pa.Array]()
    for column, values in _columns_of(name, table, where):
        at = f"{where}: {name}: column {column:.60}" if isinstance(column, str) else f"{where}: {name}: {column!r:.60}"
        if not isinstance(column, str) or not column:
            raise DataError(f"{at}: the name of a column is a text that is not empty")
        if column in columns:
            raise DataError(f"{at}: there are two of this name")
        columns[column] = _column(values, at)
    if not columns:
        raise DataError(f"{where}: {name}: the table has no column")
    _check_lengths(columns, f"{where}: {name}")
    return _surface(name, columns)


def _check_lengths(columns: Mapping[str, pa.Array], where: str) -> None:
    first, *others = columns
    for column in others:
        if len(columns[column]) != len(columns[first]):
            rows = f"{len(columns[column])} rows, column {first} has {len(columns[first])}"
            raise DataError(f"{where}: column {column}: it has {rows}")


def _surface(name: str, columns: Mapping[str, pa.Array]) -> Surface:
    return TableSurface(name, pa.schema([(column, values.type) for column, values in columns.items()]), columns)


def _sorted_out(result: Mapping[Any, Any], where: str) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]]:
    """Returns the numbers, the bare columns and the tables of a mapping."""
    numbers, columns, tables = dict[str, float](), dict[str, Any](), dict[str, Any]()
    for name, value in result.items():
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: {name!r:.60}: the name of what is returned is a text that is not empty")
        if _is_column(value):
            columns[name] = value
        elif _table_kind(value) is not None:
            tables[name] = value
        else:
            numbers[name] = _number(value, f"{where}: {name}")
    return numbers, columns, tables


def _number(value: Any, where: str) -> float:
    """Returns a number of any library as a float; an array is one only if it has no dimension."""
    try:
        if isinstance(value, np.generic | np.ndarray):
            kind = value.dtype.kind if value.ndim == 0 else ""
            if kind not in "biufO":
                raise TypeError
        elif isinstance(value, str | bytes | bytearray):
            raise TypeError
        return float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: {_shown(value)} is neither a number, a column nor a table; "
            "a number that cannot be measured is given as NaN"
        ) from None


# --- tables of any library as columns -------------------------------------------------------------------------------


def _columns_of(name: str, table: Any, where: str) -> Iterable[tuple[Any, Any]]:
    """Returns (name, values) of each column of a table. Raises DataError if it is none."""
    kind = _table_kind(table)
    if kind is None:
        raise DataError(f"{where}: it is {_shown(table)}; give {_ALLOWED}")
    try:
        return kind(table)
    except _UNFIT as error:
        raise DataError(f"{where}: {name}: {_said(error)}") from None


def _table_kind(value: Any) -> Callable[[Any], Iterable[tuple[Any, Any]]] | None:
    """Returns how the columns of a value are taken; None if it is no table."""
    if isinstance(value, Mapping):
        return lambda mapping: mapping.items()
    if isinstance(value, np.ndarray):
        return _of_structure if value.dtype.names is not None and value.ndim == 1 else None
    if _is_pandas(value, "DataFrame"):
        return _of_frame
    if isinstance(value, pa.RecordBatch) or hasattr(value, "__arrow_c_stream__"):
        return _of_arrow if not _is_column(value) else None
    return _of_rows if _are_rows(value) else None


def _of_structure(array: NDArray[Any]) -> Iterable[tuple[Any, Any]]:
    return [(name, array[name]) for name in array.dtype.names or ()]


def _of_frame(frame: Any) -> Iterable[tuple[Any, Any]]:
    levels = [(name, frame.index.get_level_values(at)) for at, name in enumerate(frame.index.names) if name is not None]
    return [*levels, *frame.items()]


def _of_arrow(value: Any) -> Iterable[tuple[Any, Any]]:
    table = value if isinstance(value, pa.Table | pa.RecordBatch) else pa.table(value)
    table.validate(full=True)  # texts that are no UTF-8 among it
    return zip(table.column_names, table.columns, strict=True)


def _of_rows(rows: Sequence[Mapping[Any, Any]]) -> Iterable[tuple[Any, Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [(name, [row.get(name) for row in rows]) for name in names]


def _are_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(row, Mapping) for row in value)


def _is_column(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.names is None
    if isinstance(value, list | tuple | range):
        return not _are_rows(value)
    return isinstance(value, pa.Array | pa.ChunkedArray) or _is_pandas(value, "Series") or _is_pandas(value, "Index")


def _is_pandas(value: Any, kind: str) -> bool:
    """Returns whether a value is of one of pandas' types, without importing pandas: else it cannot be one."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, getattr(pandas, kind, ()))


# --- columns in their plain form ------------------------------------------------------------------------------------


def _column(values: Any, where: str) -> pa.Array:
    """Returns a column in its plain form. Raises DataError after `where`, with the row where one is at fault."""
    try:
        if not _is_column(values):
            raise TypeError(f"{_shown(values)} is not a column: give a list or an array")
        made = _as_arrow(values, where)
        chunks = made.chunks if isinstance(made, pa.ChunkedArray) else [made]
        plain = [chunk.cast(_plain_type(chunk.type)) for chunk in map(_decoded, chunks)]
        if not plain:
            plain = [pa.array([], _plain_type(made.type))]
        return _copied(plain[0] if len(plain) == 1 else pa.concat_arrays(plain))
    except _UNFIT as error:
        raise DataError(f"{where}: {_said(error)}") from None


def _as_arrow(values: Any, where: str) -> pa.Array | pa.ChunkedArray:
    """Returns values as Arrow holds them."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if not isinstance(values, np.ndarray | list | tuple | range):  # of pandas
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
    except _UNFIT:  # a NaN among texts is what pandas calls missing
        fits, fails = 0, len(values)
    try:
        return pa.array(values, from_pandas=True)
    except _UNFIT:
        while fails - fits > 1:
            half = (fits + fails) // 2
            fits, fails = (half, fails) if _fit(values[:half]) else (fits, half)
    what = "does not fit the rows above" if _fit(values[fails - 1 : fails]) else "is of no type that Arrow has"
    raise DataError(f"{where}, row {fails}: {_shown(values[fails - 1])} {what}")


def _fit(values: list[Any]) -> bool:
    try:
        pa.array(values, from_pandas=True)
    except _UNFIT:
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


def _copied(array: pa.Array) -> pa.Array:
    """Returns an array of a plain type in buffers of its own: no offset, no spare bytes, zeros below nulls."""
    kind, rows, valid, bitmap = array.type, len(array), None, None
    if pa.types.is_null(kind):
        return pa.nulls(rows)
    if array.null_count:
        valid = numbers_of(pc.is_valid(array).cast(pa.uint8()))
        bitmap = _packed(valid)
    if pa.types.is_struct(kind):
        return pa.Array.from_buffers(kind, rows, [bitmap], children=[_copied(part) for part in array.flatten()])
    if pa.types.is_list(kind):
        lengths = numbers_of(pc.fill_null(pc.list_value_length(array), 0))
        return pa.Array.from_buffers(kind, rows, [bitmap, _ends(lengths)], children=[_copied(array.flatten())])
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


def _shown(value: Any) -> str:
    """Returns a value as errors show it."""
    try:
        text = ascii(value)
    except Exception:  # an object of a user's own may fail to say what it is
        text = ""
    return " ".join(f"{type(value).__name__} {text}".split())[:80]


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
