"""Metrics over shards are the whole's, to the last bit, wherever the cuts are."""

import dataclasses
import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.surface import Surface
from lanelock.policies import load_pack
from lanelock.scoring.scorecard import ShardMetrics
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
from lanelock.scoring.segment_2b.metrics import Segment2BMetrics

MERCHANTS = 200


@cache
def run_of(name):
    pack = load_pack(name, SEGMENT_2B.policy_schemas).with_knobs({"world_v1#/merchants/count": MERCHANTS})
    return Segment2B().evaluate(pack, 42, until="S4")


@pytest.fixture(params=["baseline", "p3_recorded"])
def run(request):
    return run_of(request.param)


def cut(run, edges):
    """The run in parts."""
    days = len(run.surfaces["s4_group_weights"]["utc_day"].values)
    sites, groups = run.upstream.site_offsets, run.upstream.group_offsets * days
    for first, last in pairwise([0, *sorted(edges), MERCHANTS]):
        parts = {
            name: surface.part(slice(offsets[first], offsets[last]))
            for name, surface in run.surfaces.items()
            for offsets in [sites if name == "s1_site_weights" else groups]
        }
        yield dataclasses.replace(run, surfaces=parts, upstream=run.upstream.shard(first, last))


@given(st.sampled_from(["baseline", "p3_recorded"]), st.sets(st.integers(1, MERCHANTS - 1), max_size=10))
def test_cutting_changes_no_bit_of_a_metric(name, edges):
    samples = [METRICS.sample(part) for part in cut(run_of(name), edges)]
    assert METRICS.reduce(samples) == METRICS.measure(run_of(name))


@given(
    st.sampled_from(["baseline", "p3_recorded"]),
    st.sets(st.integers(1, MERCHANTS - 1), min_size=2, max_size=8),
    st.randoms(),
)
def test_neither_does_the_order_of_merchants(name, edges, random):
    samples = [METRICS.sample(part) for part in cut(run_of(name), edges)]
    random.shuffle(samples)
    assert METRICS.reduce(samples) == METRICS.measure(run_of(name))


def test_a_metric_stays_in_its_bounds(run):
    found, surface = METRICS.measure(run), run.surfaces["s3_day_effects"]
    gamma = np.asarray(surface["gamma"])
    assert gamma.min() <= found["s3/gamma_mean"] <= gamma.max()
    assert 0.0 <= found["s3/gamma_std"] <= (gamma.max() - gamma.min())
    assert 0.0 <= found["s3/tz_std_median"] <= (gamma.max() - gamma.min()) / math.sqrt(2.0)
    assert 0.0 <= found["s2/alias_error"] <= 1.0
    one, two = found["s4/single_group_share"], found["s4/two_group_share"]
    parts = one + two * found["s4/tail_share_two"] + (1.0 - one - two) * found["s4/tail_share_three"]
    assert parts == pytest.approx(found["s4/tail_share"], rel=1e-12), "the parts make up the whole"


def test_neither_does_cutting_the_roster(run):
    """A shard's arrivals are not computed by shard; those of some merchants are measured all the same."""
    roster = Segment2B().evaluate(run.pack, 42, until="S5").surfaces["s5_arrival_roster"]
    merchant = np.asarray(roster["merchant_id"])
    parts = [
        dataclasses.replace(run, surfaces={roster.name: roster.part(np.flatnonzero(merchant % 3 == rest))})
        for rest in range(3)
    ]
    one = dataclasses.replace(run, surfaces={roster.name: roster})
    cut, whole = METRICS.reduce([METRICS.sample(part) for part in parts]), METRICS.measure(one)
    of_roster = {name for name in whole if name.startswith("s5/")}  # the parts all stand on the one whole world
    assert of_roster and {name: cut[name] for name in of_roster} == {name: whole[name] for name in of_roster}


@pytest.mark.parametrize("merchants", [1, 13, 199])
def test_neither_do_workers(run, merchants):
    shards = Segment2B().sharded(merchants, 2).evaluate_shards(run.pack, 42, until="S4")
    assert METRICS.reduce([METRICS.sample(shard) for shard in shards]) == METRICS.measure(run)


