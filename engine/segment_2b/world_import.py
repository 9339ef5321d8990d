"""Imports a world from a folder of tables, and writes one out in the same form.

A folder holds `site_locations`, optionally `site_timezones` and `merchants`, each in any form that `user_tables` reads,
or is the root of a tree of the record's form (`record.given`).
All rows are checked before any is used; the error names file, row (from 1) and field, and counts the rows like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.columns import arrow
from lanelock.engine.keep.staging import write_file
from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.cells import refuse, refuse_all, typed_columns
from lanelock.engine.segment_2b.draw_world import ALL_ZONE_SOURCES, assemble_world, describe, zone_sources
from lanelock.engine.segment_2b.geography import categories, compacted, distinct, outside
from lanelock.engine.segment_2b.record import given
from lanelock.engine.segment_2b.user_tables import READ, read_table, table_file
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_receipt import TABLES, passed, world_files
from lanelock.engine.segment_2b.zones import AN_IANA_ZONE, canonical_names
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
_TWICE = f"the key ({', '.join(_KEY)}) is given twice"


def open_world(folder: Path, policy: Mapping[str, Any]) -> World:
    """Returns the world in a folder; without site_timezones, zones are looked up by polygon under `policy`."""
    world_files(folder)  # checks the receipt of a world that Lanelock wrote
    path, sites = _read(folder, "site_locations", required=True)
    _check_sites(path, sites)
    zone, zone_source = None, None
    if (zones := _read(folder, "site_timezones", required=False))[1] is not None:
        zone, zone_source = _zones_of(path, sites, *zones)
    ids = np.unique(sites["merchant_id"])
    return assemble_world(
        source="imported",
        merchant_id=ids,
        is_virtual=_virtual(folder, ids),
        site_merchant=sites["merchant_id"],
        country=categories(sites["legal_country_iso"]),
        site_order=sites["site_order"],
        lat_deg=sites["lat_deg"],
        lon_deg=sites["lon_deg"],
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
    """Returns (path, columns in their declared types), or (path, None) for an optional table that is absent."""
    if given.is_tree(folder):
        file, table = given.read(folder, name, (*_COLUMNS[name], *_OPTIONAL.get(name, ())))
        return file, None if table is None else _typed(file, table, name)
    path = table_file(folder, name, TABLES)
    if path is None:
        if required:
            raise DataError(f"{folder}: no table {name}; it is a file {name} ending in {READ}")
        return folder / name, None
    return path, _typed(path, read_table(path), name)


def _typed(path: Path, table: pa.Table, name: str) -> Table:
    return typed_columns(path, table, _TYPES, _COLUMNS[name], _OPTIONAL.get(name, ()))


def _check_sites(path: Path, sites: Table) -> None:
    countries = categories(sites["legal_country_iso"])
    checks = (
        ("legal_country_iso", outside(countries, geography.known_countries()), "not an ISO-3166 alpha-2 code"),
        ("site_order", sites["site_order"] < 1, "below the minimum 1"),
        ("lat_deg", ~(np.abs(sites["lat_deg"]) <= 90), "outside -90 … 90"),  # NaN is outside too
        ("lon_deg", ~(np.abs(sites["lon_deg"]) <= 180), "outside -180 … 180"),
        ("site_order", _repeated(*_key(sites)), _TWICE),
    )
    refuse_all(path, [(bad, partial(_said, sites, column, bound)) for column, bad, bound in checks])


def _said(sites: Table, column: str, bound: str, row: int) -> str:
    return f"{column}: {sites[column][row]!s}: {bound}"


def _zones_of(path: Path, sites: Table, zone_path: Path, zones: Table) -> tuple[Categories, Categories]:
    """Returns each site's zone and the source of that zone, in the order of the sites."""
    zone = categories(zones["tzid"])
    unknown = outside(zone, canonical_names())
    refuse(zone_path, unknown, lambda row: f"tzid: {zones['tzid'][row]!r} is not {AN_IANA_ZONE}")
    refuse(zone_path, _repeated(*_key(zones)), _TWICE)
    which, first = distinct(*(np.concatenate(pair) for pair in zip(_key(zones), _key(sites), strict=True)))
    row = first[which[len(zone) :]]  # the first occurrence of a key is its row in the zones, if they have it
    refuse(path, row >= len(zone), f"the site has no row in {zone_path.name}")
    refuse(zone_path, ~np.isin(np.arange(len(zone)), row), f"the site has no row in {path.name}")
    return compacted(Categories(zone.codes[row], zone.values)), _zone_sources(zone_path, zones, row)


def _zone_sources(path: Path, zones: Table, row: NDArray[np.int64]) -> Categories:
    """Returns the source of each zone: "polygon" if the table has no tz_source."""
    if "tz_source" not in zones:
        return zone_sources(np.full(len(row), ALL_ZONE_SOURCES.index("polygon")))
    stated = categories(zones["tz_source"])
    known = ", ".join(ALL_ZONE_SOURCES)
    unknown = outside(stated, ALL_ZONE_SOURCES)
    refuse(path, unknown, lambda row: f"tz_source: {zones['tz_source'][row]!r} is not one of {known}")
    code = np.array([ALL_ZONE_SOURCES.index(value) for value in stated.values])
    return zone_sources(code[stated.codes[row]])


def _virtual(folder: Path, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    path, merchants = _read(folder, "merchants", required=False)
    if merchants is None:
        return np.zeros(len(ids), np.bool_)
    known = merchants["merchant_id"]
    refuse(path, _repeated(known), "merchant_id: given twice")
    if not np.array_equal(np.sort(known), ids):
        odd = np.setxor1d(known, ids)[0]
        raise DataError(f"{path}: merchant_id {odd}: merchants and site_locations must name the same merchants")
    return np.asarray(merchants["is_virtual"][np.argsort(known)])


def _key(table: Table) -> list[NDArray[Any]]:
    return [table[name] for name in _KEY]


def _repeated(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns [n] whether an earlier row has the same values."""
    which, first = distinct(*columns)
    return first[which] < np.arange(len(which))


def _strings(column: Categories) -> NDArray[np.object_]:
    return np.asarray(np.array(column.values, object)[column.codes])
