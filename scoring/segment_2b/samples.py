"""What segment 2B's metrics need from a shard's surfaces, taken over every row.

Samples combine to the same metrics wherever the cuts are. Ranked quantities (medians, quantiles, atoms) keep one
value per merchant or merchant-day; the rest are counts. A sum of floats would depend on its order, so a mean is kept as
a sum of integer quanta, or as one sum per merchant, which no cut divides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import log
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.states.s3_day_effects import clipped_rows
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Surface

TAIL, VISIBLE = 0.95, 0.05  # shares: of a group that takes nearly the whole day; of a group that is visible
RANK: Final = "nearest"  # quantiles of merchants are values that occur, as in the record
CELL = 0.0025  # cell width of the cliff's histogram of max p
MOVED_BITS = 53  # each day's delta mass is rounded to quanta of 2^-53 and summed exactly
_LOW_BITS = 26  # quanta are summed in two halves, so that the sum of 2^36 days fits


@dataclass(frozen=True, slots=True, eq=False)
class SiteSample:
    """The sample of S1, [m] each."""

    residual: NDArray[np.float64]  # median |p - 1/N|
    gap: NDArray[np.float64]  # largest weight less the second
    hhi: NDArray[np.float64]  # sum of squares


@dataclass(frozen=True, slots=True, eq=False)
class DaySample:
    """The sample of S3."""

    spread: NDArray[np.float64]  # [m] std of gamma over a merchant's rows; NaN for one row
    between: NDArray[np.float64]  # [k] std of gamma between the zones of each merchant-day with two or more
    excess: NDArray[np.float64]  # [m] sum of gamma - 1 over a merchant's rows
    squares: NDArray[np.float64]  # [m] sum of (gamma - 1)^2 over a merchant's rows
    rows: int
    clipped: int  # rows at either end of the policy's range
    nonpositive: int  # rows with gamma not above 0
    max_abs_log_gamma: float  # nats


@dataclass(frozen=True, slots=True, eq=False)
class MixSample:
    """The sample of S4, of k merchant-days."""

    top: NDArray[np.float64]  # [k] max p
    entropy: NDArray[np.float64]  # [k] nats
    multi: NDArray[np.bool_]  # [k] two or more groups
    cells: NDArray[np.int64]  # [400] multi-group days by max p
    raw_cells: NDArray[np.int64]  # [400] the same, before the regularizer
    two: int  # days of two groups
    tail: int  # days with max p >= TAIL
    tail_multi: int  # multi-group days among them
    tail_two: int  # days of two groups among them
    visible: int  # days with two or more groups at p >= VISIBLE
    moved: int | None  # quanta of delta mass over all days; None if any is not a number
    inversions: int  # pairs of groups whose order the regularizer reversed
    unbacked: int  # rows without a group of the world, and groups of the world without a row
    mass_error: float  # max |sum p - 1|


def sample_sites(surface: Surface) -> SiteSample:
    """Returns per merchant the distance from even weights, the lead of the first site and the concentration."""
    starts = run_starts(np.asarray(surface["merchant_id"]))
    return SiteSample(*_site_shape(starts, np.asarray(surface["p_weight"])))


def sample_days(surface: Surface, policy: Mapping[str, Any]) -> DaySample:
    """Returns how much merchants' days and zones differ, and how many rows have a clipped or nonpositive gamma."""
    gamma, logs = np.asarray(surface["gamma"]), np.asarray(surface["log_gamma"])
    merchants, days = run_starts(np.asarray(surface["merchant_id"])), day_starts(surface)
    excess, squares, nonpositive = _about_one(merchants, gamma)
    return DaySample(
        spread=std_by_group(merchants, gamma),
        between=std_by_group(days, gamma)[np.diff(days) > 1],
        excess=excess,
        squares=squares,
        rows=len(gamma),
        clipped=clipped_rows(gamma, policy),
        nonpositive=nonpositive,
        max_abs_log_gamma=max(float(np.max(logs)), -float(np.min(logs))),
    )


def sample_mix(surface: Surface, world: World) -> MixSample:
    """Returns how days mix their groups, what the regularizer moved, and the counts behind the artifact gates."""
    zone: Any = surface["tz_group_id"]
    place = {name: code for code, name in enumerate(world.zones)}
    codes = np.array([place.get(name, -1) for name in zone.values], np.int32)
    starts = day_starts(surface)
    top, raw_top, entropy, visible, error, inversions = _day_shape(
        starts, np.asarray(surface["p_group"]), np.asarray(surface["mass_raw"])
    )
    groups = np.diff(starts)
    multi, two, tail = groups > 1, groups == 2, top >= TAIL
    high, low, whole = _quanta(starts, np.asarray(surface["regularizer_delta_mass"]), 2.0**MOVED_BITS, _LOW_BITS)
    return MixSample(
        top=top,
        entropy=entropy,
        multi=multi,
        cells=cells_of(top[multi]),
        raw_cells=cells_of(raw_top[multi]),
        two=int(np.sum(two)),
        tail=int(np.sum(tail)),
        tail_multi=int(np.sum(tail & multi)),
        tail_two=int(np.sum(tail & two)),
        visible=int(np.sum(visible >= 2)),
        moved=(int(high) << _LOW_BITS) + int(low) if whole else None,
        inversions=int(np.sum(inversions)),
        unbacked=_unbacked(
            starts, np.asarray(surface["merchant_id"]), codes, zone.codes,
            world.merchant_id, world.group_offsets, world.group_zone,
        ),
        mass_error=float(np.max(error)),
    )  # fmt: skip


