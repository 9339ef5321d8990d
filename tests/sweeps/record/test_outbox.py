"""The outbox: letters survive being killed at any byte, are delivered in order, and in effect once."""

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import TESTS

from lanelock.policies import IntegrityError
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.record import outbox as outbox_module
from lanelock.sweeps.record.delivery import Delivery, sync
from lanelock.sweeps.record.letters import Entry, Heading, Letter
from lanelock.sweeps.record.mlflow_store import Away, Store
from lanelock.sweeps.record.outbox import Outbox, meant_for, own_record
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

QUEUE = TESTS / "queue_engine" / "lane.json"
HEADING = Heading("workspace", "lane", {"title": "a lane"}, "lane-1", "a0")


def entry(name, **changed):
    held = Entry(name, {"m": 1.5}, {"k": "0.25"}, {"t": "§"}, {"note.txt": "text", "plot.png": b"\x89PNG\x00"}, 1_000)
    return replace(held, **changed)


def letters(trials):
    yield Letter("sweep", entry("begun"), heading=HEADING)
    yield from (Letter("trial", entry(f"trial {number}"), number) for number in range(trials))
    yield Letter("more", entry("more", files={"card.json": "{}"}), 0)
    yield Letter("close", entry("closed"), 0, HEADING)


class Record:
    """A record in memory, with the calls of `Tracking`. `faults` says of each call whether it fails: None, "before" it
    did anything, "after" it did all of it, or "half" way through."""

    doubled = 0

    def __init__(self, faults):
        self.faults, self.sweeps, self.runs, self.written = iter(faults), [], [], []

    def _call(self, *steps):
        fault = next(self.faults, None)
        if fault != "before":
            for step in steps[: len(steps) // 2 if fault == "half" else None]:
                step()
        if fault is not None:
            raise Away("it does not answer")

    def open_sweep(self, heading, entry):
        self._call(lambda: self.sweeps.append(heading.study) if heading.study not in self.sweeps else None)
        return "sweep"

    def trials(self, parent):
        self._call()
        assert len({run["trial"] for run in self.runs}) == len(self.runs), "doubled"
        return {run["trial"]: (str(index), run["whole"]) for index, run in enumerate(self.runs)}

    def write_trial(self, parent, number, entry, run_id):
        assert run_id is not None or all(run["trial"] != number for run in self.runs), "doubled"
        index = len(self.runs) if run_id is None else int(run_id)
        made = {"trial": number, "whole": False, "name": entry.name}
        self._call(
            lambda: self.runs.append(made) if run_id is None else None, lambda: self.runs[index].update(whole=True)
        )
        return str(index)

    def add(self, parent, run_id, entry):
        self._call(lambda: self.written.append("more"))

    def close_sweep(self, heading, parent, best, entry):
        self._call(lambda: self.written.append(("closed", best)))


@pytest.fixture
def outbox(tmp_path):
    return Outbox(Workspace.at(tmp_path))


def test_a_letter_is_read_as_it_was_written():
    held = entry("x", inputs=(Input("world", "ab", "drawn", "seed 1", {"seed": 1}, {"sites": 5.0}),), seconds=0.5)
    for letter in (Letter("trial", held, 7), Letter("sweep", held, heading=HEADING)):
        line = letter.line()
        assert Letter.read(line) == letter and line.count(b"\n") == 1 and line.endswith(b"\n")


@settings(max_examples=100)
@given(
    faults=st.lists(st.sampled_from([None, None, None, "before", "half", "after"]), max_size=60),
    trials=st.integers(0, 5),
)
def test_whatever_fails_and_is_tried_again_all_is_written_once(tmp_path_factory, faults, trials):
    outbox = Outbox(Workspace.at(tmp_path_factory.mktemp("outbox")))
    box, record = outbox.box(HEADING), Record(faults)
    box.put(list(letters(trials)))
    for _ in range(100):
        try:
            delivery = Delivery(record, box)  # as another process would begin
            delivery.deliver()
            break
        except Away:
            continue
    assert record.sweeps == ["a0"]
    assert [(run["trial"], run["whole"], run["name"]) for run in record.runs] == [
        (number, True, f"trial {number}") for number in range(trials)
    ]
    assert record.written[-1] == ("closed", "0" if trials else None)
    assert outbox.boxes() == () and not box.path.exists()


def test_killed_while_it_was_written_a_letter_is_whole_or_was_not_put(outbox):
    box = outbox.box(HEADING)
    begun, trial, *_ = letters(1)
    box.put([begun])
    whole = box.path.read_bytes()
    for cut in range(len(trial.line())):
        box.path.write_bytes(whole + trial.line()[:cut])
        assert box.waits() == 1 and [letter.kind for letter in box.waiting()] == ["sweep"]
    box.put([trial])
    assert box.path.read_bytes() == whole + trial.line()
    assert box.trials() == {0} and outbox.boxes() == (box,)


def test_a_box_goes_when_its_close_is_delivered_and_not_while_more_is_put(outbox):
    box, record = outbox.box(HEADING), Record(())
    box.put(list(letters(2)))
    late = iter([None, None, None, None, None])

    def put_late(heading, parent, best, entry, close=record.close_sweep):
        close(heading, parent, best, entry)
        if next(late, 0) is None:
            box.put([Letter("sweep", entry, heading=HEADING)])

    record.close_sweep = put_late
    Delivery(record, box).deliver()
    assert box.path.exists() and box.waits() == 0, "a sweep was begun again while its close was delivered"


def test_a_mark_that_was_lost_or_torn_delivers_again_and_never_too_little(outbox):
    box, record = outbox.box(HEADING), Record(())
    begun, trial, *_ = letters(1)
    box.put([begun, trial])
    Delivery(record, box).deliver()
    assert box.waits() == 0
    mark = box.path.with_suffix(".delivered")
    for torn in ("", "x", "99999999"):
        mark.write_text(torn)
        assert box.waits() == 2
        Delivery(record, box).deliver()
    assert len(record.runs) == 1


def test_what_was_changed_by_hand_is_refused(outbox):
    box = outbox.box(HEADING)
    box.path.write_bytes(b'{"kind": "sweep"}\n')
    with pytest.raises(IntegrityError, match=r"lane-1\..*: not a letter"):
        list(box.waiting())
    box.path.write_bytes(list(letters(1))[1].line())
    with pytest.raises(IntegrityError, match="opens a sweep"):
        box.opening()


def test_a_record_is_named_without_its_password_and_wherever_the_workspace_moves(tmp_path):
    workspace = Workspace.at(tmp_path)
    assert meant_for(workspace, f"sqlite:///{workspace.tracking_database}") == "workspace"
    assert meant_for(workspace, "postgresql://me:secret@host:5432/x") == "postgresql://host:5432/x"


def test_what_a_machine_that_went_down_lost_of_an_outbox_is_put_again_by_a_resumed_sweep(tmp_path):
    """The study holds what the letters said: whatever tail is lost, each trial is in the record once."""
    away = Workspace.at(tmp_path, "http://127.0.0.1:9")  # where nobody answers: every letter waits
    lane = load_lane(str(QUEUE))
    play(lane.with_search(trials=8), away)
    (box,) = Outbox(away).boxes()
    lines = box.path.read_bytes().splitlines(keepends=True)
    for left, trials in ((b"".join(lines[:4]) + lines[4][:100], 12), (lines[0][:50], 16)):
        box.path.write_bytes(left)
        closed = play(lane.with_search(trials=trials), away, resume=True)
        assert box.trials() == set(range(trials)) and len(closed.trials) == trials
    here = Workspace.at(tmp_path)
    assert not sync(here, own_record(here), redirect=True).waiting
    client = Store(here).client
    runs = client.search_runs([client.get_experiment_by_name(lane.id).experiment_id])
    numbers = sorted(int(run.data.tags["lanelock.trial"]) for run in runs if "lanelock.trial" in run.data.tags)
    assert numbers == list(range(16)) and {run.info.status for run in runs} == {"FINISHED"}


def test_only_what_no_study_can_put_again_waits_for_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(outbox_module.os, "fsync", lambda file: synced.append(file) or fsync(file))
    box = Outbox(Workspace.at(tmp_path)).box(HEADING)
    begun, *trials, more, close = letters(3)
    box.put([begun])
    box.put([*trials, more])
    assert synced == []
    box.put([close], synced=True)
    assert len(synced) == 1 and box.waits() == 6
