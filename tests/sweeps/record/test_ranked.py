"""The order of a closed sweep in MLflow: places, the star of the locked trial, what the others lack, their pages."""

import json
from pathlib import Path
from unittest.mock import patch

import mlflow
import pytest
from lanes import QUEUE, lane_with

from lanelock.sweeps.decision.decision import front, ranking
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.record.sweep_letters import Entries
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


def runs(workspace, sweep):
    """Trial number -> its run; None -> the sweep's."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(every, f"tags.lanelock.sweep = '{sweep}'", max_results=1000)
    numbers = {run: run.data.tags.get("lanelock.trial") for run in found}
    return {None if number is None else int(number): run for run, number in numbers.items()}


def files(workspace, run):
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    return {file.path for folder in ("", "compare") for file in client.list_artifacts(run.info.run_id, folder)}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    workspace = Workspace.at(tmp_path_factory.mktemp("ranked"))
    return workspace, play(load_lane(str(QUEUE / "lane.json")).with_search(trials=24), workspace)


def test_places_are_those_of_the_decision_and_only_complete_trials_have_one(played):
    workspace, closed = played
    found, ledger = runs(workspace, closed.sweep), closed.ledger
    order = [trial.number for trial in ranking(closed.trials, ledger) if ledger.state(trial) == "complete"]
    places = {number: run.data.metrics["rank"] for number, run in found.items() if "rank" in run.data.metrics}
    assert sorted(places, key=places.get) == order and len(order) > 2
    assert order[0] == closed.decision.best.number and places[order[0]] == 1
    assert [number for number, run in found.items() if "lanelock.locked" in run.data.tags] == order[:1]


def test_every_trial_says_what_it_lacks(played):
    workspace, closed = played
    best = closed.decision.best.number
    for trial in closed.trials:
        lacks = runs(workspace, closed.sweep)[trial.number].data.tags["lanelock.why_not"]
        card, state = closed.ledger.overall(trial), closed.ledger.state(trial)
        failing = [row.id for row in card.gates if not row.full]
        if failing:
            assert any(lacks.startswith(f"{gate}: margin -") for gate in failing), lacks
            assert not card.vetoed or lacks.partition(":")[0] in card.vetoed, "a veto comes first"
        elif trial.number == best:
            assert lacks == "none"
        else:
            assert lacks.startswith("behind"), (state, lacks)


def test_the_front_has_pages_and_the_sweep_compares_and_digests_are_one_file(played):
    workspace, closed = played
    found = runs(workspace, closed.sweep)
    unbeaten = {trial.number for trial in front(closed.trials, closed.ledger)} | {closed.decision.best.number}
    for number, run in found.items():
        if number is not None:
            assert ("scorecard.html" in files(workspace, run)) == (number in unbeaten), number
            assert not [tag for tag in run.data.tags if tag.startswith(("lanelock.policy.", "lanelock.world."))]
    assert {"compare/start.html", "compare/runner_up.html"} <= files(workspace, found[None])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    trial = closed.trials[3]
    path = client.download_artifacts(found[trial.number].info.run_id, "provenance.json")
    stated = json.loads(Path(path).read_text())
    assert stated["pack"] == trial.record.pack and stated["policies"] == dict(trial.record.policies)
    assert stated["worlds"] == {str(seed): world for seed, world in trial.record.worlds.items()}


def test_a_running_sweep_has_no_places_and_a_resumed_one_moves_the_star(tmp_path):
    workspace, lane = Workspace.at(tmp_path / "ws"), lane_with(tmp_path)
    first = play(lane.with_search(trials=8), workspace)
    second = play(lane.with_search(trials=40), workspace, resume=True)
    found = runs(workspace, second.sweep)
    assert first.decision.best.number != second.decision.best.number
    starred = [number for number, run in found.items() if "lanelock.locked" in run.data.tags]
    assert starred == [second.decision.best.number] and found[starred[0]].data.metrics["rank"] == 1
    assert compare(workspace).differences == ()
    away = Workspace.at(tmp_path / "away", "http://127.0.0.1:9")
    play(lane.with_search(trials=8), away)
    (box,) = Outbox(away).boxes()
    kinds = [letter.kind for letter in box.letters()]
    assert kinds[-2:] == ["ranks", "close"] and kinds.count("ranks") == 1
    assert all("rank" not in letter.entry.metrics for letter in box.letters())


def test_what_an_earlier_version_wrote_is_read_compared_and_gone_on_with(tmp_path):
    workspace, lane, trial = Workspace.at(tmp_path / "ws"), lane_with(tmp_path), Entries.trial

    def former(self, one, details=""):
        with patch.object(Entries, "trial", trial):
            return Entries.former(self, one)

    with patch.object(Entries, "trial", former), patch.object(Entries, "ranks", lambda self, best: ()):
        closed = play(lane.with_search(trials=12), workspace)
    before = runs(workspace, closed.sweep)[0].data
    assert "lanelock.policy.queue_policy_v1" in before.tags and "rank" not in before.metrics
    assert compare(workspace).differences == ()
    closed = play(lane.with_search(trials=16), workspace, resume=True)
    assert compare(workspace).differences == ()
    assert runs(workspace, closed.sweep)[closed.decision.best.number].data.metrics["rank"] == 1
