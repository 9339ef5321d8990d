"""A world brought in from outside, and one written out: the same tables both ways.

A folder holds `site_locations`, optionally `site_timezones` and `merchants`, each as .parquet or .csv.
Every row is checked before any is used; the first fault is refused with file, row (from 1) and field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.draw_world import ZONE_SOURCES, assemble_world, describe
from lanelock.engine.segment_2b.geography import categories
from lanelock.engine.segment_2b.user_tables import read_table, typed_columns
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_receipt import pass_world, world_files
from lanelock.engine.surface import Categories
from lanelock.policies import DataError

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
    ids = np.unique(sites["merchant_id"].to_numpy(np.uint64))
    virtual = _virtual(folder, ids)
    country = sites["legal_country_iso"].to_numpy(object)
    return assemble_world(
        source="imported",
        merchant_id=ids,
        is_virtual=virtual,
        site_merchant=sites["merchant_id"].to_numpy(np.uint64),
        country=categories(country),
        site_order=sites["site_order"].to_numpy(np.int32),
        lat_deg=sites["lat_deg"].to_numpy(np.float64).copy(),
        lon_deg=sites["lon_deg"].to_numpy(np.float64).copy(),
        zone=zone,
        zone_source=zone_source,
        zone_policy=policy["zones"],
    )


def write_world(world: World, folder: Path) -> None:
    """Writes the three tables, their receipt and flag; reading them back gives the same arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    merchant = world.merchant_id[np.repeat(np.arange(len(world.merchant_id)), np.diff(world.site_offsets))]
    key = {"merchant_id": merchant, "legal_country_iso": _strings(world.country), "site_order": world.site_order}
    tables = {
        "site_locations": {**key, "lat_deg": world.lat_deg, "lon_deg": world.lon_deg},
        "site_timezones": {**key, "tzid": _strings(world.zone), "tz_source": _strings(world.zone_source)},
        "merchants": {"merchant_id": world.merchant_id, "is_virtual": world.is_virtual},
    }
    for name, columns in tables.items():
        schema = pa.schema([pa.field(column, _TYPES[column], nullable=False) for column in columns])
        pq.write_table(
            pa.table([pa.array(values, _TYPES[column]) for column, values in columns.items()], schema),
            folder / f"{name}.parquet",
        )
    pass_world(folder, describe(world))


def _read(folder: Path, name: str, *, required: bool) -> tuple[Path, Any]:
    """The table as pandas with the declared types, or (path, None) where it is optional and absent."""
    found = [path for path in (folder / f"{name}.parquet", folder / f"{name}.csv") if path.exists()]
    if len(found) > 1:
        raise DataError(f"{folder}: both {found[0].name} and {found[1].name}: keep one")
    path = found[0] if found else folder / f"{name}.parquet"
    if not found:
        if required:
            raise DataError(f"{path}: no such file (nor {name}.csv)")
        return path, None
    table = read_table(path)
    return path, pd.DataFrame(typed_columns(path, table, _TYPES, _COLUMNS[name], _OPTIONAL.get(name, ())))


def _check_sites(path: Path, sites: Any) -> None:
    def refuse(bad: Any, column: str, bound: str) -> None:
        rows = np.flatnonzero(np.asarray(bad))
        if len(rows):
            raise DataError(f"{path}: row {rows[0] + 1}: {column}: {sites[column].iloc[rows[0]]!s}: {bound}")

    refuse(
        ~sites["legal_country_iso"].isin(geography.known_countries()),
        "legal_country_iso",
        "not an ISO-3166 alpha-2 code",
    )
    refuse(sites["site_order"] < 1, "site_order", "below the minimum 1")
    _check_range(refuse, sites, "lat_deg", 90)
    _check_range(refuse, sites, "lon_deg", 180)
    refuse(
        sites.duplicated(list(_KEY)),
        "site_order",
        "the key (merchant_id, legal_country_iso, site_order) is given twice",
    )


def _check_range(refuse: Callable[[Any, str, str], None], sites: Any, column: str, limit: float) -> None:
    value = sites[column].to_numpy()
    refuse(~(np.abs(value) <= limit), column, f"outside -{limit} … {limit}")  # NaN is outside too


def _zones_of(path: Path, sites: Any, zone_path: Path, zones: Any) -> tuple[Categories, Categories]:
    """The zone of each site and where it came from, in the sites' order."""
    unknown = np.flatnonzero(~zones["tzid"].isin(geography.known_zones()).to_numpy())
    if len(unknown):
        row = unknown[0]
        raise DataError(f"{zone_path}: row {row + 1}: tzid: {zones['tzid'].iloc[row]!r} is not an IANA zone")
    twice = np.flatnonzero(zones.duplicated(list(_KEY)).to_numpy())
    if len(twice):
        raise DataError(
            f"{zone_path}: row {twice[0] + 1}: the key (merchant_id, legal_country_iso, site_order) is given twice"
        )
    lookup = pd.Series(zones["tzid"].to_numpy(object), index=pd.MultiIndex.from_frame(zones[list(_KEY)]))
    wanted = pd.MultiIndex.from_frame(sites[list(_KEY)])
    missing = np.flatnonzero(~wanted.isin(lookup.index))
    if len(missing):
        raise DataError(f"{path}: row {missing[0] + 1}: the site has no row in {zone_path.name}")
    if len(lookup) > len(wanted):
        extra = np.flatnonzero(~lookup.index.isin(wanted))[0]
        raise DataError(f"{zone_path}: row {extra + 1}: the site has no row in {path.name}")
    row = lookup.index.get_indexer(wanted)
    return categories(lookup.to_numpy(object)[row]), _zone_sources(zone_path, zones, row)


def _zone_sources(path: Path, zones: Any, row: NDArray[np.intp]) -> Categories:
    """Where each zone came from; a table that does not say is taken to have looked it up."""
    said = zones["tz_source"] if "tz_source" in zones else pd.Series("polygon", index=zones.index)
    codes = pd.Index(ZONE_SOURCES).get_indexer(said)
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        seen, known = said.iloc[unknown[0]], ", ".join(ZONE_SOURCES)
        raise DataError(f"{path}: row {unknown[0] + 1}: tz_source: {seen!r} is not one of {known}")
    return Categories(codes[row].astype(np.int8), ZONE_SOURCES)


def _virtual(folder: Path, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    path, merchants = _read(folder, "merchants", required=False)
    if merchants is None:
        return np.zeros(len(ids), np.bool_)
    found = merchants["merchant_id"].to_numpy(np.uint64)
    if len(np.unique(found)) < len(found):
        row = int(np.flatnonzero(merchants.duplicated("merchant_id").to_numpy())[0])
        raise DataError(f"{path}: row {row + 1}: merchant_id: given twice")
    if not np.array_equal(np.sort(found), ids):
        odd = np.setxor1d(found, ids)[0]
        raise DataError(f"{path}: merchant_id {odd}: merchants and site_locations must name the same merchants")
    return np.array(merchants["is_virtual"].to_numpy(np.bool_)[np.argsort(found)])


def _strings(column: Categories) -> NDArray[np.object_]:
    found: NDArray[np.object_] = np.array(column.values, object)[column.codes]
    return found
