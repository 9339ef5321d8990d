"""`sync --check` compares study, outbox and MLflow field by field, and writes nothing."""

import json
import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import pytest
from lanes import QUEUE, leaky_lane

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.record import notes
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.delivery import sync
from lanelock.sweeps.record.outbox import Outbox, own_record
from lanelock.sweeps.record.registry import follow
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a sweep that was resumed, one that began from it, and one with failed trials; a promotion."""
    folder = tmp_path_factory.mktemp("compared")
    place, lane = Workspace.at(folder / "ws"), load_lane(str(QUEUE / "lane.json"))
    play(lane.with_search(trials=4), place)
    lock = play(lane.with_search(trials=8), place, resume=True).lock
    play(load_lane(str(leaky_lane(folder, budget__trials=8))), place)
    assert promote(lock, "candidate", place).written
    follow(place)
    return place


@pytest.fixture
def changed(made, tmp_path):
    """Returns a function that executes SQL on a copy of the workspace's MLflow database, and the copy."""
    copy = Workspace(Path(shutil.copytree(made.root, tmp_path / "copy")))

    def execute(statement, *values):
        with sqlite3.connect(copy.tracking_database) as base:
            base.execute(statement, values)
        base.close()
        return compare(copy).differences

    return execute


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


TRIAL = "(select run_uuid from tags where key = 'lanelock.trial' and value = '3' limit 1)"
SWEEP = "(select run_uuid from tags where key = 'lanelock.kind' and value = 'sweep' limit 1)"


def edit(table, key, value, run=TRIAL):
    return f"update {table} set value = '{value}' where run_uuid = {run} and key = '{key}'"


def gone(run):
    return f"update runs set lifecycle_stage = 'deleted' where run_uuid = {run}"


def insert(tag):
    return f"insert into tags (key, value, run_uuid) values ('{tag}', 'ab', {TRIAL})"


CHANGES = {
    edit("latest_metrics", "q1/wait_p90", 1e-9): "metric q1/wait_p90: 1e-09 is recorded",
    f"delete from latest_metrics where run_uuid = {TRIAL} and key = 'q1/wait_p90'": "metric q1/wait_p90: None",
    edit("params", "servers", 7): "param servers: '7' is recorded",
    edit("tags", "lanelock.verdict", "PASS_ALL"): "tag lanelock.verdict: 'PASS_ALL' is recorded",
    edit("tags", "lanelock.pack", "0"): "tag lanelock.pack",
    edit("tags", "lanelock.code", "0"): "tag lanelock.code: 0 is recorded",
    edit("tags", "mlflow.note.content", "fine"): "tag mlflow.note.content",
    insert("lanelock.lock"): "tag lanelock.lock: MLflow has ab",
    insert("lanelock.more"): "tag lanelock.more: 'ab'",
    f"update runs set status = 'FAILED' where run_uuid = {TRIAL}": "status: 'FAILED'",
    gone(TRIAL): "/3: MLflow has 0 runs of the trial",
    edit("tags", "lanelock.trial", 5): "/5: MLflow has 2 runs of the trial",
    edit("tags", "lanelock.trial", 55): "MLflow has a run of trial 55",
    gone(SWEEP): "MLflow has 0 runs of the sweep",
    edit("tags", "lanelock.decision", "PERHAPS", SWEEP): "tag lanelock.decision: 'PERHAPS'",
    edit("tags", "lanelock.lock", "ab", SWEEP): "tag lanelock.lock: MLflow has ab, which is none of its locks",
    f"update runs set status = 'RUNNING' where run_uuid = {SWEEP}": "status: 'RUNNING'",
    "update datasets set digest = 'ab'": "data set",
    "update experiments set lifecycle_stage = 'deleted' where name = 'queue'": "MLflow has 0 runs of the sweep",
    "delete from registered_model_aliases": "queue@candidate: points to nothing",
}


def test_what_was_recorded_is_as_the_study_says_and_nothing_is_written(made, here):
    before = everything(made.root)
    compared = compare(made)
    assert (compared.differences, compared.trials, compared.left_out) == ((), 16, ())
    code, out, err = here("sync", "--check", workspace=made.root)
    assert (code, err) == (0, "") and "16 trials compared, no differences" in out
    assert everything(made.root) == before


