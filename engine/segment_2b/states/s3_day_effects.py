"""S3: day effects. log gamma = -sigma^2/2 + sigma z + weekly, one draw per row, gamma = exp(log gamma).

Laws `scalar_sigma_v1` (one sigma) and `sigma_gamma_policy_v2` (sigma by segment, zone and merchant, a weekly wave,
gamma clipped). The policy says what the segments are: by how many sites a merchant has, or, as in the record, by how
many different site orders, which restart in each country.

z is standard normal by the inverse CDF of the row's own uniform, whose counter is (day * 65536 + group rank, merchant
id), so a merchant's draws do not depend on other merchants.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import exp, log, sin
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b import streams
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import Grid, World
from lanelock.engine.surface import Categories, Surface

SEGMENTS = ("small", "mid", "large")
_DAY_STRIDE = 65536  # exceeds the number of groups of any merchant


def horizon(policy: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the days of the policy's horizon, ISO dates, ascending."""
    first, count = dt.date.fromisoformat(policy["horizon"]["start_day"]), int(policy["horizon"]["days"])
    return tuple((first + dt.timedelta(i)).isoformat() for i in range(count))


def grid(world: World, policy: Mapping[str, Any]) -> Grid:
    """Returns the (merchant, day, group) rows of a world over the policy's horizon."""
    days = horizon(policy)
    count = len(days)
    groups = np.diff(world.group_offsets)
    per_day = np.repeat(groups, count)  # [m*d] groups of each merchant-day
    starts = np.concatenate([[0], np.cumsum(per_day)]).astype(np.int64)
    rank = np.arange(starts[-1]) - np.repeat(starts[:-1], per_day)
    group = rank + np.repeat(np.repeat(world.group_offsets[:-1], count), per_day)
    day = np.repeat(np.tile(np.arange(count, dtype=np.int16), len(groups)), per_day)
    merchant = np.repeat(world.merchant_id, groups * count)
    zone = Categories(world.group_zone[group], world.zones)
    return Grid(days, merchant, Categories(day, days), zone, group, rank.astype(np.int32), starts)


def day_effects(world: World, rows: Grid, policy: Mapping[str, Any], seed: int, created_utc: str) -> Surface:
    """Returns the surface s3_day_effects: [r] rows in grid order."""
    stream = str(policy["rng_stream_id"])
    lo = counters(rows)
    sigma, weekly_amp, weekly = shape(world, rows, policy)
    clipped = policy["law"] == "sigma_gamma_policy_v2"
    low, high = policy["sigma_gamma_policy_v2"]["gamma_clip"] if clipped else (0.0, math.inf)
    key = streams.stream_key(world.digest, seed, stream)
    gamma, log_gamma = _draw(key, lo, rows.merchant_id, sigma, weekly, float(low), float(high))
    return published(
        "s3_day_effects",
        merchant_id=rows.merchant_id,
        utc_day=rows.day,
        tz_group_id=rows.zone,
        gamma=gamma,
        log_gamma=log_gamma,
        sigma_gamma=sigma,
        rng_stream_id=constant(stream, len(gamma)),
        rng_counter_lo=lo,
        rng_counter_hi=rows.merchant_id,
        sigma_source=constant(str(policy["law"]), len(gamma)),
        sigma_value=sigma,
        weekly_amp=weekly_amp,
        created_utc=constant(created_utc, len(gamma)),
    )


def clipped_rows(gamma: NDArray[np.float64], policy: Mapping[str, Any]) -> int:
    """Returns how many values lie at or beyond an end of the policy's range; 0 under a law that does not clip."""
    if policy["law"] != "sigma_gamma_policy_v2":
        return 0
    low, high = policy["sigma_gamma_policy_v2"]["gamma_clip"]
    return int(np.count_nonzero((gamma <= low) | (gamma >= high)))


def counters(rows: Grid) -> NDArray[np.uint64]:
    """Returns [r] the lower counter word of each row's draw; the upper word is its merchant."""
    return rows.day.codes.astype(np.uint64) * np.uint64(_DAY_STRIDE) + rows.rank.astype(np.uint64)


