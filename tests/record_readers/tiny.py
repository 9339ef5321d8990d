"""A small tree in the record's form, made by hand: three merchants, two days, six arrivals.

`made` returns its tables, documents and policies before anything is digested, so that a test changes one thing and the
digests, the seal and the flag are still those of what is written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from record_readers import datasets
from record_readers.tree import Tree

SEED, WORLD, PACK, RUN = 42, "a" * 64, "b" * 64, "c" * 32
AT = "2026-01-01T00:00:00.000000Z"
DAYS = ("2026-01-01", "2026-01-02")
SITES = (  # merchant, country, order, latitude, longitude, zone, weight in quarters
    (11, "FR", 1, 48.9, 2.4, "Europe/Paris", 3),
    (11, "FR", 2, 45.8, 4.8, "Europe/Paris", 1),
    (12, "DE", 1, 52.5, 13.4, "Europe/Berlin", 2),
    (12, "GB", 1, 51.5, -0.1, "Europe/London", 1),
    (12, "GB", 2, 53.5, -2.2, "Europe/London", 1),
    (13, "JP", 1, 35.7, 139.7, "Asia/Tokyo", 4),
)
SIGMA = 0.12
KEYS = {"seed": SEED, "manifest_fingerprint": WORLD, "parameter_hash": PACK, "run_id": RUN}
Made = dict[str, Any]


def tree_in(folder: Path, change: Callable[[Made], object] = lambda made: None) -> Tree:
    """Writes the tree below `folder`, after `change` had its parts, and returns it."""
    tree = Tree(folder, **KEYS)
    parts = made()
    change(parts)
    _Writer(tree, parts).write()
    return tree


def made() -> Made:
    """Returns the parts of the tree by name: rows of tables, policies, slices of the blob."""
    effects, shares = _days()
    roster = _roster()
    selections = [_selection(index, row) for index, row in enumerate(row for row in roster if not row["is_virtual"])]
    edges = [_edge(index, row) for index, row in enumerate(row for row in roster if row["is_virtual"])]
    logs = {
        "alias_pick_group": [_event("alias_pick_group", "ctr_group", row, shares) for row in selections],
        "alias_pick_site": [_event("alias_pick_site", "ctr_site", row, shares) for row in selections],
        "cdn_edge_pick": [_event("cdn_edge_pick", "ctr_edge", row, shares) for row in edges],
    }
    return {
        "site_locations": [dict(zip(_PLACE, site[:5], strict=True)) for site in SITES],
        "site_timezones": [dict(zip((*_PLACE[:3], "tzid"), (*site[:3], site[5]), strict=True)) for site in SITES],
        "s1": [_weight(site) for site in SITES],
        "slices": {merchant: _slice([site[6] for site in SITES if site[0] == merchant]) for merchant in (11, 12, 13)},
        "s3": effects,
        "s4": shares,
        "roster": roster,
        "selections": selections,
        "edges": edges,
        "events": logs,
        "trace": _trace(logs),
        "audit_log": [
            {**_run(), "manifest_fingerprint": WORLD, "parameter_hash": PACK, "algorithm": "philox2x64-10",
             "build_commit": "d" * 40}
        ],
        "policies": _policies(),
    }  # fmt: skip


_PLACE = ("merchant_id", "legal_country_iso", "site_order", "lat_deg", "lon_deg")


def _run() -> dict[str, Any]:
    return {"ts_utc": AT, "run_id": RUN, "seed": SEED}


def _weight(site: tuple[Any, ...]) -> dict[str, Any]:
    return {
        **dict(zip(_PLACE[:3], site[:3], strict=True)),
        "p_weight": site[6] / 4,
        "weight_source": "profile_mixture_v2",
        "quantised_bits": 24,
        "floor_applied": False,
        "created_utc": AT,
    }


def _slice(quarters: list[int]) -> bytes:
    """Returns an alias slice of up to three sites whose weights are quarters, with one bit of Q0.32 for a whole."""
    sites, whole = len(quarters), 1 << 32
    left = [quarter * sites * whole // 4 for quarter in quarters]
    pairs = [(0, 0)] * sites
    below = [site for site in range(sites) if left[site] < whole]
    above = [site for site in range(sites) if left[site] >= whole]
    while below:
        site, giver = below.pop(), above[-1]
        pairs[site] = (left[site], giver)
        left[giver] -= whole - left[site]
        if left[giver] < whole:
            below.append(above.pop())
    for site in above:
        pairs[site] = (whole - 1, site)
    return np.array([sites, 32, 0, 0, *(word for pair in pairs for word in pair)], "<u4").tobytes()


def _days() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the rows of S3 and of S4."""
    base: dict[tuple[int, str], float] = {}
    for site in SITES:
        base[site[0], site[5]] = base.get((site[0], site[5]), 0.0) + site[6] / 4
    effects, shares = [], []
    for merchant in (11, 12, 13):
        zones = sorted(zone for owner, zone in base if owner == merchant)
        for number, day in enumerate(DAYS):
            head = [{"merchant_id": merchant, "utc_day": day, "tz_group_id": zone} for zone in zones]
            logs = [0.1 * (rank + 1) - 0.05 * number for rank in range(len(zones))]
            mass = [base[merchant, zone] * math.exp(log) for zone, log in zip(zones, logs, strict=True)]
            for rank, (keys, log) in enumerate(zip(head, logs, strict=True)):
                effects.append({
                    **keys, "gamma": math.exp(log), "log_gamma": log, "sigma_gamma": SIGMA,
                    "rng_stream_id": "2B.S3.day", "rng_counter_lo": number * 65536 + rank, "rng_counter_hi": merchant,
                    "created_utc": AT,
                })  # fmt: skip
                shares.append({
                    **keys, "p_group": mass[rank] / sum(mass), "base_share": base[merchant, zones[rank]],
                    "gamma": math.exp(log), "created_utc": AT, "mass_raw": mass[rank], "denom_raw": sum(mass),
                })  # fmt: skip
    return effects, shares


