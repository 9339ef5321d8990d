"""Bands and verdict names are data; bands are nested; one law says which is the highest that holds."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.scoring.feasibility import Bound, reach
from lanelock.scoring.gates import WITHIN, load_gates, parse_gates, span
from lanelock.scoring.scorecard import GateResult, combine, score, worst

BANDS = ("BRONZE", "SILVER", "GOLD")  # not in the order of the alphabet
NUMBERS = st.integers(-40, 40).map(lambda eighths: eighths / 8)  # exact, so that ends are met exactly
CORRIDORS = st.lists(NUMBERS, min_size=6, max_size=6).map(sorted)


def gates_of(*rows, bands=BANDS, **more):
    """A gate file of one metric; rows are the fields that matter."""
    usual = {"metric": "m/a", "severity": "gate", "why": "w"}
    return parse_gates(
        {
            "id": "mine",
            "title": "t",
            "bands": list(bands),
            "metrics": {"m/a": {"unit": "u", "state": "S1", "worst": "lowest", "what": "w"}},
            "gates": [{"id": f"g{place}", **usual, **row} for place, row in enumerate(rows)],
            **more,
        },
        "mine.json",
    )


def nested(six):
    """Three corridors, each inside the one before it."""
    return {band: [six[place], six[5 - place]] for place, band in enumerate(BANDS)}


def asked(comparison, six):
    """A gate's row whose bands are nested, from six ascending numbers."""
    if comparison == WITHIN:
        return {"comparison": WITHIN, "corridors": nested(six), "scale": 1.0}
    ascending = dict(zip(BANDS, six[::2] if comparison == ">=" else six[::-2], strict=True))
    return {"comparison": comparison, "thresholds": ascending, "scale": 1.0}


def card_of(value, gates, seed=1):
    return score({} if value is None else {"m/a": value}, gates, seed=seed, authority=None)


COMPARISONS = st.sampled_from([">=", "<=", WITHIN])


@given(COMPARISONS, CORRIDORS, NUMBERS)
def test_a_margin_is_0_or_more_exactly_where_its_band_passes(comparison, six, value):
    gates = gates_of(asked(comparison, six))
    (row,) = card_of(value, gates).gates
    for band, threshold in gates.gates[0].thresholds.items():
        low, high = span(comparison, threshold)
        assert row.passed[band] == (row.margins[band] >= 0) == (low <= value <= high)


@given(COMPARISONS, CORRIDORS, NUMBERS)
def test_nested_bands_hold_from_the_lowest_up_without_a_gap(comparison, six, value):
    (row,) = card_of(value, gates_of(asked(comparison, six))).gates
    assert list(row.passed.values()) == [True] * row.level + [False] * (len(BANDS) - row.level)
    assert row.holds == (None, *BANDS)[row.level]
    assert all(lower >= higher for lower, higher in pairwise(row.margins.values()))


@given(CORRIDORS, st.lists(NUMBERS, min_size=2, max_size=2).map(sorted), st.sampled_from([">=", "<="]))
def test_a_better_value_never_holds_less(six, values, comparison):
    gates = gates_of(asked(comparison, six))
    worse, better = values if comparison == ">=" else reversed(values)
    assert card_of(worse, gates).gates[0].level <= card_of(better, gates).gates[0].level


@given(CORRIDORS, NUMBERS)
def test_a_corridor_is_the_pair_of_its_two_ends(six, value):
    corridors = nested(six)
    ends = {sign: {band: pair[end] for band, pair in corridors.items()} for end, sign in enumerate((">=", "<="))}
    pair = [{"comparison": sign, "thresholds": of, "scale": 1.0} for sign, of in ends.items()]
    within, both = card_of(value, gates_of(asked(WITHIN, six))), card_of(value, gates_of(*pair))
    assert within.verdict == both.verdict
    for band in BANDS:
        assert within.gates[0].margins[band] == min(row.margins[band] for row in both.gates)


