"""Reading needs no place to write: a workspace may be read-only, another user's, or not there at all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import child_environment, read_only
from lanes import QUEUE

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LANE, PACK = QUEUE / "lane.json", QUEUE / "pack"
READS = {  # every command that reads: a call of it
    "status": (),
    "contract": (),
    "policy validate": (PACK,),
    "policy digest": (PACK,),
    "policy diff": ("p1", "p2"),
    "feasibility": (LANE,),
    "world show": (),
    "verify": ("{lock}",),
    "lock show": ("{lock}",),
    "lock verify": ("{lock}",),
    "lock unpack": ("{lock}", "--to", "none", "--diff"),
    "promote": ("{lock}", "--to", "authority", "--dry-run"),
    "report": ("{lock}",),
    "prune": (),
}
KEPT = {  # and of what only a workspace can name
    "verify": ("{run}",),
    "score": ("{run}",),
    "explain": ("{run}",),
    "report": ("{sweep}",),
    "compare": ("{sweep}/0", "{lock}"),
    "policy digest": ("{sweep}/0",),
    "rollback": ("candidate", "--dry-run"),
}
CHILD = """
import json, os, sys
from lanelock.sweeps.terminal.cli import main
calls = json.load(sys.stdin)
def codes():
    for call in calls:
        try:
            main(call)
        except SystemExit as left:
            yield left.code
list(codes())  # so that whatever is imported on the way is imported: another user may not read this Python
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(json.dumps([*codes()]))
"""


def calls(commands, names, workspace):
    for name, arguments in commands.items():
        words = [str(part).format(**names) for part in (*name.split(), *arguments)]
        yield [*words, "--quiet", "--workspace", str(workspace)]


def tree(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def kept():
    """A workspace with a sweep in the record, its lock under a name, and a published run; and what they are called."""
    with TemporaryDirectory(prefix="lanelock-reading-") as folder:
        Path(folder).chmod(0o755)  # pytest's own folders are shut to other users
        yield filled(Workspace.at(Path(folder) / "workspace"))


def filled(workspace):
    closed = play(load_lane(str(LANE)).with_search(trials=8), workspace)
    promote(closed.lock, "candidate", workspace)
    run = [sys.executable, "-m", "lanelock", "run", "--pack", "p1", "--seed", "42", "--publish", "--json"]
    made = subprocess.run([*run, "--workspace", str(workspace.root)], capture_output=True, env=child_environment())
    names = {"run": json.loads(made.stdout)["run_id"], "lock": closed.lock, "sweep": closed.sweep}
    return workspace.root, names


@pytest.mark.plan("4.1.6")
def test_reading_writes_nothing_even_where_it_may(here, kept):
    root, names = kept
    before = tree(root)
    for command in (*calls(READS, names, root), *calls(KEPT, names, root)):
        code, out, err = here(*command[:-2], workspace=root)
        assert code in (0, 1) and (out, err) == ("", ""), command  # 1: a failing verdict, or nothing to roll back to
    assert tree(root) == before


def test_a_read_only_workspace_is_read(here, kept):
    root, names = kept
    with read_only(root):
        assert here("run", "--pack", "p1", "--seed", "42", workspace=root)[0] == 2, "it takes nothing"
        for command in (*calls(READS, names, root), *calls(KEPT, names, root)):
            code, out, err = here(*command[:-2], workspace=root)
            assert code in (0, 1) and (out, err) == ("", ""), command


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_workspace_of_another_user_is_read(kept):
    root, names = kept
    asked = json.dumps([*calls(READS, names, root), *calls(KEPT, names, root)])
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=asked, capture_output=True, text=True, env=child_environment()
    )
    assert child.returncode == 0 and child.stderr == "", child.stderr
    assert len(json.loads(child.stdout)) == len(READS) + len(KEPT) and set(json.loads(child.stdout)) <= {0, 1}
    assert {path.stat().st_uid for path in root.rglob("*")} == {0}


@pytest.mark.parametrize("workspace", ["none", "/proc/none"])
def test_where_there_is_no_workspace_none_is_made(here, kept, tmp_path, workspace):
    _, names = kept
    root = tmp_path / workspace  # an absolute path stands for itself
    for command in calls(READS, names, root):
        code, out, err = here(*command[:-2], workspace=root)
        assert (code, out, err) == (0, "", ""), command
    for command in calls(KEPT, names, root):
        code, out, err = here(*command[:-2], workspace=root)
        assert code == 2 and out == "" and err.startswith("lanelock: ") and err.count("\n") == 1, (command, err)
    assert not Path(root).exists()
