"""What the record's files must say of each other: one function for each agreement, all of them in CHECKS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from record_readers import datasets
from record_readers.kinds import refuse
from record_readers.tree import Tree

_HEADER = 16  # bytes of a slice before its pairs
_EXACT = 1e-9


def decode(piece: bytes, qbits: int, order: str, where: str) -> NDArray[np.float64]:
    """Returns the weights of one slice: u32 sites, u32 qbits, two zeros, then sites pairs (threshold, alias)."""
    words = np.frombuffer(piece, "<u4" if order == "little" else ">u4").astype(np.int64)
    if len(words) < 4 or len(piece) != _HEADER + 8 * words[0] or list(words[1:4]) != [qbits, 0, 0]:
        refuse(where, "the head of the slice is not sites, bits, 0, 0")
    sites = int(words[0])
    threshold, alias = words[4::2], words[5::2]
    if alias.max() >= sites:
        refuse(where, "an alias beyond the sites of the slice")
    mass = threshold.astype(np.float64)
    np.add.at(mass, alias, float(1 << qbits) - threshold)
    return mass / (sites * float(1 << qbits))


def alias_slices(tree: Tree) -> None:
    """The blob is what the index says, and every slice decodes to S1's weights."""
    index, blob = tree.document(datasets.S2_INDEX), tree.bytes(tree.place(datasets.S2_BLOB))
    policy = tree.document(datasets.POLICIES["alias_layout_policy_v1"])
    where, merchants = str(tree.place(datasets.S2_INDEX.path)), index["merchants"]
    if index["blob_size_bytes"] != len(blob) or index["blob_sha256"] != hashlib.sha256(blob).hexdigest():
        refuse(where, "blob_size_bytes or blob_sha256 is not the blob's")
    for name in ("layout_version", "endianness", "alignment_bytes", "quantised_bits"):
        if index[name] != policy[name]:
            refuse(where, f"{name}: not the policy's")
    ids = [row["merchant_id"] for row in merchants]
    if ids != sorted(set(ids)) or index["merchants_count"] != len(ids):
        refuse(where, "merchants are not in order, each once, as many as merchants_count")
    weights, end = _weights(tree), 0
    if list(weights) != ids:
        refuse(where, "merchants are not those of S1")
    pad = bytes.fromhex(policy["padding_rule"]["pad_byte_hex"])
    for row in merchants:
        end = _slice(row, blob, end, pad, index, policy["record_layout"]["prob_qbits"], weights[row["merchant_id"]])
    if blob[end:].strip(pad):
        refuse(where, "bytes after the last slice")


def _slice(
    row: Mapping[str, Any], blob: bytes, end: int, pad: bytes, index: Mapping[str, Any], qbits: int, weights: Any
) -> int:
    """Checks one slice that follows byte `end`. Returns where it ends."""
    where, begin = f"alias.bin: merchant {row['merchant_id']}", row["offset"]
    piece = blob[begin : begin + row["length"]]
    gap = blob[end:begin]
    if begin % index["alignment_bytes"] or begin < end or len(gap) >= index["alignment_bytes"] or gap.strip(pad):
        refuse(where, "the slice does not stand at the next aligned byte")
    if len(piece) != row["length"] or hashlib.sha256(piece).hexdigest() != row["checksum"]:
        refuse(where, "the checksum is not that of the slice")
    found = decode(piece, qbits, index["endianness"], where)
    if row["sites"] != len(found) or len(found) != len(weights) or row["quantised_bits"] != index["quantised_bits"]:
        refuse(where, "sites or quantised_bits differ")
    if np.abs(found - weights).max() > 2.0 ** -row["quantised_bits"]:
        refuse(where, "the slice does not decode to S1's weights")
    return int(begin + row["length"])


def _weights(tree: Tree) -> dict[int, NDArray[np.float64]]:
    """Returns merchant -> its weights in S1's order."""
    rows = tree.table(datasets.S1)
    ids, weight = rows["merchant_id"].to_numpy(), rows["p_weight"].to_numpy()
    merchants, starts = np.unique(ids, return_index=True)
    return dict(zip((int(one) for one in merchants), np.split(weight, starts[1:]), strict=True))


