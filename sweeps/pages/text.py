"""Values and tables as plain text, for the terminal and for pages."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_DASH = "–"
_LONGEST = 2_000  # characters of a printed line
_KEPT = " \t\n\u00a0"
_UNITS = ("B", "kB", "MB", "GB", "TB")


def printable(text: str) -> str:
    """Returns a text as a terminal may get it, whatever a document, a file's name or a library put into it.

    What has no form of its own is written as an escape: control characters, marks of direction, characters without
    width, halves of a pair. A line beyond 2,000 characters is cut, and says how much is missing.
    """
    if not text.isprintable():
        text = "".join(one if one.isprintable() or one in _KEPT else _escaped(one) for one in text)
    return "\n".join(map(_cut, text.split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def _cut(line: str) -> str:
    if len(line) <= _LONGEST:
        return line
    kept = line[: _LONGEST - 40]
    return f"{kept}… ({len(line) - len(kept):,} more characters)"


def one_line(text: str) -> str:
    """Returns a text that a document states as part of a line, so that it cannot pass for a line of its own."""
    return " ".join(text.split())


def columns(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table as aligned text, its columns as wide as their content."""
    table = Table(*head, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else short(cell) for cell in row))
    text = io.StringIO()
    Console(file=text, width=240, color_system=None, highlight=False, markup=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def fields(document: Mapping[str, Any]) -> str:
    """Returns one `name  value` per line."""
    width = max(map(len, document))
    return "\n".join(f"{name:<{width}}  {short(_words(value), 200)}" for name, value in document.items())


def _words(value: Any) -> Any:
    """Returns a mapping as `name value, name value`; any other value as it is."""
    if not isinstance(value, Mapping) or not value:
        return value
    return ", ".join(f"{name} {short(part)}" for name, part in value.items())


def short(value: Any, limit: int = 60) -> str:
    """Returns a value on one line, cut at `limit` characters."""
    if value is None:
        return _DASH
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def size(count: int) -> str:
    """Returns a number of bytes in a readable unit."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{0 if unit == 0 else 1}f} {_UNITS[unit]}"


def terms_text(terms: Mapping[str, float]) -> str:
    """Returns the terms of an objective with their values, and the sum."""
    return f"{' + '.join(f'[{term}: {value:.4g}]' for term, value in terms.items())} = {sum(terms.values()):.6g}"
