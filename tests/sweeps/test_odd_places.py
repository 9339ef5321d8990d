"""A workspace may lie under any name, at any length, on any disk: it works, or is refused before anything is spent."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import child_environment, read_only
from lanes import QUEUE, refused

from lanelock.policies import WorkspaceError
from lanelock.service import load
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.record import courier
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.mlflow_store import Store
from lanelock.sweeps.record.registered import at_a_glance
from lanelock.sweeps.record.registry import follow
from lanelock.sweeps.record.shelf import Shelf
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.status import status
from lanelock.sweeps.workspace import Workspace

LANE = QUEUE / "lane.json"
ODD = """it's "odd" #1 & 100% of [x*] Übung; ワーク \\ $RUN {a}@b:c=d -"""
OWN, SQLITE = None, 489  # bytes of the longest path at which SQLite keeps MLflow's database


def place_of(folder, size, name=ODD):
    """Returns a path below `folder` of `size` bytes."""
    path = folder / name
    while (left := size - len(os.fsencode(path))) > 1:
        path /= "a" * min(200, left - 1 if left > 202 or left < 202 else left - 3)
    assert len(os.fsencode(path)) == size
    return path


def everything_works(workspace):
    """Plays, certifies, promotes, registers, serves, compares and prunes."""
    closed = play(load_lane(str(LANE)).with_search(trials=3), workspace)
    lock = Lock.read(closed.lock)
    assert certify_lock(closed.lock, workspace, seeds=(1, 2)).folder.is_dir()
    promote(closed.lock, "candidate", workspace)
    assert follow(workspace) == {"candidate": "1"}
    assert load("models:/queue@candidate", workspace, lock_id=lock.lock_id).lock_id == lock.lock_id
    assert load("candidate", workspace).lock_id == lock.lock_id
    assert compare(workspace).differences == () and at_a_glance(workspace) == []
    assert status(workspace).trials == 3 and status(workspace).waiting == 0
    run = next(sweep.parent for sweep in Shelf(workspace).sweeps())
    assert (size := Store(workspace).bytes_of(run)) > 0
    Store(workspace).delete_artifacts(run)
    assert Store(workspace).bytes_of(run) == 0 < size


def test_odd_characters_in_a_long_path_work(tmp_path):
    root = place_of(tmp_path, SQLITE)
    everything_works(Workspace.at(root, OWN))
    assert {path.name for path in root.iterdir()} >= {"mlflow.db", "artifacts", "optuna.journal", "locks"}
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {ODD}, "and nothing beside it"


def test_at_512_bytes_a_workspace_works_where_its_database_lies_elsewhere(tmp_path):
    everything_works(Workspace.at(place_of(tmp_path, 512), f"sqlite:///{tmp_path}/mlflow.db"))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("who?", ["holds '?'"]),
        ("a%20b", ["holds '%20'"]),
        ("%2e%2e", ["holds '%2e'"]),
        ("two\nlines", ["cannot be printed", r"two\nlines"]),
        ("turned\u202e", ["cannot be printed", r"\u202e"]),
        ("\udcff", ["\\udcff"]),
        ("long", ["512 bytes", "SQLite", "takes 489"]),
    ],
)
def test_a_path_that_would_fail_is_refused_before_anything_is_made(tmp_path, here, name, parts):
    root = place_of(tmp_path, 512) if name == "long" else tmp_path / name
    line = refused(here("sweep", LANE, workspace=root), *parts)
    assert len(line) < 2000 and list(tmp_path.iterdir()) == []


def test_a_path_too_long_for_the_system_is_refused_with_any_server(tmp_path):
    with pytest.raises(WorkspaceError, match="MLflow takes 1800"):
        Workspace.at(place_of(tmp_path, 1900, "a"), "http://127.0.0.1:1")
    assert list(tmp_path.iterdir()) == []


def test_reading_makes_no_database_where_mlflow_would_misread_the_path(tmp_path):
    inner = tmp_path / "a" / "%2e%2e"
    inner.mkdir(parents=True)
    with pytest.raises(WorkspaceError, match="holds '%2e'"):
        Store(Workspace(inner, OWN), reading=True)
    assert not (tmp_path / "a" / "mlflow.db").exists() and list(inner.iterdir()) == []


