"""Sweeps of the queue, an engine of another field: found by entry point, swept, scored, tracked and locked.

The same code plays segment 2B (test_p3.py); here trials cost milliseconds, so searches can be compared whole.
"""

import json
from pathlib import Path

import mlflow
import optuna
import pytest
from lanes import QUEUE, lane_with
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.scoring.scorecard import score
from lanelock.sweeps.lanes import survey
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal.words import closing
from lanelock.sweeps.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


def trials(closed):
    return [(told.number, dict(told.values), told.objectives, dict(told.constraints)) for told in closed.trials]


def stored(workspace, name):
    storage = JournalStorage(JournalFileBackend(str(workspace.journal)))
    return optuna.load_study(study_name=name, storage=storage).trials


def recorded(workspace, lane):
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    experiment = client.get_experiment_by_name(lane.id)
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    parents = [run for run in runs if run.data.tags["lanelock.kind"] == "sweep"]
    children = sorted((run for run in runs if run not in parents), key=lambda run: int(run.data.tags["lanelock.trial"]))
    return client, parents, children


@pytest.mark.plan("P3.3.2")
def test_it_is_swept_scored_tracked_and_locked_by_the_same_code(workspace, tmp_path):
    closed = play(lane_with(tmp_path), workspace, jobs=2)
    assert closed.decision.outcome == "GO" and len(closed.trials) == 24
    assert any(told.constraints["crowd"] > 0 for told in closed.trials), "some trial was vetoed"
    lock = Lock.read(closed.lock)
    assert lock.decision == "GO" and lock.engine == "queue" and set(lock.proof) == {1, 2, 3}
    assert all(check.ok for check in verify_lock(closed.lock))

    client, (parent,), children = recorded(workspace, load_lane(str(QUEUE / "lane.json")))
    assert [int(run.data.tags["lanelock.trial"]) for run in children] == list(range(24))
    assert parent.data.tags["lanelock.decision"] == "GO" and parent.data.tags["lanelock.lock"] == lock.lock_id
    for run, told in zip(children, closed.trials, strict=True):
        assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {name: f"{value:.12g}" for name, value in told.values.items()}
        for seed, measured in told.record.measures.items():
            for name, value in measured.items():
                assert run.data.metrics[f"seed_{seed}/{name}"] == value
        waits = [measured["q1/wait_p90"] for measured in told.record.measures.values()]
        assert run.data.metrics["q1/wait_p90"] == max(waits), "the plain name is the worst over seeds"
        assert run.data.tags["lanelock.pack"] == told.record.pack
        assert ("crowd" in run.data.tags["lanelock.vetoed"]) == (told.constraints["crowd"] > 0)
        behind = run.data.tags["lanelock.state"] == "behind"
        assert behind == bool(told.record.stopped) and behind == ("against" in run.data.tags.get("lanelock.ended", ""))
        assert run.data.tags["lanelock.verdict"] in (("none",) if behind else ("PASS_BPLUS", "PASS_B", "FAIL"))
    best = children[closed.decision.best.number]
    assert {item.path for item in client.list_artifacts(best.info.run_id)} == {
        "scorecard.json",
        "scorecard.md",
        "scorecard.html",
        "measures.json",
        "pack.json",
        "provenance.json",
    }
    card = json.loads(Path(client.download_artifacts(best.info.run_id, "scorecard.json", str(tmp_path))).read_text())
    validate(card, shipped_schema("scorecard"), "scorecard.json")
    assert (
        json.loads(Path(client.download_artifacts(parent.info.run_id, "lock.json", str(tmp_path))).read_text())
        == lock.document
    )
    assert {parent.data.tags["lanelock.lock"], best.data.tags["lanelock.lock"]} == {lock.lock_id}


