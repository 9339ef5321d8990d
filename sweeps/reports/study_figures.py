"""The figures of a study: its trials' scores, their vetoes, the gates' values, and the bounds.

Outcomes differ by mark and word as well as by colour; each frequent veto has a mark of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.scoring.figures.sides import SIGNS
from lanelock.scoring.gates import ends
from lanelock.sweeps.reports.study_knobs import curves_figure, importance_figure, pairs_figure, parallel_figure
from lanelock.sweeps.sensitivity.trial_arrays import (
    BEHIND,
    BELOW,
    FAILED,
    UNGRADED,
    VETOED,
    Strip,
    Trials,
    chosen_words,
)

_VETO_MARKS = "xX+1*2dv"  # one per veto, the most frequent first
_SHOWN = 5  # vetoes with a mark of their own
_ROW = 58  # pixels of a gate's strip


def trial_figures(trials: Trials) -> Iterator[Figure]:
    """Yields the figures that need the trials alone."""
    if not len(trials.number):
        return
    if len(trials.objectives) > 1:
        yield _pareto(trials)
    yield _history(trials)
    if trials.strips:
        yield _gates(trials)
    yield parallel_figure(trials)


def sensitivity_figures(trials: Trials, sensitivity: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the figures of the knobs' effects, where a gate moved."""
    moved = [row for row in sensitivity["gates"] if row["effects"]]
    if moved:
        yield importance_figure(moved)
        yield from pairs_figure(moved)
        yield curves_figure(moved, trials)


def _pareto(trials: Trials) -> Figure:
    first, second = (objective.name for objective in trials.objectives[:2])
    says = (
        f"{len(trials.front)} of {len(trials.number)} trials are on the front: no trial without a veto is as good in "
        "every objective and better in one."
    )
    says = f"{says} {chosen_words(trials)}{_bound(trials)}"
    return Figure("study_pareto", f"{first} against {second}", says, 400, partial(_draw_pareto, trials))


def _draw_pareto(trials: Trials, canvas: Any) -> None:
    axis = canvas.add_subplot()
    x, y = trials.scores[:, 1], trials.scores[:, 0]
    _axes(axis, trials.objectives[1].name, trials.objectives[0].name, y)
    if len(trials.front) and len(trials.objectives) == 2:  # with more, this plane shows only a projection of it
        order = trials.front[np.argsort(x[trials.front], kind="stable")]
        axis.plot(x[order], y[order], color=LIGHT["ink"], linewidth=1, zorder=1, label="front")
    _scatter(axis, trials, x, y)
    _levels(axis, trials)
    _legend(canvas, axis)


def _history(trials: Trials) -> Figure:
    first = trials.objectives[0]
    best = trials.best_so_far()
    says = "Every trial was vetoed or could not be graded."
    if not np.isnan(best[-1]):
        trial = f"trial {trials.number[np.argmax(best == best[-1])]} of {len(best)}"
        says = f"The best {first.name} without a veto was {best[-1]:.4g}, first reached by {trial}."
    draw = partial(_draw_history, trials, best)
    return Figure("study_history", f"{first.name}, trial by trial", says + _bound(trials), 330, draw)


def _draw_history(trials: Trials, best: NDArray[np.float64], canvas: Any) -> None:
    axis = canvas.add_subplot()
    y = trials.scores[:, 0]
    _axes(axis, "trial", trials.objectives[0].name, y)
    axis.step(trials.number, best, where="post", color=LIGHT["ink"], linewidth=1.6, zorder=1, label="best so far")
    _scatter(axis, trials, trials.number, y)
    _levels(axis, trials)
    _legend(canvas, axis)


def _gates(trials: Trials) -> Figure:
    forbidden = {
        strip.gate.id: [band for band, reachable in strip.reach.reachable.items() if not reachable]
        for strip in trials.strips
        if strip.reach is not None
    }
    bounds = "; ".join(f"{gate} cannot pass in band {', '.join(bands)}" for gate, bands in forbidden.items() if bands)
    says = f"Worst over seeds of every trial, against each gate's thresholds. {bounds or 'No bound forbids a band.'}"
    height = 66 + _ROW * len(trials.strips)
    return Figure("study_gates", "What the trials reached, gate by gate", says, height, partial(_draw_gates, trials))


