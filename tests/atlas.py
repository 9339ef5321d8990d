"""A segment behind segment 2B, which knows nothing of it: the share of a merchant's arrivals that come at night."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lanelock.engine.resolved import Upstream, run_of
from lanelock.engine.surface import Surface

SCHEMA = {
    "$id": "atlas_policy_v1",
    "type": "object",
    "additionalProperties": False,
    "required": ["night_ends"],
    "x-first-state": "atlas",
    "properties": {"night_ends": {"type": "integer", "minimum": 0, "maximum": 24, "description": "hour, UTC"}},
}
NIGHTS = pa.schema([("merchant_id", pa.uint64()), ("night_share", pa.float64())])


class AtlasEngine:
    name = "atlas"
    policy_schemas: ClassVar = {"atlas_policy_v1": SCHEMA}
    upstream = Upstream("segment_2b")

    def evaluate(self, pack, seed, *, upstream):
        arrivals = upstream.surfaces["s5_arrival_roster"].table()
        hour = pc.utf8_slice_codeunits(arrivals["utc_timestamp"].cast(pa.string()), 11, 13).cast(pa.int64())
        night = pc.less(hour, pack["atlas_policy_v1"]["night_ends"]).cast(pa.float64())
        table = pa.table({"merchant_id": arrivals["merchant_id"], "night": night})
        table = table.group_by("merchant_id", use_threads=False).aggregate([("night", "mean")]).sort_by("merchant_id")
        columns = {"merchant_id": table["merchant_id"].to_numpy(), "night_share": table["night_mean"].to_numpy()}
        return run_of(self, pack, seed, {"nights": Surface("nights", NIGHTS, columns)})

    def contract(self):
        columns = [{"name": field.name, "type": str(field.type), "unit": "share"} for field in NIGHTS]
        return [
            {
                "surface": "nights",
                "state": "atlas",
                "path": "nights.parquet",
                "key": ["merchant_id"],
                "columns": columns,
            }
        ]


class AtlasMetrics:
    name = "atlas"
    gates_file: ClassVar = {
        "id": "atlas",
        "title": "Nights",
        "bands": ["B", "B+"],
        "metrics": {
            "atlas/night": {"unit": "share", "state": "atlas", "worst": "lowest", "what": "Mean share of nights."}
        },
        "gates": [
            {
                "id": "nights", "metric": "atlas/night", "severity": "gate", "comparison": ">=",
                "thresholds": {"B": 0.05, "B+": 0.1}, "why": "Some come at night.",
            }
        ],
    }  # fmt: skip

    def measure(self, run):
        return {"atlas/night": float(np.mean(run.surfaces["nights"]["night_share"]))}


ENGINE, METRICS = AtlasEngine(), AtlasMetrics()
