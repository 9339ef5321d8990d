"""Why a trial is not the one that is taken: the first thing in which the decision's own order parts the two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import lane_with

from lanelock.sweeps.decision.behind import FIRST, behind
from lanelock.sweeps.decision.decision import _rank, ranking
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial, TrialRecord

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    lane = lane_with(tmp_path_factory.mktemp("lane"))
    return Ground(lane, None, {1: {}, 2: {}, 3: {}}, ())


def trial(ground, number, wait=0.1, servers=8, seeds=SEEDS, failure=""):
    """A trial of the queue that measured the same on each of its seeds."""
    row = {"q1/wait_p90": wait, "q1/served_at_once": 0.9, "q1/servers": float(servers)}
    measures = {} if failure else dict.fromkeys(seeds, row)
    record = TrialRecord(measures, "0" * 64, {}, {}, {}, 0, failure=failure)
    cards = [ground.graded(seed, metrics) for seed, metrics in measures.items()]
    values = {"servers": servers, "service": 1.0}
    if failure:
        return Trial(number, values, None, {}, record)
    return Trial(number, values, objectives_of(ground, cards), constraints_of(cards), record)


def said(ground, *trials):
    """Trial number -> what is said of it."""
    ledger = Ledger(ground)
    best, reserve = ranking(trials, ledger)[0], reserve_of(trials, ledger)
    return {one.number: behind(one, best, ledger, reserve) for one in trials}


rows = st.fixed_dictionaries({
    "wait": st.sampled_from([0.0, 0.1, 0.2, 0.24, 0.25, 0.5, 1.0, 2.0, 30.0]),
    "servers": st.integers(6, 9),
    "seeds": st.sampled_from([SEEDS[:1], SEEDS[:2], SEEDS, SEEDS]),
    "failure": st.sampled_from(["", "", "", "a leak"]),
})  # fmt: skip


@given(st.lists(rows, min_size=1, max_size=8))
def test_what_is_said_is_the_first_place_in_which_the_orders_key_is_less(ground, drawn):
    trials = [trial(ground, number, **row) for number, row in enumerate(drawn)]
    ledger = Ledger(ground)
    best, reserve = ranking(trials, ledger)[0], reserve_of(trials, ledger)
    places = [("vetoed", "stopped"), ("vetoed",), ("band",), ("reserve",), ("objective",), ("objective",)]
    for one in trials:
        found, ours, theirs = (
            behind(one, best, ledger, reserve),
            _rank(one, ledger, reserve),
            _rank(best, ledger, reserve),
        )
        assert (found.kind == FIRST) == (one is best) and found.text
        if one.failed or one is best:
            assert found.kind == ("failed" if one is not best else FIRST)
            continue
        place = next((at for at, (less, more) in enumerate(zip(ours, theirs, strict=True)) if less < more), None)
        assert found.kind in (
            ("later", "vetoed", "stopped") if place is None else (*places[place], "vetoed", "stopped")
        )
        if ledger.acceptable(one):
            assert found.kind == "later" if place is None else found.kind in places[place]


def test_each_reason_in_its_words(ground):
    found = said(
        ground,
        trial(ground, 0, servers=8),
        trial(ground, 1, servers=10),
        trial(ground, 2, servers=6, wait=0.2475),
        trial(ground, 3, servers=6, wait=0.5),
        trial(ground, 4, servers=6, wait=30.0),
        trial(ground, 5, servers=6, seeds=SEEDS[:1]),
        trial(ground, 6, failure="a leak"),
        trial(ground, 7, servers=8),
        trial(ground, 8, servers=8, wait=0.11),
    )
    texts = {number: (row.kind, row.text) for number, row in found.items()}
    assert texts == {
        0: (FIRST, "first in the decision's order"),
        1: ("objective", "servers 10 against 8, higher by 25 %"),
        2: ("reserve", "margin 0.0025 is below the reserve 0.05"),
        3: ("band", "holds B, the first holds B+"),
        4: ("vetoed", "vetoed by crowd"),
        5: ("stopped", "stopped early: it was behind on the first seeds"),
        6: ("failed", "failed: a leak"),
        7: ("later", "equal to trial 0, but later"),
        8: ("objective", "margin 0.14 against 0.15, lower by 6.67 %"),
    }


def test_where_no_trial_reaches_the_reserve_the_first_objective_alone_parts_them(ground):
    found = said(ground, trial(ground, 0, wait=0.24, servers=9), trial(ground, 1, wait=0.245, servers=6))
    assert (
        found[1].kind == "reserve" and found[1].text == "margin 0.005 against 0.01; no trial reaches the reserve 0.05"
    )


def test_a_lane_with_one_objective_has_no_reserve(tmp_path):
    lane = lane_with(
        tmp_path, objectives=[{"name": "servers", "direction": "minimize", "metric": "q1/servers"}],
        decision={"accept_band": "B", "margin_reserve": 0},
    )  # fmt: skip
    one = Ground(lane, None, {1: {}, 2: {}, 3: {}}, ())
    found = said(one, trial(one, 0, servers=7), trial(one, 1, servers=9))
    assert found[1].kind == "objective" and "higher by 28.6 %" in found[1].text


def test_a_difference_to_nothing_is_no_percentage(ground):
    found = said(ground, trial(ground, 0, servers=0), trial(ground, 1, servers=3))
    assert found[1].text == "servers 3 against 0, 3 higher"
