"""Proven limits of what any trial of a lane can reach, for segment 2B: from the world and from corners of the box.

Each function states one law about metrics and yields the bounds that follow, with the numbers. A bound is a
relaxation: it may be looser than what trials reach, but no trial beats it. The box lists the fields that move; if
no law here covers such a field, its metrics get no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import exps, log, logs, powers
from lanelock.engine.segment_2b import geography, rebalance
from lanelock.engine.segment_2b.draw_world import zone_overrides
from lanelock.engine.segment_2b.world import World
from lanelock.policies import Pack
from lanelock.policies.pack import nodes_at, value_at
from lanelock.scoring.feasibility import Bound, Box
from lanelock.scoring.segment_2b.samples import RANK, run_starts

WORLD, LAYOUT, EFFECTS, MIX = (
    "world_v1", "alias_layout_policy_v1", "day_effect_policy_v1", "group_mix_regularizer_v1",
)  # fmt: skip
BUCKETS = {"small": (1, 3), "mid": (4, 8), "large": (9, 1 << 40)}  # first and last site count of each size bucket
_QUOTA_MOVES = {  # fields of 1B that the zone quotas do not depend on, or in which they are monotone
    f"{WORLD}#/{pointer}"
    for pointer in (
        "breadth/breadth", "breadth/small_single_share", "breadth/size_pull", "breadth/population_exponent",
        "breadth/reach_km", "breadth/home_country_pull", "dispersion/dispersion", "dispersion/second_share_min",
    )
}  # fmt: skip
_NUDGE, _OVERRIDES, _REBALANCE = (
    f"{WORLD}#/zones/{name}" for name in ("tz_nudge/epsilon_deg", "tz_overrides", "rebalance")
)
_LOOSEST = {  # the end of each field of the rebalance that lets the most sites move
    "enabled": max, "caps/sites": max, "caps/country": max, "caps/merchant": max, "least_sites": min,
    "least_span_deg": min, "greatest_km": max,
}  # fmt: skip
MIX_DOWN = {  # the end of each knob of S4 that pulls every day furthest towards uniform
    f"{MIX}#/enabled": 1, f"{MIX}#/max_p_group_soft_cap": -1, f"{MIX}#/regularization_strength": 1,
    f"{MIX}#/entropy_floor": 1, f"{MIX}#/knee": -1, f"{MIX}#/apply_when_groups_ge": -1,
}  # fmt: skip
MIX_LAW = f"{MIX}#/law"
_ROUNDING = 1e-12  # covers a share rounded to quanta of 2^-48, and a rounded logarithm


def segment_2b_bounds(box: Box, measure: Any) -> Iterator[Bound]:
    """Yields every known bound of a lane on one seed. `measure` returns a run's metrics."""
    world = box.run(box.start, "S0").upstream
    groups = group_limits(box, world)
    if groups is not None:
        yield from group_bounds(*groups)
    if "S1" in box.states and "1A" not in box.states:
        yield from site_bounds(box, np.diff(world.site_offsets))
    if "S3" in box.states:
        yield from effect_bounds(box)
    if set(box.moves) <= {*MIX_DOWN, MIX_LAW}:
        yield from mix_bounds(_by_law(box, 1, measure), int(np.diff(world.group_offsets).max()))
        yield from intervention_bounds(_by_law(box, -1, measure))


# --- the world: the most groups of a merchant -----------------------------------------------------------


Limits = tuple[NDArray[np.int64], str, str]  # [m] the most groups of each merchant, in any order; proof; movable by


def group_limits(box: Box, world: World) -> Limits | None:
    """Returns the most groups of each merchant, the proof and what could change it; None if no law covers the box."""
    moved = {address for address in box.moves if address.startswith(f"{WORLD}#")}
    have, rules = np.diff(world.group_offsets), rebalance.rules_of(box.start[WORLD]["zones"])
    if not moved:
        why = f"{np.sum(have == 1)} of {len(have)} merchants have one group in the frozen world"
        return have, *_beyond(box, world, why)
    if moved <= {_NUDGE, _OVERRIDES} and rules is None:
        return _with_zones_moved(box, world, have)
    if moved <= {f"{_REBALANCE}/{field}" for field in _LOOSEST}:
        return _with_rebalance_moved(box)
    if moved <= _QUOTA_MOVES and world.source == "drawn" and rules is None and not _borders_move(box):
        return _with_quotas_moved(box, world)
    return None


