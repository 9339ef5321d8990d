"""`run --shard-size`: a run too large to hold its surfaces, measured as it streams by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lanelock.engine.protocol import Run, Sharding, StateReport
from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import ShardMetrics, score
from lanelock.sweeps.engines import metrics_named


def sharded(engine: Resolved, size: int | None, jobs: int) -> Resolved:
    """The engine over shards. Raises LaneError where it knows none."""
    asked = "--jobs" if size is None else "--shard-size"
    return Resolved(engine.part(Sharding, asked).sharded(size, jobs))


def stream(
    engine: Resolved, pack: Pack, seed: int, *, world: Path | None, scored: bool
) -> tuple[dict[str, Any], list[StateReport], Any]:
    """Runs shard by shard, keeping of each its report and what the metrics need; the document and the scorecard.

    There are no digests in it: a surface's digest is over the whole surface, which is never here.
    """
    source = _metrics(engine.name) if scored else None
    samples, reports, count, document = [], list[Any](), 0, dict[str, Any]()
    for made in engine.evaluate_shards(pack, seed, world=world):
        if source is not None:
            samples.append(source.sample(made))
        reports += made.states
        count, document = count + 1, run_document(made)
    states = in_total(reports)
    document |= {"shards": count, "states": [asdict(state) for state in states]}
    if source is None:
        return document, states, None
    return (
        document,
        states,
        score(source.reduce(samples), load_gates(str(source.gates_file)), seed=seed, authority=None),
    )


def run_document(made: Run) -> dict[str, Any]:
    """A run for machines, before it is digested or scored."""
    return {
        "run_id": made.run_id,
        "engine": made.engine,
        "pack": made.pack.name,
        "pack_digest": made.pack.digest,
        "seed": made.seed,
        "world_digest": made.world_digest,
        "digests": None,
        "metrics": None,
        "verdict": None,
        "gates": None,
    }


def in_total(reports: Iterable[StateReport]) -> list[StateReport]:
    """One report a state: rows of all its shards, and the seconds of all its threads."""
    found: dict[str, StateReport] = {}
    for one in reports:
        before = found.get(one.name)
        found[one.name] = one if before is None else replace(
            one, rows=before.rows + one.rows, seconds=before.seconds + one.seconds
        )  # fmt: skip
    return list(found.values())


def _metrics(engine: str) -> Any:
    source = metrics_named(engine)
    if not isinstance(source, ShardMetrics):
        raise PolicyError(f"--score: the metrics of engine {engine} are not measured over shards")
    return source
