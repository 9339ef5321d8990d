"""The logs of random draws: every draw of S5 and S6 by its address, and the totals of each stream."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.surface import Categories, Surface


def events(name: str, log: Surface, counter: str, stream: str) -> Surface:
    """Returns one event per row of `log`: the draw that its `counter` columns address. Shares the log's arrays."""
    return published(
        name,
        utc_timestamp=log["utc_timestamp"],
        merchant_id=log["merchant_id"],
        utc_day=log["utc_day"],
        rng_stream_id=constant(stream, log.rows),
        rng_counter_hi=log[f"{counter}_hi"],
        rng_counter_lo=log[f"{counter}_lo"],
        draws=np.ones(log.rows, np.int32),
        created_utc=log["created_utc"],
    )


def trace(name: str, logs: Mapping[str, Surface], created_utc: str) -> Surface:
    """Returns the events and draws of each stream; `logs` maps a stream's id to its event log."""
    streams = tuple(sorted(logs))
    return published(
        name,
        rng_stream_id=Categories(np.arange(len(streams), dtype=np.int8), streams),
        events=np.array([logs[stream].rows for stream in streams], np.int64),
        draws=np.array([int(np.asarray(logs[stream]["draws"]).sum()) for stream in streams], np.int64),
        created_utc=constant(created_utc, len(streams)),
    )
