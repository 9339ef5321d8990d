"""Every surface's Arrow schema, key and order, declared once, and the digest of a table's bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A surface's contract: its columns, and the columns that both key and order its rows."""

    name: str
    state: str
    schema: pa.Schema
    key: tuple[str, ...]


def _field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit})


_MERCHANT = _field("merchant_id", pa.uint64(), "id")
_DAY = _field("utc_day", pa.string(), "ISO date")
_GROUP = _field("tz_group_id", pa.string(), "IANA zone")
_CREATED = _field("created_utc", pa.string(), "RFC 3339, the sealed time of S0")

_SPECS = (
    TableSpec(
        "s1_site_weights",
        "S1",
        pa.schema(
            [
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
            ]
        ),
        ("merchant_id", "legal_country_iso", "site_order"),
    ),
    TableSpec(
        "s2_alias_index",
        "S2",
        pa.schema(
            [
                _MERCHANT,
                _field("offset", pa.int64(), "bytes into the blob"),
                _field("length", pa.int64(), "bytes"),
                _field("sites", pa.int32(), "sites"),
                _field("sha256", pa.string(), "hex64 of the slice"),
            ]
        ),
        ("merchant_id",),
    ),
    TableSpec(
        "s2_alias_blob",
        "S2",
        pa.schema(
            [
                _field("blob", pa.large_binary(), "alias.bin"),
                _field("size", pa.int64(), "bytes"),
                _field("sha256", pa.string(), "hex64 of the blob"),
            ]
        ),
        ("sha256",),
    ),
    TableSpec(
        "s3_day_effects",
        "S3",
        pa.schema(
            [
                _MERCHANT,
                _DAY,
                _GROUP,
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
            ]
        ),
        ("merchant_id", "utc_day", "tz_group_id"),
    ),
    TableSpec(
        "s4_group_weights",
        "S4",
        pa.schema(
            [
                _MERCHANT,
                _DAY,
                _GROUP,
                _field("p_group", pa.float64(), "share, sums to exactly 1 per merchant-day"),
                _field("base_share", pa.float64(), "share, sums to 1 per merchant"),
                _field("gamma", pa.float64(), "multiplier, echoed from S3"),
                _CREATED,
                _field("mass_raw", pa.float64(), "base_share * gamma"),
                _field("denom_raw", pa.float64(), "sum of mass_raw over the merchant-day"),
                _field("regularizer_applied", pa.bool_(), "flag"),
                _field("regularizer_strength", pa.float64(), "the policy's strength, 0 … 1; 0 where not applied"),
                _field("regularizer_delta_mass", pa.float64(), "half the sum of |p - p_raw| over the merchant-day"),
            ]
        ),
        ("merchant_id", "utc_day", "tz_group_id"),
    ),
)

TABLES: dict[str, TableSpec] = {spec.name: spec for spec in _SPECS}


def table_digest(table: pa.Table) -> str:
    """SHA-256 over the table's Arrow IPC bytes (hex64): schema and values, no host, clock or chunking."""
    sink = hashlib.sha256()

    class _Digesting:
        """A write-only file, so that no table is copied in order to be hashed."""

        closed = False

        def write(self, data: bytes) -> int:
            sink.update(data)
            return len(data)

        def flush(self) -> None: ...

        def close(self) -> None: ...

        def writable(self) -> bool:
            return True

    with pa.ipc.new_stream(pa.PythonFile(_Digesting(), mode="w"), table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.hexdigest()