@pytest.mark.parametrize("sampler", ["surrogate", "tpe", "nsga2", "cmaes", "random", "qmc", "grid", "gp"])
def test_the_same_seed_gives_the_same_trials_for_any_jobs(tmp_path, sampler):
    if sampler == "gp":
        pytest.importorskip("torch", reason="set up without PyTorch (make setup GP=0)")
    closed = []
    for jobs in (1, 1, 3):
        workspace = Workspace.at(tmp_path / f"ws{len(closed)}")
        lane = lane_with(tmp_path).with_search(sampler=sampler)
        closed.append(play(lane, workspace, jobs=jobs, track=False))
    assert trials(closed[0]) == trials(closed[1]) == trials(closed[2])
    locks = [Lock.read(one.lock) for one in closed]
    assert locks[0].proof == locks[2].proof and locks[0].knobs == locks[2].knobs


def test_another_sampler_seed_or_batch_gives_other_trials(tmp_path):
    found = []
    for index, changed in enumerate(({}, {"sampler__seed": 8}, {"batch": 3})):
        found.append(trials(play(lane_with(tmp_path, **changed), Workspace.at(tmp_path / str(index)), track=False)))
    assert found[0] != found[1] and found[0] != found[2]


def test_a_grid_is_played_once_and_ends(tmp_path, workspace):
    margin = {"name": "margin", "direction": "maximize", "worst_margin": "B+"}  # alone: no optimum of it is proven
    servers = {"at": "queue_policy_v1#/servers", "choices": [8, 12]}
    lane = lane_with(tmp_path, knobs__servers=servers, sampler__name="grid", objectives=[margin])
    closed = play(lane, workspace, track=False)
    assert sorted({(told.values["servers"], told.values["service"]) for told in closed.trials}) == sorted(
        (told.values["servers"], told.values["service"]) for told in closed.trials
    )
    assert len(closed.trials) == 2 * 5, "the start is one of them"


def test_constraints_reach_the_sampler_as_constraints(tmp_path, workspace):
    closed = play(lane_with(tmp_path), workspace, track=False)
    for frozen, told in zip(stored(workspace, closed.sweep), closed.trials, strict=True):
        assert frozen.constraints == told.constraints and set(told.constraints) == {"crowd"}
    # Searching under constraints, the second half of the budget is spent where they hold.
    half = len(closed.trials) // 2
    vetoed = [told.constraints["crowd"] > 0 for told in closed.trials]
    assert sum(vetoed[half:]) <= sum(vetoed[:half])


@pytest.mark.plan("P3.4.3")
def test_a_veto_ends_a_trial_before_the_seeds_that_are_left(tmp_path, workspace):
    closed = play(lane_with(tmp_path), workspace, track=False)
    for told in closed.trials:
        ended = told.constraints["crowd"] > 0 or bool(told.record.stopped)
        assert len(told.record.measures) == 3 or ended
    assert any(len(told.record.measures) == 1 for told in closed.trials)


def test_a_lane_that_cannot_pass_closes_no_go_and_locks_its_best_as_terminal(tmp_path, workspace):
    servers = {"at": "queue_policy_v1#/servers", "low": 5, "high": 6}
    service = {"at": "queue_policy_v1#/service", "low": 1.5, "high": 1.6}
    closed = play(lane_with(tmp_path, knobs={"servers": servers, "service": service}), workspace, track=False)
    assert closed.decision.outcome == "NO_GO"
    lock = Lock.read(closed.lock)
    assert lock.candidate == "terminal" and lock.verdict == "FAIL"
    assert {row.gate for row in lock.blockers} <= {"wait", "at_once"} and lock.blockers
    for row in lock.blockers:
        assert str(round(row.value, 3))[:4] in lock.reason and row.gate in lock.reason


def test_budget_in_seconds_ends_a_sweep(tmp_path, workspace):
    closed = play(lane_with(tmp_path, budget={"trials": 100000, "seconds": 1.0}), workspace, track=False)
    assert 4 <= len(closed.trials) < 100000 and closed.decision.best is not None


