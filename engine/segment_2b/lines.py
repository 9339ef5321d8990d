"""JSON Lines by column: the texts of whole columns are joined to lines at once, for speed.

A line's fields come in the order of the mapping. A field is a constant or an array with a JSON text per row; numbers
have enough digits to read back exactly, moments are RFC 3339 in UTC with six fraction digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lanelock.engine.surface import Categories, Surface

AT_ONCE = 1 << 16  # rows joined at a time: bounds memory, and the 2 GiB of an Arrow array of texts
Fields = Mapping[str, Any]


def parts_of(rows: slice) -> Iterator[slice]:
    """Yields slices of at most `AT_ONCE` rows that cover `rows`."""
    for begin in range(rows.start, rows.stop, AT_ONCE):
        yield slice(begin, min(begin + AT_ONCE, rows.stop))


def lines(*objects: Fields) -> Any:
    """Returns the bytes of one line per object of each row, row by row; of one row if every field is a constant."""
    pieces: list[Any] = [""]
    for fields in objects:
        opening = "{"
        for name, value in fields.items():
            pieces[-1] += f'{opening}"{name}":'
            pieces[-1:] = [pieces[-1], value, ""] if isinstance(value, pa.Array) else [pieces[-1] + _text(value)]
            opening = ","
        pieces[-1] += "}\n"
    if len(pieces) == 1:
        return pieces[0].encode()
    joined = pc.binary_join_element_wise(*pieces, "")
    _, ends, texts = joined.buffers()  # the array's text buffer is the content
    return memoryview(texts)[: np.frombuffer(ends, np.int32)[len(joined)]]


def texts(surface: Surface, name: str, rows: slice) -> pa.Array:
    """Returns rows of a column as JSON texts."""
    column, kind = surface[name], surface.schema.field(name).type
    if isinstance(column, Categories):
        return pa.array([_text(value) for value in column.values], pa.string()).take(pa.array(column.codes[rows]))
    if pa.types.is_timestamp(kind):
        moment = pa.array(column[rows], pa.timestamp("us")).cast(pa.string())  # 2026-01-01 00:00:00.000000
        date, time = pc.utf8_slice_codeunits(moment, 0, 10), pc.utf8_slice_codeunits(moment, 11)
        return pc.binary_join_element_wise('"', date, "T", time, 'Z"', "")
    return numbers(column[rows], kind)


def numbers(values: Any, kind: pa.DataType) -> pa.Array:
    """Returns numbers as JSON texts."""
    return pa.array(values, kind).cast(pa.string())


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
