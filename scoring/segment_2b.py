"""Segment 2B measured: every metric over every row, the artifact detectors, and the floors no policy can pass.

Metrics read surfaces (and, for what backs them, the world); they never ask how a state computed. What does
not depend on a trial's knobs is measured once a surface and remembered as long as the surface lives.
Source of the definitions: ENGINE facts, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.types import Run, Surface, World
from scoring.feasibility import Bound
from scoring.segment_2b_roster import arrivals

TAIL, VISIBLE = 0.95, 0.05  # a day all but one group's; a group that shows
ATOM_WIDTH = 1e-9
CELL = 0.0025  # of the cliff's histogram of max_p
BIN, GAP, SIDE = 4, 1, 16  # cells: the narrow bin (.01), what is left out beside it, the neighbourhood (.04)


class Segment2BMetrics:
    """The metric source of segment 2B."""

    name = "segment_2b"
    gates_file = "segment_2b"

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Surface, dict[str, float]] = WeakKeyDictionary()

    def measure(self, run: Run) -> dict[str, float]:
        """Metrics of the surfaces that the run has."""
        found: dict[str, float] = {}
        if "s1_site_weights" in run.surfaces:
            found |= self._once(run.surfaces["s1_site_weights"], site_weights)
        if "s3_day_effects" in run.surfaces:
            law = run.pack["day_effect_policy_v1"]
            found |= self._once(run.surfaces["s3_day_effects"], lambda surface: day_effects(surface, law))
        if "s4_group_weights" in run.surfaces:
            found |= group_weights(run.surfaces["s4_group_weights"], run.upstream)
        if "s5_arrival_roster" in run.surfaces:
            found |= self._once(run.surfaces["s5_arrival_roster"], lambda roster: arrivals(roster, run.pack))
        return found

    def bounds(self, run: Run) -> dict[str, Bound]:
        """What the world alone decides of S4's metrics: no mix of a day with one group is anything but 1."""
        groups = np.diff(run.upstream.group_offsets)
        single = float(np.mean(groups == 1))
        entropy, even = float(np.median(np.log(groups))), float(np.median(1.0 / groups))
        told = f"{np.sum(groups == 1)} of {len(groups)} merchants have one group: share(n_groups = 1) = {single:.6f}"
        rows = (
            Bound("s4/tail_share", "at_least", single, f"tail_share >= {single:.6f}: {told}", "1B"),
            Bound(
                "s4/multigroup_share", "at_most", 1.0 - single, f"multigroup_share <= {1 - single:.6f}: {told}", "1B"
            ),
            Bound("s4/max_p_median", "at_least", even, f"max_p >= 1/n_groups, whose median is {even:.6f}", "1B"),
            Bound(
                "s4/entropy_p50", "at_most", entropy, f"entropy <= log(n_groups), whose median is {entropy:.6f}", "1B"
            ),
        )
        return {bound.metric: bound for bound in rows}

    def _once(self, surface: Surface, measure: Callable[[Surface], dict[str, float]]) -> dict[str, float]:
        if surface not in self._known:
            self._known[surface] = measure(surface)
        return self._known[surface]


def site_weights(surface: Surface) -> dict[str, float]:
    """S1: how far from even, how far the first site leads, how merchants differ."""
    starts = _starts(np.asarray(surface["merchant_id"]))
    residual, gap, hhi = _site_shape(starts, np.asarray(surface["p_weight"]))
    low, high = np.quantile(hhi, [0.25, 0.75])
    return {
        "s1/residual": float(np.median(residual)),
        "s1/gap": float(np.median(gap)),
        "s1/hhi_iqr": float(high - low),
    }


def day_effects(surface: Surface, policy: Mapping[str, Any]) -> dict[str, float]:
    """S3: how merchants' days differ, and whether gamma stays within what it may be."""
    gamma, log_gamma = np.asarray(surface["gamma"]), np.asarray(surface["log_gamma"])
    merchant = np.asarray(surface["merchant_id"])
    spread = _std_by_group(_starts(merchant), gamma)
    spread = spread[np.isfinite(spread)]
    days = _starts(merchant, surface["utc_day"].codes)  # type: ignore[union-attr]
    several = np.diff(days) > 1
    varied = _std_by_group(days, gamma)[several] > 1e-12
    clipped = 0.0
    if policy["law"] == "sigma_gamma_policy_v2":
        low, high = policy["sigma_gamma_policy_v2"]["gamma_clip"]
        clipped = float(np.mean((gamma <= low) | (gamma >= high)))
    middle = float(np.median(spread)) if len(spread) else np.nan
    return {
        "s3/merchant_std_median": middle,
        "s3/merchant_std_upper_tail": float(np.quantile(spread, 0.9) / middle) if middle > 0 else np.nan,
        "s3/tz_nonzero_share": float(np.mean(varied)) if len(varied) else np.nan,
        "s3/clipped_share": clipped,
        "s3/nonpositive_rows": float(np.sum(~(gamma > 0))),
        "s3/max_abs_log_gamma": float(np.max(np.abs(log_gamma))),
    }


