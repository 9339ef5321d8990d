"""A world that cannot be is counted, and graded: each implausible world fails exactly its own rail."""

import numpy as np
import pytest
from worlds import tiny_world

from lanelock.engine.segment_2b.draw_world import ZONE_SOURCES, assemble_world, draw_world
from lanelock.engine.segment_2b.geography import categories
from lanelock.engine.segment_2b.plausibility import alike_zones, plausibility
from lanelock.engine.surface import Categories
from lanelock.policies.documents import shipped
from lanelock.scoring.feasibility import Box
from lanelock.scoring.gates import Severity, load_gates
from lanelock.scoring.scorecard import score
from lanelock.scoring.segment_2b.world import sample_world, world_metrics
from lanelock.sweeps.lanes.lane import load_lane

HORIZON = {"start_day": "2026-01-01", "days": 90}
PARIS, MARSEILLE, NEW_YORK, DETROIT = (48.85, 2.35), (43.3, 5.37), (40.71, -74.01), (42.33, -83.05)
RAILS = ("world_zones", "world_coordinates", "world_countries")


def world_of(*sites, source="polygon"):
    """A merchant per tuple of (country, coordinates, zone or None for that of the polygon), two sites each."""
    countries, places, zones = zip(*sites, strict=True)
    lat, lon = np.array(places, float).T
    merchant = np.arange(len(sites)) // 2 + 1
    given = None if None in zones else categories(zones)
    origin = Categories(np.full(len(sites), ZONE_SOURCES.index(source), np.int8), ZONE_SOURCES)
    return assemble_world(
        source="imported",
        merchant_id=np.unique(merchant).astype(np.uint64),
        is_virtual=np.zeros(len(np.unique(merchant)), np.bool_),
        site_merchant=merchant.astype(np.uint64),
        country=categories(countries),
        site_order=(np.arange(len(sites)) + 1).astype(np.int32),
        lat_deg=lat,
        lon_deg=lon,
        zone=given,
        zone_source=None if given is None else origin,
    )


def failed(world):
    """The rails that the shipped gates let fail."""
    card = score(
        world_metrics([sample_world(world, HORIZON)]), load_gates("segment_2b").select(RAILS), seed=1, authority=None
    )
    assert card.verdict.passed == (not card.vetoed)
    return set(card.vetoed)


def test_the_shipped_gates_and_lanes_hold_them():
    gates = {gate.id: gate for gate in load_gates("segment_2b").gates}
    for name in RAILS:
        assert gates[name].severity is Severity.RAIL and set(gates[name].thresholds.values()) == {0}
    for name in shipped("lanes", ".json"):
        assert set(RAILS) <= {gate.id for gate in load_lane(name).gates.gates}


@pytest.mark.parametrize(
    ("sites", "rails"),
    [
        ([("FR", PARIS, "Europe/Paris"), ("FR", MARSEILLE, "Europe/Paris")], set()),
        # zones that no place of the country has
        ([("FR", PARIS, "Asia/Tokyo"), ("FR", MARSEILLE, "America/Lima")], {"world_zones"}),
        ([("FR", PARIS, "Europe/Paris"), ("FR", MARSEILLE, "Etc/UTC")], {"world_zones"}),
        ([("NL", (52.37, 4.9), "Europe/Amsterdam"), ("NL", (52.09, 5.1), "Europe/Brussels")], {"world_zones"}),
        # coordinates at sea, at 0/0, at a pole
        ([("FR", PARIS, "Europe/Paris"), ("FR", (0, 0), "Europe/Paris")], {"world_coordinates"}),
        ([("FR", PARIS, "Europe/Paris"), ("FR", (45.0, -30.0), "Europe/Paris")], {"world_coordinates"}),
        ([("RU", (55.75, 37.6), "Europe/Moscow"), ("RU", (90.0, 60.0), "Asia/Yekaterinburg")], {"world_coordinates"}),
        ([("FR", PARIS, None), ("FR", (0, 0), None)], {"world_coordinates", "world_zones"}),
        # a lost minus sign, and coordinates exchanged
        ([("US", NEW_YORK, "America/New_York"), ("US", (40.71, 74.01), "America/New_York")], {"world_countries"}),
        ([("US", NEW_YORK, None), ("US", (40.71, 74.01), None)], {"world_countries", "world_zones"}),
        ([("IN", (12.97, 77.59), "Asia/Kolkata"), ("IN", (77.59, 12.97), "Asia/Kolkata")], {"world_countries"}),
    ],
)
def test_each_implausible_world_fails_its_rail(sites, rails):
    assert failed(world_of(*sites)) == rails