def shape(
    world: World, rows: Grid, policy: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns [r] sigma, weekly amplitude and weekly term of each row."""
    size = len(rows.group)
    if policy["law"] == "scalar_sigma_v1":
        return np.full(size, float(policy["scalar_sigma_v1"]["sigma"])), np.zeros(size), np.zeros(size)
    law = policy["sigma_gamma_policy_v2"]
    groups = np.diff(world.group_offsets)
    segment = segments(world, law["segments"])
    base = _by_segment(law["base_sigma"])[segment]
    jitter = 1.0 + law["jitter_amplitude"] * (2.0 * streams.stable_uniform("s3/jitter", world.merchant_id) - 1.0)
    by_zone = np.array([zone_multiplier(zone, law) for zone in world.zones])
    sigma = np.repeat(base * jitter, groups) * by_zone[world.group_zone]
    sigma = np.clip(sigma, law["sigma_min"], law["sigma_max"])
    amp = _by_segment(law["weekly_amplitude"])[segment]
    phase = 2.0 * np.pi * streams.stable_uniform("s3/phase", world.merchant_id)
    weekday = np.array([dt.date.fromisoformat(day).weekday() for day in rows.days])
    wave = amp[:, None] * _sines(2.0 * np.pi * weekday / 7.0 + phase[:, None])  # [m, d]
    per_day = np.repeat(groups, len(rows.days))
    return sigma[rows.group], np.repeat(amp, groups * len(rows.days)), np.repeat(wave.ravel(), per_day)


@compiled
def _draw(key: Any, lo: Any, hi: Any, sigma: Any, weekly: Any, low: float, high: float) -> Any:
    """Returns gamma of each row, clipped to [low, high], and its logarithm."""
    log_gamma = streams.normals(key, lo, hi)
    gamma = np.empty_like(log_gamma)
    for i in range(len(gamma)):
        log_gamma[i] = sigma[i] * log_gamma[i] - 0.5 * sigma[i] * sigma[i] + weekly[i]
        gamma[i] = exp(log_gamma[i])
        if gamma[i] < low:
            gamma[i], log_gamma[i] = low, log(low)
        elif gamma[i] > high:
            gamma[i], log_gamma[i] = high, log(high)
    return gamma, log_gamma


@compiled
def _sines(angles: Any) -> Any:
    out = np.empty_like(angles)
    for i in range(angles.shape[0]):
        for j in range(angles.shape[1]):
            out[i, j] = sin(angles[i, j])
    return out


def segments(world: World, policy: Mapping[str, Any]) -> NDArray[np.int64]:
    """Returns [m] an index into SEGMENTS, by the count that the policy names."""
    counts = np.diff(world.site_offsets)
    if policy["counts"] == "distinct_site_orders":
        counts = _distinct(world.site_offsets, world.site_order)
    return np.where(counts >= policy["large_from"], 2, counts >= policy["mid_from"])


@compiled
def _distinct(offsets: Any, values: Any) -> Any:
    """Returns how many different values each run has."""
    out = np.ones(len(offsets) - 1, np.int64)
    for i in range(len(out)):
        ordered = np.sort(values[offsets[i] : offsets[i + 1]])
        for k in range(1, len(ordered)):
            out[i] += ordered[k] != ordered[k - 1]
    return out


def _by_segment(values: Mapping[str, Any]) -> NDArray[np.float64]:
    """Returns one value per segment: its own, else the default."""
    return np.array([values.get(name, values["default"]) for name in SEGMENTS], np.float64)


def zone_multiplier(zone: str, law: Mapping[str, Any]) -> float:
    """Returns the multiplier of the first rule whose prefix `zone` has, else the default."""
    fitting = (rule["multiplier"] for rule in law["tz_multipliers"] if zone.startswith(rule["prefix"]))
    return float(next(fitting, law["tz_multiplier_default"]))
