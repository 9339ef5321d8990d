"""A segment behind the queue: those who were served go to a till. Its world is a run of the queue's engine.

With `calls`, the till calls customers forward, so that its `waits` take the place of the queue's.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lanelock.engine.resolved import Upstream, run_of
from lanelock.engine.surface import Surface

SCHEMA = {
    "$id": "till_policy_v1",
    "type": "object",
    "additionalProperties": False,
    "required": ["pay", "calls"],
    "x-first-state": "till",
    "properties": {
        "pay": {"type": "number", "minimum": 0.1, "maximum": 10, "description": "minutes to pay"},
        "calls": {"type": "number", "minimum": 0, "maximum": 2, "description": "share of a wait that is left; 0: all"},
    },
}  # fmt: skip
LEAVES = pa.schema([("minutes", pa.float64())])
CALLED = pa.schema([("wait", pa.float64()), ("busy", pa.float64())])


class TillEngine:
    name = "till"
    policy_schemas: ClassVar = {"till_policy_v1": SCHEMA}
    states = ("till",)
    upstream = Upstream("queue")

    def evaluate(self, pack, seed, *, upstream):
        policy, waits = pack["till_policy_v1"], upstream.surfaces["waits"]
        draw = np.random.Generator(np.random.Philox(key=seed + 1_000_000))
        minutes = waits["wait"] + waits["busy"] + draw.exponential(policy["pay"], waits.rows)
        surfaces = {"leaves": Surface("leaves", LEAVES, {"minutes": minutes})}
        if policy["calls"]:
            called = {"wait": waits["wait"] * policy["calls"], "busy": waits["busy"]}
            surfaces["waits"] = Surface("waits", CALLED, called)
        return run_of(self, pack, seed, surfaces)

    def contract(self):
        columns = [{"name": "minutes", "type": "double", "unit": "minutes"}]
        return [{"surface": "leaves", "state": "till", "path": "leaves.parquet", "key": [], "columns": columns}]


class MallEngine(TillEngine):
    """The same segment behind one run of the queue, the same for every seed."""

    name = "mall"
    upstream = Upstream("queue", seed=5)


class TillMetrics:
    name = "till"
    gates_file = Path(__file__).parent / "chained_engines" / "till_gates.json"

    def measure(self, run):
        return {"till/minutes_p90": float(np.quantile(run.surfaces["leaves"]["minutes"], 0.9))}


class MallMetrics(TillMetrics):
    name = "mall"


class Ring:
    """An engine of a chain that comes back to where it began."""

    policy_schemas: ClassVar = {}

    def __init__(self, name, upstream):
        self.name, self.upstream = name, Upstream(upstream)

    def evaluate(self, pack, seed, *, upstream):
        raise NotImplementedError


ENGINE, METRICS = TillEngine(), TillMetrics()
MALL, MALL_METRICS = MallEngine(), MallMetrics()
RING_A, RING_B = Ring("ring_a", "ring_b"), Ring("ring_b", "ring_a")
