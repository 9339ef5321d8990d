"""`status` says what is there, sees who holds a lock without taking it, and changes nothing."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, child_environment
from lanes import QUEUE

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.study import Studies
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep import running
from lanelock.sweeps.upkeep.journal import sweeps_in
from lanelock.sweeps.upkeep.running import UNKNOWN, holder
from lanelock.sweeps.upkeep.status import Running, status
from lanelock.sweeps.workspace import Workspace, write_document


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with two closed sweeps of the queue, of 24 and of 8 trials."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    for trials in (None, 8):
        play(load_lane(str(QUEUE / "lane.json")).with_search(trials=trials), place, track=False)
    return place


def everything(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_it_counts_what_optuna_counts(workspace):
    found = sweeps_in(workspace.journal)
    studies = Studies(workspace.journal)
    assert list(found) == list(studies.names()) == ["queue-1", "queue-2"]
    assert {name: sweep.trials for name, sweep in found.items()} == {
        name: len(studies.trials(name)) for name in studies.names()
    }
    assert [(sweep.lane, sweep.budget) for sweep in found.values()] == [("queue", 24), ("queue", 8)]


def test_a_deleted_study_and_a_torn_line_are_not_counted(workspace, tmp_path):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    copy = tmp_path / "optuna.journal"
    copy.write_bytes(workspace.journal.read_bytes())
    storage = JournalStorage(JournalFileBackend(str(copy)))
    optuna.delete_study(study_name="queue-1", storage=storage)
    optuna.create_study(study_name="later-1", storage=storage).add_trial(optuna.trial.create_trial(value=1.0))
    assert {name: sweep.trials for name, sweep in sweeps_in(copy).items()} == {"queue-2": 8, "later-1": 1}
    with copy.open("ab") as journal:
        journal.write(workspace.journal.read_bytes().splitlines()[-1][:-10])
    assert sum(sweep.trials for sweep in sweeps_in(copy).values()) == 9


def test_it_says_what_is_there_and_changes_nothing(workspace):
    write_document(workspace.root / "campaigns" / "c-1" / "campaign.json", {"campaign": {"phases": {"a": 1, "b": 2}}})
    write_document(workspace.root / "campaigns" / "c-1" / "00.a.json", {"phase": "a"})
    (workspace.locks / "broken.json").write_text("{")
    before = everything(workspace.root)
    found = status(workspace)
    assert everything(workspace.root) == before
    assert (len(found.sweeps), found.trials, found.published, found.remembered) == (2, 32, 0, 0)
    assert sorted(lock.decision for lock in found.locks) == ["GO", "GO", "unreadable"]
    assert [(one.run, one.done, one.phases, one.status) for one in found.campaigns] == [("c-1", 1, 2, None)]
    assert found.bytes["all"] == sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file())
    assert found.running == () and json.dumps(found.as_document(), allow_nan=False)
    (workspace.locks / "broken.json").unlink()


def test_it_sees_what_runs_and_how_far_it_is(workspace):
    with workspace.alone("sweep-queue"), workspace.alone("campaign-c"):
        assert status(workspace).running == (
            Running("campaign", "c-1", os.getpid(), 1, 2),
            Running("sweep", "queue-2", os.getpid(), 8, 8),
        )
    assert status(workspace).running == (), "a lock's file stays, its holder does not"


def test_it_counts_what_waits_for_a_record_that_is_away(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    place = Workspace.at(tmp_path)
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), place)
    before = everything(tmp_path)
    assert status(place).waiting >= 5, "the sweep's opening and four trials"
    assert everything(tmp_path) == before


def test_a_killed_process_runs_no_more(workspace):
    said = f"""
import sys; from pathlib import Path; from sweeps.workspace import Workspace
with Workspace(Path({str(workspace.root)!r})).alone("sweep-queue"):
    print("held", flush=True); sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", said], stdin=-1, stdout=-1, env=child_environment()
    ) as child:  # fmt: skip
        assert child.stdout.readline() == b"held\n"
        assert [one.process for one in status(workspace).running] == [child.pid]
        child.kill()
        child.wait()
        assert status(workspace).running == ()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not list its locks")
def test_who_comes_while_it_looks_is_not_refused(workspace):
    stop = threading.Event()

    def look():
        while not stop.is_set():
            holder(workspace.root / ".sweep-queue.lock")

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(100):
            with workspace.alone("sweep-queue"):
                pass
    finally:
        stop.set()
        for thread in looking:
            thread.join()


def test_where_locks_are_not_listed_it_is_still_seen_that_one_is_held(workspace, monkeypatch, tmp_path):
    monkeypatch.setattr(running, "_LOCKS", tmp_path / "none")
    lock = workspace.root / ".sweep-queue.lock"
    assert holder(lock) is None and holder(tmp_path / "no.lock") is None
    with workspace.alone("sweep-queue"):
        assert holder(lock) == UNKNOWN


def test_it_answers_at_once_in_ten_lines_without_the_record(workspace, tmp_path):
    call = """
import sys; from lanelock.sweeps.terminal.cli import main
try:
    main()
finally:
    print(sorted({"mlflow", "optuna", "numpy"} & sys.modules.keys()), file=sys.stderr)
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for place in (workspace.root, tmp_path / "none"):
        command = [sys.executable, "-c", call, "status", "--workspace", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), cwd=ROOT)
        assert done.returncode == 0 and done.stderr == "[]\n", done.stderr
        assert len(done.stdout.splitlines()) <= 10 and str(place) in done.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 2.0, "two calls, a second of the processor each at most"
    assert not (tmp_path / "none").exists(), "asking makes no workspace"
