"""What grows beside it costs a command nothing: one sweep is read, not all; of many locks, only those asked for.

Each law is held by counting what is parsed, and by the slow way as the oracle of the answer.
"""

import json
import shutil
from operator import ge
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lanelock.policies import IntegrityError, LanelockError
from lanelock.policies.documents import read_json
from lanelock.sweeps.decision.decision import front
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof import lock_files
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.reports import subject
from lanelock.sweeps.reports.study import closed
from lanelock.sweeps.search import study as studies
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep import retention
from lanelock.sweeps.upkeep import status as upkeep
from lanelock.sweeps.workspace import Workspace

LANE = str(QUEUE / "lane.json")


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A workspace with three sweeps of four, six and eight trials."""
    place = Workspace.at(tmp_path_factory.mktemp("grown"))
    for trials in (4, 6, 8):
        play(load_lane(LANE).with_search(trials=trials), place, track=False)
    return place


@pytest.fixture
def copy(grown, tmp_path):
    return Workspace(Path(shutil.copytree(grown.root, tmp_path / "copy")))


@pytest.fixture
def parsed(monkeypatch):
    """Collects the study of every trial that is parsed from a journal."""
    seen = []

    class Counting:
        @staticmethod
        def loads(line):
            document = json.loads(line)
            if document["op_code"] == 4:
                seen.append(document["study_id"])
            return document

    monkeypatch.setattr(studies, "json", Counting)
    return seen


def by_optuna(place, sweep):
    return optuna.load_study(study_name=sweep, storage=JournalStorage(JournalFileBackend(str(place.journal))))


def same_as_optuna(place, sweep):
    """Checks a sweep's trials against Optuna's own reading of the whole journal."""
    found, expected = recorded(sweep, place).transcript.stored, by_optuna(place, sweep).get_trials()
    told = [
        [(row.number, row.params, row.values, row.user_attrs, row.system_attrs, row.state) for row in rows]
        for rows in (found, expected)
    ]
    assert told[0] == told[1] and told[0]


@pytest.mark.parametrize(
    "command",
    [
        lambda place: recorded("queue-2", place),
        lambda place: subject.find("queue-2/3", place, None),
        lambda place: closed("queue-2", place),
        lambda place: play(load_lane(LANE).with_search(trials=8), place, track=False, name="queue-2"),
    ],
    ids=["read", "compare", "report", "resume"],
)
def test_a_command_reads_the_trials_of_one_sweep(copy, parsed, command):
    command(copy)
    assert set(parsed) == {1}, "the second study of the journal"


def test_the_names_and_counts_of_all_sweeps_need_no_trial(copy, parsed):
    assert Studies(copy.journal, reading=True).names() == ("queue-1", "queue-2", "queue-3")
    shutil.rmtree(copy.tallies)
    assert {name: sweep.trials for name, sweep in sweeps_in(copy).items()} == {"queue-1": 4, "queue-2": 6, "queue-3": 8}
    assert parsed == []


def test_a_sweep_is_read_as_optuna_reads_it_whatever_else_is_in_the_journal(copy):
    copy.journal.with_name("optuna.journal.lock").unlink()  # Optuna's own lock waits for the end of ours
    storage = JournalStorage(JournalFileBackend(str(copy.journal)))
    other = optuna.create_study(study_name="other", storage=storage)
    for _ in range(3):  # a study of another program writes of a trial by its number over all studies
        trial = other.ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("note", "mine")
    other.tell(trial, 0.5)
    optuna.delete_study(study_name="queue-1", storage=storage)
    optuna.create_study(study_name="queue-1", storage=storage)
    done = play(load_lane(LANE).with_search(trials=9), copy, track=False, name="queue-3")
    assert len(done.trials) == 9
    for sweep in ("queue-2", "queue-3"):
        same_as_optuna(copy, sweep)


def test_two_sweeps_write_one_journal_at_once(copy):
    here, there = (Studies(copy.journal)._load(sweep) for sweep in ("queue-1", "queue-2"))
    for trial in by_optuna(copy, "queue-3").trials[:3]:
        here.add_trial(trial)
        there.add_trial(trial)
    for study, count in ((here, 7), (there, 9)):
        again = Studies(copy.journal, reading=True)._load(study.study_name).trials
        assert study.trials == again and len(again) == count
        assert [row.params for row in again] == [row.params for row in by_optuna(copy, study.study_name).trials]


class Scores:
    """A ledger of scores alone; None is a trial that cannot be accepted."""

    def acceptable(self, trial):
        return trial.objectives is not None

    def signed(self, trial):
        return trial.objectives


@given(st.integers(1, 3).flatmap(lambda k: st.lists(st.none() | st.tuples(*[st.integers(-3, 3)] * k), max_size=30)))
def test_the_front_is_what_no_trial_beats(rows):
    history = [SimpleNamespace(number=number, objectives=row) for number, row in enumerate(rows)]

    def beaten(ours):
        return any(row is not None and row != ours and all(map(ge, row, ours)) for row in rows)

    expected = [row.number for row in history if row.objectives is not None and not beaten(row.objectives)]
    assert [row.number for row in front(history, Scores())] == expected


def odd(locks):
    """Puts files beside the locks of a folder that say what they hold in another form, or hold something else."""
    one, two, _ = (read_json(path) for path in sorted(locks.glob("*.json")))
    (locks / "compact.json").write_text(json.dumps(one))
    (locks / "renamed.json").write_text(json.dumps({**one, "lock_id": "ab" * 32}, indent=2, sort_keys=True) + "\n")
    (locks / "torn.0123456789ab.json").write_text(json.dumps(two, indent=2, sort_keys=True)[:-40])
    (locks / "number.json").write_text(json.dumps({**two, "sweep": 7, "decision": 3}, indent=2, sort_keys=True) + "\n")
    (locks / "hand.json").write_text(
        json.dumps({**two, "sweep": "by.hand", "chosen_by_hand": "why", "trial": 3}, indent=2, sort_keys=True) + "\n"
    )
    (locks / "list.json").write_text("[1,\n]\n")


def answer(name, place):
    try:
        return find_lock(name, place)
    except LanelockError as error:
        return type(error), str(error)


def test_a_lock_is_found_by_a_look_as_by_reading_all(copy, monkeypatch):
    odd(copy.locks)
    ids = [path.stem.rpartition(".")[2] for path in sorted(copy.locks.glob("queue-*.json"))]
    names = [
        *ids, ids[0][:6], "ab" * 4, "ab" * 32, "queue-1", "queue-2", f"queue-2.{ids[1]}", "torn", "torn.0123456789ab",
        "7", "by", "by.hand", "by.hand.3", f"by.hand.3.{ids[1]}", "number", "renamed", "queue", "nothing",
    ]  # fmt: skip
    found = {name: answer(name, copy) for name in names}
    monkeypatch.setattr(lock_files, "glance", lambda *given: None)
    assert found == {name: answer(name, copy) for name in names}
    assert isinstance(found["queue-1"], Path) and isinstance(found["by.hand.3"], Path)


def test_only_the_locks_of_a_name_are_parsed(grown, monkeypatch):
    seen = []
    monkeypatch.setattr(lock_files, "read_json", lambda path: seen.append(path.name) or read_json(path))
    path = find_lock("queue-2", grown)
    assert seen == [path.name]


def test_locks_are_listed_by_a_look_as_by_reading_them(copy, monkeypatch):
    odd(copy.locks)
    listed = upkeep.status(copy).locks
    monkeypatch.setattr(upkeep, "glance", lambda *given: None)
    read = {row.name: row for row in upkeep.status(copy).locks}
    assert len(listed) == len(read) and {row.decision for row in listed} >= {"GO", "unreadable"}
    for row in listed:
        assert row == read[row.name]


def test_references_are_known_without_building_every_lock(copy, monkeypatch):
    built = []
    monkeypatch.setattr(retention, "_read", lambda path: pytest.fail(f"{path} was read whole"))
    monkeypatch.setattr(retention.Lock, "read", lambda path, read=retention.Lock.read: built.append(path) or read(path))
    quick = retention.survey(copy)
    assert [path.name.partition(".")[0] for path in built] == ["queue-3"], "the newest of its lane, which stays"
    monkeypatch.undo()
    monkeypatch.setattr(retention, "_held", lambda path: None)
    assert retention.survey(copy) == quick


@pytest.mark.parametrize(("old", "new"), [('"GO"', '"NO"'), ('"queue-1"', '"queue-9"'), ("\n}", ', "more": 1}')])
def test_a_changed_lock_stops_a_survey(copy, old, new):
    (path,) = copy.locks.glob("queue-1.*.json")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(IntegrityError):
        retention.survey(copy)
