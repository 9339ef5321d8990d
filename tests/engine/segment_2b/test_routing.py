"""S5 and S6: the oracle on tiny worlds, the addresses of the draws, and two million arrivals against their shares."""

import hashlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import routing as slow
from worlds import tiny_world

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.segment_2b.states import (
    s1_site_weights,
    s3_day_effects,
    s4_group_weights,
    s5_roster,
    s5_routing,
    s6_edges,
)
from lanelock.engine.surface import Surface, table_digest
from lanelock.engine.workers import at_most
from lanelock.policies import DataError, PolicyError, load_pack, pack_of

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
ZONES = ["Europe/London", "Europe/Paris", "America/New_York", "Asia/Tokyo"]
SITES = st.dictionaries(
    st.integers(0, 2**64 - 1),
    st.dictionaries(st.sampled_from(ZONES), st.integers(1, 6), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
MERCHANT = st.integers(0, 2**64 - 1) | st.integers(0, 60) | st.integers(2**64 - 60, 2**64 - 1)
LAWS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["smoke", "realism"]),
        "arrivals_per_merchant_day": st.floats(0.1, 8.0),
        "size_exponent": st.floats(0.0, 1.5),
        "day_sigma": st.floats(0.0, 1.0),
        "hour_weights": st.lists(st.integers(0, 9), min_size=24, max_size=24).filter(any),
        "class_mix": st.just({"purchase": 0.7, "refund": 0.0, "recurring": 0.3}),
        "channel_mix": st.just({"in_store": 0.5, "online": 0.5}),
    }
)


@cache
def pack():
    return load_pack("p3_recorded", SEGMENT_2B.policy_schemas)


def routed(world, law, seed):
    """Roster, selection and edges of a tiny world, and the tables they were routed by."""
    policy = {**pack()["route_rng_policy_v1"], "roster": law}
    effects = {**pack()["day_effect_policy_v1"], "horizon": {"start_day": DAYS[0], "days": len(DAYS)}}
    rows = s3_day_effects.grid(world, effects)
    s1 = s1_site_weights.site_weights(world, pack()["alias_layout_policy_v1"], "t")
    raw = s4_group_weights.raw_mix(world, rows, s1, s3_day_effects.day_effects(world, rows, effects, seed, "t"))
    s4 = s4_group_weights.group_weights(rows, raw, pack()["group_mix_regularizer_v1"], "t")
    roster = s5_roster.roster(world, DAYS, policy, seed, "t")
    tables = s5_routing.router(world, DAYS, s1, s4, policy, seed)
    edges = s6_edges.edges(world, roster, edge_policy(world), policy, seed, "t")
    return policy, s1, s4, roster, tables, s5_routing.route(tables, roster, policy, "t"), edges


def edge_policy(world):
    """The shipped edges, and for the first merchant two of its own, one of them without weight."""
    shipped = pack()["virtual_edge_policy_v1"]
    own = [{**shipped["default_edges"][0], "edge_id": name, "weight": weight} for name, weight in (("a", 1), ("b", 0))]
    return {**shipped, "merchant_overrides": {str(int(world.merchant_id[0])): own}}


def listed(surface, *names):
    table = surface.table()
    columns = [table[name].cast("int64") if name == "utc_timestamp" else table[name] for name in names]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


