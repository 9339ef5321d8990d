"""S5, the roster: the arrivals, drawn by `route_rng_policy_v1`. An imported roster replaces it.

Mode `smoke`, the recorded baseline: one arrival per merchant, on the first day. Mode `realism`: every day of the
horizon, and on each merchant-day

    count = max(1, round(lambda * exp(s z - s^2 / 2)))      lambda = mean * N^e / average of N^e

with N the merchant's sites, e and s the policy's `size_exponent` and `day_sigma`, z standard normal. The
moment of an arrival follows `hour_weights` (UTC), its class and channel the declared mixes. The address of a
draw is (day * 2^20 + arrival within the merchant-day) * 4 + kind of draw, and the merchant; other merchants
matter only through the average of N^e. Rows ascend by (utc_timestamp, merchant_id).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import exp, powers
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b import streams
from lanelock.engine.segment_2b.mass import cumulative
from lanelock.engine.segment_2b.streams import unit
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Surface
from lanelock.engine.workers import spread
from lanelock.policies import DataError

DAY_US = 86_400_000_000
OCCURRENCES = 4096  # arrivals of one merchant in one microsecond that a counter can distinguish
_HOUR_US = 3_600_000_000
_COUNT, _MOMENT, _CLASS, _CHANNEL = 0, 1, 2, 3  # kinds of draw: the two lowest bits of the counter
_PER_DAY = 1 << 20  # arrivals of one merchant-day
_OF_DAY = 1 << 26  # arrivals of one day: with the moment (37 bits) they fill an int64
_SLOT_BITS = 12  # 4,096 slots for merchant ids


def roster(world: World, days: tuple[str, ...], policy: Mapping[str, Any], seed: int, created_utc: str) -> Surface:
    """Returns the surface s5_arrival_roster. Raises DataError if a day has more arrivals than a counter can address."""
    law, where = policy["roster"], "route_rng_policy_v1: /roster"
    key = streams.stream_key(world.digest, seed, str(policy["streams"]["roster"]))
    if law["mode"] == "smoke":
        days, counts = days[:1], np.ones((1, len(world.merchant_id)), np.int64)
    else:
        counts = _counts(world, len(days), law, key)
    if counts.max() > _PER_DAY or counts.sum(axis=1).max() > _OF_DAY:
        bound = f"more than {_PER_DAY} a merchant-day or {_OF_DAY} a day"
        raise DataError(f"{where}/arrivals_per_merchant_day: {bound}")
    upto = np.concatenate([[0.0], cumulative(law["hour_weights"], f"{where}/hour_weights")])
    kinds, ways = names_of(law, "class_mix"), names_of(law, "channel_mix")
    classes = cumulative((law["class_mix"][name] for name in kinds), f"{where}/class_mix")
    channels = cumulative((law["channel_mix"][name] for name in ways), f"{where}/channel_mix")
    ends = np.cumsum(counts.sum(axis=1))
    size = int(ends[-1])
    moment, merchant = np.empty(size, np.int64), np.empty(size, np.int32)
    klass, channel = np.empty(size, np.int8), np.empty(size, np.int8)

    def draw(day: int) -> None:
        rows = slice(ends[day] - counts[day].sum(), ends[day])
        order = _moments(key, day, world.merchant_id, counts[day], upto)
        order.sort()  # unique keys: the moment, then the place among the day's arrivals, which ascends by merchant
        moment[rows] = first_day(days) + day * DAY_US + order // _OF_DAY
        places = order & (_OF_DAY - 1)
        merchant[rows], klass[rows], channel[rows] = _kinds(
            key, day, places, world.merchant_id, counts[day], classes, channels
        )

    spread(draw, range(len(days)))
    return published(
        "s5_arrival_roster",
        utc_timestamp=moment,
        merchant_id=world.merchant_id[merchant],
        utc_day=Categories(np.repeat(np.arange(len(days), dtype=np.int16), counts.sum(axis=1)), days),
        is_virtual=world.is_virtual[merchant],
        arrival_class=Categories(klass, kinds),
        channel=Categories(channel, ways),
        occurrence=occurrences(moment, world.merchant_id[merchant]),
        created_utc=constant(created_utc, size),
    )


def names_of(law: Mapping[str, Any], mix: str) -> tuple[str, ...]:
    """Returns the names of a mix in ASCII order: a policy's digest ignores key order, so laws must not depend on it."""
    return tuple(sorted(law[mix]))


