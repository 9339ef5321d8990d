"""Distances of two samples, beside the same laws written out: differences of steps, areas between them, shares."""

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet
from test_table_metrics import gates_of, run_of, source_of

from lanelock.policies import DataError, IntegrityError
from lanelock.scoring.distances import distance, sample_of
from lanelock.scoring.gates import parse_gates
from lanelock.scoring.scorecard import keepsake_of, measured
from lanelock.scoring.tables import TableMetrics

VALUES = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=15)
PAIRS = st.lists(st.tuples(st.integers(-9, 9).map(float), st.integers(1, 4).map(float)), min_size=1, max_size=12)


def sample(values, weights=None):
    columns = {"x": values} | ({} if weights is None else {"w": weights})
    return sample_of(pa.table(columns), "x", None if weights is None else "w", "test")


def below(values, weights, at):
    """The share of the weight at or below a point."""
    return sum(w for v, w in zip(values, weights, strict=True) if v <= at) / sum(weights)


def steps(ours, theirs):
    """The points at which either distribution steps, with both shares there."""
    (a, aw), (b, bw) = ours, theirs
    return [(at, below(a, aw, at), below(b, bw, at)) for at in sorted({*a, *b})]


def spread(pairs):
    return [v for v, _ in pairs], [w for _, w in pairs]


def check(ours, theirs, first, second):
    points = steps(ours, theirs)
    greatest = max(abs(one - other) for _, one, other in points)
    area = sum(abs(one - other) * (high - low) for (low, one, other), (high, _, _) in zip(points, points[1:]))  # noqa: B905, RUF007
    assert distance("kolmogorov_smirnov", first, second, "t") == pytest.approx(greatest, abs=1e-11)
    assert distance("wasserstein", first, second, "t") == pytest.approx(area, abs=1e-9)


@settings(max_examples=30)
@given(VALUES, VALUES)
def test_steps_and_areas_between_two_samples(ours, theirs):
    check((ours, [1.0] * len(ours)), (theirs, [1.0] * len(theirs)), sample(ours), sample(theirs))


@settings(max_examples=30)
@given(PAIRS, PAIRS)
def test_weights_count_as_that_many_rows(ours, theirs):
    check(spread(ours), spread(theirs), sample(*spread(ours)), sample(*spread(theirs)))
    repeated = [[v for v, w in pairs for _ in range(int(w))] for pairs in (ours, theirs)]
    weighed = sample(*spread(ours)), sample(*spread(theirs))
    for kind in ("kolmogorov_smirnov", "wasserstein"):
        assert distance(kind, *weighed, "t") == pytest.approx(distance(kind, *map(sample, repeated), "t"), abs=1e-9)


LETTERS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=20)


@settings(max_examples=30)
@given(LETTERS, LETTERS)
def test_jensen_shannon_is_the_root_of_the_mean_divergence_from_the_middle(ours, theirs):
    divergence = 0.0
    for letter in "abcd":
        p, q = ours.count(letter) / len(ours), theirs.count(letter) / len(theirs)
        for share in (p, q):
            divergence += share * math.log2(share / ((p + q) / 2)) / 2 if share else 0.0
    found = distance("jensen_shannon", sample(ours), sample(theirs), "t")
    assert found == pytest.approx(math.sqrt(max(divergence, 0.0)), abs=1e-7)
    assert distance("jensen_shannon", sample(theirs), sample(ours), "t") == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("kind", ["kolmogorov_smirnov", "wasserstein", "jensen_shannon"])
def test_a_sample_is_at_no_distance_from_itself_and_further_from_what_is_further(kind):
    values = [float(number * number % 17) for number in range(100)]
    same, near, far = (sample([value + shift for value in values]) for shift in (0.0, 1.0, 40.0))
    assert distance(kind, sample(values), same, "t") == 0.0
    assert 0.0 < distance(kind, near, same, "t") < distance(kind, far, same, "t")


def test_what_cannot_be_compared_is_nan_or_refused_in_one_line():
    numbers, texts = sample([1.0, 2.0]), sample(["a"])
    assert math.isnan(distance("wasserstein", sample(pa.array([None], pa.float64())), numbers, "t"))
    assert math.isnan(distance("kolmogorov_smirnov", sample([math.nan, 1.0]), numbers, "t"))
    assert math.isnan(distance("jensen_shannon", sample([math.inf, 1.0]), numbers, "t"))
    with pytest.raises(DataError, match=r"^t: one column holds numbers and the other texts"):
        distance("jensen_shannon", numbers, texts, "t")
    with pytest.raises(DataError, match="kolmogorov_smirnov takes numbers; jensen_shannon compares categories"):
        distance("kolmogorov_smirnov", texts, texts, "t")
    with pytest.raises(DataError, match="weights are finite numbers of 0 or more"):
        sample([1.0, 2.0], [1.0, -1.0])
    with pytest.raises(DataError, match="'y' is not one of the columns: x"):
        sample_of(pa.table({"x": [1.0]}), "y", None, "t")


def test_a_reference_may_be_parquet_or_csv_and_is_read_as_its_digest_states(tmp_path):
    table = pa.table({"real": [0.0, 1.0, 2.0]})
    parquet.write_table(table, tmp_path / "r.parquet")
    csv.write_csv(table, tmp_path / "r.csv")
    (tmp_path / "bad.parquet").write_text("no table")
    usual = {"distance": "wasserstein", "column": "x", "reference_column": "real"}
    rows = {name: {**usual, "reference": f"r.{name}"} for name in ("parquet", "csv")}
    run = run_of(output={"x": [1.0, 2.0, 3.0]})
    source = source_of(tmp_path, **rows)
    assert source.measure(run) == {"parquet": 1.0, "csv": 1.0}
    with pytest.raises(DataError, match=r"bad.parquet: neither Parquet nor CSV that can be read"):
        source_of(tmp_path, m={**usual, "reference": "bad.parquet"}).measure(run)
    stated = parse_gates(source.gates_file, "g")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("r.parquet", "r.csv"):
        (moved / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    with pytest.raises(IntegrityError, match=r"r.parquet: the definition states \w{12}, the file is \w{12}"):
        TableMetrics("e", gates_of("m"), folder=moved).defined_by(stated).measure(run)


def test_a_distance_from_the_authority_is_nan_without_it():
    source = source_of(m={"distance": "kolmogorov_smirnov", "column": "x", "reference": "authority"}, n="count(*)")
    authority, run = run_of(output={"x": [0.0, 1.0]}), run_of(output={"x": [1.0, 2.0]})
    assert math.isnan(measured(source, run)["m"]) and measured(source, run)["n"] == 2
    assert measured(source, run, keepsake_of(source, lambda: authority))["m"] == 0.5
    assert keepsake_of(source_of(n="count(*)"), lambda: pytest.fail("it is not run for nothing")) is None
