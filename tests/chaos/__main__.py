"""`python -m tests.chaos`: every command that writes, under kills, full disks and the like, as often as one likes.

A try follows from --seed and its number: `--from N --tries 1` repeats one. It prints what was lost, doubled,
half-written or led astray; the exit code is 1 where anything was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / name) for name in ("queue_engine", "tides_engine")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent / "src"), *sys.path[:2]])
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.chaos.commands import commands  # noqa: E402  after the engines are on the path
from tests.chaos.play import FAULTS, Outcome, tries  # noqa: E402


def main() -> int:
    """Plays the tries on both cores and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--command", default="", choices=["", *(row.name for row in commands(Path()))])
    parser.add_argument("--fault", default="", choices=["", *FAULTS])
    given = parser.parse_args()
    import_all()
    numbers = range(given.first, given.first + given.tries)
    until = time.monotonic() + given.seconds
    outcomes: list[Outcome] = []
    chosen = (given.command, given.fault)
    with (
        tempfile.TemporaryDirectory(prefix="lanelock-chaos-") as folder,
        # Not threads: each worker forks. Forked, so that MLflow and the rest are imported once.
        ProcessPoolExecutor(given.jobs, multiprocessing.get_context("fork")) as workers,
    ):
        shares = [
            workers.submit(tries, Path(folder) / str(job), given.seed, numbers[job :: given.jobs], until, *chosen)
            for job in range(given.jobs)
        ]
        for share in shares:
            outcomes += share.result()
    print(table(outcomes))
    return int(any(outcome.faults for outcome in outcomes))


def import_all() -> None:
    """Imports what the commands import, so that each try pays for none of it."""
    from importlib import import_module

    import mlflow  # noqa: F401

    from lanelock.sweeps.terminal.cli import COMMANDS

    for module, _ in COMMANDS.values():
        import_module(f"lanelock.sweeps.terminal.commands.{module}")
    for name in ("sweeps.sweep", "sweeps.record.registry", "sweeps.record.comparison", "sweeps.campaign.play"):
        import_module(f"lanelock.{name}")


def table(outcomes: list[Outcome]) -> str:
    """Returns the tries by fault, one row each, and the sum."""
    head = ("fault", "tries", "accidents", "lost", "doubled", "half-written", "astray", "other")
    rows: dict[str, list[int]] = defaultdict(lambda: [0] * 7)
    for outcome in outcomes:
        seen = (
            1,
            outcome.hits,
            *map(len, (outcome.lost, outcome.doubled, outcome.half, outcome.astray, outcome.other)),
        )
        for name in (outcome.fault, "all"):
            rows[name] = [total + more for total, more in zip(rows[name], seen, strict=True)]
    order = [name for name in (*FAULTS, "all") if name in rows]
    lines = [head, *((name, *map(str, rows[name])) for name in order)]
    wide = [max(len(str(line[column])) for line in lines) for column in range(len(head))]
    return "\n" + "\n".join(
        "  ".join(str(cell).ljust(width) for cell, width in zip(line, wide, strict=True)) for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
