"""What moved what: from trials alone, the same every time, and from trials that can be compared."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from lanes import lane_with

from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.reports.study import closed as opened
from lanelock.sweeps.sensitivity.sensitivity import LEAST, sensitivity
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensitivity")
    workspace = Workspace.at(folder / "ws")
    lane = lane_with(folder, sampler__name="random", budget__trials=40, racing=False)
    return workspace, play(lane, workspace), lane


def whole(closed):
    """The trials that ran on every seed: no veto ended them."""
    return [trial for trial in closed.trials if closed.ledger.complete(trial)]


def row_of(trials, closed):
    ledger = Ledger(closed.ground)  # a new one, since a ledger remembers trials by number
    return sensitivity("queue-1", trials, ledger)["gates"][0]


def with_measures(trial, change):
    measures = {seed: change(seed, metrics) for seed, metrics in trial.record.measures.items()}
    kept = {seed: metrics for seed, metrics in measures.items() if metrics}
    return replace(trial, record=replace(trial.record, measures=kept))


def raced(trials, count):
    """The trials, all but the first `count` stopped after their first seed."""
    return [trial if at < count else with_measures(trial, lambda seed, metrics: metrics if seed == 1 else {})
            for at, trial in enumerate(trials)]  # fmt: skip


def test_every_gate_has_the_effects_of_every_knob_in_order(swept):
    workspace, closed, _ = swept
    document = opened(closed.sweep, workspace).sensitivity
    assert document["trials"] == 40 and [row["gate"] for row in document["gates"]] == ["wait", "at_once", "crowd"]
    for row in document["gates"]:
        assert set(row["effects"]) == set(row["curves"]) == {"servers", "service"}
        assert row["measured"] == "worst of seeds 1, 2, 3" and row["trials"] == len(whole(closed)) >= 20
        totals = [of["total"]["share"] for of in row["effects"].values()]
        assert totals == sorted(totals, reverse=True)
        assert [pair["knobs"] for pair in row["pairs"]] == [["servers", "service"]]
    at_once = document["gates"][1]
    assert at_once["trusted"] and at_once["error"]["r2"] > 0.8
    means = [point["mean"] for point in at_once["curves"]["servers"]]
    assert means == sorted(means), "more servers, more are served at once"


def test_the_document_is_a_pure_function_of_the_trials(swept):
    workspace, closed, _ = swept
    assert json.dumps(sensitivity(closed.sweep, closed.trials, closed.ledger)) == json.dumps(
        opened(closed.sweep, workspace).sensitivity
    )


def test_trials_that_the_race_stopped_are_compared_on_the_seed_that_most_trials_have(swept):
    _, closed, _ = swept
    trials = whole(closed)[:20]
    few = row_of(raced(trials, 9), closed)
    assert few["measured"] == "seed 1 alone" and few["trials"] == 20 and few == row_of(raced(trials, 0), closed)
    half = row_of(raced(trials, 10), closed)
    assert half["measured"] == "worst of seeds 1, 2, 3" and half["trials"] == 10
    assert half == row_of(trials[:10], closed), "the stopped ones count no more"


def test_nothing_is_stated_of_few_trials_or_of_a_metric_that_never_moved(swept):
    _, closed, _ = swept
    trials = whole(closed)
    nothing = {"error": None, "trusted": False, "effects": None, "pairs": [], "curves": {}}
    few = row_of(trials[: LEAST - 1], closed)
    assert few["trials"] == LEAST - 1 and nothing.items() <= few.items()
    assert row_of(trials[:LEAST], closed)["effects"] is not None
    still = row_of(
        [with_measures(trial, lambda _, metrics: {**metrics, "q1/wait_p90": 1.0}) for trial in trials], closed
    )
    assert still["trials"] == len(trials) and nothing.items() <= still.items()
    failed = [replace(trial, record=replace(trial.record, failure="broke")) for trial in trials]
    assert row_of(failed, closed)["trials"] == 0


def test_it_is_kept_with_the_sweep(swept, tmp_path):
    import mlflow

    workspace, closed, _ = swept
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    kept = client.download_artifacts(closed.parent_run, "sensitivity.json", str(tmp_path))
    with Path(kept).open() as file:
        assert json.load(file) == opened(closed.sweep, workspace).sensitivity


def test_the_command_prints_a_table_and_json(swept, lanelock):
    workspace, closed, _ = swept
    code, said, _ = lanelock("report", closed.sweep, workspace=workspace.root)
    assert code == 0 and "share of variance by knob" in said and "servers × service" in said and "R² 0." in said
    code, document, _ = lanelock("report", closed.sweep, "--json", workspace=workspace.root)
    assert (
        code == 0
        and document.pop("figures")
        and document.pop("notes") == []
        and document == opened(closed.sweep, workspace).sensitivity
    )
    assert lanelock("report", "nothing-1", workspace=workspace.root)[0] == 2
