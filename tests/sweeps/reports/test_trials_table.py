"""All trials of a sweep as one table holds what the study holds, also while the sweep runs."""

import json
import math
from io import StringIO

import pandas as pd
import pytest
from lanes import QUEUE, lane_with, refused

import lanelock
from lanelock.scoring.gates import Severity
from lanelock.sweeps.reports.trials_table import _column
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with a closed sweep of the queue."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    play(lanelock.load_lane(str(QUEUE / "lane.json")), place, track=False)
    return place


def test_every_value_of_the_study_is_in_its_cell(place):
    of, frame = recorded("queue-1", place), lanelock.trials_frame("queue-1", place)
    assert list(frame["trial"]) == list(range(24)) == sorted(of.trials)
    for row in frame.to_dict("records"):
        trial = of.trials[row["trial"]]
        assert {name: row[f"knob/{name}"] for name in trial.values} == trial.values
        assert (row["pack"], row["at"].timestamp()) == (trial.record.pack, trial.record.at_ms / 1000)
        for seed in of.lane.seeds:
            for name in ("q1/wait_p90", "q1/served_at_once", "q1/servers"):
                stated = trial.record.measures.get(seed, {}).get(name, math.nan)
                assert row[f"seed_{seed}/{name}"] == pytest.approx(stated, rel=0, nan_ok=True)
        assert row["worst/q1/served_at_once"] == min(m["q1/served_at_once"] for m in trial.record.measures.values())
        assert row["constraint/crowd"] == trial.constraints["crowd"]
        assert (row["state"] == "vetoed") == (trial.constraints["crowd"] > 0) == (row["vetoed"] == "crowd")
        if row["state"] == "complete":
            assert (row["objective/margin"], row["objective/servers"]) == trial.objectives
            band = None if pd.isna(row["band"]) else row["band"]
            assert row["verdict"] == str(of.lane.gates.of_band(band))
    assert {"complete", "vetoed"} <= set(frame["state"])
    assert {gate.id for gate in of.lane.gates.gates if gate.severity is Severity.VETO} == {"crowd"}


def test_both_files_are_the_frame_and_an_old_one_is_replaced(here, place, tmp_path):
    csv, parquet, frame = tmp_path / "t.csv", tmp_path / "t.parquet", lanelock.trials_frame("queue-1", str(place.root))
    csv.write_text("old")
    call = ("export", "queue-1", "--csv", csv, "--parquet", parquet, "--json")
    code, out, _ = here(*call, workspace=place.root)
    assert code == 0 and json.loads(out)["trials"] == 24 and json.loads(out)["columns"] == list(frame.columns)
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), frame, check_dtype=False)
    again = pd.read_csv(StringIO(csv.read_text()), parse_dates=["at"])
    pd.testing.assert_frame_equal(again, frame, check_dtype=False, check_exact=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.parquet"], "nothing is left beside them"


def test_what_cannot_be_exported_is_refused_before_anything_is_written(here, place, tmp_path):
    for call, *said in (
        (("queue-9", "--csv", tmp_path / "t.csv"), "no sweep queue-9", "known: queue-1"),
        (("queue-1", "--csv", tmp_path), "--csv: is a folder"),
        (("queue-1", "--parquet", tmp_path / "none" / "t"), "--parquet: its folder does not exist"),
        (("queue-1",), "--csv FILE or --parquet FILE"),
    ):
        refused(here("export", *call, workspace=place.root), *said)
    assert not [*tmp_path.iterdir()]


def test_a_running_sweep_is_exported(tmp_path):
    place, seen = Workspace.at(tmp_path), list[int]()
    lane = lane_with(tmp_path, budget__trials=8)
    play(lane, place, track=False, watch=lambda progress: seen.append(len(lanelock.trials_frame("queue-1", place))))
    assert seen == [4, 8]


def test_named_options_fit_a_column(tmp_path):
    place = Workspace.at(tmp_path)
    lane = lane_with(
        tmp_path, knobs__servers={"at": "queue_policy_v1#/servers", "choices": [8, 12]},
        knobs__service={"at": "queue_policy_v1#/service", "options": {"slow": 0.8, "fast": 1.6}}, budget__trials=4,
    )  # fmt: skip
    play(lane, place, track=False)
    frame = lanelock.trials_frame("queue-1", place)
    frame.to_parquet(tmp_path / "t.parquet")
    assert set(frame["knob/service"]) <= {"slow", "fast"} and set(frame["knob/servers"]) <= {8, 12}


def test_choices_of_several_types_are_text_and_numbers_stay_numbers():
    assert _column([1, "a", True, None]) == ["1", "a", "True", None]
    assert _column([1, 0.5, None]) == [1, 0.5, None] and _column([True, None]) == [True, None]
