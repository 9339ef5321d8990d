"""A queue whose number of customers is a setting: few of them are a cheap stage, which may mislead."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
from queue_engine import SCHEMA, WAITS, waits

from lanelock.engine.resolved import run_of
from lanelock.engine.surface import Surface

CUSTOMERS = {"type": "integer", "minimum": 10, "maximum": 10_000, "description": "customers"}
HALL = copy.deepcopy(SCHEMA) | {"$id": "hall_policy_v1", "x-first-state": "hall"}
HALL["required"].append("customers")
HALL["properties"]["customers"] = CUSTOMERS


class HallEngine:
    name = "hall"
    policy_schemas: ClassVar = {"hall_policy_v1": HALL}
    runs: ClassVar[list] = []  # (customers, seed) of every run in this process

    def evaluate(self, pack, seed):
        policy = pack["hall_policy_v1"]
        self.runs.append((policy["customers"], seed))
        wait, service = waits(policy, seed, policy["customers"])
        return run_of(self, pack, seed, {"waits": Surface("waits", WAITS, {"wait": wait, "busy": service})})


class HallMetrics:
    name = "hall"
    gates_file = Path(__file__).parent / "hall_gates.json"

    def measure(self, run):
        wait, servers = run.surfaces["waits"]["wait"], run.pack["hall_policy_v1"]["servers"]
        return {"wait_p90": float(np.quantile(wait, 0.9)), "servers": float(servers)}


ENGINE, METRICS = HallEngine(), HallMetrics()
