"""Imports a roster: one table of arrivals, in any form that `user_tables` reads, every row checked before any is used.

Columns: utc_timestamp (with an offset), merchant_id, utc_day, is_virtual, arrival_class, channel. Rows ascend by
(utc_timestamp, merchant_id). The error names file, row (from 1) and field, and counts the rows like it. A published
s5_arrival_roster reads back unchanged.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.segment_2b.cells import Fault, clean, plain, refuse, refuse_all, typed_columns
from lanelock.engine.segment_2b.geography import categories, outside
from lanelock.engine.segment_2b.states.s5_roster import (
    DAY_US,
    OCCURRENCES,
    first_day,
    merchants_at,
    names_of,
    occurrences,
)
from lanelock.engine.segment_2b.tables import TABLES, constant, published
from lanelock.engine.segment_2b.user_tables import read_table
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Surface

_NEEDED = ("utc_timestamp", "merchant_id", "utc_day", "is_virtual", "arrival_class", "channel")
_IGNORED = ("occurrence", "created_utc")  # columns of a published roster that follow from the others
_SCHEMA = TABLES["s5_arrival_roster"].schema
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_US = _PER_SECOND["us"]
_EPOCH, _TICK = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)
_TOO_FINE = re.compile(r"[.,]\d{6}0*[1-9]")  # a seventh digit of the second that is not 0


def open_roster(
    path: Path, world: World, days: tuple[str, ...], policy: Mapping[str, Any], created_utc: str
) -> Surface:
    """Returns a file as the surface s5_arrival_roster. Raises DataError naming file, row and field."""
    table = read_table(path)
    types = {name: _SCHEMA.field(name).type for name in _NEEDED if name != "utc_timestamp"}
    columns = typed_columns(path, table, types, _NEEDED, _IGNORED)
    moment = moments(path, table["utc_timestamp"])
    day, klass, channel = (categories(columns[name]) for name in ("utc_day", "arrival_class", "channel"))
    merchant, virtual = columns["merchant_id"], columns["is_virtual"]
    law = policy["roster"]
    at = merchants_at(world.merchant_id, merchant)
    before = np.zeros(len(moment), np.bool_)
    before[1:] = (moment[1:] < moment[:-1]) | ((moment[1:] == moment[:-1]) & (merchant[1:] < merchant[:-1]))
    unknown: list[Fault] = [
        (outside(day, days), f"utc_day: outside the policy's horizon {days[0]} … {days[-1]}"),
        (at < 0, "merchant_id: not a merchant of the world"),
        (outside(klass, law["class_mix"]), f"arrival_class: not one of {', '.join(law['class_mix'])}"),
        (outside(channel, law["channel_mix"]), f"channel: not one of {', '.join(law['channel_mix'])}"),
        (before, "utc_timestamp: not in the order of (utc_timestamp, merchant_id)"),
    ]
    refuse_all(path, unknown)
    number = np.array([first_day((name,)) // DAY_US for name in day.values], np.int64)
    occurrence = occurrences(moment, merchant)
    crowded = f"utc_timestamp: more than {OCCURRENCES} arrivals of one merchant at one microsecond"
    contradicted: list[Fault] = [
        (moment // DAY_US != number[day.codes], "utc_day: not the day of utc_timestamp"),
        (world.is_virtual[at] != virtual, "is_virtual: the world says otherwise of the merchant"),
        (occurrence >= OCCURRENCES, crowded),
    ]
    refuse_all(path, contradicted)
    return published(
        "s5_arrival_roster",
        utc_timestamp=moment,
        merchant_id=merchant,
        utc_day=_recoded(day, days),
        is_virtual=virtual,
        arrival_class=_recoded(klass, names_of(law, "class_mix")),
        channel=_recoded(channel, names_of(law, "channel_mix")),
        occurrence=occurrence,
        created_utc=constant(created_utc, len(moment)),
    )


def moments(path: Path, values: Any) -> NDArray[np.int64]:
    """Returns [a] microseconds since 1970, UTC. Raises DataError if a time is empty, has no offset or is too fine."""
    values = plain(path, "utc_timestamp", values)
    refuse(path, values.is_null().to_numpy(), "utc_timestamp: empty, a time with an offset is needed")
    if pa.types.is_string(values.type):
        return _written(path, values)
    if not pa.types.is_timestamp(values.type) or values.type.tz is None:
        stored = "a time without an offset" if pa.types.is_timestamp(values.type) else f"not a time but {values.type}"
        refuse(path, np.ones(len(values), np.bool_), f"utc_timestamp: {stored}; write it as UTC")
    ticks: NDArray[np.int64] = values.cast(pa.int64()).to_numpy()
    per_second = _PER_SECOND[values.type.unit]
    fine, coarse = max(per_second // _US, 1), max(_US // per_second, 1)
    refuse(path, ticks % fine != 0, "utc_timestamp: finer than a microsecond")
    most = np.iinfo(np.int64).max // coarse
    refuse(path, (ticks // fine > most) | (ticks // fine < -most), "utc_timestamp: outside what microseconds can hold")
    return ticks // fine * coarse


def _written(path: Path, values: Any) -> NDArray[np.int64]:
    """Returns [a] the microseconds since 1970 of ISO 8601 times."""
    found = [_moment(text) for text in values.to_pylist()]
    bad = np.array([isinstance(moment, str) for moment in found], np.bool_)
    refuse(path, bad, lambda row: f"utc_timestamp: {clean(repr(values[row].as_py()), 60)} {found[row]}")
    return np.array(found, np.int64)


def _moment(text: str) -> int | str:
    """Returns the microseconds since 1970 of an ISO 8601 time, or what is wrong with it."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return "is not an ISO 8601 time"
    if moment.tzinfo is None:
        return "has no offset; write it as UTC"
    if _TOO_FINE.search(text):
        return "is finer than a microsecond"
    return (moment - _EPOCH) // _TICK


def _recoded(column: Categories, values: tuple[str, ...]) -> Categories:
    """Returns the column with codes into `values`, as a drawn roster has them."""
    place = np.array([values.index(name) for name in column.values], np.int16)
    return Categories(place[column.codes], values)
