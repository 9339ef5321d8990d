"""`python -m tests.fuzz`: tries inputs for as long as one likes, and prints what came of them.

`make fuzz FUZZ_SECONDS=600`, or FUZZ_INPUTS=100000. A failure is printed as the line that gives it again:
`python -m tests.fuzz --only lock:12345`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from . import ROOT
from .ground import Ground, build
from .machine import Order, Tally, default_processes, obey, recipes, spread
from .trial import KINDS, Bench, Input

FOUND = ROOT / "build" / "fuzz"


def main() -> None:
    asked = _arguments()
    if asked.obey:
        obey(Order(**json.loads(asked.obey)))
    elif asked.only:
        sys.exit(_only(asked.only, asked.seed))
    elif asked.corpus:
        sys.exit(_only([recipe for _, recipe in recipes()], asked.seed))
    else:
        sys.exit(_all(asked))


def _all(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    tally = spread(asked.kinds, asked.seed, asked.first, asked.inputs, asked.seconds, asked.processes)
    print(tally.table())
    print(f"\n{tally.inputs} inputs in {time.monotonic() - began:.0f} s, {len(tally.failures)} failures")
    _keep(tally)
    return 1 if tally.failures else 0


def _keep(tally: Tally) -> None:
    """Prints each group of failures with the line that gives its first again, and writes all of them to a file."""
    groups = defaultdict(list)
    for failure in tally.failures:
        groups[failure.group].append(failure)
    for (kind, fault), failures in sorted(groups.items(), key=lambda row: -len(row[1])):
        print(f"{len(failures):6}  {kind}: {fault}\n        python -m tests.fuzz --only {failures[0].name}")
        print(f"        {failures[0].recipe[:300]}")
    if groups:
        FOUND.mkdir(parents=True, exist_ok=True)
        lines = [f"# {row[0].fault}\n# {row[0].message[:300]!a}\n{row[0].recipe}\n" for row in groups.values()]
        (FOUND / "failures.txt").write_text("\n".join(lines))
        print(f"one of each: {FOUND / 'failures.txt'}")


def _only(names: list[str], seed: int) -> int:
    """Tries inputs by name or by recipe, and prints what came of them."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        kept = Path(os.environ.get("FUZZ_GROUND") or Path(folder) / "kept")  # one that is there is not built again
        bench = Bench.at(Ground(kept) if kept.exists() else build(kept), Path(folder) / "ground")
        for name in names:
            kind, _, number = name.partition(":")
            given = (
                Input.read(name, name) if name.startswith("{") else Input.drawn(kind, seed, int(number), bench.ground)
            )
            outcome = bench.tried(given)
            failed += outcome.fault is not None
            print(f"{given.recipe[:2_000]}\n  {outcome.how}: {outcome.message[:2_000]!a}\n  {outcome.fault or 'right'}")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    environment = os.environ.get
    parser.add_argument("--inputs", type=int, default=int(environment("FUZZ_INPUTS") or 10**9))
    parser.add_argument("--seconds", type=float, default=float(environment("FUZZ_SECONDS") or 60))
    parser.add_argument("--seed", type=int, default=int(environment("FUZZ_SEED") or 0))
    parser.add_argument("--first", type=int, default=0, help="the number of the first input of every kind")
    parser.add_argument("--processes", type=int, default=default_processes())
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=[*KINDS], help=", ".join(KINDS))
    parser.add_argument("--only", nargs="+", metavar="KIND:NUMBER|RECIPE")
    parser.add_argument("--corpus", action="store_true", help="try what is in tests/fuzz/corpus/")
    parser.add_argument("--obey", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
