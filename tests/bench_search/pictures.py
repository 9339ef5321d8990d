"""The two pictures of the page: value against trials, problem by problem, and wins, ties and losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT

from .contestants import NAMES, PEERS, PRODUCT
from .optima import UNDER_SEEDS
from .tables import Field, quartiles

_LINES: Mapping[str, tuple[str, Any]] = {  # contestant: colour, dashes; nothing is told by colour alone
    PRODUCT: (LIGHT["candidate"], "-"),
    "random": (LIGHT["muted"], (0, (1, 1.4))),
    "optuna-tpe": (LIGHT["authority"], (0, (3, 1))),
    "optuna-gp": (LIGHT["good"], (0, (6, 1.5, 1, 1.5))),
    "optuna-nsga2": (LIGHT["bad"], (0, (5, 2))),
    "optuna-cmaes": (LIGHT["unsure"], (0, (2, 1, 1, 1))),
    "botorch": (LIGHT["mark"], "-"),
    "pymoo": (LIGHT["ink"], (0, (1, 1, 4, 1))),
}
_LEAST = 1e-4  # gaps below 0.01 % are drawn there


def progress(fields: Sequence[Field]) -> Figure:
    """Returns the small multiples: medians over sampler seeds against trials."""
    rows = (len(fields) + 2) // 2  # the last panel is the key
    says = "Median of the decision's value against trials; of the standard problems, the gap to the known optimum."

    def draw(canvas: Any) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

        axes = canvas.subplots(rows, 2, squeeze=False).ravel()
        for axis, found in zip(axes, fields, strict=False):
            for name in found.by_contestant:
                colour, dashes = _LINES[name]
                wide = 2.4 if name == PRODUCT else 1.2
                axis.plot(*_curve(found, name), color=colour, linestyle=dashes, linewidth=wide, drawstyle="steps-post")
            axis.set(yscale="log", xlim=(1, found.trials), title=_title(found))
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axis.yaxis.set_major_locator(LogLocator(subs=(1,) if _known(found) else (1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(partial(_text, _known(found))))
            axis.yaxis.set_minor_formatter(NullFormatter())
        for axis in axes[len(fields) :]:
            axis.set_axis_off()
        played = [name for name in NAMES if any(name in found.by_contestant for found in fields)]
        for name in played:
            colour, dashes = _LINES[name]
            axes[len(fields)].plot([], [], color=colour, linestyle=dashes, linewidth=1.8, label=name)
        axes[len(fields)].legend(loc="center left")
        canvas.supxlabel("trials")

    return Figure("bench_search_progress", "What a search is worth after each trial", says, 60 + 180 * rows, draw)


def _curve(found: Field, name: str) -> tuple[range, list[float]]:
    medians = [quartiles(found.values(name, trials))[1] for trials in range(1, found.trials + 1)]
    return range(1, found.trials + 1), [_height(found, value) for value in medians]


def _height(found: Field, value: float) -> float:
    """Returns a value as drawn: the gap to the known optimum over it, or the value; NaN where nothing was feasible."""
    if not math.isfinite(value):
        return math.nan
    if not _known(found):
        return value
    return max(_LEAST, (value if found.areal else value - found.best) / abs(found.best))


def _known(found: Field) -> bool:
    return found.problem in UNDER_SEEDS


def _title(found: Field) -> str:
    return f"{found.problem}: {'gap' if _known(found) else 'value'}"


def _text(gap: bool, height: float, _: int) -> str:
    return f"{100 * height:g}%" if gap else f"{height:g}"


def duels(fields: Sequence[Field]) -> Figure:
    """Returns the bars of the product's wins, ties and losses against each peer, over all problems."""
    totals = {peer: np.sum([found.against(peer) for found in fields], axis=0) for peer in PEERS}
    met = {peer: total for peer, total in totals.items() if total.sum()}
    told = "; ".join(f"{peer} {'–'.join(map(str, total))}" for peer, total in met.items())

    def draw(canvas: Any) -> None:
        axis = canvas.subplots()
        for place, total in enumerate(met.values()):
            left = 0.0
            for share, count, token, hatch in zip(
                total / total.sum(), total, ("candidate", "sunken", "authority"), ("", "", "////"), strict=True
            ):
                axis.barh(place, share, left=left, color=LIGHT[token], hatch=hatch, edgecolor=LIGHT["surface"])
                if share > 0.04:
                    ink = LIGHT["ink" if token == "sunken" else "surface"]
                    box = {"facecolor": LIGHT[token], "edgecolor": "none", "pad": 1.5}
                    axis.text(left + share / 2, place, str(count), color=ink, ha="center", va="center", bbox=box)
                left += share
        axis.set_yticks(range(len(met)), list(met))
        axis.invert_yaxis()
        axis.set(xlim=(0, 1), xticks=[], xlabel=f"{PRODUCT} wins (solid), ties (pale), loses (hatched)")
        axis.grid(visible=False)

    title = f"Wins, ties and losses of {PRODUCT}"
    return Figure("bench_search_duels", title, f"Wins–ties–losses: {told}.", 90 + 34 * max(1, len(met)), draw)
