"""Exports the arrival logs as JSON Lines, for tools that need them. An export is a view, not a part of a run."""

from __future__ import annotations

from pathlib import Path

from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b import layout
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.lines import lines, parts_of, texts
from lanelock.engine.segment_2b.tables import LOG, TABLES
from lanelock.engine.surface import Surface
from lanelock.engine.workers import spread
from lanelock.policies.names import inside


def write_json_lines(run: Run, exports: Path) -> Path:
    """Writes every log of a run below `exports`, partitioned as in the published run; returns the folder."""
    address, folder = Address.of(run), inside(exports, run.run_id)
    with staging(exports, run.run_id) as staged:
        work = [
            (surface, rows, (staged / path).with_suffix(".jsonl"))
            for name, surface in run.surfaces.items()
            if TABLES[name].partitions == LOG
            for path, rows in layout.files_of(surface, address)
        ]
        spread(lambda part: _write_lines(*part), work)
        place(staged, folder)
    return folder


def _write_lines(surface: Surface, rows: slice, path: Path) -> None:
    """Writes rows of a surface, one JSON object per line, with fields in column order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for part in parts_of(rows):
            file.write(lines({name: texts(surface, name, part) for name in surface.schema.names}))
