"""The figures of a study's knobs: their importance, each gate along its strongest knob, and every trial across all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.scoring.gates import ends
from lanelock.sweeps.lanes.trial_arrays import Trials, chosen_words


def importance_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    knobs = list(dict.fromkeys(name for row in rows for name in row["importance"]))
    first = {row["gate"]: next(iter(row["importance"].items())) for row in rows}
    says = "Share of a gate's variance that a knob explains: " + "; ".join(
        f"{gate} is moved most by {knob} ({share:.0%})" for gate, (knob, share) in first.items()
    )
    draw = partial(_draw_importance, rows, knobs)
    return Figure("study_importance", "Which knob moved which gate", f"{says}.", 70 + 30 * len(rows), draw)


def _draw_importance(rows: Sequence[Mapping[str, Any]], knobs: Sequence[str], canvas: Any) -> None:
    axis = canvas.add_subplot()
    for place, row in enumerate(rows):
        for column, knob in enumerate(knobs):
            share = row["importance"].get(knob)
            if share is None:
                axis.text(column + 0.02, place, "–", va="center", color=LIGHT["muted"])
                continue
            axis.barh(place, 0.62 * share, 0.52, left=column, color=LIGHT["candidate"])
            axis.text(column + 0.62 * share + 0.03, place, f"{share:.0%}", va="center", color=LIGHT["ink"])
    axis.set_xlim(0, len(knobs))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), [row["gate"] for row in rows])
    axis.set_xticks(range(len(knobs)), knobs, ha="left")
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(visible=False, axis="y")
    axis.spines["bottom"].set_visible(False)


def _curve(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Returns the bins along the most important knob; empty for a knob with choices, which have no order."""
    bins: Sequence[Mapping[str, Any]] = row["curves"].get(next(iter(row["importance"])), ())
    return bins if all("low" in part for part in bins) else ()


def curves_figure(moved: Sequence[Mapping[str, Any]], trials: Trials) -> Iterator[Figure]:
    """Yields the figure where a gate's most important knob has a range."""
    rows = [row for row in moved if _curve(row)]
    if not rows:
        return
    says = "; ".join(
        f"{row['gate']} goes from {_curve(row)[0]['mean']:.3g} to {_curve(row)[-1]['mean']:.3g} "
        f"along {next(iter(row['importance']))}"
        for row in rows
    )
    says = f"Mean of the trials (line), their minimum and maximum (band) along the most important knob: {says}."
    height, draw = 30 + 135 * ((len(rows) + 1) // 2), partial(_draw_curves, rows, trials)
    yield Figure("study_curves", "Each gate along its strongest knob", says, height, draw)


def _draw_curves(rows: Sequence[Mapping[str, Any]], trials: Trials, canvas: Any) -> None:
    panels = canvas.subplots((len(rows) + 1) // 2, 2, squeeze=False).ravel()
    knobs = {knob.name: knob for knob in trials.knobs}
    thresholds = {strip.gate.id: strip.gate.thresholds for strip in trials.strips}
    for axis in panels[len(rows) :]:
        axis.set_visible(False)
    for axis, row in zip(panels, rows, strict=False):
        knob, bins = knobs[next(iter(row["importance"]))], _curve(row)
        at = [knob.middle(part["low"], part["high"]) for part in bins]
        low, mean, high = ([part[name] for part in bins] for name in ("min", "mean", "max"))
        axis.fill_between(at, low, high, color=LIGHT["candidate"], alpha=0.18, linewidth=0)
        axis.plot(at, mean, color=LIGHT["candidate"], linewidth=1.8, marker="o", markersize=3.5)
        axis.set_xscale(knob.scale)
        axis.minorticks_off()
        if knob.log:
            axis.set_xticks([at[0], at[-1]], [f"{at[0]:.2g}", f"{at[-1]:.2g}"])
        for limit in (end for threshold in thresholds.get(row["gate"], {}).values() for end in ends(threshold)):
            if min(low) <= limit <= max(high):
                axis.axhline(limit, color=LIGHT["ink"], linewidth=1.2, linestyle=(0, (1, 1.4)))
        axis.set_title(row["gate"], fontsize=11)
        axis.set_xlabel(knob.name)
        axis.margins(x=0.04)


def parallel_figure(trials: Trials) -> Figure:
    first = trials.objectives[0].name
    says = (
        f"Each line is a trial, across its knobs to its {first}; better trials have a stronger colour. "
        "Vetoed trials are dashed."
    )
    says = f"{says} {chosen_words(trials)}"
    return Figure("study_parallel", f"Knobs and {first}", says, 360, partial(_draw_parallel, trials))


def _draw_parallel(trials: Trials, canvas: Any) -> None:
    from matplotlib.collections import LineCollection

    axis, columns = canvas.add_subplot(), len(trials.knobs)
    score = _unit(trials.scores[:, 0], trials.objectives[0].maximize)
    heights = np.column_stack([trials.places, _unit(trials.scores[:, 0], maximize=True)])
    drawn = np.flatnonzero(np.isfinite(heights).all(axis=1))
    lines = np.stack([np.broadcast_to(np.arange(columns + 1.0), heights.shape), heights], axis=2)
    steps = np.clip(score * 5.999, 0, 5)
    for step in range(6):
        rows = drawn[trials.valid[drawn] & (steps[drawn].astype(int) == step)]
        colours = LineCollection(list(lines[rows]), colors=LIGHT[f"share-{step}"], linewidths=0.9, alpha=0.75)
        axis.add_collection(colours)
    vetoed = lines[drawn[~trials.valid[drawn]]]
    axis.add_collection(LineCollection(list(vetoed), colors=LIGHT["bad"], linewidths=0.8, linestyles=(0, (2, 2))))
    if trials.chosen is not None:
        axis.plot(lines[trials.chosen, :, 0], lines[trials.chosen, :, 1], color=LIGHT["mark"], linewidth=3, zorder=4)
    _rulers(axis, trials)


def _rulers(axis: Any, trials: Trials) -> None:
    """Draws a vertical line per column, with the values at its ends."""
    scores = trials.scores[np.isfinite(trials.scores[:, 0]), 0]
    ends = [knob.ends_text() for knob in trials.knobs]
    ends.append((f"{scores.min():.3g}", f"{scores.max():.3g}") if len(scores) else ("", ""))
    for column, (low, high) in enumerate(ends):
        axis.plot([column, column], [0, 1], color=LIGHT["muted"], linewidth=1, zorder=3)
        for text, at, up in ((low, 0.0, -15), (high, 1.0, 5)):
            axis.annotate(text, (column, at), (0, up), textcoords="offset points", ha="center", color=LIGHT["muted"])
    axis.set_xlim(-0.25, len(ends) - 0.75)
    axis.set_ylim(-0.09, 1.08)
    axis.set_xticks(range(len(ends)), [*(knob.name for knob in trials.knobs), trials.objectives[0].name])
    axis.tick_params(length=0, labelcolor=LIGHT["ink"])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines["bottom"].set_visible(False)


def _unit(values: NDArray[np.float64], maximize: bool) -> NDArray[np.float64]:
    """Returns the values scaled to 0 (worst) … 1 (best)."""
    known = values[np.isfinite(values)]
    if not len(known) or known.max() == known.min():
        return np.where(np.isfinite(values), 0.5, np.nan)
    part: NDArray[np.float64] = (values - known.min()) / (known.max() - known.min())
    return part if maximize else 1.0 - part