def _with_zones_moved(box: Box, world: World, have: NDArray[np.int64]) -> Limits:
    """Returns the limits if zones move: a merchant gains at most one group per nudged or overridden site."""
    touched = np.zeros(len(world.lat_deg), np.bool_)
    for epsilon in box.moves.get(_NUDGE, (box.start[WORLD]["zones"]["tz_nudge"]["epsilon_deg"],)):
        probe = box.run(box.start.with_knobs({_NUDGE: epsilon}), "S0").upstream
        touched |= np.asarray(probe.zone_source.values)[probe.zone_source.codes] == "nudge"
    touched |= np.asarray(world.zone_source.values)[world.zone_source.codes] == "override"
    for rows in box.moves.get(_OVERRIDES, ()):
        for row in zone_overrides({"tz_overrides": rows}):
            touched |= _overridden(world, row)
    owner = np.repeat(np.arange(len(have)), np.diff(world.site_offsets))
    able = np.bincount(owner[touched], minlength=len(have))
    stuck = np.sum((have == 1) & (able == 0))
    why = (
        f"{np.sum(have == 1)} of {len(have)} merchants have one group; {stuck} of them have no site that a nudge or "
        "override of the box touches"
    )
    return have + able, *_beyond(box, world, why)


def _with_rebalance_moved(box: Box) -> Limits:
    """Returns the limits if the rebalance moves: those of the box's loosest one, over the world without any."""
    plain, stated = _plain(box), box.start[WORLD]["zones"]["rebalance"]
    rules = _loosest(lambda field: box.moves.get(f"{_REBALANCE}/{field}", (value_at(stated, f"/{field}", _REBALANCE),)))
    have = np.diff(plain.group_offsets)
    most = _rebalanced(plain, rules) if rules["enabled"] else have
    single = have == 1
    why = (
        f"{np.sum(single)} of {len(have)} merchants have one group; at most {np.sum(most[single] > 1)} of them have a "
        "site that a rebalance of the box may move"
    )
    return most, *_beyond(box, plain, why)


def _rebalanced(world: World, rules: Mapping[str, Any]) -> NDArray[np.int64]:
    """Returns [m] the most groups of each merchant under a rebalance at least as strict as `rules`, in any order.

    A merchant of one zone gains at most one group per site that moves. Its own cap and those of countries and world
    limit how many move; where they leave fewer than there are merchants, those that could gain most are taken.
    """
    have = np.diff(world.group_offsets)
    owner = np.repeat(np.arange(len(have)), np.diff(world.site_offsets))
    free = np.zeros(len(owner), np.bool_)  # an override that stands moves less
    sites = rebalance.Sites(owner, world.country, world.lat_deg, world.lon_deg, world.zone, free)
    gain, in_all = rebalance.most_moves(sites, rebalance.movable(sites, rules), rules["caps"])
    first = np.argsort(-gain, kind="stable")[:in_all]
    most = have.copy()
    most[first] += gain[first]
    return most


def _plain(box: Box) -> World:
    """Returns the world of a box's start without a rebalance."""
    world: World = box.run(box.start.with_knobs({f"{_REBALANCE}/enabled": False}), "S0").upstream
    return world


def _loosest(ends: Callable[[str], Iterable[Any]]) -> dict[str, Any]:
    """Returns the rebalance that lets the most sites move, of the values that each field may have."""
    rules: dict[str, Any] = {"caps": {}}
    for field, pick in _LOOSEST.items():
        *parents, name = field.split("/")
        (rules["caps"] if parents else rules)[name] = pick(ends(field))
    return rules


def _beyond(box: Box, world: World, why: str) -> tuple[str, str]:
    """Returns a proof with what other states could give, and those that could give anything.

    Both are upper bounds over what the schema of `world_v1` allows: the loosest rebalance, and the widest breadth. The
    other fields of 1B have no bound.
    """
    floor = float(np.mean(np.diff(world.group_offsets) == 1))
    zones, breadth = _most_by_zones(box, world), _most_by_breadth(box, world)
    ways = (("2A", "a rebalance of zones", zones), ("1B", "the breadth of sites", breadth))
    gains = {(state, words): float(np.mean(most == 1)) - floor for state, words, most in ways if most is not None}
    said = [
        f"{words} ({state}) could lower that share by {-gain:.6f} at most"
        for (state, words), gain in gains.items()
        if gain < 0.0
    ]
    return "; ".join((why, *said)), "2A, 1B" if gains[ways[0][:2]] < 0.0 else "1B"