def cells_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns [400] the number of values in each cell; a cell includes its upper edge, since a cap is an upper edge."""
    counts: NDArray[np.int64] = _cells(values, round(1.0 / CELL))
    return counts


def day_starts(surface: Surface) -> NDArray[np.int64]:
    """Returns the first row of each merchant-day of S3 or S4, and the number of rows."""
    return run_starts(np.asarray(surface["merchant_id"]), surface["utc_day"].codes)  # type: ignore[union-attr]


def run_starts(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the first row of each run of equal keys, and the number of rows."""
    fresh = np.ones(len(keys[0]), np.bool_)
    np.not_equal(keys[0][1:], keys[0][:-1], out=fresh[1:])
    for key in keys[1:]:
        fresh[1:] |= key[1:] != key[:-1]
    return np.append(np.flatnonzero(fresh), len(keys[0]))


@compiled
def _site_shape(starts: Any, p: Any) -> Any:
    m = len(starts) - 1
    residual, gap, hhi = np.empty(m), np.empty(m), np.empty(m)
    for i in range(m):
        w = p[starts[i] : starts[i + 1]]
        residual[i] = np.median(np.abs(w - 1.0 / len(w)))
        first, second, squares = 0.0, 0.0, 0.0
        for x in w:
            squares += x * x
            if x > first:
                first, second = x, first
            elif x > second:
                second = x
        gap[i], hhi[i] = first - second, squares
    return residual, gap, hhi


@compiled
def std_by_group(starts: Any, values: Any) -> Any:
    """Returns the standard deviation (ddof 1) of each run; NaN for a run of one row."""
    out = np.empty(len(starts) - 1)
    for i in range(len(out)):
        n = starts[i + 1] - starts[i]
        mean = 0.0
        for j in range(starts[i], starts[i + 1]):
            mean += values[j]
        mean /= n
        squares = 0.0
        for j in range(starts[i], starts[i + 1]):
            squares += (values[j] - mean) ** 2
        out[i] = np.sqrt(squares / (n - 1)) if n > 1 else np.nan
    return out


@compiled
def _about_one(starts: Any, values: Any) -> Any:
    """Returns (sum of x - 1 of each run, sum of (x - 1)^2 of each run, number of values that are not above 0)."""
    excess, squares, nonpositive = np.empty(len(starts) - 1), np.empty(len(starts) - 1), 0
    for i in range(len(excess)):
        total, square = 0.0, 0.0
        for j in range(starts[i], starts[i + 1]):
            far = values[j] - 1.0
            total += far
            square += far * far
            nonpositive += not values[j] > 0.0
        excess[i], squares[i] = total, square
    return excess, squares, nonpositive


@compiled
def _cells(values: Any, cells: int) -> Any:
    counts = np.zeros(cells, np.int64)
    for value in values:
        place = np.ceil(value * cells - 1e-9) - 1.0
        counts[np.int64(min(place, cells - 1.0)) if place > 0.0 else 0] += 1
    return counts


@compiled
def _day_shape(starts: Any, p: Any, raw: Any) -> Any:
    d = len(starts) - 1
    top, raw_top, entropy, error = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
    visible, inversions = np.empty(d, np.int64), np.empty(d, np.int64)
    for i in range(d):
        a, b = starts[i], starts[i + 1]
        if b - a == 1:
            top[i], raw_top[i], entropy[i], error[i] = p[a], 1.0, 0.0, abs(p[a] - 1.0)
            visible[i], inversions[i] = p[a] >= VISIBLE, 0
            continue
        total, whole, most, raw_most, spread, seen, turned = 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0
        for j in range(a, b):
            x = p[j]
            total += x
            whole += raw[j]
            most, raw_most = max(most, x), max(raw_most, raw[j])
            if x > 0.0:
                spread -= x * log(x)
            seen += x >= VISIBLE
            for k in range(a, j):
                turned += (raw[j] - raw[k]) * (x - p[k]) < 0.0
        top[i], raw_top[i], entropy[i], error[i] = most, raw_most / whole, spread, abs(total - 1.0)
        visible[i], inversions[i] = seen, turned
    return top, raw_top, entropy, visible, error, inversions


@compiled
def _quanta(starts: Any, values: Any, scale: float, low_bits: int) -> Any:
    """Returns (high half, low half) of the sum of each day's value in quanta, and whether all are numbers in ±2."""
    high, low, whole = np.int64(0), np.int64(0), True
    for day in range(len(starts) - 1):
        value = values[starts[day]]
        if not abs(value) <= 2.0:
            whole = False
            continue
        quanta = np.int64(np.rint(value * scale))
        high += quanta >> low_bits
        low += quanta & ((1 << low_bits) - 1)
    return high, low, whole


@compiled
def _unbacked(starts: Any, merchant: Any, place: Any, zone: Any, known: Any, offsets: Any, group_zone: Any) -> int:
    """Returns how many rows have no group in the world, plus how many groups of the world a merchant-day leaves out.

    Each merchant is looked up by id, so an unknown id does not affect the rows after it and counts the same in a
    shard and in the whole.
    """
    wrong, i = 0, 0
    for day in range(len(starts) - 1):
        a, b = starts[day], starts[day + 1]
        if known[i] != merchant[a]:
            i = min(np.searchsorted(known, merchant[a]), len(known) - 1)
        if known[i] != merchant[a]:
            wrong += b - a
            continue
        backed = 0
        for row in range(a, b):
            for group in range(offsets[i], offsets[i + 1]):
                backed += group_zone[group] == place[zone[row]]
        wrong += (b - a - backed) + (offsets[i + 1] - offsets[i] - backed)
    return wrong
