"""Large worlds: memory follows the shard, not the world, and time grows as rows do."""

import pytest
from bench_scale import apart


def test_a_world_three_times_as_large_streams_in_the_memory_of_one():
    one, three = apart(1, 1), apart(3, 1)
    assert three["rows"] > 2.9 * one["rows"]
    whole = 3 * 280_000 * 200 / 2**30  # GB that the surfaces of the larger would take, held whole
    assert three["peak_gb"] < one["peak_gb"] + whole / 2


@pytest.mark.slow
def test_ten_times_as_large_it_stays_below_a_gigabyte():
    one, ten = apart(1, 1), apart(10, 2)
    assert ten["rows"] > 9.9 * one["rows"] and ten["peak_gb"] < 1.0
    assert ten["seconds"] < 30 * one["seconds"], "were it quadratic, it would be a hundred"
    for name in (
        "s4/max_p_median",
        "s4/entropy_p50",
        "s4/tail_share",
        "s1/residual",
    ):  # quotas: a larger draw of one law
        assert ten["metrics"][name] == pytest.approx(one["metrics"][name], rel=0.2), name
