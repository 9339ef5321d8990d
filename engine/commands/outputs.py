"""What a program leaves: files collected within bounds, and read as numbers and tables.

    .json              numbers, columns, tables as columns or rows       .parquet            a table
    .csv               a table; types are whole numbers, numbers, texts     .arrow .feather     a table
    .npy               a table: a column, or columns c0, c1, …              .npz                numbers and columns
    a folder           of any of these, each a table with the file's name; entries of a .json that are no columns are
                       entries of the whole

Nothing is guessed from a part of a file, and nothing outside the program's folder is read: links, pipes and devices are
refused, as are pickled arrays.
"""

from __future__ import annotations

import csv
import io
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy

from lanelock.policies import DataError, PolicyError
from lanelock.policies.documents import parse_json
from lanelock.policies.files import read_bytes

MOST_FILES = 1_000
_EXPANDED = 2 << 30  # bytes of a compressed table in memory
_WHOLE = "(0|[1-9][0-9]*)"
_WHOLE_NUMBER = f"^-?{_WHOLE}$"
_NUMBER = rf"(?i)^[+-]?(({_WHOLE}(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf(inity)?)$"


def collected(work: Path, output: str, largest: int) -> dict[str, bytes]:
    """Returns the output file, or each file of the output folder, by its path below `work`.

    Raises DataError for a missing or empty output, a link, a folder in the folder, and more than `largest` bytes.
    """
    place = work / output
    if not os.path.lexists(place):
        raise DataError(f"{output}: the program wrote no such file")
    if Path(os.path.realpath(place)) != Path(os.path.realpath(work)) / os.path.normpath(output):
        raise DataError(f"{output}: a link, not what the program wrote")
    names = [output]
    if place.is_dir():
        names = sorted(f"{output.rstrip('/')}/{entry.name}" for entry in os.scandir(place))
    if not names:
        raise DataError(f"{output}: the program left this folder empty")
    if len(names) > MOST_FILES:
        raise DataError(f"{output}: {len(names):,} files; at most {MOST_FILES:,} are read")
    files = dict[str, bytes]()
    for name in names:
        files[name] = _content(work / name, name, largest - sum(map(len, files.values())), largest)
    return files


def _content(path: Path, name: str, left: int, largest: int) -> bytes:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise DataError(f"{name}: a link, folder or device, not a file")
    try:
        data = read_bytes(path, max(left, 0))
    except OSError as error:
        why = f"the output is larger than {largest >> 20} MiB" if left < path.stat().st_size else error.strerror
        raise DataError(f"{name}: {why}") from None
    if not data:
        raise DataError(f"{name}: the program left this file empty")
    return data


def result_of(files: Mapping[str, bytes], folder: bool) -> Any:
    """Returns what `engine.tables.surfaces_of` reads. Raises DataError naming the file, and the row or field."""
    if not folder:
        return next(_read(name, data) for name, data in files.items())
    whole = dict[str, Any]()
    for name, data in files.items():
        part = _read(name, data)
        if not isinstance(part, Mapping) or _are_columns(part):
            part = {Path(name).stem: part}
        if twice := whole.keys() & part.keys():
            raise DataError(f"{name}: {min(twice)} is already given by another file of the folder")
        whole |= part
    return whole


def _are_columns(part: Mapping[str, Any]) -> bool:
    return bool(part) and all(isinstance(column, list | np.ndarray) for column in part.values())


def read_json(text: bytes, name: str) -> Any:
    """Returns a JSON result. Raises DataError naming line or field: NaN is no JSON, and no key stands there twice."""
    try:
        return parse_json(text, name, ids=True)
    except PolicyError as error:
        raise DataError(str(error)) from None


def _csv(data: bytes, name: str) -> pa.Table:
    from pyarrow import csv as arrow_csv

    header = next(csv.reader(io.StringIO(data.decode("utf-8-sig", errors="replace"), newline="")), [])
    for column in header:
        if not column or header.count(column) > 1 or (len(header) == 1 and (";" in column or "\t" in column)):
            raise DataError(
                f"{name}: line 1: {column!r}: each column has a name of its own, and commas are between them"
            )
    texts = arrow_csv.read_csv(
        pa.BufferReader(data.rstrip(b"\r\n") + b"\n"),
        arrow_csv.ReadOptions(use_threads=False, block_size=max(len(data) + 1, 1 << 16)),
        arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(header) > 1),
        arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
    )
    columns = [_typed(texts[column].combine_chunks(), f"{name}: column {column}") for column in texts.column_names]
    return pa.table(columns, names=texts.column_names)


