"""A sweep's record is where its user said, whatever another library has set in the process meanwhile."""

import subprocess
import sys

import pytest
from conftest import child_environment
from lanes import TESTS

QUEUE = TESTS / "queue_engine" / "lane.json"
ELSEWHERE = "import mlflow; mlflow.set_tracking_uri('sqlite:///elsewhere.db')\n"
IMPORT = "from lanelock.sweeps.workspace import Workspace\n"
PLAY = f"""
from pathlib import Path
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.sweep import play
closed = play(load_lane({str(QUEUE)!r}).with_search(trials=4), Workspace.at(Path("ws")))
assert closed.parent_run is not None
"""
SET = "import os; os.environ['MLFLOW_TRACKING_URI'] = 'sqlite:///mine.db'\n"


@pytest.mark.parametrize(
    ("program", "shell", "written"),
    [
        (ELSEWHERE + IMPORT + PLAY, {}, "ws/mlflow.db"),
        (IMPORT + ELSEWHERE + PLAY, {}, "ws/mlflow.db"),
        (IMPORT + ELSEWHERE + PLAY, {"MLFLOW_TRACKING_URI": "sqlite:///mine.db"}, "mine.db"),
        (SET + IMPORT + PLAY, {}, "mine.db"),
        (SET + "import mlflow\n" + IMPORT + PLAY, {}, "mine.db"),
    ],
    ids=["it_came_first", "it_came_later", "over_the_shell's", "set_by_the_program", "set_beside_mlflow"],
)
def test_only_the_users_own_word_counts(tmp_path, program, shell, written):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=child_environment(**shell), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    databases = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")}
    assert databases == {written}
