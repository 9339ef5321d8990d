"""Values, tables, gates and scorecards as plain text, for a terminal and for pages alike."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import threshold_text
from lanelock.scoring.scorecard import GateResult, Scorecard, worst

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


def reach_table(rows: Sequence[GateReach], bands: Sequence[str]) -> str:
    """What each gate can at best reach, with its proof."""
    body = []
    for row in rows:
        bound = "none known" if row.bound is None else f"{row.bound:.6g}"
        words = ["within reach" if row.reachable.get(band, True) else "OUT OF REACH" for band in bands]
        body.append((row.gate, bound, *words, row.movable_by or "", row.proof or ""))
    return columns(("gate", "bound", *bands, "movable by", "proof"), body)


@dataclass(frozen=True, slots=True)
class GateRow:
    """One gate over the seeds of a candidate, in words: every table of gates is laid out from these parts."""

    result: GateResult  # the worst over the seeds
    value: str  # the worst
    values: tuple[str, ...]  # per seed
    thresholds: tuple[str, ...]  # per band, lowest first
    margins: tuple[str, ...]  # per band
    seed: str  # the worst
    holds: str  # the highest band that every seed meets


def gate_row(results: Sequence[GateResult]) -> GateRow:
    """Returns the parts of one gate's row from its results, one per seed."""
    row = worst(results)
    return GateRow(
        row,
        "missing" if row.value is None else short(row.value),
        tuple(short(result.value) for result in results),
        tuple(threshold_text(row.thresholds.get(band), _DASH) for band in row.passed),
        tuple(short(row.margins.get(band)) for band in row.passed),
        short(row.seed),
        row.holds or "no",
    )


def gate_table(
    cards: Sequence[Sequence[GateResult]], parts: Sequence[str], *, failed_first: bool = False
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns (head, rows) of a table of gates, one row per gate.

    `cards`: the results of every gate on each seed. `parts`: the columns in their order, each named as its head; three
    stand for several columns: "bands" for the thresholds, "margins" for one per band, "seeds" for the value on each.
    """
    bands, seeds = list(cards[0][0].passed) if cards[0] else [], [card[0].seed for card in cards if card]
    heads = {"bands": bands, "margins": [f"margin {band}" for band in bands], "seeds": [f"seed {at}" for at in seeds]}
    rows = [gate_row(results) for results in zip(*cards, strict=True)]
    if failed_first:
        rows.sort(key=lambda row: row.result.full)
    head = tuple(name for part in parts for name in heads.get(part, [part]))
    return head, [tuple(cell for part in parts for cell in _cells(row, part)) for row in rows]


def _cells(row: GateRow, part: str) -> tuple[str, ...]:
    result = row.result
    cells = {
        "gate": (result.id,),
        "metric": (f"`{result.metric}`",),
        "kind": (str(result.severity),),
        "": (result.comparison,),
        "value": (row.value,),
        "worst": (row.value,),
        "bands": row.thresholds,
        "margins": row.margins,
        "seeds": row.values,
        "seed": (row.seed,),
        "on seed": (row.seed,),
        "holds": (row.holds,),
    }
    return cells[part]


def scorecard_text(card: Scorecard) -> str:
    """A scorecard, the failed gates first."""
    parts = ("gate", "kind", "value", "", "bands", "margins", "holds")
    return f"{card.verdict}\n\n{columns(*gate_table((card.gates,), parts, failed_first=True))}"