@pytest.mark.parametrize(("statement", "line"), CHANGES.items(), ids=CHANGES.values())
def test_a_change_in_mlflows_database_is_found(changed, statement, line):
    differences = changed(statement)
    assert any(line in difference for difference in differences), differences


def test_it_may_be_compared_by_another_commit_than_it_was_played_by(made, monkeypatch):
    other = replace(notes.here(), lanelock="9.9.9", git="0" * 40, diff="1" * 64, user="somebody")
    monkeypatch.setattr(notes, "here", lambda: other)
    assert compare(made).differences == ()


def test_the_command_names_the_first_and_counts_all(made, changed, tmp_path, here):
    changed("update params set value = '7'")
    code, out, _ = here("sync", "--check", workspace=tmp_path / "copy")
    assert code == 3 and "param batch: '7' is recorded, the study gives '4'" in out and " more; all of them" in out
    code, out, _ = here("sync", "--check", "--json", workspace=tmp_path / "copy")
    assert code == 3 and not json.loads(out)["ok"] and len(json.loads(out)["differences"]) > 16


def test_a_changed_lock_among_the_artifacts_and_a_lost_database_are_found(made, tmp_path):
    copy = Workspace(Path(shutil.copytree(made.root, tmp_path / "copy")))
    copy.tracking_database.unlink()
    differences = compare(copy).differences
    assert (
        not copy.tracking_database.exists() and len([row for row in differences if "0 runs of the sweep" in row]) == 2
    )
    with sqlite3.connect(made.tracking_database) as base:
        (uri,) = base.execute(f"select artifact_uri from runs where run_uuid = {SWEEP}").fetchone()
    path = Path(urlparse(uri).path) / "lock.json"
    text = path.read_text()
    path.write_text(text.replace('"GO"', '"NO_GO"', 1))
    try:
        assert [row for row in compare(made).differences if "artifact lock.json" in row]
    finally:
        path.write_text(text)
    assert compare(made).differences == ()


def test_a_study_that_was_edited_is_found(made, tmp_path):
    copy = Workspace(Path(shutil.copytree(made.root, tmp_path / "copy")))
    text = copy.journal.read_text()
    edited = re.sub(r'("measures": ?{"\d+": ?{"[^"]+": ?)', r"\g<1>1", text, count=1)
    assert edited != text
    copy.journal.write_text(edited)
    assert any("queue-1" in row for row in compare(copy).differences), compare(copy).differences


def test_letters_that_wait_are_pending_and_an_edited_one_is_found(tmp_path, here):
    away, lane = Workspace.at(tmp_path, "http://127.0.0.1:9"), load_lane(str(QUEUE / "lane.json"))
    play(lane.with_search(trials=4), away)
    (box,) = Outbox(away).boxes()
    heading = box.opening().heading
    place = Workspace.at(tmp_path)
    there = Outbox(place).as_it_stands(replace(heading, record="workspace"))
    text = box.path.read_text().replace(f'"{heading.record}"', '"workspace"')
    box.path.unlink()
    there.path.write_text(text)
    compared = compare(place)
    assert compared.differences == () and compared.pending == {"queue-1": there.waits()} and there.waits() > 5
    assert here("sync", "--check", workspace=tmp_path)[0] == 0
    there.path.write_text(re.sub(r'("q1/wait_p90": ?)', r"\g<1>1", text))
    assert any("outbox: queue-1/0: metric q1/wait_p90" in row for row in compare(place).differences)
    there.path.write_text(text)
    assert not sync(place, own_record(place)).waiting and compare(place).differences == ()
    gone = "update runs set lifecycle_stage = 'deleted'"
    with sqlite3.connect(place.tracking_database) as base:
        base.execute(gone)
    base.close()
    assert compare(place).differences == ("queue-1: MLflow has 0 runs of the sweep, 1 was written",)


def test_a_sweep_that_was_never_tracked_is_named_and_no_difference(tmp_path):
    place = Workspace.at(tmp_path)
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), place, track=False)
    compared = compare(place)
    assert compared.differences == () and compared.left_out == (
        "queue-1: MLflow has no run of it, and nothing here says that it had",
    )
    assert not place.tracking_database.exists()
