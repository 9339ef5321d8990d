"""The rebalance of zones: its law against a slow one, its caps, and all that it leaves as it was."""

import dataclasses
import json
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import rebalance as oracle

from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.draw_world import assemble_world, describe, draw_world
from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.segment_2b.world_import import open_world, write_world
from lanelock.engine.segment_2b.zones import countries_of
from lanelock.engine.surface import Categories
from lanelock.policies import PolicyError

COUNTRIES = ("AU", "CD", "DE", "ID", "KZ", "MX", "RU")  # Germany has no further zone with a place
REFUSED = ("few_sites", "narrow", "overridden", "far", "merchant_cap", "country_cap", "sites_cap")
RULES = {
    "enabled": True,
    "caps": {"sites": 0.02, "country": 0.05, "merchant": 0.2},
    "least_sites": 6,
    "least_span_deg": 2,
    "greatest_km": 200,
}


def zone_policy(rules, **more):
    return {
        "tz_nudge": {"epsilon_deg": 0.01},
        "tz_overrides": [],
        **({} if rules is None else {"rebalance": rules}),
        **more,
    }


@cache
def towns():
    """Every city as (country, place, zone), by country."""
    land = geography.cities()
    country, zone = (np.asarray(column.values)[column.codes] for column in (land.country, land.zone))
    rows = zip(country.tolist(), land.lat_deg.tolist(), land.lon_deg.tolist(), zone.tolist(), strict=True)
    return [
        {"country": country, "place": (lat, lon), "zone": zone}
        for country, lat, lon, zone in rows
        if country in COUNTRIES and country in countries_of(zone)
    ]


@cache
def towns_of(zone):
    return [town for town in towns() if town["zone"] == zone]


@cache
def home_zones():
    return sorted({town["zone"] for town in towns()})


