"""The layout of a run on disk: paths, partitions and bytes, as recorded, so that existing tools can read it.

Bytes depend on the surface alone. Parquet files have row groups of a fixed number of rows, strings as
dictionaries, and no embedded Arrow schema, since that differs between versions; logical types keep the declared
types. A log has one file per day.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lanelock.engine.keep.receipts import write_json
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.geography import compacted
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.policies import DataError
from lanelock.policies.documents import read_json

DATA, REPORTS, VALIDATION = Path("data/layer1/2B"), Path("reports/layer1/2B"), Path("validation")
ROW_GROUP = 1 << 17  # rows
PART = "part-00000.parquet"


@dataclass(frozen=True, slots=True)
class Address:
    """The values of the partitions in a run's paths."""

    seed: int
    manifest_fingerprint: str  # hex64
    parameter_hash: str  # hex64
    run_id: str  # hex32

    @classmethod
    def of(cls, run: Run) -> Address:
        return cls(run.seed, run.world_digest, run.pack.digest, run.run_id)

    @classmethod
    def stated(cls, receipt: Mapping[str, Any]) -> Address:
        """Returns the address that a run's receipt states."""
        return cls(*(receipt[name] for name in cls.__slots__))

    def folder(self, dataset: str, partitions: tuple[str, ...], utc_day: str = "") -> Path:
        """Returns the folder of a dataset's partition, relative to the run."""
        values = {**{name: getattr(self, name) for name in self.__slots__}, "utc_day": utc_day}
        return DATA.joinpath(dataset, *(f"{name}={values[name]}" for name in partitions))

    def document(self, dataset: str) -> Path:
        """Returns the file of a dataset that is one JSON document."""
        return self.folder(dataset, ("seed", "manifest_fingerprint")) / f"{dataset}.json"

    def report(self, state: str) -> Path:
        """Returns the file of a state's run report."""
        parts = (f"state={state}", f"seed={self.seed}", f"manifest_fingerprint={self.manifest_fingerprint}")
        return REPORTS.joinpath(*parts, f"{state.lower()}_run_report.json")

    def bundle(self) -> tuple[Path, Path]:
        """Returns the paths of index and flag."""
        place = VALIDATION / f"manifest_fingerprint={self.manifest_fingerprint}"
        return place / "index.json", place / "_passed.flag"


def files_of(surface: Surface, address: Address) -> Iterator[tuple[Path, slice]]:
    """Yields path and rows of each file of a surface: one file, or one per day for a log."""
    partitions = TABLES[surface.name].partitions
    if "utc_day" not in partitions:
        yield address.folder(surface.name, partitions) / PART, slice(0, surface.rows)
        return
    day = surface["utc_day"]
    assert isinstance(day, Categories)
    fresh = np.r_[True, np.diff(day.codes) != 0][: surface.rows]
    starts = np.flatnonzero(fresh)
    for begin, end in itertools.pairwise([*starts, surface.rows]):
        name = day.values[day.codes[begin]]
        yield address.folder(surface.name, partitions, name) / PART, slice(int(begin), int(end))


def write_parquet(surface: Surface, rows: slice, path: Path) -> None:
    """Writes rows of a surface as one Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays, fields = [], []
    for field in surface.schema:
        column = surface[field.name]
        if isinstance(column, Categories):
            values, codes = _used(column, rows)
            kind = pa.dictionary(pa.int32(), field.type)
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values, field.type)))
            fields.append(pa.field(field.name, kind, nullable=False))
        else:
            arrays.append(pa.array(column[rows], field.type))
            fields.append(pa.field(field.name, field.type, nullable=False))
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    rising = [name for name in table.column_names if name == "utc_timestamp" or name.endswith("_lo")]
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=[name for name in table.column_names if name not in rising],
        column_encoding=dict.fromkeys(rising, "DELTA_BINARY_PACKED"),  # values rise in small steps
    )


def read_surface(folder: Path, name: str, address: Address) -> Surface:
    """Returns a published surface. Raises DataError naming a file that is missing or cannot be read."""
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


def write_alias(index: Surface, blob: Surface, folder: Path, address: Address) -> None:
    """Writes S2 in the recorded form: the index as JSON, the blob as raw bytes."""
    data = bytes(np.asarray(blob["blob"])[0])
    place = folder / address.folder("s2_alias_blob", TABLES["s2_alias_blob"].partitions)
    place.mkdir(parents=True, exist_ok=True)
    (place / "alias.bin").write_bytes(data)
    merchants = index.table().to_pylist()
    blob_said = {"size": len(data), "sha256": str(np.asarray(blob["sha256"])[0])}
    write_json(folder / address.document("s2_alias_index"), {"blob": blob_said, "merchants": merchants})


def _used(column: Categories, rows: slice) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Returns the values that occur in the rows, and codes into them, so that no file holds another day's values."""
    codes = column.codes[rows]
    seen = np.bincount(codes, minlength=len(column.values)) > 0
    place = (np.cumsum(seen) - 1).astype(np.int32)
    return [column.values[code] for code in np.flatnonzero(seen)], place[codes]


def _read_file(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
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
    schema, merchants = TABLES["s2_alias_index"].schema, _document(path)["merchants"]
    table = pa.Table.from_pylist(merchants, schema=schema)
    columns: dict[str, Column] = {name: table[name].to_numpy() for name in schema.names}
    columns["sha256"] = np.array(table["sha256"].to_pylist(), object)
    return Surface("s2_alias_index", schema, columns)


def _read_blob(path: Path, folder: Path, address: Address) -> Surface:
    if not path.is_file():
        raise DataError(f"{path}: missing")
    said = _document(folder / address.document("s2_alias_index"))["blob"]
    columns: Mapping[str, Column] = {
        "blob": np.array([path.read_bytes()], object),
        "size": np.array([said["size"]], np.int64),
        "sha256": np.array([said["sha256"]], object),
    }
    return Surface("s2_alias_blob", TABLES["s2_alias_blob"].schema, columns)


def _document(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: missing")
    found: Mapping[str, Any] = read_json(path)
    return found
