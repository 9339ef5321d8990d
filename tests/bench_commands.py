"""Measures what commands cost beyond their programs: `python tests/bench_commands.py [RUNS]`.

Each row is measured beside a bare call of the same program, turn by turn in one process, so that both meet the same
machine. The difference is the median over all turns.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from programs import SCHEMA, pack, program
from pyarrow import csv

from lanelock.engine.command import CommandEngine

SHELL = "#!/bin/sh\nwhile read line; do :; done < $1; echo '{\"level\": 1.5}'\n"
PYTHON = f"#!{sys.executable} -IS\nimport json, sys\njson.load(open(sys.argv[1]))\nprint('{{\"level\": 1.5}}')\n"
TABLE = "#!/bin/sh\ncp $2/table.csv $1\n"
SERVER = f"""#!{sys.executable} -IS
import json, sys
for line in sys.stdin:
    print(json.dumps({{"id": json.loads(line)["id"], "result": {{"level": 1.5}}}}), flush=True)
"""
LIMITS = {"command": 20.0, "server": 2.0}  # milliseconds beyond the bare call


def turns(bare, engine, runs):
    """The milliseconds of the bare call and of the engine's run, turn by turn."""
    rows = []
    for seed in range(runs + 3):
        began = time.perf_counter()
        bare()
        between = time.perf_counter()
        engine.evaluate(pack(), seed)
        rows.append((1000 * (between - began), 1000 * (time.perf_counter() - between)))
    return rows[3:]  # the first ones import and start


def kinds(folder):
    """Name, kind, the bare call, and the engine of each row."""
    (folder / "config.json").write_text('{"level": 1.5, "count": 3, "seed": 1}\n')
    (folder / "table.csv").write_text("a,b,c\n" + "".join(f"{row},{row / 7!r},x{row}\n" for row in range(10_000)))
    for name, text in (("shell", SHELL), ("python", PYTHON), ("table", TABLE), ("server", SERVER)):
        program(folder, text, name)

    def called(*words):
        return lambda: subprocess.run([str(folder / words[0]), *words[1:]], cwd=folder, capture_output=True, check=True)

    def engine(command, **options):
        return CommandEngine("bench", command, SCHEMA, folder=folder, **options)

    yield "sh, JSON", "command", called("shell", "config.json"), engine("./shell {config}")
    yield "Python, JSON", "command", called("python", "config.json"), engine("./python {config}")
    yield "sh, memory limit", "command", called("shell", "config.json"), engine("./shell {config}", memory_mb=512)
    copied = called("table", "out.csv", str(folder))
    yield (
        "sh, CSV of 10,000 rows", "command", lambda: (copied(), csv.read_csv(folder / "out.csv")),
        engine("./table {out} {folder} {config}", output="out.csv"),
    )  # fmt: skip
    yield "server, JSON Lines", "server", lambda: None, engine("./server", server=True)


def main(runs):
    folder = Path(tempfile.mkdtemp())
    print(f"{'program':24}{'bare ms':>10}{'engine ms':>12}{'beyond ms':>12}{'limit ms':>10}")
    try:
        for name, kind, bare, engine in kinds(folder):
            rows = turns(bare, engine, runs)
            beyond = statistics.median(ours - theirs for theirs, ours in rows)
            theirs, ours = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:24}{theirs:10.2f}{ours:12.2f}{beyond:12.2f}{LIMITS[kind]:10.0f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
