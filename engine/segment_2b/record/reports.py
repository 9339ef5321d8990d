"""The run reports of the record's form: policies, inputs, what was written, counters, samples, validators, summary.

A report depends on the run alone. Where the record states what differs between hosts, a report says `not recorded`
unless the caller gives it; durations, those of this process's run, are stated only if asked for. Samples are rows at
even distances, with the columns of provenance that the strict tables of the record leave out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from lanelock.engine.keep.receipts import text_of
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.counters import counters_of, day_effect_draws
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.record.policies import write_policies
from lanelock.engine.segment_2b.states.s7_audit import Check
from lanelock.engine.surface import Surface

STATES = ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8")
SAMPLES = 20  # rows
_UNKNOWN = "not recorded"
_ENVIRONMENT = ("engine_commit", "python_version", "platform")
_POLICIES = {  # state -> the policies that it reads
    "S0": (
        "alias_layout_policy_v1", "day_effect_policy_v1", "group_mix_regularizer_v1", "route_rng_policy_v1",
        "virtual_edge_policy_v1",
    ),
    "S1": ("alias_layout_policy_v1",),
    "S2": ("alias_layout_policy_v1",),
    "S3": ("day_effect_policy_v1",),
    "S4": ("group_mix_regularizer_v1",),
    "S5": ("route_rng_policy_v1",),
    "S6": ("route_rng_policy_v1", "virtual_edge_policy_v1"),
}  # fmt: skip
_READS = {  # state -> the surfaces that it reads
    "S2": ("s1_site_weights",),
    "S4": ("s1_site_weights", "s3_day_effects"),
    "S5": ("s5_arrival_roster", "s1_site_weights", "s4_group_weights"),
    "S6": ("s5_arrival_roster",),
    "S7": (
        "s1_site_weights",
        "s2_alias_index",
        "s3_day_effects",
        "s4_group_weights",
        "s5_selection_log",
        "s6_edge_log",
    ),
}
_KEY = ("merchant_id", "utc_day", "tz_group_id")
_SAMPLED = {  # state -> the surface and the columns of its samples
    "S1": (
        "s1_site_weights",
        ("merchant_id", "legal_country_iso", "site_order", "p_weight", "weight_source", "weight_profile",
         "mixture_component", "alpha_used"),
    ),
    "S2": ("s2_alias_index", ("merchant_id", "offset", "length", "sites")),
    "S3": ("s3_day_effects", (*_KEY, "gamma", "log_gamma", "sigma_value", "sigma_source", "weekly_amp")),
    "S4": (
        "s4_group_weights",
        (*_KEY, "p_group", "base_share", "regularizer_applied", "regularizer_strength", "regularizer_delta_mass"),
    ),
    "S5": ("s5_selection_log", (*_KEY[:1], "utc_timestamp", *_KEY[1:], "site_id")),
    "S6": ("s6_edge_log", ("merchant_id", "utc_timestamp", "utc_day", "edge_id", "ip_country")),
}  # fmt: skip
_WRITTEN = {  # state -> what its paths contain
    "S0": r"/(s0_gate_receipt|sealed_inputs)/",
    "S1": r"/s1_site_weights/",
    "S2": r"/s2_alias_(index|blob)/",
    "S3": r"/s3_day_effects/",
    "S4": r"/s4_group_weights/",
    "S5": r"/(s5_\w+|audit|trace|alias_pick_\w+)/",
    "S6": r"/(edge|cdn_edge_pick)/",
    "S7": r"/s7_audit_report/",
    "S8": r"/2B/validation/",
}
_PARTS = re.compile(r"(?<=/)(utc_day=|part-).*")  # of a path: where a data set has several files
Row = dict[str, Any]


def record_reports(
    run: Run, *, written: Mapping[str, int] | None = None, environment: Mapping[str, str] | None = None,
    timed: bool = False,
) -> dict[str, Row]:  # fmt: skip
    """Returns state -> its run report, of S0 to S8.

    `written`: bytes by path of the files that lie beside the reports. `environment`: python_version and platform,
    and engine_commit where it is not the run's code version. `timed`: state the seconds of this run, which a published
    run that was read back does not know.
    """
    policies, counters = _policies(run), counters_of(run)
    made_by = {"engine_commit": run.code_version, **(environment or {})}
    reports = {}
    for state in STATES:
        validators = _validators(state, run)
        failed = sum(one["status"] == "FAIL" for one in validators)
        reports[state] = {
            "component": f"2B.{state}",
            **asdict(Address.of(run)),
            "created_utc": run.sealed.created_utc,
            "policies": [policies[name] for name in _POLICIES.get(state, ())],
            "inputs": _inputs(state, run),
            "publish": _publish(state, written or {}),
            "environment": {name: made_by.get(name, _UNKNOWN) for name in _ENVIRONMENT},
            "counters": counters.get(state, {}),
            "samples": {"rows": _samples(state, run)},
            "validators": validators,
            "summary": {"overall_status": "FAIL" if failed else "PASS", "fail_count": failed, "warn_count": 0},
        }
    reports["S3"]["rng_accounting"] = day_effect_draws(run)
    if timed:
        for timed_state in run.states:
            if timed_state.name in reports:
                reports[timed_state.name]["durations_ms"] = {"wall": round(1000.0 * timed_state.seconds, 3)}
    return reports


def _policies(run: Run) -> dict[str, Row]:
    """Returns the echo of each policy: its id, its version, and the digest of its file."""
    return {
        name: {
            "policy_id": name,
            "version_tag": document["version_tag"],
            "sha256_hex": hashlib.sha256(text_of(document).encode()).hexdigest(),
        }
        for name, document in write_policies(run.pack).items()
    }


def _inputs(state: str, run: Run) -> Row:
    world = {"manifest_fingerprint": run.world_digest, "sites": run.upstream.rows}
    rows = {name: {"rows": run.surfaces[name].rows} for name in _READS.get(state, ())}
    return {"world": world, **rows}


def _publish(state: str, written: Mapping[str, int]) -> Row:
    """Returns what a state wrote: a data set's single file, or its folder with the number of its files."""
    outputs: dict[str, Row] = {}
    for path, count in sorted(written.items()):
        if re.search(_WRITTEN[state], f"/{path}"):
            output = outputs.setdefault(_PARTS.sub("", path), {"files": 0, "bytes": 0})
            output["files"] += 1
            output["bytes"] += count
    found = [{"path": path, **output} for path, output in outputs.items()]
    return {"outputs": found, "bytes": sum(output["bytes"] for output in found), "write_once": True}


