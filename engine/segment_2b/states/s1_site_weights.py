"""S1: how a merchant's arrivals spread over its sites. Laws `uniform` and `profile_mixture_v2`.

Under `uniform` the published weight is 1/N itself, so that residual and gap are exactly zero, as recorded;
under `profile_mixture_v2` it is quanta / 2^bits, which sums to exactly 1 in any order. S2 is built from the
quanta of either law.

`profile_mixture_v2` draws nothing: which component a merchant has, and which of its sites comes first, follow from
SHA-256 over texts that name the law, the merchant and the site's order. They depend on the world alone (`ranking`).
A site's order restarts in each country, so two sites of a merchant may have the same hash; the one that stands first
in the world then ranks first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import power
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.mass import apportion
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Surface

BUCKETS = ("small", "mid", "large")
COMPONENTS = ("hub_spoke", "heavy_tail", "near_uniform")
_HUB, _HEAVY = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What the recorded hash says of a world, whatever the policy."""

    component: NDArray[np.float64]  # [m] in [0, 1], compared with the mixture's weights
    order: NDArray[np.int64]  # [n] per merchant its sites by rank, counted from its first site
    site_offsets: NDArray[np.int64]  # [m+1] the world's

    def shard(self, first: int, last: int) -> Ranking:
        """Returns a view of merchants [first, last)."""
        offsets = self.site_offsets[first : last + 1]
        return Ranking(self.component[first:last], self.order[offsets[0] : offsets[-1]], offsets - offsets[0])


def ranking(world: World) -> Ranking:
    """Returns each merchant's place in the mixture and its sites by rank: least hash first, ties in world order."""
    counts, law = np.diff(world.site_offsets), "2B.S1.profile_mixture_v2"
    owner, places = np.repeat(np.arange(len(counts)), counts), world.site_order.tolist()
    names = [f"{law}|{merchant}|" for merchant in world.merchant_id.tolist()]
    component = _hashed(f"{name}component" for name in names)
    score = _hashed(f"{names[i]}{place}|site" for i, place in zip(owner.tolist(), places, strict=True))
    order = np.lexsort((score, owner)) - np.repeat(world.site_offsets[:-1], counts)
    return Ranking(component, order, world.site_offsets)


def _hashed(texts: Iterable[str]) -> NDArray[np.float64]:
    """Returns per text the first eight bytes of its SHA-256 as a number in [0, 1]."""
    heads = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.asarray((np.frombuffer(heads, ">u8").astype(np.float64) + 0.5) / 2.0**64)


def size_bucket(world: World) -> NDArray[np.int8]:
    """Returns [m] an index into BUCKETS by site count: small 1–3, mid 4–8, large from 9."""
    sites = np.diff(world.site_offsets)
    return np.searchsorted([4, 9], sites, side="right").astype(np.int8)


def site_weights(world: World, policy: Mapping[str, Any], created_utc: str, ranks: Ranking | None = None) -> Surface:
    """Returns the surface s1_site_weights: [n] rows in site order. `ranks` is the world's `ranking`, if it is known."""
    merchants, sites = len(world.merchant_id), len(world.lat_deg)
    counts = np.diff(world.site_offsets)
    bucket, law = size_bucket(world), str(policy["law"])
    bits = int(policy["quantised_bits"])
    if law == "uniform":
        weight = np.repeat(1.0 / counts, counts)
        component, alpha = np.full(merchants, COMPONENTS.index("near_uniform"), np.int8), np.zeros(merchants)
    else:
        profile, ranks = policy["profile_mixture_v2"], ranks or ranking(world)
        component, alpha = _mixture(ranks.component, bucket, profile)
        weight = weighed(world.site_offsets, ranks.order, component, alpha, *limits(profile, bucket))
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
        floor_applied=np.zeros(sites, np.bool_),
        weight_profile=Categories(bucket[repeat], BUCKETS),
        mixture_component=Categories(component[repeat], COMPONENTS),
        alpha_used=alpha[repeat],
        created_utc=constant(created_utc, sites),
    )


def limits(profile: Mapping[str, Any], bucket: NDArray[np.int8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns [m] the most that the first site may have, and the least that the second one has."""
    table = [[profile[key][name] for name in BUCKETS] for key in ("top1_soft_cap", "second_site_floor")]
    cap, floor = np.array(table, np.float64)[:, bucket]
    return cap, floor


def weighed(
    site_offsets: NDArray[np.int64], order: NDArray[np.int64], component: NDArray[np.int8], alpha: NDArray[np.float64],
    cap: NDArray[np.float64], floor: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Returns [n] the weights of `profile_mixture_v2` before they become quanta. `order` is that of a `Ranking`."""
    weight = np.empty(site_offsets[-1])
    _weigh(site_offsets, order, component, alpha, cap, floor, weight)
    return weight


def site_quanta(world: World, weight: NDArray[np.float64], bits: int) -> NDArray[np.int64]:
    """Returns [n] integers that sum to 2^bits per merchant, rounded half to even, then settled by remainder."""
    quanta = np.empty(len(weight), np.int64)
    _quantise(world.site_offsets, weight, 1 << bits, quanta)
    return quanta


def _mixture(
    u: NDArray[np.float64], bucket: NDArray[np.int8], profile: Mapping[str, Any]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Returns [m] component and exponent: the merchant's hash against its bucket's mixture weights."""
    weights = np.array([[profile["mixture"][name][size] for name in COMPONENTS] for size in BUCKETS])
    upto = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)[bucket]
    component = np.minimum((u[:, None] > upto).sum(axis=1), len(COMPONENTS) - 1).astype(np.int8)
    alphas = np.array([[profile["alpha"][name][size] for name in COMPONENTS] for size in BUCKETS])
    return component, alphas[bucket, component]


@compiled
def _weigh(offsets: Any, order: Any, component: Any, alpha: Any, cap: Any, floor: Any, weight: Any) -> None:
    for i in range(len(offsets) - 1):
        begin, n = offsets[i], offsets[i + 1] - offsets[i]
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
            given = max(0.0, min(floor[i] - w[1], 0.5 * (w[0] - w[1])))  # the first stays first
            w[0] -= given
            w[1] += given
        for r in range(n):
            weight[begin + order[begin + r]] = w[r]


@compiled
def _quantise(offsets: Any, weight: Any, total: int, quanta: Any) -> None:
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        apportion(weight[begin:end], total, quanta[begin:end], True)
