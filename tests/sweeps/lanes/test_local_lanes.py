"""The shipped lanes that close a question by proof or hold what was won: 2B alone, 2A wider, P2.R1, the stretch."""

import pytest

from lanelock.policies import LaneError, RefusedError
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import score
from lanelock.sweeps.decision.decision import refusal
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LOCAL = {"p1_local": "S1 S3 S4", "p1l_1": "S1", "p1l_2": "S3", "p1l_3": "S4"}
STATE_OF = {"alias_layout_policy_v1": "S1", "day_effect_policy_v1": "S3", "group_mix_regularizer_v1": "S4"}
NON_TAIL = {"s4/max_p_median", "s4/multigroup_share", "s4/entropy_p50"}
DAY_EFFECTS = "day_effect_policy_v1#/sigma_gamma_policy_v2/"


@pytest.mark.plan("P1L.1", "P1L.4", "P1L.7")
@pytest.mark.parametrize("name", LOCAL)
def test_a_local_lane_moves_its_own_states_and_is_refused_by_the_floor(name):
    lane = load_lane(name)
    assert {STATE_OF[knob.at.partition("#")[0]] for knob in lane.knobs} == set(LOCAL[name].split())
    rails = {gate.metric for gate in lane.gates.gates if gate.severity is Severity.RAIL and gate.relative is not None}
    assert rails >= NON_TAIL, "what is not the tail does not get worse than the authority's"
    refused = refusal(lane, prospect(lane, None))
    assert refused is not None and [row.gate for row in refused.blockers] == ["s4_tail"]
    assert "share(n_groups = 1)" in str(refused.blockers[0].proof)


@pytest.mark.parametrize("name", [*LOCAL, "p1_reopen", "reopen_1b", "reopen_2a", "reopen_2a_r2", "reopen_2a_final"])
def test_what_the_record_played_after_p3_starts_from_its_candidate(name):
    assert load_lane(name).authority.name == load_lane("p1_reopen").authority.name == "p3_recorded"


def test_the_last_lane_of_2a_keeps_p3s_mix_so_that_its_rails_hold():
    lane = load_lane("reopen_2a_final")
    (values,) = lane.enqueued()
    assert lane.candidate(values)["group_mix_regularizer_v1"] == lane.authority["group_mix_regularizer_v1"]
    authority, moved = (
        lane.measure(lane.engine.evaluate(pack, 42, until="S4")) for pack in (lane.authority, lane.candidate(values))
    )
    card = score(moved, lane.gates, seed=42, authority=authority)
    assert card.vetoed == (), "its tail alone is left to judge it by"


@pytest.mark.plan("P1L.4")
def test_the_local_lane_is_all_of_its_parts():
    whole, parts = load_lane("p1_local"), [load_lane(name) for name in ("p1l_1", "p1l_2", "p1l_3")]
    assert {knob.at for part in parts for knob in part.knobs} <= {knob.at for knob in whole.knobs}


@pytest.mark.plan("P1.R2.2")
def test_a_second_site_gets_a_zone_of_its_country_and_few_do():
    lane, narrow = load_lane("reopen_2a_r2"), load_lane("reopen_2a")
    assert {knob.at for knob in lane.knobs} == {knob.at for knob in narrow.knobs}
    options = lane.space.by_name["overrides"].options
    assert max(map(len, options.values())) > max(map(len, narrow.space.by_name["overrides"].options.values()))
    refused = refusal(lane, prospect(lane, None))
    assert refused is not None and refused.blockers[0].gate == "s4_tail"

    def measured(option):
        pack = lane.candidate({"overrides": option, "nudge": 0.01})
        return lane.measure(lane.engine.evaluate(pack, 42, until="S4"))

    none, south, everywhere = map(measured, ("none", "south", "everywhere"))
    assert all(row["world/foreign_zone_share"] == 0 for row in (none, south, everywhere))
    assert 0.001 < none["s4/single_group_share"] - south["s4/single_group_share"] < 0.01, "immaterial, as recorded"
    assert everywhere["s4/single_group_share"] > 0.35, "even the widest leaves the floor above B"
    few = next(row["threshold"] for row in lane.document["gates"]["rails"] if row["id"] == "overrides_few")
    assert south["world/overridden_share"] <= few < everywhere["world/overridden_share"]


