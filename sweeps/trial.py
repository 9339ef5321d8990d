"""One trial: a candidate run on the lane's seeds, measured and scored.

A veto ends it early, and so does a seed on which it is too far behind the best candidate so far. Whatever an engine
raises is a result: the trial failed, for that reason, and the sweep goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lanelock.engine.protocol import Run
from lanelock.policies import IntegrityError, Pack, WorkspaceError
from lanelock.policies.errors import cause
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.decision.race import Race
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial, TrialRecord

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # `map`, or the same over several workers


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished trial: its objectives, its constraints, and its record."""

    objectives: tuple[float, ...] | None
    constraints: Mapping[str, float]
    record: TrialRecord


@dataclass(frozen=True, slots=True)
class SeedRun:
    """A candidate on one seed: its metrics and their grade, or why it has none."""

    seed: int
    pack: Pack | None  # the candidate's; None: its values give no valid pack
    card: Scorecard | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    world: str = ""  # digest
    seconds: tuple[float, float] = (0.0, 0.0)  # of the engine, of scoring
    failure: str = ""
    details: str = ""  # all that the engine said of its failure
    ended_by: str = ""  # what ended its process, where that is why it has no metrics
    used: Mapping[str, float] = field(default_factory=dict)  # "seconds" and "peak_mb", where runs are limited


OnSeed = Callable[[Ground, Pack, int], SeedRun]  # a lane's ground, a candidate's pack, a seed


class _Failed(Exception):
    """The candidate has no result; the message says why, `details` all that the engine said."""

    def __init__(self, why: str, details: str = "") -> None:
        super().__init__(why)
        self.details = details


def evaluate(
    ground: Ground,
    values: Mapping[str, Value],
    seeds: Sequence[int],
    race: Race | None = None,
    first: SeedRun | None = None,
    spread: Spread = map,
    on_seed: OnSeed | None = None,
) -> Outcome:
    """Runs one trial on the seeds in the given order, until a veto, a failure or the race ends it.

    `first` is the run on the first seed, if it was made already. `spread` may run seeds ahead; the record has only
    those up to the end. `on_seed` stands in for the engine where results are known already.
    """
    on_seed = on_seed or run_on
    runs, stopped = list[SeedRun](), ""
    if first is None:
        first = first_run(ground, values, seeds[0], on_seed)
    for run in _each(first, seeds, spread, partial(on_seed, ground)):
        runs.append(run)
        if run.card is None or run.card.vetoed:
            break
        if race is not None and run.seed != seeds[-1] and (stopped := race.lost(run.card)):
            break
    return _outcome(ground, runs, stopped)


def _each(
    first: SeedRun, seeds: Sequence[int], spread: Spread, run: Callable[[Pack, int], SeedRun]
) -> Iterator[SeedRun]:
    yield first
    if first.pack is not None:
        yield from spread(partial(run, first.pack), seeds[1:])


def first_run(ground: Ground, values: Mapping[str, Value], seed: int, on_seed: OnSeed | None = None) -> SeedRun:
    """Builds a candidate's pack and runs it on one seed. What the engine raises is a failure in the result."""
    try:
        pack: Pack = _attempted("the candidate is not a valid pack", ground.lane.candidate, values)
    except _Failed as error:
        return SeedRun(seed, None, failure=str(error))
    return (on_seed or run_on)(ground, pack, seed)


def run_on(ground: Ground, pack: Pack, seed: int) -> SeedRun:
    """Runs, measures and grades a candidate on one seed. What the engine raises is a failure in the result."""
    return graded(ground, measured_on(ground, pack, seed))


def measured_on(ground: Ground, pack: Pack, seed: int) -> SeedRun:
    """Runs and measures a candidate on one seed. What the engine raises is a failure in the result."""
    lane = ground.lane
    try:
        began = time.perf_counter()
        run = _attempted(f"seed {seed}", lane.engine.evaluate, pack, seed, world=ground.world, until=lane.until)
        ran = time.perf_counter()
        measures, world = _measured(ground, run, seed)
        return SeedRun(seed, pack, None, measures, world, (ran - began, time.perf_counter() - ran))
    except _Failed as error:
        return SeedRun(seed, pack, failure=str(error), details=error.details)


