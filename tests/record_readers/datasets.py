"""The record's files as data: where each lies, what it holds, and in which order its rows stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from record_readers.kinds import (
    COUNT,
    DAY,
    HEX,
    HEX32,
    HEX64,
    ID64,
    ISO2,
    MICROS,
    NAME,
    ORDINAL,
    OVERALL,
    PARTITION,
    PATH,
    SHARE,
    STATUS,
    UINT64,
    VERSION,
    ZONE,
    Anything,
    Choice,
    Fields,
    Flag,
    Keyed,
    Number,
    Rows,
    Text,
    Whole,
    constant,
)

TABLE = "seed={seed}/manifest_fingerprint={manifest_fingerprint}"
WORLD = "manifest_fingerprint={manifest_fingerprint}"
RUN = "seed={seed}/parameter_hash={parameter_hash}/run_id={run_id}"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document."""

    path: str
    kind: Any


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in files: Parquet where the path is a folder, else JSON Lines (`*`: several files, in order of names).

    `may`: columns that a row may lack. `nullable`: columns that a row may have no value in. `open`: further columns are
    allowed (upstream's own). `unique`: no two rows have the same values in `order`.
    """

    path: str
    columns: Mapping[str, Any]
    order: tuple[str, ...] = ()
    may: Mapping[str, Any] | None = None
    nullable: tuple[str, ...] = ()
    open: bool = False
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder with index.json and _passed.flag."""

    path: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder whose files the record does not state."""

    path: str


def _policy(name: str, needed: Mapping[str, Any], **may: Any) -> Document:
    """Returns a policy's document: what every policy states, then its own."""
    head = {"policy_id": constant(name), "version_tag": NAME, "policy_version": VERSION}
    return Document(
        f"config/layer1/2B/policy/{name}.json", Fields({**head, **needed}, {**may, "extensions": Anything()})
    )


def _stream(letters: str, families: Mapping[str, str], optional: tuple[str, ...], unit: str, draws: int) -> Fields:
    """Returns one stream of the routing policy. `families`: event family -> draws as text."""
    basis = {
        "key_basis": constant(["seed", "parameter_hash", "run_id"]),
        "counter_start": Fields({"hi": UINT64, "lo": UINT64}),
        "counter_step_per_event": constant(1),
        "counter_wrap_policy": constant("abort_on_wrap"),
    }
    events = {
        name: Fields({"substream_label": constant(name), "blocks": constant(1), "draws": constant(count)})
        for name, count in families.items()
    }
    return Fields(
        {
            "rng_stream_id": Text(rf"{letters}\.[A-Za-z0-9_.-]+"),
            "basis": Fields(basis),
            "event_families": Fields(
                {name: kind for name, kind in events.items() if name not in optional},
                {name: kind for name, kind in events.items() if name in optional},
            ),
            "draws_per_unit": Fields({unit: constant(draws)}),
        }
    )


_POSITIVE = Number(0.0, beyond=True)
_LATITUDE, _LONGITUDE = Number(-90.0, 90.0), Number(-180.0, 180.0, beyond=True)
_EDGE = {"edge_id": NAME, "ip_country": ISO2}
_DIGEST = Fields({"algorithm": NAME, "scope": NAME, "encoding": NAME})

POLICIES = {
    "route_rng_policy_v1": _policy(
        "route_rng_policy_v1",
        {
            "rng_engine": constant("philox2x64-10"),
            "streams": Fields(
                {
                    "routing_selection": _stream(
                        "2B", {"alias_pick_group": "1", "alias_pick_site": "1"}, (), "draws_per_selection", 2
                    ),
                    "routing_edge": _stream("2B", {"cdn_edge_pick": "1"}, (), "draws_per_virtual", 1),
                    "virtual_edge_catalogue": _stream(
                        "3B", {"edge_jitter": "2", "edge_tile_assign": "1"}, ("edge_tile_assign",), "draws_per_edge", 2
                    ),
                }
            ),
        },
    ),
    "virtual_edge_policy_v1": _policy(
        "virtual_edge_policy_v1",
        {},
        edges=Rows(
            Fields(
                {**_EDGE, "edge_lat": _LATITUDE, "edge_lon": _LONGITUDE},
                {"weight": _POSITIVE, "country_weights": Anything()},
            )
        ),
        default_edges=Rows(Fields({**_EDGE, "weight": _POSITIVE})),
        merchant_overrides=Anything(),
        geo_metadata=Anything(),
        notes=NAME,
    ),
    "alias_layout_policy_v1": _policy(
        "alias_layout_policy_v1",
        {
            "layout_version": NAME,
            "endianness": Choice(("little", "big")),
            "alignment_bytes": ORDINAL,
            "padding_rule": Fields({"pad_byte_hex": Text("[A-Fa-f0-9]{2}")}, {"pad_included_in_slice_length": Flag()}),
            "quantised_bits": ORDINAL,
            "normalisation_epsilon": _POSITIVE,
            "quantisation_epsilon": _POSITIVE,
            "weight_source": Anything(),
            "floor_spec": Anything(),
            "fallback": Anything(),
            "required_s1_provenance": Anything(),
            "encode_spec": Anything(),
            "decode_law": NAME,
            "record_layout": Fields({"prob_qbits": ORDINAL}),
            "checksum": _DIGEST,
            "blob_digest": _DIGEST,
            "required_index_fields": Fields({"header": Rows(NAME), "merchant_row": Rows(NAME)}),
        },
        profile_mixture_v2=Anything(),
        cap_spec=Anything(),
        tiny_negative_epsilon=Number(0.0),
        notes=NAME,
    ),
    "day_effect_policy_v1": _policy(
        "day_effect_policy_v1",
        {
            "rng_engine": constant("philox2x64-10"),
            "rng_stream_id": Text(r"2B\.[A-Za-z0-9_.-]+"),
            "draws_per_row": constant(1),
            "sigma_gamma": _POSITIVE,
            "day_range": Fields({"start_day": DAY, "end_day": DAY}),
            "rng_derivation": Fields(
                {
                    "domain_master": NAME,
                    "domain_stream": NAME,
                    "low64_rule": constant("LE64_tail_bytes_24_31"),
                    "counter_split_rule": constant("BE64_bytes_16_23_and_24_31"),
                    "key_basis": constant(["manifest_fingerprint_bytes", "seed_u64", "rng_stream_id"]),
                    "base_counter_basis": constant(["manifest_fingerprint_bytes", "seed_u64", "rng_stream_id"]),
                }
            ),
            "record_fields": Rows(NAME),
            "created_utc_policy_echo": Flag(),
            "sha256_hex": HEX64,
        },
        sigma_gamma_policy_v2=Fields(
            {
                "enabled": Flag(),
                "sigma_base_by_segment": Anything(),
                "sigma_multiplier_by_tz_group": Fields(
                    {"default": _POSITIVE}, {"prefix_rules": Rows(Fields({"prefix": NAME, "multiplier": _POSITIVE}))}
                ),
                "sigma_jitter_by_merchant": Fields({"enabled": Flag(), "amplitude": SHARE, "seed_scope": NAME}),
                "weekly_component_amp_by_segment": Anything(),
                "sigma_min": _POSITIVE,
                "sigma_max": _POSITIVE,
                "gamma_clip": Fields({"min": _POSITIVE, "max": _POSITIVE}),
            }
        ),
    ),
    "group_mix_regularizer_v1": _policy(
        "group_mix_regularizer_v1",
        {
            "enabled": Flag(),
            "apply_when_groups_ge": Whole(low=2),
            "max_p_group_soft_cap": Number(0.0, 1.0, beyond=True),
            "regularization_strength": SHARE,
            "entropy_floor": Number(0.0),
            "preserve_rank_order": Flag(),
            "sum_to_one": Flag(),
        },
        sha256_hex=HEX64,
        notes=NAME,
    ),
}

RECEIPT = Document(
    f"data/layer1/2B/s0_gate_receipt/{WORLD}/s0_gate_receipt_2B.json",
    Fields(
        {
            "manifest_fingerprint": HEX64,
            "seed": UINT64,
            "parameter_hash": HEX64,
            "verified_at_utc": MICROS,
            "sealed_inputs": Rows(Fields({"id": NAME, "partition": PARTITION, "schema_ref": NAME})),
            "catalogue_resolution": Fields({"dictionary_version": NAME, "registry_version": NAME}),
            "determinism_receipt": Fields(
                {},
                {
                    "engine_commit": Text(".*"),
                    "python_version": Text(".*"),
                    "platform": Text(".*"),
                    "policy_ids": Rows(Text(".*")),
                    "policy_digests": Rows(HEX64),
                },
            ),
        }
    ),
)
SEALED = Document(
    f"data/layer1/2B/sealed_inputs/{WORLD}/sealed_inputs_2B.json",
    Rows(
        Fields(
            {"asset_id": NAME, "version_tag": NAME, "sha256_hex": HEX64, "path": NAME, "partition": PARTITION},
            {"schema_ref": Text(".*")},
        ),
        least=1,
    ),
)
UPSTREAM_BUNDLE = Bundle(f"data/layer1/1B/validation/{WORLD}")
BUNDLE = Bundle(f"data/layer1/2B/validation/{WORLD}")
BUNDLE_INDEX = Rows(Fields({"path": PATH, "sha256_hex": HEX64}), least=1)
ZONE_TABLES = Folder(f"data/layer1/2A/tz_timetable_cache/{WORLD}")

_SITE = {"merchant_id": ID64, "legal_country_iso": ISO2, "site_order": ORDINAL}
SITE_LOCATIONS = Table(
    f"data/layer1/1B/site_locations/{TABLE}",
    {**_SITE, "lat_deg": _LATITUDE, "lon_deg": Number(-180.0, 180.0)},
    order=tuple(_SITE),
    open=True,
    unique=True,
)
SITE_ZONES = Table(
    f"data/layer1/2A/site_timezones/{TABLE}", {**_SITE, "tzid": ZONE}, order=tuple(_SITE), open=True, unique=True
)
S1 = Table(
    f"data/layer1/2B/s1_site_weights/{TABLE}",
    {
        **_SITE,
        "p_weight": Number(0.0),
        "weight_source": NAME,
        "quantised_bits": ORDINAL,
        "floor_applied": Flag(),
        "created_utc": MICROS,
    },
    order=tuple(_SITE),
    unique=True,
)
S2_INDEX = Document(
    f"data/layer1/2B/s2_alias_index/{TABLE}/index.json",
    Fields(
        {
            "layout_version": NAME,
            "endianness": Choice(("little", "big")),
            "alignment_bytes": ORDINAL,
            "quantised_bits": ORDINAL,
            "created_utc": MICROS,
            "policy_id": constant("alias_layout_policy_v1"),
            "policy_digest": HEX64,
            "blob_sha256": HEX64,
            "blob_size_bytes": COUNT,
            "merchants_count": COUNT,
            "merchants": Rows(
                Fields(
                    {
                        "merchant_id": ID64,
                        "offset": COUNT,
                        "length": Whole(low=1),
                        "sites": ORDINAL,
                        "quantised_bits": ORDINAL,
                        "checksum": HEX,
                    }
                )
            ),
        }
    ),
)
S2_BLOB = f"data/layer1/2B/s2_alias_blob/{TABLE}/alias.bin"
_GROUP_DAY = {"merchant_id": ID64, "utc_day": DAY, "tz_group_id": ZONE}
S3 = Table(
    f"data/layer1/2B/s3_day_effects/{TABLE}",
    {
        **_GROUP_DAY,
        "gamma": _POSITIVE,
        "log_gamma": Number(),
        "sigma_gamma": Number(0.0),
        "rng_stream_id": NAME,
        "rng_counter_lo": UINT64,
        "rng_counter_hi": UINT64,
        "created_utc": MICROS,
    },
    order=tuple(_GROUP_DAY),
    unique=True,
)
S4 = Table(
    f"data/layer1/2B/s4_group_weights/{TABLE}",
    {
        **_GROUP_DAY,
        "p_group": Number(0.0),
        "base_share": Number(0.0),
        "gamma": _POSITIVE,
        "created_utc": MICROS,
        "mass_raw": Number(0.0),
        "denom_raw": Number(0.0),
    },
    order=tuple(_GROUP_DAY),
    nullable=("mass_raw", "denom_raw"),
    unique=True,
)
ROSTER = Table(
    f"data/layer1/2B/s5_arrival_roster/{RUN}/arrival_roster.jsonl",
    {"merchant_id": ID64, "utc_timestamp": MICROS, "utc_day": DAY},
    order=("utc_timestamp",),
    may={"is_virtual": Flag()},
)
_ARRIVAL = {"utc_timestamp": MICROS, "utc_day": DAY, "tz_group_id": ZONE, "site_id": ID64}
_WRITTEN = {"manifest_fingerprint": HEX64, "created_utc": MICROS}
SELECTIONS = Table(
    f"data/layer1/2B/s5_selection_log/{RUN}/utc_day=*/selection_log.jsonl",
    {
        "merchant_id": ID64,
        **_ARRIVAL,
        "rng_stream_id": NAME,
        "ctr_group_hi": UINT64,
        "ctr_group_lo": UINT64,
        "ctr_site_hi": UINT64,
        "ctr_site_lo": UINT64,
        **_WRITTEN,
    },
    order=("utc_timestamp",),
)
EDGES = Table(
    f"logs/layer1/2B/edge/{RUN}/utc_day=*/s6_edge_log.jsonl",
    {
        "merchant_id": ID64,
        "is_virtual": constant(True),
        **_ARRIVAL,
        **_EDGE,
        "edge_lat": _LATITUDE,
        "edge_lon": _LONGITUDE,
        "rng_stream_id": NAME,
        "ctr_edge_hi": UINT64,
        "ctr_edge_lo": UINT64,
        **_WRITTEN,
    },
    order=("utc_timestamp",),
)
_COUNTERS = {f"rng_counter_{when}_{part}": UINT64 for when in ("before", "after") for part in ("lo", "hi")}
_RUN_KEYS = {"ts_utc": MICROS, "run_id": HEX32, "seed": UINT64}
AUDIT_LOG = Table(
    f"logs/layer1/2B/rng/audit/{RUN}/rng_audit_log.jsonl",
    {
        **_RUN_KEYS,
        "manifest_fingerprint": HEX64,
        "parameter_hash": HEX64,
        "algorithm": constant("philox2x64-10"),
        "build_commit": NAME,
    },
    may=dict.fromkeys(("code_digest", "hostname", "platform", "notes"), NAME),
)
TRACE_LOG = Table(
    f"logs/layer1/2B/rng/trace/{RUN}/rng_trace_log.jsonl",
    {
        **_RUN_KEYS,
        "module": NAME,
        "substream_label": NAME,
        "draws_total": COUNT,
        "blocks_total": COUNT,
        "events_total": COUNT,
        **_COUNTERS,
    },
    may={"detail": NAME},
)


def _events(label: str, module: str, own: Mapping[str, Any], **may: Any) -> Table:
    """Returns the log of one family of events: the envelope, then its own fields."""
    envelope = {
        **_RUN_KEYS,
        "parameter_hash": HEX64,
        "manifest_fingerprint": HEX64,
        "module": constant(module),
        "substream_label": constant(label),
        **_COUNTERS,
        "draws": constant("1"),
        "blocks": constant(1),
    }
    path = f"logs/layer1/2B/rng/events/{label}/{RUN}/part-*.jsonl"
    return Table(path, {**envelope, **own}, may=may)


_PICK = {"merchant_id": ID64, "utc_day": DAY, "tz_group_id": ZONE}
EVENTS = {
    "alias_pick_group": _events("alias_pick_group", "2B.S5.router", {**_PICK, "p_group": SHARE}),
    "alias_pick_site": _events("alias_pick_site", "2B.S5.router", {**_PICK, "site_id": ID64}),
    "cdn_edge_pick": _events("cdn_edge_pick", "2B.virtual_edge", {}, merchant_id=ID64),
}
S7 = Document(
    f"data/layer1/2B/s7_audit_report/{TABLE}/s7_audit_report.json",
    Fields({
        "component": constant("2B.S7"),
        "manifest_fingerprint": HEX64,
        "seed": UINT64,
        "created_utc": MICROS,
        "catalogue_resolution": Fields({"dictionary_version": NAME, "registry_version": NAME}),
        "inputs_digest": Anything(),
        "checks": Rows(Fields({"id": NAME, "status": STATUS, "codes": Rows(NAME)}, {"context": Anything()})),
        "metrics": Fields(
            {},
            {
                **dict.fromkeys(
                    ("merchants_total", "groups_total", "days_total", "selections_checked", "draws_expected",
                     "draws_observed"),
                    COUNT,
                ),
                "alias_decode_max_abs_delta": Number(),
                "max_abs_mass_error_s4": Number(),
            },
        ),
        "summary": Fields({"overall_status": OVERALL, "warn_count": COUNT, "fail_count": COUNT}),
    }),
)  # fmt: skip

STATES = tuple(f"S{number}" for number in range(9))
_REPORT = {
    "component": NAME,
    "manifest_fingerprint": HEX64,
    "parameter_hash": HEX64,
    "run_id": HEX32,
    "seed": UINT64,
    "created_utc": MICROS,
    "policies": Rows(Fields({"policy_id": NAME, "version_tag": NAME, "sha256_hex": HEX64})),
    "inputs": Anything(),
    "publish": Fields(
        {
            "outputs": Rows(Fields({"path": PATH, "files": COUNT, "bytes": COUNT})),
            "bytes": COUNT,
            "write_once": Flag(),
        }
    ),
    "environment": Fields({"engine_commit": NAME, "python_version": NAME, "platform": NAME}),
    "counters": Anything(),
    "samples": Fields({"rows": Rows(Anything())}),
    "validators": Rows(
        Fields({"id": Text("V-[0-9]{2}"), "name": NAME, "status": STATUS, "codes": Rows(NAME)}, {"context": Anything()})
    ),
    "summary": Fields({"overall_status": OVERALL, "fail_count": COUNT, "warn_count": COUNT}),
}
_ACCOUNTING = Fields(
    {
        "rows_written": COUNT,
        "nonpositive_gamma_rows": COUNT,
        "gamma_clipped_rows": COUNT,
        "max_abs_log_gamma": Number(0.0),
    }
)
SAMPLES = 20  # the most rows that a report shows
S3_SAMPLE = ("merchant_id", "utc_day", "tz_group_id", "sigma_value", "sigma_source", "weekly_amp")


def report(state: str) -> Document:
    """Returns the run report of a state."""
    needed = {**_REPORT, "component": constant(f"2B.{state}")}
    may = {"durations_ms": Keyed(NAME, Number(0.0))}
    if state == "S3":
        needed["rng_accounting"] = _ACCOUNTING
    path = f"reports/layer1/2B/state={state}/{TABLE}/{state.lower()}_run_report.json"
    return Document(path, Fields(needed, may))
