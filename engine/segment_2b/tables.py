"""The schema, key and order of every surface, declared once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lanelock.engine.surface import Categories, Column, Surface

TABLE = ("seed", "manifest_fingerprint")
LOG = ("seed", "parameter_hash", "run_id", "utc_day")
TRACE = ("seed", "parameter_hash", "run_id")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A surface's contract: its columns, the columns that key and order its rows, and its path."""

    name: str
    state: str
    schema: pa.Schema
    key: tuple[str, ...]
    partitions: tuple[str, ...] = TABLE  # the parts of its path, in order


def published(name: str, **columns: Column) -> Surface:
    """Returns the surface `name` with its declared schema."""
    return Surface(name, TABLES[name].schema, columns)


def constant(value: str, rows: int) -> Categories:
    """Returns a column that holds `value` in every row."""
    return Categories(np.zeros(rows, np.int8), (value,))


def contract() -> list[dict[str, object]]:
    """Returns every surface's contract as plain JSON, for other tools to rely on."""
    return [
        {
            "surface": spec.name,
            "state": spec.state,
            "path": "/".join(["data/layer1/2B", spec.name, *(f"{part}={{{part}}}" for part in spec.partitions)]),
            "key": list(spec.key),
            "order": list(spec.key),
            "columns": [
                {
                    "name": field.name,
                    "type": str(field.type),
                    "nullable": field.nullable,
                    "unit": field.metadata[b"unit"].decode(),
                }
                for field in spec.schema
            ],
        }
        for spec in _SPECS
    ]


def _field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit})


_MERCHANT = _field("merchant_id", pa.uint64(), "id")
_DAY = _field("utc_day", pa.string(), "ISO date")
_GROUP = _field("tz_group_id", pa.string(), "IANA zone")
_CREATED = _field("created_utc", pa.string(), "RFC 3339, the sealed time of S0")
_MOMENT = _field("utc_timestamp", pa.timestamp("us", "UTC"), "UTC microseconds")
_STREAM = _field("rng_stream_id", pa.string(), "stream")
_GROUP_DAY, _ARRIVAL = (_MERCHANT, _DAY, _GROUP), (_MOMENT, _MERCHANT, _DAY)


def _spec(name: str, key: tuple[str, ...], *fields: pa.Field, partitions: tuple[str, ...] = TABLE) -> TableSpec:
    """Returns a contract; the surface's name begins with that of its state."""
    return TableSpec(name, name[:2].upper(), pa.schema(fields), key, partitions)


def _counter(name: str) -> tuple[pa.Field, pa.Field]:
    """Returns the two words that address a draw for an arrival."""
    lo = "utc microseconds * 4096 + occurrence among equal (merchant, moment)"
    return _field(f"{name}_hi", pa.uint64(), "merchant id"), _field(f"{name}_lo", pa.uint64(), lo)


def _events(name: str) -> TableSpec:
    """Returns the contract of an event log: one row per draw of one stream."""
    draws = _field("draws", pa.int32(), "uniforms drawn at the address")
    fields = (*_ARRIVAL, _STREAM, *_counter("rng_counter"), draws, _CREATED)
    return _spec(name, ("utc_timestamp", "merchant_id", "rng_counter_lo"), *fields, partitions=LOG)


def _trace(name: str) -> TableSpec:
    """Returns the contract of a trace: one row per stream, with its totals."""
    totals = (_field("events", pa.int64(), "rows of the event log"), _field("draws", pa.int64(), "uniforms"))
    return _spec(name, ("rng_stream_id",), _STREAM, *totals, _CREATED, partitions=TRACE)


