"""The world's metrics are their definitions, on a world small enough to count by hand."""

import dataclasses

import numpy as np
from worlds import tiny_world

from lanelock.engine.segment_2b.draw_world import ZONE_SOURCES
from lanelock.engine.surface import Categories
from lanelock.scoring.gates import load_gates
from lanelock.scoring.segment_2b.world import sample_world
from lanelock.scoring.segment_2b.world import world_metrics as reduced

SITES = {
    1: {"Europe/London": 3, "Europe/Paris": 2},  # small, two zones
    2: {"Asia/Tokyo": 5},  # small, one
    3: {"Asia/Tokyo": 4, "America/New_York": 2},
    4: {"Europe/Paris": 9},
}


def world_metrics(world):
    return reduced([sample_world(world, {"start_day": "2026-01-01", "days": 90})])


def test_counts_and_shares():
    assert world_metrics(tiny_world(sites=SITES)) == {
        "world/merchants": 4.0,
        "world/sites": 25.0,
        "world/zones": 4.0,
        "world/groups": 6.0,
        "world/single_group_share": 0.5,
        "world/small_single_share": 0.5,
        "world/overridden_share": 0.0,
        "world/groups_without_site": 0.0,
        "world/foreign_zone_share": 0.0,
        "world/off_zone_share": 0.0,
        "world/unbacked_merchant_share": 0.0,
        "world/nowhere_share": 0.0,
        "world/abroad_share": 0.0,
        "world/alike_zones": 0.0,
        "world/alike_groups": 0.0,
    }


def test_an_override_and_a_group_without_a_site_are_seen():
    world = tiny_world(sites=SITES)
    codes = np.full(25, ZONE_SOURCES.index("polygon"), np.int8)
    codes[:5] = ZONE_SOURCES.index("override")
    moved = np.where(world.site_group == 5, 4, world.site_group)
    found = world_metrics(dataclasses.replace(world, zone_source=Categories(codes, ZONE_SOURCES), site_group=moved))
    assert found["world/overridden_share"] == 0.2 and found["world/groups_without_site"] == 1.0


def test_a_world_without_small_merchants_has_none_that_spread():
    assert world_metrics(tiny_world(sites={4: {"Europe/Paris": 9}}))["world/small_single_share"] == 1.0


def test_the_gate_file_describes_each():
    described = {name for name in load_gates("segment_2b").metrics if name.startswith("world/")}
    assert described == set(world_metrics(tiny_world(sites=SITES)))