def _most_by_zones(box: Box, world: World) -> NDArray[np.int64]:
    """Returns [m] the most groups of each merchant under any rebalance that the schema allows, in any order."""
    zones, schema = box.start[WORLD]["zones"], box.start.schemas[WORLD]
    rules = _loosest(lambda field: _ends(schema, f"/zones/rebalance/{field}"))
    plain = world if rebalance.rules_of(zones) is None else _plain(box)
    if world.source == "imported":  # where a table gives the zones, no policy moves them
        loosest = box.start.with_knobs({f"{WORLD}#/zones": {**zones, "rebalance": rules}})
        if box.run(loosest, "S0").upstream.digest == plain.digest:
            return np.diff(plain.group_offsets)
    return _rebalanced(plain, rules)


def _most_by_breadth(box: Box, world: World) -> NDArray[np.int64] | None:
    """Returns [m] the most groups of each merchant at the widest breadth that the schema allows; None if not known."""
    if world.source != "drawn" or rebalance.rules_of(box.start[WORLD]["zones"]) is not None or _borders_move(box):
        return None
    fields = ("breadth/breadth", "breadth/small_single_share")
    moves = {f"{WORLD}#/{at}": _ends(box.start.schemas[WORLD], f"/{at}") for at in fields}
    return _with_quotas_moved(replace(box, moves=moves), world)[0]


def _ends(schema: Mapping[str, Any], pointer: str) -> tuple[Any, Any]:
    """Returns the least and the greatest value that a policy's schema allows in a field."""
    (node,) = nodes_at(schema, pointer)
    return (False, True) if node["type"] == "boolean" else (node["minimum"], node["maximum"])


