"""A world brought in from outside, and one written out: the same tables both ways.

A folder holds `site_locations`, optionally `site_timezones` and `merchants`, each as .parquet or .csv.
Every row is checked before any is used; the first fault is refused with file, row (from 1) and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.keep.columns import arrow
from lanelock.engine.keep.staging import write_file
from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.draw_world import ZONE_SOURCES, assemble_world, describe
from lanelock.engine.segment_2b.geography import categories, compacted, distinct, outside
from lanelock.engine.segment_2b.user_tables import read_table, typed_columns
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_receipt import passed, world_files
from lanelock.engine.surface import Categories
from lanelock.policies import DataError

Table = Mapping[str, NDArray[Any]]
_KEY = ("merchant_id", "legal_country_iso", "site_order")
_TYPES = {
    "merchant_id": pa.uint64(),
    "legal_country_iso": pa.string(),
    "site_order": pa.int32(),
    "lat_deg": pa.float64(),
    "lon_deg": pa.float64(),
    "tzid": pa.string(),
    "tz_source": pa.string(),
    "is_virtual": pa.bool_(),
}
_COLUMNS = {
    "site_locations": (*_KEY, "lat_deg", "lon_deg"),
    "site_timezones": (*_KEY, "tzid"),
    "merchants": ("merchant_id", "is_virtual"),
}
_OPTIONAL = {"site_timezones": ("tz_source",)}


def open_world(folder: Path, policy: Mapping[str, Any]) -> World:
    """The world in a folder; without site_timezones, zones are found by polygon under `policy`."""
    world_files(folder)  # a world that was written is read only if it passes
    path, sites = _read(folder, "site_locations", required=True)
    _check_sites(path, sites)
    zone, zone_source = None, None
    if (zones := _read(folder, "site_timezones", required=False))[1] is not None:
        zone, zone_source = _zones_of(path, sites, *zones)
    ids = np.unique(sites["merchant_id"])
    virtual = _virtual(folder, ids)
    return assemble_world(
        source="imported",
        merchant_id=ids,
        is_virtual=virtual,
        site_merchant=sites["merchant_id"],
        country=categories(sites["legal_country_iso"]),
        site_order=sites["site_order"],
        lat_deg=sites["lat_deg"].copy(),
        lon_deg=sites["lon_deg"].copy(),
        zone=zone,
        zone_source=zone_source,
        zone_policy=policy["zones"],
    )


def write_world(world: World, folder: Path) -> None:
    """Writes a world's files into a folder."""
    for name, data in files_of(world).items():
        write_file(folder / name, data)


def files_of(world: World) -> dict[str, bytes]:
    """Returns the three tables, their receipt and flag, by name; reading them back gives the same arrays."""
    import pyarrow.parquet as pq  # here, since a run that is not published writes no file

    merchant = world.merchant_id[np.repeat(np.arange(len(world.merchant_id)), np.diff(world.site_offsets))]
    key = {"merchant_id": merchant, "legal_country_iso": _strings(world.country), "site_order": world.site_order}
    tables = {
        "site_locations": {**key, "lat_deg": world.lat_deg, "lon_deg": world.lon_deg},
        "site_timezones": {**key, "tzid": _strings(world.zone), "tz_source": _strings(world.zone_source)},
        "merchants": {"merchant_id": world.merchant_id, "is_virtual": world.is_virtual},
    }
    files = {}
    for name, columns in tables.items():
        schema = pa.schema([pa.field(column, _TYPES[column], nullable=False) for column in columns])
        arrays, sink = [arrow(columns[field.name], field.type) for field in schema], pa.BufferOutputStream()
        pq.write_table(pa.table(arrays, schema), sink)
        files[f"{name}.parquet"] = sink.getvalue().to_pybytes()
    return passed(files, describe(world))


def _read(folder: Path, name: str, *, required: bool) -> tuple[Path, Any]:
    """Returns (path, columns) with the declared types, or (path, None) where it is optional and absent."""
    found = [path for path in (folder / f"{name}.parquet", folder / f"{name}.csv") if path.exists()]
    if len(found) > 1:
        raise DataError(f"{folder}: both {found[0].name} and {found[1].name}: keep one")
    path = found[0] if found else folder / f"{name}.parquet"
    if not found:
        if required:
            raise DataError(f"{path}: no such file (nor {name}.csv)")
        return path, None
    table = read_table(path)
    return path, typed_columns(path, table, _TYPES, _COLUMNS[name], _OPTIONAL.get(name, ()))


