"""The decision trail: notes in order, whoever writes them, and shown where they belong."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from lanes import lane_with, refused

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.lock_page import lock_page
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.reports import study
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal.commands.notes import subject_named
from lanelock.sweeps.trail import Subject, add_note, notes
from lanelock.sweeps.upkeep.retention import survey
from lanelock.sweeps.upkeep.status import status
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trail")
    workspace = Workspace.at(folder / "ws")
    play(lane_with(folder, budget__trials=4), workspace, track=False)
    return workspace


def test_notes_are_numbered_in_order_whoever_writes_at_once(tmp_path):
    workspace = Workspace.at(tmp_path / "ws")
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: add_note(workspace, f"thought {number}"), range(24)))
    assert sorted(note.number for note in made) == list(range(1, 25))
    found = notes(workspace)
    assert [note.number for note in found] == list(range(1, 25)) and set(found) == set(made)
    assert not [path for path in workspace.notes.iterdir() if path.name.startswith(".")]


@pytest.mark.plan("P2.5.3", "P5.6")
def test_a_report_prints_the_notes_on_its_sweep_and_its_lock_in_order(swept, here):
    lock = Lock.read(find_lock("queue-1", swept))
    for text, on in (("first", "queue-1"), ("second", lock.short_id), ("elsewhere", None)):
        call = ("note", text, *(("--on", on) if on else ()), "--who", "Ada", "--json")
        code, out, _ = here(*call, workspace=swept.root)
        assert code == 0 and json.loads(out)["text"] == text
    page = study.markdown(study.closed("queue-1", swept))
    assert page.index("Ada on sweep queue-1: first") < page.index(f"on lock {lock.lock_id}: second")
    assert "elsewhere" not in page
    code, out, _ = here("report", "queue-1", workspace=swept.root)
    assert code == 0 and out.index(": first") < out.index(": second")
    code, out, _ = here("note", workspace=swept.root)
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == ["first", "second", "elsewhere"]
    code, out, _ = here("note", "--on", "queue-1", "--json", workspace=swept.root)
    assert [row["text"] for row in json.loads(out)["notes"]] == ["first"]


def test_no_note_moves_a_terminal_or_passes_for_another(tmp_path, here):
    text = "\x1b[2Jgone\r\n2  2026-01-01T00:00:00+00:00  Eve: approved\u202e"
    assert here("note", text, "--who", "Mallory\n3  Ada", workspace=tmp_path)[0] == 0
    code, out, _ = here("note", workspace=tmp_path)
    assert code == 0 and out.count("\n") == 1 and out.startswith("1  ")
    assert not set("\x1b\r\u202e") & set(out)
    (note,) = notes(Workspace(tmp_path))
    assert note.text == text, "what was written is kept as it was"


@pytest.mark.parametrize("call", [("note", " "), ("note", "x", "--who", ""), ("note", "--who", "Ada")])
def test_an_empty_note_is_refused(tmp_path, here, call):
    refused(here(*call, workspace=tmp_path))
    assert not (tmp_path / "notes").exists()


def test_a_note_is_about_something_that_is_there(swept, here):
    refused(here("note", "x", "--on", "queue-7", workspace=swept.root), "nor is it a sweep or the run of a campaign")
    assert subject_named("queue-1", swept) == Subject("sweep", "queue-1")
    with pytest.raises(PolicyError):
        subject_named("../queue-1", swept)


def test_a_note_that_is_not_whole_is_named(tmp_path):
    workspace = Workspace.at(tmp_path)
    add_note(workspace, "one")
    (path,) = workspace.notes.glob("*.json")
    path.rename(path.with_name("000004.json"))
    with pytest.raises(IntegrityError, match="/number: states 1"):
        notes(workspace)
    (workspace.notes / "000004.json").write_text(json.dumps({**read_json(workspace.notes / "000004.json"), "more": 1}))
    with pytest.raises(IntegrityError, match="unknown field more"):
        notes(workspace)


@pytest.mark.plan("P1.7")
def test_a_lock_has_a_page_beside_it_which_follows_from_it_and_which_nothing_reads(swept):
    path = find_lock("queue-1", swept)
    page, lock = path.with_suffix(".md"), Lock.read(path)
    assert page.read_text() == as_markdown(lock_page(lock))
    assert lock.lock_id in page.read_text() and "| wait | gate |" in page.read_text()
    kept = page.read_text()
    page.write_text("anything")
    try:
        assert find_lock("queue-1", swept) == path and verify_lock(path, workspace=swept).ok
        assert len(status(swept).locks) == 1
        survey(swept)
    finally:
        page.write_text(kept)