@pytest.mark.plan("0.2")
@given(COMPARISONS, CORRIDORS, st.lists(NUMBERS, min_size=1, max_size=4))
def test_over_seeds_the_worst_decides(comparison, six, values):
    gates = gates_of(asked(comparison, six))
    cards = [card_of(value, gates, seed) for seed, value in enumerate(values)]
    overall = combine(cards, gates)
    assert overall.verdict.rank == min(card.verdict.rank for card in cards)
    assert overall.gates[0].level == min(card.gates[0].level for card in cards)


def test_outside_two_corridors_the_seed_that_holds_less_is_the_worst_though_its_margin_is_the_greater():
    gates = gates_of(
        {"comparison": WITHIN, "corridors": {"SILVER": [0.0, 0.51], "GOLD": [0.4, 0.5]}}, bands=("SILVER", "GOLD")
    )
    outside, inside = card_of(0.52, gates, 1), card_of(0.37, gates, 2)
    assert outside.gates[0].worst_margin > inside.gates[0].worst_margin
    assert worst([inside.gates[0], outside.gates[0]]).seed == 1
    assert combine([inside, outside], gates).verdict.name == "FAIL"


@given(CORRIDORS, NUMBERS, st.sampled_from(["at_least", "at_most", "exactly"]))
def test_what_a_bound_leaves_of_a_corridor_is_the_best_of_all_values_it_allows(six, limit, kind):
    gates = gates_of(asked(WITHIN, six))
    allowed = {"at_least": lambda x: x >= limit, "at_most": lambda x: x <= limit, "exactly": lambda x: x == limit}
    grid = [sixteenths / 16 for sixteenths in range(-81, 82) if allowed[kind](sixteenths / 16)]  # holds every middle
    (row,) = reach(gates, {1: [Bound("m/a", kind, limit, "why", "S0")]})
    (gate,) = gates.gates
    for band, corridor in gate.thresholds.items():
        best = max(gate.margin(value, corridor) for value in grid)
        assert row.margins[band] == best and row.reachable[band] == (best >= 0)
    assert row.kind == kind and row.bound == limit


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"comparison": ">=", "thresholds": {"SILVER": 0.35, "GOLD": 0.25}}, "GOLD asks >= 0.25, which passes where "
         "SILVER fails (>= 0.35)"),
        ({"comparison": "<=", "thresholds": {"BRONZE": 0.45, "GOLD": 0.55}}, "GOLD asks <= 0.55"),
        ({"comparison": "==", "thresholds": {"SILVER": 1, "GOLD": 2}}, "GOLD asks == 2"),
        ({"comparison": WITHIN, "corridors": {"SILVER": [0.25, 0.45], "GOLD": [0.35, 0.55]}}, "GOLD asks within "
         "0.35 … 0.55, which passes where SILVER fails (within 0.25 … 0.45)"),
        ({"comparison": WITHIN, "corridor": [2, 1]}, "/corridor: band BRONZE: low 2 is above high 1"),
        ({"comparison": WITHIN, "threshold": 1}, "/threshold: comparison 'within' takes corridor or corridors instead"),
        ({"comparison": ">=", "corridor": [1, 2]}, "/corridor: comparison '>=' takes threshold or thresholds instead"),
        ({"comparison": WITHIN, "relative_to_authority": {"plus": 0}}, "/relative_to_authority: comparison 'within'"),
        ({"comparison": WITHIN, "corridors": {"TIN": [0, 1]}}, "band 'TIN' is not one of BRONZE, SILVER, GOLD"),
        ({"comparison": WITHIN, "corridor": [1]}, "/corridor"),
    ],
)  # fmt: skip
def test_bands_that_are_not_nested_and_corridors_that_are_none_are_refused_in_one_line(row, said):
    with pytest.raises(PolicyError) as refused:
        gates_of(row)
    line = str(refused.value)
    assert line.startswith("mine.json: ") and said in line and "\n" not in line