def _check_sites(path: Path, sites: Table) -> None:
    def refuse(bad: NDArray[np.bool_], column: str, bound: str) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            raise DataError(f"{path}: row {rows[0] + 1}: {column}: {sites[column][rows[0]]!s}: {bound}")

    countries = categories(sites["legal_country_iso"])
    refuse(outside(countries, geography.known_countries()), "legal_country_iso", "not an ISO-3166 alpha-2 code")
    refuse(sites["site_order"] < 1, "site_order", "below the minimum 1")
    for column, limit in (("lat_deg", 90), ("lon_deg", 180)):
        refuse(~(np.abs(sites[column]) <= limit), column, f"outside -{limit} … {limit}")  # NaN is outside too
    refuse(_repeated(*_key(sites)), "site_order", f"the key ({', '.join(_KEY)}) is given twice")


def _zones_of(path: Path, sites: Table, zone_path: Path, zones: Table) -> tuple[Categories, Categories]:
    """Returns the zone of each site and where it came from, in the sites' order."""
    zone = categories(zones["tzid"])
    if len(unknown := np.flatnonzero(outside(zone, geography.known_zones()))):
        row = unknown[0]
        raise DataError(f"{zone_path}: row {row + 1}: tzid: {zones['tzid'][row]!r} is not an IANA zone")
    if len(twice := np.flatnonzero(_repeated(*_key(zones)))):
        raise DataError(f"{zone_path}: row {twice[0] + 1}: the key ({', '.join(_KEY)}) is given twice")
    which, first = distinct(*(np.concatenate(pair) for pair in zip(_key(zones), _key(sites), strict=True)))
    row = first[which[len(zone) :]]  # a key stands first in the zones, where they have it
    if len(missing := np.flatnonzero(row >= len(zone))):
        raise DataError(f"{path}: row {missing[0] + 1}: the site has no row in {zone_path.name}")
    if len(extra := np.setdiff1d(np.arange(len(zone)), row)):
        raise DataError(f"{zone_path}: row {extra[0] + 1}: the site has no row in {path.name}")
    return compacted(Categories(zone.codes[row], zone.values)), _zone_sources(zone_path, zones, row)


def _zone_sources(path: Path, zones: Table, row: NDArray[np.int64]) -> Categories:
    """Returns where each zone came from; a table that does not say is taken to have looked it up."""
    if "tz_source" not in zones:
        return Categories(np.full(len(row), ZONE_SOURCES.index("polygon"), np.int8), ZONE_SOURCES)
    stated = categories(zones["tz_source"])
    if len(unknown := np.flatnonzero(outside(stated, ZONE_SOURCES))):
        value, known = zones["tz_source"][unknown[0]], ", ".join(ZONE_SOURCES)
        raise DataError(f"{path}: row {unknown[0] + 1}: tz_source: {value!r} is not one of {known}")
    code = np.array([ZONE_SOURCES.index(value) for value in stated.values], np.int8)
    return Categories(code[stated.codes[row]], ZONE_SOURCES)


def _virtual(folder: Path, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    path, merchants = _read(folder, "merchants", required=False)
    if merchants is None:
        return np.zeros(len(ids), np.bool_)
    known = merchants["merchant_id"]
    if len(twice := np.flatnonzero(_repeated(known))):
        raise DataError(f"{path}: row {twice[0] + 1}: merchant_id: given twice")
    if not np.array_equal(np.sort(known), ids):
        odd = np.setxor1d(known, ids)[0]
        raise DataError(f"{path}: merchant_id {odd}: merchants and site_locations must name the same merchants")
    return np.asarray(merchants["is_virtual"][np.argsort(known)])


def _key(table: Table) -> list[NDArray[Any]]:
    return [table[name] for name in _KEY]


def _repeated(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns [n] whether an earlier row holds the same."""
    which, first = distinct(*columns)
    return first[which] < np.arange(len(which))


def _strings(column: Categories) -> NDArray[np.object_]:
    found: NDArray[np.object_] = np.array(column.values, object)[column.codes]
    return found
