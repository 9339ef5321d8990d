"""Draws authority and candidate on the same axes; line, mark and label distinguish them, not colour alone.

The authority is always dashed, hollow or hatched and lies beneath; the candidate is solid and lies above, so that both
are visible where they coincide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.scoring.figures.palette import LIGHT

SIDES = ("authority", "candidate")
INKS: Mapping[str, str] = {side: LIGHT[side] for side in SIDES}
LINES: Mapping[str, Any] = {"authority": (0, (3, 1)), "candidate": "-"}
Pair = Sequence[Any]  # authority, candidate
Mark = tuple[str, float, str]  # label, position on the axis, colour token

_DASHES: Mapping[str, Any] = {"ink": (0, (1, 1.4)), "mark": (0, (6, 1.5, 1, 1.5))}
_ROW = 15.5  # points: height of a row of labels above the axes


def in_percent(*axes: Any) -> None:
    """Formats an axis of shares in per cent, without trailing digits."""
    from matplotlib.ticker import FuncFormatter

    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g}%"))


def key(canvas: Any, axis: Any) -> None:
    """Adds the legend below the axes, where it covers nothing."""
    handles, labels = axis.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower left", ncols=2 if len(labels) == 4 else 3)


def curves(axis: Any, x: Pair, y: Pair) -> None:
    """Draws a line per side; the authority's is wider, so that it shows beneath the candidate's."""
    for side, wide, over, values in zip(SIDES, (3.8, 1.8), x, y, strict=True):
        axis.plot(over, values, linestyle=LINES[side], color=INKS[side], linewidth=wide, label=side)


def below(axis: Any, pair: Pair, least: float) -> None:
    """Draws the cumulative share of each side's ascending values, on an axis that reaches at least `least`."""
    most = max(least, *(float(np.max(values, initial=0.0)) for values in pair))
    grid = np.linspace(-0.01, 1.02, 207) * most
    curves(axis, (grid, grid), [np.searchsorted(values, grid, "right") / max(1, len(values)) for values in pair])
    axis.set(xlim=(grid[0], grid[-1]), ylim=(0, 1.02))
    in_percent(axis.yaxis)


def bands(axis: Any, x: Any, pairs: Sequence[Pair]) -> None:
    """Fills a band per side, between each pair's low and high."""
    for side, (low, high) in zip(SIDES, pairs, strict=True):
        axis.fill_between(x, low, high, color=INKS[side], alpha=0.15, linewidth=0)


def histogram(axis: Any, edges: NDArray[np.float64], shares: Pair) -> None:
    """Draws the authority as a dashed area and the candidate as a line over it."""
    below, above = shares
    axis.stairs(below, edges, fill=True, color=INKS["authority"], alpha=0.18, linewidth=0)
    axis.stairs(below, edges, color=INKS["authority"], linestyle=LINES["authority"], linewidth=1.4, label="authority")
    axis.stairs(above, edges, color=INKS["candidate"], linewidth=2, label="candidate")
    axis.set_ylim(bottom=0.0)


def medians(axis: Any, pair: Pair) -> None:
    """Marks each side's median with a triangle on the axis, hollow for the authority."""
    for side, at, face in zip(SIDES, pair, (LIGHT["surface"], INKS["candidate"]), strict=True):
        axis.plot(
            [at], [0.0], marker="^", markersize=9, linestyle="none", markerfacecolor=face, clip_on=False, zorder=5,
            markeredgecolor=INKS[side], markeredgewidth=1.6, label=f"median, {side}",
        )  # fmt: skip


def bars(axis: Any, at: NDArray[Any], heights: Pair) -> None:
    """Draws two bars per position, hatched for the authority."""
    below, above = heights
    axis.bar(
        at - 0.2, below, 0.36, facecolor="none", edgecolor=INKS["authority"], linewidth=1.2, hatch="////",
        label="authority",
    )  # fmt: skip
    axis.bar(at + 0.2, above, 0.36, color=INKS["candidate"], label="candidate")


def boxes(axis: Any, rows: Mapping[str, Pair]) -> None:
    """Draws two horizontal boxes per row: quartiles, median, and whiskers to the 5th and 95th percentile."""
    for place, pair in enumerate(rows.values()):
        for side, values, shift in zip(SIDES, pair, (0.2, -0.2), strict=True):
            low, first, middle, last, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
            y, ink, solid = place + shift, INKS[side], side == "candidate"
            axis.plot([low, high], [y, y], color=ink, linewidth=1.4, linestyle=LINES[side])
            axis.barh(
                y, last - first, 0.3, left=first, linewidth=1.2, edgecolor=ink,
                facecolor=ink if solid else LIGHT["surface"], hatch=None if solid else "////",
                label=side if place == 0 else None,
            )  # fmt: skip
            axis.plot([middle, middle], [y - 0.15, y + 0.15], color=LIGHT["surface"] if solid else ink, linewidth=2.4)
    _rows(axis, tuple(rows))


def dots(axis: Any, rows: Mapping[str, Pair]) -> None:
    """Draws the points of each row: the authority's hollow, the candidate's filled."""
    for place, pair in enumerate(rows.values()):
        for side, values, shift in zip(SIDES, pair, (0.17, -0.17), strict=True):
            face = INKS["candidate"] if side == "candidate" else LIGHT["surface"]
            axis.plot(
                values, np.full(len(values), place + shift), linestyle="none", marker="o", markersize=4.5,
                markerfacecolor=face, markeredgecolor=INKS[side], markeredgewidth=1, alpha=0.8,
                label=side if place == 0 else None,
            )  # fmt: skip
    _rows(axis, tuple(rows))


def _rows(axis: Any, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.45, -0.55)
    axis.grid(visible=False, axis="y")


def stack_marks(axis: Any, marks: Sequence[Mark]) -> None:
    """Draws vertical lines at thresholds, each labelled in a row of its own above the axes.

    A label is on the emptier side of its line; the lines that it would cross end in the rows below it.
    """
    if not marks:
        return
    low, high = axis.get_xlim()
    low, high = min(low, *(mark[1] for mark in marks)), max(high, *(mark[1] * 1.05 for mark in marks))
    axis.set_xlim(low, high)  # so that a threshold far from all values is visible
    middle = (low + high) / 2
    early = sorted((mark for mark in marks if mark[1] <= middle), key=lambda mark: -mark[1])
    late = sorted((mark for mark in marks if mark[1] > middle), key=lambda mark: mark[1])
    for row, (label, at, token) in enumerate([*early, *late]):
        up, side = 3.0 + _ROW * row, 1 if at <= middle else -1
        axis.axvline(at, color=LIGHT[token], linewidth=1.3, linestyle=_DASHES[token], zorder=4)
        axis.annotate(
            label, (at, 1.0), (4 * side, up), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="left" if side > 0 else "right", va="bottom", color=LIGHT[token], fontsize=11,
        )  # fmt: skip
        axis.annotate(
            "", (at, 1.0), (0, up + 11.0), xycoords=("data", "axes fraction"), textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": LIGHT[token], "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
