"""A third engine, written by `engine/protocol.py` alone: gauges on a coast, published and cut, on no world.

It names no states and no code version, so it has one state and the digest of this file; its metrics prove no bounds.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lanelock.engine.keep import published
from lanelock.engine.keep.receipts import write_json
from lanelock.engine.protocol import Published
from lanelock.engine.resolved import run_of
from lanelock.engine.surface import Surface
from lanelock.engine.workers import mapped, ranges
from lanelock.policies import IntegrityError, pack_of
from lanelock.policies.pack import policies_in

SCHEMA = {
    "$id": "tide_policy_v1",
    "type": "object",
    "additionalProperties": False,
    "required": ["gauges", "hours", "range_m", "surge_m"],
    "x-first-state": "tides",
    "properties": {
        "gauges": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "gauges"},
        "hours": {"type": "integer", "minimum": 1, "maximum": 10_000, "description": "hours"},
        "range_m": {"type": "number", "minimum": 0, "maximum": 20, "description": "metres from low to high water"},
        "surge_m": {"type": "number", "minimum": 0, "maximum": 5, "description": "metres, standard deviation"},
    },
}
UNITS = {"gauge": "number", "hour": "hours", "height": "metres"}
HEIGHTS = pa.schema([("gauge", pa.int64()), ("hour", pa.int64()), ("height", pa.float64())])


class TidesEngine:
    name = "tides"
    policy_schemas: ClassVar = {"tide_policy_v1": SCHEMA}
    cuts: ClassVar = (None, 1)  # gauges a shard, threads

    def evaluate(self, pack, seed):
        policy = pack["tide_policy_v1"]
        parts = mapped(lambda gauges: _heights(policy, seed, gauges), self._shards(policy), self.cuts[1])
        return self._run(pack, seed, pa.concat_tables(parts))

    # Sharding
    def sharded(self, size, jobs):
        other = copy(self)
        other.cuts = (size, jobs)
        return other

    def evaluate_shards(self, pack, seed):
        policy = pack["tide_policy_v1"]
        return (self._run(pack, seed, _heights(policy, seed, gauges)) for gauges in self._shards(policy))

    # Publishing
    def publish(self, run, runs):
        return Published(published.publish_whole(run, runs, write))

    def open_run(self, folder):
        for name, why in self.faults(folder):
            raise IntegrityError(f"{folder / name}: {why}")
        receipt = published.read_receipt(folder / published.RECEIPT)
        documents = policies_in(folder / "policies", self.policy_schemas)
        pack = pack_of("policies", documents, self.policy_schemas, str(folder))
        return self._run(pack, receipt["seed"], pq.read_table(folder / "heights.parquet", schema=HEIGHTS))

    def faults(self, folder):
        return [*published.file_faults(folder, published.read_receipt(folder / published.RECEIPT))]

    def replay(self, folder, scratch):
        opened = self.open_run(folder)
        return published.compare_again(self.evaluate(opened.pack, opened.seed), folder, scratch, write)

    # Exporting, Declaring
    def export(self, run, exports):
        folder = exports / run.run_id
        for row in run.surfaces["heights"].table().to_pylist():
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "heights.jsonl").open("a") as file:
                file.write(f'{{"gauge":{row["gauge"]},"hour":{row["hour"]},"height":{row["height"]!r}}}\n')
        return folder

    def contract(self):
        columns = [{"name": field.name, "type": str(field.type), "unit": UNITS[field.name]} for field in HEIGHTS]
        key = ["gauge", "hour"]
        return [{"surface": "heights", "state": self.name, "path": "heights.parquet", "key": key, "columns": columns}]

    def _shards(self, policy):
        size, jobs = self.cuts
        return ranges(policy["gauges"], size or -(-policy["gauges"] // jobs))

    def _run(self, pack, seed, heights):
        columns = {name: heights[name].to_numpy() for name in heights.column_names}
        return run_of(self, pack, seed, {"heights": Surface("heights", HEIGHTS, columns)})


def write(run, folder):
    """Every file of a run, the receipt last."""
    pq.write_table(run.surfaces["heights"].table(), folder / "heights.parquet")
    for name, document in run.pack.documents().items():
        write_json(folder / "policies" / f"{name}.json", document)
    published.seal(run, folder)


def _heights(policy, seed, gauges):
    """The rows of some gauges: each draws from a stream of its own, so that no cut moves a byte."""
    hour = np.arange(policy["hours"])
    rows = []
    for gauge in range(gauges.start, gauges.stop):
        surge = np.random.Generator(np.random.Philox(key=(seed << 32) + gauge)).normal(0, policy["surge_m"], len(hour))
        height = np.round(policy["range_m"] / 2 * np.cos(2 * np.pi * (hour + gauge) / 12.42) + surge, 3)
        rows.append(pa.table([np.full(len(hour), gauge), hour, height], schema=HEIGHTS))
    return pa.concat_tables(rows)


class TidesMetrics:
    name = "tides"
    gates_file = Path(__file__).parent / "gates.json"

    def measure(self, run):
        return self.reduce([self.sample(run)])

    def sample(self, run):
        return run.surfaces["heights"]["height"]

    def reduce(self, samples):
        height = np.concatenate(samples)
        return {"tides/spread": float(np.ptp(height)), "tides/high": float(np.max(height))}


ENGINE, METRICS = TidesEngine(), TidesMetrics()
