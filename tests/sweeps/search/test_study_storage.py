"""A study in a database: the same trials as in a journal, each once, whoever tells it and however often."""

import optuna
import pytest
from lanes import TESTS

from lanelock.policies import LaneError, WorkspaceError
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.record.tracking import Tracking
from lanelock.sweeps.search.study import Studies, _store
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

QUEUE = TESTS / "queue_engine" / "lane.json"


@pytest.fixture
def database(tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", address)
    return address


def lane(trials):
    return load_lane(str(QUEUE)).with_search(trials=trials)


def trials(closed):
    return [(told.number, dict(told.values), told.objectives, dict(told.constraints)) for told in closed.trials]


def test_a_database_holds_the_trials_that_a_journal_holds(tmp_path, database, monkeypatch):
    begun = play(lane(8), Workspace.at(tmp_path / "ws"), track=False)
    resumed = play(lane(24), Workspace.at(tmp_path / "elsewhere"), track=False, resume=True)
    assert resumed.sweep == begun.sweep, "any workspace can go on with it"
    assert not (tmp_path / "ws" / "optuna.journal").exists()
    monkeypatch.delenv("LANELOCK_STUDY_STORAGE")
    assert trials(play(lane(24), Workspace.at(tmp_path / "journal"), track=False)) == trials(resumed)


def test_a_trial_stored_twice_is_stored_once_and_another_of_its_number_is_refused(tmp_path, database):
    closed = play(lane(4), Workspace.at(tmp_path / "ws"), track=False)
    study = optuna.load_study(study_name=closed.sweep, storage=Studies(database)._storage)
    stored = study.get_trials()
    _store(study, stored[2])  # as Optuna sends it again where an answer was lost
    assert len(study.get_trials()) == 4
    stored[2].user_attrs = {"lanelock": {"pack": "another"}}
    with pytest.raises(LaneError, match="trial 2 was stored by another process"):
        _store(study, stored[2])
    assert len(study.get_trials()) == 4


def test_a_database_of_mlflow_is_no_place_for_a_study(tmp_path, monkeypatch):
    workspace = Workspace.at(tmp_path / "ws")
    address = Tracking(workspace).uri
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", address)
    with pytest.raises(WorkspaceError, match="a database or a schema of its own"):
        play(lane(4), workspace, track=False)


def test_a_database_that_cannot_be_opened_is_told_in_one_line_without_its_password(tmp_path, lanelock):
    for address, said in (
        ("postgresql://me:secret@127.0.0.1:9/x", "cannot be opened"),
        ("nonsense://me:secret@host/x", "cannot be opened"),
    ):
        code, out, err = lanelock(
            "sweep", QUEUE, "--trials", 4, "--json", workspace=tmp_path, LANELOCK_STUDY_STORAGE=address
        )
        assert (code, out) == (2, "") and said in err and "secret" not in err and err.count("\n") == 1


@pytest.mark.parametrize("stored", [0, 1, 4, 7])
def test_a_sweep_killed_while_its_study_is_created_begins_again_under_its_name(tmp_path, monkeypatch, stored):
    """A study gets its attributes one by one."""
    set_attribute, done = optuna.Study.set_user_attr, []

    def killed(study, key, value):
        if len(done) == stored:
            raise KeyboardInterrupt
        done.append(key)
        set_attribute(study, key, value)

    workspace = Workspace.at(tmp_path / "ws")
    monkeypatch.setattr(optuna.Study, "set_user_attr", killed)
    with pytest.raises(KeyboardInterrupt):
        play(lane(4), workspace, track=False, name="counter-1.queue")
    monkeypatch.undo()
    assert Studies(workspace.study_storage).names() == () == Studies(workspace.study_storage).summaries()
    closed = play(lane(4), workspace, track=False, name="counter-1.queue")
    assert closed.sweep == "counter-1.queue" and len(closed.trials) == 4
