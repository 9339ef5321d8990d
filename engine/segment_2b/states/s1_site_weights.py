"""S1: how a merchant's arrivals spread over its sites. Laws `uniform` and `profile_mixture_v2`.

Under `uniform` the published weight is 1/N itself, so that residual and gap are exactly zero, as recorded;
under `profile_mixture_v2` it is quanta / 2^bits, which sums to exactly 1 in any order. S2 is built from the
quanta of either law.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import power
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b import streams
from lanelock.engine.segment_2b.mass import apportion
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Surface

BUCKETS = ("small", "mid", "large")
COMPONENTS = ("hub_spoke", "heavy_tail", "near_uniform")
_HUB, _HEAVY = 0, 1


def size_bucket(world: World) -> NDArray[np.int8]:
    """Returns [m] an index into BUCKETS by site count: small 1–3, mid 4–8, large from 9."""
    sites = np.diff(world.site_offsets)
    return np.searchsorted([4, 9], sites, side="right").astype(np.int8)


def site_weights(world: World, policy: Mapping[str, Any], created_utc: str) -> Surface:
    """Returns the surface s1_site_weights: [n] rows in site order."""
    merchants, sites = len(world.merchant_id), len(world.lat_deg)
    counts = np.diff(world.site_offsets)
    bucket, law = size_bucket(world), str(policy["law"])
    bits = int(policy["quantised_bits"])
    floored = np.zeros(sites, np.bool_)
    if law == "uniform":
        weight = np.repeat(1.0 / counts, counts)
        component, alpha = np.full(merchants, COMPONENTS.index("near_uniform"), np.int8), np.zeros(merchants)
    else:
        profile = policy["profile_mixture_v2"]
        component, alpha = _mixture(world, bucket, profile)
        position = (np.arange(sites) - np.repeat(world.site_offsets[:-1], counts)).astype(np.uint64)
        score = streams.stable_uniform("s1/rank", position, np.repeat(world.merchant_id, counts))
        table = [[profile[key][name] for name in BUCKETS] for key in ("top1_soft_cap", "second_site_floor")]
        cap, floor = np.array(table, np.float64)[:, bucket]
        weight = np.empty(sites)
        _weigh(world.site_offsets, score, component, alpha, cap, floor, weight, floored)
    quanta = site_quanta(world, weight, bits)
    repeat = np.repeat(np.arange(merchants), counts)
    return published(
        "s1_site_weights",
        merchant_id=world.merchant_id[repeat],
        legal_country_iso=world.country,
        site_order=world.site_order,
        p_weight=weight if law == "uniform" else quanta / float(1 << bits),
        weight_source=constant(law, sites),
        quantised_bits=np.full(sites, bits, np.int32),
        floor_applied=floored,
        weight_profile=Categories(bucket[repeat], BUCKETS),
        mixture_component=Categories(component[repeat], COMPONENTS),
        alpha_used=alpha[repeat],
        created_utc=constant(created_utc, sites),
    )


def site_quanta(world: World, weight: NDArray[np.float64], bits: int) -> NDArray[np.int64]:
    """Returns [n] integers that sum to 2^bits per merchant, rounded half to even, then settled by remainder."""
    quanta = np.empty(len(weight), np.int64)
    _quantise(world.site_offsets, weight, 1 << bits, quanta)
    return quanta


def _mixture(
    world: World, bucket: NDArray[np.int8], profile: Mapping[str, Any]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Returns [m] component and exponent: a stable hash of the merchant against its bucket's mixture weights."""
    weights = np.array([[profile["mixture"][name][size] for name in COMPONENTS] for size in BUCKETS])
    upto = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)[bucket]
    u = streams.stable_uniform("s1/component", world.merchant_id)
    component = np.minimum((u[:, None] > upto).sum(axis=1), len(COMPONENTS) - 1).astype(np.int8)
    alphas = np.array([[profile["alpha"][name][size] for name in COMPONENTS] for size in BUCKETS])
    return component, alphas[bucket, component]


@compiled
def _weigh(
    offsets: Any, score: Any, component: Any, alpha: Any, cap: Any, floor: Any, weight: Any, floored: Any
) -> None:
    for i in range(len(offsets) - 1):
        begin, n = offsets[i], offsets[i + 1] - offsets[i]
        order = np.argsort(score[begin : begin + n])
        w = np.empty(n)  # by rank
        a = alpha[i]
        for r in range(n):
            if component[i] == _HUB:
                w[r] = power(r + 1.0, -max(a, 1.0))
            elif component[i] == _HEAVY:
                w[r] = power(r + 1.0, -max(a, 0.5))
            else:
                w[r] = 1.0 + a / (r + 2.0)
        if component[i] == _HUB:
            w[0] *= max(1.0, a * max(2, n // 2))
        w /= w.sum()
        if n > 1 and w[0] > cap[i]:
            w[1:] *= (1.0 - cap[i]) / (1.0 - w[0])
            w[0] = cap[i]
        if n > 1 and w[1] < floor[i]:
            w[1] = floor[i]
            floored[begin + order[1]] = True
            w /= w.sum()
        for r in range(n):
            weight[begin + order[r]] = w[r]


@compiled
def _quantise(offsets: Any, weight: Any, total: int, quanta: Any) -> None:
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        apportion(weight[begin:end], total, quanta[begin:end], True)
