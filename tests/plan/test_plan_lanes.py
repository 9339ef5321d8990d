"""What the shipped lanes and campaigns of segment 2B may do, read from their files and held to the plan."""

from functools import cache

import pytest

from lanelock.policies.documents import read_json, shipped
from lanelock.policies.pack import first_state, split_address
from lanelock.scoring.gates import Severity
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.lanes.lane import load_lane

LANES, CAMPAIGNS = shipped("lanes", ".json"), shipped("campaigns", ".json")
lane_of, campaign_of = cache(load_lane), cache(load_campaign)
BEFORE_REOPENS = ("p1", "p2", "p2_r1", "p3")
UPSTREAM = {"1A", "1B", "2A"}
CAUSAL = ("S1", "S3", "S4")
S1_METRICS = {"s1/residual", "s1/gap", "s1/hhi_iqr"}


def moved(lane, *, fixed=False):
    """The states whose policies a lane's knobs, or its fixed fields, may change."""
    addresses = lane.document["fixed"] if fixed else [knob.at for knob in lane.knobs]
    return {first_state(lane.authority.schemas[name], at) for name, at in map(split_address, addresses)}


def gates(lane, *severities):
    """Metric -> gates of these severities that a lane grades by."""
    return {gate.metric: gate for gate in lane.gates.gates if gate.severity in severities}


def equalities(lane):
    """The metrics that a lane holds to its authority's value."""
    return {row["metric"] for row in lane.document["gates"]["rails"]
            if row["comparison"] == "==" and row["relative_to_authority"] == {"plus": 0}}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "states"),
    [
        pytest.param("p1", {"S1"}, marks=pytest.mark.plan("2.2")),
        pytest.param("p2", {"S3"}, marks=pytest.mark.plan("2.2", "P2.0.5")),
        pytest.param("p2_r1", {"S3"}, marks=pytest.mark.plan("2.2")),
        pytest.param("p3", {"S4"}, marks=pytest.mark.plan("2.2", "P3.0.4", "P3.4.1")),
        pytest.param("p1_reopen", {"S1"}, marks=pytest.mark.plan("P1.RO.2")),
        pytest.param("reopen_2a", {"2A"}, marks=pytest.mark.plan("P1.2A.1")),
        pytest.param("reopen_2a_r2", {"2A"}, marks=pytest.mark.plan("P1.R2.1")),
        ("reopen_2a_final", {"2A"}),
        pytest.param("reopen_1b", {"1B"}, marks=pytest.mark.plan("P1.1B.1")),
    ],
)
def test_a_lane_tunes_its_own_state_alone(name, states):
    assert moved(lane_of(name)) == states


@pytest.mark.plan("1.10")
@pytest.mark.parametrize("name", BEFORE_REOPENS)
def test_before_the_reopens_nothing_upstream_moves(name):
    assert not (moved(lane_of(name)) | moved(lane_of(name), fixed=True)) & UPSTREAM


@pytest.mark.plan("2.1", "P3.0.4")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_campaign_goes_by_cause_from_baseline_to_freeze(name):
    """Its phases in the file's order, where each state is first tuned, and the branches taken when all is well."""
    phases = campaign_of(name).phases
    tuned = [state for phase in phases.values() if phase.lane is not None
             for state in moved(phase.lane) if state in CAUSAL]  # fmt: skip
    assert tuple(dict.fromkeys(tuned)) == CAUSAL
    document = campaign_of(name).document
    row, seen = document["phases"][document["first"]], [document["first"]]
    while row["kind"] != "freeze":
        seen.append(row["then"]["GO"]["next"])
        row = document["phases"][seen[-1]]
    measured = [f"popt{step}" for step in range(6)] * (name == "segment_2b_recorded")
    stretched = ["p3_stretch"] * (name == "segment_2b")
    assert seen == [*measured, "p0", "p1", "p2", "p3", *stretched, "p4", "p5"]


@pytest.mark.plan("1.7")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_merchants_are_frozen(name):
    assert "1A" in campaign_of(name).document["frozen"]


@pytest.mark.plan("1.8")
def test_the_recorded_campaign_keeps_the_layout_of_sites():
    recorded = campaign_of("segment_2b_recorded")
    assert "keeps 1B frozen" in recorded.frozen_move(lane_of("reopen_1b"))
    assert all(recorded.frozen_move(lane_of(name)) is None for name in BEFORE_REOPENS)


@pytest.mark.plan("0.7")
@pytest.mark.parametrize("name", LANES)
def test_a_lane_aims_at_the_highest_band_and_takes_no_less_than_the_lowest(name):
    document = lane_of(name).document
    assert document["objectives"][0] == {"name": "margin", "direction": "maximize", "worst_margin": "B+"}
    assert document["decision"]["accept_band"] in ("B", "B+")


@pytest.mark.plan("2.8")
@pytest.mark.parametrize("name", LANES)
def test_no_lane_maximises_a_veto_or_a_rail(name):
    lane = lane_of(name)
    held = gates(lane, Severity.VETO, Severity.RAIL).keys() - gates(lane, Severity.GATE).keys()
    assert held and not {row.metric for row in lane.objectives} & held


@pytest.mark.plan("2.4", "2.5")
@pytest.mark.parametrize("name", LANES)
def test_alias_tables_and_edges_are_tuned_by_no_lane(name):
    lane = lane_of(name)
    addresses = {*lane.document["fixed"], *(knob.at for knob in lane.knobs)}
    assert not [at for at in addresses if "quantised_bits" in at or at.startswith("virtual_edge_policy")]


