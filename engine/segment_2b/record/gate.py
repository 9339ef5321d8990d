"""The record's documents of S0, S2 and S7.

Chosen where the facts leave a value open:

    version_tag     of the upstream's assets, the manifest fingerprint
    sha256_hex      SHA-256 over the files below `path`, end to end in ASCII order of their paths, without a bundle's
                    flag, which states a digest itself; of one file, its own
    partition       key -> text; empty for a policy
    schema_ref      segment and data set
    catalogue       both versions are the version of this form
    codes           of a failed check: `2B-S7-` and its name in capitals; of one that passed, none
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.counters import merchant_days
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.record.bundle import FLAG, digest_of, sha256
from lanelock.engine.segment_2b.record.places import partition, place
from lanelock.engine.segment_2b.states.s2_alias_index import decode
from lanelock.engine.segment_2b.states.s7_audit import Check
from lanelock.engine.surface import Categories, Surface

CATALOGUE = {"dictionary_version": "1.0.0", "registry_version": "1.0.0"}
ALIAS_POLICY, EFFECTS_POLICY = "alias_layout_policy_v1", "day_effect_policy_v1"
ROUTING_POLICY = "route_rng_policy_v1"
UPSTREAM = {  # asset -> its segment
    "site_locations": "1B",
    "site_timezones": "2A",
    "tz_timetable_cache": "2A",
    "validation_bundle_1B": "1B",
}
ROSTER = "s5_arrival_roster"
Row = dict[str, Any]


def sealed_inputs(
    run: Run, address: Address, files: Mapping[str, bytes], policies: Mapping[str, Row], roster: str
) -> list[Row]:
    """Returns sealed_inputs_2B, in order of asset id.

    `files`: the upstream's and the policies', by path. `roster`: the digest of its file, which is sealed if the
    arrivals were brought in.
    """
    assets = [
        _asset(name, segment, address, digest_of(_below(files, place(name, address))))
        for name, segment in UPSTREAM.items()
    ]
    if "arrival_roster" in run.sealed.digests():
        assets.append(_asset(ROSTER, "2B", address, roster))
    folder = place("policy", address)
    for name, policy in policies.items():
        path = f"{folder}{name}.json"
        asset = {
            "asset_id": name,
            "version_tag": policy["version_tag"],
            "sha256_hex": sha256(files[path]),
            "path": path,
            "partition": {},
        }
        assets.append({**asset, "schema_ref": f"2B/policy/{name}"})
    return sorted(assets, key=lambda asset: asset["asset_id"])


def gate_receipt(run: Run, address: Address, sealed: list[Row], policies: list[str]) -> Row:
    """Returns s0_gate_receipt_2B. What depends on the host is left out of its determinism receipt."""
    digests = {asset["asset_id"]: asset["sha256_hex"] for asset in sealed}
    return {
        **_run(address),
        "parameter_hash": address.parameter_hash,
        "verified_at_utc": run.sealed.created_utc,
        "sealed_inputs": [
            {"id": asset["asset_id"], "partition": asset["partition"], "schema_ref": asset["schema_ref"]}
            for asset in sealed
        ],
        "catalogue_resolution": CATALOGUE,
        "determinism_receipt": {
            "engine_commit": run.code_version,
            "policy_ids": policies,
            "policy_digests": [digests[name] for name in policies],
        },
    }


def alias_index(run: Run, policy: Row, policy_digest: str) -> Row:
    """Returns the index of S2. `policy`: the record's, with the SHA-256 of its file."""
    index, blob = run.surfaces["s2_alias_index"], run.surfaces["s2_alias_blob"]
    bits = int(policy["quantised_bits"])
    merchants = [
        {**{name: row[name] for name in ("merchant_id", "offset", "length", "sites")}, "quantised_bits": bits,
         "checksum": row["sha256"]}
        for row in index.table().to_pylist()
    ]  # fmt: skip
    return {
        **{name: policy[name] for name in ("layout_version", "endianness", "alignment_bytes")},
        "quantised_bits": bits,
        "created_utc": run.sealed.created_utc,
        "policy_id": ALIAS_POLICY,
        "policy_digest": policy_digest,
        "blob_sha256": str(np.asarray(blob["sha256"])[0]),
        "blob_size_bytes": int(np.asarray(blob["size"])[0]),
        "merchants_count": len(merchants),
        "merchants": merchants,
    }


def audit_report(run: Run, address: Address, sealed: list[Row]) -> Row:
    """Returns s7_audit_report."""
    failed = sum(not check.passed for check in run.audit.checks)
    return {
        "component": "2B.S7",
        **_run(address),
        "created_utc": run.sealed.created_utc,
        "catalogue_resolution": CATALOGUE,
        "inputs_digest": {asset["asset_id"]: asset["sha256_hex"] for asset in sealed},
        "checks": [_check(check) for check in run.audit.checks],
        "metrics": _metrics(run.surfaces),
        "summary": {"overall_status": "PASS" if run.audit.passed else "FAIL", "warn_count": 0, "fail_count": failed},
    }


def _run(address: Address) -> Row:
    return {"manifest_fingerprint": address.manifest_fingerprint, "seed": address.seed}


def _asset(name: str, segment: str, address: Address, sha256_hex: str) -> Row:
    return {
        "asset_id": name,
        "version_tag": address.manifest_fingerprint,
        "sha256_hex": sha256_hex,
        "path": place(name, address),
        "partition": partition(name, address),
        "schema_ref": f"{segment}/{name}",
    }


def _below(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path.startswith(folder) and not path.endswith(FLAG)}


def _check(check: Check) -> Row:
    code = "2B-S7-" + re.sub(r"\W+", "-", check.name).strip("-").upper()
    context = {"state": check.state, "rows": check.rows, "failures": check.failures}
    if not check.passed:
        context |= {"first": check.first, "reason": check.reason}
    status = "PASS" if check.passed else "FAIL"
    return {"id": check.name, "status": status, "codes": [] if check.passed else [code], "context": context}


def _metrics(surfaces: Mapping[str, Surface]) -> Row:
    s4, selected = surfaces["s4_group_weights"], surfaces["s5_selection_log"].rows
    day = s4["utc_day"]
    assert isinstance(day, Categories)
    merchant, p_group = np.asarray(s4["merchant_id"]), np.asarray(s4["p_group"])
    total = np.add.reduceat(p_group, merchant_days(s4)[:-1])
    drawn = [surfaces[f"s{name}"].rows for name in ("5_rng_event_group", "5_rng_event_site", "6_rng_event_edge")]
    days = len(set(day.codes.tolist()))
    return {
        "merchants_total": len(np.unique(merchant)),
        "groups_total": s4.rows // days,
        "days_total": days,
        "selections_checked": selected,
        "draws_expected": 2 * selected + surfaces["s6_edge_log"].rows,
        "draws_observed": sum(drawn),
        "alias_decode_max_abs_delta": _alias_delta(surfaces),
        "max_abs_mass_error_s4": float(np.max(np.abs(total - 1.0))),
    }


def _alias_delta(surfaces: Mapping[str, Surface]) -> float:
    """Returns the greatest difference between a weight and what the alias tables decode to."""
    index, blob = surfaces["s2_alias_index"], bytes(np.asarray(surfaces["s2_alias_blob"]["blob"])[0])
    slices = zip(np.asarray(index["offset"]).tolist(), np.asarray(index["length"]).tolist(), strict=True)
    decoded = np.concatenate([decode(blob, *each) for each in slices])
    return float(np.max(np.abs(decoded - np.asarray(surfaces["s1_site_weights"]["p_weight"]))))
