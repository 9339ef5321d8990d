"""Support, bounds and observed rows: each beside its law written out, and fail-closed where a number is missing."""

import json
import math
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_table_metrics import gates_of, run_of, source_of

from lanelock.policies import DataError, PolicyError
from lanelock.scoring.certification import certify
from lanelock.scoring.gates import Confidence, parse_gates
from lanelock.scoring.scorecard import combine, score

Z95 = 1.6448536269514722  # of the normal distribution, one-sided
T95 = {1: 6.313751514675043, 2: 2.919985580355516, 3: 2.353363434801823}  # of Student's, by degrees of freedom


def card_of(metrics, *rows, seed=1, authority=None):
    return score(metrics, parse_gates(gates_of("m", "n", rows=rows), "g"), seed=seed, authority=authority)


def wilson(successes, count, sign):
    """The root of (p - successes / count)^2 = z^2 p (1 - p) / count on one side, found by halving."""
    share = successes / count
    low, high = (0.0, share) if sign < 0 else (share, 1.0)
    for _ in range(200):
        middle = (low + high) / 2
        outside = (middle - share) ** 2 > Z95**2 * middle * (1 - middle) / count
        low, high = (middle, high) if outside == (sign < 0) else (low, middle)
    return (low + high) / 2


@settings(max_examples=50)
@given(st.integers(1, 500), st.data())
def test_a_wilson_bound_solves_its_equation(count, data):
    successes = data.draw(st.integers(0, count))
    for comparison, sign in ((">=", -1), ("<=", 1)):
        row = {"metric": "m", "comparison": comparison, "threshold": 0.5,
               "confidence": {"level": 0.95, "method": "wilson", "of": "n"}}  # fmt: skip
        (result,) = card_of({"m": successes / count, "n": count}, row).gates
        assert result.value == pytest.approx(wilson(successes, count, sign), abs=1e-9)
        assert (result.value <= successes / count + 1e-15) == (sign < 0) or successes in (0, count)
        assert result.full == (result.value >= 0.5 if sign < 0 else result.value <= 0.5)


@pytest.mark.parametrize("metrics", [{"m": 0.9}, {"m": 0.9, "n": 0.0}, {"m": 1.5, "n": 10.0}])
def test_a_share_of_nothing_has_no_grade(metrics):
    row = {"metric": "m", "threshold": 0.0, "confidence": {"level": 0.95, "method": "wilson", "of": "n"}}
    card = card_of(metrics, row)
    assert card.verdict.invalid and "no share of some rows" in card.gates[0].note


@given(st.floats(0, 200), st.floats(0, 200), st.floats(-1, 1))
def test_less_than_its_support_is_no_grade_and_says_so(count, least, value):
    row = {"metric": "m", "threshold": 0, "support": {"metric": "n", "at_least": least}}
    bare, card = card_of({"m": value}, {"metric": "m", "threshold": 0}), card_of({"m": value, "n": count}, row)
    if count >= least:
        assert (card.verdict, card.gates[0].margins) == (bare.verdict, bare.gates[0].margins)
    else:
        assert card.verdict.invalid and card.gates[0].note == f"n is {count:.6g}, {least:.6g} are needed"
    unknown = card_of({"m": value}, row)
    assert unknown.verdict.invalid and unknown.gates[0].note == "its support n is not measured"


@settings(max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=4), st.floats(-5, 5))
def test_a_bound_over_seeds_is_students_and_stands_beside_every_seed(values, threshold):
    row = {"metric": "m", "threshold": threshold, "scale": 1, "confidence": {"level": 0.95, "method": "seeds"}}
    gates = parse_gates(gates_of("m", rows=[row]), "g")
    cards = [score({"m": value}, gates, seed=at, authority=None) for at, value in enumerate(values)]
    low = mean(values) - T95[len(values) - 1] * stdev(values) / math.sqrt(len(values))
    overall = combine(cards, gates)
    if abs(low - threshold) > 1e-9:
        assert overall.verdict.passed == (min([*values, low]) >= threshold)
        assert certify(cards, gates).verdict == overall.verdict
    assert overall.gates[0].value == pytest.approx(min([*values, low]), abs=1e-9) or overall.gates[0].full
    assert gates.least_seeds == 2


def test_an_observed_row_is_shown_and_judges_nothing():
    rows = [{"metric": "m", "threshold": 0}, {"metric": "n", "threshold": 5, "severity": "observe"}]
    for n in ({}, {"n": 1.0}, {"n": 9.0}):
        alone, beside = card_of({"m": 1.0, **n}, rows[0]), card_of({"m": 1.0, **n}, *rows)
        assert (beside.verdict, beside.gates, beside.vetoed) == (alone.verdict, alone.gates, alone.vetoed)
        assert beside.margin("B") == alone.margin("B") and beside.violations() == alone.violations()
        (shown,) = beside.observed
        assert shown.value == n.get("n") and shown.full == (n.get("n", 0) >= 5)
        assert beside.as_document()["observed"][0]["id"] == "g1" and "observed" not in alone.as_document()
    gates = parse_gates(gates_of("m", "n", rows=rows), "g")
    cards = [score({"m": 1.0, "n": n}, gates, seed=seed, authority=None) for seed, n in enumerate((1.0, 9.0))]
    assert combine(cards, gates).observed[0].value == 1.0, "the worst of the seeds, as of every gate"


