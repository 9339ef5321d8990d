"""The product as a contestant: a whole sweep, as `lanelock sweep` plays it, without tracking."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lanelock.sweeps.search.study import Study
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

from .problem import Point, Problem


class Counted:
    """An engine that counts its runs."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.runs = engine, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        self.runs += 1
        return self.engine.evaluate(*arguments, **options)


@dataclass
class Meter:
    """What the search cost: processor seconds per proposal, and engine runs from first proposal to last trial."""

    engine: Counted
    asks: list[float] = field(default_factory=list)
    runs_before: int | None = None
    runs: int = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Reads the meter around `Study.ask` and `Study.tell`."""
        ask, tell = Study.ask, Study.tell

        def asked(study: Study, *arguments: Any, **options: Any) -> Any:
            if self.runs_before is None:
                self.runs_before = self.engine.runs
            began = time.process_time()
            proposals = ask(study, *arguments, **options)
            seconds = time.process_time() - began
            self.asks += [seconds / max(1, len(proposals))] * len(proposals)
            return proposals

        def told(study: Study, *arguments: Any, **options: Any) -> Any:
            self.runs = self.engine.runs - (self.runs_before or 0)
            return tell(study, *arguments, **options)

        with patch.object(Study, "ask", asked), patch.object(Study, "tell", told):
            yield


def play_product(problem: Problem, seed: int) -> tuple[list[Point | None], list[float], int]:
    """Returns the sweep's trials (None: not run on every seed), the seconds of its asks, and the engine runs."""
    engine = Counted(problem.lane.engine)
    document = {**problem.lane.document, "sampler": {"seed": seed}}  # the default sampler
    lane = replace(problem.lane, engine=engine, document=document)
    meter = Meter(engine)
    with tempfile.TemporaryDirectory() as folder, meter.on():
        lane = lane.with_search(trials=problem.trials, seconds=36_000)  # trials end it, not a slow machine
        closed = play(lane, Workspace.at(Path(folder)), track=False, reach=problem.ground.reach)
    return [_point(problem, trial) for trial in closed.trials if trial.paid], meter.asks, meter.runs


def _point(problem: Problem, trial: Any) -> Point | None:
    measures = trial.record.measures
    complete = set(measures) == set(problem.lane.seeds)
    return problem.point(trial.values, measures) if complete else None