def _typed(texts: pa.Array, where: str) -> pa.Array:
    """Returns a column of texts as whole numbers, numbers or texts. A column without rows has numbers."""
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.string())
    given = pc.not_equal(texts, "")
    if len(texts) and not pc.any(given).as_py():
        return texts
    if pc.all(pc.match_substring_regex(texts, _WHOLE_NUMBER)).as_py() and len(texts):
        try:
            return texts.cast(pa.int64())
        except pa.ArrowInvalid:  # beyond 64 bits: an id
            return texts
    numbers = pc.match_substring_regex(texts, _NUMBER)
    if pc.all(numbers).as_py() is not False:
        return pc.utf8_ltrim(texts, "+").cast(pa.float64())
    if pc.all(pc.or_(numbers, pc.invert(given))).as_py():
        row = pc.index(given, False).as_py() + 1
        raise DataError(f"{where}: row {row} is empty among numbers; write nan for a missing number")
    return texts


def _parquet(data: bytes, name: str) -> pa.Table:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(data))
    stated = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    _hold(max(stated, file.metadata.num_rows * max(file.metadata.num_columns, 1)), name)
    return file.read()


def _arrow(data: bytes, name: str) -> pa.Table:
    opening = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    with opening(pa.BufferReader(data)) as reader:
        return reader.read_all()


def _npy(data: bytes, name: str) -> Any:
    array = _array(data, name)
    if array.ndim == 0:
        raise DataError(f"{name}: a single number; write it as JSON or into an .npz, where it has a name")
    return _table(array, name)


def _npz(data: bytes, name: str) -> dict[str, Any]:
    """Returns its numbers, and its arrays: columns of one table where all have one length, else a table each."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _hold(sum(entry.file_size for entry in archive.infolist()), name)
        arrays = {
            entry.filename.removesuffix(".npy"): _array(archive.read(entry), f"{name}: {entry.filename}")
            for entry in archive.infolist()
        }
    numbers = {key: array.item() for key, array in arrays.items() if array.ndim == 0}
    others = {key: array for key, array in arrays.items() if array.ndim}
    plain = all(array.ndim == 1 and array.dtype.names is None for array in others.values())
    if plain and len({len(array) for array in others.values()}) == 1:
        return numbers | others
    return numbers | {key: _table(array, f"{name}: {key}") for key, array in others.items()}


def _array(data: bytes, name: str) -> np.ndarray[Any, Any]:
    """Returns the array of an .npy file, of exactly the bytes that are there; pickled objects are refused."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    reading = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, in_columns, dtype = reading(file)
    if dtype.hasobject:
        raise DataError(f"{name}: pickled objects are not read; save numbers or texts")
    content = data[file.tell() :]
    if prod(shape) * dtype.itemsize != len(content):
        raise DataError(f"{name}: states {prod(shape) * dtype.itemsize:,} bytes of values and has {len(content):,}")
    if any(length < 0 for length in shape) or not dtype.itemsize:
        raise DataError(f"{name}: an array of shape {shape} and type {dtype} has no values")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")


def _table(array: np.ndarray[Any, Any], name: str) -> dict[str, Any]:
    """Returns an array as columns."""
    if array.dtype.names is not None:
        return {field: np.ascontiguousarray(array[field]) for field in array.dtype.names}
    if array.ndim > 2:
        raise DataError(f"{name}: an array of shape {array.shape}; a table has one or two dimensions")
    if array.ndim == 1:
        return {"value": array}
    return {f"c{number}": np.ascontiguousarray(array[:, number]) for number in range(array.shape[1])}


def _hold(size: int, name: str) -> None:
    if size > _EXPANDED:
        raise DataError(f"{name}: would take {size >> 20:,} MiB of memory; at most {_EXPANDED >> 20:,} are read")


READERS: Mapping[str, Callable[[bytes, str], Any]] = {
    ".json": read_json, ".csv": _csv, ".parquet": _parquet, ".arrow": _arrow, ".feather": _arrow, ".npy": _npy,
    ".npz": _npz,
}  # fmt: skip


def _read(name: str, data: bytes) -> Any:
    """Returns the content of one file. Raises DataError naming it, in one line."""
    reader = READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise DataError(f"{name}: none of {', '.join(READERS)}")
    try:
        return reader(data, name)
    except DataError:
        raise
    except (Exception, MemoryError) as error:  # what libraries say of a file that is broken
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: cannot be read: {why[:200]}") from None
