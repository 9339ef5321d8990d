"""How a run lies on disk: paths, partitions and bytes. The layout is the record's, so tools written for it read ours.

Bytes depend on the surface alone. Parquet is written in row groups of a fixed number of rows, with strings as
dictionaries and without the writer's own schema, in which versions differ; a column keeps its declared type by
Parquet's logical types. A log has one file a day.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lanelock.engine.columns import arrow
from lanelock.engine.keep.receipts import text_of
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.geography import compacted
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.policies import DataError
from lanelock.policies.documents import read_json
from lanelock.policies.files import open_file, read_bytes

DATA, REPORTS = Path("data/layer1/2B"), Path("reports/layer1/2B")
VALIDATION = DATA / "validation"
ROW_GROUP = 1 << 17  # rows
_HEAD = 1 << 12  # rows in which most columns of few values show them all
PART = "part-00000.parquet"
_LARGEST = 4 << 30  # bytes of a document that is a table, with a row per merchant


@dataclass(frozen=True, slots=True)
class Address:
    """What the partitions of a run's paths are filled with."""

    seed: int
    manifest_fingerprint: str  # hex64
    parameter_hash: str  # hex64
    run_id: str  # hex32

    @classmethod
    def of(cls, run: Run) -> Address:
        return cls(run.seed, run.world_digest, run.pack.digest, run.run_id)

    @classmethod
    def stated(cls, receipt: Mapping[str, Any]) -> Address:
        """As a run's receipt states it."""
        return cls(*(receipt[name] for name in cls.__slots__))

    def folder(self, dataset: str, partitions: tuple[str, ...], utc_day: str = "") -> Path:
        """The folder of a dataset's partition, relative to the run."""
        values = {**{name: getattr(self, name) for name in self.__slots__}, "utc_day": utc_day}
        return DATA.joinpath(dataset, *(f"{name}={values[name]}" for name in partitions))

    def document(self, dataset: str) -> Path:
        """The file of a dataset that is one JSON document."""
        return self.folder(dataset, ("seed", "manifest_fingerprint")) / f"{dataset}.json"

    def report(self, state: str) -> Path:
        """The file of a state's run report."""
        parts = (f"state={state}", f"seed={self.seed}", f"manifest_fingerprint={self.manifest_fingerprint}")
        return REPORTS.joinpath(*parts, f"{state.lower()}_run_report.json")

    def bundle(self) -> tuple[Path, Path]:
        """Index and flag."""
        place = VALIDATION / f"manifest_fingerprint={self.manifest_fingerprint}"
        return place / "index.json", place / "_passed.flag"


def files_of(surface: Surface, address: Address) -> Iterator[tuple[Path, slice]]:
    """Path and rows of each file of a surface: one, or one a day where it is a log."""
    partitions = TABLES[surface.name].partitions
    if "utc_day" not in partitions:
        yield address.folder(surface.name, partitions) / PART, slice(0, surface.rows)
        return
    for day, rows in days_of(surface):
        yield address.folder(surface.name, partitions, day) / PART, rows


def days_of(surface: Surface) -> Iterator[tuple[str, slice]]:
    """Yields each day of a surface whose rows ascend by time, and its rows."""
    day = surface["utc_day"]
    assert isinstance(day, Categories)
    fresh = np.r_[True, np.diff(day.codes) != 0][: surface.rows]
    for begin, end in itertools.pairwise([*np.flatnonzero(fresh), surface.rows]):
        yield day.values[day.codes[begin]], slice(int(begin), int(end))


def parquet(surface: Surface, rows: slice) -> pa.Buffer:
    """Returns the rows of a surface as the bytes of one Parquet file."""
    schema, options = _form(surface.schema)
    arrays = [_array(surface[field.name], rows, field.type) for field in surface.schema]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, **options)
    return sink.getvalue()


def read_surface(folder: Path, name: str, address: Address) -> Surface:
    """A published surface from its files. Raises DataError naming the file that is missing or cannot be read."""
    with _arrow(folder / address.folder(name, TABLES[name].partitions[:1])):
        return _surface(folder, name, address)


def _surface(folder: Path, name: str, address: Address) -> Surface:
    spec = TABLES[name]
    if name == "s2_alias_index":
        return _read_index(folder / address.document(name))
    if name == "s2_alias_blob":
        return _read_blob(folder / address.folder(name, spec.partitions) / "alias.bin", folder, address)
    above = folder / address.folder(name, spec.partitions[:-1] if "utc_day" in spec.partitions else spec.partitions)
    paths = sorted(above.rglob("*.parquet")) if "utc_day" in spec.partitions else [above / PART]
    tables = [_read_file(path, spec.schema) for path in paths]
    whole = pa.concat_tables([spec.schema.empty_table(), *tables]).combine_chunks()  # a log without rows has no file
    return Surface(name, spec.schema, {field.name: _column(whole[field.name]) for field in spec.schema})


