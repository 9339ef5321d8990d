"""The short form of `make chaos`, and that it sees what it looks for."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from tests.chaos.play import compared

HELD = {
    "trials": {"queue-1": [[0, {"servers": 6}, "a"], [1, {"servers": 7}, "b"]]},
    "tracked": {"queue-1": [0, 1]},
    "locks": [["queue-1", "GO", "0"]],
    "aliases": {"candidate": "queue-1"},
    "registry": [["queue", "candidate"]],
    "runs": ["r"],
    "frozen": {"counter-1": True},
    "evidence": [],
    "waiting": [],
}


@pytest.mark.parametrize(
    ("kind", "there", "seen"),
    [
        ("trials", {"queue-1": [[0, {"servers": 6}, "a"]]}, "lost"),
        ("trials", {"queue-1": [[0, {"servers": 6}, "a"], [1, {"servers": 9}, "b"]]}, "lost"),
        (
            "trials",
            {"queue-1": [[0, {"servers": 6}, "a"], [1, {"servers": 7}, "b"], [1, {"servers": 7}, "b"]]},
            "doubled",
        ),
        ("tracked", {"queue-1": [0]}, "lost"),
        ("tracked", {"queue-1": [0, 1, 1]}, "doubled"),
        ("tracked", {}, "lost"),
        ("aliases", {}, "astray"),
        ("registry", [], "astray"),
        ("locks", [], "other"),
        ("runs", [], "other"),
        ("evidence", ["e"], "other"),
        ("waiting", ["queue-1.jsonl"], "other"),
    ],
)
def test_what_an_accident_took_is_seen(kind, there, seen):
    assert not any(compared(HELD, HELD).values())
    assert [name for name, rows in compared(HELD, HELD | {kind: there}).items() if rows] == [seen]


WRITER = """
import os, sys
from pathlib import Path
from tests.chaos import faults
import lanelock.sweeps.terminal.cli as cli
def main(arguments):
    place = Path(arguments[0])
    (place / "a").write_text("one")
    os.rename(place / "a", place / "b")
    sys.exit(0)
cli.main = main
root = Path(sys.argv[1])
ended = faults.run([str(root)], arm=faults.exact(sys.argv[2], int(sys.argv[3]), root))
print(ended.code, ended.operations, "OSError" in ended.err)
"""


@pytest.mark.parametrize(
    ("fault", "at", "says", "left"),
    [
        ("", 0, "0 2 False", ["b"]),
        ("kill", 1, f"-{signal.SIGKILL:d} 1 False", []),
        ("kill", 2, f"-{signal.SIGKILL:d} 2 False", ["a"]),
        ("full", 1, "70 1 True", []),
        ("full", 2, "0 2 False", ["b"]),  # a full disk renames
        ("read-only", 2, "70 2 True", ["a"]),
    ],
)
def test_a_fault_happens_at_its_operation(tmp_path, fault, at, says, left):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    said = subprocess.run(
        [sys.executable, "-c", WRITER, tmp_path, fault, str(at)], capture_output=True, text=True, env=environment
    )
    assert said.stdout.strip() == says, said.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_command_that_hangs_is_ended(tmp_path):
    script = "from tests.chaos import faults; import lanelock.sweeps.terminal.cli as cli, time\n"
    script += "cli.main = lambda arguments: time.sleep(600)\nfaults.run([], limit=0.2)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert "TimeoutError: the command hangs" in said.stderr


def test_accidents_lose_double_and_halve_nothing():
    """A few tries of every fault but a server's, which `tests/sweeps/record` meets."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--tries", "5", "--jobs", "1", "--seed", "7"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "all" in done.stdout.splitlines()[-1]
