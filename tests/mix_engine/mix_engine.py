"""An engine whose policy has fields of every kind that a knob may move; a run is one row of sums over them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lanelock.engine.resolved import run_of
from lanelock.engine.surface import Surface
from lanelock.scoring.feasibility import Bound

SHARE = {"type": "number", "minimum": 0, "maximum": 1, "description": "share"}
AMOUNT = {"type": "number", "minimum": -1000, "maximum": 1000, "description": "amount"}
COUNT = {"type": "integer", "minimum": 1, "maximum": 9, "description": "count"}
PROPERTIES = {
    "law": {"enum": ["smooth", "sharp", "flat"]},
    "open": {"type": "boolean"},
    "count": COUNT,
    "slots": {"type": "integer", "minimum": 0, "maximum": 100},
    "knee": SHARE,
    "floor": SHARE,
    "cap": SHARE,
    "ceiling": {"type": "number", "minimum": 0, "maximum": 1.2},
    "speed": {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
    "shares": {"type": "object", "additionalProperties": SHARE},
    "weights": {"type": "array", "items": SHARE},
    "table": {"type": "array", "items": {"type": "array", "items": AMOUNT}},
    "stock": {"type": "object", "additionalProperties": COUNT},
    "label": {"type": "string"},
}
SCHEMA = {
    "$id": "mix_policy_v1",
    "type": "object",
    "additionalProperties": False,
    "required": list(PROPERTIES),
    "x-first-state": "mix",
    "properties": PROPERTIES,
}
ROW = pa.schema([("cost", pa.float64()), ("ceiling", pa.float64())])


class MixEngine:
    name = "mix"
    policy_schemas: ClassVar = {"mix_policy_v1": SCHEMA}

    def evaluate(self, pack, seed):
        policy = pack["mix_policy_v1"]
        aims = [math.sin(seed + place) ** 2 for place in range(len(policy["shares"]))]
        apart = sum((share - aim) ** 2 for share, aim in zip(policy["shares"].values(), aims, strict=True))
        cost = apart + (policy["knee"] - 0.3) ** 2 + policy["count"] / 9 + sum(policy["weights"]) + policy["cap"]
        row = {"cost": np.array([cost]), "ceiling": np.array([float(policy["ceiling"])])}
        return run_of(self, pack, seed, {"row": Surface("row", ROW, row)})


class MixMetrics:
    name = "mix"
    gates_file = Path(__file__).parent / "gates.json"

    def measure(self, run):
        row = run.surfaces["row"]
        return {"mix/cost": float(row["cost"][0]), "mix/ceiling": float(row["ceiling"][0])}

    def bounds(self, box):
        field = "mix_policy_v1#/ceiling"
        ends = box.moves.get(field, (box.start["mix_policy_v1"]["ceiling"],))
        return [Bound("mix/ceiling", kind, end, f"{kind} {end}", "none")
                for kind, end in (("at_least", min(ends)), ("at_most", max(ends)))]  # fmt: skip

    def directions(self, box):
        return {address: 1 for address in box.moves if "/weights/" in address}


ENGINE, METRICS = MixEngine(), MixMetrics()