def _roster() -> list[dict[str, Any]]:
    rows = [
        {"merchant_id": merchant, "utc_timestamp": f"{day}T{hour:02}:00:00.000000Z", "utc_day": day,
         "is_virtual": merchant == 13}
        for day in DAYS
        for hour, merchant in enumerate((11, 12, 13), 9)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["utc_timestamp"])


def _zone_of(row: Mapping[str, Any]) -> tuple[str, int]:
    """Returns zone and site of an arrival: the merchant's first."""
    site = next(site for site in SITES if site[0] == row["merchant_id"])
    return site[5], (site[0] << 32) + site[2]


def _logged(row: Mapping[str, Any], **counters: int) -> dict[str, Any]:
    zone, site = _zone_of(row)
    arrival = {name: row[name] for name in ("merchant_id", "utc_timestamp", "utc_day")}
    return {**arrival, "tz_group_id": zone, "site_id": site, **counters, "manifest_fingerprint": WORLD,
            "created_utc": AT}  # fmt: skip


def _selection(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    counters = {f"ctr_{draw}_{part}": 7 * (part == "hi") + index * (part == "lo") for draw in ("group", "site")
                for part in ("hi", "lo")}  # fmt: skip
    return {**_logged(row, **counters), "rng_stream_id": "2B.S5.routing"}


def _edge(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    edge = {"edge_id": "dub-ie", "ip_country": "IE", "edge_lat": 53.4, "edge_lon": -6.2}
    stream = {"rng_stream_id": "2B.S6.edge", "is_virtual": True}
    return {**_logged(row, ctr_edge_hi=2**64 - 1 if index else 8, ctr_edge_lo=index), **edge, **stream}


def _event(label: str, counter: str, row: Mapping[str, Any], shares: list[dict[str, Any]]) -> dict[str, Any]:
    low, high = row[f"{counter}_lo"], row[f"{counter}_hi"]
    module = "2B.virtual_edge" if label == "cdn_edge_pick" else "2B.S5.router"
    event = {
        **_run(), "parameter_hash": PACK, "manifest_fingerprint": WORLD, "module": module, "substream_label": label,
        "rng_counter_before_lo": low, "rng_counter_before_hi": high,
        "rng_counter_after_lo": low + 1, "rng_counter_after_hi": high,
        "draws": "1", "blocks": 1, "merchant_id": row["merchant_id"],
    }  # fmt: skip
    if label == "cdn_edge_pick":
        return event
    event |= {"utc_day": row["utc_day"], "tz_group_id": row["tz_group_id"]}
    if label == "alias_pick_site":
        return {**event, "site_id": row["site_id"]}
    keys = ("merchant_id", "utc_day", "tz_group_id")
    share = next(one for one in shares if all(one[name] == row[name] for name in keys))
    return {**event, "p_group": share["p_group"]}


def _trace(logs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            **{name: event[name] for name in (*_run(), "module", "substream_label")},
            "draws_total": number, "blocks_total": number, "events_total": number,
            **{name: value for name, value in event.items() if name.startswith("rng_counter_")},
        }
        for events in logs.values()
        for number, event in enumerate(events, 1)
    ]  # fmt: skip


def _policies() -> dict[str, dict[str, Any]]:
    basis = {
        "key_basis": ["seed", "parameter_hash", "run_id"], "counter_start": {"hi": 0, "lo": 0},
        "counter_step_per_event": 1, "counter_wrap_policy": "abort_on_wrap",
    }  # fmt: skip

    def stream(name: str, families: Mapping[str, str], unit: str, draws: int) -> dict[str, Any]:
        events = {label: {"substream_label": label, "blocks": 1, "draws": count} for label, count in families.items()}
        return {"rng_stream_id": name, "basis": basis, "event_families": events, "draws_per_unit": {unit: draws}}

    digest = {"algorithm": "sha256", "scope": "slice", "encoding": "hex"}
    own: dict[str, dict[str, Any]] = {
        "alias_layout_policy_v1": {
            "layout_version": "1", "endianness": "little", "alignment_bytes": 8, "padding_rule": {"pad_byte_hex": "00"},
            "quantised_bits": 24, "normalisation_epsilon": 1e-9, "quantisation_epsilon": 1e-7,
            "weight_source": {}, "floor_spec": {}, "fallback": {}, "required_s1_provenance": {}, "encode_spec": {},
            "decode_law": "walker_vose_q0_32", "record_layout": {"prob_qbits": 32}, "checksum": digest,
            "blob_digest": digest, "required_index_fields": {"header": ["layout_version"], "merchant_row": ["offset"]},
        },
        "day_effect_policy_v1": {
            "rng_engine": "philox2x64-10", "rng_stream_id": "2B.S3.day", "draws_per_row": 1, "sigma_gamma": SIGMA,
            "day_range": {"start_day": DAYS[0], "end_day": DAYS[-1]},
            "rng_derivation": {
                "domain_master": "master", "domain_stream": "stream", "low64_rule": "LE64_tail_bytes_24_31",
                "counter_split_rule": "BE64_bytes_16_23_and_24_31",
                "key_basis": ["manifest_fingerprint_bytes", "seed_u64", "rng_stream_id"],
                "base_counter_basis": ["manifest_fingerprint_bytes", "seed_u64", "rng_stream_id"],
            },
            "record_fields": ["gamma"], "created_utc_policy_echo": False, "sha256_hex": "e" * 64,
        },
        "group_mix_regularizer_v1": {
            "enabled": False, "apply_when_groups_ge": 2, "max_p_group_soft_cap": 1.0, "regularization_strength": 0.0,
            "entropy_floor": 0.0, "preserve_rank_order": True, "sum_to_one": True,
        },
        "route_rng_policy_v1": {
            "rng_engine": "philox2x64-10",
            "streams": {
                "routing_selection": stream(
                    "2B.S5.routing", {"alias_pick_group": "1", "alias_pick_site": "1"}, "draws_per_selection", 2
                ),
                "routing_edge": stream("2B.S6.edge", {"cdn_edge_pick": "1"}, "draws_per_virtual", 1),
                "virtual_edge_catalogue": stream("3B.edges", {"edge_jitter": "2"}, "draws_per_edge", 2),
            },
        },
        "virtual_edge_policy_v1": {"default_edges": [{"edge_id": "dub-ie", "ip_country": "IE", "weight": 1.0}]},
    }  # fmt: skip
    heads = {name: {"policy_id": name, "version_tag": "v1", "policy_version": "1.0.0"} for name in own}
    return {name: {**heads[name], **document} for name, document in own.items()}


_KINDS = {"site_order": pa.int32(), "quantised_bits": pa.int32()}


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Returns rows as a table with the record's types."""

    def kind(name: str, value: Any) -> pa.DataType:
        plain = {str: pa.string(), float: pa.float64(), bool: pa.bool_(), int: pa.uint64()}
        return _KINDS.get(name, plain[type(value)])

    schema = pa.schema([(name, kind(name, value)) for name, value in rows[0].items()])
    return pa.Table.from_pylist(rows, schema)


class _Writer:
    """Writes the parts of a tree, and all that states digests of others."""

    def __init__(self, tree: Tree, parts: Made) -> None:
        self.tree, self.parts = tree, parts

    def write(self) -> None:
        """Writes the tree: what is sealed first, the bundle over all last."""
        self._upstream()
        self._tables()
        self._logs()
        digests = self._sealed()
        self._alias(digests["alias_layout_policy_v1"])
        self._audit()
        self._reports(digests)
        self._bundle(datasets.BUNDLE, [path for path in self._files() if "/1B/" not in path])

    def _put(self, path: str, data: bytes) -> None:
        place = self.tree.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def _json(self, path: str, document: Any) -> None:
        self._put(path, json.dumps(document, indent=1).encode())

    def _parquet(self, dataset: datasets.Table, rows: list[dict[str, Any]] | pa.Table) -> None:
        table = rows if isinstance(rows, pa.Table) else table_of(rows)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, store_schema=False)
        self._put(f"{dataset.path}/part-00000.parquet", sink.getvalue().to_pybytes())

    def _lines(self, path: str, rows: list[dict[str, Any]]) -> None:
        self._put(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def _upstream(self) -> None:
        self._parquet(datasets.SITE_LOCATIONS, self.parts["site_locations"])
        self._parquet(datasets.SITE_ZONES, self.parts["site_timezones"])
        self._json(f"{datasets.ZONE_TABLES.path}/zones.json", {"tzdata": "2026a"})
        self._json(f"{datasets.UPSTREAM_BUNDLE.path}/report.json", {"status": "PASS"})
        self._bundle(datasets.UPSTREAM_BUNDLE, [f"{datasets.UPSTREAM_BUNDLE.path}/report.json"])
        for name, policy in self.parts["policies"].items():
            self._json(datasets.POLICIES[name].path, policy)

    def _tables(self) -> None:
        for name, dataset in (("s1", datasets.S1), ("s3", datasets.S3), ("s4", datasets.S4)):
            self._parquet(dataset, self.parts[name])

    def _logs(self) -> None:
        self._lines(datasets.ROSTER.path, self.parts["roster"])
        for name, dataset in (("selections", datasets.SELECTIONS), ("edges", datasets.EDGES)):
            for day in DAYS:
                rows = [row for row in self.parts[name] if row["utc_day"] == day]
                self._lines(dataset.path.replace("*", day), rows)
        for label, events in self.parts["events"].items():
            self._lines(datasets.EVENTS[label].path.replace("*", "00000"), events)
        self._lines(datasets.TRACE_LOG.path, self.parts["trace"])
        self._lines(datasets.AUDIT_LOG.path, self.parts["audit_log"])

    def _sealed(self) -> dict[str, str]:
        """Writes S0's documents. Returns the digests of the policies."""
        assets = {
            "site_locations": f"{datasets.SITE_LOCATIONS.path}/part-00000.parquet",
            "site_timezones": f"{datasets.SITE_ZONES.path}/part-00000.parquet",
            "tz_timetable_cache": datasets.ZONE_TABLES.path,
            "validation_bundle_1B": datasets.UPSTREAM_BUNDLE.path,
            **{name: datasets.POLICIES[name].path for name in self.parts["policies"]},
        }
        rows = [self._asset(name, path.format(**self.tree.values)) for name, path in sorted(assets.items())]
        digests = {row["asset_id"]: row["sha256_hex"] for row in rows}
        names = sorted(self.parts["policies"])
        self._json(datasets.SEALED.path, rows)
        self._json(datasets.RECEIPT.path, {
            "manifest_fingerprint": WORLD, "seed": SEED, "parameter_hash": PACK, "verified_at_utc": AT,
            "sealed_inputs": [
                {"id": row["asset_id"], "partition": row["partition"], "schema_ref": row["asset_id"]} for row in rows
            ],
            "catalogue_resolution": {"dictionary_version": "1.0.0", "registry_version": "1.0.0"},
            "determinism_receipt": {"policy_ids": names, "policy_digests": [digests[name] for name in names]},
        })  # fmt: skip
        return digests

    def _asset(self, name: str, path: str) -> dict[str, Any]:
        partition = dict(part.split("=") for part in path.split("/") if "=" in part)
        digest = self.tree.digest(path)
        return {"asset_id": name, "version_tag": "v1", "sha256_hex": digest, "path": path, "partition": partition}

    def _alias(self, policy_digest: str) -> None:
        slices, offset, merchants = self.parts["slices"], 0, []
        for merchant, piece in slices.items():
            merchants.append({
                "merchant_id": merchant, "offset": offset, "length": len(piece), "sites": (len(piece) - 16) // 8,
                "quantised_bits": 24, "checksum": hashlib.sha256(piece).hexdigest(),
            })  # fmt: skip
            offset += len(piece)
        blob = b"".join(slices.values())
        self._put(datasets.S2_BLOB, blob)
        self._json(datasets.S2_INDEX.path, {
            "layout_version": "1", "endianness": "little", "alignment_bytes": 8, "quantised_bits": 24,
            "created_utc": AT, "policy_id": "alias_layout_policy_v1", "policy_digest": policy_digest,
            "blob_sha256": hashlib.sha256(blob).hexdigest(), "blob_size_bytes": len(blob),
            "merchants_count": len(merchants), "merchants": merchants,
        })  # fmt: skip

    def _audit(self) -> None:
        picks, edges = len(self.parts["selections"]), len(self.parts["edges"])
        self._json(datasets.S7.path, {
            "component": "2B.S7", "manifest_fingerprint": WORLD, "seed": SEED, "created_utc": AT,
            "catalogue_resolution": {"dictionary_version": "1.0.0", "registry_version": "1.0.0"}, "inputs_digest": {},
            "checks": [{"id": "alias_parity", "status": "PASS", "codes": []}],
            "metrics": {"merchants_total": 3, "groups_total": 4, "days_total": 2, "selections_checked": picks,
                        "draws_expected": 2 * picks + edges, "draws_observed": 2 * picks + edges},
            "summary": {"overall_status": "PASS", "warn_count": 0, "fail_count": 0},
        })  # fmt: skip

    def _reports(self, digests: Mapping[str, str]) -> None:
        counted = {
            "S1": {"rows_written": len(SITES)}, "S2": {"merchants": 3}, "S4": {"rows_written": len(self.parts["s4"])},
            "S5": {"rows_written": len(self.parts["selections"])}, "S6": {"rows_written": len(self.parts["edges"])},
        }  # fmt: skip
        effects = self.parts["s3"].to_pylist() if isinstance(self.parts["s3"], pa.Table) else self.parts["s3"]
        logs = [abs(row["log_gamma"]) for row in effects]
        for state in datasets.STATES:
            report = _report(state, digests)
            report["counters"] = counted.get(state, {})
            if state == "S3":
                report["rng_accounting"] = {
                    "rows_written": len(logs), "nonpositive_gamma_rows": 0, "gamma_clipped_rows": 0,
                    "max_abs_log_gamma": max(logs),
                }  # fmt: skip
                keys = ("merchant_id", "utc_day", "tz_group_id")
                provenance = {"sigma_value": SIGMA, "sigma_source": "scalar_sigma_v1", "weekly_amp": 0.0}
                rows = [{**{name: row[name] for name in keys}, **provenance} for row in effects]
                report["samples"] = {"rows": rows}
            self._json(datasets.report(state).path, report)

    def _files(self) -> list[str]:
        root = self.tree.root
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def _bundle(self, dataset: datasets.Bundle, paths: list[str]) -> None:
        rows, whole = [], hashlib.sha256()
        for path in sorted(path.format(**self.tree.values) for path in paths):
            data = (self.tree.root / path).read_bytes()
            whole.update(data)
            rows.append({"path": path, "sha256_hex": hashlib.sha256(data).hexdigest()})
        self._json(f"{dataset.path}/index.json", rows)
        self._put(f"{dataset.path}/_passed.flag", f"sha256_hex = {whole.hexdigest()}\n".encode())


def _report(state: str, digests: Mapping[str, str]) -> dict[str, Any]:
    return {
        "component": f"2B.{state}", **KEYS, "created_utc": AT,
        "policies": [
            {"policy_id": name, "version_tag": "v1", "sha256_hex": digests[name]} for name in sorted(datasets.POLICIES)
        ],
        "inputs": {}, "publish": {"outputs": [], "bytes": 0, "write_once": True},
        "environment": dict.fromkeys(("engine_commit", "python_version", "platform"), "not recorded"),
        "counters": {}, "samples": {"rows": []},
        "validators": [{"id": "V-01", "name": "a check", "status": "PASS", "codes": []}],
        "summary": {"overall_status": "PASS", "fail_count": 0, "warn_count": 0},
    }  # fmt: skip
