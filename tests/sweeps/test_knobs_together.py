"""Sweeps over a lane with every kind of knob, by each sampler: its trials, its lock, an audit and a resumed search."""

import pytest
from lanes import TESTS
from worded_lane import NASTY, mix_lane

from lanelock.sweeps.audit import audit
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.recorded import recorded_in
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sensitivity.sensitivity import sensitivity
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("surrogate", "random", "qmc", "nsga2", "cmaes", "gp")]


@pytest.fixture(autouse=True)
def mix(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS / "mix_engine"))


def failed(checks):
    return [check for check in checks if not check.ok]


@pytest.mark.parametrize("sampler", ["tpe", "grid", *SLOWER])
def test_every_trial_keeps_what_the_lane_says_and_the_lock_proves_it(tmp_path, sampler):
    lane = mix_lane(tmp_path, **NASTY, sampler={"name": sampler, "seed": 3})
    workspace = Workspace.at(tmp_path / "here")
    done = play(lane, workspace, track=False)
    stored = recorded_in(Studies(workspace.study_storage), done.sweep, "no such sweep", workspace)
    assert len(stored.trials) == 12 and not any(trial.failed for trial in stored.trials.values())
    for trial in stored.trials.values():
        assert stored.lane.space.broken(trial.values) is None
        assert stored.lane.space.canonical(trial.values) == dict(trial.values)
        policy = stored.pack(trial)["mix_policy_v1"]
        shares = policy["shares"]
        assert sum(round(share * 10**9) for share in shares.values()) == 10**9
        assert policy["floor"] <= policy["cap"] - 0.1 + 1e-15 and (policy["law"] == "smooth" or policy["knee"] <= 0.5)
        assert policy["ceiling"] == pytest.approx(policy["cap"] + 0.1)
        assert lane.candidate(lane.admit(stored.pack(trial))).digest == trial.record.pack
    assert not failed(verify_lock(done.lock, None))
    assert not failed(audit(done.sweep, workspace, 0.3, Lock.read(done.lock)).findings)
    assert sensitivity(done.sweep, tuple(stored.trials.values()), Ledger(stored.ground()))["gates"]
    resumed = Workspace.at(tmp_path / "resumed")
    play(lane.with_search(trials=6), resumed, track=False)
    assert Lock.read(play(lane, resumed, track=False, resume=True).lock).search.head == Lock.read(done.lock).search.head


def test_a_bound_of_a_derived_field_refuses_only_what_no_trial_reaches(tmp_path):
    gate = {"id": "high", "metric": "mix/ceiling", "severity": "gate", "comparison": ">=", "why": "High enough."}
    for least, closes in ((0.95, "GO"), (1.1, "NO_GO")):
        rails = [{**gate, "thresholds": {"B": least, "B+": least}, "scale": 1.0}]
        fields = {**NASTY, "derived": {"mix_policy_v1#/ceiling": "cap"}, "constraints": ["floor <= cap - 0.1"]}
        lane = mix_lane(tmp_path, **fields, id=closes.lower(), gates={"grade": ["cost"], "rails": rails})
        done = play(lane.with_search(trials=4), Workspace.at(tmp_path / closes), track=False)
        assert done.decision.outcome == closes, done.decision.reason
