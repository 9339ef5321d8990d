"""Candidates measured on every seed, each once, as a trial of a sweep is; a veto marks a candidate and ends nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.trial import SeedRun, first_run
from lanelock.sweeps.work.trials import place_for, runs_at

Values = Mapping[str, Value]
Watch = Callable[[int, int, float], None]  # runs done, runs in all, seconds


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate's runs, one per seed, in the order of the seeds."""

    values: Values
    runs: tuple[SeedRun, ...]

    @property
    def vetoed(self) -> tuple[str, ...]:
        """The vetoes and rails that it fails, on any seed."""
        return tuple(dict.fromkeys(name for run in self.runs if run.card is not None for name in run.card.vetoed))

    @property
    def failure(self) -> str:
        """Why a run has no result; empty if all have one."""
        return next((run.failure for run in self.runs if run.failure), "")

    def measured(self, metric: str) -> list[float]:
        """Returns a metric on each seed; NaN where it was not measured."""
        return [run.measures.get(metric, math.nan) for run in self.runs]


@dataclass(frozen=True, slots=True)
class Points:
    """The points of a set of candidates."""

    by_key: Mapping[Any, Point]
    seconds: float

    def __getitem__(self, values: Values) -> Point:
        return self.by_key[key_of(values)]


def key_of(values: Values) -> Any:
    return frozenset(values.items())


def distinct(candidates: Iterable[Values]) -> dict[Any, Values]:
    """Returns each candidate once."""
    return {key_of(values): values for values in candidates}


def measure(ground: Ground, candidates: Iterable[Values], jobs: int, watch: Watch) -> Points:
    """Runs every candidate once on every seed of the lane. The first run is made alone, to tell what one takes.

    What the engine raises on a candidate is a failure in its runs, and so is a limit of the lane that it breaks. After
    an interrupt no further run is begun.
    """
    rows, seeds, began = distinct(candidates), ground.lane.seeds, time.perf_counter()
    pairs = [(values, seed) for values in rows.values() for seed in seeds]
    done = list[SeedRun]()

    def note(finished: SeedRun) -> None:
        done.append(finished)
        watch(len(done), len(pairs), time.perf_counter() - began)

    with ThreadPoolExecutor(jobs, thread_name_prefix="probe") as workers, place_for(ground.lane, jobs, False) as place:
        runs = runs_at(place, ground)

        def run(pair: tuple[Values, int]) -> SeedRun:
            values, seed = pair
            return first_run(ground, values, seed, runs(values))

        try:
            note(run(pairs[0]))
            for finished in workers.map(run, pairs[1:]):
                note(finished)
        finally:
            workers.shutdown(cancel_futures=True)
    by_key = {
        key: Point(values, tuple(done[at * len(seeds) : (at + 1) * len(seeds)]))
        for at, (key, values) in enumerate(rows.items())
    }
    return Points(by_key, time.perf_counter() - began)


def on_seeds(lane: Lane, seeds: Sequence[int]) -> Lane:
    """Returns the lane on other seeds, without witnesses among them."""
    document = {**lane.document, "seeds": list(seeds)}
    document["witness"] = [seed for seed in lane.witness if seed not in seeds]
    if not document["witness"]:
        del document["witness"]
    return replace(lane, document=document)
