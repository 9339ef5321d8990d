"""Compiled loops run whatever becomes of their cache: a disk that refuses, and files that were cut."""

import subprocess
import sys

from conftest import child_environment

LOOP = """
import resource, sys
from lanelock.engine.compiled import compiled

@compiled
def twice(x):
    return 2 * x

if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print(twice(4), sum(twice.stats.cache_hits.values()))
"""


def test_a_loop_runs_on_a_full_disk_and_beside_a_cache_that_was_cut(tmp_path):
    program, cache = tmp_path / "loop.py", tmp_path / "cache"
    program.write_text(LOOP)

    def answer(*words):
        command = [sys.executable, program, *words]
        environment = child_environment(NUMBA_CACHE_DIR=str(cache))
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done.stdout or done.stderr

    assert answer("full") == "8 0\n"
    assert answer() == "8 0\n" and answer() == "8 1\n", "kept for the next process"
    for kind in ("nbi", "nbc"):
        (file,) = cache.rglob(f"*.{kind}")
        file.write_bytes(file.read_bytes()[:20])
        assert answer() == "8 0\n", kind
