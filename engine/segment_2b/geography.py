"""Real geography: cities with population (GeoNames, shipped as `cities.arrow`) and zones by polygon (`tzfpy`).

The table is shipped, not read from an installed GeoNames package, so a seed's world does not depend on what is
installed, and no start parses 16 MB of JSON. `tests/city_table.py` makes the table, and a test compares the two.

tzfpy rather than timezonefinder: it looks up 34,000 points in 0.07 s and weighs 5 MB, so zones need not be stored.
No coordinate is invented: a site has the coordinates of its city.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tzfpy
from numpy.typing import NDArray

from lanelock.engine.arithmetic import arcsin, cos, sin
from lanelock.engine.columns import arrow, numbers_of
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.zones import canonical_names
from lanelock.engine.surface import Categories
from lanelock.policies import IntegrityError

EARTH_KM = 6371.0088  # mean radius
CITIES = Path(__file__).with_name("cities.arrow")
# Part of the source, so that the key of a world covers the table along with the code.
_CITIES_SHA256 = "1e55e7fb60e5de5b7e2a52e8cd4f973a69b90d9d7983413d3d658e0eb2c5be5f"
_COUNTRIES = """\
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI
KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY
MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG
SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE
VG VI VN VU WF WS XK YE YT ZA ZM ZW"""


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
    """Returns all cities, read once per process. Raises IntegrityError where the file is not the shipped one."""
    data = CITIES.read_bytes()
    if hashlib.sha256(data).hexdigest() != _CITIES_SHA256:
        raise IntegrityError(f"{CITIES}: not the city table that this version ships; install it again")
    table = pa.ipc.open_file(data).read_all()
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    lat, lon, people = (numbers_of(columns[name]) for name in ("latitude", "longitude", "population"))
    return Cities(lat, lon, people.astype(np.float64), _coded(columns["country"]), _coded(columns["zone"]))


@cache
def known_countries() -> frozenset[str]:
    """Returns the ISO-3166 alpha-2 codes in use, and XK (Kosovo), which has none of its own."""
    return frozenset(_COUNTRIES.split())


def canonical_zones(column: Categories) -> tuple[Categories, NDArray[np.bool_]]:
    """Returns zones under their own names, and [n] which were given under another; all names are known ones."""
    names = canonical_names()
    other = np.array([names[name] != name for name in column.values], np.bool_)
    own = Categories(column.codes, tuple(names[name] for name in column.values))
    return compacted(own), np.asarray(other[column.codes])


def one_place(
    lat_deg: NDArray[np.float64], lon_deg: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns copies of coordinates in which every place has one pair of numbers.

    Longitude -180 becomes 180; a pole's longitude becomes 0; minus zero becomes zero.
    """
    lon_deg = np.where(lon_deg == -180.0, 180.0, lon_deg)
    lon_deg = np.where(np.abs(lat_deg) == 90.0, 0.0, lon_deg)
    return lat_deg + 0.0, lon_deg + 0.0  # -0.0 + 0.0 is 0.0


def categories(values: Any) -> Categories:
    """Returns strings as sorted categories."""
    return _coded(arrow(values, pa.string()).dictionary_encode())


def _coded(column: pa.DictionaryArray) -> Categories:
    return compacted(Categories(numbers_of(column.indices), tuple(column.dictionary.to_pylist())))


def outside(column: Categories, known: Collection[str]) -> NDArray[np.bool_]:
    """Returns [n] whether a row's value is missing from `known`."""
    return np.asarray(np.array([value not in known for value in column.values], np.bool_)[column.codes])


def distinct(*columns: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns [n] the number of each row's value, and [k] the first row with each value.

    Values (rows across all columns) are numbered by first appearance.
    """
    which = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        count, codes = _numbered(column)
        which = _numbered(which * count + codes)[1]
    first = np.empty(int(which.max(initial=-1)) + 1, np.int64)
    first[which[::-1]] = np.arange(len(which))[::-1]
    return which, first


def _numbered(column: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """Returns how many values a column has, and [n] which of them each is, as they are met."""
    kind = pa.string() if column.dtype == object else pa.from_numpy_dtype(column.dtype)
    coded = arrow(column, kind).dictionary_encode()
    return len(coded.dictionary), numbers_of(coded.indices).astype(np.int64)


def compacted(column: Categories) -> Categories:
    """Returns the same column with sorted categories and no unused ones."""
    used = np.flatnonzero(np.bincount(column.codes, minlength=len(column.values)))
    names = sorted({column.values[code] for code in used})
    code = np.zeros(len(column.values), np.int32)
    code[used] = [names.index(column.values[place]) for place in used]
    return Categories(code[column.codes], tuple(names))


@cache
def zone_of(lat_deg: float, lon_deg: float, nudge_deg: float) -> tuple[str, str]:
    """Returns (zone, source) of a point: "polygon", or "nudge" if a border made it ambiguous.

    A point in no polygon or in several is moved north-east by `nudge_deg` and looked up again; with a nudge of
    zero, or if the moved point lies in no polygon, the first polygon of the original point counts.
    """
    if len(tzfpy.get_tzs(lon_deg, lat_deg)) != 1 and nudge_deg > 0.0:
        east = lon_deg + nudge_deg
        moved = tzfpy.get_tz(east - 360.0 if east > 180.0 else east, min(lat_deg + nudge_deg, 90.0))
        if moved:
            return _canonical(moved), "nudge"
    return _canonical(tzfpy.get_tz(lon_deg, lat_deg)), "polygon"


@cache
def polygons(lat_deg: float, lon_deg: float) -> frozenset[str]:
    """Returns the zones of all polygons that hold a point; the sea has polygons too."""
    return frozenset(_canonical(name) for name in tzfpy.get_tzs(lon_deg, lat_deg))


def _canonical(name: str) -> str:
    """Returns the zone's own name; a name that is not in the table of zones stays as it is."""
    return canonical_names().get(name, name)


def distance_km(lat_a: Any, lon_a: Any, lat_b: Any, lon_b: Any) -> NDArray[np.float64]:
    """Returns great-circle distances in kilometres from degrees; broadcasts."""
    degrees = np.broadcast_arrays(lat_a, lon_a, lat_b, lon_b)
    radians = [np.radians(np.asarray(each, np.float64)).ravel() for each in degrees]
    return np.asarray(_distances(*radians).reshape(degrees[0].shape))


@compiled
def great_circle_km(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Returns the distance of two points in radians, for compiled loops."""
    up, across = sin((lat_a - lat_b) / 2.0), sin((lon_a - lon_b) / 2.0)
    half = up * up + cos(lat_a) * cos(lat_b) * (across * across)
    return 2.0 * EARTH_KM * arcsin(np.sqrt(min(half, 1.0)))


@compiled
def _distances(lat_a: Any, lon_a: Any, lat_b: Any, lon_b: Any) -> Any:
    out = np.empty(len(lat_a), np.float64)
    for i in range(len(out)):
        out[i] = great_circle_km(lat_a[i], lon_a[i], lat_b[i], lon_b[i])
    return out
