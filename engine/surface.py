"""Surfaces: published tables as columns, and the digest of a table's bytes.

Everything here is frozen, and every array is read-only.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.columns import arrow


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """A column of repeated strings: `values[codes[i]]` is row i's value."""

    codes: NDArray[np.integer[Any]]  # [rows] index into values
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> Categories:
        """Returns a view of these rows, with the same values."""
        return Categories(self.codes[rows], self.values)


Column = NDArray[Any] | Categories


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Surface:
    """One published table, stored as columns."""

    name: str
    schema: pa.Schema
    columns: Mapping[str, Column]
    _digest: str = field(default="", init=False, repr=False)  # of `table()`, once it was asked for; a cache keeps it

    def __getitem__(self, column: str) -> Column:
        return self.columns[column]

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def part(self, rows: slice) -> Surface:
        """Returns a view of these rows."""
        return Surface(self.name, self.schema, {name: column[rows] for name, column in self.columns.items()})

    def table(self) -> pa.Table:
        """Returns the Arrow table, with exactly the declared columns, types and order."""
        arrays = []
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            column = self.columns[name]
            if isinstance(column, Categories):
                values = arrow(column.values, pa.string())
                codes = arrow(np.asarray(column.codes, dtype=np.int32), pa.int32())
                arrays.append(pa.DictionaryArray.from_arrays(codes, values).cast(kind))
            else:
                arrays.append(arrow(column, kind))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def digest(self) -> str:
        """Returns the SHA-256 of the table's bytes (hex64), computed once."""
        if not self._digest:
            object.__setattr__(self, "_digest", table_digest(self.table()))
        return self._digest


def digest_of(surface: Any) -> str:
    """Returns the digest of a surface of any engine; of those that are not ours only `table()` is asked."""
    return surface.digest() if isinstance(surface, Surface) else table_digest(surface.table())


class _Digesting(io.RawIOBase):
    """A write-only file that hashes what is written, so that a table is hashed without a copy."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)


def table_digest(table: pa.Table) -> str:
    """Returns the SHA-256 (hex64) of the table's Arrow IPC bytes: schema and values, whatever the chunking."""
    sink = _Digesting()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.sha256.hexdigest()
