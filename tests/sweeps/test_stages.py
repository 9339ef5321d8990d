"""Stages: cheaper runs choose which candidates are run in full, and nothing else. The engine is a hall with a queue."""

import json
from dataclasses import replace

import hall
import pytest
from lanes import QUEUE

from lanelock.policies import LaneError, LanelockError
from lanelock.sweeps.audit import audit
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.stages import stages_of
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.study import Study
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

FULL, FEW = 2000, 60  # customers
CHEAP = {"name": "cheap", "seeds": [1], "set": {"hall_policy_v1#/customers": FEW}, "keep": 0.5}
LANE = {
    "id": "hall", "title": "Short waits with few servers", "why": "A test.", "engine": "hall",
    "authority": str(QUEUE / "hall_pack"), "fixed": {},
    "knobs": {
        "servers": {"at": "hall_policy_v1#/servers", "low": 4, "high": 20},
        "service": {"at": "hall_policy_v1#/service", "low": 0.5, "high": 2.0, "scale": "log"},
    },
    "seeds": [1, 2], "gates": {"grade": ["wait", "crowd"], "rails": []},
    "objectives": [
        {"name": "margin", "direction": "maximize", "worst_margin": "B+"},
        {"name": "servers", "direction": "minimize", "metric": "servers"},
    ],
    "budget": {"trials": 24, "seconds": 120}, "batch": 8, "sampler": {"name": "tpe", "seed": 7},
    "decision": {"accept_band": "B", "margin_reserve": 0.05},
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


def lane(tmp_path, *stages, **changed):
    rows = {"stages": [*stages, {"name": "full"}]} if stages else {}
    (tmp_path / "hall.json").write_text(json.dumps({**LANE, **rows, **changed}))
    return load_lane(str(tmp_path / "hall.json"))


def told(closed):
    """What a sweep's study holds, without clocks."""
    return [
        (row.number, row.values, row.objectives, row.constraints, row.record.chain, row.record.stopped)
        for row in closed.trials
    ]


def test_a_stage_sends_its_share_of_every_batch_to_the_full_run(tmp_path, workspace):
    hall.HallEngine.runs.clear()
    closed = play(lane(tmp_path, CHEAP), workspace, track=False)
    ended = [row for row in closed.trials if row.record.stopped.startswith("stage cheap: ")]
    assert 8 <= len(ended) <= 12
    for row in ended:
        assert row.record.measures == {} and row.objectives is None and not row.failed
        assert closed.ledger.state(row) == "behind" and {*row.record.staged["cheap"]} == {1}
        assert row.record.pack == closed.ground.lane.candidate(row.values).digest
    assert closed.start.record.staged == {} and closed.start.record.measures, "the start is always run in full"
    cheap = [run for run in hall.HallEngine.runs if run[0] == FEW]
    assert len(cheap) == len(closed.trials) - 1
    assert closed.decision.best.number not in {row.number for row in ended}
    assert verify_lock(closed.lock, workspace=workspace).ok
    assert audit(closed.sweep, workspace, 1.0, Lock.read(closed.lock)).findings.ok


def test_the_history_does_not_depend_on_the_number_of_jobs(tmp_path):
    one, four = (
        play(lane(tmp_path, CHEAP), Workspace.at(tmp_path / name), track=False, jobs=jobs)
        for name, jobs in (("one", 1), ("four", 4))
    )
    assert told(one) == told(four)


@pytest.mark.parametrize("kept", [1, 5, 9, 13])
def test_a_sweep_killed_within_a_stage_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, kept):
    whole = play(lane(tmp_path, CHEAP), Workspace.at(tmp_path / "whole"), track=False)
    workspace, tell = Workspace.at(tmp_path / "killed"), Study.tell

    def dying(study, *rest):
        if len(study.history) == kept:
            raise KeyboardInterrupt
        return tell(study, *rest)

    monkeypatch.setattr(Study, "tell", dying)
    with pytest.raises(KeyboardInterrupt):
        play(lane(tmp_path, CHEAP), workspace, track=False)
    monkeypatch.setattr(Study, "tell", tell)
    assert told(play(lane(tmp_path, CHEAP), workspace, track=False, resume=True)) == told(whole)


def test_a_stage_that_misleads_cannot_produce_a_go(tmp_path, workspace):
    """Ten customers never wait. Whatever the stage thinks of a hall, only its full run is graded, locked and proved."""
    knobs = {"servers": LANE["knobs"]["servers"] | {"high": 8}, "service": LANE["knobs"]["service"] | {"high": 1.0}}
    ten = CHEAP | {"set": {"hall_policy_v1#/customers": 10}, "keep": 1}
    packs = {"hall_policy_v1#/arrivals": 9.0}
    closed = play(lane(tmp_path, ten, knobs=knobs, fixed=packs), workspace, track=False)
    thought = [rows[1]["wait_p90"] for row in closed.trials for rows in row.record.staged.values()]
    assert min(thought) < 0.25 and sum(wait < 1.0 for wait in thought) > 5, "the stage is misled"
    assert closed.decision.outcome == "NO_GO"
    lock = Lock.read(closed.lock)
    assert lock.candidate_pack.policies["hall_policy_v1"]["customers"] == FULL
    assert all(row.metrics["wait_p90"] > 1.0 for row in lock.proof.values())
    assert verify_lock(closed.lock, workspace=workspace).ok


