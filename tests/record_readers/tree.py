"""A tree in the record's form: the files below a run's root, each read by its dataset's schema, strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from record_readers.datasets import BUNDLE_INDEX, Bundle, Document, Folder, Table
from record_readers.kinds import HEX64, refuse

_OF_THE_RUN = ("run_id", "parameter_hash", "manifest_fingerprint", "created_utc")  # long texts, the same in every row


class Tree:
    """A run's root folder and the values of its partitions. Remembers which files were read, and the tables."""

    def __init__(self, root: Path, *, seed: int, manifest_fingerprint: str, parameter_hash: str, run_id: str) -> None:
        self.root = root
        self.values = {
            "seed": str(seed),
            "manifest_fingerprint": manifest_fingerprint,
            "parameter_hash": parameter_hash,
            "run_id": run_id,
        }
        self._read: set[Path] = set()
        self._tables: dict[str, pa.Table] = {}

    def place(self, path: str) -> Path:
        """Returns a path with the partitions' values in it."""
        return self.root / path.format(**self.values)

    def files(self, path: str) -> list[Path]:
        """Returns the files that a path with `*` stands for, in order; a path of a folder, the Parquet files in it."""
        place = self.place(path)
        if "*" in path:
            return sorted(self.root.glob(place.relative_to(self.root).as_posix()))
        if place.suffix:
            return [place]
        return sorted(place.glob("*.parquet"))

    def bytes(self, path: Path) -> bytes:
        """Returns the content of a file below the root."""
        if not path.is_file():
            refuse(str(path), "missing")
        self._read.add(path)
        return path.read_bytes()

    def json(self, path: Path) -> Any:
        """Returns a file's JSON; a field that is there twice is refused."""
        try:
            return json.loads(self.bytes(path), object_pairs_hook=_distinct)
        except ValueError as error:
            return refuse(str(path), str(error))

    def document(self, dataset: Document) -> Any:
        """Returns a document that its schema allows."""
        path = self.place(dataset.path)
        found = self.json(path)
        dataset.kind.value(found, str(path))
        return found

    def table(self, dataset: Table) -> pa.Table:
        """Returns the rows of a dataset, from all its files, that its schema allows, in their order."""
        if dataset.path in self._tables:
            return self._tables[dataset.path]
        files = self.files(dataset.path)
        if not files and "*" not in dataset.path:
            refuse(str(self.place(dataset.path)), "missing")
        parts = [self._part(path, dataset) for path in files]
        whole = pa.concat_tables(parts).combine_chunks() if parts else _empty(dataset)
        _in_order(whole, dataset, dataset.path)
        self._tables[dataset.path] = whole
        return whole

    def bundle(self, dataset: Bundle) -> Mapping[str, str]:
        """Returns path -> SHA-256 of a bundle whose index and flag pass the files that they name."""
        folder = self.place(dataset.path)
        index = self.json(folder / "index.json")
        BUNDLE_INDEX.value(index, str(folder / "index.json"))
        stated = {row["path"]: row["sha256_hex"] for row in index}
        if len(stated) != len(index) or list(stated) != sorted(stated):
            refuse(str(folder / "index.json"), "paths are not in ASCII order, each once")
        whole = hashlib.sha256()
        for name, digest in stated.items():
            data = self.bytes(folder / name if (folder / name).is_file() else self.root / name)
            whole.update(data)
            if hashlib.sha256(data).hexdigest() != digest:
                refuse(str(folder / name), "its sha256 is not that of the index")
        if self.flag(dataset) != whole.hexdigest():
            refuse(str(folder / "_passed.flag"), "it does not pass the bytes of the index")
        return stated

    def flag(self, dataset: Bundle) -> str:
        """Returns the digest in a bundle's flag."""
        path = self.place(dataset.path) / "_passed.flag"
        name, mark, digest = self.bytes(path).decode().partition(" = ")
        if name != "sha256_hex" or not mark or not digest.endswith("\n"):
            refuse(str(path), "not one line `sha256_hex = …`")
        HEX64.value(digest[:-1], str(path))
        return digest[:-1]

    def folder(self, dataset: Folder) -> dict[str, bytes]:
        """Returns the content of every file of a folder, by name."""
        place = self.place(dataset.path)
        found = {path.relative_to(place).as_posix(): self.bytes(path) for path in _files_below(place)}
        if not found:
            refuse(str(place), "empty or missing")
        return found

    def digest(self, path: str) -> str:
        """Returns the SHA-256 of a file, or of a folder: of its files' bytes in ASCII order, without its flag."""
        place = self.root / path
        if place.is_file():
            return hashlib.sha256(self.bytes(place)).hexdigest()
        whole, files = hashlib.sha256(), [file for file in _files_below(place) if file.name != "_passed.flag"]
        if not files:
            refuse(str(place), "missing")
        for file in files:
            whole.update(self.bytes(file))
        return whole.hexdigest()

    def sizes(self, path: str) -> list[int]:
        """Returns the bytes of a file, or of each file of a folder."""
        place = self.root / path
        return [file.stat().st_size for file in ([place] if place.is_file() else _files_below(place))]

    def unread(self) -> list[str]:
        """Returns the files below the root that no reader opened."""
        return [path.relative_to(self.root).as_posix() for path in _files_below(self.root) if path not in self._read]

    def _part(self, path: Path, dataset: Table) -> pa.Table:
        data, kinds = self.bytes(path), {**dataset.columns, **(dataset.may or {})}
        try:
            found = _lines(data, kinds, path) if path.suffix == ".jsonl" else pq.read_table(pa.BufferReader(data))
        except pa.ArrowException as error:
            return refuse(str(path), str(error))
        _columns(found, dataset, path)
        for name, kind in kinds.items():
            column = found[name]
            if name in dataset.columns and name not in dataset.nullable and column.null_count:
                refuse(str(path), f"{name}: missing in {column.null_count} rows")
            kind.column(column.drop_null(), f"{path}: {name}")
        self._partition(found, path)
        for name in set(_OF_THE_RUN) & set(kinds):
            found = found.set_column(found.column_names.index(name), name, found[name].dictionary_encode())
        return found

    def _partition(self, rows: pa.Table, path: Path) -> None:
        """Refuses rows that state another partition than the one in which they lie."""
        for part in path.relative_to(self.root).parts:
            name, mark, value = part.partition("=")
            if mark and name in rows.column_names and {str(one) for one in pc.unique(rows[name]).to_pylist()} - {value}:
                refuse(str(path), f"{name}: rows of another partition")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a field is there twice")
    return dict(pairs)


