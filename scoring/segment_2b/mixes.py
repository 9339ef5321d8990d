"""The distributions of S4: how days mix their groups, and what the regularizer moved."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.protocol import Run
from lanelock.scoring.figures import axes
from lanelock.scoring.figures.axes import Mark, Pair
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.scoring.figures.sides import Sides
from lanelock.scoring.segment_2b.bounds import MIX
from lanelock.scoring.segment_2b.samples import MOVED_BITS, VISIBLE, MixSample, day_starts, sample_mix

S4 = "s4_group_weights"


def mix_figures(sides: Sides) -> Iterator[Figure]:
    """Yields the figures of S4; both runs must have it."""
    mixes = sides.of(lambda run: sample_mix(run.surfaces[S4], run.upstream))
    yield _max_p(sides, mixes)
    yield _entropy(sides, mixes)
    yield _groups(sides)
    yield _moved(sides, mixes)


def _max_p(sides: Sides, mixes: tuple[MixSample, MixSample]) -> Figure:
    tops, multi = (tuple(getattr(mix, name) for mix in mixes) for name in ("top", "multi"))
    policy = sides.candidate.pack[MIX]
    cap = (f"cap {policy['max_p_group_soft_cap']:g}", float(policy["max_p_group_soft_cap"]), "mark")
    marks = (*sides.marks("s4/max_p_median"), *((cap,) if policy["enabled"] else ()))
    caption = (
        f"Median over {len(tops[1]):,} merchant-days {np.median(tops[1]):.6f}, under the authority "
        f"{np.median(tops[0]):.6f}. Drawn are days of two groups or more; {_single(mixes)}, with a share of exactly 1."
    )
    draw = partial(_draw_mix, tops, multi, np.linspace(0, 1, 51), marks, "largest group's share of the day")
    return Figure("s4_max_p", "S4 · largest group's share, max p", caption, 340, draw)


def _entropy(sides: Sides, mixes: tuple[MixSample, MixSample]) -> Figure:
    entropies, multi = (tuple(getattr(mix, name) for mix in mixes) for name in ("entropy", "multi"))
    policy = sides.candidate.pack[MIX]
    floor = (f"floor {policy['entropy_floor']:g}", float(policy["entropy_floor"]), "mark")
    marks = (*sides.marks("s4/entropy_p50"), *((floor,) if policy["enabled"] else ()))
    most = max(float(np.max(each)) for each in entropies)
    caption = (
        f"Median over {len(entropies[1]):,} merchant-days {np.median(entropies[1]):.6f} nats, under the authority "
        f"{np.median(entropies[0]):.6f}. Drawn are days of two groups or more; {_single(mixes)}, with an entropy of 0."
    )
    edges = np.arange(0.0, most + 0.1, 0.05)
    draw = partial(_draw_mix, entropies, multi, edges, marks, "entropy of the day's mix, nats")
    return Figure("s4_entropy", "S4 · entropy of the day's mix", caption, 340, draw)


def _single(mixes: tuple[MixSample, MixSample]) -> str:
    shares = [1.0 - float(np.mean(mix.multi)) for mix in mixes]
    beside = "" if shares[0] == shares[1] else f" (authority {shares[0]:.1%})"
    return f"the other {shares[1]:.1%}{beside} have one"


def _draw_mix(
    values: Pair, multi: Pair, edges: NDArray[np.float64], marks: tuple[Mark, ...], label: str, canvas: Any
) -> None:
    axis = canvas.subplots()
    shares = [np.histogram(each[of], edges)[0] / len(each) for each, of in zip(values, multi, strict=True)]
    axes.histogram(axis, edges, (shares[0], shares[1]))
    axis.set(xlabel=label, ylabel="merchant-days", xlim=(edges[0], edges[-1]))
    axes.in_percent(axis.yaxis)
    axes.medians(axis, tuple(float(np.median(each)) for each in values))
    axes.stack_marks(axis, marks)
    axes.key(canvas, axis)


def _groups(sides: Sides) -> Figure:
    (before, _), (after, groups) = sides.of(_groups_per_day)
    shares = [float(np.mean(each >= 2)) for each in (before, after)]
    caption = (
        f"{shares[1]:.1%} of {len(after):,} merchant-days show two groups or more at a share of {VISIBLE:g} or above, "
        f"under the authority {shares[0]:.1%}. The steps count all groups of the merchant, shown or not."
    )
    most = int(max(groups.max(), after.max(), before.max()))
    counts = [np.bincount(each, minlength=most + 1)[1:] / len(each) for each in (before, after, groups)]
    return Figure("s4_groups", "S4 · groups of a merchant-day", caption, 320, partial(_draw_groups, counts))


def _groups_per_day(run: Run) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns [merchant-days] the number of visible groups, and of all groups."""
    surface = run.surfaces[S4]
    starts = day_starts(surface)
    shows = (np.asarray(surface["p_group"]) >= VISIBLE).astype(np.int64)
    return np.add.reduceat(shows, starts[:-1]), np.diff(starts)


def _draw_groups(counts: Any, canvas: Any) -> None:
    axis = canvas.subplots()
    at = np.arange(1, len(counts[0]) + 1)
    axis.stairs(counts[2], np.arange(len(at) + 1) + 0.5, color=LIGHT["muted"], linewidth=1.2, label="all groups")
    axes.bars(axis, at, (counts[0], counts[1]))
    axis.set(xlabel=f"groups with a share of {VISIBLE:g} or more", ylabel="merchant-days", xlim=(0.4, len(at) + 0.6))
    axis.set_xticks(at)
    axis.grid(visible=False, axis="x")
    axes.in_percent(axis.yaxis)
    axes.key(canvas, axis)


def _moved(sides: Sides, mixes: tuple[MixSample, MixSample]) -> Figure:
    moved = sides.of(_moved_per_day)
    mean = ["unknown" if mix.moved is None else f"{mix.moved / (len(mix.top) << MOVED_BITS):.6f}" for mix in mixes]
    caption = (
        f"The regularizer moves {mean[1]} of a merchant-day's mass on average, under the authority {mean[0]}: half the "
        f"sum of |p − raw p|. Curves: days of two groups or more; {_single(mixes)}, which nothing moves."
    )
    return Figure("s4_moved", "S4 · mass that the regularizer moves", caption, 320, partial(_draw_moved, moved))


def _moved_per_day(run: Run) -> NDArray[np.float64]:
    """Returns the mass moved on each merchant-day of two groups or more, ascending."""
    surface = run.surfaces[S4]
    starts = day_starts(surface)
    return np.sort(np.asarray(surface["regularizer_delta_mass"])[starts[:-1][np.diff(starts) > 1]])


def _draw_moved(moved: Pair, canvas: Any) -> None:
    axis = canvas.subplots()
    axes.below(axis, moved, 0.01)
    axis.set(xlabel="mass moved, share of the day", ylabel="days at or below")
    axes.key(canvas, axis)
