"""`run --shard-size`: a run too large to hold in memory, measured shard by shard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lanelock.engine.protocol import Run, Sharding, StateReport
from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError
from lanelock.policies.errors import blamed
from lanelock.scoring.scorecard import MetricSource, Scorecard, ShardMetrics, gates_of, numbers, score
from lanelock.sweeps.engines import metrics_named


def sharded(engine: Resolved, size: int | None, jobs: int) -> Resolved:
    """Returns the engine over shards. Raises LaneError if it has none."""
    option = "--jobs" if size is None else "--shard-size"
    return Resolved(engine.part(Sharding, option).sharded(size, jobs))


def stream(
    engine: Resolved, pack: Pack, seed: int, *, world: Path | None, scored: bool
) -> tuple[dict[str, Any], list[StateReport], Scorecard | None]:
    """Runs shard by shard, keeping only reports and what the metrics need. Returns the document, states and scorecard.

    The document has no digests: a surface's digest covers the whole surface, which is never in memory.
    """
    source = _metrics(engine.name) if scored else None
    samples, reports, count, document = [], list[StateReport](), 0, dict[str, Any]()
    for run in engine.evaluate_shards(pack, seed, world=world):
        if source is not None:
            with blamed(f"metrics of engine {engine.name}: seed {seed}"):
                samples.append(source.sample(run))
        reports += run.states
        count, document = count + 1, run_document(run)
    states = in_total(reports)
    document |= {"shards": count, "states": [asdict(state) for state in states]}
    return document, states, None if source is None else graded(source, source.reduce(samples), seed)


def graded(source: MetricSource, metrics: Any, seed: int) -> Scorecard:
    """Returns the scorecard of a run by its engine's own gates."""
    return score(numbers(metrics, source.name, seed), gates_of(source), seed=seed, authority=None)


def run_document(run: Run) -> dict[str, Any]:
    """Returns a run as JSON, without digests and scores."""
    return {
        "run_id": run.run_id,
        "engine": run.engine,
        "pack": run.pack.name,
        "pack_digest": run.pack.digest,
        "seed": run.seed,
        "world_digest": run.world_digest,
        "fingerprint": run.fingerprint,
    } | dict.fromkeys(("digests", "metrics", "verdict", "gates", "profile"))


def in_total(reports: Iterable[StateReport]) -> list[StateReport]:
    """Returns one report per state: the rows of all its shards, and the seconds of all its threads."""
    totals: dict[str, StateReport] = {}
    for report in reports:
        if (total := totals.get(report.name)) is not None:
            report = replace(report, rows=total.rows + report.rows, seconds=total.seconds + report.seconds)
        totals[report.name] = replace(report, processor_s=0.0)  # threads overlap: each saw what all of them used
    return list(totals.values())


def _metrics(engine: str) -> Any:
    source = metrics_named(engine)
    if not isinstance(source, ShardMetrics):
        raise PolicyError(f"--score: the metrics of engine {engine} are not measured over shards")
    return source
