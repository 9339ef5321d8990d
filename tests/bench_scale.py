"""`make bench-scale`: worlds of one, ten and a hundred times the reference, S0 to S4 measured and scored in shards.

Each size runs in a process of its own, so that peak memory is its own. Compiling and reading the cities come first and
are not counted: they take the same time for any size and would flatter the exponent. `--short` only shows that it runs.
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
REFERENCE, SHARD, SEED = 1238, 600, 42  # merchants, merchants per shard
SIZES, SHORT = (1, 10, 100), (0.02, 0.04)  # times the reference world


def measured(times: float, jobs: int) -> dict[str, object]:
    """Returns rows, seconds, peak memory and metrics of a world `times` as large as the reference."""
    pack = load_pack("p3_recorded", SEGMENT_2B.policy_schemas)
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
    """Returns this process's peak memory. On Linux from VmHWM, because getrusage includes the parent's memory."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / (1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform != "darwin" else 30))


def play(engine: Segment2B, pack: object) -> tuple[int, dict[str, float]]:
    """Returns the rows of S4 and the metrics of the scorecard."""
    rows, samples = 0, []
    for run in engine.evaluate_shards(pack, SEED, until="S4"):
        rows += run.surfaces["s4_group_weights"].rows
        samples.append(METRICS.sample(run))
    card = score(METRICS.reduce(samples), load_gates(METRICS.gates_file), seed=SEED, authority=None)
    return rows, dict(card.metrics)


def apart(times: float, jobs: int) -> dict[str, object]:
    """Runs `measured` in a process of its own."""
    command = [sys.executable, "-m", "tests.bench_scale", str(times), str(jobs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def main(sizes: tuple[float, ...]) -> None:
    jobs = os.cpu_count() or 1
    worlds = [apart(times, jobs) for times in sizes]
    exponent = np.polyfit(np.log([w["rows"] for w in worlds]), np.log([w["seconds"] for w in worlds]), 1)[0]
    print(f"scale: pack p3_recorded, S0 to S4, metrics and scorecard, shards of {SHARD} merchants, {jobs} threads")
    head = ("world", "merchants", "sites", "rows of S4", "world s", "all s", "µs per row", "peak GB")
    print(columns(head, [
        (f"{w['times']:g}x", f"{w['merchants']:,}", f"{w['sites']:,}", f"{w['rows']:,}", f"{w['draw_seconds']:.2f}",
         f"{w['seconds']:.2f}", f"{1e6 * w['seconds'] / w['rows']:.3f}", f"{w['peak_gb']:.2f}") for w in worlds
    ]))  # fmt: skip
    print(f"\ntime grows as rows to the power {exponent:.3f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [times, jobs]:
            print(json.dumps(measured(float(times), int(jobs))))
        case rest:
            main(SHORT if rest == ["--short"] else SIZES)
