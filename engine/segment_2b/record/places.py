"""Where the record's readers look for each data set, below the root of a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lanelock.engine.segment_2b.layout import Address

UPSTREAM = Path("data/layer1")
_TABLE = "seed={seed}/manifest_fingerprint={manifest_fingerprint}"
_WORLD = "manifest_fingerprint={manifest_fingerprint}"
_LOG = "seed={seed}/parameter_hash={parameter_hash}/run_id={run_id}"

PATHS = {  # a folder ends in /
    "validation_bundle_1B": f"data/layer1/1B/validation/{_WORLD}/",
    "site_locations": f"data/layer1/1B/site_locations/{_TABLE}/",
    "site_timezones": f"data/layer1/2A/site_timezones/{_TABLE}/",
    "tz_timetable_cache": f"data/layer1/2A/tz_timetable_cache/{_WORLD}/",
    "policy": "config/layer1/2B/policy/",
    "s0_gate_receipt_2B": f"data/layer1/2B/s0_gate_receipt/{_WORLD}/s0_gate_receipt_2B.json",
    "sealed_inputs_2B": f"data/layer1/2B/sealed_inputs/{_WORLD}/sealed_inputs_2B.json",
    "s1_site_weights": f"data/layer1/2B/s1_site_weights/{_TABLE}/",
    "s2_alias_index": f"data/layer1/2B/s2_alias_index/{_TABLE}/index.json",
    "s2_alias_blob": f"data/layer1/2B/s2_alias_blob/{_TABLE}/alias.bin",
    "s3_day_effects": f"data/layer1/2B/s3_day_effects/{_TABLE}/",
    "s4_group_weights": f"data/layer1/2B/s4_group_weights/{_TABLE}/",
    "s5_arrival_roster": f"data/layer1/2B/s5_arrival_roster/{_LOG}/arrival_roster.jsonl",
    "s5_selection_log": f"data/layer1/2B/s5_selection_log/{_LOG}/utc_day={{utc_day}}/selection_log.jsonl",
    "s6_edge_log": f"logs/layer1/2B/edge/{_LOG}/utc_day={{utc_day}}/s6_edge_log.jsonl",
    "rng_audit_log": f"logs/layer1/2B/rng/audit/{_LOG}/rng_audit_log.jsonl",
    "rng_trace_log": f"logs/layer1/2B/rng/trace/{_LOG}/rng_trace_log.jsonl",
    "rng_event": f"logs/layer1/2B/rng/events/{{event}}/{_LOG}/part-{{part:05}}.jsonl",
    "s7_audit_report": f"data/layer1/2B/s7_audit_report/{_TABLE}/s7_audit_report.json",
    "validation_bundle_2B": f"data/layer1/2B/validation/{_WORLD}/",
    "run_report": f"reports/layer1/2B/state={{state}}/{_TABLE}/{{report}}_run_report.json",
}


def place(name: str, address: Address, **more: object) -> str:
    """Returns the path of a data set, relative to the root. `more`: the day, event, part or state of a file."""
    return PATHS[name].format(**asdict(address), **more)


def partition(name: str, address: Address) -> dict[str, str]:
    """Returns the partition of a data set as the sealed inputs state it: key -> value, both as text."""
    parts = [part.partition("=") for part in place(name, address).split("/") if "=" in part]
    return {key: value for key, _, value in parts}