def broken(run, surface, column, change):
    values = np.array(run.surfaces[surface][column])
    change(values)
    old = run.surfaces[surface]
    return dataclasses.replace(
        run, surfaces={**run.surfaces, surface: Surface(old.name, old.schema, {**old.columns, column: values})}
    )


def test_what_is_broken_in_one_shard_is_seen_in_the_whole(run):
    """Detectors and counts, not medians alone, come through."""

    def last(value):
        def change(values):
            values[-1] = value

        return change

    cases = (
        ("s4_group_weights", "p_group", last(0.25), "s4/mass_error_max"),
        ("s4_group_weights", "merchant_id", last(1), "s4/groups_without_site"),
        ("s3_day_effects", "gamma", last(-1.0), "s3/nonpositive_rows"),
        ("s3_day_effects", "log_gamma", last(-9.0), "s3/max_abs_log_gamma"),
    )
    for surface, column, change, metric in cases:
        odd = broken(run, surface, column, change)
        found = METRICS.reduce([METRICS.sample(part) for part in cut(odd, {50, 150})])
        assert found == METRICS.measure(odd), metric
        assert found[metric] > METRICS.measure(run)[metric], metric


def test_a_delta_mass_that_is_no_number_has_no_mean(run):
    odd = broken(run, "s4_group_weights", "regularizer_delta_mass", lambda values: values.__setitem__(0, np.nan))
    assert math.isnan(METRICS.reduce([METRICS.sample(part) for part in cut(odd, {50})])["s4/intervention"])


COLUMNS = [
    ("s1_site_weights", "p_weight"),
    ("s3_day_effects", "gamma"),
    ("s3_day_effects", "log_gamma"),
    ("s4_group_weights", "p_group"),
    ("s4_group_weights", "mass_raw"),
    ("s4_group_weights", "regularizer_delta_mass"),
    ("s4_group_weights", "merchant_id"),
]


@given(
    st.sampled_from(["baseline", "p3_recorded"]),
    st.sampled_from(COLUMNS),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([-1.0, 0.0, 0.5, 2.0, 1e300]),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.sets(st.integers(1, MERCHANTS - 1), max_size=6),
)
def test_neither_does_cutting_what_is_damaged(name, where, place, value, stranger, edges):
    """Any value in a row, or a merchant that the world does not have, counts the same in shards as whole."""

    def change(values):
        values[int(place * len(values))] = stranger if where[1] == "merchant_id" else value

    odd = broken(run_of(name), *where, change)
    found = METRICS.reduce([METRICS.sample(part) for part in cut(odd, edges)])
    np.testing.assert_equal(found, METRICS.measure(odd))


@pytest.mark.parametrize("stranger", [0, 2**64 - 1])
def test_one_row_of_a_stranger_is_one_row_without_a_group(run, stranger):
    """It says nothing of the rows behind it."""
    groups, rows = np.diff(run.upstream.group_offsets), run.surfaces["s4_group_weights"]
    days = rows.rows // groups.sum()
    lone = np.flatnonzero(np.repeat(groups == 1, days * groups))  # rows that are a whole merchant-day
    for row in lone[[0, -1]]:
        odd = broken(run, rows.name, "merchant_id", lambda values, row=row: values.__setitem__(row, stranger))
        assert METRICS.measure(odd)["s4/groups_without_site"] == 1


def test_the_mean_is_the_exact_one(run):
    """Against math.fsum, which is exact too: each day is rounded to 2^-53, no more."""
    starts = np.flatnonzero(np.diff(run.surfaces["s4_group_weights"]["utc_day"].codes, prepend=-1))
    moved = run.surfaces["s4_group_weights"]["regularizer_delta_mass"][starts]
    exact = math.fsum(moved) / len(moved)
    assert METRICS.measure(run)["s4/intervention"] == pytest.approx(exact, rel=0, abs=2.0**-52)


def test_segment_2b_measures_shards_and_an_engine_need_not():
    from queue_engine import QueueMetrics

    assert isinstance(Segment2BMetrics(), ShardMetrics) and not isinstance(QueueMetrics(), ShardMetrics)