def site_weights(tree: Tree) -> None:
    """S1 has the sites of 1B and 2A, its weights sum to one per merchant, and all say the policy's bits."""
    rows = tree.table(datasets.S1)
    for dataset in (datasets.SITE_LOCATIONS, datasets.SITE_ZONES):
        other = tree.table(dataset)
        if any(rows[name].to_pylist() != other[name].to_pylist() for name in dataset.order):
            refuse(dataset.path, "the sites are not those of S1")
    for merchant, weights in _weights(tree).items():
        if abs(weights.sum() - 1.0) > _EXACT:
            refuse(datasets.S1.path, f"merchant {merchant}: weights sum to {weights.sum()}")
    bits = tree.document(datasets.POLICIES["alias_layout_policy_v1"])["quantised_bits"]
    if pc.unique(rows["quantised_bits"]).to_pylist() != [bits]:
        refuse(datasets.S1.path, "quantised_bits: not the policy's")


def day_effects(tree: Tree) -> None:
    """S3 has one row per merchant, day and zone, and gamma is the exponential of its logarithm, within the clip."""
    rows, policy = tree.table(datasets.S3), tree.document(datasets.POLICIES["day_effect_policy_v1"])
    gamma, days = rows["gamma"].to_numpy(), pc.unique(rows["utc_day"]).to_pylist()
    if not np.allclose(np.exp(rows["log_gamma"].to_numpy()), gamma, rtol=1e-9, atol=0.0):
        refuse(datasets.S3.path, "gamma is not the exponential of log_gamma")
    if [min(days), max(days)] != [policy["day_range"]["start_day"], policy["day_range"]["end_day"]]:
        refuse(datasets.S3.path, "the days are not the policy's")
    if pc.unique(rows["rng_stream_id"]).to_pylist() != [policy["rng_stream_id"]]:
        refuse(datasets.S3.path, "rng_stream_id: not the policy's")
    _distinct_counters(rows, "rng_counter", datasets.S3.path)
    pairs = _pairs(tree)
    if rows.num_rows != len(pairs) * len(days) or set(_merchant_zones(rows)) != pairs:
        refuse(datasets.S3.path, "the rows are not every merchant, zone and day")


def _merchant_zones(rows: pa.Table, zone: str = "tz_group_id") -> list[tuple[int, str]]:
    distinct = rows.group_by(["merchant_id", zone]).aggregate([])
    return list(zip(distinct["merchant_id"].to_pylist(), distinct[zone].to_pylist(), strict=True))


def _pairs(tree: Tree) -> set[tuple[int, str]]:
    return set(_merchant_zones(tree.table(datasets.SITE_ZONES), "tzid"))


def group_weights(tree: Tree) -> None:
    """S4 has S3's rows and gammas, base shares that are sums of S1's weights, and shares that sum to one per day."""
    rows, effects, where = tree.table(datasets.S4), tree.table(datasets.S3), datasets.S4.path
    for name in (*datasets.S4.order, "gamma"):
        if not rows[name].equals(effects[name]):
            refuse(where, f"{name}: not S3's")
    sites = tree.table(datasets.S1).append_column("tzid", tree.table(datasets.SITE_ZONES)["tzid"])
    sums = sites.group_by(["merchant_id", "tzid"]).aggregate([("p_weight", "sum")])
    share = {(row["merchant_id"], row["tzid"]): row["p_weight_sum"] for row in sums.to_pylist()}
    stated = rows.group_by(["merchant_id", "tz_group_id"]).aggregate([("base_share", "min"), ("base_share", "max")])
    for row in stated.to_pylist():
        expected = share[row["merchant_id"], row["tz_group_id"]]
        if max(abs(row["base_share_min"] - expected), abs(row["base_share_max"] - expected)) > _EXACT:
            refuse(where, f"merchant {row['merchant_id']}: base_share is not the sum of its sites' weights")
    stated = rows.filter(pc.is_valid(rows["mass_raw"]))
    mass = stated["base_share"].to_numpy() * stated["gamma"].to_numpy()
    if not np.allclose(mass, stated["mass_raw"].to_numpy(), rtol=_EXACT, atol=_EXACT):
        refuse(where, "mass_raw is not base_share times gamma")
    for name, total in (("p_group", None), ("mass_raw", "denom_raw")):
        whole = pc.ScalarAggregateOptions(skip_nulls=False)  # a day that states not all of its masses has no sum
        wanted = [(name, "sum", whole), ("denom_raw", "max", whole)]
        days = rows.group_by(["merchant_id", "utc_day"]).aggregate(wanted)
        expected = 1.0 if total is None else days["denom_raw_max"].to_numpy()
        if np.any(np.abs(days[f"{name}_sum"].to_numpy() - expected) > _EXACT):
            refuse(where, f"{name}: does not sum to {total or 'one'} per merchant-day")


