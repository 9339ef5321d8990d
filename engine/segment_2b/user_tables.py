"""Reads a user's tables, .parquet or .csv, with declared columns and types; errors name the first bad row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.policies import DataError


def file_digest(path: Path) -> dict[str, str]:
    """Returns name -> SHA-256 (hex64) of a file's bytes. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return {path.name: hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_table(path: Path) -> pa.Table:
    """Returns a file's table, every .csv column as text. Raises DataError if it cannot be read or is empty."""
    import pyarrow.csv  # imported here: only runs on imported data read tables
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


def refuse(path: Path, bad: NDArray[np.bool_], reason: str | Callable[[int], str]) -> None:
    """Raises DataError naming the first bad row, counted from 1; `reason` may depend on its index, from 0."""
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{path}: row {row + 1}: {reason if isinstance(reason, str) else reason(row)}")


def refuse_empty(path: Path, column: str, values: Any, needed: str) -> None:
    """Raises DataError naming the first empty cell of an Arrow column; `needed` says what belongs there."""
    if values.null_count:
        refuse(path, values.is_null().to_numpy(), f"{column}: empty, {needed} is needed")


def typed_columns(
    path: Path, table: pa.Table, types: Mapping[str, Any], needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, NDArray[Any]]:
    """Returns the columns in their Arrow `types`. Raises DataError naming row and field, also for empty cells."""
    seen = table.column_names
    if missing := [column for column in needed if column not in seen]:
        raise DataError(f"{path}: column {missing[0]} is missing (needed: {', '.join(needed)})")
    if unknown := [column for column in seen if column not in needed + optional]:
        raise DataError(f"{path}: unknown column {unknown[0]} (known: {', '.join(needed + optional)})")
    if len(set(seen)) < len(seen):
        raise DataError(f"{path}: a column is given twice")
    return {column: _typed(path, column, table[column], types[column]) for column in seen if column in types}


def _typed(path: Path, column: str, values: Any, want: pa.DataType) -> NDArray[Any]:
    """Returns a column in its declared type. Only after a failure does it go row by row, to name the first bad one."""
    refuse_empty(path, column, values, f"a value of type {want}")
    try:
        typed = values.cast(want)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        for row, value in enumerate(values.to_pylist()):
            try:
                pa.array([value], values.type).cast(want)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise DataError(f"{path}: row {row + 1}: {column}: {value!r} is not of type {want}") from None
        raise DataError(f"{path}: {column}: type {values.type} cannot be read as {want}") from None
    return np.asarray(typed.to_numpy(zero_copy_only=False))
