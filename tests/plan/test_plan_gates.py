"""Every number of the plan, as the shipped gates grade it: just short of it and at it."""

import pytest

from lanelock.scoring.certification import certify
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score

GATES = load_gates("segment_2b")
BANDS = (None, *GATES.bands)
STEP = 1e-6


def graded(metric, value):
    """The card of one metric under all gates that read it."""
    held = GATES.select([gate.id for gate in GATES.gates if gate.metric == metric])
    return score({metric: value}, held, seed=42, authority=None)


def rank(metric, value):
    return BANDS.index(graded(metric, value).verdict.band)


@pytest.mark.parametrize(
    ("metric", "direction", "threshold", "band"),
    [
        pytest.param("s1/residual", 1, 0.003, "B", marks=pytest.mark.plan("3.2.1")),
        pytest.param("s1/gap", 1, 0.03, "B", marks=pytest.mark.plan("3.2.2")),
        pytest.param("s1/hhi_iqr", 1, 0.06, "B", marks=pytest.mark.plan("3.2.3")),
        pytest.param("s3/merchant_std_median", 1, 0.03, "B", marks=pytest.mark.plan("3.2.4")),
        pytest.param("s3/tz_nonzero_share", 1, 0.90, "B", marks=pytest.mark.plan("3.2.5")),
        pytest.param("s3/tz_std_median", 1, 0.01, "B", marks=pytest.mark.plan("3.2.5")),
        pytest.param("s4/max_p_median", -1, 0.85, "B", marks=pytest.mark.plan("3.2.10")),
        pytest.param("s4/tail_share", -1, 0.35, "B", marks=pytest.mark.plan("3.2.11")),
        pytest.param("s4/multigroup_share", 1, 0.35, "B", marks=pytest.mark.plan("3.2.12")),
        pytest.param("s4/entropy_p50", 1, 0.35, "B", marks=pytest.mark.plan("3.2.13")),
        pytest.param("s1/residual", 1, 0.006, "B+", marks=pytest.mark.plan("3.3.1")),
        pytest.param("s1/gap", 1, 0.05, "B+", marks=pytest.mark.plan("3.3.2")),
        pytest.param("s1/hhi_iqr", 1, 0.10, "B+", marks=pytest.mark.plan("3.3.3")),
        pytest.param("s3/merchant_std_median", 1, 0.04, "B+", marks=pytest.mark.plan("3.3.4")),
        pytest.param("s3/merchant_std_upper_tail", 1, 1.25, "B+", marks=pytest.mark.plan("3.3.5")),
        pytest.param("s4/max_p_median", -1, 0.78, "B+", marks=pytest.mark.plan("3.3.7")),
        pytest.param("s4/tail_share", -1, 0.20, "B+", marks=pytest.mark.plan("3.3.8")),
        pytest.param("s4/multigroup_share", 1, 0.50, "B+", marks=pytest.mark.plan("3.3.9")),
        pytest.param("s4/entropy_p50", 1, 0.45, "B+", marks=pytest.mark.plan("3.3.10")),
        pytest.param("s5/roster_days", 1, 28, "B", marks=pytest.mark.plan("3.1.1")),
        pytest.param("s5/repeat_share", 1, 0.10, "B", marks=pytest.mark.plan("3.1.2")),
    ],
)
def test_a_band_begins_at_its_threshold(metric, direction, threshold, band):
    assert rank(metric, threshold - direction * STEP) < BANDS.index(band) <= rank(metric, threshold)


@pytest.mark.parametrize(
    ("metric", "low", "high", "band"),
    [
        pytest.param("s3/gamma_mean", 0.95, 1.05, "B", marks=pytest.mark.plan("3.2.6")),
        pytest.param("s3/gamma_mean", 0.98, 1.02, "B+", marks=pytest.mark.plan("3.2.6")),
        pytest.param("s3/gamma_std", 0.04, 0.36, "B", marks=pytest.mark.plan("3.2.7")),
        pytest.param("s3/gamma_std", 0.06, 0.24, "B+", marks=pytest.mark.plan("3.2.7")),
    ],
)
def test_a_corridor_has_two_ends(metric, low, high, band):
    asked = BANDS.index(band)
    assert rank(metric, low) >= asked and rank(metric, high) >= asked
    assert rank(metric, low - STEP) < asked and rank(metric, high + STEP) < asked


