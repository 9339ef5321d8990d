"""A roster brought in from outside: one table of arrivals, as .parquet or .csv, checked whole before it is used.

Columns: utc_timestamp (with its offset: a time without one is refused), merchant_id, utc_day, is_virtual,
arrival_class, channel. Rows ascend by (utc_timestamp, merchant_id). Every row is checked; the first fault
is refused with file, row (from 1) and field. A published s5_arrival_roster reads back as it was.
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

from lanelock.engine.segment_2b.geography import categories, outside
from lanelock.engine.segment_2b.states.s5_roster import (
    DAY_US,
    OCCURRENCES,
    first_day,
    merchants_at,
    names_of,
    occurrences,
)
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.user_tables import read_table, typed_columns
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.policies import DataError

_NEEDED = ("utc_timestamp", "merchant_id", "utc_day", "is_virtual", "arrival_class", "channel")
_IGNORED = ("occurrence", "created_utc")  # of a published roster: found again from the others
_SCHEMA = TABLES["s5_arrival_roster"].schema
_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_US = _A_SECOND["us"]
_EPOCH, _TICK = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)
_TOO_FINE = re.compile(r"[.,]\d{6}0*[1-9]")  # a seventh digit of the second that is not 0


def open_roster(
    path: Path, world: World, days: tuple[str, ...], policy: Mapping[str, Any], created_utc: str
) -> Surface:
    """The surface s5_arrival_roster in a file. Raises DataError naming file, row and field."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; --roster names a .parquet or .csv table of arrivals")
    table = read_table(path)
    types = {name: _SCHEMA.field(name).type for name in _NEEDED if name != "utc_timestamp"}
    columns = typed_columns(path, table, types, _NEEDED, _IGNORED)
    moment = moments(path, table["utc_timestamp"])
    day, klass, channel = (categories(columns[name]) for name in ("utc_day", "arrival_class", "channel"))
    merchant, virtual = columns["merchant_id"], columns["is_virtual"]

    def refuse(bad: NDArray[np.bool_], field: str, bound: str) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            raise DataError(f"{path}: row {rows[0] + 1}: {field}: {bound}")

    law = policy["roster"]
    refuse(outside(day, days), "utc_day", f"outside the policy's horizon {days[0]} … {days[-1]}")
    number = np.array([first_day((name,)) // DAY_US if name in days else 0 for name in day.values], np.int64)
    refuse(moment // DAY_US != number[day.codes], "utc_day", "not the day of utc_timestamp")
    at = merchants_at(world.merchant_id, merchant)
    refuse(at < 0, "merchant_id", "not a merchant of the world")
    refuse(world.is_virtual[at] != virtual, "is_virtual", "the world says otherwise of the merchant")
    refuse(outside(klass, law["class_mix"]), "arrival_class", f"not one of {', '.join(law['class_mix'])}")
    refuse(outside(channel, law["channel_mix"]), "channel", f"not one of {', '.join(law['channel_mix'])}")
    before = np.zeros(len(moment), np.bool_)
    before[1:] = (moment[1:] < moment[:-1]) | ((moment[1:] == moment[:-1]) & (merchant[1:] < merchant[:-1]))
    refuse(before, "utc_timestamp", "not in the order of (utc_timestamp, merchant_id)")
    again = occurrences(moment, merchant)
    refuse(
        again >= OCCURRENCES, "utc_timestamp", f"more than {OCCURRENCES} arrivals of one merchant at one microsecond"
    )
    found: dict[str, Column] = {
        "utc_timestamp": moment,
        "merchant_id": merchant,
        "utc_day": _under(day, days),
        "is_virtual": virtual,
        "arrival_class": _under(klass, names_of(law, "class_mix")),
        "channel": _under(channel, names_of(law, "channel_mix")),
        "occurrence": again,
        "created_utc": Categories(np.zeros(len(moment), np.int8), (created_utc,)),
    }
    return Surface("s5_arrival_roster", _SCHEMA, found)


def moments(path: Path, values: Any) -> NDArray[np.int64]:
    """[a] microseconds since 1970, UTC. Raises DataError where a time is empty, without an offset, or too fine."""
    if values.null_count:
        row = values.combine_chunks().is_null().to_pylist().index(True)
        raise DataError(f"{path}: row {row + 1}: utc_timestamp: empty, a time with an offset is needed")
    if not pa.types.is_timestamp(values.type):
        return np.array([_moment(path, row, str(text)) for row, text in enumerate(values.to_pylist())], np.int64)
    if values.type.tz is None:
        raise DataError(f"{path}: row 1: utc_timestamp: a time without an offset; write it as UTC")
    ticks: NDArray[np.int64] = values.cast(pa.int64()).to_numpy()
    a_second = _A_SECOND[values.type.unit]
    fine, coarse = max(a_second // _US, 1), max(_US // a_second, 1)
    for wrong, bound in (
        (ticks % fine != 0, "finer than a microsecond"),
        (np.abs(ticks // fine) > np.iinfo(np.int64).max // coarse, "outside what microseconds can hold"),
    ):
        if wrong.any():
            raise DataError(f"{path}: row {int(np.argmax(wrong)) + 1}: utc_timestamp: {bound}")
    return ticks // fine * coarse


def _moment(path: Path, row: int, text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{path}: row {row + 1}: utc_timestamp: {text!r} is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise DataError(f"{path}: row {row + 1}: utc_timestamp: {text!r} has no offset; write it as UTC")
    if _TOO_FINE.search(text):
        raise DataError(f"{path}: row {row + 1}: utc_timestamp: {text!r} is finer than a microsecond")
    return (moment - _EPOCH) // _TICK


def _under(column: Categories, values: tuple[str, ...]) -> Categories:
    """The column with its codes in the order of `values`, as a drawn roster has them."""
    place = np.array([values.index(name) for name in column.values], np.int16)
    return Categories(place[column.codes], values)
