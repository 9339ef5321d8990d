"""The vectorised states against the row-by-row oracle, on tiny worlds of every shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import laws
from worlds import tiny_world

from lanelock.engine.segment_2b.mass import GROUP_BITS
from lanelock.engine.segment_2b.states import s1_site_weights as s1
from lanelock.engine.segment_2b.states import s2_alias_index as s2
from lanelock.engine.segment_2b.states import s3_day_effects as s3
from lanelock.engine.segment_2b.states import s4_group_weights as s4
from lanelock.engine.segment_2b.states.s0_gate import verified_utc
from lanelock.policies import IntegrityError

ZONES = [
    "Europe/London",
    "Europe/Paris",
    "America/New_York",
    "America/Argentina/Buenos_Aires",
    "Asia/Tokyo",
    "Africa/Cairo",
]
WORLDS = st.dictionaries(
    st.integers(0, 2**64 - 1),
    st.dictionaries(st.sampled_from(ZONES), st.integers(1, 9), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
).map(lambda sites: tiny_world(sites=sites))
MIX = st.fixed_dictionaries(
    {
        "law": st.sampled_from(["uniform_blend_v1", "smooth_soft_cap_v1"]),
        "enabled": st.booleans(),
        "apply_when_groups_ge": st.integers(2, 4),
        "max_p_group_soft_cap": st.floats(0.55, 1.0),
        "regularization_strength": st.floats(0.0, 1.0),
        "entropy_floor": st.floats(0.0, 0.6),
        "knee": st.floats(0.25, 12.0),
    }
)


def of_merchant(world, i):
    return slice(world.site_offsets[i], world.site_offsets[i + 1])


@pytest.mark.plan("1.2", "P1.2")
@pytest.mark.parametrize("pack", ["baseline", "p1"])
@given(world=WORLDS)
def test_s1_site_weights(packs, pack, world):
    policy = packs(pack)["alias_layout_policy_v1"]
    surface = s1.site_weights(world, policy, "t")
    for i, merchant in enumerate(world.merchant_id):
        found = surface["p_weight"][of_merchant(world, i)]
        expected = laws.site_weights(int(merchant), world.site_order[of_merchant(world, i)].tolist(), policy)
        assert np.abs(found - expected).max() <= 2.0**-24  # a tie of remainders may fall either way
        assert np.abs(found - expected).sum() <= 2 * 2.0**-24
        if policy["law"] != "uniform":
            assert found.sum() == found[::-1].sum() == 1.0


SIZES = st.fixed_dictionaries({name: st.floats(0.0, 0.3) for name in ("small", "mid", "large")})


@settings(max_examples=25)
@given(world=WORLDS, floor=SIZES, cap=st.floats(0.2, 1.0))
def test_s1_fills_the_second_site_from_the_first_which_stays_first(packs, world, floor, cap):
    """For any floor and cap, those that no policy should state too."""
    policy = packs("p1")["alias_layout_policy_v1"]
    profile = {**policy["profile_mixture_v2"], "second_site_floor": floor, "top1_soft_cap": dict.fromkeys(floor, cap)}
    policy = {**policy, "profile_mixture_v2": profile}
    surface = s1.site_weights(world, policy, "t")
    assert not surface["floor_applied"].any(), "as in the record"
    for i, merchant in enumerate(world.merchant_id):
        found = surface["p_weight"][of_merchant(world, i)]
        expected = laws.site_weights(int(merchant), world.site_order[of_merchant(world, i)].tolist(), policy)
        assert np.abs(found - expected).max() <= 2.0**-24 and found.min() > 0.0


def test_s1_ranks_sites_by_the_recorded_hash_and_equal_ones_as_they_stand():
    world = tiny_world(sites={7: {"Europe/London": 2, "Europe/Paris": 2, "Asia/Tokyo": 1}})
    assert world.site_order.tolist() == [1, 2, 1, 2, 1], "orders restart in each country"
    ranks = s1.ranking(world)
    first, second = (laws.hashed(7, order, "site") for order in (1, 2))
    assert ranks.order.tolist() == ([0, 2, 4, 1, 3] if first < second else [1, 3, 0, 2, 4])
    assert ranks.component.tolist() == [laws.hashed(7, "component")]
    assert laws.hashed(7, "component") == pytest.approx(0.2411819075738287), "of that text, whoever computes it"


@pytest.mark.plan("2.4", "3.2.15")
@given(world=WORLDS, bits=st.integers(8, 24))
def test_s2_gives_the_weights_back(packs, world, bits):
    policy = {**packs("p1")["alias_layout_policy_v1"], "quantised_bits": bits}
    weights = s1.site_weights(world, policy, "t")
    index, whole = s2.alias_index(world, weights, policy)
    blob = whole["blob"][0]
    assert len(blob) == whole["size"][0] == index["length"].sum()
    for i in range(len(world.merchant_id)):
        assert index["offset"][i] % 8 == 0
        found = s2.decode(blob, index["offset"][i], index["length"][i])
        assert np.array_equal(found, weights["p_weight"][of_merchant(world, i)])


def test_s2_refuses_a_slice_that_is_not_whole(packs):
    policy = packs("p1")["alias_layout_policy_v1"]
    world = tiny_world()
    index, whole = s2.alias_index(world, s1.site_weights(world, policy, "t"), policy)
    blob, offset, length = whole["blob"][0], index["offset"][1], index["length"][1]
    with pytest.raises(IntegrityError, match="not a slice"):
        s2.decode(blob, offset, length - 4)
    with pytest.raises(IntegrityError, match="not a slice"):
        s2.decode(blob, offset + 8, length)
    broken = bytearray(blob)
    broken[offset + length - 4 : offset + length] = (1000).to_bytes(4, "little")
    with pytest.raises(IntegrityError, match="past the"):
        s2.decode(bytes(broken), offset, length)


@pytest.mark.plan("1.2", "P2.0.1", "P2.0.2")
@pytest.mark.parametrize("pack", ["baseline", "p2", "p2_lively"])
@settings(max_examples=15)
@given(world=WORLDS, seed=st.integers(0, 2**32 - 1))
def test_s3_day_effects(packs, pack, world, seed):
    policy = {**packs(pack)["day_effect_policy_v1"], "horizon": {"start_day": "2026-02-26", "days": 5}}
    rows = s3.grid(world, policy)
    surface = s3.day_effects(world, rows, policy, seed, "t")
    at = 0
    for i, merchant in enumerate(world.merchant_id):
        groups = range(world.group_offsets[i], world.group_offsets[i + 1])
        orders = world.site_order[of_merchant(world, i)].tolist()
        for d, day in enumerate(rows.days):
            for rank, group in enumerate(groups):
                zone = world.zones[world.group_zone[group]]
                expected = laws.day_effect(world.digest, seed, int(merchant), orders, zone, rank, d, day, policy)
                found = surface["gamma"][at], surface["log_gamma"][at], surface["sigma_gamma"][at]
                assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
                key = surface["merchant_id"][at], rows.days[surface["utc_day"].codes[at]]
                assert (*key, world.zones[surface["tz_group_id"].codes[at]]) == (merchant, day, zone)
                at += 1
    assert at == surface.rows


def test_s3_takes_the_first_rule_that_fits_and_the_default_of_what_is_not_given(packs):
    law = packs("p2")["day_effect_policy_v1"]["sigma_gamma_policy_v2"]
    rules = [{"prefix": "America/", "multiplier": 2.0}, {"prefix": "America/Argentina/", "multiplier": 3.0}]
    for order, expected in ((rules, 2.0), (rules[::-1], 3.0)):
        assert s3.zone_multiplier("America/Argentina/Salta", {**law, "tz_multipliers": order}) == expected
    assert s3.zone_multiplier("Asia/Tokyo", {**law, "tz_multipliers": rules}) == law["tz_multiplier_default"]
    world = tiny_world()
    policy = {**packs("p2")["day_effect_policy_v1"], "horizon": {"start_day": "2026-01-01", "days": 1}}
    policy["sigma_gamma_policy_v2"] = {**law, "base_sigma": {"default": 0.1}, "jitter_amplitude": 0.0,
                                       "tz_multipliers": []}  # fmt: skip
    sigma, _, _ = s3.shape(world, s3.grid(world, policy), policy)
    assert set(sigma.tolist()) == {0.1}


def test_s3_counts_site_orders_or_sites(packs):
    world = tiny_world(sites={1: {"Europe/London": 9, "Europe/Paris": 16}, 2: {"Europe/London": 25}})
    policy = packs("p2")["day_effect_policy_v1"]["sigma_gamma_policy_v2"]["segments"]
    assert s3.segments(world, policy).tolist() == [1, 2], "orders 1 to 9 are in both countries"
    assert s3.segments(world, {**policy, "counts": "sites"}).tolist() == [2, 2]


@pytest.mark.parametrize("stated", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.0Z", "2026-01-01T00:00:00.000000Z"])
def test_a_verified_time_is_published_with_six_digits(stated):
    assert verified_utc({"verified_utc": stated}) == "2026-01-01T00:00:00.000000Z"


def test_s3_draws_of_a_merchant_depend_on_no_other(packs):
    policy = packs("p2")["day_effect_policy_v1"]
    sites = {1: {"Europe/London": 3, "Asia/Tokyo": 2}, 2: {"Europe/Paris": 4}, 3: {"Asia/Tokyo": 2}}
    whole, fewer = tiny_world(sites=sites), tiny_world(sites={1: sites[1], 3: sites[3]})
    object.__setattr__(fewer, "digest", whole.digest)  # the stream's key names the world; hold it still
    both = [s3.day_effects(w, s3.grid(w, policy), policy, 42, "t") for w in (whole, fewer)]
    kept = both[0]["merchant_id"] != 2
    assert np.array_equal(both[0]["gamma"][kept], both[1]["gamma"])


@pytest.mark.plan("1.2", "P3.0.1", "P3.0.2", "P3.0.3", "P3.2.1", "P3.2.2", "P3.2.3")
@settings(max_examples=200)
@given(world=WORLDS, mix=MIX, seed=st.integers(0, 1000))
def test_s4_group_weights(packs, world, mix, seed):
    effects = {**packs("p2")["day_effect_policy_v1"], "horizon": {"start_day": "2026-01-01", "days": 3}}
    rows = s3.grid(world, effects)
    weights = s1.site_weights(world, packs("p1")["alias_layout_policy_v1"], "t")
    raw = s4.raw_mix(world, rows, weights, s3.day_effects(world, rows, effects, seed, "t"))
    surface = s4.group_weights(rows, raw, mix, "t")
    p = surface["p_group"]
    for a, b in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        before = surface["mass_raw"][a:b] / surface["denom_raw"][a:b]
        expected = laws.day_mix(surface["base_share"][a:b], surface["gamma"][a:b], mix)
        assert p[a:b] == pytest.approx(expected, abs=1e-9)
        assert p[a:b].sum() == p[a:b][::-1].sum() == 1.0
        assert np.all(p[a:b] * 2.0**GROUP_BITS == np.rint(p[a:b] * 2.0**GROUP_BITS))
        order = np.argsort(before, kind="stable")
        assert np.all(np.diff(p[a:b][order])[np.diff(before[order]) > 0] >= 0), "rank order is kept"
        assert np.all(p[a:b] > 0)
        delta = 0.5 * np.abs(p[a:b] - before).sum()
        applied = surface["regularizer_applied"][a:b]
        assert len(set(applied)) == 1
        assert surface["regularizer_delta_mass"][a:b] == pytest.approx(delta if applied[0] else 0.0, abs=1e-15)
        if not mix["enabled"]:
            assert p[a:b] == pytest.approx(before, abs=2.0**-47), "off is the identity"


def test_base_shares_are_the_sums_of_site_weights(packs):
    world = tiny_world()
    weights = s1.site_weights(world, packs("p1")["alias_layout_policy_v1"], "t")
    shares = s4.base_shares(world, weights)
    for group, share in enumerate(shares):
        assert share == weights["p_weight"][world.site_group == group].sum()
    assert np.all(np.add.reduceat(shares, world.group_offsets[:-1]) == 1.0)


def top_after(tops, n, mix):
    """max p after the law, for days whose top group holds `tops` and whose others share the rest evenly."""
    days = len(tops)
    rest = (1 - tops) / (n - 1)
    mass = np.column_stack([tops, *([rest] * (n - 1))]).ravel()
    starts = np.arange(0, days * n + 1, n)
    p, delta, applied = np.empty(days * n), np.empty(days * n), np.empty(days * n, bool)
    law = {"uniform_blend_v1": 1, "smooth_soft_cap_v1": 2}[mix["law"]]
    cap = s4.effective_cap(mix) if law == 2 else mix["max_p_group_soft_cap"]
    s4._mix(
        starts,
        mass,
        np.ones(days * n),
        law,
        2,
        mix["regularization_strength"],
        cap,
        mix["entropy_floor"],
        mix["knee"],
        p,
        delta,
        applied,
    )
    return p.reshape(days, n)


SMOOTH = {"law": "smooth_soft_cap_v1", "regularization_strength": 1.0, "entropy_floor": 0.35, "knee": 8.0}


@pytest.mark.plan("P3.0.6")
@given(cap=st.floats(0.55, 0.95), knee=st.floats(0.5, 8.0), strength=st.floats(0.05, 1.0), n=st.integers(2, 6))
def test_the_smooth_law_is_strictly_monotone_in_the_raw_top(cap, knee, strength, n):
    mix = {**SMOOTH, "max_p_group_soft_cap": cap, "knee": knee, "regularization_strength": strength}
    tops = np.linspace(1 / n + 1e-6, 1 - 1e-6, 400)
    after = top_after(tops, n, mix)[:, 0]
    assert np.all(np.diff(after) > 0), "days that differed still differ: no atom"
    assert np.all(after <= tops + 1e-12)


@pytest.mark.plan("P3.2.2")
@given(floor=st.floats(0.05, 0.6), n=st.integers(2, 6), knee=st.floats(0.5, 8.0))
def test_the_smooth_law_at_full_strength_holds_cap_and_floor(floor, n, knee):
    mix = {**SMOOTH, "max_p_group_soft_cap": 0.9, "entropy_floor": floor, "knee": knee}
    p = top_after(np.linspace(1 / n + 1e-6, 1 - 1e-9, 200), n, mix)
    assert p.max() < 0.9 + 1e-9
    assert min(laws.entropy(day) for day in p) > floor - 1e-6


def test_the_recorded_law_has_the_atom_that_the_smooth_one_has_not():
    tops = np.linspace(0.8, 0.999, 300)
    shape = {"max_p_group_soft_cap": 0.78, "regularization_strength": 0.15, "entropy_floor": 0.0, "knee": 2.0}
    recorded = top_after(tops, 2, {"law": "uniform_blend_v1", **shape})[:, 0]
    smooth = top_after(tops, 2, {"law": "smooth_soft_cap_v1", **shape})[:, 0]
    assert np.sum(np.abs(recorded - 0.78) < 1e-9) > 250
    assert len(np.unique(smooth)) == len(tops)
