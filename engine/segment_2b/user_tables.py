"""Reads a user's tables, as text (.csv, .tsv) or Parquet (.parquet, .pq), and finds them in a folder.

Text is UTF-8, with or without a byte-order mark. Its columns are separated by a comma, semicolon, tab or |: whichever
the first line has most of, since no column's name contains one. One parser reads header and body, every cell as text;
what a cell may hold is decided in `cells`. The same rows are the same table in every form.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pyarrow as pa

from lanelock.engine.segment_2b.cells import clean, refuse_all
from lanelock.policies import DataError
from lanelock.policies.files import open_file, read_bytes

_TEXT, _PARQUET = (".csv", ".tsv"), (".parquet", ".pq")
READ = ".csv, .tsv, .parquet or .pq"
_SEPARATORS = b",;\t|"
_COLUMNS = 64  # columns read as text; no table has as many, so one beyond them is refused by its name
_ROWS = 100_000_000  # more would not fit into memory; a small Parquet file can state them
_NOT_READ = (pa.ArrowException, ValueError, OSError, OverflowError, MemoryError)


def file_digest(path: Path) -> dict[str, str]:
    """Returns name -> SHA-256 (hex64) of a file's bytes. Raises DataError if it cannot be read."""
    try:
        with open_file(path) as file:
            return {path.name: hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise _unread(path, error) from None


def table_files(folder: Path, names: Collection[str]) -> dict[str, list[Path]]:
    """Returns name -> the entries of a folder that give this table, in any form and letter case, links included."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    tables = [entry for entry in entries if entry.suffix.lower() in _TEXT + _PARQUET]
    return {name: [entry for entry in tables if entry.stem.lower() == name] for name in names}


def table_file(folder: Path, name: str, names: Collection[str]) -> Path | None:
    """Returns the file of one of the tables `names`, or None where nothing in the folder resembles it.

    Raises DataError if two files give it, or if it is absent and a file's name is nearly its own.
    """
    found = table_files(folder, names)
    if len(found[name]) > 1:
        raise DataError(f"{folder}: both {' and '.join(path.name for path in found[name][:2])}: keep one")
    if found[name]:
        return found[name][0]
    known = {path for paths in found.values() for path in paths}
    for entry in sorted(set(folder.iterdir()) - known):
        if get_close_matches(entry.name.lower().split(".")[0], names, 1, 0.8) == [name]:
            raise DataError(f"{entry}: not read: the table {name} is a file {name} ending in {READ}; rename or remove")
    return None


def read_table(path: Path) -> pa.Table:
    """Returns a file's table, every cell of a text file as text. Raises DataError if it is not a table with rows."""
    ending = path.suffix.lower()
    if ending not in _TEXT + _PARQUET:
        raise DataError(f"{path}: not read: the name of a table ends in {READ}")
    try:
        data = read_bytes(path)
    except OSError as error:
        raise _unread(path, error) from None
    try:
        table = _text_table(path, data) if ending in _TEXT else _parquet_table(path, data)
    except _NOT_READ as error:
        text = " ".join(str(error).split())
        reason = "a row of over a megabyte, or a quote closed too late" if "straddling" in text else clean(text)
        raise DataError(f"{path}: cannot be read: {reason}") from None
    if table.num_rows == 0:
        raise DataError(f"{path}: the table is empty")
    return table


def _unread(path: Path, error: OSError) -> DataError:
    """Returns the error of a file that cannot be opened. A link to nothing is a fault of its own."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: " + ("a link to a file that is not there" if path.is_symlink() else "no such file"))
    return DataError(f"{path}: cannot be read: {error.strerror or 'it does not fit into memory'}")


def _parquet_table(path: Path, data: bytes) -> pa.Table:
    import pyarrow.parquet as pq  # imported here, like pyarrow.csv below: only runs on imported data read tables

    file = pq.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows > _ROWS:
        raise DataError(f"{path}: more than {_ROWS:,} rows")
    table = file.read()
    table.validate(full=True)  # Parquet's strings are not looked at on reading
    return table


def _text_table(path: Path, data: bytes) -> pa.Table:
    text = data.removeprefix(codecs.BOM_UTF8)
    text = text if text.endswith(b"\n") else text + b"\n"  # the parser finds no row in a line that has no end
    _check_text(path, text)
    if text.isspace():
        raise DataError(f"{path}: the table is empty")
    separator = _separator(text)
    _check_quotes(path, text, separator)
    cells, ragged = _parsed(text, separator)
    names = _names(path, cells)
    if ragged:
        bad = np.zeros(max(row for row, _ in ragged), np.bool_)
        bad[[row - 1 for row, _ in ragged]] = True
        refuse_all(path, [(bad, ragged[0][1])])
    return cells.slice(1).rename_columns(names)


def _parsed(text: bytes, separator: bytes) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Returns all rows as text, the header as the first, and the rows of another length: their number and fault."""
    import pyarrow.csv

    ragged: list[tuple[int, str]] = []
    cells = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        pyarrow.csv.ReadOptions(autogenerate_column_names=True, use_threads=False),  # threads do not count rows
        pyarrow.csv.ParseOptions(
            delimiter=separator.decode(), newlines_in_values=True, invalid_row_handler=_noted(ragged)
        ),
        pyarrow.csv.ConvertOptions(
            column_types={f"f{place}": pa.string() for place in range(_COLUMNS)},
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    return cells, ragged


def _noted(ragged: list[tuple[int, str]]) -> Callable[[pa.csv.InvalidRow], str]:
    """Returns a handler of rows with too few or too many cells, which keeps their number, from 1, and what is wrong."""

    def handler(row: pa.csv.InvalidRow) -> str:
        ragged.append((row.number - 1, f"{row.actual_columns} cells, the header has {row.expected_columns}"))
        return "skip"

    return handler


def _check_text(path: Path, text: bytes) -> None:
    if b"\0" in text or text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: not text in UTF-8 (UTF-16, perhaps, or another kind of file); save it as UTF-8")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        where, byte = _where(text, error.start), text[error.start]
        raise DataError(f"{path}: {where}: the byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None


def _separator(text: bytes) -> bytes:
    """Returns the separator that the first line has most of; a comma where it has none."""
    first = re.match(rb"\s*([^\r\n]*)", text)
    line = first[1] if first else b""
    return max((bytes([each]) for each in _SEPARATORS), key=line.count)


def _check_quotes(path: Path, text: bytes, separator: bytes) -> None:
    """Refuses quotes that do not enclose whole cells: the parser would join "1"2 to 12."""
    if text.count(b'"') % 2:
        raise DataError(f'{path}: a quote (") is not closed')
    edge = rb"\r\n" + re.escape(separator)
    bare = re.sub(rb'"[^"]*"', b'"', text) if b'"' in text else b""
    if stray := re.search(rb'"(?:(?=[^"%b])|(?<=[^"%b]"))' % (edge, edge), bare):
        raise DataError(f'{path}: {_where(bare, stray.start())}: a quote (") inside a cell; quotes enclose whole cells')


def _names(path: Path, cells: pa.Table) -> list[str]:
    """Returns the names in the first row. Raises DataError if there is only one, or if a column has none."""
    names = ["" if (name := column[0].as_py()) is None else str(name) for column in cells.columns]
    if len(names) == 1:
        raise DataError(
            f"{path}: the header is one column, {clean(repr(names[0]))}; "
            "columns are separated by a comma, a semicolon, a tab or |"
        )
    if "" in names:
        raise DataError(f"{path}: column {names.index('') + 1} has no name")
    return names


def _where(text: bytes, place: int) -> str:
    """Returns the row, from 1 below the header, of a place in a text."""
    row = len(re.findall(rb"\r\n?|\n", text[:place]))
    return f"row {row}" if row else "the header"
