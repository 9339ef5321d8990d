"""The interval of a median: its probability, counted case by case, and which interval is taken."""

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.sweeps.perf.medians import LEVEL, coverage, median_of

SECONDS = st.lists(st.floats(0, 1e4), min_size=1, max_size=40)


@pytest.mark.parametrize("rounds", range(1, 11))
def test_the_coverage_is_the_share_of_all_cases_in_which_the_median_lies_between(rounds):
    """Each round is below or above the true median like a coin: all cases are counted."""
    for rank in range(1, (rounds + 1) // 2 + 1):
        cases = list(itertools.product((False, True), repeat=rounds))  # whether a round is below the true median
        inside = sum(rank <= sum(case) <= rounds - rank for case in cases)
        assert coverage(rounds, rank) == pytest.approx(inside / len(cases))


@given(SECONDS)
def test_the_interval_is_the_narrowest_that_has_the_level_and_else_the_widest_there_is(values):
    found, ordered = median_of(values), sorted(values)
    assert found.least == ordered[0] <= found.low <= found.value <= found.high <= ordered[-1]
    assert found.value == statistics.median(values)
    fitting = [rank for rank in range(1, (len(values) + 1) // 2 + 1) if coverage(len(values), rank) >= LEVEL]
    rank = max(fitting) if fitting else 1
    assert (found.low, found.high, found.coverage) == (ordered[rank - 1], ordered[-rank], coverage(len(values), rank))
    assert (found.coverage >= LEVEL) == (len(values) >= 5), "five rounds are the fewest that have it"


@given(SECONDS, st.floats(0.5, 2), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_a_unit_only_scales(values, unit, random):
    found, other = median_of(values), [unit * value for value in values]
    random.shuffle(other)
    scaled = median_of(other)
    assert scaled.value == pytest.approx(unit * found.value) and scaled.coverage == found.coverage
    assert (scaled.low, scaled.high) == pytest.approx((unit * found.low, unit * found.high))