@st.composite
def merchants(draw):
    """Merchants as lists of cities, most of them of a single zone."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        size = draw(st.integers(2, 16))
        zones = draw(
            st.lists(st.sampled_from(home_zones()), min_size=1, max_size=draw(st.sampled_from((1, 1, 1, 1, 2))))
        )
        places = [town for zone in zones for town in towns_of(zone)]
        found.append([places[draw(st.integers(0, 10**6)) % len(places)] for _ in range(size)])
    return found


SHARE = st.sampled_from((0.0, 0.1, 0.3, 0.5, 0.9, 1.0, 1.0))
BOUNDS = st.fixed_dictionaries(
    {
        "enabled": st.just(True),
        "caps": st.fixed_dictionaries({"sites": SHARE, "country": SHARE, "merchant": SHARE}),
        "least_sites": st.integers(2, 5),
        "least_span_deg": st.sampled_from((0, 0, 0.5, 2, 10)),
        "greatest_km": st.sampled_from((100, 300, 500, 1500)),
    }
)


def world_of(given_merchants, rules, **policy):
    sites = [(number + 1, town) for number, towns in enumerate(given_merchants) for town in towns]
    ids = np.arange(1, len(given_merchants) + 1, dtype=np.uint64)
    names = sorted({town["country"] for _, town in sites})
    return assemble_world(
        source="drawn",
        merchant_id=ids,
        is_virtual=np.zeros(len(ids), np.bool_),
        site_merchant=np.array([merchant for merchant, _ in sites], np.uint64),
        country=Categories(np.array([names.index(town["country"]) for _, town in sites], np.int32), tuple(names)),
        lat_deg=np.array([town["place"][0] for _, town in sites]),
        lon_deg=np.array([town["place"][1] for _, town in sites]),
        zone_policy=zone_policy(rules, **policy),
    )


def listed(world):
    """The sites of a world in the order of their keys, as the slow law takes them."""
    owner = np.repeat(world.merchant_id, np.diff(world.site_offsets)).tolist()
    country, zone, source = (
        np.asarray(column.values)[column.codes].tolist() for column in (world.country, world.zone, world.zone_source)
    )
    places = zip(world.lat_deg.tolist(), world.lon_deg.tolist(), strict=True)
    names = ("merchant", "country", "place", "zone", "source")
    rows = [dict(zip(names, row, strict=True)) for row in zip(owner, country, places, zone, source, strict=True)]
    return [{**row, "overridden": row["source"] == "override"} for row in rows]


@settings(max_examples=40, deadline=None)
@given(merchants(), BOUNDS)
def test_it_is_the_slow_law_and_keeps_within_every_bound(given_merchants, rules):
    plain, moved = world_of(given_merchants, None), world_of(given_merchants, rules)
    before, after, counts = listed(plain), listed(moved), dataclasses.asdict(moved.rebalance)
    zones, refused = oracle.rebalanced(before, towns(), rules)
    assert [site["zone"] for site in after] == zones
    assert {name: counts[name] for name in REFUSED} == {name: refused[name] for name in REFUSED}

    gone = [number for number, site in enumerate(after) if site["source"] == "rebalance"]
    assert gone == [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a["zone"] != b["zone"]]
    assert counts["looked_at"] == counts["moved"] + sum(counts[name] for name in REFUSED) and counts["moved"] == len(
        gone
    )
    sizes = Counter(site["merchant"] for site in before)
    for cap in ("merchant", "country", "sites"):
        owners = Counter(site.get(cap) for site in before)
        for owner, count in Counter(before[i].get(cap) for i in gone).items():
            assert count <= rules["caps"][cap] * owners[owner] + 1e-9
    for i in gone:
        assert before[i]["country"] == after[i]["country"] and before[i]["place"] == after[i]["place"]
        assert sizes[before[i]["merchant"]] >= rules["least_sites"]
        assert len({site["zone"] for site in before if site["merchant"] == before[i]["merchant"]}) == 1
        near = [town for town in towns_of(after[i]["zone"]) if town["country"] == after[i]["country"]]
        km = min(oracle.distance_km(after[i]["place"], town["place"]) for town in near)
        assert km <= rules["greatest_km"] + 1e-6
    assert counts["zones_after"] == len(moved.zones) and counts["zones_before"] == len(plain.zones)
    for when, world in (("before", plain), ("after", moved)):
        assert counts[f"single_group_share_{when}"] == describe(world)["single_group_share"]


@settings(max_examples=40, deadline=None)
@given(merchants(), BOUNDS, st.sampled_from(("sites", "country", "merchant")), SHARE)
def test_a_higher_cap_never_moves_fewer_sites(given_merchants, rules, cap, share):
    low, high = sorted((rules["caps"][cap], share))
    fewer, more = (
        world_of(given_merchants, {**rules, "caps": {**rules["caps"], cap: value}}).rebalance for value in (low, high)
    )
    assert fewer.moved <= more.moved and fewer.looked_at == more.looked_at


@settings(max_examples=25, deadline=None)
@given(merchants(), BOUNDS)
def test_where_nothing_moves_the_world_is_as_if_there_were_no_rebalance(given_merchants, rules):
    plain = world_of(given_merchants, None)
    still = {**rules, "caps": {**rules["caps"], "merchant": 0.0}}
    assert plain.digest == world_of(given_merchants, still).digest
    off = world_of(given_merchants, {**rules, "enabled": False})
    assert plain.digest == off.digest and plain.rebalance is None and off.rebalance is None
    assert plain.zone_source.values == ("nudge", "override", "polygon")


def policy_with(policy, rules):
    return {**policy, "zones": {**policy["zones"], "rebalance": rules}}


@pytest.fixture
def policy(packs):
    return packs("baseline")["world_v1"]


def test_off_the_reference_world_is_the_one_of_a_policy_without_it(policy):
    without = {**policy, "zones": {name: policy["zones"][name] for name in ("tz_nudge", "tz_overrides")}}
    assert policy["zones"]["rebalance"]["enabled"] is False
    assert draw_world(policy, 42).digest == draw_world(without, 42).digest


def test_on_it_moves_the_floor_of_the_reference_world_and_says_so(policy, packs):
    world = draw_world(policy_with(policy, RULES), 42)
    shown = SEGMENT_2B.describe_world(world, packs("baseline"))
    assert shown["rebalance"]["moved"] == shown["zone_sources"]["rebalance"] == 199
    effect = shown["rebalance_effect"]
    assert (effect["zones_before"], effect["zones_after"]) == (92, 114)
    shares = [effect[f"single_group_share_{when}"] for when in ("before", "after")]
    assert shares == pytest.approx([598 / 1238, 502 / 1238]) and shown["single_group_share"] == shares[1]
    assert shown["plausibility"]["sites_in_a_foreign_zone"] == 0 < shown["plausibility"]["sites_off_their_zone"]
    assert "rebalance" not in SEGMENT_2B.describe_world(draw_world(policy, 42), packs("baseline"))


def test_an_overridden_site_stays_where_the_override_put_it():
    perth = towns_of("Australia/Perth")[:8]
    rules = {
        **RULES,
        "caps": dict.fromkeys(("sites", "country", "merchant"), 1.0),
        "least_span_deg": 0,
        "greatest_km": 5000,
    }
    override = [{"legal_country_iso": "AU", "site_order": 1, "tzid": "Australia/Perth"}]
    world = world_of([perth], rules, tz_overrides=override)
    sources = [site["source"] for site in listed(world)]
    assert sources == ["override"] + ["rebalance"] * 7 and world.rebalance.overridden == 1


def test_a_span_is_measured_across_the_meridian_of_180_degrees():
    assert oracle.span_deg([179.0, -179.0]) == 2.0 and oracle.span_deg([5.0]) == 0.0
    far_east = [town for town in towns() if town["country"] == "RU" and town["place"][1] > 150]
    world = world_of([far_east[:1] * 6], {**RULES, "caps": dict.fromkeys(RULES["caps"], 1.0)})
    assert world.rebalance.narrow == world.rebalance.looked_at == 6


def test_a_rebalanced_world_is_written_with_its_sources_and_read_as_it_is(policy, tmp_path):
    moved = policy_with(policy, RULES)
    world = draw_world(moved, 42)
    write_world(world, tmp_path)
    assert json.loads((tmp_path / "world_receipt.json").read_text())["zone_sources"]["rebalance"] == 199
    for read_by in (policy, moved):  # its zones are given: no policy of 2A moves them again
        again = open_world(tmp_path, read_by)
        assert again.digest == world.digest and again.rebalance is None


def test_an_imported_world_without_zones_is_rebalanced_as_a_drawn_one(policy, tmp_path):
    drawn = draw_world(policy, 42)
    write_world(drawn, tmp_path)
    for name in ("world_receipt.json", "_passed.flag", "site_timezones.parquet"):
        (tmp_path / name).unlink()
    moved = policy_with(policy, RULES)
    assert open_world(tmp_path, policy).digest == drawn.digest
    assert open_world(tmp_path, moved).digest == draw_world(moved, 42).digest


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"caps": {"sites": 0.06, "country": 0.1, "merchant": 0.1}}, "/zones/rebalance/caps/sites: 0.06"),
        ({"least_sites": 1}, "/zones/rebalance/least_sites: 1"),
        ({"greatest_km": math.nextafter(500, 501)}, "/zones/rebalance/greatest_km: 500.0"),
        ({"most_km": 5}, "/zones/rebalance: unknown field most_km"),
    ],
)
def test_what_the_schema_does_not_allow_is_refused(packs, changed, field):
    with pytest.raises(PolicyError, match=field):
        packs("baseline").with_knobs({"world_v1#/zones/rebalance": {**RULES, **changed}})