@pytest.mark.parametrize("metric", ["s5/roster_days", "s5/repeat_share"])
@pytest.mark.plan("3.1.1", "3.1.2", "3.1.5")
def test_a_roster_that_is_too_shallow_or_unmeasured_leaves_no_grade(metric):
    held = GATES.select([gate.id for gate in GATES.gates if gate.metric == metric])
    assert graded(metric, 0.0).verdict == score({}, held, seed=42, authority=None).verdict == GATES.invalid


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        pytest.param("s2/alias_error", 1, marks=pytest.mark.plan("3.2.15")),
        pytest.param("s3/clipped_share", 0.01, marks=pytest.mark.plan("3.2.8", "P2.4.4")),
        pytest.param("s3/nonpositive_rows", 0, marks=pytest.mark.plan("3.2.9", "P2.4.4")),
        pytest.param("s4/mass_error_max", 0, marks=pytest.mark.plan("3.2.14", "P3.0.3")),
        pytest.param("s4/rank_inversions", 0, marks=pytest.mark.plan("P3.0.2", "P3.4.4")),
        pytest.param("s4/atom_share", 0.01, marks=pytest.mark.plan("P3.0.6", "P3.4.4")),
        pytest.param("s4/cliff", 0.02, marks=pytest.mark.plan("P3.0.6", "P3.4.4")),
        pytest.param("s4/groups_without_site", 0, marks=pytest.mark.plan("P1L.13")),
    ],
)
def test_a_veto_fails_everything_beyond_its_limit(metric, limit):
    assert not graded(metric, limit).vetoed
    beyond = graded(metric, limit + 2.0**-40)
    assert beyond.vetoed and not beyond.verdict.passed


# Every metric that is compared over seeds -> a value that holds B+.
USUAL = {"s1/residual": 0.02, "s4/max_p_median": 0.5, "s4/entropy_p50": 0.9, "s3/tz_std_median": 0.05}
WATCHED = ("s1/residual", "s4/max_p_median", "s4/entropy_p50")


def certified(metric, values):
    """The band of a certification in which one metric takes these values, seed by seed."""
    held = GATES.select([gate.id for gate in GATES.gates if gate.metric in USUAL])
    cards = [score({**USUAL, metric: x}, held, seed=i, authority=None) for i, x in enumerate(values)]
    return certify(cards, held).verdict.band


def varied(metric, cv):
    """Four values around the usual one with that coefficient of variation."""
    step = cv * USUAL[metric] * 3**0.5 / 2
    return [USUAL[metric] + side * step for side in (-1, -1, 1, 1)]


@pytest.mark.parametrize("metric", WATCHED)
@pytest.mark.plan("3.4.1", "3.4.2", "3.4.3", "P4.5")
def test_the_variation_over_seeds_is_limited_by_band(metric):
    assert certified(metric, varied(metric, 0.1499)) == "B+"
    assert certified(metric, varied(metric, 0.1501)) == certified(metric, varied(metric, 0.2499)) == "B"
    assert certified(metric, varied(metric, 0.2501)) is None


@pytest.mark.parametrize("metric", WATCHED)
@pytest.mark.plan("3.4.4", "P4.5")
def test_one_seed_that_collapses_among_many_fails_them_all(metric):
    steady = [USUAL[metric]] * 60
    assert certified(metric, [*steady, 0.51 * USUAL[metric]]) == "B+"
    assert certified(metric, [*steady, 0.49 * USUAL[metric]]) is None


@pytest.mark.plan("3.3.6")
def test_the_differentiation_of_zones_may_drift_so_far_and_no_further():
    assert certified("s3/tz_std_median", varied("s3/tz_std_median", 0.1499)) == "B+"
    assert certified("s3/tz_std_median", varied("s3/tz_std_median", 0.1501)) == "B"