def alias_files(index: Surface, blob: Surface, address: Address) -> dict[Path, bytes]:
    """Returns S2 in the record's form, by path: the index as JSON, the blob as it is."""
    data = bytes(np.asarray(blob["blob"])[0])
    stated = {"size": len(data), "sha256": str(np.asarray(blob["sha256"])[0])}
    document = {"blob": stated, "merchants": index.table().to_pylist()}
    return {
        address.folder("s2_alias_blob", TABLES["s2_alias_blob"].partitions) / "alias.bin": data,
        address.document("s2_alias_index"): text_of(document).encode(),
    }


@cache
def _form(schema: pa.Schema) -> tuple[pa.Schema, dict[str, Any]]:
    """Returns the schema under which a surface is written, and the writer's options."""
    kinds = [pa.dictionary(pa.int32(), kind) if pa.types.is_string(kind) else kind for kind in schema.types]
    fields = [pa.field(name, kind, nullable=False) for name, kind in zip(schema.names, kinds, strict=True)]
    rising = [name for name in schema.names if name == "utc_timestamp" or name.endswith("_lo")]
    return pa.schema(fields), {
        "row_group_size": ROW_GROUP,
        "compression": "zstd",
        "compression_level": 1,
        "store_schema": False,
        "use_dictionary": [name for name in schema.names if name not in rising],
        "column_encoding": dict.fromkeys(rising, "DELTA_BINARY_PACKED"),  # each moment is new, and near the last
    }


def _array(column: Column, rows: slice, kind: pa.DataType) -> pa.Array:
    if not isinstance(column, Categories):
        return arrow(column[rows], kind)
    values, codes = _used(column, rows)
    return pa.DictionaryArray.from_arrays(arrow(codes, pa.int32()), arrow(values, kind), safe=False)


def _used(column: Categories, rows: slice) -> tuple[list[str], NDArray[np.int32]]:
    """Returns the values that occur in the rows, and codes into them, so that a file holds no other day's names."""
    codes = column.codes[rows]
    if len(codes) and (codes == codes[0]).all():  # as most columns are within a day
        return [column.values[codes[0]]], np.zeros(len(codes), np.int32)
    seen = np.zeros(len(column.values), np.bool_)
    seen[codes[:_HEAD]] = True
    if seen.all():
        return list(column.values), codes.astype(np.int32)
    seen[codes[_HEAD:]] = True
    place = (np.cumsum(seen) - 1).astype(np.int32)
    return [column.values[code] for code in np.flatnonzero(seen)], np.take(place, codes)


def _read_file(path: Path, schema: pa.Schema) -> pa.Table:
    with _arrow(path), open_file(path) as file:
        table = pq.ParquetFile(file).read()
    if table.schema.names != schema.names or table.schema.types != schema.types:
        raise DataError(f"{path}: columns {table.schema.names} are not those declared")
    return table


def _column(values: Any) -> Column:
    if pa.types.is_string(values.type):
        coded = values.combine_chunks().dictionary_encode()
        return compacted(Categories(coded.indices.to_numpy(), tuple(coded.dictionary.to_pylist())))
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    found: Column = values.to_numpy()
    return found


def _read_index(path: Path) -> Surface:
    schema, merchants = TABLES["s2_alias_index"].schema, _document(path).get("merchants")
    if not isinstance(merchants, list):
        raise DataError(f"{path}: /merchants: missing, or not an array")
    table = pa.Table.from_pylist(merchants, schema=schema)
    columns: dict[str, Column] = {name: table[name].to_numpy() for name in schema.names}
    columns["sha256"] = np.array(table["sha256"].to_pylist(), object)
    return Surface("s2_alias_index", schema, columns)


def _read_blob(path: Path, folder: Path, address: Address) -> Surface:
    if not path.is_file():
        raise DataError(f"{path}: missing")
    index = folder / address.document("s2_alias_index")
    said = _document(index).get("blob")
    if not isinstance(said, dict) or type(said.get("size")) is not int or not isinstance(said.get("sha256"), str):
        raise DataError(f"{index}: /blob: not an object with the size and the sha256 of {path.name}")
    columns: Mapping[str, Column] = {
        "blob": np.array([read_bytes(path)], object),
        "size": np.array([said["size"]], np.int64),
        "sha256": np.array([said["sha256"]], object),
    }
    return Surface("s2_alias_blob", TABLES["s2_alias_blob"].schema, columns)


def _document(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: missing")
    found = read_json(path, largest=_LARGEST, ids=True)
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a JSON object")
    return found


@contextmanager
def _arrow(path: Path) -> Iterator[None]:
    """Turns whatever Arrow raises while it reads below `path` into a DataError of one line."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read: {why or type(error).__name__}") from None
