"""The laws of segment 2B, once more and slowly: one row at a time, plain Python, nothing shared with the engine.

Each function states its law in the order in which ENGINE facts, section 2, states it. What the fast engine
computes is held to these.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from fractions import Fraction
from statistics import NormalDist

MASK = (1 << 64) - 1


def philox(key, counter):
    """The first 64-bit word of Philox4x64-10."""
    c, k = [*counter, 0, 0], list(key)
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k[0], b & MASK, (a >> 64) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c[0]


def key_of(text):
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def uniform(key, lo, hi):
    return min(((philox(key, (lo, hi)) >> 11) + 0.5) / 2**53, 1 - 2**-53)


def stable(name, lo, hi=0):
    return uniform(key_of(f"stable/{name}"), lo, hi)


def apportion(shares, total, *, rounded=False):
    """Largest remainder in exact fractions, ties by index: integers that sum to `total`."""
    wanted = [Fraction(share) * total for share in shares]
    quanta = [round(w) if rounded else math.floor(w) for w in wanted]  # round() is half to even
    left = total - sum(quanta)
    step = 1 if left > 0 else -1
    for _ in range(abs(left)):
        best = max(range(len(wanted)), key=lambda i: (step * (wanted[i] - quanta[i]), -i))
        quanta[best] += step
    return quanta


def bucket(sites):
    return "small" if sites <= 3 else "mid" if sites <= 8 else "large"


# --- S1 ---------------------------------------------------------------------------------------------


def hashed(*parts):
    """The recorded hash: the first eight bytes of SHA-256 over the law's name and the parts, as a number."""
    text = "|".join(map(str, ("2B.S1.profile_mixture_v2", *parts)))
    return (int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big") + 0.5) / 2**64


def site_weights(merchant_id, orders, policy):
    """One merchant's weights, quantised, of the sites with these orders."""
    sites = len(orders)
    if policy["law"] == "uniform":
        return [1.0 / sites] * sites
    law, size = policy["profile_mixture_v2"], bucket(sites)
    shares = {name: law["mixture"][name][size] for name in ("hub_spoke", "heavy_tail", "near_uniform")}
    u, upto, component = hashed(merchant_id, "component"), 0.0, "near_uniform"
    for name, share in shares.items():
        upto += share / sum(shares.values())
        if u <= upto:
            component = name
            break
    alpha = law["alpha"][component][size]
    weights = []
    for rank in range(1, sites + 1):
        if component == "hub_spoke":
            boost = max(1.0, alpha * max(2, sites // 2)) if rank == 1 else 1.0
            weights.append(boost * rank ** -max(alpha, 1.0))
        elif component == "heavy_tail":
            weights.append(rank ** -max(alpha, 0.5))
        else:
            weights.append(1 + alpha / (rank + 1))
    weights = normalised(weights)
    cap, floor = law["top1_soft_cap"][size], law["second_site_floor"][size]
    if sites > 1 and weights[0] > cap:
        rest = (1 - cap) / (1 - weights[0])
        weights = [cap, *(weight * rest for weight in weights[1:])]
    if sites > 1 and weights[1] < floor and weights[1] < weights[0]:
        both = weights[0] + weights[1]
        weights[1] = min(floor, both / 2)  # out of the first site's mass, and never past it
        weights[0] = both - weights[1]
    scores = [hashed(merchant_id, order, "site") for order in orders]
    placed = [0.0] * sites
    for weight, place in zip(weights, sorted(range(sites), key=lambda i: scores[i]), strict=True):
        placed[place] = weight
    bits = policy["quantised_bits"]
    return [quantum / 2**bits for quantum in apportion(placed, 2**bits, rounded=True)]


def normalised(weights):
    total = math.fsum(weights)
    return [weight / total for weight in weights]


# --- S3 ---------------------------------------------------------------------------------------------


def segment(orders, policy):
    """A merchant's segment in S3, which is not S1's bucket: how many sites it has, or how many different orders."""
    count = len(orders) if policy["counts"] == "sites" else len(set(orders))
    return "large" if count >= policy["large_from"] else "mid" if count >= policy["mid_from"] else "small"


def day_effect(fingerprint, seed, merchant_id, orders, zone, rank, day_index, day, policy):
    """(gamma, log gamma, sigma) of one row."""
    u = uniform(key_of(f"{fingerprint}/{seed}/{policy['rng_stream_id']}"), day_index * 65536 + rank, merchant_id)
    z = NormalDist().inv_cdf(u)
    if policy["law"] == "scalar_sigma_v1":
        sigma, weekly = policy["scalar_sigma_v1"]["sigma"], 0.0
    else:
        law = policy["sigma_gamma_policy_v2"]
        size, multiplier = segment(orders, law["segments"]), law["tz_multiplier_default"]
        for rule in reversed(law["tz_multipliers"]):  # so that the first that fits is the last to be taken
            if zone.startswith(rule["prefix"]):
                multiplier = rule["multiplier"]
        jitter = 1 + law["jitter_amplitude"] * (2 * stable("s3/jitter", merchant_id) - 1)
        sigma = min(
            max(law["base_sigma"].get(size, law["base_sigma"]["default"]) * multiplier * jitter, law["sigma_min"]),
            law["sigma_max"],
        )
        phase = 2 * math.pi * stable("s3/phase", merchant_id)
        weekday = dt.date.fromisoformat(day).weekday()
        amplitude = law["weekly_amplitude"].get(size, law["weekly_amplitude"]["default"])
        weekly = amplitude * math.sin(2 * math.pi * weekday / 7 + phase)
    log_gamma = -sigma * sigma / 2 + sigma * z + weekly
    gamma = math.exp(log_gamma)
    if policy["law"] == "sigma_gamma_policy_v2":
        low, high = policy["sigma_gamma_policy_v2"]["gamma_clip"]
        gamma, log_gamma = min(max(gamma, low), high), min(max(log_gamma, math.log(low)), math.log(high))
    return gamma, log_gamma, sigma


# --- S4 ---------------------------------------------------------------------------------------------


def day_mix(base_shares, gammas, policy):
    """One merchant-day's p by group, before quantising to 2^-48."""
    masses = [base * gamma for base, gamma in zip(base_shares, gammas, strict=True)]
    raw = [mass / sum(masses) for mass in masses]
    n = len(raw)
    if not policy["enabled"] or n < 2 or n < policy["apply_when_groups_ge"]:
        return raw
    blend = recorded_blend if policy["law"] == "uniform_blend_v1" else smooth_blend
    weight = blend(raw, policy)
    return [(1 - weight) * share + weight / n for share in raw]


def recorded_blend(raw, policy):
    """By the strength, then just enough to the cap, then just enough to the entropy floor."""
    n, even = len(raw), 1 / len(raw)
    cap, floor = policy["max_p_group_soft_cap"], policy["entropy_floor"]
    kept = 1 - policy["regularization_strength"]
    if even + kept * (max(raw) - even) > cap > even:
        kept = (cap - even) / (max(raw) - even)

    def entropy_at(part):
        return entropy([even + part * (share - even) for share in raw])

    if entropy_at(kept) < floor < math.log(n):
        low, high = 0.0, kept
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if entropy_at(middle) < floor else (middle, high)
        kept = low
    return 1 - kept


def smooth_blend(raw, policy):
    """u' = (1 - s) u + s g(u), g(u) = u (1 + (c^-k - 1) u^k)^(-1/k); the blend is 1 - u'/u."""
    even, knee, strength = 1 / len(raw), policy["knee"], policy["regularization_strength"]
    cap = min(policy["max_p_group_soft_cap"], floor_cap(policy["entropy_floor"]))
    u, c = (max(raw) - even) / (1 - even), (cap - even) / (1 - even)
    if u <= 0:
        return 0.0
    g = u * (1 + (c**-knee - 1) * u**knee) ** (-1 / knee)
    return 1 - ((1 - strength) * u + strength * g) / u


def floor_cap(floor):
    """The top share m of two groups, m >= 1/2, whose entropy is the floor."""
    low, high = 0.5, 1.0
    while high - low > 1e-15:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if entropy([middle, 1 - middle]) > floor else (low, middle)
    return high


def entropy(shares):
    return -sum(share * math.log(share) for share in shares if share > 0)
