"""Columns as Arrow arrays and back, buffer by buffer.

`pa.array` and `to_numpy` do this too, but import pandas in order to ask whether they were given one of its types: an
eighth of a second of every start, for an answer that is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def arrow(values: NDArray[Any] | Sequence[str], kind: pa.DataType) -> pa.Array:
    """Returns values without gaps as an Arrow array; numbers of the kind's own width are not copied."""
    if _is_text(kind):
        return _texts(values, kind)
    numbers = np.ascontiguousarray(values)
    if pa.types.is_boolean(kind):
        numbers = np.packbits(numbers, bitorder="little")
    elif numbers.dtype != dtype_of(kind):
        return pa.array(values, kind)  # which converts, or says why not
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(numbers)])


def numbers_of(array: pa.Array) -> NDArray[Any]:
    """Returns the numbers of an Arrow array without gaps, read-only."""
    dtype = dtype_of(array.type)
    return np.frombuffer(array.buffers()[1] or b"", dtype, len(array), array.offset * dtype.itemsize)


def dtype_of(kind: pa.DataType) -> np.dtype[Any]:
    """Returns the type in which an array holds a column's values: moments as integers, text and bytes as objects."""
    if pa.types.is_boolean(kind) or _is_text(kind):
        return np.dtype(object if _is_text(kind) else np.bool_)
    sign = "f" if pa.types.is_floating(kind) else "u" if pa.types.is_unsigned_integer(kind) else "i"
    return np.dtype(f"{sign}{kind.bit_width // 8}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _texts(values: Any, kind: pa.DataType) -> pa.Array:
    data = [value.encode() if isinstance(value, str) else value for value in values]
    ends = np.zeros(len(data) + 1, np.int32 if pa.types.is_string(kind) else np.int64)
    np.cumsum([len(part) for part in data], out=ends[1:])
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(data))])
