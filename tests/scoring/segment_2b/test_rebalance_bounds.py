"""What a rebalance of zones may give: no bound is beaten in any box of it, and a rail keeps it out of certification."""

import json
import random

import pytest

from lanelock.engine.segment_2b.run import SEGMENT_2B as ENGINE
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.policies.documents import read_json, shipped
from lanelock.scoring.feasibility import Box
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.sweeps.decision.decision import refusal
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import prospect

REBALANCE = "world_v1#/zones/rebalance"
SMALL = {"world_v1#/merchants/count": 120, "day_effect_policy_v1#/horizon/days": 2}
RANGES = {
    "caps/sites": (0.0, 0.05), "caps/country": (0.0, 0.25), "caps/merchant": (0.0, 0.5), "least_sites": (2, 12),
    "least_span_deg": (0.0, 12.0), "greatest_km": (1.0, 500.0),
}  # fmt: skip
WIDEST = {
    "enabled": True, "caps": {"sites": 0.05, "country": 0.25, "merchant": 0.5}, "least_sites": 2, "least_span_deg": 0,
    "greatest_km": 500,
}  # fmt: skip


@pytest.fixture(scope="module")
def lane():
    return load_lane("reopen_2a_final")


def box_of(lane, start, moves, seed=42, world=None):
    def run(pack, until):
        return ENGINE.evaluate(pack, seed, until=until, world=world)

    return Box(start, moves, frozenset(at for at in moves if at.endswith("/enabled")), run)


def bounds_of(lane, box):
    return {bound.metric: bound for bound in lane.metrics.bounds(box)}


def any_value(dice, ends):
    low, high = ends
    return (
        dice.choice(ends)
        if dice.random() < 0.5
        else dice.randint(*ends)
        if isinstance(low, int)
        else dice.uniform(low, high)
    )


def test_no_bound_is_beaten_in_any_box_of_the_rebalance(lane):
    dice, lowered = random.Random(2026), 0
    for seed in (1, 42, 77):
        fields = dice.sample(sorted(RANGES), 4)
        moves = {
            f"{REBALANCE}/{name}": tuple(sorted(any_value(dice, RANGES[name]) for _ in range(2))) for name in fields
        }
        moves[f"{REBALANCE}/enabled"] = (False, True)
        start = lane.start.with_knobs(SMALL | {REBALANCE: WIDEST})
        box = box_of(lane, start, moves, seed)
        bounds = bounds_of(lane, box)
        floor, plain = bounds["s4/single_group_share"], None
        for trial in range(12):
            values = {
                at: dice.choice(ends) if at in box.choices else any_value(dice, ends) for at, ends in moves.items()
            }
            values |= (
                {} if trial else {at: (max if "caps" in at or "km" in at else min)(ends) for at, ends in moves.items()}
            )
            values |= {} if trial else {f"{REBALANCE}/enabled": True}
            found = lane.measure(ENGINE.evaluate(start.with_knobs(values), seed, until="S4"))
            plain = max(plain or 0.0, found["s4/single_group_share"])
            for metric, bound in bounds.items():
                if metric in found:
                    sign = 1.0 if bound.kind == "at_least" else -1.0
                    assert sign * found[metric] >= sign * bound.value - 1e-9, (bound, found[metric], values)
        lowered += floor.value < plain
    assert lowered, "a bound that never leaves the floor where it stood proves nothing"


def test_a_box_that_no_law_covers_has_no_bound_on_groups(lane):
    start = lane.start.with_knobs(SMALL)
    nudge = {"world_v1#/zones/tz_nudge/epsilon_deg": (0.0, 0.5)}
    assert "s4/single_group_share" not in bounds_of(lane, box_of(lane, start, nudge)), "the rebalance follows the nudge"
    off = start.with_knobs({f"{REBALANCE}/enabled": False})
    assert "s4/single_group_share" in bounds_of(lane, box_of(lane, off, nudge))
    both = nudge | {f"{REBALANCE}/greatest_km": (50.0, 200.0)}
    assert "s4/single_group_share" not in bounds_of(lane, box_of(lane, start, both))
    breadth = {"world_v1#/breadth/breadth": (1.0, 2.0)}
    assert "s4/single_group_share" not in bounds_of(lane, box_of(lane, start, breadth))


def test_the_floor_of_a_frozen_world_names_what_2a_and_1b_could_give(lane, tmp_path):
    frozen = {"group_mix_regularizer_v1#/regularization_strength": (0.0, 1.0)}
    off = lane.start.with_knobs({f"{REBALANCE}/enabled": False})
    floor = bounds_of(lane, box_of(lane, off, frozen))["s4/single_group_share"]
    assert floor.movable_by == "2A, 1B" and floor.value == 598 / 1238
    stated = floor.proof.split("(2A) could lower that share by ")[1].split(" at most")[0]
    most = ENGINE.evaluate(off.with_knobs({REBALANCE: WIDEST}), 42, until="S0").upstream.rebalance
    given_by_most = most.single_group_share_before - most.single_group_share_after
    assert 0.07 < given_by_most <= float(stated) + 1e-6 < 0.2

    small = off.with_knobs(SMALL)
    write_world(ENGINE.open_world(small, 42, None), tmp_path)
    given = box_of(lane, small, frozen, world=tmp_path)
    assert bounds_of(lane, given)["s4/single_group_share"].movable_by == "1B", "a table that gives zones is not moved"
    for name in ("world_receipt.json", "_passed.flag", "site_timezones.parquet"):
        (tmp_path / name).unlink()
    assert bounds_of(lane, given)["s4/single_group_share"].movable_by == "2A, 1B"


def test_the_final_lane_cannot_reach_the_tail_and_holds_a_candidate_that_moves_the_floor_as_recorded(lane):
    refused = refusal(lane, prospect(lane, None))
    assert refused is not None and [row.gate for row in refused.blockers] == ["s4_tail"]
    (candidate,) = lane.enqueued()
    world = ENGINE.evaluate(lane.candidate(candidate), 42, until="S0").upstream
    moved = world.rebalance.single_group_share_before - world.rebalance.single_group_share_after
    assert moved == pytest.approx(0.075, abs=0.01) and world.rebalance.single_group_share_after > 0.35


def test_the_certified_campaign_may_not_use_it(packs):
    """By its gates: a candidate that moves the floor so is not realistic. None of its lanes moves it either."""
    gates = load_gates("segment_2b").select(
        ["world_local_groups", "world_zones", "world_coordinates", "world_countries"]
    )
    metrics = load_lane("reopen_2a_final").metrics.measure
    rules = {**WIDEST, "caps": {"sites": 0.02, "country": 0.05, "merchant": 0.2}, "least_sites": 6, "greatest_km": 200}
    for seed in (42, 7):
        plain, moved = (
            score(metrics(ENGINE.evaluate(pack, seed, until="S0")), gates, seed=seed, authority=None)
            for pack in (packs("p3_wide"), packs("p3_wide").with_knobs({REBALANCE: rules}))
        )
        assert plain.vetoed == () and moved.vetoed == ("world_local_groups",)
    campaign = read_json(shipped("campaigns", ".json")["segment_2b"])
    lanes = [phase["lane"] for phase in campaign["phases"].values() if "lane" in phase]
    assert not any("rebalance" in json.dumps(load_lane(name).document) for name in lanes)
    assert all("world_local_groups" in load_lane(name).document["gates"]["grade"] for name in ("reopen_1b", "joint"))
