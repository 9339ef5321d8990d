"""What the plan asks of campaigns: on the queue, where one takes seconds, and of those that ship, by their files."""

import json
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
from lanes import QUEUE

from lanelock.policies.documents import read_json, shipped
from lanelock.scoring.gates import load_gates
from lanelock.sweeps.campaign.checks import CHECKS, Closing
from lanelock.sweeps.campaign.phases import BY_GATE, _weighed
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.campaign.records import Result
from lanelock.sweeps.campaign.triggers import evaluated
from lanelock.sweeps.decision.runtime import Runtime
from lanelock.sweeps.workspace import Workspace

CAMPAIGNS = shipped("campaigns", ".json")
campaign_of = cache(load_campaign)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The queue's campaign, with a lane that closes NO_GO and says nothing of what is carried."""
    folder = tmp_path_factory.mktemp("plan")
    document = read_json(QUEUE / "campaign.json")
    del document["record"]
    for phase in document["phases"].values():
        phase.update({key: str(QUEUE / phase[key]) for key in ("pack", "lane") if key in phase})
    few = document["phases"]["few"]
    few["anyway"], few["then"]["NO_GO"] = True, {"next": "grade"}
    document["phases"]["steady"]["then"]["GO"]["next"] = "grade"
    (folder / "campaign.json").write_text(json.dumps(document))
    campaign, workspace = load_campaign(str(folder / "campaign.json")), Workspace.at(folder / "ws")
    standing = play_campaign(campaign, workspace, track=False)
    return campaign, workspace, standing, {record.phase: record for record in standing.records}


@pytest.mark.plan("P2.5.5")
def test_a_no_go_passes_on_the_authority(played):
    rows = played[3]
    assert rows["few"].outcome == "NO_GO" and rows["few"].carried == "authority"
    assert rows["few"].holder.pack.digest == rows["short"].holder.pack.digest


@pytest.mark.plan("4.2.6")
def test_a_phase_beyond_its_budget_is_not_green(played):
    campaign, workspace, standing, rows = played
    record, allowed = rows["short"], rows["short"].tried.lane["budget"]["seconds"]
    for seconds, holds in ((allowed, True), (allowed + 1, False)):
        late = replace(record, seconds=seconds)
        closing = Closing(standing.run, late, {}, campaign.document, campaign.gates, workspace)
        assert CHECKS["runtime"].evaluated(closing).ok is holds


@pytest.mark.plan("P0.2", "P0.3", "P0.4", "4.2.1")
def test_the_baseline_is_pinned_and_measured_on_every_seed_with_its_seconds_by_state(played):
    campaign, _, _, rows = played
    record = rows["start"]
    assert set(record.pinned) == set(record.metrics) == set(campaign.seeds)
    for seed, pin in record.pinned.items():
        run = campaign.engine.evaluate(campaign.phases["start"].pack, seed)
        assert pin.run_id == run.run_id
        assert (pin.manifest_fingerprint, pin.parameter_hash) == (run.world_digest, run.pack.digest)
        assert set(pin.seconds) == {state.name for state in run.states} and pin.total_seconds > 0
        assert record.metrics[seed] == campaign.metrics.measure(run)


@pytest.mark.plan("P0.2")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_p0_is_run_as_far_as_any_gate_reads(name):
    campaign = campaign_of(name)
    read = {campaign.gates.metrics[gate.metric].state for gate in campaign.gates.gates}
    until = campaign.phases["p0"].document.get("until", campaign.until)
    states = campaign.engine.states
    assert {state for state in read if state in states} <= set(states[: states.index(until) + 1])


@pytest.mark.plan("4.2.2", "4.2.3", "4.2.4", "0.3")
def test_each_profile_has_the_plans_seeds_and_minutes():
    stated = {name: (set(row.seeds), row.minutes) for name, row in load_gates("segment_2b").profiles.items()}
    assert stated == {
        "smoke": ({42}, 20), "witness": ({42, 7}, 40), "certification": ({42, 7, 101, 202}, 90),
    }  # fmt: skip


@pytest.mark.plan("P1.1B.5")
def test_downstream_of_an_upstream_that_is_too_slow_is_skipped_and_said_so():
    slow = SimpleNamespace(runtime=Runtime(1.0, 1.3, 1.3, 1.2))
    found = _weighed(SimpleNamespace(material=None), Result(outcome="NO_GO", reason="runtime: too slow"), slow, {})
    assert found.outcome == "NO_GO" and found.reason.endswith(BY_GATE)
    for campaign in map(campaign_of, CAMPAIGNS):
        then = campaign.phases["reopen_1b"].then
        lanes = {name for name, phase in campaign.phases.items() if phase.lane is not None}
        onward = {then[outcome].next for outcome in ("NO_GO", "REFUSED")}
        assert then["GO"].next not in onward or not onward & lanes


