"""The shipped reference world against the recorded facts, on the lane's seeds."""

import numpy as np
import pytest

from lanelock.engine.segment_2b.draw_world import describe, draw_world
from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import load_pack


@pytest.mark.parametrize("seed", [42, 7, 101, 202, 1, 2])
def test_reference_world_meets_the_facts(seed):
    policy = load_pack("baseline", SEGMENT_2B.policy_schemas)["world_v1"]
    said = describe(draw_world(policy, seed))
    assert said["merchants"] == 1238
    assert said["single_group_share"] == pytest.approx(0.483, abs=0.005)
    assert said["two_group_share"] == pytest.approx(0.188, abs=0.01)
    assert said["zones"] >= 90
    assert said["groups_max"] <= 12
    assert said["virtual_share"] == pytest.approx(0.1123, abs=0.001)
    facts = {"min": 2, "p10": 6, "p25": 9, "p50": 16, "p75": 23, "p90": 36, "p99": 168, "max": 2546}
    for name, fact in facts.items():
        assert said["site_count_quantiles"][name] == pytest.approx(fact, rel=0.1)
    assert said["small_single_group_share"] >= 0.6


@pytest.mark.parametrize("name", ["baseline", "p1", "p2", "p3_recorded", "p3_smooth", "p3_wide"])
def test_every_merchant_day_sums_to_exactly_one_in_any_order(name):
    pack = load_pack(name, SEGMENT_2B.policy_schemas)
    run = SEGMENT_2B.evaluate(pack, 42, until="S4")
    p = run.surfaces["s4_group_weights"]["p_group"]
    keys = np.stack(
        [run.surfaces["s4_group_weights"]["merchant_id"], run.surfaces["s4_group_weights"]["utc_day"].codes]
    )
    starts = np.flatnonzero(np.r_[True, (np.diff(keys, axis=1) != 0).any(axis=0)])
    assert np.all(np.add.reduceat(p, starts) == 1.0)
    assert np.all(np.add.reduceat(p[::-1], np.sort(len(p) - np.r_[starts[1:], len(p)])) == 1.0)
