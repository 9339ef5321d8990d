"""Exports the arrival logs as JSON Lines, for tools that need them. An export is a view, not a part of a run.

Lines are assembled by column, for speed. Numbers have enough digits to read back exactly; moments are ISO 8601 to
the microsecond.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b import layout
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.tables import LOG, TABLES
from lanelock.engine.surface import Categories, Surface
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
    names = surface.schema.names
    heads = [f'{"," if index else "{"}"{name}":' for index, name in enumerate(names)]
    parts = itertools.chain.from_iterable(zip(heads, (_texts(surface, name, rows) for name in names), strict=True))
    lines = pc.binary_join_element_wise(*parts, "}\n", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    _, ends, texts = lines.buffers()  # the array's text buffer is the file's content
    path.write_bytes(texts[: np.frombuffer(ends, np.int32)[len(lines)]])


def _texts(surface: Surface, name: str, rows: slice) -> pa.Array:
    """Returns a column as JSON texts."""
    column, kind = surface[name], surface.schema.field(name).type
    if isinstance(column, Categories):
        values = pa.array([json.dumps(value, ensure_ascii=False) for value in column.values], pa.string())
        return values.take(pa.array(column.codes[rows]))
    values = pa.array(column[rows], kind)
    if pa.types.is_timestamp(kind):
        return pc.strftime(values, format='"%Y-%m-%dT%H:%M:%SZ"')
    return values.cast(pa.string())