def decision(phase, outcome):
    branch = campaign_of("segment_2b_recorded").phases[phase].then[outcome]
    return branch.decision, branch.next


@pytest.mark.parametrize(
    ("phase", "outcome", "name", "onward"),
    [
        pytest.param("p2", "GO", "GO_P3", "p3", marks=pytest.mark.plan("P2.5.4")),
        pytest.param("p2", "NO_GO", "NO_GO_P3", "p2_r1", marks=pytest.mark.plan("P2.5.4")),
        pytest.param("p2_r1", "GO", "GO_P3", "p3", marks=pytest.mark.plan("P2.R1.5")),
        pytest.param("p2_r1", "NO_GO", "NO_GO_P3", "p3", marks=pytest.mark.plan("P2.R1.5")),
        pytest.param("p3", "GO", "GO_P4", "p4", marks=pytest.mark.plan("P3.6.3")),
        pytest.param("p3", "NO_GO", "NO_GO_P4", "p1_reopen", marks=pytest.mark.plan("P3.6.3")),
        pytest.param("p1_reopen", "RETRY", "GO_P3_RETRY", "p3", marks=pytest.mark.plan("P1.RO.6")),
        pytest.param("p1_reopen", "NO_GO", "NO_GO_P1_REOPEN_S1_ONLY", "reopen_2a", marks=pytest.mark.plan("P1.RO.7")),
        pytest.param("reopen_2a", "RETRY", "GO_P3_RETRY_FROM_2A", "p3", marks=pytest.mark.plan("P1.2A.4")),
        pytest.param("reopen_2a", "NO_GO", "NO_GO_P1_REOPEN_2A_ONLY", "reopen_1b", marks=pytest.mark.plan("P1.2A.4")),
        pytest.param("reopen_1b", "REFUSED", "NO_GO_P1_REOPEN_1B_ONLY", "p1_local", marks=pytest.mark.plan("P1.1B.7")),
        pytest.param("reopen_1b", "RETRY", "GO_P3_RETRY_FROM_1B", "p3", marks=pytest.mark.plan("P1.1B.6")),
        pytest.param("p1_local", "RETRY", "GO_P3_RETRY_FROM_2B_LOCAL", "p3", marks=pytest.mark.plan("P1L.8")),
        pytest.param("p1_local", "REFUSED", "NO_GO_P1_LOCAL_RECOVERY", "allow_synthetic_local_groups",
                     marks=pytest.mark.plan("P1L.5")),
        pytest.param("allow_synthetic_local_groups", "NO", "ALLOW_SYNTHETIC_LOCAL_GROUPS_NO", "reopen_2a_r2",
                     marks=pytest.mark.plan("P1L.12")),
        pytest.param("reopen_2a_r2", "RETRY", "GO_P3_RETRY_FROM_2A_R2", "p3", marks=pytest.mark.plan("P1.R2.5")),
        pytest.param("reopen_2a_r2", "NO_GO", "NO_GO_P1_REOPEN_2A_R2", "reopen_2a_final",
                     marks=pytest.mark.plan("P1.R2.5")),
        ("reopen_2a_final", "NO_GO", "NO_GO_P1_REOPEN_2A_FINAL", "p4"),
        ("reopen_2a_final", "RETRY", "NO_GO_P1_REOPEN_2A_FINAL", "p4"),
    ],
)  # fmt: skip
def test_the_recorded_cycle_has_its_decisions(phase, outcome, name, onward):
    assert decision(phase, outcome) == (name, onward)


@pytest.mark.parametrize(
    ("phase", "floors"),
    [
        pytest.param("p1_reopen", {"s4/single_group_share"}, marks=pytest.mark.plan("P1.RO.6")),
        pytest.param("reopen_2a", {"s4/single_group_share"}, marks=pytest.mark.plan("P1.2A.4")),
        pytest.param("reopen_2a_r2", {"s4/single_group_share"}, marks=pytest.mark.plan("P1.R2.3")),
        pytest.param("reopen_1b", {"s4/single_group_share"}, marks=pytest.mark.plan("P1.1B.6")),
        pytest.param("p1_local", {"s4/single_group_share"}, marks=pytest.mark.plan("P1L.8")),
    ],
)
def test_a_reopen_earns_its_retry_by_a_stated_move_toward_b_and_once(phase, floors):
    found = campaign_of("segment_2b_recorded").phases[phase]
    assert found.material.metric in floors and found.material.by >= 0.01 and found.material.high == 0.35
    assert found.then["RETRY"].at_most == 1


