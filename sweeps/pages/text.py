"""Values and tables as plain text, for a terminal and for pages alike."""

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
    """Aligned columns, as wide as their content."""
    drawn = Table(*head, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, str) else short(cell) for cell in row))
    console = Console(file=io.StringIO(), width=240, color_system=None, highlight=False, markup=False)
    console.print(drawn)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())  # type: ignore[attr-defined]


def fields(document: Mapping[str, Any]) -> str:
    """One `name  value` a line."""
    width = max(map(len, document))
    return "\n".join(f"{name:<{width}}  {short(value, 200)}" for name, value in document.items())


def short(value: Any, limit: int = 60) -> str:
    """A value on one line, cut where it is long."""
    if value is None:
        return _DASH
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
