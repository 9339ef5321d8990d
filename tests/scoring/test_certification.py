"""Certification: the highest band every seed meets and whose cross-seed limits hold; fails closed."""

import statistics

import pytest

from lanelock.policies import PolicyError
from lanelock.scoring.certification import Precondition, certify, conclude
from lanelock.scoring.gates import load_gates, parse_gates
from lanelock.scoring.scorecard import score

METRIC = {"unit": "u", "state": "S1", "worst": "lowest", "what": "w"}
GATE = {"id": "g", "metric": "m/a", "severity": "gate", "comparison": ">=", "thresholds": {"B": 1, "B+": 2}, "why": "w"}
ROSTER = {"id": "r", "metric": "m/r", "severity": "precondition", "comparison": ">=", "threshold": 28, "why": "w"}


def gates(cross=None, *more):
    rows = [GATE, *more]
    document = {
        "id": "mine",
        "title": "t",
        "bands": ["B", "B+"],
        "metrics": {"m/a": METRIC, "m/r": METRIC},
        "gates": rows,
    }
    return parse_gates(document | ({} if cross is None else {"cross_seed": cross}), "mine.json")


def graded(values, held, **more):
    return certify([score({"m/a": x, **more}, held, seed=i, authority=None) for i, x in enumerate(values)], held)


LIMITS = {"metrics": ["m/a"], "cv_at_most": {"B": 0.25, "B+": 0.15}}


@pytest.mark.plan("0.2")
@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((2.0, 2.1, 2.2), "PASS_BPLUS"),
        ((1.9, 2.1, 2.2), "PASS_B"),  # one seed below B+
        ((2.0, 2.0, 2.7), "PASS_B"),  # every seed B+, but they differ by more than B+ allows
        ((2.0, 2.0, 9.0), "FAIL"),  # and by more than B allows
        ((0.9, 2.0, 2.0), "FAIL"),
    ],
)
def test_the_worst_seed_and_the_spread_decide(values, verdict):
    found = graded(values, gates(LIMITS))
    assert found.verdict.name == verdict
    (spread,) = found.spreads
    assert spread.cv == pytest.approx(statistics.stdev(values) / statistics.mean(values))
    assert found.as_document()["cv"][0]["values"] == {str(i): x for i, x in enumerate(values)}


@pytest.mark.plan("3.1.5")
def test_a_shallow_roster_or_a_missing_number_is_no_grade():
    held = gates(LIMITS, ROSTER)
    shallow = graded((2.0, 2.0), held, **{"m/r": 1.0})
    assert shallow.verdict.name == "INVALID" and shallow.reason == "r: 1 against 28 on seed 0"
    assert graded((2.0, 2.0), held).verdict.name == "INVALID"
    assert graded((2.0, 2.0), held, **{"m/r": 28.0}).verdict.name == "PASS_BPLUS"


@pytest.mark.plan("3.4.4")
def test_one_collapsed_seed_fails_although_the_spread_over_many_hides_it():
    held = gates({**LIMITS, "of_median_at_least": 0.8})
    many = [10.0] * 60 + [7.9]
    found = graded(many, held)
    assert found.spreads[0].cv < 0.15 and found.spreads[0].collapsed == (60,)
    assert found.verdict.name == "FAIL" and found.reason.startswith("collapsed: m/a on seed 60; ")
    assert graded([10.0] * 60 + [8.1], held).verdict.name == "PASS_BPLUS"
    assert graded([10.0] * 60 + [12.6], held).spreads[0].collapsed == (60,), "and a seed may not run away upwards"
    assert graded(many, gates(LIMITS)).verdict.name == "PASS_BPLUS", "where the file does not ask, it is not checked"


@pytest.mark.plan("0.4")
def test_the_worse_grade_is_the_verdict_and_a_precondition_leaves_none():
    held = gates()
    good, fair, bad = (graded((x, x), held) for x in (2.0, 1.5, 0.5))
    met, unmet = Precondition("roster", True, "deep"), Precondition("roster", False, "one day")
    assert conclude(good, None, [met], held) == (held.verdict("PASS_BPLUS"), good.reason)
    assert conclude(good, good, [met], held)[0].name == "PASS_BPLUS"
    assert conclude(good, fair, [met], held)[0] == conclude(fair, good, [met], held)[0] == held.of_band("B")
    verdict, reason = conclude(good, bad, [met], held)
    assert verdict.name == "FAIL" and reason == "on the seeds held out: g: 0.5 against 1 on seed 0"
    assert conclude(bad, good, [met], held)[1].startswith("on the seeds asked for: ")
    assert conclude(good, good, [met, unmet], held) == (held.invalid, "roster: one day")


@pytest.mark.plan("3.4.5")
def test_one_seed_shows_no_spread_and_so_passes_no_limit():
    alone = graded((2.0,), gates(LIMITS))
    assert alone.verdict.name == "FAIL" and alone.reason.startswith("one seed shows no spread")
    assert graded((2.0,), gates()).verdict.name == "PASS_BPLUS"


def test_a_limit_on_an_unknown_metric_is_refused():
    with pytest.raises(PolicyError, match="/cross_seed: 'm/x' is neither a metric nor a band"):
        gates({"metrics": ["m/x"], "cv_at_most": {"B": 1}})


@pytest.mark.plan("3.4.1")
def test_segment_2b_limits_what_the_plan_names():
    held = load_gates("segment_2b")
    shared = {name: {"B": 0.25, "B+": 0.15} for name in ("s1/residual", "s4/max_p_median", "s4/entropy_p50")}
    assert held.cross_seed_limits == shared | {"s3/tz_std_median": {"B+": 0.15}}


OWN = {"metrics": ["m/r"], "cv_at_most": {"B": 9, "B+": 9}, "limits": {"m/a": {"B+": 0.1}}, "of_median_at_least": 0.5}


def test_a_metric_may_have_a_limit_of_its_own():
    held = gates(OWN)
    assert held.cross_seed_limits == {"m/r": {"B": 9, "B+": 9}, "m/a": {"B+": 0.1}} and held.least_seeds == 2
    found = graded((10.0, 13.0), held, **{"m/r": 1.0})
    assert found.verdict.name == "PASS_B", "only the higher band limits it"
    assert found.spreads[1].passed == {"B": True, "B+": False} and found.spreads[1].limits == {"B+": 0.1}
    assert graded((10.0, 10.5), held, **{"m/r": 1.0}).verdict.name == "PASS_BPLUS"
    collapsed = graded((10.0, 10.0, 10.0, 4.0), held, **{"m/r": 1.0})
    assert collapsed.verdict.name == "FAIL" and "collapsed: m/a on seed 3" in collapsed.reason
    stricter = gates(OWN | {"metrics": ["m/a"]})
    assert stricter.cross_seed_limits["m/a"] == {"B+": 0.1}, "instead of the shared limit"


@pytest.mark.parametrize(("limits", "said"), [
    ({"m/x": {"B": 1}}, "'m/x' is neither a metric nor a band"),
    ({"m/a": {"A": 1}}, "'A' is neither a metric nor a band"),
    ({"m/a": {"B": 0.1, "B+": 0.2}}, "/cross_seed/limits/m/a: band B\\+ asks"),
])  # fmt: skip
def test_a_limit_of_its_own_is_checked_like_a_shared_one(limits, said):
    with pytest.raises(PolicyError, match=said):
        gates(OWN | {"limits": limits})