WRITES = [  # every command that writes into a workspace
    ("sweep", LANE, "--resume", "--trials", "4"),
    ("certify", "{lock}", "--seeds", "1"),
    ("promote", "{lock}", "--to", "candidate"),
    ("rollback", "candidate"),
    ("campaign", QUEUE / "campaign.json"),
    ("prune", "--apply"),
    ("sync",),
    ("run", "--pack", QUEUE / "pack", "--seed", "1"),
]
READS = [("status",), ("lock", "show", "{lock}"), ("sync", "--check"), ("prune",), ("report", "{lock}")]
CHILD = """
import json, os, sys
from lanelock.sweeps.terminal.cli import main
asked = json.load(sys.stdin)
def code(call):
    try:
        main(call)
    except SystemExit as left:
        return left.code
list(map(code, asked["first"]))  # so that all is imported: another user may not read this Python
sys.stderr.flush()
if asked["user"]:
    os.setgroups([]); os.setgid(asked["user"]); os.setuid(asked["user"])
print("from here", file=sys.stderr, flush=True)
print(json.dumps([*map(code, asked["calls"])]))
"""


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def kept():
    """A sweep and its promoted lock, in a folder that others may read, made for a group to write in."""
    while courier._idle:  # which has the umask of an earlier test
        courier._idle.pop().end()
    with TemporaryDirectory(prefix="lanelock-odd-") as folder, umask(0o002):
        Path(folder).chmod(0o755)
        workspace = Workspace.at(Path(folder) / "workspace", OWN)
        closed = play(load_lane(str(LANE)).with_search(trials=3), workspace)
        promote(closed.lock, "candidate", workspace)
        follow(workspace)
        yield workspace.root, closed.lock


def called(root, lock, user=0):
    """Returns (exit code of every read, of every write, lines on stderr) of a process of that user; 0: of this one."""

    def lines(commands, place):
        words = ([str(word).format(lock=lock) for word in command] for command in commands)
        return [[*command, "--quiet", "--workspace", str(place)] for command in words]

    first = [*lines(READS, root), *lines(WRITES, "/dev/null/none")]
    asked = json.dumps({"first": first, "calls": lines([*READS, *WRITES], root), "user": user})
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=asked, capture_output=True, text=True, env=child_environment()
    )
    assert child.returncode == 0, child.stderr
    codes = json.loads(child.stdout)
    return codes[: len(READS)], codes[len(READS) :], child.stderr.rpartition("from here\n")[2].splitlines()


@contextmanager
def shut(folder):
    """The same folder, which may not be written: what another user's is to anybody but root."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.parametrize("why", ["a read-only disk", "another user's"])
def test_where_nothing_may_be_written_reading_works_and_writing_is_one_line(kept, why):
    root, lock = kept
    root_user = os.geteuid() == 0
    barred = read_only(root) if why == "a read-only disk" else nullcontext() if root_user else shut(root)
    with barred:
        reads, writes, lines = called(root, lock, 65534 if root_user and why == "another user's" else 0)
    assert set(reads) == {0}, (reads, lines)
    assert set(writes) == {2}, (writes, lines)
    said = "read-only" if why == "a read-only disk" else "may not be written by this user"
    assert len(lines) == len(WRITES) and all(said in line and str(root) in line for line in lines), lines


def test_a_group_that_shares_a_workspace_may_write_all_of_it(kept):
    root, _ = kept
    shut_out = [path.relative_to(root) for path in root.rglob("*") if not path.stat().st_mode & 0o020]
    assert shut_out == [] and (root / "mlflow.db").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},  # file names are ASCII, the rest escapes
    ],
)
def test_a_name_beyond_ascii_is_read_in_any_encoding(kept, tmp_path, environment):
    root = shutil.copytree(kept[0], tmp_path / "Übung ワーク")
    command = [sys.executable, "-m", "lanelock", "status", "--json", "--workspace", root]
    done = subprocess.run(command, capture_output=True, env=child_environment(**environment))
    assert (done.returncode, done.stderr) == (0, b"") and json.loads(done.stdout)["trials"] == 3
