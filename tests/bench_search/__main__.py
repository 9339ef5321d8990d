"""`python -m tests.bench_search`: plays every contestant on every problem, then writes the tables and two pictures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import ROOT, contestants, problem
from .report import write_report
from .results import newest, play_all, tasks

QUICK = ("welded_beam", "hartmann6_noisy"), (contestants.PRODUCT, "random"), 2, 12


def main() -> None:
    asked = _arguments()
    names, players, seeds, trials = asked.problems, asked.contestants, asked.seeds, asked.trials
    if asked.quick:
        names, players, seeds, trials = QUICK
    out = asked.out if trials is None else asked.out / f"of_{trials}_trials"  # never beside whole searches
    out.mkdir(parents=True, exist_ok=True)
    for name in players:
        if lacks := contestants.missing(name):
            print(f"left out: {name} ({lacks} is not installed: make bench-search installs it)")
    players = [name for name in players if contestants.missing(name) is None]
    if not asked.report:
        wanted = [*tasks(names, players, seeds, trials, out)]
        print(f"{len(wanted)} searches on {len(names)} problems, kept in {out}", flush=True)
        for result in play_all(wanted, out, asked.jobs):
            value = f"{result.values[-1]:.6g}"
            print(f"{' '.join(map(str, result.key)):<42} {value:>12}  {result.seconds:8.1f} s", flush=True)
    for folder in [out, *([ROOT / "docs"] if asked.docs and trials is None else [])]:
        print(write_report([*newest(out).values()], folder))


def _arguments() -> argparse.Namespace:
    def names(known: tuple[str, ...]):
        def given(text: str) -> list[str]:
            if unknown := set(text.split(",")) - set(known):
                raise argparse.ArgumentTypeError(f"{sorted(unknown)[0]} is not one of {', '.join(known)}")
            return text.split(",")

        return given

    parser = argparse.ArgumentParser(prog="python -m tests.bench_search", description=__doc__)
    parser.add_argument("--problems", type=names(problem.NAMES), default=[*problem.NAMES], metavar="A,B,…")
    parser.add_argument("--contestants", type=names(contestants.NAMES), default=[*contestants.NAMES], metavar="A,B,…")
    parser.add_argument("--seeds", type=int, default=10, help="sampler seeds each (default 10; slow peers have fewer)")
    parser.add_argument("--trials", type=int, help="at most so many trials, to try the bench out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench_search", help="results, and the report")
    parser.add_argument("--docs", action="store_true", help="write the report of whole searches into docs/ too")
    parser.add_argument("--report", action="store_true", help="play nothing: write the report from what is kept")
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that the bench runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