def test_a_corridor_around_the_baseline_is_as_wide_as_it_says():
    row = {"metric": "m", "comparison": "within", "relative_to_authority": {"within": 0.25}}
    for value, passes in ((0.75, True), (1.25, True), (0.74, False), (1.26, False)):
        (result,) = card_of({"m": value}, row, authority={"m": 1.0}).gates
        assert result.full == passes and result.thresholds == {"B": (0.75, 1.25)}
        assert result.margins["B"] == pytest.approx((0.25 - abs(value - 1.0)) / 0.5), "the scale is the width"
    assert card_of({"m": 1.0}, row).verdict.invalid


def test_a_bootstrap_bound_is_the_percentile_of_means_drawn_again():
    values = np.random.default_rng(3).exponential(1.0, 200)
    rows = [{"metric": "m", "comparison": sign, "threshold": 0.5, "confidence": {"level": 0.9, "method": method}}
            for sign in (">=", "<=") for method in ("bootstrap", "bca")]  # fmt: skip
    source = source_of(rows=rows, m="avg(x)")
    found = source.measure(run_of(output={"x": values}))
    draw = np.random.default_rng(4)
    means = np.sort([draw.choice(values, len(values)).mean() for _ in range(4000)])
    assert found["m/bootstrap_90_low"] == pytest.approx(np.quantile(means, 0.1), abs=0.02)
    assert found["m/bootstrap_90_high"] == pytest.approx(np.quantile(means, 0.9), abs=0.02)
    assert found["m/bca_90_low"] == pytest.approx(np.quantile(means, 0.1), abs=0.03)
    assert found == source.measure(run_of(output={"x": values})), "the same run gives the same bound"
    assert found != source.measure(run_of(seed=2, output={"x": values}))
    gates = parse_gates(source.gates_file, "g")
    assert all(map(gates.declares, found)) and not gates.declares("m/bootstrap_95_low")
    card = score(found, gates, seed=1, authority=None)
    keys = [Confidence(0.9, row["confidence"]["method"]).key("m", row["comparison"]) for row in rows]
    assert [row.value for row in card.gates] == [found[key] for key in keys]


def test_a_bound_is_of_the_rows_that_its_metric_reads():
    row = {"metric": "m", "threshold": 0, "confidence": {"level": 0.9, "method": "bootstrap", "resamples": 99}}
    run = run_of(output={"x": [1.0, 2.0, 300.0], "g": ["a", "a", "b"]})
    found = source_of(rows=[row], m={"sql": "max(x)", "where": "g = 'a'"}).measure(run)
    assert 1.0 <= found["m/bootstrap_of_99_90_low"] <= 2.0
    alone = source_of(rows=[row], m={"sql": "max(x)", "where": "g = 'b'"}).measure(run)
    assert math.isnan(alone["m/bootstrap_of_99_90_low"]), "of one row nothing can be drawn again"


def test_more_rows_than_can_be_drawn_are_refused():
    row = {"metric": "m", "threshold": 0, "confidence": {"level": 0.9, "method": "bca"}}
    with pytest.raises(DataError, match=r"bca would draw .* ask for fewer resamples, or for wilson"):
        source_of(rows=[row], m="avg(x)").measure(run_of(output={"x": np.zeros(20_000)}))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"support": {"metric": "k", "at_least": 1}}, "/gates/g0/support: 'k' is not one of the file's metrics"),
        ({"confidence": {"level": 0.95, "method": "wilson"}}, "/confidence/of: the metric that counts the rows"),
        ({"confidence": {"level": 0.95, "method": "bca", "of": "n"}}, "/confidence/of: the metric that counts"),
        ({"confidence": {"level": 0.4, "method": "bca"}}, "/confidence/level: 0.4"),
        ({"strata": "all", "confidence": {"level": 0.9, "method": "seeds"}}, "strata and confidence are not asked"),
        ({"strata": "all", "comparison": "=="}, "/strata: takes >= or <=; ask for a corridor by two gates"),
        ({"strata": "some"}, "/strata"),
        ({"strata": {"at_least": 1, "share": 0.5}}, "/strata"),
        ({"threshold": None, "comparison": "within", "relative_to_authority": {"plus": 1}}, "ask for each other"),
        ({"threshold": None, "relative_to_authority": {"within": 1}}, "ask for each other"),
        ({"threshold": None, "comparison": "within", "relative_to_authority": {"within": 1, "plus": 1}},
         "within stands alone"),
    ],
)  # fmt: skip
def test_what_a_gate_cannot_ask_is_refused_with_its_field(row, said):
    row = {key: value for key, value in {"metric": "m", "threshold": 1, **row}.items() if value is not None}
    with pytest.raises(PolicyError) as refused:
        parse_gates(gates_of("m", "n", rows=[row]), "gates.json")
    assert said in str(refused.value) and str(refused.value).startswith("gates.json: ")


def test_a_bound_by_rows_asks_for_an_expression():
    row = {"metric": "m", "threshold": 0, "confidence": {"level": 0.9, "method": "bootstrap"}}
    with pytest.raises(PolicyError, match="/gates/g0/confidence: draws rows, so m is an SQL expression"):
        source_of(rows=[row], m={"key": "m"})


def test_files_without_these_fields_give_the_bytes_they_gave():
    card = card_of({"m": 1.0}, {"metric": "m", "threshold": 0})
    text = json.dumps(card.as_document())
    assert not any(name in text for name in ("note", "observed", "support", "confidence", "strata"))
