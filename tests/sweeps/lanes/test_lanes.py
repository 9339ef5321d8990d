"""Lanes as data: every shipped one holds together, touches its knobs alone, and closes as its box lets it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lanelock.policies import LaneError
from lanelock.policies.documents import read_json, shipped
from lanelock.scoring.gates import Severity
from lanelock.sweeps.decision import runtime
from lanelock.sweeps.decision.decision import Decision, refusal
from lanelock.sweeps.decision.runtime import Runtime, hold_to_runtime, time_candidate
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LANES = shipped("lanes", ".json")
NAMED = {"p1", "p2", "p2_r1", "p3", "p1_reopen", "reopen_2a", "reopen_2a_final", "reopen_1b", "joint"}
REGULARIZER, EFFECTS, WORLD = "group_mix_regularizer_v1", "day_effect_policy_v1", "world_v1"


def lane_with(tmp_path, name, **changed):
    """A shipped lane with top-level fields replaced."""
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({**read_json(LANES[name]), **changed}))
    return load_lane(str(path))


def ends(lane, side):
    return {knob.name: (knob.choices or (knob.low, knob.high))[side] for knob in lane.knobs}


def test_every_lane_of_the_campaigns_is_shipped():
    assert set(LANES) >= NAMED


@pytest.mark.parametrize("name", LANES)
def test_a_lane_has_a_veto_a_purpose_and_admits_its_own_candidates(name):
    lane = load_lane(name)
    assert lane.id == name and lane.document["why"]
    assert any(gate.severity is Severity.GATE for gate in lane.gates.gates)
    for side in (0, -1):
        values = ends(lane, side)
        active = lane.space.active(values)
        counted = {name: value if name in active else lane.space.resting[name] for name, value in values.items()}
        assert lane.admit(lane.candidate(values)) == counted


@pytest.mark.plan("P2.1.2", "P3.0.4", "P3.4.1")
@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({f"{WORLD}#/breadth/breadth": 2.0}, "world_v1#/breadth/breadth is 2.0, not 1.0"),
        ({f"{REGULARIZER}#/enabled": False}, "enabled is False, not True"),
        ({f"{EFFECTS}#/law": "scalar_sigma_v1"}, "law is 'scalar_sigma_v1'"),
        ({f"{REGULARIZER}#/max_p_group_soft_cap": 0.96}, "outside the knob cap: 0.6 … 0.95"),
    ],
)
def test_a_pack_that_differs_elsewhere_is_refused(moved, said):
    lane = load_lane("p3")
    with pytest.raises(LaneError) as refused:
        lane.admit(lane.candidate(ends(lane, 0)).with_knobs(moved))
    assert said in str(refused.value) and "lane p3" in str(refused.value)


@pytest.mark.plan("P1.2A.1")
def test_structured_values_are_chosen_by_name():
    lane = load_lane("reopen_2a")
    pack = lane.candidate({"overrides": "islands_home", "nudge": 0.1})
    assert pack[WORLD]["zones"]["tz_overrides"][0]["tzid"] == "Europe/Madrid"
    assert lane.admit(pack) == {"overrides": "islands_home", "nudge": 0.1}
    invented = pack.with_knobs({f"{WORLD}#/zones/tz_overrides": [{"legal_country_iso": "FR", "tzid": "Asia/Tokyo"}]})
    with pytest.raises(LaneError, match="outside the knob overrides"):
        lane.admit(invented)


@pytest.mark.plan("P1.RO.1", "P1L.3")
@pytest.mark.parametrize("name", ["p1_reopen", "reopen_2a", "p3"])
def test_lanes_of_the_frozen_world_are_refused_on_the_floor(name):
    lane = load_lane(name)
    refused = refusal(lane, prospect(lane, None))
    assert refused is not None and [(row.gate, row.movable_by) for row in refused.blockers] == [("s4_tail", "2A, 1B")]


@pytest.mark.plan("P2.4.5", "P2.4.6", "P2.5.1", "P2.1.1")
def test_p2_closes_no_go_by_its_guard(tmp_path):
    lane = load_lane("p2").with_search(trials=8)
    assert refusal(lane, prospect(lane, None)) is None, "no floor forbids it: only trials show the guard"
    closed = play(lane, Workspace.at(tmp_path), track=False)
    assert closed.decision.outcome == "NO_GO" and "guard_entropy" in closed.decision.reason
    assert all(told.constraints["guard_entropy"] > 0 for told in closed.trials)
    lock = Lock.read(closed.lock)
    yardstick = lock.authority_metrics[42]
    guard = next(row for row in lock.proof[42].card["gates"] if row["id"] == "guard_entropy")
    assert guard["thresholds"]["B"] == min(0.20, yardstick["baseline:s4/entropy_p50"] - 0.05)
    assert guard["thresholds"]["B"] > yardstick["s4/entropy_p50"], "p1, its authority, stands below the guard already"
    assert all(check.ok for check in verify_lock(closed.lock))


def test_a_guard_needs_its_reference(tmp_path):
    with pytest.raises(LaneError, match="guard_max_p: 'baseline' is not one of the lane's references"):
        lane_with(tmp_path, "p2", references={})


def test_another_authority_or_reference_is_another_lane(tmp_path, packs):
    lane = load_lane("p2")
    assert lane.with_authority(packs("p1")).identity == lane.identity
    assert lane.with_authority(packs("p3_recorded")).identity != lane.identity
    assert lane_with(tmp_path, "p2", references={"baseline": "p1"}).identity != lane.identity


@pytest.mark.plan("P1.1B.2")
def test_a_candidate_is_timed_beside_its_authority_round_by_round(packs, monkeypatch):
    """On a clock that the engine alone moves: what a real machine takes is no assertion."""
    clock, worlds = [0.0], []

    class Engine:
        name = "timed"

        def evaluate(self, pack, seed, *, world, until):
            worlds.append((seed, until))
            clock[0] += 3.0 if pack is wide else 2.0

    lane, wide = load_lane("reopen_1b"), packs("p3_wide")
    timed = SimpleNamespace(document=lane.document, authority=lane.authority, engine=Engine())
    monkeypatch.setattr(runtime.time, "process_time", lambda: clock[0])
    found = time_candidate(timed, wide, None)
    assert (found.authority_seconds, found.candidate_seconds, found.ratio) == (2.0, 3.0, 1.5) and not found.holds
    assert time_candidate(timed, lane.authority, None).holds, "a pack beside itself"
    assert len({seed for seed, _ in worlds}) == len(worlds), "each its own seed: no state is reused"
    assert {until for _, until in worlds} == {lane.document["runtime"]["until"]}
    assert time_candidate(load_lane("p3"), packs("p3_recorded"), None) is None, "it asks for nothing"


@pytest.mark.plan("4.2.5", "P1.1B.3")
def test_a_candidate_that_takes_too_long_is_no_go():
    go, lane = Decision("GO", "PASS_B", "fine", None, ()), load_lane("reopen_1b")
    slow = Runtime(1.0, 1.3, 1.3, 1.2)
    turned = hold_to_runtime(go, slow, lane)
    assert (turned.outcome, turned.verdict) == (
        "NO_GO",
        "FAIL_REALISM",
    ) and "1.30 times what the authority takes, 1.2 are allowed" in turned.reason
    assert [blocker.gate for blocker in turned.blockers] == ["runtime"]
    assert hold_to_runtime(go, replace(slow, ratio=1.1), lane) is go and hold_to_runtime(go, None, lane) is go
