"""The logs of random draws: each draw of S5 and S6 by its address, and each stream's total."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.surface import Categories, Column, Surface


def events(name: str, log: Surface, counter: str, stream: str) -> Surface:
    """One row a row of `log`: the draw that its `counter` columns address. Shares the log's arrays."""
    columns: dict[str, Column] = {
        "utc_timestamp": log["utc_timestamp"],
        "merchant_id": log["merchant_id"],
        "utc_day": log["utc_day"],
        "rng_stream_id": Categories(np.zeros(log.rows, np.int8), (stream,)),
        "rng_counter_hi": log[f"{counter}_hi"],
        "rng_counter_lo": log[f"{counter}_lo"],
        "draws": np.ones(log.rows, np.int32),
        "created_utc": log["created_utc"],
    }
    return Surface(name, TABLES[name].schema, columns)


def trace(name: str, logs: Mapping[str, Surface], created_utc: str) -> Surface:
    """Events and draws of each stream: stream id -> its event log."""
    streams = tuple(sorted(logs))
    rows = np.array([logs[stream].rows for stream in streams], np.int64)
    draws = np.array([int(np.asarray(logs[stream]["draws"]).sum()) for stream in streams], np.int64)
    columns: dict[str, Column] = {
        "rng_stream_id": Categories(np.arange(len(streams), dtype=np.int8), streams),
        "events": rows,
        "draws": draws,
        "created_utc": Categories(np.zeros(len(streams), np.int8), (created_utc,)),
    }
    return Surface(name, TABLES[name].schema, columns)
