"""The record's tables in Parquet: exactly the columns that its readers admit, in their order.

What ours have beside these (which law and segment gave a number) stands in the samples of the run reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from lanelock.engine.keep.receipts import text_of
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b import layout
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.record.bundle import FILES, bundled, rows, sha256
from lanelock.engine.segment_2b.record.given import MERCHANTS
from lanelock.engine.segment_2b.record.places import place
from lanelock.engine.segment_2b.tables import constant
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.zones import zones
from lanelock.engine.surface import Categories, Column, Surface

_SITE = ("merchant_id", "legal_country_iso", "site_order")
_GROUP_DAY = ("merchant_id", "utc_day", "tz_group_id")
_DRAW = ("rng_stream_id", "rng_counter_lo", "rng_counter_hi")
COLUMNS = {
    "s1_site_weights": (*_SITE, "p_weight", "weight_source", "quantised_bits", "floor_applied", "created_utc"),
    "s3_day_effects": (*_GROUP_DAY, "gamma", "log_gamma", "sigma_gamma", *_DRAW, "created_utc"),
    "s4_group_weights": (*_GROUP_DAY, "p_group", "base_share", "gamma", "created_utc", "mass_raw", "denom_raw"),
}
_TYPES = {
    "merchant_id": pa.uint64(),
    "legal_country_iso": pa.string(),
    "site_order": pa.int32(),
    "lat_deg": pa.float64(),
    "lon_deg": pa.float64(),
    "tzid": pa.string(),
    "tz_source": pa.string(),
    "is_virtual": pa.bool_(),
    "utc_second": pa.int64(),
    "offset_seconds": pa.int32(),
}


def state_tables(run: Run, address: Address, stream: str) -> Iterator[tuple[str, Any]]:
    """Yields path and bytes of the tables of S1, S3 and S4. `stream`: what the record's policy calls that of S3."""
    for name, columns in COLUMNS.items():
        surface = run.surfaces[name]
        said = {"created_utc": run.sealed.created_utc, "rng_stream_id": stream}
        strict = {
            column: constant(said[column], surface.rows) if column in said else surface[column] for column in columns
        }
        schema = pa.schema([surface.schema.field(column) for column in columns])
        yield _file(name, address), _parquet(Surface(name, schema, strict))


def upstream_files(world: World, address: Address) -> dict[str, bytes]:
    """Returns the world by path: the sites of 1B, the zones of 2A and their changes, and the bundle over all three.

    The bundle's evidence says which merchants are virtual. The timetable has one row per change of a zone's offset.
    """
    merchant = world.merchant_id[np.repeat(np.arange(len(world.merchant_id)), np.diff(world.site_offsets))]
    key: dict[str, Column] = dict(zip(_SITE, (merchant, world.country, world.site_order), strict=True))
    sites = _table("site_locations", **key, lat_deg=world.lat_deg, lon_deg=world.lon_deg)
    source = _table("site_timezones", **key, tzid=world.zone, tz_source=world.zone_source)
    virtual = _table("merchants", merchant_id=world.merchant_id, is_virtual=world.is_virtual)
    files = {
        _file("site_locations", address): sites,
        _file("site_timezones", address): source,
        _file("tz_timetable_cache", address): _timetable(world),
    }
    listed = text_of(rows({path: sha256(data) for path, data in files.items()})).encode()
    folder = place("validation_bundle_1B", address)
    bundle = {f"{folder}{name}": data for name, data in bundled({MERCHANTS: virtual, FILES: listed}).items()}
    return files | bundle


def _timetable(world: World) -> bytes:
    known = [zones()[name] for name in world.zones]
    changes = [len(zone.since) for zone in known]
    return _table(
        "tz_timetable_cache",
        tzid=Categories(np.repeat(np.arange(len(known), dtype=np.int32), changes), world.zones),
        utc_second=np.concatenate([zone.since for zone in known]),
        offset_seconds=np.concatenate([zone.offset for zone in known]),
    )


def _table(name: str, **columns: Column) -> bytes:
    schema = pa.schema([pa.field(column, _TYPES[column], nullable=False) for column in columns])
    return _parquet(Surface(name, schema, columns))


def _parquet(surface: Surface) -> bytes:
    return bytes(layout.parquet(surface, slice(0, surface.rows)))


def _file(name: str, address: Address) -> str:
    return place(name, address) + layout.PART
