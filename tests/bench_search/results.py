"""Plays what is asked for, and keeps one line per (problem, contestant, sampler seed): a killed bench goes on."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path

from . import ROOT
from .contestants import MOST_SEEDS, PRODUCT, play_peer, plays
from .judge import judge
from .problem import Problem, open_problem
from .product import play_product

Key = tuple[str, str, int]  # problem, contestant, sampler seed


@dataclass(frozen=True)
class Result:
    """One search, judged."""

    problem: str
    contestant: str
    seed: int
    stamp: str  # of the problem; of the product also its code
    values: tuple[float, ...]  # after each trial, less is better
    first_feasible: int | None
    engine_runs: int
    ask_median: float  # processor seconds
    ask_total: float
    seconds: float  # processor seconds of the whole search, engine included

    @property
    def key(self) -> Key:
        return self.problem, self.contestant, self.seed

    def line(self) -> str:
        values = [value if math.isfinite(value) else None for value in self.values]
        return json.dumps(asdict(self) | {"values": values}, allow_nan=False)

    @classmethod
    def of(cls, line: str) -> Result:
        """Returns the result of a line. `Result.of(result.line()) == result`."""
        row = json.loads(line)
        return cls(**row | {"values": tuple(math.inf if value is None else value for value in row["values"])})


@dataclass(frozen=True)
class Task:
    """One search to play, unless its stamp is known."""

    problem: str
    contestant: str
    seed: int
    trials: int | None  # at most; None: the problem's own
    kept: Path
    known: frozenset[str]  # stamps of results that are there


def tasks(
    problems: Sequence[str], contestants: Sequence[str], seeds: int, trials: int | None, folder: Path
) -> Iterator[Task]:
    """Yields every search that is asked for, slow contestants last; problem by problem, since opening a lane costs."""
    stamps: dict[Key, set[str]] = {}
    for result in results(folder):
        stamps.setdefault(result.key, set()).add(result.stamp)
    for slow, problem in product((False, True), problems):
        for contestant in contestants:
            if (contestant in MOST_SEEDS) is slow and plays(contestant, problem):
                for seed in range(min(seeds, MOST_SEEDS.get(contestant, seeds))):
                    known = frozenset(stamps.get((problem, contestant, seed), ()))
                    yield Task(problem, contestant, seed, trials, folder / "measured.db", known)


def play_task(task: Task) -> Result | None:
    """Plays one search; None where its result is there."""
    problem = _opened(task.problem, task.kept, task.trials)
    stamp = f"{problem.stamp}-{product_code()}" if task.contestant == PRODUCT else problem.stamp
    if stamp in task.known:
        return None
    began = time.process_time()
    if task.contestant == PRODUCT:
        history, asks, runs = play_product(problem, task.seed)
    else:
        history, asks, runs = play_peer(task.contestant, problem, task.seed)
    judged = judge(problem, history)
    return Result(
        task.problem, task.contestant, task.seed, stamp, judged.values, judged.first_feasible, runs,
        statistics.median(asks), sum(asks), time.process_time() - began,
    )  # fmt: skip


@cache
def _opened(name: str, kept: Path, trials: int | None) -> Problem:
    return open_problem(name, kept, trials)


@cache
def product_code() -> str:
    """Returns a digest of the code that searches: what changes it makes the product's results stale, and no others."""
    rooms = ("scoring", "sweeps/lanes", "sweeps/decision", "sweeps/search")
    folders = [path for room in rooms for path in (ROOT / room).glob("*.py")]
    files = sorted([*folders, ROOT / "sweeps" / "sweep.py", ROOT / "sweeps" / "trial.py"])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def play_all(wanted: Iterable[Task], folder: Path, jobs: int) -> Iterator[Result]:
    """Plays searches in `jobs` processes, and writes each result before it is yielded."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as workers, _file(folder).open("a") as file:
        playing = {workers.submit(play_task, task): task for task in wanted}
        for done in as_completed(playing):
            if (error := done.exception()) is not None:  # the others go on; the tables say how many searches there were
                task = playing[done]
                print(f"failed: {task.problem} {task.contestant} {task.seed}: {error!r}", file=sys.stderr, flush=True)
            elif (result := done.result()) is not None:
                file.write(result.line() + "\n")
                file.flush()
                yield result


def results(folder: Path) -> tuple[Result, ...]:
    """Returns all results; a last line that a kill cut off is none."""
    path = _file(folder)
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return tuple(map(Result.of, lines))


def newest(folder: Path) -> dict[Key, Result]:
    """Returns the newest result of each search."""
    return {result.key: result for result in results(folder)}


def _file(folder: Path) -> Path:
    return folder / "results.jsonl"
