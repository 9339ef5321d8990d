"""`status` says what is there, sees who holds a lock without taking it, and changes nothing."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from conftest import ROOT, child_environment
from lanes import QUEUE
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.sweep import play
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


def counts(place):
    return {name: sweep.trials for name, sweep in sweeps_in(place).items()}


def of_optuna(place):
    storage = JournalStorage(JournalFileBackend(str(place.journal)))
    return {study.study_name: study.n_trials for study in optuna.get_all_study_summaries(storage)}


@pytest.fixture
def copy(workspace, tmp_path):
    return Workspace(Path(shutil.copytree(workspace.root, tmp_path / "copy")))


def tally(place, name):
    return place.root / "sweeps" / f"{name}.json"


def test_it_counts_what_optuna_counts(workspace):
    assert list(counts(workspace).items()) == [("queue-1", 24), ("queue-2", 8)] == list(of_optuna(workspace).items())
    assert [(sweep.lane, sweep.budget) for sweep in sweeps_in(workspace).values()] == [("queue", 24), ("queue", 8)]


def test_it_counts_while_a_sweep_is_played_and_after_it_was_interrupted(tmp_path):
    place, seen = Workspace.at(tmp_path), []

    def watch(progress):
        (running,) = status(place).running
        seen.append((running.name, running.process, running.done, of_optuna(place)["queue-1"]))
        if progress.done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(load_lane(str(QUEUE / "lane.json")), place, track=False, watch=watch)
    assert seen == [("queue-1", os.getpid(), done, done) for done in (4, 8, 12)]
    assert counts(place) == {"queue-1": 12}


@pytest.mark.parametrize("mark", ["killed", "torn", "none"])
def test_a_sweep_whose_tally_may_be_wrong_is_counted_by_its_study_until_the_next_one_mends_it(copy, mark):
    """Killed between a trial and its tally; left in part by a machine that went down; of an older workspace."""
    stale = tally(copy, "queue-1")
    document = json.loads(stale.read_text())
    behind = {**document, "trials": 20, "left": False}
    if mark == "none":
        shutil.rmtree(stale.parent)
    else:
        stale.write_text(json.dumps(behind) if mark == "killed" else "{")
    if mark == "torn":
        tally(copy, "queue-2").unlink()
    with copy.journal.open("ab") as journal:
        journal.write(copy.journal.read_bytes().splitlines()[-1][:-10])  # as a killed writer leaves it
    before = everything(copy.root)
    assert counts(copy) == {"queue-1": 24, "queue-2": 8} == of_optuna(copy)
    assert everything(copy.root) == before, "asking mends nothing"
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), copy, track=False)
    assert list(counts(copy).items()) == [("queue-1", 24), ("queue-2", 8), ("queue-3", 4)]
    assert all(json.loads(tally(copy, name).read_text())["left"] for name in counts(copy))


def test_a_study_that_was_deleted_is_counted_no_more_once_a_sweep_was_played(copy):
    optuna.delete_study(study_name="queue-1", storage=JournalStorage(JournalFileBackend(str(copy.journal))))
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), copy, track=False)
    assert counts(copy) == of_optuna(copy) and "queue-1" not in counts(copy)


def test_of_a_journal_that_cannot_be_read_what_was_tallied_is_known(copy):
    document = json.loads(tally(copy, "queue-2").read_text())
    tally(copy, "queue-2").write_text(json.dumps({**document, "left": False}))
    copy.journal.write_text("no journal\n" * 3)
    assert counts(copy) == {"queue-1": 24, "queue-2": 8}


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


def test_it_counts_what_waits_for_a_record_that_is_away(tmp_path):
    place = Workspace.at(tmp_path, "http://127.0.0.1:9")  # where nobody answers
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), place)
    before = everything(tmp_path)
    assert status(place).waiting >= 5, "the sweep's opening and four trials"
    assert everything(tmp_path) == before


def test_a_killed_process_runs_no_more(workspace):
    said = f"""
import sys; from pathlib import Path; from lanelock.sweeps.workspace import Workspace
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


def test_who_comes_while_it_looks_is_not_refused(workspace):
    stop = threading.Event()

    def look():
        while not stop.is_set():
            workspace.holder("sweep-queue")

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(100):
            with workspace.alone("sweep-queue"):
                assert workspace.holder("sweep-queue") == os.getpid()
    finally:
        stop.set()
        for thread in looking:
            thread.join()


def test_a_process_that_has_the_id_of_a_killed_one_is_not_its_holder(workspace):
    lock = workspace.root / ".sweep-queue.lock"
    for left in (str(os.getpid()), "0x7", "99999999999999999999", ""):
        lock.write_text(left)
        assert workspace.holder("sweep-queue") is None
    with workspace.alone("sweep-queue"):
        pass
    assert lock.read_text() == "" and workspace.holder("no-such") is None


def test_it_answers_at_once_in_ten_lines_without_the_record(workspace, tmp_path):
    call = """
import sys; from lanelock.sweeps.terminal.cli import main
try:
    main()
finally:
    print(sorted({"mlflow", "optuna", "numpy"} & sys.modules.keys()), file=sys.stderr)
"""
    for place in (workspace.root, tmp_path / "none"):
        command = [sys.executable, "-c", call, "status", "--workspace", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), cwd=ROOT)
        assert done.returncode == 0 and done.stderr == "[]\n", done.stderr
        assert len(done.stdout.splitlines()) <= 10 and str(place) in done.stdout
    assert not (tmp_path / "none").exists(), "asking makes no workspace"
