"""A gate in one line is exactly a row of a gate file, and what is wrong in it is named with its column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.policies.gate_lines import METHODS, gate_line, gate_row

BANDS = ("BRONZE", "SILVER", "GOLD")  # not in the order of the alphabet
NUMBERS = st.floats(-1e12, 1e12).map(lambda number: number + 0.0)  # as JSON has it: -0.0 and 0.0 are the same text
POSITIVE = st.floats(0, 1, exclude_min=True)
METRICS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}(/[a-z]{1,3})?", fullmatch=True)


def per_band(values):
    return st.dictionaries(st.sampled_from(BANDS), values, min_size=1)


PAIRS = st.lists(NUMBERS, min_size=2, max_size=2)
THRESHOLDS = st.one_of(
    st.fixed_dictionaries({"threshold": NUMBERS}), st.fixed_dictionaries({"thresholds": per_band(NUMBERS)})
)
CORRIDORS = st.one_of(st.fixed_dictionaries({"corridor": PAIRS}), st.fixed_dictionaries({"corridors": per_band(PAIRS)}))
REFERENCES = METRICS.filter(lambda name: name not in ("baseline", "authority"))
FOLLOWING = st.fixed_dictionaries({"times": NUMBERS}, optional={"plus": NUMBERS, "of": REFERENCES})
CLAMPED = st.tuples(FOLLOWING, st.fixed_dictionaries({}, optional={"at_least": NUMBERS, "at_most": NUMBERS}))
ABSOLUTE = st.one_of(
    st.tuples(st.sampled_from([">=", "<=", "=="]), THRESHOLDS), st.tuples(st.just("within"), CORRIDORS)
)
RELATIVE = st.one_of(
    st.tuples(st.sampled_from([">=", "<=", "=="]), CLAMPED.map(lambda parts: parts[0] | parts[1])),
    st.tuples(st.just("within"), st.fixed_dictionaries({"within": NUMBERS})),
).map(lambda pair: (pair[0], {"relative_to_authority": pair[1]}))
WILSON = st.fixed_dictionaries({"level": POSITIVE, "method": st.just("wilson"), "of": METRICS})
OTHERS = st.fixed_dictionaries(
    {"level": POSITIVE, "method": st.sampled_from(("bootstrap", "bca"))},
    optional={"resamples": st.integers(100, 9999)},
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "support": st.fixed_dictionaries({"metric": METRICS, "at_least": NUMBERS}),
        "confidence": st.one_of(WILSON, OTHERS, st.just({"level": 0.95, "method": "seeds"})),
        "strata": st.one_of(
            st.just("all"),
            st.integers(1, 99).map(lambda count: {"at_least": count}),
            POSITIVE.map(lambda share: {"share": share}),
        ),
        "scale": NUMBERS,
        "tolerance": NUMBERS,
    },
)
WHYS = st.text(min_size=1, max_size=30).map(str.strip).filter(bool)


@given(METRICS, st.one_of(ABSOLUTE, RELATIVE), OPTIONS, WHYS)
def test_the_line_of_a_row_is_that_row_again(metric, compared, options, why):
    comparison, asked = compared
    row = {"id": "g", "metric": metric, "severity": "veto", "comparison": comparison, **asked, **options, "why": why}
    assert gate_row("g", gate_line(row, BANDS), "veto", BANDS) == row


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("m >= 0.95, 0.98", {"comparison": ">=", "thresholds": {"BRONZE": 0.95, "SILVER": 0.98}}),
        ("m<=200", {"comparison": "<=", "threshold": 200.0}),
        ("200 >= m", {"comparison": "<=", "threshold": 200.0}),
        ("m == -, -3", {"comparison": "==", "thresholds": {"SILVER": -3.0}}),
        ("0.1 <= m <= 0.3", {"comparison": "within", "corridor": [0.1, 0.3]}),
        ("0.3 >= m >= 0.1", {"comparison": "within", "corridor": [0.1, 0.3]}),
        ("m in [0,1],[.2,8e-1]", {"comparison": "within", "corridors": {"BRONZE": [0.0, 1.0], "SILVER": [0.2, 0.8]}}),
        ("m >= baseline - 0.01", {"comparison": ">=", "relative_to_authority": {"plus": -0.01}}),
        ("m <= 1.05*authority + 2", {"comparison": "<=", "relative_to_authority": {"times": 1.05, "plus": 2.0}}),
        ("m <= baseline * 1.05", {"comparison": "<=", "relative_to_authority": {"times": 1.05}}),
        ("m >= city", {"comparison": ">=", "relative_to_authority": {"of": "city", "plus": 0.0}}),
        ("|m - authority| <= 0.01", {"comparison": "within", "relative_to_authority": {"within": 0.01}}),
        ("m >= 1 if n >= 100", {"comparison": ">=", "threshold": 1.0, "support": {"metric": "n", "at_least": 100.0}}),
        ("m == 1 at 95 %",
         {"comparison": "==", "threshold": 1.0, "confidence": {"level": 0.95, "method": "bootstrap"}}),
        ("m >= 1 with confidence 0.9 by wilson of n",
         {"comparison": ">=", "threshold": 1.0, "confidence": {"level": 0.9, "method": "wilson", "of": "n"}}),
        ("m >= 1 in 80 % of strata", {"comparison": ">=", "threshold": 1.0, "strata": {"share": 0.8}}),
    ],
)  # fmt: skip
def test_what_a_line_says_and_its_reason_is_the_line_itself(line, fields):
    assert gate_row("g", line, "gate", BANDS) == {"id": "g", "metric": "m", "severity": "gate", **fields, "why": line}


def test_a_reason_is_the_lines_own_else_the_given_one():
    assert gate_row("g", "m >= 1 because it must", "gate", BANDS, why="given")["why"] == "it must"
    assert gate_row("g", "m >= 1", "gate", BANDS, why="given")["why"] == "given"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "column 1 of '': its end where a metric is expected; a gate is METRIC >= NUMBER"),
        ("m > 3", "column 3 of 'm > 3': '>' is no part of a gate"),
        ("m >= 1, 2, 3, 4", "column 15 of 'm >= 1, 2, 3, 4': more thresholds than bands: BRONZE, SILVER, GOLD"),
        ("m >= 1 if", "column 10 of 'm >= 1 if': its end where a metric is expected"),
        ("m >= baseline, 3", "column 14 of 'm >= baseline, 3': a threshold that follows the baseline is the same"),
        ("m >= 1 at 95", "column 13 of 'm >= 1 at 95': its end where % is expected"),
        ("m >= 1 at 95 % by t", f"column 19 of 'm >= 1 at 95 % by t': 't' where {' or '.join(METHODS)} is expected"),
        ("m >= 1 scale 2 scale 3", "scale is given twice"),
        ("m >= 1 never below 2", "`never` limits a threshold that follows the baseline; this one does not"),
        ("m >= -, -", "column 6 of 'm >= -, -': no band has a threshold"),
        ("m in [1 2]", "column 9 of 'm in [1 2]': '2' where , is expected"),
        ("m >= 1 in 2.5 strata", "2.5 is not a whole number of strata"),
        ("m >= 1 § 3", "column 8 of 'm >= 1 § 3': '§' is no part of a gate"),
    ],
)
def test_what_is_wrong_is_named_with_gate_column_and_what_is_allowed(line, said):
    with pytest.raises(PolicyError) as refused:
        gate_row("fill", line, "gate", BANDS)
    assert str(refused.value).startswith("gate fill: column ") and said in str(refused.value)


@given(st.text(alphabet="mn19.-+*|,%[]<>= baselinet", max_size=30))
def test_any_text_is_a_row_or_one_line_of_error(line):
    try:
        row = gate_row("g", line, "gate", BANDS)
    except PolicyError as refused:
        assert "\n" not in str(refused).replace(repr(line), "")
    else:
        assert gate_row("g", gate_line(row, BANDS), "gate", BANDS) == row
