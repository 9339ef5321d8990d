"""The benches still run: every part, in a process of its own, at a size too small to measure anything."""

import subprocess
import sys

import pytest
from conftest import ROOT, child_environment

PARTS = ("engine: seconds per state", "oracle: the same law", "hand-written loop", "not tracked")


@pytest.mark.parametrize(
    ("bench", "says"),
    [("bench", PARTS), ("bench_scale", ("time grows as rows",)), ("bench_growth", ("resume of the large",))],
)
def test_it_runs_to_its_end(bench, says):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.{bench}", "--short"],
        capture_output=True, text=True, env=child_environment(), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in says), done.stdout
