"""Whether an answer was right: refused in one clean line that names the file, or the same as before."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mutants import differences

LONGEST = 2_000
BIDI = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)}


@dataclass(frozen=True)
class Answer:
    """What a reader or a command did."""

    kind: str  # "value", "refused", "crash" or "hang"
    value: Any = None  # what a function returned, or the exit code and JSON of a command
    message: str = ""  # of a refusal: what stood on stderr, or would
    where: str = ""  # of a crash: its exception and the line it came from
    code: int | None = None  # of a command
    listed: bool = False  # a command that lists each difference on a line of its own


def stated(before: bytes, after: bytes, form: str) -> str:
    """Returns what a changed file states: "same" as before, "other", or "nothing" that can be read."""
    if before == after:
        return "same"
    match form:
        case "json":
            return _stated(_json(before), _json(after))
        case "csv":
            return "same" if (rows := _rows(after)) is not None and rows == _rows(before) else "other"
        case "parquet":
            return "same" if (rows := _values(after)) is not None and rows == _values(before) else "other"
    return "other"


def _stated(before: Any, after: Any) -> str:
    if after is None:
        return "nothing"
    try:
        return "other" if any(differences(before[0], after[0])) else "same"
    except RecursionError:
        return "nothing"


def _json(content: bytes) -> tuple[Any] | None:
    """Returns a document as strictly as JSON is written; a byte-order mark is let through."""

    def never(text: str) -> None:
        raise ValueError(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("twice")
        return found

    def number(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else never(text)  # type: ignore[return-value]

    try:
        text = content.decode("utf-8-sig")
        return (json.loads(text, parse_constant=never, object_pairs_hook=unique, parse_float=number),)
    except (ValueError, RecursionError):
        return None


def _rows(content: bytes) -> list[list[str]] | None:
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (ValueError, csv.Error):
        return None


def _values(content: bytes) -> str | None:
    try:
        table = pq.read_table(pa.BufferReader(content))
        return repr((table.column_names, table.to_pylist()))
    except (pa.ArrowException, OSError, ValueError, OverflowError):  # a moment may be beyond what Python has
        return None


def fault(law: str, states: str, before: Answer, after: Answer, names: Sequence[str]) -> str | None:
    """Returns what is wrong with an answer to a changed file; None if nothing is."""
    if after.kind in ("crash", "hang"):
        return f"{after.kind}: {after.where}"
    if dirt := next(unclean(after), None):
        return dirt
    if after.kind == "refused":
        return None if any(name in after.message for name in names) else f"names no file: {_skeleton(after.message)}"
    if law == "loose":
        return None
    if states == "same":
        return None if after.value == before.value else "changed, though the file states the same"
    if states == "nothing":
        return "accepted, though the file states nothing that can be read"
    return "accepted, though it carries its digest" if law == "held" else None


def unclean(answer: Answer) -> Iterator[str]:
    """Yields what is wrong with the lines of a command's answer; what a function raises has still to become a line."""
    if answer.code is None:
        return
    lines = answer.message.splitlines()
    if "Traceback" in answer.message:
        yield f"traceback: {_skeleton(lines[-1])}"
    if answer.kind == "refused":
        if len(answer.message.split("\n")) > 2 and not answer.listed:
            yield f"{len(lines)} lines: {_skeleton(answer.message)}"
        if not answer.message.strip():
            yield f"exit {answer.code} without a word"
    for line in answer.message.split("\n"):
        if len(line) > LONGEST:
            yield f"a line of {LONGEST} characters or more"
        if bad := next((char for char in line if acts(char)), None):
            yield f"{bad!a} reaches the terminal"


def acts(char: str) -> bool:
    """Returns whether a character acts on a terminal instead of being shown."""
    return (unicodedata.category(char) in ("Cc", "Cs") and char != "\t") or char in BIDI


def _skeleton(text: str) -> str:
    """Returns a message without what differs from input to input, to tell kinds of failure apart."""
    kept = "".join("#" if char.isdigit() else char for char in text[-120:])
    return " ".join(kept.split())
