"""The figures of a study's knobs: their shares and pairs, each gate along its strongest knob, each trial across all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.scoring.figures.axes import in_percent
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.scoring.gates import ends
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.sensitivity.trial_arrays import Trials, chosen_words

DOUBT = "not to be trusted"
R2 = "R² is the part of the variance that is predicted of trials left out."
_KNOBS = 3  # per gate, the strongest
_LINE = 31  # pixels of a share with its label
Bar = tuple[str, Mapping[str, float], float | None]  # label, share with its interval, the part alone


def importance_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    bars = [
        (row, [(name, of["total"], of["alone"]["share"]) for name, of in list(row["effects"].items())[:_KNOBS]])
        for row in rows
    ]
    says = (
        f"A knob's share of a gate's variance over the box, from {_measured(rows)}: the bar counts what it does with "
        f"other knobs, its dark part what it does alone; the line is the interval of 90 %. {R2} {_strongest(bars)}."
    )
    return Figure("study_importance", "Which knob moved which gate", says, _height(bars), partial(_draw_bars, bars))


def pairs_figure(rows: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """Yields the figure where a gate has more than one knob."""
    bars: list[tuple[Mapping[str, Any], list[Bar]]] = [
        (row, [(" × ".join(pair["knobs"]), pair["together"], None) for pair in row["pairs"]])
        for row in rows
        if row["pairs"]
    ]
    if bars:
        says = (
            "What two knobs do only together, as a share of a gate's variance, with the interval of 90 %: the two "
            f"strongest pairs of each gate. {_strongest(bars)}."
        )
        yield Figure("study_pairs", "Which knobs work together", says, _height(bars), partial(_draw_bars, bars))


def _measured(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns in words which values of how many trials the rows come from."""
    return "; ".join(dict.fromkeys(f"{row['trials']} trials, {row['measured']}" for row in rows))


def _strongest(bars: Sequence[tuple[Mapping[str, Any], Sequence[Bar]]]) -> str:
    return "The strongest: " + "; ".join(
        f"{row['gate']}: {rows[0][0]} {share_text(rows[0][1])}" if row["trusted"] else f"{row['gate']}: {DOUBT}"
        for row, rows in bars
    )


def share_text(of: Mapping[str, float]) -> str:
    """Returns a share and its interval in words."""
    return f"{of['share']:.0%} ({of['low']:.0%} to {of['high']:.0%})"


def error_text(row: Mapping[str, Any]) -> str:
    """Returns how well a gate's surrogate predicts trials it has not seen, in words."""
    return f"R² {row['error']['r2']:.2f}" + ("" if row["trusted"] else f", {DOUBT}")


def _height(bars: Sequence[tuple[Mapping[str, Any], Sequence[Bar]]]) -> int:
    return 40 + _LINE * sum(1 + len(rows) for _, rows in bars)


def _draw_bars(bars: Sequence[tuple[Mapping[str, Any], Sequence[Bar]]], canvas: Any) -> None:
    axis, place = canvas.add_subplot(), 0
    for row, shares in bars:
        ink = LIGHT["muted" if row["trusted"] else "bad"]
        axis.text(0, place + 0.3, row["gate"], va="center", fontweight="bold", color=LIGHT["ink"])
        axis.text(1, place + 0.3, error_text(row), va="center", ha="right", color=ink)
        for line, bar in enumerate(shares, place + 1):
            _draw_bar(axis, line, *bar)
        place += 1 + len(shares)
    axis.set(xlim=(0, 1), ylim=(place - 0.3, -0.4))
    axis.set_yticks([])
    axis.xaxis.tick_top()
    axis.grid(visible=False, axis="y")
    axis.spines["bottom"].set_visible(False)
    in_percent(axis.xaxis)


