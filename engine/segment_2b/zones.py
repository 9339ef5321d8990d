"""The time zones of places: their countries, other names and offsets, shipped as `zones.arrow`.

Neither the host's list of zones nor an installed tzdata decides what a zone is. A zone's other names are the same
zone; a link that gives a country a zone of its own (Europe/Amsterdam) is no other name. `tests/zone_table.py` makes
the table from tzdata, and a test compares the two (docs/adr/0007-shipped-city-table.md).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.columns import numbers_of
from lanelock.policies import IntegrityError

ZONES = Path(__file__).with_name("zones.arrow")
TZDATA = "2026f"  # the version that the table was made from
AN_IANA_ZONE = f"an IANA zone of a place (tzdata {TZDATA})"  # for messages: "X is not ..."
# Part of the source, so that the key of a world covers the table along with the code.
_ZONES_SHA256 = "5364c3e8a077651d6304cc8cc89b84da6644631e0759d6a9a7e341ba66c2591e"


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """A zone of a place, or of the sea."""

    name: str  # IANA tzid
    countries: frozenset[str]  # ISO-3166 alpha-2 of the countries that have places in it; empty at sea
    other_names: tuple[str, ...]
    since: NDArray[np.int64]  # [k] UTC seconds, ascending, of the changes of the offset from 1970 until 2100
    offset: NDArray[np.int32]  # [k] seconds from UTC, from then on


@cache
def zones() -> Mapping[str, Zone]:
    """Returns all zones by name. Raises IntegrityError where the file is not the shipped one."""
    data = ZONES.read_bytes()
    if hashlib.sha256(data).hexdigest() != _ZONES_SHA256:
        raise IntegrityError(f"{ZONES}: not the table of zones that this version ships; install it again")
    table = pa.ipc.open_file(data).read_all().combine_chunks()
    rows = zip(*(table[name] for name in ("zone", "countries", "other_names", "since", "offset")), strict=True)
    found = (
        Zone(
            name.as_py(),
            frozenset(countries.as_py()),
            tuple(names.as_py()),
            numbers_of(since.values),
            numbers_of(offset.values),
        )
        for name, countries, names, since, offset in rows
    )
    return {zone.name: zone for zone in found}


@cache
def canonical_names() -> Mapping[str, str]:
    """Returns every name of a zone -> the zone's own."""
    return {name: zone.name for zone in zones().values() for name in (zone.name, *zone.other_names)}


def countries_of(name: str) -> frozenset[str]:
    """Returns the countries that have places in a zone; empty for an unknown one."""
    zone = zones().get(name)
    return frozenset() if zone is None else zone.countries


@lru_cache(maxsize=64)
def rules_over(start_day: str, days: int) -> Mapping[str, int]:
    """Returns zone -> the number of its rules: zones with one number have the same offset all the horizon long."""
    first = int(dt.datetime.fromisoformat(start_day).replace(tzinfo=dt.UTC).timestamp())
    last = first + 86400 * days
    numbers: dict[tuple[bytes, bytes], int] = {}
    return {name: numbers.setdefault(_within(zone, first, last), len(numbers)) for name, zone in zones().items()}


def _within(zone: Zone, first: int, last: int) -> tuple[bytes, bytes]:
    """Returns the changes of a zone's offset in [first, last), and the offsets from `first` on."""
    begin = max(int(np.searchsorted(zone.since, first, side="right")) - 1, 0)
    end = int(np.searchsorted(zone.since, last))
    return zone.since[begin + 1 : end].tobytes(), zone.offset[begin : max(end, begin + 1)].tobytes()