def _files_below(folder: Path) -> list[Path]:
    files: Iterator[Path] = (path for path in folder.rglob("*") if path.is_file())
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _lines(data: bytes, kinds: Mapping[str, Any], path: Path) -> pa.Table:
    """Returns JSON Lines as a table of the columns in `kinds`."""
    schema = pa.schema([(name, kind.arrow) for name, kind in kinds.items()])
    if not data:
        return schema.empty_table()
    if not data.endswith(b"\n") or b"\n\n" in data:
        refuse(str(path), "not one object a line")
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error", newlines_in_values=False)
    found = pj.read_json(pa.BufferReader(data), parse_options=options)
    if found.num_rows != data.count(b"\n"):
        refuse(str(path), "not one object a line")
    return found.select(list(kinds))


def _columns(found: pa.Table, dataset: Table, path: Path) -> None:
    """Refuses a table without the columns of its dataset, in their order."""
    names, stated = found.column_names, [*dataset.columns, *(dataset.may or {})]
    if dataset.open:
        names = names[: len(dataset.order)] + [name for name in names[len(dataset.order) :] if name in stated]
    if names != stated:
        refuse(str(path), f"columns {found.column_names}, not {stated}")


def _empty(dataset: Table) -> pa.Table:
    kinds = {**dataset.columns, **(dataset.may or {})}
    return pa.schema([(name, kind.arrow) for name, kind in kinds.items()]).empty_table()


def _in_order(rows: pa.Table, dataset: Table, where: str) -> None:
    """Refuses rows that do not ascend in the columns of the order."""
    if rows.num_rows < 2 or not dataset.order:
        return
    equal, below = None, None
    for name in dataset.order:
        column = rows[name].combine_chunks()
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        less, same = pc.less(after, before), pc.equal(after, before)
        below = less if below is None else pc.or_(below, pc.and_(equal, less))
        equal = same if equal is None else pc.and_(equal, same)
    if pc.any(below).as_py():
        refuse(where, f"rows are not in the order of {', '.join(dataset.order)}")
    if dataset.unique and pc.any(equal).as_py():
        refuse(where, f"two rows have the same {', '.join(dataset.order)}")
