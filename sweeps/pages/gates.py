"""Gates as rows of text: the one place that lays out a gate's value, thresholds, margins and held band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanelock.scoring.feasibility import Floor, GateReach
from lanelock.scoring.gates import GateSet, threshold_text
from lanelock.scoring.scorecard import GateResult, Scorecard, worst
from lanelock.sweeps.pages.text import columns, short

_DASH = "–"


def reach_table(rows: Sequence[GateReach], bands: Sequence[str]) -> str:
    """Returns a table of each gate's reach, with its proof."""
    body = []
    for row in rows:
        bound = "none known" if row.bound is None else f"{row.bound:.6g}"
        words = ["within reach" if row.reachable.get(band, True) else "OUT OF REACH" for band in bands]
        body.append((row.gate, bound, *words, row.movable_by or "", row.proof or ""))
    return columns(("gate", "bound", *bands, "movable by", "proof"), body)


def floor_table(floors: Mapping[int, Sequence[Floor]]) -> str:
    """Returns a table of floors by seed: each metric's, what lies beyond it, and its parts; empty without floors."""
    body = []
    for seed, rows in floors.items():
        for row in rows:
            whole = ((f"{row.metric}: all", 1.0, row.value), ("  the floor", row.floor, 1.0 if row.floor else None),
                     ("  beyond the floor", 1.0 - row.floor, row.beyond))  # fmt: skip
            parts = ((f"    {part.part}", part.share, part.value) for part in row.parts)
            body += [(short(seed), what, short(share), short(value)) for what, share, value in (*whole, *parts)]
    return columns(("seed", "floor of the authority", "share", "value within"), body) if body else ""


@dataclass(frozen=True, slots=True)
class GateRow:
    """The texts of one gate over the seeds of a candidate, from which every table of gates is laid out."""

    result: GateResult  # the worst over the seeds
    value: str  # on the worst seed
    values: tuple[str, ...]  # per seed
    thresholds: tuple[str, ...]  # per band, lowest first
    margins: tuple[str, ...]  # per band
    seed: str  # the worst seed
    holds: str  # the highest band that every seed meets


def gate_row(results: Sequence[GateResult]) -> GateRow:
    """Returns the parts of one gate's row from its results, one per seed."""
    row = worst(results)
    return GateRow(
        row,
        row.note or "missing" if row.value is None else short(row.value),
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

    `cards`: per seed, the results of every gate. `parts`: the columns' heads in order, of which three give several
    columns: "bands" the thresholds per band, "margins" a margin per band, "seeds" the value per seed.
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


def one_run_text(gates: GateSet, seed: int) -> str:
    """Returns that the scorecard of one run is no certification, in a line below it."""
    profile, needed = gates.profile_text([seed]), gates.strongest
    name = f", {profile}" if profile else ""
    seeds = "" if needed is None else f", which takes seeds {', '.join(map(str, needed.seeds))}"
    return f"graded on seed {seed} alone{name}; not a certification{seeds} (lanelock certify LOCK)"


def scorecard_text(card: Scorecard) -> str:
    """Returns a scorecard as text, the failed gates first."""
    parts = ("gate", "kind", "value", "", "bands", "margins", "holds")
    return f"{card.verdict}\n\n{columns(*gate_table(((*card.gates, *card.observed),), parts, failed_first=True))}"
