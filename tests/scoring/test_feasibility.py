"""No bound is ever beaten: every shipped lane's knob box, searched at random, on small worlds and the reference one."""

import random

import pytest

from lanelock.policies.documents import shipped
from lanelock.scoring.feasibility import Bound, Box, frozen, tightest
from lanelock.sweeps.decision.decision import refusal
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import prospect

LANES = sorted(shipped("lanes", ".json"))
SMALL = {"world_v1#/merchants/count": 90, "day_effect_policy_v1#/horizon/days": 6}
SLACK = 1e-9  # of a number printed by two routes


def small(lane):
    return lane.with_authority(lane.authority.with_knobs(SMALL))


def box_of(lane, seed):
    def run(pack, until):
        return lane.engine.evaluate(pack, seed, until=until)

    moves = {knob.at: knob.ends() for knob in lane.knobs}
    return Box(lane.start, moves, frozenset(knob.at for knob in lane.knobs if knob.choices), run)


def bounds_of(lane, seed):
    box = box_of(lane, seed)
    return [*lane.metrics.bounds(box), *frozen(box, lane.engine.states, lane.gates, lane.measure)]


def draw(lane, dice, corner):
    """Knob values anywhere in the box, or, for a corner, each at one of its ends."""
    values = {}
    for knob in lane.knobs:
        ends = knob.choices or (knob.low, knob.high)
        if corner or knob.choices:
            values[knob.name] = dice.choice(ends)
        else:
            values[knob.name] = dice.randint(*ends) if knob.integral else dice.uniform(*ends)
    return lane.candidate(values)


def assert_never_beaten(lane, seed, trials):
    dice, bounds = random.Random(seed), bounds_of(lane, seed)
    assert bounds, "a lane without any bound proves nothing here"
    for trial in range(trials):
        run = lane.engine.evaluate(draw(lane, dice, trial % 2 == 0), seed, until="S4")
        found = lane.measure(run)
        for bound in bounds:
            value = found.get(bound.metric)
            if value is None:
                continue
            if bound.kind in ("at_least", "exactly"):
                assert value >= bound.value - SLACK, (bound, value)
            if bound.kind in ("at_most", "exactly"):
                assert value <= bound.value + SLACK, (bound, value)


@pytest.mark.plan("P3.6.4", "P1L.3")
@pytest.mark.parametrize("name", LANES)
def test_no_bound_is_beaten_on_small_worlds(name):
    for seed in (3, 42):
        assert_never_beaten(small(load_lane(name)), seed, 24)


@pytest.mark.parametrize("name", LANES)
def test_no_bound_is_beaten_on_the_reference_world(name):
    assert_never_beaten(load_lane(name), 42, 6)


def test_a_corner_is_reached():
    """The bound of a lane of S4 alone is not only never beaten: its own corner meets it."""
    lane = small(load_lane("p3_wide"))
    bounds = {bound.metric: bound for bound in bounds_of(lane, 7) if "corner" in bound.proof}
    least = bounds.pop("s4/intervention")
    for ends, reached in (
        ({"cap": 0.6, "strength": 1.0, "entropy_floor": 0.6, "knee": 0.5}, bounds),
        ({"cap": 0.95, "strength": 0.2, "entropy_floor": 0.2, "knee": 8.0}, {"s4/intervention": least}),
    ):
        found = lane.measure(lane.engine.evaluate(lane.candidate(ends), 7, until="S4"))
        assert reached and all(found[name] == pytest.approx(bound.value, abs=1e-9) for name, bound in reached.items())


@pytest.mark.plan("P3.6.4", "P3.6.5", "P1L.9")
def test_the_floor_names_the_world_and_p3_is_refused():
    lane = load_lane("p3")
    found = prospect(lane, None)
    refused = refusal(lane, found)
    rows = {row.gate: row for row in found}
    assert rows["s4_tail"].bound == pytest.approx(598 / 1238) and rows["s4_tail"].movable_by == "2A, 1B"
    assert rows["s4_tail"].reachable == {"B": False, "B+": False} and "598 of 1238" in rows["s4_tail"].proof
    assert rows["s1_gap"].movable_by == "S1" and rows["s1_gap"].reachable == {"B": True, "B+": True}
    assert refused is not None and refused.outcome == "NO_GO" and [row.gate for row in refused.blockers] == ["s4_tail"]
    assert refusal(load_lane("p3_wide"), prospect(load_lane("p3_wide"), None)) is None


def test_a_gate_of_a_frozen_state_is_refused_on_what_the_authority_measures():
    lane = load_lane("p3")
    even = lane.authority.with_knobs({"alias_layout_policy_v1#/law": "uniform"})
    rows = {row.gate: row for row in prospect(small(lane.with_authority(even)), None)}
    assert rows["s1_residual"].bound == 0 and rows["s1_residual"].reachable == {"B": False, "B+": False}
    assert rows["s1_residual"].movable_by == "S1" and "frozen" in rows["s1_residual"].proof


def test_of_several_bounds_the_tightest_of_each_kind_stands():
    rows = [
        Bound("m/a", "at_least", 1.0, "loose", "x"),
        Bound("m/a", "at_least", 2.0, "tight", "x"),
        Bound("m/a", "at_most", 9.0, "loose", "x"),
        Bound("m/a", "at_most", 5.0, "tight", "x"),
    ]
    assert [(bound.kind, bound.value) for bound in tightest(rows)["m/a"]] == [("at_least", 2.0), ("at_most", 5.0)]
