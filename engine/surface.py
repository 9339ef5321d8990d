"""A surface: one published table, held as columns, and the digest of its bytes.

Everything here is frozen, and every array inside is read-only once built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.keep.columns import arrow


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """A column of repeated strings: `values[codes[i]]` is row i's value."""

    codes: NDArray[np.integer[Any]]  # [rows] index into values
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> Categories:
        """A view of these rows, under the same values."""
        return Categories(self.codes[rows], self.values)


Column = NDArray[Any] | Categories


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Surface:
    """One published table, held as columns; `table()` is its Arrow form under the declared schema."""

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
        """A view of these rows."""
        return Surface(self.name, self.schema, {name: column[rows] for name, column in self.columns.items()})

    def table(self) -> pa.Table:
        """The Arrow table: declared columns, types and order, nothing else."""
        arrays = []
        for column, kind in zip(map(self.columns.__getitem__, self.schema.names), self.schema.types, strict=True):
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


def table_digest(table: pa.Table) -> str:
    """SHA-256 over the table's Arrow IPC bytes (hex64): schema and values, no host, clock or chunking."""
    sink = hashlib.sha256()

    class _Digesting:
        """A write-only file, so that no table is copied in order to be hashed."""

        closed = False

        def write(self, data: bytes) -> int:
            sink.update(data)
            return len(data)

        def flush(self) -> None: ...

        def close(self) -> None: ...

        def writable(self) -> bool:
            return True

    with pa.ipc.new_stream(pa.PythonFile(_Digesting(), mode="w"), table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.hexdigest()
