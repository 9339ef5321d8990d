"""The distributions behind segment 2B's gates: authority and candidate side by side, over every row of both.

Figures use the samples that the metrics are computed from, and captions the same arrays as their figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import interpolated
from lanelock.engine.protocol import Run
from lanelock.scoring.figures import axes
from lanelock.scoring.figures.axes import Mark, Pair
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.scoring.figures.sides import Sides
from lanelock.scoring.gates import GateSet
from lanelock.scoring.segment_2b.bounds import BUCKETS
from lanelock.scoring.segment_2b.mixes import S4, mix_figures
from lanelock.scoring.segment_2b.places import calendar_figure, map_figure
from lanelock.scoring.segment_2b.samples import run_starts, sample_days, sample_sites, std_by_group

S1, S3 = "s1_site_weights", "s3_day_effects"
_STEPS = np.linspace(0.0, 1.0, 51)  # shares of a merchant's sites, lightest first


def segment_2b_figures(authority: Run, candidate: Run, gates: GateSet) -> Iterator[Figure]:
    """Yields every figure whose surfaces both runs have."""
    sides = Sides(authority, candidate, gates)
    if sides.hold(S1):
        yield _lorenz(sides)
        yield _lead(sides)
    if sides.hold(S3):
        yield _by_segment(sides)
        yield _by_zone(sides)
    if sides.hold(S4):
        yield from mix_figures(sides)
    if sides.hold(S1):
        yield map_figure(*sides.of(lambda run: np.asarray(run.surfaces[S1]["p_weight"])), candidate.upstream)
    if sides.hold(S3):
        yield calendar_figure(*sides.of(lambda run: run.surfaces[S3]), candidate.upstream)


# --- S1 -----------------------------------------------------------------------------------------------------


def _lorenz(sides: Sides) -> Figure:
    curves = sides.of(_lorenz_curves)
    four_fifths = np.array([0.8])
    top = [1.0 - float(interpolated(four_fifths, _STEPS, np.median(each, axis=0))[0]) for each in curves]
    caption = (
        f"The busiest fifth of the median merchant's sites holds {top[1]:.1%} of its weight, under the authority "
        f"{top[0]:.1%}. Lines: the median of {len(curves[1]):,} merchants; bands: the middle eight tenths of them."
    )
    return Figure("s1_lorenz", "S1 · Lorenz curves of site weights", caption, 320, partial(_draw_lorenz, curves))


def _lorenz_curves(run: Run) -> NDArray[np.float64]:
    """Returns [m, 51] the weight of a merchant's lightest sites, at each share of its sites."""
    surface = run.surfaces[S1]
    starts, p = run_starts(np.asarray(surface["merchant_id"])), np.asarray(surface["p_weight"])
    out = np.empty((len(starts) - 1, len(_STEPS)))
    for row, (first, last) in enumerate(itertools.pairwise(starts)):
        upto = np.concatenate([[0.0], np.cumsum(np.sort(p[first:last]))])
        out[row] = interpolated(_STEPS, np.linspace(0.0, 1.0, len(upto)), upto)
    return out


def _draw_lorenz(curves: Pair, canvas: Any) -> None:
    axis = canvas.subplots()
    low, middle, high = zip(*(np.quantile(each, [0.1, 0.5, 0.9], axis=0) for each in curves), strict=True)
    axes.bands(axis, _STEPS, tuple(zip(low, high, strict=True)))
    axes.curves(axis, (_STEPS, _STEPS), middle)
    axis.set(xlabel="share of a merchant's sites, the least first", ylabel="share of its weight")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axes.in_percent(axis.xaxis, axis.yaxis)
    axes.key(canvas, axis)


def _lead(sides: Sides) -> Figure:
    leads = sides.of(lambda run: np.sort(sample_sites(run.surfaces[S1]).gap))
    middle = [float(np.median(lead)) for lead in leads]
    caption = (
        f"The median merchant's first site leads its second by {middle[1]:.6f}, under the authority by "
        f"{middle[0]:.6f}. A gate holds where the curve crosses one half to the right of its mark."
    )
    draw = partial(_draw_lead, leads, sides.marks("s1/gap"))
    return Figure("s1_gap", "S1 · lead of the first site over the second", caption, 320, draw)