def _draw_gates(trials: Trials, canvas: Any) -> None:
    rows = canvas.subplots(len(trials.strips), 1, squeeze=False)[:, 0]
    for axis, strip in zip(rows, trials.strips, strict=True):
        _draw_strip(axis, strip, trials)
    shown = {label: handle for axis in rows for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    canvas.legend(shown.values(), shown.keys(), loc="outside lower left", ncols=3, columnspacing=1.2)


def _draw_strip(axis: Any, strip: Strip, trials: Trials) -> None:
    values, valid, vetoed = strip.values, trials.valid, trials.vetoed
    marks = [(band, at) for band, threshold in strip.gate.thresholds.items() for at in ends(threshold)]
    bound = None if strip.reach is None else strip.reach.bound
    places = [*(at for _, at in marks), *([] if bound is None else [bound])]
    shown = np.concatenate([values[np.isfinite(values)], places])
    room = 0.06 * (np.ptp(shown) or abs(shown[0]) or 1.0)
    low, high = shown.min() - room, shown.max() + room
    axis.set_xlim(low, high)
    axis.set_ylim(-1, 1)
    axis.set_yticks([])
    axis.grid(visible=False, axis="y")
    axis.set_title(f"{strip.gate.id} {SIGNS[strip.gate.comparison]}", pad=3)
    for beyond in _beyond(strip, low, high):
        axis.axvspan(*beyond, facecolor="none", edgecolor=LIGHT["muted"], hatch="////", linewidth=0,
                     label="out of reach")  # fmt: skip
    shift = ((np.arange(len(values)) * 0.618034) % 1.0 - 0.5) * 1.1  # spread, so that marks do not hide each other
    outcomes = (
        (~valid & ~vetoed, "stopped or not graded", "unsure", "."),
        (vetoed, "vetoed", "bad", "x"),
        (valid, "no veto", "candidate", "o"),
    )
    for rows, label, ink, mark in outcomes:
        if not np.isfinite(values[rows]).any():
            continue
        style = {"s": 9, "marker": mark, "color": LIGHT[ink], "alpha": 0.65, "linewidth": 0.8, "label": label}
        axis.scatter(values[rows], shift[rows], **style)
    for band, at in marks:
        axis.axvline(at, color=LIGHT["ink"], linewidth=1.4, linestyle=(0, (1, 1.4)))
        axis.annotate(
            band, (at, 1), (3, -2), textcoords="offset points", va="top", fontsize=10.5, color=LIGHT["ink"], zorder=6,
            bbox={"facecolor": LIGHT["surface"], "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip
    if trials.chosen is not None:
        axis.scatter(values[trials.chosen], 0.0, s=110, marker="*", color=LIGHT["mark"],
                     edgecolor=LIGHT["surface"], linewidth=0.8, zorder=5, label="locked")  # fmt: skip


def _beyond(strip: Strip, low: float, high: float) -> Iterator[tuple[float, float]]:
    """Yields the part of a strip that no trial can reach."""
    if strip.reach is None or strip.reach.bound is None:
        return
    kind, comparison = strip.reach.kind, strip.gate.comparison
    if kind == "at_most" or comparison == ">=":
        yield strip.reach.bound, high
    elif kind == "at_least" or comparison == "<=":
        yield low, strip.reach.bound


def _scatter(axis: Any, trials: Trials, x: NDArray[Any], y: NDArray[np.float64]) -> None:
    """Draws every trial with the mark of its outcome."""
    names = np.array(trials.outcome)
    for name, style in _styles(trials):
        rows = np.isin(names, name.split("\n")) & np.isfinite(x) & np.isfinite(y)
        if not rows.any():  # such as failed trials, which have no values
            continue
        label = name if "\n" not in name else f"{VETOED}others"
        axis.scatter(x[rows], y[rows], s=24, linewidth=1.1, zorder=3, label=f"{label} ({rows.sum()})", **style)
    if trials.chosen is not None:
        axis.scatter(
            x[trials.chosen], y[trials.chosen], s=210, marker="*", color=LIGHT["mark"], edgecolor=LIGHT["surface"],
            linewidth=1, zorder=5, label=f"locked: trial {trials.number[trials.chosen]}",
        )  # fmt: skip


def _styles(trials: Trials) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (outcome, its style). Rare vetoes share a style, their names joined by line breaks."""
    bands = [name for name in trials.bands if name in trials.outcomes]
    for place, name in enumerate(bands):
        top = place == len(bands) - 1
        yield name, {"marker": "o" if top else "s", "color": LIGHT["good" if top else "candidate"], "alpha": 0.75}
    for name, mark in ((BELOW, "v"), (UNGRADED, "d"), (BEHIND, "."), (FAILED, "x")):
        if name in trials.outcomes:
            yield name, {"marker": mark, "color": LIGHT["unsure"], "alpha": 0.75}
    vetoes = [name for name in trials.outcomes if name.startswith(VETOED)]
    shown = vetoes if len(vetoes) <= _SHOWN + 1 else [*vetoes[:_SHOWN], "\n".join(vetoes[_SHOWN:])]
    for name, mark in zip(shown, _VETO_MARKS, strict=False):
        yield name, {"marker": mark, "color": LIGHT["bad"], "alpha": 0.9}


def _axes(axis: Any, x: str, y: str, values: NDArray[np.float64]) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.margins(0.04)
    if np.isfinite(values).any() and np.nanmin(values) < 0 < np.nanmax(values):
        axis.axhline(0, color=LIGHT["ink"], linewidth=0.8)


def _levels(axis: Any, trials: Trials) -> None:
    """Draws the proven bound, and the reserve from which the decision weighs the other objectives."""
    if trials.ceiling is not None:
        axis.axhline(trials.ceiling.value, color=LIGHT["muted"], linewidth=1.6, linestyle=(0, (6, 1.5, 1, 1.5)),
                     zorder=2, label=f"bound: {trials.ceiling.gate}")  # fmt: skip
    if len(trials.objectives) > 1 and trials.reserve > 0:
        axis.axhline(trials.reserve, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 1.4)), zorder=2,
                     label=f"reserve {trials.reserve:g}")  # fmt: skip


def _legend(canvas: Any, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower left", ncols=2, columnspacing=1.2, handletextpad=0.5)


def _bound(trials: Trials) -> str:
    """Returns a sentence on the proven bound, and one on the gates that are left out because they are unreachable."""
    first, ceiling, says = trials.objectives[0].name, trials.ceiling, ""
    if ceiling is not None:
        says = f" No trial can pass {ceiling.value:.4g}, the bound of {ceiling.gate}: {ceiling.proof}."
    if trials.left_out:
        says += f" The {first} does not count {', '.join(trials.left_out)}, which this lane cannot move far enough."
    return says