def test_resuming_needs_a_sweep_and_the_same_lane(tmp_path, workspace):
    with pytest.raises(LaneError, match="this workspace has no sweep of the lane"):
        play(lane_with(tmp_path), workspace, resume=True, track=False)
    less = play(lane_with(tmp_path, budget={"trials": 8, "seconds": 60}), workspace, track=False)
    more = play(lane_with(tmp_path), workspace, resume=True, track=False)
    assert len(more.trials) == 24, "a larger budget goes on where the smaller one ended"
    assert less.lock != more.lock and less.lock.exists(), "each leaves a lock"
    assert find_lock("queue-1", workspace) == more.lock, "the sweep's name stands for the newest"
    assert find_lock(Lock.read(less.lock).lock_id, workspace) == less.lock
    whole = play(lane_with(tmp_path), Workspace.at(tmp_path / "whole"), track=False)
    assert trials(more) == trials(whole)
    with pytest.raises(LaneError, match="changed since queue-1 began"):
        play(lane_with(tmp_path, seeds=[1, 2]), workspace, resume=True, track=False)


def test_sweeps_of_one_lane_are_numbered_and_kept_apart(tmp_path, workspace):
    names = [
        play(lane_with(tmp_path, budget={"trials": 4, "seconds": 60}), workspace, track=False).sweep for _ in range(2)
    ]
    assert names == ["queue-1", "queue-2"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"knobs__servers__high": 21}, "/knobs/servers: 21 is outside the policy's bounds"),
        ({"knobs__servers__high": 6}, "/knobs/servers: low 6 is not below high 6"),
        ({"knobs__servers__at": "queue_policy_v1#/none"}, "/knobs/servers: no field /none"),
        ({"knobs__servers__at": "other#/servers"}, "/knobs/servers: pack has no policy other"),
        ({"knobs__twice": {"at": "queue_policy_v1#/servers", "low": 6, "high": 8}}, "two knobs move the same field"),
        ({"fixed": {"queue_policy_v1#/servers": 3}}, "both fixed and a knob"),
        ({"fixed": {"queue_policy_v1#/arrivals": -3}}, "/arrivals: -3 must be above 0"),
        ({"gates__grade": ["wait", "nothing"]}, "'nothing' is not a gate of queue"),
        ({"until": "Q9"}, "/until: 'Q9' is not a state of queue"),
        ({"engine": "magic"}, "'magic' is not installed"),
        ({"authority": "nowhere"}, "nowhere: neither a path nor one of the shipped packs"),
        ({"decision__accept_band": "A"}, "/decision/accept_band"),
        ({"objectives": [{"name": "margin", "direction": "maximize", "worst_margin": "A"}]}, "band 'A' is not one of"),
        ({"surprise": 1}, "unknown field surprise"),
        ({"seeds": []}, "/seeds"),
        ({"budget__trials": 0}, "/budget/trials: 0 is below the minimum 1"),
        ({"sampler__name": "magic"}, "/sampler/name: 'magic' is not one of auto, surrogate"),
    ],
)
def test_a_bad_lane_is_refused_before_anything_runs(tmp_path, changed, said):
    with pytest.raises((LaneError, PolicyError)) as refused:
        lane_with(tmp_path, **changed)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_closing_scores_no_trial_again(tmp_path, workspace, monkeypatch):
    """Each run is scored when it ends, and once more from what is stored: the words at the end count on those cards."""
    scored = []

    def counting(*arguments, **named):
        scored.append(named["seed"])
        return score(*arguments, **named)

    monkeypatch.setattr(survey, "score", counting)
    closed = play(lane_with(tmp_path), workspace, track=False)
    runs = sum(len(told.record.measures) for told in closed.trials)
    locked = 2 * len(closed.ground.lane.seeds)  # what a lock states follows from its candidate alone
    assert len(scored) == 2 * runs + locked
    assert "best trial" in closing(closed)
    assert len(scored) == 2 * runs + locked
