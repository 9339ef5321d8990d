"""Tables that a user brings: .parquet or .csv, with declared columns and types, the first fault named by its row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from lanelock.policies import DataError


def file_digest(path: Path) -> dict[str, str]:
    """Name -> SHA-256 (hex64) of a file's bytes. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return {path.name: hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_table(path: Path) -> pa.Table:
    """The table in a file; of a .csv every column as text. Raises DataError where it cannot be read or is empty."""
    import pyarrow.csv  # here, since only a run that is fed from outside reads a table
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8") as file:
                names = file.readline().rstrip("\r\n").replace('"', "").split(",")
            text = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            )
            table = pyarrow.csv.read_csv(path, convert_options=text)
        else:
            table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if "Empty CSV file" in str(error):
            raise DataError(f"{path}: the table is empty") from None
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    if table.num_rows == 0:
        raise DataError(f"{path}: the table is empty")
    return table


def typed_columns(
    path: Path,
    table: pa.Table,
    types: Mapping[str, pa.DataType],
    needed: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> dict[str, NDArray[Any]]:
    """The columns in their declared types, empty cells refused. Raises DataError naming row and field."""
    seen = table.column_names
    if missing := [column for column in needed if column not in seen]:
        raise DataError(f"{path}: column {missing[0]} is missing (needed: {', '.join(needed)})")
    if unknown := [column for column in seen if column not in needed + optional]:
        raise DataError(f"{path}: unknown column {unknown[0]} (known: {', '.join(needed + optional)})")
    if len(set(seen)) < len(seen):
        raise DataError(f"{path}: a column is given twice")
    return {column: _typed(path, column, table[column], types[column]) for column in seen if column in types}


def _typed(path: Path, column: str, values: Any, want: pa.DataType) -> NDArray[Any]:
    """A column in its declared type. Row by row only to name the first that does not fit."""
    if values.null_count:
        row = values.combine_chunks().is_null().to_pylist().index(True)
        raise DataError(f"{path}: row {row + 1}: {column}: empty, a value of type {want} is needed")
    try:
        typed = values.cast(want)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        for row, value in enumerate(values.to_pylist()):
            try:
                pa.array([value], values.type).cast(want)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise DataError(f"{path}: row {row + 1}: {column}: {value!r} is not of type {want}") from None
        raise DataError(f"{path}: {column}: type {values.type} cannot be read as {want}") from None
    found: NDArray[Any] = typed.to_numpy(zero_copy_only=False)
    return found