def test_without_stages_nothing_is_other_than_before(tmp_path):
    assert stages_of(lane(tmp_path)) == ()
    plain = play(lane(tmp_path), Workspace.at(tmp_path / "plain"), track=False)
    assert not any("staged" in row.record.document for row in plain.trials)


def test_several_stages_and_a_count_to_keep(tmp_path, workspace):
    first, second = CHEAP | {"name": "first", "keep": 5}, CHEAP | {"name": "second", "seeds": [3], "keep": 2}
    closed = play(lane(tmp_path, first, second), workspace, track=False)
    ran = [len(row.record.staged) for row in closed.trials]
    assert {*ran} == {0, 1, 2}, "the start, those of the first stage, those of both"
    full = sum(bool(row.record.measures) for row in closed.trials)
    assert full <= 1 + 3 * 2
    assert audit(closed.sweep, workspace, 0.2).findings.ok


def test_an_engine_that_fails_in_a_stage_fails_the_trial_by_name(tmp_path, workspace, monkeypatch):
    evaluate = hall.HallEngine.evaluate

    def leaky(engine, pack, seed):
        if pack["hall_policy_v1"]["customers"] == FEW and pack["hall_policy_v1"]["servers"] > 12:
            raise RuntimeError("too many doors")
        return evaluate(engine, pack, seed)

    monkeypatch.setattr(hall.HallEngine, "evaluate", leaky)
    closed = play(lane(tmp_path, CHEAP), workspace, track=False)
    failed = [row for row in closed.trials if row.failed]
    assert failed and all(row.record.failure == "stage cheap: seed 1: RuntimeError: too many doors" for row in failed)
    assert all(row.values["servers"] > 12 for row in failed) and closed.start.values["servers"] == 14
    assert audit(closed.sweep, workspace, 0.3).findings.ok


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (CHEAP | {"keep": 0}, "/stages/0/keep"),
        (CHEAP | {"set": {"hall_policy_v1#/customers": FULL}}, "cheap/set: these are the values that the full run has"),
        ({"name": "cheap", "seeds": [2, 1], "keep": 0.5}, "it runs all that the full run runs"),
        (CHEAP | {"set": {"hall_policy_v1#/servers": 4}}, "cheap/set/hall_policy_v1#/servers: a knob of the lane"),
        (CHEAP | {"set": {"hall_policy_v1#/doors": 4}}, "cheap/set: .*no field /doors"),
        (CHEAP | {"set": {"hall_policy_v1#/customers": 1}}, "cheap/set: .*customers"),
        (CHEAP | {"until": "roof"}, "cheap/until: 'roof' is not a state of hall: hall"),
        (CHEAP | {"part": 10}, "/stages/part: engine hall lacks Sharding"),
        ({"name": "cheap", "seeds": [1]}, "'keep' is a dependency"),
        ({"name": "cheap"}, "cheap: keep: missing"),
        (CHEAP | {"name": "full"}, "/stages: two of them are named full"),
    ],
)  # fmt: skip
def test_a_stage_that_cannot_be_is_refused_before_anything_runs(tmp_path, workspace, row, why):
    hall.HallEngine.runs.clear()
    with pytest.raises(LanelockError, match=why):
        play(lane(tmp_path, row), workspace, track=False)
    assert hall.HallEngine.runs == []


def test_the_last_stage_is_the_full_run(tmp_path, workspace):
    with pytest.raises(LaneError, match="the last stage is the full run"):
        play(lane(tmp_path, stages=[CHEAP, CHEAP | {"name": "second"}]), workspace, track=False)


def test_a_stage_grades_by_the_gates_that_are_measured_there(tmp_path):
    relative = {"id": "kept", "metric": "servers", "severity": "rail", "comparison": "<=",
                "relative_to_authority": {"plus": 10}, "why": "Servers cost."}  # fmt: skip
    gates = {"grade": ["wait", "crowd"], "rails": [relative]}
    (stage,) = stages_of(lane(tmp_path, CHEAP, gates=gates))
    assert [gate.id for gate in stage.lane.gates.gates] == ["wait", "crowd"], "the authority is not run in the stage"
    assert not stage.exact and stage.lane.stage == "cheap"
    (stage,) = stages_of(lane(tmp_path, {"name": "seed", "seeds": [2], "keep": 3}, gates=gates))
    assert [gate.id for gate in stage.lane.gates.gates] == ["wait", "crowd", "kept"] and stage.exact
    assert [stage.kept(count) for count in (1, 3, 8)] == [1, 3, 3]
    assert [replace(stage, keep=0.3).kept(count) for count in (1, 3, 8)] == [1, 1, 3]
