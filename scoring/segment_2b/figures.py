"""The distributions behind segment 2B's gates: authority and candidate side by side, over every row of both.

Figures use the samples that the metrics are computed from, and captions the same arrays as their figures. The two sides
may stand on different worlds: what they have in common is found by name, never by position.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import interpolated
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.states.s3_day_effects import SEGMENTS, segments
from lanelock.scoring.figures import axes
from lanelock.scoring.figures.axes import Mark, Pair
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.scoring.figures.sides import Sides
from lanelock.scoring.gates import GateSet
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
        yield from _by_zone(sides)
    if sides.hold(S4):
        yield from mix_figures(sides)
    if sides.hold(S1):
        yield map_figure(*sides.of(lambda run: (np.asarray(run.surfaces[S1]["p_weight"]), run.upstream)))
    if sides.hold(S3):
        yield from calendar_figure(*sides.of(lambda run: (run.surfaces[S3], run.upstream)))


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
    policy = sides.candidate.pack["day_effect_policy_v1"]["sigma_gamma_policy_v2"]["segments"]
    spreads = sides.of(partial(_merchant_spreads, policy=policy))
    pairs = {name: (spreads[0][name], spreads[1][name]) for name in spreads[1]}
    boxes = {f"{name}\nn = {len(pair[1]):,}": pair for name, pair in pairs.items() if len(pair[0]) and len(pair[1])}
    middle = [float(np.median(spread["all"])) for spread in spreads]
    caption = (
        f"The median merchant's gamma varies by {middle[1]:.6f} (standard deviation over its days and zones), under "
        f"the authority by {middle[0]:.6f}. Boxes hold the middle half of merchants, whiskers nine tenths."
    )
    draw = partial(_draw_boxes, boxes, sides.marks("s3/merchant_std_median"))
    return Figure("s3_by_segment", "S3 · volatility of merchants by size", caption, 330, draw)


def _merchant_spreads(run: Run, policy: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Returns the standard deviations of gamma of all merchants that have one, and of those of each segment."""
    spread = sample_days(run.surfaces[S3], run.pack["day_effect_policy_v1"]).spread
    segment, known = segments(run.upstream, policy), np.isfinite(spread)
    mid, large = policy["mid_from"], policy["large_from"]
    counted = "sites" if policy["counts"] == "sites" else "site orders"
    names = (f"< {mid} {counted}", f"{mid}–{large - 1} {counted}", f"≥ {large} {counted}")
    sizes = {f"{size}\n{name}": segment == i for i, (size, name) in enumerate(zip(SEGMENTS, names, strict=True))}
    return {"all": spread[known], **{name: spread[known & rows] for name, rows in sizes.items()}}


def _draw_boxes(rows: Any, marks: tuple[Mark, ...], canvas: Any) -> None:
    axis = canvas.subplots()
    axes.boxes(axis, rows)
    axis.set_xlim(left=0.0, right=axis.get_xlim()[1] * 1.02)
    axis.set_xlabel("standard deviation of gamma")
    axes.stack_marks(axis, marks)
    axes.key(canvas, axis)


def _by_zone(sides: Sides) -> Iterator[Figure]:
    """Yields the figure of the zones that both worlds have, if they share any."""
    before, after = sides.of(_zone_spreads)
    areas: dict[str, list[str]] = {}
    for zone in sorted(before.keys() & after.keys()):
        areas.setdefault(zone.partition("/")[0], []).append(zone)
    rows = {
        f"{area} ({len(zones)})": tuple(np.array([side[zone] for zone in zones]) for side in (before, after))
        for area, zones in areas.items()
    }
    shared = list(itertools.chain.from_iterable(areas.values()))
    if not shared:
        return
    calm, wild = (pick(shared, key=after.__getitem__) for pick in (min, max))
    alone = len(before.keys() ^ after.keys())
    caption = (
        f"Each dot is one of {len(shared)} zones: the median over its merchants of the standard deviation of gamma "
        f"over days. Least {calm} ({after[calm]:.4f}), most {wild} ({after[wild]:.4f})."
        + (f" {alone} more are in one of the two worlds only." if alone else "")
    )
    yield Figure("s3_by_zone", "S3 · volatility of zones by area", caption, 330, partial(_draw_zones, rows))


def _zone_spreads(run: Run) -> dict[str, float]:
    """Returns zone -> the median over its merchants of gamma's deviation over days; a zone with one day is left out."""
    surface = run.surfaces[S3]
    zone: Any = surface["tz_group_id"]
    merchant = np.asarray(surface["merchant_id"])
    order = np.lexsort((zone.codes, merchant))
    starts = run_starts(merchant[order], zone.codes[order])
    spread = std_by_group(starts, np.asarray(surface["gamma"])[order])
    of = zone.codes[order][starts[:-1]]
    middle = {zone.values[code]: float(np.median(spread[of == code])) for code in np.unique(of)}
    return {name: value for name, value in middle.items() if np.isfinite(value)}


def _draw_zones(rows: Any, canvas: Any) -> None:
    axis = canvas.subplots()
    axes.dots(axis, rows)
    low, high = axis.get_xlim()
    axis.set_xlim(max(0.0, low - 0.06 * (high - low)), high + 0.06 * (high - low))
    axis.set_xlabel("standard deviation of gamma over days")
    axes.key(canvas, axis)