def test_the_zone_of_a_polygon_across_the_border_is_plausible_unless_it_was_chosen():
    zhuhai = ("CN", (22.20208, 113.54394), "Asia/Macau")  # a few hundred metres from Macau
    home = ("CN", (31.23, 121.47), "Asia/Shanghai")
    assert failed(world_of(home, zhuhai)) == set()
    assert failed(world_of(home, zhuhai, source="override")) == {"world_zones"}
    assert failed(world_of(home, ("CN", (23.5, 113.54), "Asia/Macau"))) == {"world_zones"}  # 130 km inland


def test_countries_that_share_a_zone_of_their_neighbour_are_at_home_in_it():
    assert failed(world_of(("VN", (21.03, 105.85), None), ("XK", (42.66, 21.17), None))) == set()


@pytest.mark.parametrize("seed", [42, 7, 101, 202])
def test_a_drawn_world_is_plausible(packs, seed):
    assert failed(draw_world(packs("baseline")["world_v1"], seed)) == set()


def test_zones_alike_in_one_country_are_counted_and_not_graded():
    world = world_of(
        *(("US", NEW_YORK, "America/New_York"), ("US", DETROIT, "America/Detroit")),  # one merchant, two groups
        *(("US", NEW_YORK, "America/New_York"), ("CA", (43.65, -79.38), "America/Toronto")),  # alike, but two countries
        *(("US", DETROIT, "America/Detroit"), ("US", DETROIT, "America/Detroit")),  # one group
    )
    found = world_metrics([sample_world(world, HORIZON)])
    assert found["world/alike_zones"] == 2.0 and found["world/alike_groups"] == 2.0
    assert failed(world) == set()
    apart = world_metrics([sample_world(world, {"start_day": "1975-01-01", "days": 90})])
    assert apart["world/alike_zones"] == apart["world/alike_groups"] == 0.0


def test_zones_alike_are_counted_once_though_alike_in_two_countries():
    assert alike_zones([("A", 1, "x"), ("A", 1, "y"), ("B", 1, "x"), ("B", 1, "y"), ("B", 2, "z")]) == 2


def test_the_counts_of_shards_add_up():
    world = world_of(
        *(("US", NEW_YORK, None), ("US", (40.71, 74.01), None)),
        *(("FR", PARIS, None), ("FR", (0, 0), None)),
        *(("US", NEW_YORK, None), ("US", DETROIT, None)),
        *(("FR", PARIS, None), ("FR", MARSEILLE, None)),
    )
    whole = world_metrics([sample_world(world, HORIZON)])
    shards = [sample_world(world.shard(at, at + 1), HORIZON) for at in range(4)]
    assert world_metrics(shards) == whole
    assert whole["world/abroad_share"] == whole["world/nowhere_share"] == 1 / 8
    assert whole["world/foreign_zone_share"] == 2 / 8
    counts = plausibility(world, HORIZON).counts()
    assert counts["sites_at_0_0"] == counts["sites_in_no_country"] == counts["sites_in_another_country"] == 1


def test_a_world_of_reference_cities_is_plausible():
    assert failed(tiny_world()) == set()


OVERRIDES = "world_v1#/zones/tz_overrides"


@pytest.mark.parametrize(
    ("override", "helps"),
    [
        ({"from_tzid": "Asia/Shanghai", "tzid": "PRC"}, False),
        ({"from_tzid": "PRC", "tzid": "Asia/Chongqing"}, False),
        ({"site_order": 1, "from_tzid": "PRC", "tzid": "PRC"}, False),
        ({"site_order": 1, "from_tzid": "PRC", "tzid": "Asia/Kashgar"}, True),
    ],
)
def test_another_name_brings_no_gate_within_reach(override, helps):
    lane = load_lane("reopen_2a")
    start = lane.start.with_knobs({"world_v1#/merchants/count": 90, "day_effect_policy_v1#/horizon/days": 6})
    overrides = [{"legal_country_iso": "CN", **override}]

    def run(pack, until):
        return lane.engine.evaluate(pack, 42, until=until)

    def floor(*choices):
        bounds = lane.metrics.bounds(Box(start, {OVERRIDES: choices}, frozenset({OVERRIDES}), run))
        return next(bound.value for bound in bounds if bound.metric == "s4/tail_share")

    assert (floor([], overrides) < floor([])) is helps
    moved = lane.measure(run(start.with_knobs({OVERRIDES: overrides}), "S4"))
    plain = lane.measure(run(start, "S4"))
    same = {name for name in plain if name.startswith("s4/single") or name == "world/groups"}
    assert all(moved[name] == plain[name] for name in same) is not helps
