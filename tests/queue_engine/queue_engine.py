"""A second engine, of another field: an M/M/c queue. It shows that the sweep knows no engine by name.

Its world is nothing, its one state draws interarrival and service times, its surface is one row a customer.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lanelock.engine.resolved import run_of
from lanelock.engine.surface import Surface
from lanelock.policies import DataError
from lanelock.scoring.feasibility import Bound

_NUMBER = {"type": "number", "description": "customers per minute", "exclusiveMinimum": 0, "maximum": 100}
SCHEMA = {
    "$id": "queue_policy_v1",
    "type": "object",
    "additionalProperties": False,
    "required": ["arrivals", "service", "servers"],
    "x-first-state": "Q1",
    "properties": {
        "arrivals": _NUMBER,
        "service": _NUMBER,
        "servers": {"type": "integer", "minimum": 1, "maximum": 20, "description": "servers"},
    },
}
WAITS = pa.schema([pa.field("wait", pa.float64(), nullable=False), pa.field("busy", pa.float64(), nullable=False)])


def waits(policy, seed, customers):
    """The customers' waits and their service times, in minutes."""
    draw = np.random.Generator(np.random.Philox(key=seed))
    arrive = np.cumsum(draw.exponential(1 / policy["arrivals"], customers))
    service = draw.exponential(1 / policy["service"], customers)
    free = [0.0] * policy["servers"]
    wait = np.empty(len(arrive))
    for i, (at, length) in enumerate(zip(arrive, service, strict=True)):
        start = max(at, heapq.heappop(free))
        wait[i] = start - at
        heapq.heappush(free, start + length)
    return wait, service


class QueueEngine:
    name = "queue"
    policy_schemas: ClassVar = {"queue_policy_v1": SCHEMA}
    states = ("Q1",)
    feeds: ClassVar = {"customers": "waits"}

    def evaluate(self, pack, seed):
        wait, service = waits(pack["queue_policy_v1"], seed, 2_000)
        return run_of(self, pack, seed, {"waits": Surface("waits", WAITS, {"wait": wait, "busy": service})})

    def serve(self, pack, seed):
        run = self.evaluate(pack, seed)
        return run, QueueService(run.surfaces["waits"].table())


class LeakyEngine(QueueEngine):
    """A queue that breaks down where its servers are slow, but not too slow."""

    name = "leaky"
    code_version = "0" * 64
    fails: ClassVar = (0.6, 1.0)  # services per minute

    def evaluate(self, pack, seed):
        if self.fails[0] < pack["queue_policy_v1"]["service"] < self.fails[1]:
            raise RuntimeError("pump burst\nwater everywhere")
        return super().evaluate(pack, seed)


class QueueService:
    def __init__(self, waits):
        self.waits = waits

    def answer(self, arrivals):
        """Each customer's wait, by their number in the queue."""
        if len(unknown := np.flatnonzero(np.asarray(arrivals["customer"]) >= self.waits.num_rows)):
            raise DataError(f"arrivals: row {unknown[0] + 1}: customer: not one of {self.waits.num_rows}")
        return self.waits.select(["wait"]).take(arrivals["customer"])


class QueueMetrics:
    name = "queue"
    gates_file = Path(__file__).parent / "gates.json"

    def measure(self, run):
        wait = run.surfaces["waits"]["wait"]
        return {
            "q1/wait_p90": float(np.quantile(wait, 0.9)),
            "q1/served_at_once": float(np.mean(wait == 0)),
            "q1/servers": float(run.pack["queue_policy_v1"]["servers"]),
        }

    def bounds(self, box):
        least = min(box.moves.get("queue_policy_v1#/servers", (box.start["queue_policy_v1"]["servers"],)))
        return [Bound("q1/servers", "at_least", least, f"at least {least} servers are open", "none")]


class LeakyMetrics(QueueMetrics):
    name = "leaky"


ENGINE, METRICS = QueueEngine(), QueueMetrics()
LEAKY, LEAKY_METRICS = LeakyEngine(), LeakyMetrics()


def evenly(seed):
    """A sampler of a user's own, as an entry point gives it."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)
