"""Candidates that a user lists in a file: values by knob name, a JSON array of objects or CSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.documents import LARGEST, parse_json, read_json
from lanelock.policies.files import read_bytes


def read_candidates(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file, unchecked: `Space.stated` checks them. An empty cell of CSV is left out.

    Raises LaneError or PolicyError naming the file and the row.
    """
    match path.suffix.lower():
        case ".json":
            rows = read_json(path)
        case ".csv":
            rows = list(_csv_rows(path))
        case suffix:
            raise LaneError(f"{path}: the ending {suffix or '(none)'} is not one of .json, .csv")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LaneError(f"{path}: not an array of objects, each with values by knob name")
    return rows


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = read_bytes(path, LARGEST).decode("utf-8-sig")
        cells, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LaneError(f"{path}: cannot be read as CSV: {error}") from None
    header = [name.strip() for name in cells]
    if twice := [name for name in header if header.count(name) > 1]:
        raise LaneError(f"{path}: header: {twice[0]!r} is given twice")
    for number, cells in enumerate(rows, 1):
        if cells and len(cells) != len(header):
            raise LaneError(f"{path}: row {number}: {len(cells)} cells, the header has {len(header)}")
        if cells:
            yield {name: _value(cell.strip()) for name, cell in zip(header, cells, strict=True) if cell.strip()}


def _value(cell: str) -> float | int | bool | str:
    """Returns a cell as a number or a boolean where it reads as one, else as text."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    try:
        value = parse_json(cell, "")
    except PolicyError:
        return cell
    return value if isinstance(value, int | float) else cell