def merchants_at(known: NDArray[np.uint64], merchant_id: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Returns [a] the index of each merchant in `known`, which ascends; -1 for an unknown merchant.

    The range of the known ids is cut into equal slots, which leaves a merchant or two to bisect.
    """
    span = int(known[-1]) - int(known[0])
    shift = max(0, span.bit_length() - _SLOT_BITS)
    slots = np.arange((span >> shift) + 2, dtype=np.uint64)
    begins = np.searchsorted((known - known[0]) >> np.uint64(shift), slots)
    found: NDArray[np.int64] = _bisected(known, begins, np.uint64(shift), merchant_id)
    return found


def occurrences(utc_us: NDArray[np.int64], merchant_id: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Returns [a] how many earlier rows have the same merchant and moment; rows ascend by (moment, merchant)."""
    same = np.zeros(len(utc_us), np.bool_)
    same[1:] = (utc_us[1:] == utc_us[:-1]) & (merchant_id[1:] == merchant_id[:-1])
    at = np.arange(len(utc_us))
    first = np.maximum.accumulate(np.where(same, 0, at))
    return (at - first).astype(np.int32)


def _counts(world: World, days: int, law: Mapping[str, Any], key: streams.Key) -> NDArray[np.int64]:
    """Returns [d, m] the number of arrivals of each merchant-day."""
    weight = powers(np.diff(world.site_offsets).astype(np.float64), float(law["size_exponent"]))
    mean = law["arrivals_per_merchant_day"] * weight / np.mean(weight)
    lo = (np.arange(days, dtype=np.uint64) * np.uint64(_PER_DAY * 4))[:, None] + np.uint64(_COUNT)
    lo, hi = (np.ascontiguousarray(part).ravel() for part in np.broadcast_arrays(lo, world.merchant_id))
    z = streams.normals(key, lo, hi).reshape(days, -1)
    return np.asarray(_rounded(mean, z, float(law["day_sigma"])))


def first_day(days: tuple[str, ...]) -> int:
    """Returns the first day's midnight in microseconds since 1970, UTC."""
    return (dt.date.fromisoformat(days[0]) - dt.date(1970, 1, 1)).days * DAY_US


@compiled
def _bisected(known: Any, begins: Any, shift: Any, merchant_id: Any) -> Any:
    out = np.full(len(merchant_id), -1, np.int64)
    for i in range(len(merchant_id)):
        if known[0] <= merchant_id[i] <= known[-1]:
            slot = np.int64((merchant_id[i] - known[0]) >> shift)
            low, high = begins[slot], begins[slot + 1]
            while low < high:
                middle = (low + high) // 2
                if known[middle] < merchant_id[i]:
                    low = middle + 1
                else:
                    high = middle
            if low < len(known) and known[low] == merchant_id[i]:
                out[i] = low
    return out


@compiled
def _rounded(mean: Any, z: Any, sigma: float) -> Any:
    out = np.empty(z.shape, np.int64)
    for day in range(z.shape[0]):
        for i in range(z.shape[1]):
            out[day, i] = max(1, round(mean[i] * exp(sigma * z[day, i] - 0.5 * sigma * sigma)))
    return out


@compiled
def _drawn(key: Any, day: Any, arrival: Any, what: Any, merchant: Any) -> Any:
    lo = (np.uint64(day) * np.uint64(_PER_DAY) + np.uint64(arrival)) * np.uint64(4) + np.uint64(what)
    return unit(key, lo, merchant)


@compiled
def _moments(key: Any, day: Any, merchant_id: Any, counts: Any, upto: Any) -> Any:
    """Returns [a] (microseconds of the day) * 2^26 + place among the day's arrivals, merchant by merchant."""
    order, place = np.empty(counts.sum(), np.int64), 0
    for i in range(len(merchant_id)):
        for arrival in range(counts[i]):
            u = _drawn(key, day, arrival, _MOMENT, merchant_id[i])
            hour = 0
            while upto[hour + 1] <= u:
                hour += 1
            part = (u - upto[hour]) / (upto[hour + 1] - upto[hour])
            us = hour * _HOUR_US + min(int(part * _HOUR_US), _HOUR_US - 1)
            order[place] = us * _OF_DAY + place
            place += 1
    return order


@compiled
def _kinds(key: Any, day: Any, places: Any, merchant_id: Any, counts: Any, classes: Any, channels: Any) -> Any:
    """Returns merchant index, class and channel of the day's arrivals at these places."""
    size = len(places)
    owner, begins, place = np.empty(size, np.int32), np.empty(size, np.int64), 0
    for i in range(len(counts)):
        begins[place : place + counts[i]] = place
        owner[place : place + counts[i]] = i
        place += counts[i]
    merchant, klass, channel = np.empty(size, np.int32), np.empty(size, np.int8), np.empty(size, np.int8)
    for row in range(size):
        i, arrival = owner[places[row]], places[row] - begins[places[row]]
        merchant[row] = i
        u, v = (_drawn(key, day, arrival, _CLASS, merchant_id[i]), _drawn(key, day, arrival, _CHANNEL, merchant_id[i]))
        klass[row] = np.searchsorted(classes, u, side="right")
        channel[row] = np.searchsorted(channels, v, side="right")
    return merchant, klass, channel