def _distinct_counters(rows: pa.Table, name: str, where: str) -> None:
    pairs = rows.select([f"{name}_hi", f"{name}_lo"])
    if pairs.group_by(pairs.column_names).aggregate([]).num_rows != pairs.num_rows:
        refuse(where, f"two rows have the same {name}")


def arrivals(tree: Tree) -> None:
    """Selections are the roster's arrivals (all, or those that are not virtual), edges the virtual ones."""
    roster = tree.table(datasets.ROSTER)
    if roster["is_virtual"].null_count:
        roster = roster.set_column(3, "is_virtual", pc.fill_null(roster["is_virtual"], False))
    chosen, edges = _counted(tree.table(datasets.SELECTIONS)), _counted(tree.table(datasets.EDGES))
    if not any(map(chosen.equals, (_counted(roster.filter(pc.invert(roster["is_virtual"]))), _counted(roster)))):
        refuse(datasets.SELECTIONS.path, "the rows are not the roster's arrivals")
    if not edges.equals(_counted(roster.filter(roster["is_virtual"]))):
        refuse(datasets.EDGES.path, "the rows are not the roster's virtual arrivals")
    zones = set(_merchant_zones(tree.table(datasets.S4)))
    for dataset in (datasets.ROSTER, datasets.SELECTIONS, datasets.EDGES):
        rows = tree.table(dataset)
        if pc.any(pc.not_equal(pc.utf8_slice_codeunits(rows["utc_timestamp"], 0, 10), rows["utc_day"])).as_py():
            refuse(dataset.path, "utc_day is not the day of utc_timestamp")
        if dataset is not datasets.ROSTER and set(_merchant_zones(rows)) - zones:
            refuse(dataset.path, "a zone that the merchant does not have")


def streams(tree: Tree) -> None:
    """The logs draw from the streams of the routing policy."""
    stated = tree.document(datasets.POLICIES["route_rng_policy_v1"])["streams"]
    for dataset, use in ((datasets.SELECTIONS, "routing_selection"), (datasets.EDGES, "routing_edge")):
        if set(pc.unique(tree.table(dataset)["rng_stream_id"]).to_pylist()) - {stated[use]["rng_stream_id"]}:
            refuse(dataset.path, "rng_stream_id: not the policy's")


def _counted(rows: pa.Table) -> pa.Table:
    """Returns how many arrivals each merchant has at each moment, in one order."""
    keys = ["merchant_id", "utc_timestamp"]
    return rows.group_by(keys).aggregate([([], "count_all")]).sort_by([(key, "ascending") for key in keys])


_LOGS: Mapping[str, tuple[datasets.Table, str]] = {
    "alias_pick_group": (datasets.SELECTIONS, "ctr_group"),
    "alias_pick_site": (datasets.SELECTIONS, "ctr_site"),
    "cdn_edge_pick": (datasets.EDGES, "ctr_edge"),
}


