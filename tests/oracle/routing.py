"""S5 and S6 once more and slowly: one merchant-day, one arrival at a time, nothing shared with the engine."""

from __future__ import annotations

import datetime as dt
import math
from fractions import Fraction
from statistics import NormalDist

from oracle.laws import key_of, uniform

HOUR, DAY = 3_600_000_000, 86_400_000_000
MIDNIGHT = dt.date(1970, 1, 1)


def stream(fingerprint, seed, name):
    return key_of(f"{fingerprint}/{seed}/{name}")


def pick(weights, u):
    """The first index whose cumulative share passes u, in exact fractions."""
    total, passed = sum(map(Fraction, weights)), Fraction(0)
    for index, weight in enumerate(weights):
        passed += Fraction(weight)
        if Fraction(u) * total < passed:
            return index
    raise AssertionError("u is below 1")


def name_of(mix, u):
    """The name that u picks, names in ASCII order."""
    names = sorted(mix)
    return names[pick([mix[name] for name in names], u)]


def roster(fingerprint, seed, merchants, days, policy):
    """Sorted (microsecond, merchant, day, virtual, class, channel); merchants: (id, sites, virtual)."""
    law, key = policy["roster"], stream(fingerprint, seed, policy["streams"]["roster"])
    weights = [sites ** law["size_exponent"] for _, sites, _ in merchants]
    mean = sum(weights) / len(weights)
    rows = []
    for index, day in enumerate(days if law["mode"] == "realism" else days[:1]):
        first = (dt.date.fromisoformat(day) - MIDNIGHT).days * DAY
        for (merchant, _, virtual), weight in zip(merchants, weights, strict=True):
            z, s = NormalDist().inv_cdf(uniform(key, index * 2**22, merchant)), law["day_sigma"]
            expected = law["arrivals_per_merchant_day"] * weight / mean * math.exp(s * z - s * s / 2)
            for arrival in range(max(1, round(expected)) if law["mode"] == "realism" else 1):
                u, klass, channel = (uniform(key, (index * 2**20 + arrival) * 4 + what, merchant) for what in (1, 2, 3))
                hour = pick(law["hour_weights"], u)
                total = sum(law["hour_weights"])
                part = (u * total - sum(law["hour_weights"][:hour])) / law["hour_weights"][hour]
                kind, way = (name_of(law[mix], v) for mix, v in (("class_mix", klass), ("channel_mix", channel)))
                rows.append((first + hour * HOUR + int(part * HOUR), merchant, day, virtual, kind, way))
    return sorted(rows)


def address(moment, occurrence):
    return moment * 4096 + occurrence


def routed(fingerprint, seed, merchant, moment, occurrence, mix, sites, policy):
    """(zone, site) of a physical arrival. `mix`: zone -> share of the day; `sites`: zone -> [(site, weight)]."""
    lo = address(moment, occurrence)
    u, v = (uniform(stream(fingerprint, seed, policy["streams"][name]), lo, merchant) for name in ("group", "site"))
    zone = list(mix)[pick(mix.values(), u)]
    names, weights = zip(*sites[zone], strict=True)
    return zone, names[pick(weights if sum(weights) > 0 else [1] * len(names), v)]


def edge(fingerprint, seed, merchant, moment, occurrence, edge_policy, policy):
    """The edge of a virtual arrival."""
    u = uniform(stream(fingerprint, seed, policy["streams"]["edge"]), address(moment, occurrence), merchant)
    offered = edge_policy["merchant_overrides"].get(str(merchant), edge_policy["default_edges"])
    return offered[pick([one["weight"] for one in offered], u)]["edge_id"]
