"""S4: how a merchant's day mixes its zones. mass = base_share * gamma, p = mass / sum, then the regularizer.

The laws of `group_mix_regularizer_v1` blend a day's raw shares q towards uniform over its n groups,
p = (1 - w) q + w / n. They differ in how w depends on the concentration.

`uniform_blend_v1`, the recorded law: w = strength, then just enough to bring the top group to the cap,
then just enough to reach the entropy floor. So every day above the cap lands exactly on the cap: an atom.

`smooth_soft_cap_v1`: let u = (max q - 1/n) / (1 - 1/n) in [0, 1] be the concentration excess, and
c = (cap' - 1/n) / (1 - 1/n) > 0 the cap in the same measure. With knee k and strength s

    g(u) = u (1 + (c^-k - 1) u^k)^(-1/k)        u' = (1 - s) u + s g(u)        w = 1 - u'/u

Why there is no atom: g^-k = u^-k + (c^-k - 1), so g strictly increases from g(0) = 0 to g(1) = c, and u'
with it. The blend maps max q to 1/n + (1 - 1/n) u', so the top share after is a strictly increasing function
of the top share before: days that differed still differ, and a distribution without an atom stays without
one. The blend only scales the distance from uniform (1 - w > 0), so the order of the groups is kept and no
group falls to zero.

The entropy floor needs no second clamp. If the top group holds m >= 1/2, the least possible entropy is that
of (m, 1 - m); so entropy > floor follows from max p < m_floor, where that binary entropy equals the floor.
The effective cap' = min(cap, m_floor) is one number per policy; with strength 1 both limits are met.

Every day is published as quanta of 2^-48, by largest remainder, so it sums to exactly 1 in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import log, power
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.mass import GROUP_BITS, apportion
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import Grid, World
from lanelock.engine.surface import Surface

_OFF, _BLEND, _SMOOTH = 0, 1, 2
_LAWS = {"uniform_blend_v1": _BLEND, "smooth_soft_cap_v1": _SMOOTH}


def base_shares(world: World, s1: Surface) -> NDArray[np.float64]:
    """Returns [g] the sum of the S1 weights of each group's sites."""
    weights = np.asarray(s1["p_weight"])
    return np.bincount(world.site_group, weights, minlength=len(world.group_zone)).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class RawMix:
    """The mix before any regularizer; it depends on S1 and S3 alone, on no knob of S4."""

    base_share: NDArray[np.float64]  # [r] share, sums to 1 per merchant
    gamma: NDArray[np.float64]  # [r] multiplier, echoed from S3
    mass: NDArray[np.float64]  # [r] base_share * gamma
    denom: NDArray[np.float64]  # [r] sum of mass over the merchant-day

    def part(self, rows: slice) -> RawMix:
        """Returns a view of these rows."""
        return RawMix(self.base_share[rows], self.gamma[rows], self.mass[rows], self.denom[rows])


def raw_mix(world: World, rows: Grid, s1: Surface, s3: Surface) -> RawMix:
    """Returns base share, mass and denominator of each row."""
    gamma = np.asarray(s3["gamma"])
    base = base_shares(world, s1)[rows.group]
    mass = base * gamma
    denom = np.repeat(np.add.reduceat(mass, rows.starts[:-1]), np.diff(rows.starts))
    return RawMix(base, gamma, mass, denom)


def group_weights(rows: Grid, raw: RawMix, policy: Mapping[str, Any], created_utc: str) -> Surface:
    """Returns the surface s4_group_weights: [r] rows in grid order."""
    size = len(raw.mass)
    p, delta, applied = np.empty(size), np.empty(size), np.empty(size, np.bool_)
    law = _LAWS[policy["law"]] if policy["enabled"] else _OFF
    strength = float(policy["regularization_strength"])
    cap = effective_cap(policy) if law == _SMOOTH else float(policy["max_p_group_soft_cap"])
    _mix(
        rows.starts, raw.mass, raw.denom, law, int(policy["apply_when_groups_ge"]), strength, cap,
        float(policy["entropy_floor"]), float(policy["knee"]), p, delta, applied,
    )  # fmt: skip
    return published(
        "s4_group_weights",
        merchant_id=rows.merchant_id,
        utc_day=rows.day,
        tz_group_id=rows.zone,
        p_group=p,
        base_share=raw.base_share,
        gamma=raw.gamma,
        created_utc=constant(created_utc, size),
        mass_raw=raw.mass,
        denom_raw=raw.denom,
        regularizer_applied=applied,
        regularizer_strength=np.where(applied, strength, 0.0),
        regularizer_delta_mass=delta,
    )


