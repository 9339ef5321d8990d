"""`make bench-scale`: the reference world, ten and a hundred times as large, S0 to S4 measured and scored in shards.

Each size runs in a process of its own, so that its peak of memory is its own. Compiling and reading the
cities come first and are not counted: they are the same for any size and would flatter the exponent. `--short` shows
that it runs, on worlds that measure nothing.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.policies import load_pack
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
from lanelock.sweeps.pages.text import columns

ROOT = Path(__file__).resolve().parent.parent
REFERENCE, SHARD, SEED = 1238, 600, 42  # merchants, merchants a shard
SIZES, SHORT = (1, 10, 100), (0.02, 0.04)  # times the reference world


def measured(times: float, jobs: int) -> dict[str, object]:
    """Rows, seconds and peak memory of a world `times` the reference's, and what it scored."""
    pack = load_pack("p3", SEGMENT_2B.policy_schemas)
    play(Segment2B(), pack.with_knobs({"world_v1#/merchants/count": 20}))
    engine = Segment2B().sharded(SHARD, jobs)
    large = pack.with_knobs({"world_v1#/merchants/count": round(times * REFERENCE)})
    began = time.perf_counter()
    world = engine.evaluate(large, SEED, until="S0").upstream
    drawn = time.perf_counter()
    rows, metrics = play(engine, large)
    done = time.perf_counter()
    return {
        "times": times,
        "merchants": len(world.merchant_id),
        "sites": len(world.lat_deg),
        "rows": rows,
        "draw_seconds": drawn - began,
        "seconds": done - began,
        "peak_gb": peak_gb(),
        "metrics": metrics,
    }


def peak_gb() -> float:
    """Of this process. Linux counts into getrusage what the parent held when it began this one, so ask for VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform != "darwin" else 30))


def play(engine: Segment2B, pack: object) -> tuple[int, dict[str, float]]:
    """Rows of S4, and the metrics of the scorecard."""
    rows, samples = 0, []
    for run in engine.evaluate_shards(pack, SEED, until="S4"):
        rows += run.surfaces["s4_group_weights"].rows
        samples.append(METRICS.sample(run))
    card = score(METRICS.reduce(samples), load_gates(METRICS.gates_file), seed=SEED, authority=None)
    return rows, dict(card.metrics)


def apart(times: float, jobs: int) -> dict[str, object]:
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "tests.bench_scale", str(times), str(jobs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def main(sizes: tuple[float, ...]) -> None:
    jobs = os.cpu_count() or 1
    found = [apart(times, jobs) for times in sizes]
    exponent = np.polyfit(np.log([one["rows"] for one in found]), np.log([one["seconds"] for one in found]), 1)[0]
    print(f"scale: pack p3, S0 to S4, metrics and scorecard, shards of {SHARD} merchants, {jobs} threads")
    head = ("world", "merchants", "sites", "rows of S4", "world s", "all s", "µs a row", "peak GB")
    print(columns(head, [
        (f"{one['times']:g}x", f"{one['merchants']:,}", f"{one['sites']:,}", f"{one['rows']:,}",
         f"{one['draw_seconds']:.2f}", f"{one['seconds']:.2f}", f"{1e6 * one['seconds'] / one['rows']:.3f}",
         f"{one['peak_gb']:.2f}") for one in found
    ]))  # fmt: skip
    print(f"\ntime grows as rows to the power {exponent:.3f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [times, jobs]:
            print(json.dumps(measured(float(times), int(jobs))))
        case rest:
            main(SHORT if rest == ["--short"] else SIZES)
