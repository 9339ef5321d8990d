"""A read-only installation with no writable home runs the engine: machine code is then not kept, and that is all."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, child_environment, remount, small_disk

from lanelock.engine.compiled import compiled

CALL = """
import json, numpy as np
from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.segment_2b.mass import apportion
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as metrics
quanta = np.zeros(3, dtype=np.int64)
apportion(np.array([0.5, 0.3, 0.2]), 1 << 24, quanta)
print(json.dumps([apportion.__module__, SEGMENT_2B.name, metrics.name, quanta.tolist()]))
"""


def test_a_read_only_installation_without_a_home_computes_the_same(tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, "64m"):
        ours = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src" / "lanelock", disk / "lanelock", ignore=ours)
        remount(disk, "ro")
        nowhere = {"PYTHONPATH": str(disk), "HOME": str(disk), "XDG_CACHE_HOME": str(disk), "NUMBA_CACHE_DIR": ""}
        command = [sys.executable, "-c", CALL + "\nimport lanelock; print(lanelock.__file__)"]
        child = subprocess.run(command, capture_output=True, text=True, env=child_environment(**nowhere), cwd=tmp_path)
        assert child.returncode == 0, child.stderr
        answer, file = child.stdout.splitlines()
        assert file == str(disk / "lanelock" / "__init__.py"), "the read-only copy is what ran"
    here = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True, env=child_environment())
    assert json.loads(answer) == json.loads(here.stdout) and sum(json.loads(answer)[-1]) == 1 << 24


def test_a_loop_that_cannot_be_kept_is_compiled_all_the_same():
    space = {}
    exec("def total(values):\n    left = 0\n    for value in values:\n        left += value\n    return left", space)
    loop = compiled(space["total"])  # it has no file beside which to keep it
    assert loop(np.arange(5)) == 10 and loop.signatures


@pytest.mark.parametrize("folder", ["engine", "scoring"])
def test_every_loop_is_compiled_in_the_one_place(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert path.name == "compiled.py" or "njit" not in path.read_text(), f"{path}: use engine.compiled"