def events(tree: Tree) -> None:
    """One event per draw of a log, at the log's own counter, and each event's counter steps by its one block."""
    for label, dataset in datasets.EVENTS.items():
        rows, (log, counter) = tree.table(dataset), _LOGS[label]
        _steps(rows, dataset.path)
        _distinct_counters(rows, "rng_counter_before", dataset.path)
        drawn = tree.table(log)
        for part in ("hi", "lo"):
            if not rows[f"rng_counter_before_{part}"].equals(drawn[f"{counter}_{part}"]):
                refuse(dataset.path, f"counters are not those of {log.path}")
        for name in set(dataset.columns) & set(drawn.column_names) - {"manifest_fingerprint"}:
            if not rows[name].equals(drawn[name]):
                refuse(dataset.path, f"{name}: not that of {log.path}")


def _steps(rows: pa.Table, where: str) -> None:
    """Refuses a counter that does not step by one over an event."""
    low, high = (
        tuple(rows[f"rng_counter_{when}_{part}"].to_numpy() for when in ("before", "after")) for part in ("lo", "hi")
    )
    carried = (low[1] == 0).astype(np.uint64)
    if np.any(low[1] != low[0] + np.uint64(1)) or np.any(high[1] != high[0] + carried):
        refuse(where, "a counter does not step by one")


def trace(tree: Tree) -> None:
    """One row per event, each family's totals cumulative, its counters those of the events."""
    rows, seen = tree.table(datasets.TRACE_LOG), 0
    _steps(rows, datasets.TRACE_LOG.path)
    for label, dataset in datasets.EVENTS.items():
        logged = tree.table(dataset)
        own = rows.filter(pc.equal(rows["substream_label"], label))
        seen += own.num_rows
        expected = np.arange(1, logged.num_rows + 1)
        for name in ("draws_total", "blocks_total", "events_total"):
            if not np.array_equal(own[name].to_numpy(), expected):
                refuse(datasets.TRACE_LOG.path, f"{label}: {name} is not cumulative over the events")
        for name in (*(name for name in own.column_names if name.startswith("rng_counter_")), "module"):
            if not own[name].equals(logged[name]):
                refuse(datasets.TRACE_LOG.path, f"{label}: {name} is not that of the events")
    if seen != rows.num_rows:
        refuse(datasets.TRACE_LOG.path, "rows of no known substream")


def audit_log(tree: Tree) -> None:
    """The audit log has one row."""
    if tree.table(datasets.AUDIT_LOG).num_rows != 1:
        refuse(datasets.AUDIT_LOG.path, "not one row")


def sealed(tree: Tree) -> None:
    """Every sealed asset is there with its digest, upstream passed, and the receipt names the same assets."""
    assets, receipt = tree.document(datasets.SEALED), tree.document(datasets.RECEIPT)
    where = str(tree.place(datasets.SEALED.path))
    tree.bundle(datasets.UPSTREAM_BUNDLE)
    tree.folder(datasets.ZONE_TABLES)
    ids = [asset["asset_id"] for asset in assets]
    if ids != sorted(set(ids)):
        refuse(where, "assets are not in order, each once")
    for asset in assets:
        if tree.digest(asset["path"]) != asset["sha256_hex"]:
            refuse(where, f"{asset['asset_id']}: sha256_hex is not that of {asset['path']}")
        inside = dict(part.split("=", 1) for part in Path(asset["path"]).parts if "=" in part)
        if asset["partition"] != inside:
            refuse(where, f"{asset['asset_id']}: partition is not that of its path")
    if [(one["id"], one["partition"]) for one in receipt["sealed_inputs"]] != [
        (asset["asset_id"], asset["partition"]) for asset in assets
    ]:
        refuse(str(tree.place(datasets.RECEIPT.path)), "sealed_inputs are not the assets")
    _sealed_needs(tree, ids, {asset["asset_id"]: asset["sha256_hex"] for asset in assets}, receipt)


