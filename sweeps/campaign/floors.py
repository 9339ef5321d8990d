"""The floors of a campaign: the metrics that its upstream holds down, phase by phase, and how far each moved them.

The campaign's file names them (`floors`). They are written beside the report as floors.json and floors.md; both follow
from the phase records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanelock.sweeps.campaign.records import PhaseRecord
from lanelock.sweeps.pages.page import Block, Heading, Paragraph, as_markdown, table
from lanelock.sweeps.pages.text import one_line, short
from lanelock.sweeps.workspace import write_document, write_whole, writing

FORMAT = "lanelock.floors/1"
_Values = Mapping[str, Mapping[str, float]]  # metric -> seed -> value


def floors(run: str, campaign: Mapping[str, Any], records: Sequence[PhaseRecord]) -> dict[str, Any]:
    """Returns the floors as JSON under `floors.schema.json`: per phase its values by metric and seed, and what moved.

    `moved` is a metric's change on each seed since the first phase that measured it.
    """
    names, first, rows = campaign.get("floors", ()), dict[str, dict[str, float]](), list[dict[str, Any]]()
    for record in (record for record in records if record.metrics):
        values = {name: _by_seed(record, name) for name in names}
        for name, by_seed in values.items():
            if by_seed:
                first.setdefault(name, by_seed)
        moved = {name: _moved(first.get(name, {}), by_seed) for name, by_seed in values.items()}
        row = {"phase": record.phase, "title": record.title, "outcome": record.ending}
        rows.append({**row, "values": values, "moved": moved})
    return {"format": FORMAT, "run": run, "metrics": list(names), "phases": rows}


def _by_seed(record: PhaseRecord, name: str) -> dict[str, float]:
    return {str(seed): row[name] for seed, row in (record.metrics or {}).items() if name in row}


def _moved(first: Mapping[str, float], values: Mapping[str, float]) -> dict[str, float]:
    return {seed: value - first[seed] for seed, value in values.items() if seed in first}


def write_floors(document: Mapping[str, Any], folder: Path) -> None:
    """Writes floors.md and floors.json into the folder of a campaign's run, if the campaign names floors."""
    if document["metrics"]:
        with writing(folder):
            write_whole(folder / "floors.md", as_markdown(floors_page(document)))
        write_document(folder / "floors.json", document)


def floors_page(document: Mapping[str, Any]) -> Iterator[Block]:
    """Yields the page of the floors: per metric, every phase on every seed."""
    yield Heading(1, f"Floors of {document['run']}")
    yield Paragraph(
        "What the upstream holds down, as each phase left it; in brackets, the change since the first phase."
    )
    for name in document["metrics"]:
        yield Heading(2, name)
        seeds = dict.fromkeys(seed for row in document["phases"] for seed in row["values"][name])
        lines = (
            (one_line(row["title"]), row["outcome"], *(_cell(row, name, seed) for seed in seeds))
            for row in document["phases"]
        )
        yield table(("phase", "outcome", *(f"seed {seed}" for seed in seeds)), lines)


def _cell(row: Mapping[str, Any], name: str, seed: str) -> str:
    value, moved = row["values"][name].get(seed), row["moved"][name].get(seed)
    return short(value) if not moved else f"{short(value)} ({moved:+.6g})"