def _draw_lead(leads: Pair, marks: tuple[Mark, ...], canvas: Any) -> None:
    axis = canvas.subplots()
    axes.below(axis, leads, 0.1)
    axis.axhline(0.5, color=LIGHT["muted"], linewidth=0.8)
    axis.set(xlabel="top 1 − top 2, share of the merchant's weight", ylabel="merchants at or below")
    axes.stack_marks(axis, marks)
    axes.key(canvas, axis)


# --- S3 -----------------------------------------------------------------------------------------------------


def _by_segment(sides: Sides) -> Figure:
    spreads = sides.of(lambda run: sample_days(run.surfaces[S3], run.pack["day_effect_policy_v1"]).spread)
    sites = np.diff(sides.candidate.upstream.site_offsets)
    rows = {"all": np.ones(len(sites), np.bool_)}
    rows |= {f"{name}\n{_range(*ends)}": (sites >= ends[0]) & (sites <= ends[1]) for name, ends in BUCKETS.items()}
    known = np.isfinite(spreads[0]) & np.isfinite(spreads[1])
    boxes = {
        f"{name}\nn = {np.sum(rows & known):,}": tuple(spread[rows & known] for spread in spreads)
        for name, rows in rows.items()
        if np.any(rows & known)
    }
    middle = [float(np.median(spread[known])) for spread in spreads]
    caption = (
        f"The median merchant's gamma varies by {middle[1]:.6f} (standard deviation over its days and zones), under "
        f"the authority by {middle[0]:.6f}. Boxes hold the middle half of merchants, whiskers nine tenths."
    )
    draw = partial(_draw_boxes, boxes, sides.marks("s3/merchant_std_median"))
    return Figure("s3_by_segment", "S3 · volatility of merchants by size", caption, 330, draw)


def _range(low: int, high: int) -> str:
    return f"{low}–{high} sites" if high < 1 << 40 else f"≥ {low} sites"


def _draw_boxes(rows: Any, marks: tuple[Mark, ...], canvas: Any) -> None:
    axis = canvas.subplots()
    axes.boxes(axis, rows)
    axis.set_xlim(left=0.0, right=axis.get_xlim()[1] * 1.02)
    axis.set_xlabel("standard deviation of gamma")
    axes.stack_marks(axis, marks)
    axes.key(canvas, axis)


def _by_zone(sides: Sides) -> Figure:
    spreads = sides.of(_zone_spreads)
    zones = sides.candidate.upstream.zones
    known = np.isfinite(spreads[0]) & np.isfinite(spreads[1])
    areas = np.array([zone.partition("/")[0] for zone in zones])
    rows = {
        f"{area} ({np.sum(known & (areas == area))})": tuple(each[known & (areas == area)] for each in spreads)
        for area in sorted(set(areas[known]))
    }
    calm, wild = (int(pick(np.where(known, spreads[1], np.nan))) for pick in (np.nanargmin, np.nanargmax))
    caption = (
        f"Each dot is one of {np.sum(known)} zones: the median over its merchants of the standard deviation of gamma "
        f"over days. Least {zones[calm]} ({spreads[1][calm]:.4f}), most {zones[wild]} ({spreads[1][wild]:.4f})."
    )
    return Figure("s3_by_zone", "S3 · volatility of zones by area", caption, 330, partial(_draw_zones, rows))


def _zone_spreads(run: Run) -> NDArray[np.float64]:
    """Returns [zones of the world] the median over merchants of gamma's deviation over days; NaN with one day."""
    surface, world = run.surfaces[S3], run.upstream
    zone, merchant = surface["tz_group_id"], np.asarray(surface["merchant_id"])
    place = {name: code for code, name in enumerate(world.zones)}
    codes = np.array([place[name] for name in zone.values])[zone.codes]  # type: ignore[union-attr]
    order = np.lexsort((codes, merchant))
    starts = run_starts(merchant[order], codes[order])
    spread = std_by_group(starts, np.asarray(surface["gamma"])[order])
    of = codes[order][starts[:-1]]
    return np.array([np.median(spread[of == code]) if np.any(of == code) else np.nan for code in range(len(place))])


def _draw_zones(rows: Any, canvas: Any) -> None:
    axis = canvas.subplots()
    axes.dots(axis, rows)
    low, high = axis.get_xlim()
    axis.set_xlim(max(0.0, low - 0.06 * (high - low)), high + 0.06 * (high - low))
    axis.set_xlabel("standard deviation of gamma over days")
    axes.key(canvas, axis)
