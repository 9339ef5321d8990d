"""What moved what: from trials alone, the same every time, and right where the answer is known."""

import json
from pathlib import Path

import pytest
from lanes import lane_with

from lanelock.sweeps.lanes.sensitivity import BINS
from lanelock.sweeps.lanes.study import importance
from lanelock.sweeps.reports.study import closed as opened
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensitivity")
    workspace = Workspace.at(folder / "ws")
    lane = lane_with(folder, sampler__name="random", budget__trials=40)
    return workspace, play(lane, workspace), lane


def test_shares_sum_to_one_and_name_the_knob_that_matters(swept):
    workspace, closed, _ = swept
    document = opened(closed.sweep, workspace).sensitivity
    assert document["trials"] == 40 and [row["gate"] for row in document["gates"]] == ["wait", "at_once", "crowd"]
    for row in document["gates"]:
        assert set(row["importance"]) == {"servers", "service"}
        assert sum(row["importance"].values()) == pytest.approx(1)
    assert document == opened(closed.sweep, workspace).sensitivity


def test_a_curve_is_the_mean_and_envelope_of_the_trials_in_each_bin(swept):
    workspace, closed, lane = swept
    row = opened(closed.sweep, workspace).sensitivity["gates"][0]
    for knob in lane.knobs:
        curve = row["curves"][knob.name]
        assert 1 < len(curve) <= BINS and sum(part["trials"] for part in curve) == 40
        for part in curve:
            inside = [
                max(found[row["metric"]] for found in told.record.measures.values())
                for told in closed.trials
                if part["low"] <= told.values[knob.name] < part["high"]
                or (told.values[knob.name] == knob.high and part is curve[-1])
            ]
            assert part["trials"] == len(inside) and part["mean"] == pytest.approx(sum(inside) / len(inside))
            assert (part["min"], part["max"]) == (min(inside), max(inside))


def test_it_is_kept_with_the_sweep(swept, tmp_path):
    import mlflow

    workspace, closed, _ = swept
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    kept = client.download_artifacts(closed.parent_run, "sensitivity.json", str(tmp_path))
    with Path(kept).open() as file:
        assert json.load(file) == opened(closed.sweep, workspace).sensitivity


def test_a_knob_that_does_nothing_weighs_nothing(swept):
    lane = swept[2]
    points = [({"servers": n, "service": 0.5 + ((n * 7) % 15) / 10}, float(n)) for n in range(6, 21)]
    shares = importance(lane.knobs, points)
    assert next(iter(shares)) == "servers" and shares["servers"] > 0.8


def test_the_command_prints_a_table_and_json(swept, lanelock):
    workspace, closed, _ = swept
    code, said, _ = lanelock("report", closed.sweep, workspace=workspace.root)
    assert code == 0 and "share of variance by knob" in said and "servers" in said
    code, document, _ = lanelock("report", closed.sweep, "--json", workspace=workspace.root)
    assert code == 0 and document.pop("figures") and document == opened(closed.sweep, workspace).sensitivity
    assert lanelock("report", "nothing-1", workspace=workspace.root)[0] == 2
