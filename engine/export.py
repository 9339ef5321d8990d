"""The arrival logs as JSON Lines, for tools that read nothing else. An export is a view, not a part of a run."""

from __future__ import annotations

from pathlib import Path

from engine import layout
from engine.layout import Address
from engine.staging import place, staging
from engine.tables import LOG, TABLES
from engine.types import Run


def write_json_lines(run: Run, exports: Path) -> Path:
    """Writes every log of a run below `exports`, partitioned as it is published; the folder."""
    address, folder = Address.of(run), exports / run.run_id
    with staging(exports, run.run_id) as staged:
        for name, surface in run.surfaces.items():
            if TABLES[name].partitions != LOG:
                continue
            frame = surface.table().to_pandas()
            for path, rows in layout.files_of(surface, address):
                target = (staged / path).with_suffix(".jsonl")
                target.parent.mkdir(parents=True, exist_ok=True)
                part = frame.iloc[rows]
                part.to_json(target, orient="records", lines=True, date_format="iso", date_unit="us")
        place(staged, folder)
    return folder
