"""Gates are data; a missing number never passes; the worst seed decides."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.policies.documents import read_json, shipped, shipped_schema, validate
from lanelock.scoring.feasibility import Bound, reach
from lanelock.scoring.gates import GateSet, load_gates, parse_gates
from lanelock.scoring.scorecard import MISSING, combine, score
from lanelock.sweeps.pages.scorecard import scorecard_markdown


def gates_of(*rows, **metrics) -> GateSet:
    """A gate set over metrics m/a, m/b, …; rows are the fields that matter."""
    names = {row["metric"] for row in rows} | set(metrics)
    described = {
        name: {"unit": "u", "state": "S1", "worst": metrics.get(name, "lowest"), "what": "w"} for name in names
    }
    full = [{"id": f"g{i}", "severity": "gate", "comparison": ">=", "why": "w", **row} for i, row in enumerate(rows)]
    return parse_gates(
        {"id": "mine", "title": "t", "bands": ["B", "B+"], "metrics": described, "gates": full}, "mine.json"
    )


BANDED = {"metric": "m/a", "thresholds": {"B": 1.0, "B+": 2.0}}


@pytest.mark.plan("0.1")
@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.99, "FAIL"), (1.0, "PASS_B"), (1.99, "PASS_B"), (2.0, "PASS_BPLUS"), (math.nan, "INVALID"),
     (None, "INVALID"), (math.inf, "INVALID")],
)  # fmt: skip
def test_the_verdict_is_the_highest_band_met(value, verdict):
    measures = {} if value is None else {"m/a": value}
    assert score(measures, gates_of(BANDED), seed=1, authority=None).verdict.name == verdict


@pytest.mark.plan("0.1")
def test_no_band_is_met_above_one_that_is_not():
    low_only = {"metric": "m/b", "thresholds": {"B": 1.0}}
    card = score({"m/a": 2.5, "m/b": 0.5}, gates_of(BANDED, low_only), seed=1, authority=None)
    assert card.verdict.name == "FAIL"
    assert (
        score({"m/a": 2.5, "m/b": 1.0}, gates_of(BANDED, low_only), seed=1, authority=None).verdict.name == "PASS_BPLUS"
    )


@pytest.mark.parametrize(
    ("comparison", "below", "at", "above"),
    [(">=", False, True, True), ("<=", True, True, False), ("==", False, True, False)],
)
def test_comparisons(comparison, below, at, above):
    gates = gates_of({"metric": "m/a", "severity": "veto", "comparison": comparison, "threshold": 1.0})
    assert [not score({"m/a": x}, gates, seed=1, authority=None).vetoed for x in (0.9, 1.0, 1.1)] == [below, at, above]


@pytest.mark.plan("2.8", "P3.4.3")
def test_a_veto_fails_whatever_the_gates_say():
    veto = {"metric": "m/b", "severity": "veto", "comparison": "<=", "threshold": 0}
    card = score({"m/a": 5.0, "m/b": 1.0}, gates_of(BANDED, veto), seed=1, authority=None)
    assert card.verdict.name == "FAIL" and card.vetoed == ("g1",) and card.violations() == {"g1": 1.0}


def test_a_veto_without_a_value_ends_a_trial_and_has_a_finite_violation():
    card = score({}, gates_of({"metric": "m/b", "severity": "veto", "threshold": 0}), seed=1, authority=None)
    assert card.vetoed == ("g0",) and card.violations() == {"g0": MISSING} and card.verdict.name == "INVALID"


@pytest.mark.plan("0.4")
def test_a_precondition_not_met_makes_grading_invalid_and_caps_the_band():
    gates = gates_of(BANDED, {"metric": "m/d", "severity": "precondition", "thresholds": {"B": 28, "B+": 90}})
    verdicts = [score({"m/a": 5.0, "m/d": days}, gates, seed=1, authority=None).verdict.name for days in (1, 28, 90)]
    assert verdicts == ["INVALID", "PASS_B", "PASS_BPLUS"]


def test_a_rail_follows_its_authority():
    row = {
        "metric": "m/a",
        "severity": "rail",
        "comparison": "<=",
        "relative_to_authority": {"plus": 0.05, "at_least": 0.97},
    }
    gates = gates_of(row)
    for authority, value, holds in ((0.90, 0.97, True), (0.90, 0.971, False), (0.96, 1.005, True), (0.96, 1.02, False)):
        card = score({"m/a": value}, gates, seed=1, authority={"m/a": authority})
        assert bool(card.vetoed) != holds, (authority, value)
    assert score({"m/a": 0.1}, gates, seed=1, authority=None).verdict.name == "INVALID"


def test_a_tolerance_forgives_and_no_more():
    gates = gates_of(
        {
            "metric": "m/a",
            "severity": "rail",
            "comparison": "==",
            "relative_to_authority": {"plus": 0},
            "tolerance": 1e-12,
        }
    )
    assert not score({"m/a": 0.3 + 5e-13}, gates, seed=1, authority={"m/a": 0.3}).vetoed
    assert score({"m/a": 0.3 + 5e-12}, gates, seed=1, authority={"m/a": 0.3}).vetoed


@given(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=5))
def test_combining_seeds_keeps_the_worst(values):
    gates = gates_of(BANDED, {"metric": "m/c", "comparison": "<=", "threshold": 9.0}, **{"m/c": "highest"})
    cards = [score({"m/a": value, "m/c": value}, gates, seed=i, authority=None) for i, value in enumerate(values)]
    overall = combine(cards, gates)
    assert overall.metrics == {"m/a": min(values), "m/c": max(values)}
    assert overall.verdict == min((card.verdict for card in cards), key=lambda verdict: verdict.rank)
    assert overall.gates[0].seed == values.index(min(values))
    assert overall.margin("B+") == min(card.margin("B+") for card in cards)


def test_a_margin_leaves_out_what_it_is_told_to():
    card = score({"m/a": 0.0, "m/b": 3.0}, gates_of(BANDED, {**BANDED, "metric": "m/b"}), seed=1, authority=None)
    assert card.margin("B") == -1.0 and card.margin("B", {"g0"}) == 2.0 and card.margin("B", {"g0", "g1"}) == math.inf


@pytest.mark.plan("P3.3.2")
def test_a_card_is_schema_valid_json_and_a_table():
    card = score({"m/a": 1.5}, gates_of(BANDED), seed=7, authority=None)
    validate(card.as_document(), shipped_schema("scorecard"), "card")
    assert card.as_document()["gates"][0]["margins"] == {"B": 0.5, "B+": -0.5}
    assert "| g0 | `m/a` | gate | 1.5 | >= | 1 | 2 | 0.5 | -0.5 | 7 | B |" in scorecard_markdown(card)


@pytest.mark.parametrize("name", shipped("gates", ".json"))
def test_shipped_gate_files_are_valid(name):
    assert load_gates(name).gates


@pytest.mark.plan("1.1")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["gates"].append(copy.deepcopy(d["gates"][0])), "the id is given twice"),
        (lambda d: d["gates"][0].update(metric="s9/none"), "'s9/none' is not one of the file's metrics"),
        (lambda d: d["gates"][0].update(thresholds={"A": 1}), "band 'A' is not one of B, B+"),
        (lambda d: d["gates"][0].update(surprise=1), "unknown field surprise"),
        (lambda d: d["gates"][0].pop("why"), "missing field why"),
        (lambda d: d["gates"][0].update(threshold=1), ""),
        (lambda d: d["gates"][0].update(comparison="<"), '"<" is not one of'),
    ],
)
def test_a_bad_gate_file_is_refused(change, said):
    document = copy.deepcopy(read_json(shipped("gates", ".json")["segment_2b"]))
    change(document)
    with pytest.raises(PolicyError) as refused:
        parse_gates(document, "mine.json")
    assert said in str(refused.value) and "mine.json" in str(refused.value)


def test_reach_takes_the_hardest_seed_and_only_bounds_that_stand_against_the_gate():
    gates = gates_of({"metric": "m/t", "comparison": "<=", "thresholds": {"B": 0.35, "B+": 0.2}}, BANDED)
    free = Bound("m/a", "at_least", 0.0, "-", "-")
    floors = {1: 0.1, 2: 0.25}
    at = {seed: [Bound("m/t", "at_least", x, f"floor {x}", "1B"), free] for seed, x in floors.items()}
    tail, other = reach(gates, at)
    assert (
        tail.bound == 0.25
        and tail.seed == 2
        and tail.reachable == {"B": True, "B+": False}
        and tail.proof == "floor 0.25"
    )
    assert other.bound is None and all(other.reachable.values())