def _sealed_needs(tree: Tree, ids: list[str], digests: Mapping[str, str], receipt: Mapping[str, Any]) -> None:
    upstream = {"validation_bundle_1B", "site_locations", "site_timezones", "tz_timetable_cache"}
    if missing := (upstream | set(datasets.POLICIES)) - set(ids):
        refuse(str(tree.place(datasets.SEALED.path)), f"{sorted(missing)}: not sealed")
    stated = receipt["determinism_receipt"]
    pairs = zip(stated.get("policy_ids", ()), stated.get("policy_digests", ()), strict=True)
    if dict(pairs) != {name: digests[name] for name in datasets.POLICIES}:
        refuse(str(tree.place(datasets.RECEIPT.path)), "policy_digests are not those sealed")
    index = tree.document(datasets.S2_INDEX)
    if index["policy_digest"] != digests["alias_layout_policy_v1"]:
        refuse(str(tree.place(datasets.S2_INDEX.path)), "policy_digest is not that sealed")


def keys(tree: Tree) -> None:
    """Every file states the partitions of its path, and the time at which the inputs were verified."""
    receipt = tree.document(datasets.RECEIPT)
    at = receipt["verified_at_utc"]
    documents = [datasets.RECEIPT, datasets.S2_INDEX, datasets.S7, *map(datasets.report, datasets.STATES)]
    for dataset in documents:
        _keyed(tree.document(dataset), tree, dataset.path, at)
    for table in (datasets.S1, datasets.S3, datasets.S4, datasets.SELECTIONS, datasets.EDGES, *datasets.EVENTS.values(),
                  datasets.AUDIT_LOG, datasets.TRACE_LOG):  # fmt: skip
        rows = tree.table(table)
        for name in {*tree.values, "created_utc"} & set(rows.column_names):
            for value in pc.unique(rows[name]).to_pylist():
                _keyed({name: value}, tree, table.path, at)


def _keyed(found: Mapping[str, Any], tree: Tree, where: str, at: str) -> None:
    for name, value in {**tree.values, "created_utc": at}.items():
        if name in found and str(found[name]) != value:
            refuse(where, f"{name}: {found[name]}, not {value}")


def audited(tree: Tree) -> None:
    """The audit's summary and metrics follow from its checks and from the tables."""
    found, where = tree.document(datasets.S7), str(tree.place(datasets.S7.path))
    _counts_statuses(found["summary"], [check["status"] for check in found["checks"]], where)
    selections, edges = (tree.table(table).num_rows for table in (datasets.SELECTIONS, datasets.EDGES))
    groups, metrics = tree.table(datasets.S4), found["metrics"]
    expected = {
        "merchants_total": len(pc.unique(groups["merchant_id"])),
        "groups_total": len(_pairs(tree)),
        "days_total": len(pc.unique(groups["utc_day"])),
        "selections_checked": selections,
        "draws_expected": 2 * selections + edges,
        "draws_observed": sum(tree.table(table).num_rows for table in datasets.EVENTS.values()),
    }
    for name, value in expected.items():
        if metrics.get(name, value) != value:
            refuse(where, f"metrics/{name}: {metrics[name]}, not {value}")


def _counts_statuses(summary: Mapping[str, Any], statuses: list[str], where: str) -> None:
    failed, warned = statuses.count("FAIL"), statuses.count("WARN")
    expected = {"overall_status": "FAIL" if failed else "PASS", "fail_count": failed, "warn_count": warned}
    if dict(summary) != expected:
        refuse(where, f"the summary {dict(summary)} does not count the statuses")


def passed(tree: Tree) -> None:
    """The flag passes the files that the bundle's index names."""
    tree.bundle(datasets.BUNDLE)