def blends(
    starts: NDArray[np.int64], mass: NDArray[np.float64], denom: NDArray[np.float64], policy: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Returns [d] how far each merchant-day is blended towards uniform, 0 … 1: w of this module's first lines.

    Merchant-day k owns rows starts[k]:starts[k+1].
    """
    blend = np.zeros(len(starts) - 1)
    if policy["enabled"]:
        law = _LAWS[policy["law"]]
        cap = effective_cap(policy) if law == _SMOOTH else float(policy["max_p_group_soft_cap"])
        _blends(
            starts, mass / denom, law, int(policy["apply_when_groups_ge"]), float(policy["regularization_strength"]),
            cap, float(policy["entropy_floor"]), float(policy["knee"]), blend,
        )  # fmt: skip
    return blend


def effective_cap(policy: Mapping[str, Any]) -> float:
    """Returns the lesser of the cap and the top share from which entropy can fall to the floor."""
    low, high, floor = 0.5, 1.0, float(policy["entropy_floor"])
    for _ in range(60):  # bisection: binary entropy falls from ln 2 to 0 on [1/2, 1]
        m = 0.5 * (low + high)
        entropy = -m * log(m) - (1.0 - m) * log(1.0 - m) if m < 1.0 else 0.0
        low, high = (m, high) if entropy > floor else (low, m)
    return min(float(policy["max_p_group_soft_cap"]), high)


@compiled
def _mix(
    starts: Any, mass: Any, denom: Any, law: int, from_groups: int, strength: float, cap: float, floor: float,
    knee: float, p: Any, delta: Any, applied: Any,
) -> None:  # fmt: skip
    total = 1 << GROUP_BITS
    unit = 1.0 / total
    quanta = np.empty(65536, np.int64)
    known, lift = 0, 0.0  # of the days before: a merchant's days have the same number of groups
    for day in range(len(starts) - 1):
        a, b = starts[day], starts[day + 1]
        n = b - a
        if n == 1:
            p[a], delta[a], applied[a] = 1.0, 0.0, False
            continue
        top = 0.0
        for i in range(a, b):
            p[i] = mass[i] / denom[i]
            top = max(top, p[i])
        blend = 0.0
        if law != _OFF and n >= from_groups:
            if law == _BLEND:
                blend = _recorded_blend(p[a:b], top, strength, cap, floor)
            else:
                if n != known:
                    known, lift = n, _lift(n, cap, knee)
                blend = _smooth_blend(top, n, strength, lift, knee)
        even = blend / n
        for i in range(a, b):
            p[i] = (1.0 - blend) * p[i] + even
        apportion(p[a:b], total, quanta)
        moved = 0.0
        for i in range(a, b):
            p[i] = quanta[i - a] * unit
            moved += abs(p[i] - mass[i] / denom[i])
        for i in range(a, b):
            applied[i] = blend > 0.0
            delta[i] = 0.5 * moved if blend > 0.0 else 0.0


@compiled
def _blends(
    starts: Any, q: Any, law: int, from_groups: int, strength: float, cap: float, floor: float, knee: float, blend: Any
) -> None:
    for day in range(len(starts) - 1):
        a, b = starts[day], starts[day + 1]
        n, top = b - a, 0.0
        if n < max(from_groups, 2):
            continue
        for i in range(a, b):
            top = max(top, q[i])
        if law == _BLEND:
            blend[day] = _recorded_blend(q[a:b], top, strength, cap, floor)
        else:
            blend[day] = _smooth_blend(top, n, strength, _lift(n, cap, knee), knee)


@compiled
def _lift(n: int, cap: float, knee: float) -> float:
    """Returns c^-k - 1 of a day of n groups."""
    even = 1.0 / n
    return power((cap - even) / (1.0 - even), -knee) - 1.0


@compiled
def _smooth_blend(top: float, n: int, strength: float, lift: float, knee: float) -> float:
    even = 1.0 / n
    u = (top - even) / (1.0 - even)
    if u <= 0.0:
        return 0.0
    shrunk = power(1.0 + lift * power(u, knee), -1.0 / knee)  # g(u) / u
    return float(strength * (1.0 - shrunk))


@compiled
def _recorded_blend(q: Any, top: float, strength: float, cap: float, floor: float) -> float:
    n = len(q)
    even = 1.0 / n
    kept = 1.0 - strength  # fraction of the distance from uniform that remains
    if even + kept * (top - even) > cap > even:
        kept = (cap - even) / (top - even)
    if 0.0 < floor < log(n) and _entropy(q, kept) < floor:
        low, high = 0.0, kept
        for _ in range(60):
            middle = 0.5 * (low + high)
            if not low < middle < high:
                break  # no double lies between them
            if _entropy(q, middle) < floor:
                high = middle
            else:
                low = middle
        kept = low
    return 1.0 - kept


@compiled
def _entropy(q: Any, kept: float) -> float:
    """Returns the entropy (nats) of q blended toward uniform; `kept` is the fraction of the distance that remains."""
    n = len(q)
    entropy = 0.0
    for i in range(n):
        x = 1.0 / n + kept * (q[i] - 1.0 / n)
        if x > 0.0:
            entropy -= x * log(x)
    return entropy