_SPECS = (
    _spec(
        "s1_site_weights",
        ("merchant_id", "legal_country_iso", "site_order"),
        _MERCHANT,
        _field("legal_country_iso", pa.string(), "ISO-3166 alpha-2"),
        _field("site_order", pa.int32(), "from 1 within merchant and country"),
        _field("p_weight", pa.float64(), "share, sums to 1 per merchant"),
        _field("weight_source", pa.string(), "law"),
        _field("quantised_bits", pa.int32(), "bits"),
        _field("floor_applied", pa.bool_(), "flag"),
        _field("weight_profile", pa.string(), "size bucket"),
        _field("mixture_component", pa.string(), "component"),
        _field("alpha_used", pa.float64(), "exponent"),
        _CREATED,
    ),
    _spec(
        "s2_alias_index",
        ("merchant_id",),
        _MERCHANT,
        _field("offset", pa.int64(), "bytes into the blob"),
        _field("length", pa.int64(), "bytes"),
        _field("sites", pa.int32(), "sites"),
        _field("sha256", pa.string(), "hex64 of the slice"),
    ),
    _spec(
        "s2_alias_blob",
        ("sha256",),
        _field("blob", pa.large_binary(), "alias.bin"),
        _field("size", pa.int64(), "bytes"),
        _field("sha256", pa.string(), "hex64 of the blob"),
    ),
    _spec(
        "s3_day_effects",
        ("merchant_id", "utc_day", "tz_group_id"),
        *_GROUP_DAY,
        _field("gamma", pa.float64(), "multiplier"),
        _field("log_gamma", pa.float64(), "nats"),
        _field("sigma_gamma", pa.float64(), "nats"),
        _field("rng_stream_id", pa.string(), "stream"),
        _field("rng_counter_lo", pa.uint64(), "day index * 65536 + group rank within the merchant"),
        _field("rng_counter_hi", pa.uint64(), "merchant id"),
        _field("sigma_source", pa.string(), "law"),
        _field("sigma_value", pa.float64(), "nats"),
        _field("weekly_amp", pa.float64(), "nats"),
        _CREATED,
    ),
    _spec(
        "s4_group_weights",
        ("merchant_id", "utc_day", "tz_group_id"),
        *_GROUP_DAY,
        _field("p_group", pa.float64(), "share, sums to exactly 1 per merchant-day"),
        _field("base_share", pa.float64(), "share, sums to 1 per merchant"),
        _field("gamma", pa.float64(), "multiplier, echoed from S3"),
        _CREATED,
        _field("mass_raw", pa.float64(), "base_share * gamma"),
        _field("denom_raw", pa.float64(), "sum of mass_raw over the merchant-day"),
        _field("regularizer_applied", pa.bool_(), "flag"),
        _field("regularizer_strength", pa.float64(), "the policy's strength, 0 … 1; 0 where not applied"),
        _field("regularizer_delta_mass", pa.float64(), "half the sum of |p - p_raw| over the merchant-day"),
    ),
    _spec(
        "s5_arrival_roster",
        ("utc_timestamp", "merchant_id", "occurrence"),
        *_ARRIVAL,
        _field("is_virtual", pa.bool_(), "flag"),
        _field("arrival_class", pa.string(), "class"),
        _field("channel", pa.string(), "channel"),
        _field("occurrence", pa.int32(), "earlier arrivals of the merchant at the moment"),
        _CREATED,
    ),
    _spec(
        "s5_selection_log",
        ("utc_timestamp", "merchant_id", "ctr_group_lo"),
        *_ARRIVAL,
        _GROUP,
        _field("site_id", pa.uint64(), "(two ASCII letters of the country) * 2^32 + site_order"),
        _field("rng_stream_id", pa.string(), "stream of the zone + stream of the site"),
        *_counter("ctr_group"),
        *_counter("ctr_site"),
        _CREATED,
        partitions=LOG,
    ),
    _events("s5_rng_event_group"),
    _events("s5_rng_event_site"),
    _trace("s5_rng_trace"),
    _spec(
        "s6_edge_log",
        ("utc_timestamp", "merchant_id", "ctr_edge_lo"),
        *_ARRIVAL,
        _field("edge_id", pa.string(), "edge"),
        _field("ip_country", pa.string(), "ISO-3166 alpha-2"),
        _field("edge_lat", pa.float64(), "degrees"),
        _field("edge_lon", pa.float64(), "degrees"),
        _STREAM,
        *_counter("ctr_edge"),
        _CREATED,
        partitions=LOG,
    ),
    _events("s6_rng_event_edge"),
    _trace("s6_rng_trace"),
)

TABLES: dict[str, TableSpec] = {spec.name: spec for spec in _SPECS}