def test_the_last_reopen_goes_back_only_where_its_material_move_reaches_the_limit_of_the_tail():
    campaign = campaign_of("segment_2b_recorded")
    phase, gates = campaign.phases["reopen_2a_final"], campaign.gates
    (back,) = phase.cases["RETRY"]
    assert (phase.material.by, back.next, back.at_most, back.decision) == (0.02, "p3", 1, "GO_P3_RETRY_FROM_2A_FINAL")
    for floor, holds in ((0.407916, False), (0.36, False), (0.35, True), (0.3, True)):
        share = {"s4/single_group_share": 0.3}
        metrics = {42: share, 7: {"s4/single_group_share": floor}}  # the worst seed counts
        assert evaluated(back.when, metrics, {}, gates).holds is holds
    after = phase.then["RETRY"]
    assert (after.next, after.carry, after.decision) == ("p4", "authority", "NO_GO_P1_REOPEN_2A_FINAL")


@pytest.mark.plan("P3.5.3")
def test_after_an_accepted_b_the_stretch_is_played_and_what_stood_goes_on_where_it_fails():
    phases = campaign_of("segment_2b").phases
    assert phases["p3"].then["GO"].next == "p3_stretch" and phases["p3_stretch"].lane.id == "p3_stretch"
    then = phases["p3_stretch"].then
    assert {(row.next, row.carry) for row in (then["NO_GO"], then["REFUSED"])} == {("p4", "authority")}
    assert (then["GO"].next, then["GO"].carry) == ("p4", "candidate")
    assert phases["p3_stretch"].lane.document["decision"]["accept_band"] == "B+"


@pytest.mark.plan("P1.RO.5", "P1.2A.3")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_lane_states_the_three_shares_of_the_floor(name):
    campaign = campaign_of(name)
    assert set(campaign.floors) == {"s4/single_group_share", "s4/tail_share", "s4/tail_share_multi"}
    assert all("floors" in phase.done_when for phase in campaign.phases.values() if phase.kind == "lane")


@pytest.mark.plan("0.6", "P0.5", "4.0.4", "P1.7", "P1.9", "P2.5.2", "P3.6.2")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_phase_has_a_checklist_that_begins_with_pruning(name):
    for phase in campaign_of(name).phases.values():
        assert phase.done_when, phase.id
        if phase.kind in ("authority", "lane"):
            assert {"decided", "pruned", "runtime"} <= set(phase.done_when), phase.id
        if phase.kind == "lane":
            assert {"locked", "lock_pair", "replayed"} <= set(phase.done_when), phase.id


@pytest.mark.plan("P1L.10")
def test_the_recorded_question_was_answered_no_beforehand():
    phase = campaign_of("segment_2b_recorded").phases["allow_synthetic_local_groups"]
    assert phase.kind == "question" and phase.document["answer"]["is"] == "no"
    assert phase.document["answer"]["who"] and phase.document["answer"]["why"]


@pytest.mark.plan("P2.R1.1", "P2.R1.2")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_recovery_is_a_single_attempt_after_p2(name):
    phase = campaign_of(name).phases["p2_r1"]
    assert (
        phase.document["after"] == "p2" and phase.lane.document["attempts"] == 1 and "single_attempt" in phase.done_when
    )


@pytest.mark.plan("P4.6")
def test_the_recorded_certification_was_waived_and_says_by_whom():
    skipped = campaign_of("segment_2b_recorded").phases["p4"].document["skipped"]
    assert skipped["who"] and skipped["why"]


@pytest.mark.plan("P5.10")
def test_the_recorded_phases_follow_each_other_as_they_did():
    """Along the branches that the record took."""
    phases, took = campaign_of("segment_2b_recorded").phases, {
        "p0": "GO", "p1": "GO", "p2": "NO_GO", "p2_r1": "NO_GO", "p3": "NO_GO", "p1_reopen": "NO_GO",
        "reopen_2a": "NO_GO", "reopen_1b": "REFUSED", "p1_local": "REFUSED", "allow_synthetic_local_groups": "NO",
        "reopen_2a_r2": "NO_GO", "reopen_2a_final": "RETRY", "p4": "NO_GO",
    }  # fmt: skip
    seen = ["p0"]
    while seen[-1] in took:
        seen.append(phases[seen[-1]].then[took[seen[-1]]].next)
    assert seen == [*took, "p5"] and phases["p5"].kind == "freeze"