def test_limits_between_seeds_are_nested_too():
    with pytest.raises(PolicyError, match=r"cv_at_most: band GOLD asks <= 0\.3, which passes where SILVER"):
        gates_of({"comparison": ">=", "threshold": 1},
                 cross_seed={"metrics": ["m/a"], "cv_at_most": {"GOLD": 0.3, "SILVER": 0.2}})  # fmt: skip


ANY = {"comparison": ">=", "thresholds": {"GOLD": 3, "SILVER": 2, "BRONZE": 1}}  # in no order of theirs


def test_verdicts_have_the_names_that_the_file_gives_them_and_usual_ones_without():
    assert [str(verdict) for verdict in gates_of(ANY).verdicts] == [
        "INVALID", "FAIL", "PASS_BRONZE", "PASS_SILVER", "PASS_GOLD",
    ]  # fmt: skip
    own = gates_of(ANY, verdicts={"fail": "REJECTED", "pass": {"GOLD": "FLAWLESS"}})
    graded = {value: card_of(value, own).verdict for value in (None, 0.0, 1.0, 2.5, 9.0)}
    assert [verdict.name for verdict in graded.values()] == [
        "INVALID", "REJECTED", "PASS_BRONZE", "PASS_SILVER", "FLAWLESS",
    ]  # fmt: skip
    assert [verdict.passed for verdict in graded.values()] == [False, False, True, True, True]
    assert [verdict.band for verdict in graded.values()] == [None, None, *BANDS]
    assert all(own.verdict(verdict.name) == verdict for verdict in own.verdicts)
    with pytest.raises(PolicyError, match="gates mine: 'PASS_GOLD' is not one of their verdicts: INVALID, REJECTED"):
        own.verdict("PASS_GOLD")


@pytest.mark.plan("0.5")
def test_segment_2b_names_its_verdicts_in_its_gate_file():
    assert [str(verdict) for verdict in load_gates("segment_2b").verdicts] == [
        "INVALID_FOR_GRADING", "FAIL_REALISM", "PASS_B", "PASS_BPLUS",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ({"pass": {"TIN": "PASS_TIN"}}, "/verdicts/pass: band 'TIN' is not one of BRONZE, SILVER, GOLD"),
        ({"fail": "INVALID"}, "/verdicts: INVALID would name two verdicts"),
        ({"fail": "not good"}, "/verdicts/fail"),
        ({"veto": "X"}, "/verdicts: unknown field veto"),
    ],
)
def test_bad_names_are_refused(verdicts, said):
    with pytest.raises(PolicyError, match=r"mine\.json: ") as refused:
        gates_of(ANY, verdicts=verdicts)
    assert said in str(refused.value)


@given(st.one_of(st.none(), NUMBERS), CORRIDORS)
def test_a_row_read_back_from_a_document_is_the_same_row(value, six):
    card = card_of(value, gates_of(ANY, asked(WITHIN, six)))
    stored = json.loads(json.dumps(card.as_document(), sort_keys=True))
    again = [GateResult.read(row, BANDS) for row in stored["gates"]]
    assert [list(row.passed) for row in again] == [list(BANDS)] * 2, "sorted keys do not turn the bands round"
    assert [row.holds for row in again] == [row.holds for row in card.gates]
    assert [row.as_document() for row in again] == stored["gates"]


def test_the_unit_of_a_margin_is_the_gap_between_the_highest_bands_else_the_size_of_what_is_asked():
    apart, same, exact, least = gates_of(
        {"comparison": WITHIN, "corridors": {"BRONZE": [1.0, 5.0], "GOLD": [2.0, 3.0]}},
        {"comparison": WITHIN, "corridor": [1.0, 5.0]},
        {"comparison": WITHIN, "corridor": [2.0, 2.0]},
        {"comparison": ">=", "thresholds": {"BRONZE": 0.9, "GOLD": 0.98}},
    ).gates
    assert (apart.scale, same.scale, exact.scale) == (2.0, 4.0, 1.0) and math.isclose(least.scale, 0.08)
    assert apart.margin(3.0, apart.thresholds["BRONZE"]) == 1.0 and math.isclose(exact.margin(2.5, (2.0, 2.0)), -0.5)