@pytest.mark.plan("P2.R1.1")
def test_p2_r1_has_one_candidate_softer_than_p2s():
    lane, p2 = load_lane("p2_r1"), load_lane("p2")
    assert lane.document["attempts"] == lane.document["budget"]["trials"] == 1
    sides = {knob.at.removeprefix(DAY_EFFECTS): knob.narrows for knob in lane.knobs}
    up = {at for at, side in sides.items() if side == "up"}  # asia's and pacific's multipliers are below 1
    assert up == {"gamma_clip/0", "tz_multipliers/2/multiplier", "tz_multipliers/4/multiplier"}
    (row,) = lane.enqueued()
    for corner in (-1, 1):  # whatever P2 leaves can be softened
        ends = p2.space.corner({knob.name: corner for knob in p2.knobs}, p2.space.start)
        cut = lane.narrowed(p2.candidate(ends))
        assert cut.admit(cut.candidate(cut.enqueued()[0])) == cut.enqueued()[0]
        for knob in p2.knobs:
            sign = 1 if lane.space.by_name[knob.name].narrows == "down" else -1
            assert sign * cut.enqueued()[0][knob.name] <= sign * ends[knob.name]
    assert row == lane.narrowed(p2.candidate(p2.enqueued()[0])).enqueued()[0], "the recorded pair, untouched"


@pytest.mark.plan("P2.R1.2")
def test_p2_r1_closes_once_as_recorded(tmp_path):
    workspace = Workspace.at(tmp_path / "w")
    lane = load_lane("p2_r1").narrowed(load_lane("p2").start)
    closed = play(lane, workspace, track=False)
    assert closed.decision.outcome == "NO_GO" and len(closed.trials) == 1
    assert "trial 0 (guard_entropy)" in closed.decision.reason
    assert Lock.read(closed.lock).lane_document["after"]["jitter"] == 0.16
    assert verify_lock(closed.lock).ok
    with pytest.raises(RefusedError, match="p2_r1-1 stands"):
        play(lane, workspace, track=False)


@pytest.mark.plan("P3.5.1", "P3.5.2")
def test_the_stretch_stays_near_its_authority_and_holds_what_b_won():
    lane = load_lane("p3_stretch")
    rails = {gate.metric: gate for gate in lane.gates.gates if gate.id.startswith("won_")}
    for row in lane.gates_file["gates"]:
        asked = row.get("thresholds", row.get("corridors", {}))
        if row["id"] in lane.document["gates"]["grade"] and row["severity"] == "gate" and "B" in asked:
            (won,) = (rail for rail in lane.document["gates"]["rails"] if rail["id"] == f"won_{row['id']}")
            assert won.get("threshold", won.get("corridor")) == asked["B"] and row["metric"] in rails
    for knob in lane.knobs:
        at = lane.space.start[knob.name]
        assert knob.around and all(abs(end - at) <= knob.around + 1e-9 for end in knob.extent)
    moved = lane.with_authority(lane.authority.with_knobs({"group_mix_regularizer_v1#/max_p_group_soft_cap": 0.9}))
    assert moved.space.by_name["cap"].extent == (0.85, 0.95)
    assert refusal(lane, prospect(lane, None)) is None
    far = lane.authority.with_knobs({"group_mix_regularizer_v1#/regularization_strength": 0.02})
    with pytest.raises(LaneError, match=r"/knobs/strength/around: its upper limit is 0.17"):
        lane.with_authority(far)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LOCAL, "reopen_2a_r2", "reopen_2a_final", "p3_stretch"])
def test_each_closes_with_a_lock_that_verifies(tmp_path, name):
    lane = load_lane(name).with_search(trials=4)
    closed = play(lane, Workspace.at(tmp_path / "w"), track=False)
    assert verify_lock(closed.lock).ok and closed.decision.outcome == ("GO" if name == "p3_stretch" else "NO_GO")