def group_weights(surface: Surface, world: World) -> dict[str, float]:
    """S4: how days mix their groups, what the regularizer moved, and the artifacts it must not leave."""
    zone, day = surface["tz_group_id"], surface["utc_day"]
    place = {name: code for code, name in enumerate(world.zones)}
    codes = np.array([place.get(name, -1) for name in zone.values], np.int32)  # type: ignore[union-attr]
    starts, size = _day_starts(np.asarray(surface["merchant_id"]), day.codes)  # type: ignore[union-attr]
    p, raw = np.asarray(surface["p_group"]), np.asarray(surface["mass_raw"])
    top, raw_top, entropy, visible, error, inversions = _day_shape(starts, p, raw)
    backed = _unbacked(
        starts, np.asarray(surface["merchant_id"]), codes, zone.codes,  # type: ignore[union-attr]
        world.merchant_id, world.group_offsets, world.group_zone,
    )  # fmt: skip
    multi = size > 1
    tail = top >= TAIL
    delta = np.asarray(surface["regularizer_delta_mass"])[starts[:-1]]
    return {
        "s4/max_p_median": float(np.median(top)),
        "s4/tail_share": float(np.mean(tail)),
        "s4/multigroup_share": float(np.mean(visible >= 2)),
        "s4/entropy_p50": float(np.median(entropy)),
        "s4/mass_error_max": float(np.max(error)),
        "s4/single_group_share": float(np.mean(~multi)),
        "s4/tail_share_multi": float(np.mean(tail[multi])) if multi.any() else np.nan,
        "s4/intervention": float(np.mean(delta)),
        "s4/atom_share": max(atom_share(top[multi]), atom_share(entropy[multi])),
        "s4/rank_inversions": float(np.sum(inversions)),
        "s4/groups_without_site": float(backed),
        "s4/cliff": cliff(top[multi], raw_top[multi]),
    }


def atom_share(values: NDArray[np.float64]) -> float:
    """The greatest share of `values` that lie within 1e-9 of one another; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    ordered = np.sort(values)
    most = int(_longest_within(ordered, ATOM_WIDTH))
    return most / len(values) if most > 1 else 0.0


def cliff(after: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """How much more mass one bin of max_p, .01 wide, holds than the raw mix and a smooth curve put there.

    Every place of the bin is tried, on cells of .0025, not the policy's cap alone: a law may pile mass up
    elsewhere. The smooth curve is the denser of the two neighbourhoods, .04 wide on either side and a cell
    away, so that neither a slope nor the end of the support counts as a cliff. Shares of the days given.
    """
    if len(after) == 0:
        return 0.0
    found, raw = _cells(after), _cells(before)
    pad = np.zeros(SIDE + GAP)
    run = np.concatenate([[0.0], np.cumsum(np.concatenate([pad, found, pad]))])
    at = np.arange(len(found) - BIN + 1) + len(pad)  # first cell of each bin, in padded places
    inside = run[at + BIN] - run[at]
    left = (run[at - GAP] - run[at - GAP - SIDE]) * BIN / SIDE
    right = (run[at + BIN + GAP + SIDE] - run[at + BIN + GAP]) * BIN / SIDE
    raw_run = np.concatenate([[0.0], np.cumsum(raw)])
    unforced = raw_run[BIN:] - raw_run[:-BIN]
    return max(0.0, float(np.max(inside - np.maximum(unforced, np.maximum(left, right)))))


def _cells(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of `values` by cell; each cell holds its upper edge, as the bin under a cap holds the cap."""
    cells = round(1.0 / CELL)
    place = np.clip(np.ceil(values / CELL - 1e-9).astype(np.int64) - 1, 0, cells - 1)
    return np.bincount(place, minlength=cells) / len(values)


def _starts(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """Where each run of equal keys begins, and the number of rows."""
    fresh = np.ones(len(keys[0]), np.bool_)
    fresh[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.append(np.flatnonzero(fresh), len(keys[0]))


def _day_starts(merchant: NDArray[np.uint64], day: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts = _starts(merchant, day)
    return starts, np.diff(starts)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _std_by_group(starts: Any, values: Any) -> Any:
    """Standard deviation (ddof 1) of each run; NaN for runs of one."""
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


@njit(cache=True, nogil=True)
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
                spread -= x * np.log(x)
            seen += x >= VISIBLE
            for k in range(a, j):
                turned += (raw[j] - raw[k]) * (x - p[k]) < 0.0
        top[i], raw_top[i], entropy[i], error[i] = most, raw_most / whole, spread, abs(total - 1.0)
        visible[i], inversions[i] = seen, turned
    return top, raw_top, entropy, visible, error, inversions


@njit(cache=True, nogil=True)
def _longest_within(ordered: Any, width: float) -> int:
    longest, first = 0, 0
    for last in range(len(ordered)):
        while ordered[last] - ordered[first] > width:
            first += 1
        longest = max(longest, last - first + 1)
    return longest


@njit(cache=True, nogil=True)
def _unbacked(starts: Any, merchant: Any, place: Any, zone: Any, known: Any, offsets: Any, group_zone: Any) -> int:
    """Rows that no group of the world backs, and groups of the world that a merchant-day leaves out."""
    wrong, i = 0, 0
    for day in range(len(starts) - 1):
        a, b = starts[day], starts[day + 1]
        while i < len(known) and known[i] < merchant[a]:
            i += 1
        if i == len(known) or known[i] != merchant[a]:
            wrong += b - a
            continue
        backed = 0
        for row in range(a, b):
            for group in range(offsets[i], offsets[i + 1]):
                backed += group_zone[group] == place[zone[row]]
        wrong += (b - a - backed) + (offsets[i + 1] - offsets[i] - backed)
    return wrong


SEGMENT_2B = Segment2BMetrics()
