"""What an engine measures is looked at on the first run: every number counts, and nothing else does."""

import json
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from lanes import TESTS

from lanelock.policies import DataError, LaneError
from lanelock.policies.documents import read_json
from lanelock.scoring.scorecard import measured, numbers
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import survey
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.reports import subject
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LANE = load_lane(str(TESTS / "queue_engine" / "lane.json"))


class Changed:
    """The metrics of an engine, changed by a function of the run and of what is measured."""

    name, gates_file = LANE.metrics.name, LANE.metrics.gates_file

    def __init__(self, change):
        self._change = change

    def measure(self, run):
        return self._change(run, LANE.metrics.measure(run))


def lane(change):
    return replace(LANE, metrics=Changed(change)).with_search(trials=4)


@pytest.mark.parametrize(
    "value",
    [np.float32(2), np.float64(2), np.int64(2), np.uint8(2), np.array(2.0), np.array(2), Decimal(2), Fraction(2), 2],
    ids=lambda value: f"{type(value).__name__}-{value!r}",
)
def test_a_number_of_any_library_is_a_float(value):
    (number,) = numbers({"m": value}, "queue", 1).values()
    assert (number, type(number)) == (2.0, float)


@pytest.mark.parametrize(
    "value", ["2", b"2", 2j, np.complex64(2), None, [2.0], np.array([2.0]), np.array("2"), {"a": 2}, np.str_("2")],
    ids=lambda value: f"{type(value).__name__}-{value!r}",
)  # fmt: skip
def test_what_is_no_number_is_refused_by_engine_metric_and_seed(value):
    with pytest.raises(DataError, match=r"^engine queue: metric q/m on seed 7: .* is not a number") as refused:
        numbers({"q/m": value}, "queue", 7)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250


def test_what_is_no_mapping_by_names_is_refused():
    with pytest.raises(DataError, match="engine queue: its metrics on seed 7 are list"):
        numbers([1.0], "queue", 7)
    with pytest.raises(DataError, match="on seed 7 a metric is named int 3"):
        numbers({3: 1.0}, "queue", 7)
    assert numbers({"m": 10**400}, "queue", 7) == {"m": math.inf}, "too large to be measured, as infinity is"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run, found: {**found, "q1/servers": "3"}, r"metric q1/servers on seed \d+: str '3' is not a number"),
        (lambda run, found: {**found, "q1/servers": 3j}, r"metric q1/servers on seed \d+: complex 3j is not a number"),
        (
            lambda run, found: {**found, "q1/p99 (%)": 3.0},
            r"metric 'q1/p99 \(%\)' is measured on seed \d+, and no gate",
        ),
        (lambda run, found: {"q1/servers": 3.0}, r"metric q1/wait_p90 is not measured on seed \d+, and the lane needs"),
        (lambda run, found: {}, r"is not measured on seed \d+, .* it measures nothing"),
        (lambda run, found: None, r"its metrics on seed \d+ are None"),
    ],
)
def test_it_is_refused_before_a_trial_is_run(tmp_path, change, why):
    workspace = Workspace.at(tmp_path)
    with pytest.raises((LaneError, DataError), match=why) as refused:
        play(lane(change), workspace, track=False)
    assert "engine queue" in str(refused.value) and "\n" not in str(refused.value)
    assert Studies(workspace.study_storage).names() == (), "nothing was begun"


def test_a_rail_on_what_the_authority_cannot_measure_is_refused(tmp_path):
    document = {**read_json(TESTS / "queue_engine" / "lane.json"), "authority": str(TESTS / "queue_engine" / "pack")}
    rail = {
        "id": "no_longer", "metric": "q1/wait_p90", "severity": "rail", "comparison": "<=",
        "relative_to_authority": {"plus": 0.5}, "why": "Nobody waits longer than today.",
    }  # fmt: skip
    document["gates"] = {**document["gates"], "rails": [rail]}
    (tmp_path / "lane.json").write_text(json.dumps(document))
    nan = Changed(lambda run, found: {**found, "q1/wait_p90": math.nan})
    with pytest.raises(LaneError, match=r"metric q1/wait_p90 is nan for the authority on seed \d+, and a gate follows"):
        survey(replace(load_lane(str(tmp_path / "lane.json")), metrics=nan), None)


def test_an_authority_that_cannot_be_measured_on_an_absolute_gate_may_be_mended(tmp_path):
    begins = LANE.authority.digest

    def unmeasured(run, found):
        return {**found, "q1/wait_p90": math.nan} if run.pack.digest == begins else found

    closed = play(lane(unmeasured), Workspace.at(tmp_path), track=False)
    assert [trial.failed for trial in closed.trials].count(True) <= 1 and len(closed.trials) == 4


def test_a_lane_with_gates_of_its_own_may_leave_out_what_its_engines_gates_declare(tmp_path):
    gates = read_json(LANE.metrics.gates_file)
    gates["gates"] = [gate for gate in gates["gates"] if gate["metric"] != "q1/served_at_once"]
    del gates["metrics"]["q1/served_at_once"]
    (tmp_path / "gates.json").write_text(json.dumps(gates))
    document = {**read_json(TESTS / "queue_engine" / "lane.json"), "authority": str(TESTS / "queue_engine" / "pack")}
    document["gates"] = {"file": str(tmp_path / "gates.json"), "grade": ["wait", "crowd"], "rails": []}
    (tmp_path / "lane.json").write_text(json.dumps(document))
    own = load_lane(str(tmp_path / "lane.json"))
    assert "q1/served_at_once" not in own.gates.metrics and survey(own, None).authority


def test_in_a_trial_it_is_that_trials_failure(tmp_path):
    begins = LANE.authority.digest

    def texts(run, found):
        return found if run.pack.digest == begins else {**found, "q1/wait_p90": "long"}

    closed = play(lane(texts), Workspace.at(tmp_path), track=False)
    failed = [trial.record.failure for trial in closed.trials if trial.failed]
    assert failed and all("metric q1/wait_p90 on seed" in why and "is not a number" in why for why in failed)


def test_numbers_of_numpy_are_numbers_in_a_lock_and_in_a_comparison(tmp_path, monkeypatch):
    def narrow(run, found):
        return {name: np.float32(value) for name, value in found.items()}

    narrowed = lane(narrow)
    lock = Lock.read(play(narrowed, Workspace.at(tmp_path), track=False).lock)
    assert {type(value) for seed in lock.proof.values() for value in seed.metrics.values()} == {float}
    monkeypatch.setattr(subject, "metrics_named", lambda name: Changed(narrow))
    found = subject._pack(str(TESTS / "queue_engine" / "pack"), None)
    found = subject.settled(found, found, (1,))
    json.dumps(found.measures)
    run = LANE.engine.evaluate(LANE.authority, 1)
    assert found.measures[1] == measured(Changed(narrow), run)