@pytest.mark.plan("2.5")
@settings(max_examples=40)
@given(sites=SITES, law=LAWS, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_roster_routes_and_edges_are_those_of_the_oracle(sites, law, seed, data):
    virtual = data.draw(st.sets(st.sampled_from(sorted(sites))))
    world = tiny_world(sites=sites, virtual=virtual)
    policy, s1, s4, roster, _, log, edges = routed(world, law, seed)

    merchants = [(int(m), sum(sites[int(m)].values()), int(m) in virtual) for m in world.merchant_id]
    expected = slow.roster(world.digest, seed, merchants, DAYS, policy)
    names = ("utc_timestamp", "merchant_id", "utc_day", "is_virtual", "arrival_class", "channel")
    found = listed(roster, *names)
    assert [row[1:4] for row in found] == [row[1:4] for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert abs(ours[0] - theirs[0]) <= 1 and ours[4:] == theirs[4:], (
            "a moment may fall on either side of a microsecond"
        )

    shares = {}
    for merchant, day, zone, p in listed(s4, "merchant_id", "utc_day", "tz_group_id", "p_group"):
        shares.setdefault((merchant, day), {})[zone] = p
    weights = {}
    place = s5_routing.site_ids(world)
    for row in range(len(place)):
        owner = int(world.merchant_id[np.searchsorted(world.site_offsets, row, side="right") - 1])
        zone = world.zones[world.zone.codes[row]]
        weights.setdefault(owner, {}).setdefault(zone, []).append((int(place[row]), float(s1["p_weight"][row])))
    occurrences = listed(roster, "utc_timestamp", "merchant_id", "utc_day", "is_virtual", "occurrence")
    physical = [row for row in occurrences if not row[3]]
    assert listed(log, "utc_timestamp", "merchant_id", "utc_day") == [row[:3] for row in physical]
    for (moment, merchant, day, _, again), choice in zip(physical, listed(log, "tz_group_id", "site_id"), strict=True):
        mix, at = shares[merchant, day], weights[merchant]
        assert choice == slow.routed(world.digest, seed, merchant, moment, again, mix, at, policy)
    ours = listed(edges, "utc_timestamp", "merchant_id", "edge_id")
    theirs = [row for row in occurrences if row[3]]
    for (moment, merchant, edge), (_, _, _, _, again) in zip(ours, theirs, strict=True):
        assert edge == slow.edge(world.digest, seed, merchant, moment, again, edge_policy(world), policy)


def test_a_service_that_sees_arrivals_in_any_order_makes_the_logs_choices():
    world = tiny_world(virtual=[3])
    law = {**pack()["route_rng_policy_v1"]["roster"], "arrivals_per_merchant_day": 40.0}
    *_, tables, log, _ = routed(world, law, 7)
    order = np.random.default_rng(1).permutation(log.rows)
    zone, site = tables.route(log["merchant_id"][order], log["utc_timestamp"][order])
    assert np.array_equal(site, log["site_id"][order])
    assert [zone.values[code] for code in zone.codes] == [row[0] for row in np.array(listed(log, "tz_group_id"))[order]]


@settings(max_examples=200)
@given(known=st.sets(MERCHANT, min_size=1, max_size=40), asked=st.lists(MERCHANT, max_size=40))
def test_a_known_merchant_is_found_at_its_place_and_an_unknown_one_nowhere(known, asked):
    """Ids that are spread, crowded or at the ends of their range."""
    known = sorted(known)
    asked = [*asked, *known, *(merchant ^ 1 for merchant in known)]
    at = s5_roster.merchants_at(np.array(known, np.uint64), np.array(asked, np.uint64))
    assert at.tolist() == [known.index(merchant) if merchant in known else -1 for merchant in asked]


def test_arrivals_of_one_moment_are_told_apart():
    *_, tables, _, _ = routed(tiny_world(), pack()["route_rng_policy_v1"]["roster"], 7)
    moment = np.full(2000, s5_roster.first_day(DAYS) + 12, np.int64)
    zone, _ = tables.route(np.full(2000, 2, np.uint64), moment)
    assert len(set(zone.codes)) > 1, "each has a draw of its own"
    with pytest.raises(DataError, match="row 4097: more than 4096"):
        tables.route(np.full(4097, 2, np.uint64), np.full(4097, moment[0]))


@pytest.mark.parametrize(
    ("merchant", "moment", "said"),
    [
        (99, 12, "row 2: merchant_id: 99"),
        (2, -1, "row 2: utc_timestamp"),
        (2, 3 * 86_400_000_000, "row 2: utc_timestamp"),
    ],
)
def test_an_arrival_outside_the_tables_is_refused_by_row(merchant, moment, said):
    *_, tables, _, _ = routed(tiny_world(), pack()["route_rng_policy_v1"]["roster"], 7)
    first = s5_roster.first_day(DAYS)
    with pytest.raises(DataError, match=said):
        tables.route(np.array([2, merchant], np.uint64), np.array([first, first + moment]))


def test_the_order_of_a_policys_keys_changes_nothing():
    law = pack()["route_rng_policy_v1"]["roster"]
    turned = {**law, **{mix: dict(reversed(law[mix].items())) for mix in ("class_mix", "channel_mix")}}
    names = ("utc_timestamp", "merchant_id", "arrival_class", "channel")
    assert listed(routed(tiny_world(), law, 7)[3], *names) == listed(routed(tiny_world(), turned, 7)[3], *names)


@pytest.mark.parametrize("sites", [{1: {"Europe/London": 1}}, {n: {"Europe/London": 1} for n in range(70)}])
def test_arrivals_past_the_room_of_their_addresses_are_refused(sites):
    """Day, arrival and what is drawn have bits of their own in a counter: one more arrival would be the next day's."""
    law = {**pack()["route_rng_policy_v1"]["roster"], "day_sigma": 0.0}
    policy = {
        **pack()["route_rng_policy_v1"],
        "roster": {**law, "arrivals_per_merchant_day": 2**20 + (len(sites) < 70)},
    }
    with pytest.raises(DataError, match="/roster/arrivals_per_merchant_day: more than 1048576 a merchant-day or 6710"):
        s5_roster.roster(tiny_world(sites=sites), DAYS, policy, 7, "t")


def test_a_mix_without_weight_is_refused():
    law = {**pack()["route_rng_policy_v1"]["roster"], "class_mix": {"purchase": 0.0}}
    with pytest.raises(PolicyError, match="/roster/class_mix: one weight at least must be above 0"):
        routed(tiny_world(), law, 7)


@pytest.mark.parametrize(("what", "name"), [("site", "s5.group"), ("edge", "s5.roster"), ("roster", "s3.day_effect")])
def test_two_kinds_of_draw_never_share_a_stream(what, name):
    shared = pack().with_knobs({f"route_rng_policy_v1#/streams/{what}": name})
    with pytest.raises(PolicyError, match=f"/streams/.*'{name}' is already the stream of "):
        SEGMENT_2B.evaluate(shared, 42, until="S4")


def test_a_merchant_of_edges_of_its_own_is_a_merchant_id():
    shipped = pack()["virtual_edge_policy_v1"]
    assert list(s6_edges.offered({**shipped, "merchant_overrides": {str(2**64 - 1): []}})) == [2**64 - 1, None]
    with pytest.raises(PolicyError, match=f"/merchant_overrides/{2**64}: above the largest merchant id"):
        s6_edges.offered({**shipped, "merchant_overrides": {str(2**64): []}})
    documents = pack().documents()
    documents["virtual_edge_policy_v1"]["merchant_overrides"] = {"07": shipped["default_edges"]}
    with pytest.raises(PolicyError, match="'07' does not match"):
        pack_of("mine", documents, SEGMENT_2B.policy_schemas)


def test_a_zone_whose_sites_all_weigh_nothing_is_drawn_evenly():
    world = tiny_world(sites={1: {"Europe/London": 4, "Asia/Tokyo": 4}})
    effects = {**pack()["day_effect_policy_v1"], "horizon": {"start_day": DAYS[0], "days": 1}}
    rows = s3_day_effects.grid(world, effects)
    s1 = s1_site_weights.site_weights(world, pack()["alias_layout_policy_v1"], "t")
    tokyo = np.asarray(world.zone.codes) == world.zones.index("Asia/Tokyo")
    weights = Surface(s1.name, s1.schema, {**s1.columns, "p_weight": np.where(tokyo, 0.0, 0.25)})
    even = Surface("s4", s1.schema, {"p_group": np.full(len(rows.group), 0.5)})
    tables = s5_routing.router(world, DAYS[:1], weights, even, pack()["route_rng_policy_v1"], 7)
    _, site = tables.route(np.ones(8000, np.uint64), s5_roster.first_day(DAYS) + np.arange(8000))
    counts = np.array(list(np.unique(site, return_counts=True)[1]))
    assert len(counts) == 8 and counts.min() > 850


@pytest.fixture(scope="module")
def reference():
    return SEGMENT_2B.evaluate(pack(), 42)


def test_two_million_arrivals_follow_shares_and_weights(reference):
    """Pearson's chi-square over every zone of every merchant-day, and over every site of every zone."""
    roster, log = reference.surfaces["s5_arrival_roster"], reference.surfaces["s5_selection_log"]
    world, s1, s4 = reference.upstream, reference.surfaces["s1_site_weights"], reference.surfaces["s4_group_weights"]
    assert roster.rows >= 2_000_000
    merchant = np.searchsorted(world.merchant_id, log["merchant_id"])
    groups, days = np.diff(world.group_offsets), len(s4["utc_day"].values)
    pairs = np.repeat(np.arange(len(groups)), groups) * len(world.zones) + world.group_zone
    group = np.searchsorted(pairs, merchant * len(world.zones) + log["tz_group_id"].codes)
    first = world.group_offsets[merchant]
    row = days * first + log["utc_day"].codes.astype(np.int64) * groups[merchant] + group - first
    merchant_day = np.repeat(np.arange(len(groups) * days), np.repeat(groups, days))
    assert_follows(np.bincount(row, minlength=s4.rows), merchant_day, s4["p_group"])

    names, place = np.unique(s5_routing.site_ids(world), return_inverse=True)
    key = world.site_group * len(names) + place
    order = np.argsort(key)
    site = order[np.searchsorted(key[order], group * len(names) + np.searchsorted(names, log["site_id"]))]
    share = s1["p_weight"] / s4_group_weights.base_shares(world, s1)[world.site_group]
    assert_follows(np.bincount(site, minlength=len(key)), world.site_group, share)


def assert_follows(counted, parent, share):
    """The statistic has exact moments, parent by parent: with k cells, n arrivals and shares p its mean is k - 1 and
    its variance 2 (k - 1) + (sum 1/p - k^2 - 2 k + 2) / n. Over tens of thousands of parents it is normal: the bound is
    four standard deviations, p > 6e-5 on both sides, and the seed is fixed."""
    assert not np.any(counted[share == 0]), "what has no share has no arrival"
    totals = np.bincount(parent, counted)
    kept = (share > 0) & (totals[parent] > 0)
    counted, parent, share = counted[kept], parent[kept], share[kept]
    k, n = np.bincount(parent, minlength=len(totals)), totals
    k, n, inverse = (values[n > 0] for values in (k, n, np.bincount(parent, 1 / share, minlength=len(totals))))
    expected = totals[parent] * share
    statistic = np.sum((counted - expected) ** 2 / expected)
    variance = np.sum(2 * (k - 1) + (inverse - k**2 - 2 * k + 2) / n)
    assert abs(statistic - np.sum(k - 1)) < 4 * np.sqrt(variance)


def test_no_counter_is_used_twice_in_a_stream_and_no_key_by_two(reference):
    logs = {"s5_rng_event_group": 1, "s5_rng_event_site": 1, "s6_rng_event_edge": 1, "s3_day_effects": 1}
    streams = {}
    for name in logs:
        surface = reference.surfaces[name]
        pairs = np.stack([surface["rng_counter_hi"], surface["rng_counter_lo"]], axis=1)
        order = np.lexsort(pairs.T)
        assert not np.any(np.all(np.diff(pairs[order], axis=0) == 0, axis=1)), f"{name} uses an address twice"
        (streams[name],) = surface["rng_stream_id"].values
    keys = {
        hashlib.sha256(f"{reference.world_digest}/{seed}/{stream}".encode()).digest()[:16]
        for seed in (42, 7, 101, 202)
        for stream in streams.values()
    }
    assert len(keys) == 4 * len(logs), "another stream or another seed is another key"


def test_shards_in_any_order_route_as_the_whole_does(reference):
    """Tables of a shard, arrivals of its merchants: the rows are the whole's rows, whoever else was routed."""
    world, surfaces = reference.upstream, reference.surfaces
    policy, days = reference.pack["route_rng_policy_v1"], s3_day_effects.horizon(reference.pack["day_effect_policy_v1"])
    roster, cuts = surfaces["s5_arrival_roster"], [0, 1, 400, 401, 1100, len(world.merchant_id)]
    merchant = np.searchsorted(world.merchant_id, roster["merchant_id"])
    for name, column in (("s5_selection_log", "site_id"), ("s6_edge_log", "edge_id")):
        log = surfaces[name]
        owner = np.searchsorted(world.merchant_id, log["merchant_id"])
        for k in (2, 4, 0, 3, 1):
            first, last = cuts[k], cuts[k + 1]
            shard, part = world.shard(first, last), roster.part(np.flatnonzero((merchant >= first) & (merchant < last)))
            if name == "s6_edge_log":
                found = s6_edges.edges(shard, part, reference.pack["virtual_edge_policy_v1"], policy, 42, "t")
            else:
                s1 = surfaces["s1_site_weights"].part(slice(*world.site_offsets[[first, last]]))
                s4 = surfaces["s4_group_weights"].part(slice(*(world.group_offsets[[first, last]] * len(days))))
                tables = s5_routing.router(shard, days, s1, s4, policy, 42)
                found = s5_routing.route(tables, part, policy, "t")
            whole = log.part(np.flatnonzero((owner >= first) & (owner < last)))
            for one, other in ((found[c], whole[c]) for c in (column, "utc_timestamp", "merchant_id")):
                assert np.array_equal(getattr(one, "codes", one), getattr(other, "codes", other))


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_change_nothing(reference, threads):
    with at_most(threads):
        policy, days = reference.pack["route_rng_policy_v1"], reference.surfaces["s4_group_weights"]["utc_day"].values
        stamp = reference.sealed.created_utc
        roster = s5_roster.roster(reference.upstream, days, policy, 42, stamp)
        s1, s4 = (reference.surfaces[name] for name in ("s1_site_weights", "s4_group_weights"))
        log, *_ = s5_routing.routed(reference.upstream, days, s1, s4, roster, policy, 42, stamp)
    for found in (roster, log):
        assert table_digest(found.table()) == table_digest(reference.surfaces[found.name].table())


def test_traces_account_for_every_draw(reference):
    physical, virtual = (reference.surfaces[name].rows for name in ("s5_selection_log", "s6_edge_log"))
    assert physical + virtual == reference.surfaces["s5_arrival_roster"].rows
    rows = [
        *listed(reference.surfaces["s5_rng_trace"], "events", "draws"),
        *listed(reference.surfaces["s6_rng_trace"], "events", "draws"),
    ]
    assert rows == [(physical, physical), (physical, physical), (virtual, virtual)]
