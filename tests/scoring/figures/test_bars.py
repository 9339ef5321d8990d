"""Bars and strips say what the numbers say, and stay in their boxes whatever these are."""

import re

from hypothesis import given
from hypothesis import strategies as st

from lanelock.scoring.figures.bars import HALF, WIDTH, bar_of, margin_bars, margin_text, seed_strip
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import GateResult

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def result(value, thresholds, comparison=">=", seed=1, scale=1.0):
    sign = {">=": 1, "<=": -1}[comparison]
    margins = {
        band: None if value is None or at is None else sign * (value - at) / scale for band, at in thresholds.items()
    }
    passed = {band: margin is not None and margin >= 0 for band, margin in margins.items()}
    return GateResult("g", "m/a", Severity.GATE, comparison, value, thresholds, margins, passed, seed)


@given(NUMBERS)
def test_a_bar_stays_in_its_box_on_the_side_of_its_sign(margin):
    bar = bar_of(margin)
    assert -1.0 <= bar.start <= 0.0 <= bar.start + bar.length <= 1.0 or bar.start == 0.0
    assert bar.start + bar.length <= 1.0 and bar.length <= 1.0
    assert (bar.start < 0) == (margin < 0) and (bar.start + bar.length > 0) == (margin > 0)
    assert bar.cut == (abs(margin) > 1)
    if not bar.cut:
        assert bar.length == abs(margin)


@given(NUMBERS)
def test_a_margin_is_written_with_the_sign_it_has(margin):
    assert margin_text(margin)[0] == ("-" if margin < 0 else "+")


@given(NUMBERS, st.tuples(NUMBERS, NUMBERS), st.sampled_from([">=", "<="]))
def test_what_fails_is_hatched_and_what_passes_is_not(value, limits, comparison):
    row = result(value, dict(zip(("B", "B+"), limits, strict=True)), comparison)
    text = margin_bars(row)
    failing = {margin for margin in row.margins.values() if margin < 0}
    assert text.count("stroke-dasharray") == len(failing if len(set(row.margins.values())) == 1 else
                                                 [margin for margin in row.margins.values() if margin < 0])  # fmt: skip
    for left, wide in re.findall(r'<rect x="([\d.-]+)" y="\d+" width="([\d.]+)" height="12"', text):
        assert float(left) >= WIDTH - 62 - 2 * HALF - 0.06 and float(left) + float(wide) <= WIDTH - 62 + 0.11


def test_an_unknown_margin_has_no_bar_and_says_so():
    text = margin_bars(result(None, {"B": 1.0, "B+": 2.0}))
    assert "unknown" in text and "var(--good)" not in text and "var(--bad)" not in text


def test_bands_that_ask_the_same_share_a_bar():
    assert margin_bars(result(0.5, {"B": 1.0, "B+": 1.0}, "<=")).count("+0.500</text>") == 1
    assert margin_bars(result(0.5, {"B": 1.0, "B+": 2.0}, "<=")).count("</text>") == 4


@given(
    st.lists(NUMBERS, min_size=1, max_size=5), st.tuples(NUMBERS, NUMBERS), st.lists(NUMBERS, max_size=3),
    st.sampled_from([">=", "<="]),
)  # fmt: skip
def test_a_strip_holds_every_seed_threshold_and_authority(values, limits, beside, comparison):
    thresholds = dict(zip(("B", "B+"), limits, strict=True))
    rows = [result(value, thresholds, comparison, seed) for seed, value in enumerate(values)]
    authority = dict(enumerate(beside))
    text = seed_strip(rows, authority)
    places = [float(x) for x in re.findall(r'cx="([\d.-]+)"', text)]
    diamonds = [float(x) for x in re.findall(r'<path d="M([\d.-]+) 18l6', text)]
    ticks = [float(x) for x in re.findall(r'<path d="M([\d.-]+) 15v20"', text)]
    assert len(places) + len(diamonds) == len(values) + len(beside)
    assert len(ticks) == len(set(limits)) and len(diamonds) == (len(set(values)) > 1)
    assert all(0.0 <= x <= WIDTH for x in (*places, *diamonds, *ticks))
    for seed, value in enumerate(values):
        assert f"<title>seed {seed}: {value:.6g}</title>" in text


def test_the_shaded_part_is_where_the_lowest_band_holds():
    above = seed_strip([result(5.0, {"B": 0.0, "B+": 10.0}, ">=")], {})
    below = seed_strip([result(5.0, {"B": 0.0, "B+": -10.0}, "<=")], {})
    assert re.search(r'<rect x="9.0" y="16" width="227.0"', above) and re.search(r'<rect x="0.0" y="16"', below)


def test_thresholds_that_follow_the_authority_are_shown_by_its_rings_alone():
    rows = [result(value, {"B": value, "B+": value}, ">=", seed) for seed, value in ((1, 0.5), (2, 0.7))]
    text = seed_strip(rows, {1: 0.5, 2: 0.7})
    assert "v20" not in text and text.count("authority, seed") == 2