@pytest.mark.plan("P1.1", "P2.0.1")
@pytest.mark.parametrize(
    ("name", "address", "old", "new"),
    [
        ("p1", "alias_layout_policy_v1#/law", "uniform", "profile_mixture_v2"),
        ("p2", "day_effect_policy_v1#/law", "scalar_sigma_v1", "sigma_gamma_policy_v2"),
        ("p2_r1", "day_effect_policy_v1#/law", "scalar_sigma_v1", "sigma_gamma_policy_v2"),
    ],
)
def test_the_lane_leaves_the_old_law(name, address, old, new):
    policy, pointer = split_address(address)
    lane, field = lane_of(name), pointer.removeprefix("/")
    assert lane.authority[policy][field] == old and lane.start[policy][field] == new
    assert address not in {knob.at for knob in lane.knobs}, "no trial goes back to it"


@pytest.mark.plan("P2.0.5", "P3.0.4", "P3.0.7")
@pytest.mark.parametrize("name", ["p2", "p2_r1", "p3"])
def test_what_s1_won_is_held_exactly(name):
    assert equalities(lane_of(name)) >= S1_METRICS
    assert all(gates(lane_of(name), Severity.RAIL)[metric].tolerance <= 1e-12 for metric in S1_METRICS)


@pytest.mark.plan("P3.0.7")
def test_what_s3_won_is_held_in_p3():
    assert "s3/merchant_std_median" in equalities(lane_of("p3"))


@pytest.mark.plan("P2.1.2")
@pytest.mark.parametrize("name", LANES)
def test_every_knob_has_two_ends_or_its_choices(name):
    for knob in lane_of(name).knobs:
        assert knob.choices or knob.low < knob.high, knob.name


@pytest.mark.plan("P2.4.1")
@pytest.mark.parametrize("name", ["p2", "p2_r1"])
def test_the_lanes_of_s3_see_both_witness_seeds(name):
    assert {42, 7} <= set(lane_of(name).seeds)


@pytest.mark.plan("P2.4.2", "P2.4.4")
@pytest.mark.parametrize("name", ["p2", "p2_r1"])
def test_the_lanes_of_s3_grade_spread_and_veto_instability(name):
    assert "s3/merchant_std_median" in gates(lane_of(name), Severity.GATE)
    assert {"s3/clipped_share", "s3/nonpositive_rows"} <= gates(lane_of(name), Severity.VETO).keys()


@pytest.mark.plan("P2.4.5")
@pytest.mark.parametrize("name", ["p2", "p2_r1"])
def test_s4_is_guarded_by_the_baseline_while_s3_is_tuned(name):
    rails = {row["metric"]: row for row in lane_of(name).document["gates"]["rails"]}
    for metric in ("s4/max_p_median", "s4/entropy_p50"):
        assert rails[metric]["relative_to_authority"]["of"] == "baseline"
    assert lane_of(name).references["baseline"].name == "baseline"


@pytest.mark.plan("P2.R1.3")
def test_the_recovery_is_graded_as_p2_was():
    first, again = (read_json(LANES[name])["gates"] for name in ("p2", "p2_r1"))
    assert first == again


@pytest.mark.plan("P3.4.4", "P3.0.6")
@pytest.mark.parametrize("name", ["p3", "p3_wide", "joint"])
def test_the_lanes_of_s4_veto_inverted_ranks_piles_and_cliffs(name):
    assert {"s4/rank_inversions", "s4/cliff", "s4/atom_share"} <= gates(lane_of(name), Severity.VETO).keys()


@pytest.mark.plan("P1L.13")
@pytest.mark.parametrize("name", [name for name in LANES if "s4_tail" in read_json(LANES[name])["gates"]["grade"]])
def test_whoever_grades_the_tail_vetoes_groups_that_nothing_backs(name):
    assert "s4/groups_without_site" in gates(lane_of(name), Severity.VETO)


@pytest.mark.plan("P1.1B.3")
def test_the_lane_of_the_sites_states_the_runtime_that_it_allows():
    assert lane_of("reopen_1b").document["runtime"]["at_most_times"] <= 1.2


@pytest.mark.plan("P1.2A.6")
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_zones_escalate_to_the_layout(name):
    then = campaign_of(name).document["phases"]["reopen_2a"]["then"]
    assert then["NO_GO"]["next"] == then["REFUSED"]["next"] == "reopen_1b"


ZONES, CENTRE = {"s3/tz_nonzero_share", "s3/tz_std_median"}, {"s3/gamma_mean", "s3/gamma_std"}


@pytest.mark.plan("P2.0.3", "P2.4.3")
@pytest.mark.parametrize("name", ["p2", "p2_r1"])
def test_the_lanes_of_s3_grade_zones_centre_and_spread(name):
    assert gates(lane_of(name), Severity.GATE).keys() >= ZONES | CENTRE


@pytest.mark.plan("P1.5", "P2.R1.4", "P3.3.4")
@pytest.mark.parametrize("name", LANES)
def test_alias_parity_is_a_veto_wherever_s1_is_computed(name):
    lane = lane_of(name)
    assert "s2/alias_error" in gates(lane, Severity.VETO) and lane.until >= "S2"


@pytest.mark.plan("P3.3.4")
def test_all_that_s3_won_is_held_in_p3():
    assert {"s3/merchant_std_median"} | ZONES | CENTRE <= equalities(lane_of("p3"))


@pytest.mark.plan("P1L.7")
@pytest.mark.parametrize("name", ["p1_reopen", "reopen_2a", "reopen_1b"])
def test_a_reopen_holds_what_s4_won_beside_the_tail(name):
    rails = {row["metric"]: row for row in lane_of(name).document["gates"]["rails"]}
    for metric, sign in (("s4/max_p_median", "<="), ("s4/multigroup_share", ">="), ("s4/entropy_p50", ">=")):
        assert rails[metric]["comparison"] == sign and abs(rails[metric]["relative_to_authority"]["plus"]) <= 0.03
