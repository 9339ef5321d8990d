"""What engines of other people return, as surfaces, and the runs of every engine whose surfaces are plain tables.

An engine may return

    a mapping of names to numbers                       surface `metrics` (name: string, value: double)
    a table, or a mapping of names to columns           surface `output`
    a mapping of names to tables, numbers and columns   a surface of each table's name; `metrics`; `output`

A table is a pandas DataFrame, an Arrow table or record batch (or anything with `__arrow_c_stream__`), a NumPy
structured array, a mapping of names to columns, or a list of mappings, one per row; `engine.plain` says what a column
is. The same content gives the same bytes, whichever library holds it. Columns stand in the order in which they are
returned. Of a pandas index the levels that have a name are columns, in front; those without a name are dropped.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lanelock.engine.columns import arrow
from lanelock.engine.keep import published
from lanelock.engine.keep.published import receipt_in
from lanelock.engine.keep.receipts import write_json
from lanelock.engine.keep.staging import place, staging, write_file
from lanelock.engine.plain import UNFIT, are_rows, copied, is_column, is_pandas, number_of, plain_column, said, shown
from lanelock.engine.protocol import Published, Replayed, Run, StateReport
from lanelock.engine.surface import Surface
from lanelock.policies import DataError, IntegrityError, LaneError, Pack, pack_of
from lanelock.policies.errors import blamed
from lanelock.policies.files import read_bytes
from lanelock.policies.names import ALLOWED, inside, is_name
from lanelock.policies.pack import policies_in

METRICS, OUTPUT = "metrics", "output"  # the surface of the numbers, the surface of the one table
_POLICIES, _FILES, _LOGS = "policies", "files", "logs"  # folders of a published run
_ALLOWED = "a mapping of names to numbers, columns or tables, or a table (lanelock.engine.tables)"


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


# --- runs -----------------------------------------------------------------------------------------------------------


class TableRuns:
    """Publishing, Exporting and Declaring, for an engine whose surfaces are plain tables.

    A published run has `<surface>.parquet` for each surface, `policies/<policy>.json`, and the receipt; an engine adds
    files by `files` and `logs`. A subclass defines `name`, `policy_schemas` and `evaluate`.
    """

    name: str
    policy_schemas: Mapping[str, Mapping[str, Any]]

    def evaluate(self, pack: Pack, seed: int) -> Run:
        """Returns one run."""
        raise NotImplementedError

    def files(self, run: Run) -> Mapping[str, bytes]:
        """Returns further files of a run by path below `files/`. A run that is executed again gives the same bytes."""
        return {}

    def logs(self, run: Run) -> Mapping[str, bytes]:
        """Returns files by path below `logs/` that may differ when a run is executed again, such as what it printed.

        They are digested when they are published, and those of another execution are not compared with them.
        """
        return {}

    def publish(self, run: Run, runs: Path) -> Published:
        """Writes a run below `runs`, whole or not at all. Raises IntegrityError if other bytes are there."""
        return Published(published.publish_whole(run, runs, partial(self._write, before=inside(runs, run.run_id))))

    def open_run(self, folder: Path) -> Run:
        """Returns a published run from its files alone. Raises IntegrityError if they have changed."""
        for name, fault in self.faults(folder):
            raise IntegrityError(f"{folder / name}: {fault}")
        receipt, schemas = receipt_in(folder), self.policy_schemas
        pack = pack_of("policies", policies_in(folder / _POLICIES, schemas), schemas, str(folder))
        if pack.digest != receipt["parameter_hash"]:
            raise IntegrityError(f"{folder / _POLICIES}: the policies are not those that the receipt states")
        states = tuple(StateReport(**row, seconds=0.0, reused=True) for row in receipt["states"])
        return Run(
            receipt["run_id"], receipt["engine"], receipt["seed"], pack, receipt["manifest_fingerprint"],
            receipt["code_version"], {name: _read(folder, name) for name in receipt["surfaces"]}, states,
            fingerprint=receipt.get("fingerprint", ""),
        )  # fmt: skip

    def faults(self, folder: Path) -> Iterable[tuple[str, str]]:
        """Yields (file, fault) for every file that differs from what was published."""
        return published.file_faults(folder, receipt_in(folder))

    def replay(self, folder: Path, scratch: Path) -> Replayed:
        """Executes a published run again below `scratch`, and compares every file but the logs."""
        run = self.open_run(folder)
        with blamed(f"engine {self.name}: seed {run.seed}"):
            again = self.evaluate(run.pack, run.seed)
        return published.compare_again(again, folder, scratch, partial(self._write, before=folder))

    def export(self, run: Run, exports: Path) -> Path:
        """Writes each surface of a run as JSON Lines below `exports` and returns their folder."""
        folder = inside(exports, run.run_id)
        with staging(exports, run.run_id) as staged:
            for name, surface in run.surfaces.items():
                write_file(staged / f"{name}.jsonl", "".join(_lines(surface)).encode())
            place(staged, folder)
        return folder

    def contract(self) -> Sequence[Mapping[str, Any]]:
        """Returns per surface what it has, from a run on seed 0 with the defaults in the policies' schemas.

        Raises LaneError if a property has no default: what an engine returns is known from a run alone.
        """
        pack = pack_of("defaults", {name: self._defaults(name) for name in self.policy_schemas}, self.policy_schemas)
        with blamed(f"engine {self.name}: seed 0"):
            run = self.evaluate(pack, 0)
        return [_declared(surface, run.states[-1].name) for surface in run.surfaces.values()]

    def _defaults(self, policy: str) -> dict[str, Any]:
        properties = self.policy_schemas[policy].get("properties", {})
        if missing := [name for name, node in properties.items() if "default" not in node]:
            raise LaneError(
                f"engine {self.name}: what it returns is known from a run alone; run it once, or give each property of "
                f"the schema of {policy} a default (without one: {', '.join(missing)})"
            )
        return {name: node["default"] for name, node in properties.items()}

    def _write(self, run: Run, folder: Path, before: Path) -> None:
        """Writes every file of a run, the receipt last. Logs that are in the folder `before` are kept as they are."""
        for name, surface in run.surfaces.items():
            pq.write_table(surface.table(), folder / f"{name}.parquet", compression="zstd")
        for name, document in run.pack.documents().items():
            write_json(folder / _POLICIES / f"{name}.json", document)
        for name, data in self.files(run).items():
            write_file(folder / _FILES / name, data)
        for name, data in (_logs_in(before) if before.exists() else self.logs(run)).items():
            write_file(folder / _LOGS / name, data)
        published.seal(run, folder)


def _logs_in(folder: Path) -> dict[str, bytes]:
    logs = folder / _LOGS
    return {path.relative_to(logs).as_posix(): read_bytes(path) for path in logs.rglob("*") if not path.is_dir()}


def _read(folder: Path, name: str) -> Surface:
    """Returns a surface from its file."""
    path = inside(folder, f"{name}.parquet")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path}: not the Parquet file of a surface: {said(error)}") from None
    return surface_of(name, table, str(folder))


def _declared(surface: Surface, state: str) -> Mapping[str, Any]:
    columns = [{"name": field.name, "type": str(field.type), "unit": "not stated"} for field in surface.schema]
    return {"surface": surface.name, "state": state, "path": f"{surface.name}.parquet", "key": [], "columns": columns}


def _lines(surface: Surface) -> Iterator[str]:
    """Yields the rows of a surface as lines of JSON: moments in ISO 8601, bytes in Base64, NaN and inf as texts."""
    for row in surface.table().to_pylist():
        yield json.dumps(_as_json(row), ensure_ascii=False) + "\n"


def _as_json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_json(part) for part in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if value is None or isinstance(value, int | str) else str(value)


# --- results --------------------------------------------------------------------------------------------------------


def surfaces_of(result: Any, where: str) -> dict[str, Surface]:
    """Returns what an engine gave, as surfaces by name. Raises DataError naming table, column and row."""
    if is_pandas(result, "Series"):
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
        raise DataError(f"{where}: the result is empty; give {_ALLOWED}")
    surfaces = {METRICS: metrics_of(numbers)} if numbers else {}
    return surfaces | {name: surface_of(name, table, where) for name, table in tables.items()}


def metrics_of(numbers: Mapping[str, float]) -> Surface:
    """Returns the surface of named numbers, in their order."""
    names, values = arrow([*numbers], pa.string()), arrow(np.array([*numbers.values()], np.float64), pa.float64())
    return _surface(METRICS, {"name": names, "value": copied(values)})


def is_metrics(table: pa.Table) -> bool:
    """Whether a table is one of named numbers, as `metrics_of` makes it."""
    return bool(table.column_names == ["name", "value"])


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
        columns[column] = plain_column(values, at)
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
        if is_column(value):
            columns[name] = value
        elif _table_kind(value) is not None:
            tables[name] = value
        else:
            numbers[name] = _number(value, f"{where}: {name}")
    return numbers, columns, tables


def _number(value: Any, where: str) -> float:
    number = number_of(value)
    if number is None:
        raise DataError(
            f"{where}: {shown(value)} is neither a number, a column nor a table; "
            "a number that cannot be measured is given as NaN"
        )
    return number


# --- tables of any library as columns -------------------------------------------------------------------------------


def _columns_of(name: str, table: Any, where: str) -> Iterable[tuple[Any, Any]]:
    """Returns (name, values) of each column of a table. Raises DataError if it is none."""
    kind = _table_kind(table)
    if kind is None:
        raise DataError(f"{where}: the result is {shown(table)}; give {_ALLOWED}")
    try:
        return kind(table)
    except UNFIT as error:
        raise DataError(f"{where}: {name}: {said(error)}") from None


def _table_kind(value: Any) -> Callable[[Any], Iterable[tuple[Any, Any]]] | None:
    """Returns how the columns of a value are taken; None if it is no table."""
    if isinstance(value, Mapping):
        return lambda mapping: mapping.items()
    if isinstance(value, np.ndarray):
        return _of_structure if value.dtype.names is not None and value.ndim == 1 else None
    if is_pandas(value, "DataFrame"):
        return _of_frame
    if isinstance(value, pa.RecordBatch) or hasattr(value, "__arrow_c_stream__"):
        return _of_arrow if not is_column(value) else None
    return _of_rows if are_rows(value) else None


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