def _overridden(world: World, row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Returns [n] the sites that an override may move, apart from those touched by an earlier nudge or override.

    A site that is in the override's zone already stays there. Zones are compared by their own names.
    """
    zones = np.asarray(world.zone.values)[world.zone.codes]
    hit = np.asarray(world.country.values)[world.country.codes] == row["legal_country_iso"]
    if "merchant_id" in row:
        hit &= np.repeat(world.merchant_id, np.diff(world.site_offsets)) == np.uint64(int(row["merchant_id"]))
    if "site_order" in row:
        hit &= world.site_order == row["site_order"]
    if "from_tzid" in row:
        hit &= zones == row["from_tzid"]
    return np.asarray(hit & (zones != row["tzid"]))


def _borders_move(box: Box) -> bool:
    """Returns whether the lookup of zones may give a site another zone than its city was chosen for."""
    zones = box.start[WORLD]["zones"]
    return bool(zones["tz_overrides"]) or _strays(float(zones["tz_nudge"]["epsilon_deg"]))


@cache
def _strays(epsilon_deg: float) -> bool:
    """Returns whether a nudge gives any city another zone than the table of cities."""
    land = geography.cities()
    places = zip(land.lat_deg.tolist(), land.lon_deg.tolist(), land.zone.codes, strict=True)
    return any(geography.zone_of(lat, lon, epsilon_deg)[0] != land.zone.values[code] for lat, lon, code in places)


def _with_quotas_moved(box: Box, world: World) -> tuple[NDArray[np.int64], str, str]:
    """Returns the limits at the widest corner: F(k)^breadth falls with breadth; small merchants keep their share."""
    breadth = {**box.start[WORLD]["breadth"]}
    for field, side in (("breadth", max), ("small_single_share", min)):
        breadth[field] = side(box.moves.get(f"{WORLD}#/breadth/{field}", (breadth[field],)))
    sites = np.diff(world.site_offsets)
    count, small = len(sites), int(np.sum(sites <= breadth["small_merchant_sites"]))
    upto = powers(np.cumsum(np.array(breadth["zone_count_shares"], np.float64)), float(breadth["breadth"]))
    upto = np.rint(count * upto / upto[-1]).astype(np.int64)
    alone = round(small * breadth["small_single_share"])
    upto[0] = max(alone, min(upto[0], count - (small - alone)))
    most = np.repeat(np.arange(1, len(upto) + 1), np.maximum(np.diff(np.maximum.accumulate(upto), prepend=0), 0))
    why = (
        f"at breadth {breadth['breadth']:g} the quotas leave {upto[0]} of {count} merchants one group "
        f"({alone} of {small} small ones among them)"
    )
    return most, why, "1B"


def group_bounds(most: NDArray[np.int64], why: str, movable_by: str) -> Iterator[Bound]:
    """Yields what group counts alone decide: one group has the whole day, n groups spread it at most evenly."""
    single = float(np.mean(most == 1))
    entropy, even = float(np.median(logs(most.astype(np.float64)))), float(np.median(1.0 / most))
    alone = f"share(n_groups = 1) = {single:.6f}: {why}"
    rows = (
        ("tail_share", "at_least", single, f"tail_share >= {alone}"),
        ("single_group_share", "at_least", single, f"single_group_share >= {alone}"),
        ("multigroup_share", "at_most", 1.0 - single, f"multigroup_share <= {1 - single:.6f}, as {alone}"),
        ("max_p_median", "at_least", even - _ROUNDING, f"max_p >= 1/n_groups, whose median is {even:.6f}: {why}"),
        ("entropy_p50", "at_most", entropy + _ROUNDING, f"entropy <= log(n_groups), median {entropy:.6f}: {why}"),
    )
    for name, kind, value, proof in rows:
        yield Bound(f"s4/{name}", kind, value, proof, movable_by)


# --- S1: weights of n sites ---------------------------------------------------------------------------------


def site_bounds(box: Box, sites: NDArray[np.int64]) -> Iterator[Bound]:
    """Yields what caps, floors and site counts allow the weights, for any exponents.

    A merchant's median |p - 1/N| is at most 1/N: if it were more, half the sites would hold more than 2/N each.
    Where the cap acts, the first site holds the cap, and the others at most the rest. The floor moves mass from the
    first site to the second until the second reaches it or the two are even. The sum of squares is at least 1/N and at
    most what a top share of that size allows.
    """
    profile, moves = box.start[LAYOUT]["profile_mixture_v2"], box.moves
    top, lead = np.ones(len(sites)), np.ones(len(sites))
    for bucket, (low, high) in BUCKETS.items():
        ends = {
            name: moves.get(f"{LAYOUT}#/profile_mixture_v2/{name}/{bucket}", (profile[name][bucket],))
            for name in ("top1_soft_cap", "second_site_floor")
        }
        least, cap, floor = min(ends["top1_soft_cap"]), max(ends["top1_soft_cap"]), min(ends["second_site_floor"])
        here = (sites >= low) & (sites <= high) & (sites > 1)
        top[here] = max(cap, 1.0 - least)
        lead[here] = max(cap - floor, 1.0 - 2.0 * least, 0.0)
    quantum = 4.0 * 2.0 ** -int(min(moves.get(f"{LAYOUT}#/quantised_bits", (box.start[LAYOUT]["quantised_bits"],))))
    even = 1.0 / sites
    residual, gap = float(np.median(even)) + quantum, float(np.median(lead)) + quantum
    whole = np.floor(1.0 / top)
    squares = np.minimum(whole * top**2 + np.maximum(0.0, 1.0 - whole * top) ** 2, 1.0)
    upper, lower = np.quantile(squares, 0.75, method=RANK), np.quantile(even, 0.25, method=RANK)
    spread = float(upper - lower) + quantum
    rows = (
        ("residual", residual, f"median |p - 1/N| <= 1/N, whose median over merchants is {residual:.6f}"),
        ("gap", gap, f"first less second <= cap - floor, whose median over merchants is {gap:.6f}"),
        ("hhi_iqr", spread, f"1/N <= HHI <= what the caps allow: p75 - p25 <= {spread:.6f}"),
    )
    for name, value, proof in rows:
        yield Bound(f"s1/{name}", "at_most", value, proof, "1A")


# --- S3: day effects ----------------------------------------------------------------------------------------


def effect_bounds(box: Box) -> Iterator[Bound]:
    """Yields the widest spread of gamma in the box, from the least and greatest gamma of each row.

    The draw z of a row does not depend on policies, so a run with sigma 1 shows it: log gamma = z - 1/2. Sigma grows
    with every knob but the jitter, which is taken at both ends; sigma z - sigma^2/2 is greatest at sigma = z.
    """
    law = f"{EFFECTS}#/sigma_gamma_policy_v2"
    if box.start[EFFECTS]["law"] != "sigma_gamma_policy_v2" or f"{EFFECTS}#/law" in box.moves:
        return
    if not all(address.startswith((f"{law}/", f"{LAYOUT}#", f"{MIX}#")) for address in box.moves):
        return
    grows = [a for a in box.moves if a.startswith(f"{law}/") and "gamma_clip" not in a and "jitter" not in a]
    low, high = (_sigmas(box, dict.fromkeys(grows, side), f"{law}/jitter_amplitude") for side in (-1, 1))
    probe = box.start.with_knobs({f"{EFFECTS}#/law": "scalar_sigma_v1", f"{EFFECTS}#/scalar_sigma_v1/sigma": 1.0})
    z = _effect(box, probe, "log_gamma") + 0.5
    wave = _effect(box, box.corner(dict.fromkeys(grows, 1)), "weekly_amp")
    clip = box.start[EFFECTS]["sigma_gamma_policy_v2"]["gamma_clip"]
    least, greatest = (
        pick(box.moves.get(f"{law}/gamma_clip/{end}", (clip[end],))) for end, pick in enumerate((min, max))
    )
    up = np.clip(z, low.min(axis=0), high.max(axis=0))
    ends = log(float(least)), log(float(greatest))
    upper = exps(np.clip(up * z - 0.5 * up * up + wave, *ends))
    lower = np.minimum(*(s * z - 0.5 * s * s for s in (low.min(axis=0), high.max(axis=0)))) - wave
    lower = exps(np.clip(lower, *ends))
    far = np.maximum(np.abs(upper - 1.0), np.abs(lower - 1.0)) ** 2
    starts = run_starts(_effect(box, probe, "merchant_id"))
    rows = np.diff(starts)
    several = rows > 1
    spread = np.sqrt(np.add.reduceat(far, starts[:-1])[several] / (rows[several] - 1))
    bound = float(np.median(spread)) * (1.0 + 1e-9)
    proof = f"gamma stays in what each row's own draw gives between the box's sigmas: median std <= {bound:.6f}"
    yield Bound("s3/merchant_std_median", "at_most", bound, proof, "1A")


def _sigmas(box: Box, sides: Mapping[str, int], jitter: str) -> NDArray[np.float64]:
    """Returns [2, r] sigma of each row at a corner, with the jitter at its least and at its greatest."""
    return np.stack([_effect(box, box.corner({**sides, jitter: side}), "sigma_value") for side in (-1, 1)])


def _effect(box: Box, pack: Pack, column: str) -> NDArray[Any]:
    """Returns a column of S3 under a pack of the box."""
    return np.asarray(box.run(pack, "S3").surfaces["s3_day_effects"][column])


# --- S4: the mix --------------------------------------------------------------------------------------------


def _by_law(box: Box, pull: int, measure: Any) -> list[Mapping[str, float]]:
    """Returns S4's metrics under each law of the box, at the corner that pulls furthest (1) or least (-1)."""
    corner = box.corner({address: pull * side for address, side in MIX_DOWN.items()})
    packs = [corner.with_knobs({MIX_LAW: law}) for law in box.moves.get(MIX_LAW, (corner[MIX]["law"],))]
    return [measure(box.run(pack, "S4")) for pack in packs]


def mix_bounds(corners: Sequence[Mapping[str, float]], most_groups: int) -> Iterator[Bound]:
    """Yields bounds from S4's metrics at the corners that pull furthest towards uniform, if only knobs of S4 move.

    Both laws blend a day towards uniform, p = (1 - w) q + w/n, and w grows as the cap and the knee fall and as
    strength and entropy floor rise. As w grows, every max p falls, every entropy rises, and visible groups stay
    visible (as long as an even share is visible: up to 20 groups).
    """
    for metric, kind, sign, rounding in (
        ("s4/tail_share", "at_least", ">=", -_ROUNDING),
        ("s4/max_p_median", "at_least", ">=", -_ROUNDING),
        ("s4/multigroup_share", "at_most", "<=", _ROUNDING),
        ("s4/entropy_p50", "at_most", "<=", _ROUNDING),
    ):
        if metric == "s4/multigroup_share" and most_groups > 20:
            continue
        value = (min if kind == "at_least" else max)(corner[metric] for corner in corners)
        proof = f"{metric} {sign} {value:.6f}: the corner of the box that pulls every day furthest towards uniform"
        yield Bound(metric, kind, value + rounding, proof, "S3")


def intervention_bounds(corners: Sequence[Mapping[str, float]]) -> Iterator[Bound]:
    """Yields the least intervention, from S4's metrics at the corners that pull least, if only knobs of S4 move.

    A day that is blended by w moves w times its distance to uniform, and w is least at that corner.
    """
    value = min(corner["s4/intervention"] for corner in corners)
    if np.isfinite(value):
        proof = f"s4/intervention >= {value:.6f}: the corner of the box that pulls every day least towards uniform"
        yield Bound("s4/intervention", "at_least", value - _ROUNDING, proof, "S4")
