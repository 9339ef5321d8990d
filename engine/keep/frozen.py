"""Writes a state's value to files and reads it back exactly: arrays in Arrow IPC, everything else as a JSON tree.

A value is built of frozen dataclasses that the engine names (`Kinds`), tuples, lists, mappings, strings, numbers and
arrays. Arrays of one length share a file; an array that is used twice is written once. Files are read through private
mappings, without a copy: an array is writeable or read-only as it was before (a compiled law sees the same type), and
a write never reaches the file.
"""

from __future__ import annotations

import base64
import mmap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.columns import arrow
from lanelock.policies import IntegrityError

FORMAT = 3  # version of tree and files; entries of another version count as absent
Kinds = Mapping[str, type]  # name in the tree -> dataclass; no other type is written or built
_PLAIN = (str, int, float, bool, type(None))


def write_value(value: Any, folder: Path, kinds: Kinds) -> dict[str, Any]:
    """Writes the arrays of `value` to `folder` and returns the JSON tree that `read_value` takes."""
    columns = _Columns(kinds)
    tree = columns.tree_of(value)
    for rows, names in columns.by_rows().items():
        table = pa.table({name: columns.arrow(name) for name in names})
        with pa.OSFile(str(folder / f"rows-{rows}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return {"value": tree, "columns": columns.kinds}


def read_value(document: Mapping[str, Any], mapped: Mapping[str, mmap.mmap], kinds: Kinds) -> Any:
    """Returns the value of a tree, over the mapped files of its folder by name.

    The files are not trusted: a type that is not one of `kinds` raises IntegrityError.
    """
    tables = {name: _Mapped(data) for name, data in mapped.items()}
    columns = {
        name: tables[f"rows-{kind['rows']}.arrow"].column(name, kind) for name, kind in document["columns"].items()
    }
    return _value_of(document["value"], columns, kinds)


class _Columns:
    """The arrays of a value, named in the order of first use; an array that is used again keeps its name."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = {kind: name for name, kind in kinds.items()}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._names: dict[int, str] = {}
        self.kinds: dict[str, dict[str, Any]] = {}

    def tree_of(self, node: Any) -> Any:
        if isinstance(node, np.generic):
            return {"column": self._add(np.asarray(node)), "scalar": True}
        if isinstance(node, _PLAIN):
            return node
        if isinstance(node, np.ndarray):
            return {"column": self._add(node)}
        if isinstance(node, tuple | list):
            return {type(node).__name__: [self.tree_of(part) for part in node]}
        if isinstance(node, Mapping):
            return {"map": [[key, self.tree_of(part)] for key, part in node.items()]}
        if isinstance(node, pa.Schema):
            return {"schema": base64.b64encode(node.serialize().to_pybytes()).decode()}
        if is_dataclass(node) and type(node) in self._kinds:
            parts = {field.name: self.tree_of(getattr(node, field.name)) for field in fields(node)}
            return {"type": self._kinds[type(node)], "fields": parts}
        raise TypeError(f"a state may not hold {type(node)}: it cannot be kept")

    def by_rows(self) -> dict[int, list[str]]:
        names: dict[int, list[str]] = {}
        for name, array in self._arrays.items():
            names.setdefault(array.size, []).append(name)
        return names

    def arrow(self, name: str) -> pa.Array:
        """Returns an array for Arrow: fixed-width values as numbers of that width, strings and bytes as they are."""
        flat = np.ascontiguousarray(self._arrays[name]).ravel()
        if flat.dtype.kind in "OU":
            return arrow(flat.tolist(), pa.large_binary() if _holds_bytes(flat) else pa.large_string())
        carried = flat.view(_carrier(flat.dtype))
        return arrow(carried, pa.from_numpy_dtype(carried.dtype))

    def _add(self, array: NDArray[Any]) -> str:
        if id(array) not in self._names:
            name = self._names[id(array)] = f"c{len(self._arrays)}"
            self._arrays[name] = array  # a reference, so that no other array takes its id
            self.kinds[name] = {
                "dtype": array.dtype.str,
                "rows": array.size,
                "shape": list(array.shape),
                "writeable": array.flags.writeable,
            }
        return self._names[id(array)]


class _Mapped:
    """One Arrow IPC file in a private mapping."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._buffer = data, pa.py_buffer(data)
        self._table = pa.ipc.open_file(pa.BufferReader(self._buffer)).read_all()

    def column(self, name: str, kind: Mapping[str, Any]) -> NDArray[Any]:
        dtype, shape = np.dtype(kind["dtype"]), tuple(kind["shape"])
        values: Any = self._table[name].chunk(0) if kind["rows"] else []
        if dtype.kind in "OU" or not len(values):
            array = np.empty(len(values), dtype)
            array[:] = values.to_pylist() if kind["rows"] else []
        else:  # Arrow's views are read-only; a view of the mapping itself may be writeable
            at = values.buffers()[1].address - self._buffer.address + values.offset * dtype.itemsize
            array = np.frombuffer(self._data, dtype, len(values), at)
        array = array.reshape(shape)
        array.flags.writeable = kind["writeable"]
        return array


def _value_of(node: Any, columns: Mapping[str, NDArray[Any]], kinds: Kinds) -> Any:
    if isinstance(node, _PLAIN):
        return node
    if "column" in node:
        array = columns[node["column"]]
        return array[()] if node.get("scalar") else array
    if "tuple" in node:
        return tuple(_value_of(part, columns, kinds) for part in node["tuple"])
    if "list" in node:
        return [_value_of(part, columns, kinds) for part in node["list"]]
    if "map" in node:
        return {key: _value_of(part, columns, kinds) for key, part in node["map"]}
    if "schema" in node:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(node["schema"])))
    if node["type"] not in kinds:
        raise IntegrityError(f"/type: {node['type']!r} is none of the types that are kept: {', '.join(sorted(kinds))}")
    kind, parts = kinds[node["type"]], {name: _value_of(part, columns, kinds) for name, part in node["fields"].items()}
    own = {field.name: parts.pop(field.name) for field in fields(kind) if not field.init}
    value = kind(**parts)
    for name, part in own.items():  # what the type had filled in by itself
        object.__setattr__(value, name, part)
    return value


def _carrier(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The plain number type that carries a fixed-width type bit by bit: Arrow packs flags and has its own times."""
    return dtype if dtype.kind in "iuf" else np.dtype(f"u{dtype.itemsize}")


def _holds_bytes(values: NDArray[Any]) -> bool:
    return len(values) > 0 and isinstance(values[0], bytes)
