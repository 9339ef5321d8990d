"""Values, tables and scorecards as plain text, for a terminal and for pages alike."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # `status` prints a table and needs neither NumPy nor Arrow
    from lanelock.scoring.feasibility import GateReach
    from lanelock.scoring.scorecard import Scorecard


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
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def reach_table(rows: Sequence[GateReach], bands: Sequence[str]) -> str:
    """What each gate can at best reach, with its proof."""
    body = []
    for row in rows:
        bound = "none known" if row.bound is None else f"{row.bound:.6g}"
        words = ["within reach" if row.reachable.get(band, True) else "OUT OF REACH" for band in bands]
        body.append((row.gate, bound, *words, row.movable_by or "", row.proof or ""))
    return columns(("gate", "bound", *bands, "movable by", "proof"), body)


def scorecard_text(card: Scorecard) -> str:
    """A scorecard, the failed gates first."""
    bands = list(card.gates[0].passed) if card.gates else []
    rows = []
    for row in sorted(card.gates, key=lambda row: all(row.passed.values())):
        held = [band for band in bands if row.passed[band]]
        thresholds, margins = ([short(of.get(band)) for band in bands] for of in (row.thresholds, row.margins))
        value = "missing" if row.value is None else row.value
        rows.append((row.id, row.severity, value, row.comparison, *thresholds, *margins, held[-1] if held else "no"))
    head = ("gate", "kind", "value", "", *bands, *(f"margin {band}" for band in bands), "holds")
    return f"{card.verdict}\n\n{columns(head, rows)}"
