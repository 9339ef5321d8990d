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


def columns(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table as aligned text, its columns as wide as their content."""
    table = Table(*head, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else short(cell) for cell in row))
    text = io.StringIO()
    Console(file=text, width=240, color_system=None, highlight=False, markup=False).print(table)
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