def _samples(state: str, run: Run) -> list[Row]:
    """Returns up to 20 rows at even distances."""
    if state not in _SAMPLED:
        return []
    name, columns = _SAMPLED[state]
    surface = run.surfaces[name]
    rows = np.unique(np.linspace(0, surface.rows - 1, min(SAMPLES, surface.rows)).astype(np.int64))
    few = {column: surface[column][rows] for column in columns}  # type: ignore[index]
    schema = pa.schema([surface.schema.field(column) for column in columns])
    return [
        {name: _plain(value) for name, value in row.items()} for row in Surface(name, schema, few).table().to_pylist()
    ]


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it; a moment with six fraction digits."""
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def _validators(state: str, run: Run) -> list[Row]:
    """Returns the audit's checks of a state, in their order; of S7, which is the audit, all; of S8, its outcome."""
    if state == "S8":
        return [_validator(1, "audit passed", run.audit.passed, {"checks": len(run.audit.checks)})]
    checks = [check for check in run.audit.checks if state in (check.state, "S7")]
    return [_validator(number, check.name, check.passed, _context(check)) for number, check in enumerate(checks, 1)]


def _validator(number: int, name: str, passed: bool, context: Row) -> Row:
    codes = [] if passed else [re.sub(r"\W+", "-", name).strip("-").upper()]
    status = "PASS" if passed else "FAIL"
    return {"id": f"V-{number:02}", "name": name, "status": status, "codes": codes, "context": context}


def _context(check: Check) -> Row:
    found = {"rows": check.rows, "failures": check.failures}
    return found if check.passed else {**found, "first": check.first, "reason": check.reason}