def _draw_bar(axis: Any, place: int, label: str, of: Mapping[str, float], alone: float | None) -> None:
    axis.text(0.005, place - 0.2, f"{label}  {share_text(of)}", va="center", fontsize=10.5, color=LIGHT["ink"])
    axis.barh(place + 0.24, of["share"], 0.3, color=LIGHT["candidate"], alpha=0.45)
    if alone is not None:
        axis.barh(place + 0.24, alone, 0.3, color=LIGHT["candidate"])
    ends = {"marker": "|", "markersize": 7, "markeredgewidth": 1.4, "solid_capstyle": "butt"}
    axis.plot([of["low"], of["high"]], [place + 0.24] * 2, color=LIGHT["ink"], linewidth=1.4, clip_on=False, **ends)


def curves_figure(rows: Sequence[Mapping[str, Any]], trials: Trials) -> Figure:
    strongest = [next(iter(row["curves"].items())) for row in rows]
    says = "; ".join(
        f"{row['gate']} goes from {curve[0]['mean']:.3g} to {curve[-1]['mean']:.3g} along {name} ({error_text(row)})"
        for row, (name, curve) in zip(rows, strongest, strict=True)
    )
    says = f"Mean over the other knobs (line) and its interval of 90 % (band) along the strongest knob. {R2} {says}."
    height, draw = 30 + 150 * ((len(rows) + 1) // 2), partial(_draw_curves, rows, trials)
    return Figure("study_curves", "Each gate along its strongest knob", says, height, draw)


def _draw_curves(rows: Sequence[Mapping[str, Any]], trials: Trials, canvas: Any) -> None:
    panels = canvas.subplots((len(rows) + 1) // 2, 2, squeeze=False).ravel()
    knobs = {knob.name: knob for knob in trials.knobs}
    thresholds = {strip.gate.id: strip.gate.thresholds for strip in trials.strips}
    for axis in panels[len(rows) :]:
        axis.set_visible(False)
    for axis, row in zip(panels, rows, strict=False):
        name, curve = next(iter(row["curves"].items()))
        draw_curve(axis, knobs[name], curve)
        low, high = min(point["low"] for point in curve), max(point["high"] for point in curve)
        for limit in (end for threshold in thresholds.get(row["gate"], {}).values() for end in ends(threshold)):
            if low <= limit <= high:
                axis.axhline(limit, color=LIGHT["ink"], linewidth=1.2, linestyle=(0, (1, 1.4)))
        axis.set_title(
            f"{row['gate']}\n{error_text(row)}", fontsize=11, color=LIGHT["ink" if row["trusted"] else "bad"]
        )
        axis.set_xlabel(name)
        axis.margins(x=0.04)


def draw_curve(axis: Any, knob: Knob, curve: Sequence[Mapping[str, Any]]) -> None:
    """Draws a line with its band; of a knob with choices, which have no order, a mark with its interval for each."""
    low, mean, high = (np.array([point[name] for point in curve]) for name in ("low", "mean", "high"))
    values = [point["at"] for point in curve]
    if knob.choices:
        style = {"fmt": "o", "color": LIGHT["candidate"], "markersize": 4.5, "capsize": 3}
        axis.errorbar(range(len(values)), mean, yerr=(np.maximum(mean - low, 0), np.maximum(high - mean, 0)), **style)
        axis.set_xticks(range(len(values)), map(str, values))
        return
    axis.fill_between(values, low, high, color=LIGHT["candidate"], alpha=0.18, linewidth=0)
    axis.plot(values, mean, color=LIGHT["candidate"], linewidth=1.8, marker="o", markersize=3.5)
    axis.set_xscale(knob.scale)
    axis.minorticks_off()
    if knob.log:
        axis.set_xticks([values[0], values[-1]], [f"{values[0]:.2g}", f"{values[-1]:.2g}"])


def parallel_figure(trials: Trials) -> Figure:
    first = trials.objectives[0].name
    says = (
        f"Each line is a trial, across its knobs to its {first}; better trials have a stronger colour. "
        "Vetoed trials are dashed, and trials that were stopped or not graded are dotted."
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
    for rows, ink, dashes in (
        (~trials.valid & ~trials.vetoed, "unsure", (1, 2)),
        (trials.vetoed, "bad", (2, 2)),
    ):
        ended = list(lines[drawn[rows[drawn]]])
        axis.add_collection(LineCollection(ended, colors=LIGHT[ink], linewidths=0.8, linestyles=(0, dashes)))
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
