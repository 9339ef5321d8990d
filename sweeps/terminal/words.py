"""What a person sees: tables, scorecards, a sweep's closing words. Nothing here computes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lanelock.scoring.feasibility import GateReach
    from lanelock.scoring.scorecard import Scorecard
    from lanelock.sweeps.lanes.decision import Decision
    from lanelock.sweeps.lanes.lane import Lane
    from lanelock.sweeps.sweep import Closed


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
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
    return table(("gate", "bound", *bands, "movable by", "proof"), body)


def scorecard(card: Scorecard) -> str:
    """A scorecard, the failed gates first."""
    bands = list(card.gates[0].passed) if card.gates else []
    rows = []
    for row in sorted(card.gates, key=lambda row: all(row.passed.values())):
        held = [band for band in bands if row.passed[band]]
        thresholds, margins = ([short(of.get(band)) for band in bands] for of in (row.thresholds, row.margins))
        value = "missing" if row.value is None else row.value
        rows.append((row.id, row.severity, value, row.comparison, *thresholds, *margins, held[-1] if held else "no"))
    head = ("gate", "kind", "value", "", *bands, *(f"margin {band}" for band in bands), "holds")
    return f"{card.verdict}\n\n{table(head, rows)}"


def best_document(closed: Closed) -> dict[str, Any] | None:
    """The chosen trial for machines: its knobs, objectives and worst metrics."""
    best = closed.decision.best
    if best is None:
        return None
    names = [objective.name for objective in closed.ground.lane.objectives]
    objectives = None if best.objectives is None else dict(zip(names, best.objectives, strict=True))
    measures = {seed: dict(found) for seed, found in best.record["measures"].items()}
    return {"trial": best.number, "knobs": dict(best.values), "objectives": objectives, "metrics": measures}


def refused_document(refused: Decision) -> dict[str, Any]:
    """A refusal for machines, in the shape of a closed sweep."""
    return {**refused.as_document(), "refused": True, "sweep": None, "best": None, "lock": None, "trials": 0}


def refusal_text(lane: Lane, refused: Decision, found: Sequence[GateReach]) -> str:
    """Why a lane was not played: what, why, the table, and how to play it all the same."""
    lines = [f"{refused.outcome}  {lane.title}", f"  {refused.reason}", "", reach_table(found, lane.gates.bands), ""]
    return "\n".join([*lines, f"no trial was run; for the best that can be had: lanelock sweep {lane.id} --anyway"])


def closing(closed: Closed) -> str:
    """How a sweep ended, in the order a reader asks: what, why, which candidate, where."""
    from lanelock.sweeps.lanes.decision import Ledger

    decision, lane = closed.decision, closed.ground.lane
    wall, search = closed.seconds["wall"], closed.seconds["search"]
    rate = len(closed.trials) / search
    lines = [f"{decision.outcome}  {lane.title}", f"  {decision.reason}", ""]
    best = decision.best
    if best is not None:
        knobs = ", ".join(f"{name} {short(value)}" for name, value in best.values.items())
        lines += [f"best trial {best.number}: {knobs}", ""]
        found = Ledger(closed.ground).cards(best)
        cards = [found[seed] for seed in lane.seeds if seed in found]
        rows = []
        for index, gate in enumerate(cards[0].gates):
            values = [short(card.gates[index].value) for card in cards]
            bands = [short(gate.thresholds.get(band)) for band in lane.gates.bands]
            met = [band for band in lane.gates.bands if all(card.gates[index].passed.get(band) for card in cards)]
            rows.append((gate.id, gate.severity, gate.comparison, *bands, *values, met[-1] if met else "no"))
        head = ("gate", "kind", "", *lane.gates.bands, *(f"seed {card.seed}" for card in cards), "holds")
        lines += [table(head, rows), ""]
    if closed.runtime is not None:
        timed = closed.runtime
        seconds = f"{timed.candidate_seconds:.3f} s against the authority's {timed.authority_seconds:.3f} s"
        lines.append(f"runtime {seconds}: {timed.ratio:.2f} times, at most {timed.at_most:g} are allowed")
    vetoes = Ledger(closed.ground).vetoes(closed.trials)
    vetoed = ", ".join(f"{name} ended {count}" for name, count in sorted(vetoes.items())) or "no trial was vetoed"
    lines += [
        f"{len(closed.trials)} trials in {search:.1f} s ({rate:.1f}/s), {wall - search:.1f} s around them; {vetoed}",
        f"lock   {closed.lock}",
        f"prove  lanelock verify {closed.lock.stem}",
    ]
    return "\n".join(lines)


def lock_text(lock: Mapping[str, Any]) -> str:
    """A lock for a reader."""
    head = {
        "lock": lock["lock_id"],
        "decision": f"{lock['decision']} ({lock['candidate']} candidate, {lock['verdict']})",
        "reason": lock["reason"],
        "lane": f"{lock['lane']['id']}: {lock['lane']['title']}",
        "sweep": f"{lock['sweep']}, trial {lock['trial']}",
        "knobs": ", ".join(f"{name} {short(value)}" for name, value in lock["knobs"].items()),
        "pack": lock["pack"]["digest"],
        "authority": f"{lock['authority']['name']} {lock['authority']['digest']}",
        "code": lock["code_version"],
        "seeds": ", ".join(map(str, lock["seeds"])),
    }
    width = max(map(len, head))
    lines = [f"{name:<{width}}  {value}" for name, value in head.items()]
    metrics = sorted(lock["proof"][str(lock["seeds"][0])]["metrics"])
    rows = [
        (name, *(short(lock["proof"][str(seed)]["metrics"].get(name)) for seed in lock["seeds"])) for name in metrics
    ]
    return "\n".join([*lines, "", table(("metric", *(f"seed {seed}" for seed in lock["seeds"])), rows)])