def graded(ground: Ground, run: SeedRun) -> SeedRun:
    """Returns a run with the grade of its metrics; one that failed as it is."""
    if run.failure:
        return run
    began, (engine, scoring) = time.perf_counter(), run.seconds
    card = ground.graded(run.seed, run.measures)
    return replace(run, card=card, seconds=(engine, scoring + time.perf_counter() - began))


def recalled(trial: Trial) -> OnSeed:
    """Returns a stand-in for the engine that gives what a trial's record states, in the full run and in each stage."""

    def on_seed(ground: Ground, pack: Pack, seed: int) -> SeedRun:
        record, stage = trial.record, ground.lane.stage
        known = record.staged.get(stage, {}) if stage else record.measures
        if seed not in known:
            failure = record.failure.removeprefix(f"stage {stage}: ")
            why = failure or f"seed {seed}: there is no result of it"
            return SeedRun(seed, pack, failure=why, ended_by=record.ended_by)
        return SeedRun(seed, pack, ground.graded(seed, known[seed]), known[seed], record.worlds.get(seed, ""))

    return on_seed


def _outcome(ground: Ground, runs: Sequence[SeedRun], stopped: str) -> Outcome:
    cards, failure = [run.card for run in runs if run.card is not None], runs[-1].failure
    objectives = None if failure else objectives_of(ground, cards)
    if objectives is None and not failure:
        failure = _ungraded(cards)
    pack, graded = runs[0].pack, [run for run in runs if run.card is not None]
    record = TrialRecord(
        measures={run.seed: run.measures for run in graded},
        pack="" if pack is None else pack.digest,
        policies={} if pack is None else {name: policy.digest for name, policy in pack.policies.items()},
        worlds={run.seed: run.world for run in graded},
        seconds={name: sum(run.seconds[at] for run in runs) for at, name in enumerate(("engine", "scoring"))},
        at_ms=int(time.time() * 1000),
        stopped=stopped,
        failure=failure,
        details=runs[-1].details,
        ended_by=runs[-1].ended_by,
        used=most_used(run.used for run in runs),
    )
    return Outcome(objectives, constraints_of(cards), record)


def most_used(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Returns the greatest of each number."""
    most = dict[str, float]()
    for row in rows:
        most |= {name: max(value, most.get(name, value)) for name, value in row.items()}
    return most


def _ungraded(cards: Sequence[Scorecard]) -> str:
    """Returns why there is no objective: the first gate that knows why it is unknown, else a number that is not one."""
    notes = (f"seed {row.seed}: {row.id}: {row.note}" for card in cards for row in card.gates if not row.known)
    return next((note for note in notes if not note.endswith(": ")), "an objective is not finite")


def _attempted(where: str, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Calls what belongs to the engine. Raises _Failed for what it raises, except where the sweep cannot go on."""
    try:
        return call(*arguments, **keywords)
    except (IntegrityError, WorkspaceError):
        raise
    except (Exception, SystemExit) as error:
        raise _Failed(f"{where}: {cause(error)}"[:500], getattr(error, "details", "")) from error


def _measured(ground: Ground, run: object, seed: int) -> tuple[dict[str, float], str]:
    """Returns the metrics and the world's digest of a run. Raises _Failed where it gives no number for a gate."""
    if not isinstance(run, Run):
        raise _Failed(f"seed {seed}: the engine returned {type(run).__name__} instead of a run")
    metrics: dict[str, float] = _attempted(f"seed {seed}: its metrics", ground.lane.measure, run, ground.world)
    if missing := [name for name in ground.lane.needed if name not in metrics]:
        raise _Failed(f"seed {seed}: {missing[0]} is missing or not finite")
    return metrics, run.world_digest