def reports(tree: Tree) -> None:
    """The run reports agree with the tables, the sealed policies and the files that they name."""
    digests = {asset["asset_id"]: asset["sha256_hex"] for asset in tree.document(datasets.SEALED)}
    for state in datasets.STATES:
        report, where = tree.document(datasets.report(state)), datasets.report(state).path
        _counts_statuses(report["summary"], [one["status"] for one in report["validators"]], where)
        numbers = [one["id"] for one in report["validators"]]
        if numbers != [f"V-{number:02}" for number in range(1, len(numbers) + 1)]:
            refuse(where, "validators are not numbered from V-01")
        if len(report["samples"]["rows"]) > datasets.SAMPLES:
            refuse(where, "more samples than allowed")
        for policy in report["policies"]:
            if digests.get(policy["policy_id"]) != policy["sha256_hex"]:
                refuse(where, f"{policy['policy_id']}: sha256_hex is not that sealed")
        _written(tree, report["publish"], where)
    _table_counters(tree)


def _written(tree: Tree, publish: Mapping[str, Any], where: str) -> None:
    for output in publish["outputs"]:
        sizes = tree.sizes(output["path"])
        if (len(sizes), sum(sizes)) != (output["files"], output["bytes"]):
            refuse(where, f"{output['path']}: not {output['files']} files with {output['bytes']} bytes")
    if sum(output["bytes"] for output in publish["outputs"]) != publish["bytes"]:
        refuse(where, "publish/bytes is not the sum of the outputs")


def _table_counters(tree: Tree) -> None:
    """Refuses reports whose counters are not those of the tables."""
    found = {state: tree.document(datasets.report(state)) for state in ("S1", "S2", "S3", "S4", "S5", "S6")}
    effects = tree.table(datasets.S3)
    gamma, logs = effects["gamma"].to_numpy(), np.abs(effects["log_gamma"].to_numpy())
    low, high = _clip(tree)
    expected: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "S1": (found["S1"]["counters"], {"rows_written": tree.table(datasets.S1).num_rows}),
        "S2": (found["S2"]["counters"], {"merchants": tree.document(datasets.S2_INDEX)["merchants_count"]}),
        "S3": (found["S3"]["rng_accounting"], {
            "rows_written": effects.num_rows,
            "nonpositive_gamma_rows": int((gamma <= 0.0).sum()),
            "gamma_clipped_rows": int(((gamma <= low) | (gamma >= high)).sum()),
            "max_abs_log_gamma": float(logs.max()),
        }),
        "S4": (found["S4"]["counters"], {"rows_written": tree.table(datasets.S4).num_rows}),
        "S5": (found["S5"]["counters"], {"rows_written": tree.table(datasets.SELECTIONS).num_rows}),
        "S6": (found["S6"]["counters"], {"rows_written": tree.table(datasets.EDGES).num_rows}),
    }  # fmt: skip
    for state, (stated, counted) in expected.items():
        for name, value in counted.items():
            if stated.get(name) != value:
                refuse(datasets.report(state).path, f"{name}: {stated.get(name)}, not {value}")
    for row in found["S3"]["samples"]["rows"]:
        if missing := set(datasets.S3_SAMPLE) - set(row):
            refuse(datasets.report("S3").path, f"a sample lacks {sorted(missing)}")


def _clip(tree: Tree) -> tuple[float, float]:
    law = tree.document(datasets.POLICIES["day_effect_policy_v1"]).get("sigma_gamma_policy_v2")
    if law is None or not law["enabled"]:
        return 0.0, np.inf
    return law["gamma_clip"]["min"], law["gamma_clip"]["max"]


def policies(tree: Tree) -> None:
    """Each policy of the record is there."""
    for dataset in datasets.POLICIES.values():
        tree.document(dataset)


CHECKS: tuple[Callable[[Tree], None], ...] = (
    sealed, policies, keys, site_weights, alias_slices, day_effects, group_weights, arrivals, streams, events, trace,
    audit_log, audited, reports, passed,
)  # fmt: skip


def read_all(tree: Tree) -> None:
    """Opens every file of a tree. Refuses the first that the record does not have so, and files of no reader."""
    for check in CHECKS:
        check(tree)
    if left := tree.unread():
        refuse(left[0], "a file that no reader opens")
