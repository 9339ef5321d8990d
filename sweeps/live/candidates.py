"""The candidates of a sweep in the decision's order, each with the first thing in which it is behind the first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from lanelock.scoring.figures.bars import margin_bars
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import GateResult
from lanelock.sweeps.decision.behind import FIRST, behind
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Objective
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.live.frame import chip, link, markup, meter, path, rows
from lanelock.sweeps.live.sight import View
from lanelock.sweeps.pages.page import Block
from lanelock.sweeps.pages.text import short

SHOWN = 25  # candidates, unless all are asked for
MOST = 500  # of them, as many as a browser shows at once without effort
_KNOBS = 6  # with bars; more are folded


def candidates(view: View, *, every: bool, may_lock: bool) -> Iterator[Block]:
    """Yields the table, in a form that compares two of its rows."""
    shown = view.ranked[: MOST if every else SHOWN]
    head = {"rank": "", "trial": "num", "why not this one": "wide"}
    head |= {objective.name: "num" for objective in view.lane.objectives}
    head |= {"least margin": "gauge", "knobs": "wide", "": ""}
    yield markup(
        f'<form action="{path("sweeps", view.sweep, "compare")}"><div class="pick">'
        '<button data-two>Compare the two chosen</button><p class="note">Choose two candidates.</p></div>'
    )
    span = _spans(view, shown)
    body = ((_kind(trial, view), _cells(place, trial, view, span, may_lock)) for place, trial in enumerate(shown, 1))
    yield rows(head, body, "Candidates in the decision's order")
    yield markup("</form>")
    if len(view.ranked) > len(shown):
        most = f"the first {MOST}" if len(view.ranked) > MOST else f"all {len(view.ranked)}"
        more = f", {link(path('sweeps', view.sweep) + '?all=1', most)}" if not every else ""
        yield markup(f'<p class="note">The first {len(shown)} of {len(view.ranked)} candidates{more}.</p>')


def _kind(trial: Trial, view: View) -> str:
    return "locked" if view.locked is not None and trial.number == view.locked.number else ""


def _spans(view: View, shown: Sequence[Trial]) -> list[tuple[float, float]]:
    """Returns the least and the greatest value of each objective among the graded candidates that are shown."""
    scores = [trial.objectives for trial in shown if trial.objectives is not None]
    return [(min(column), max(column)) for column in zip(*scores, strict=True)]


def _cells(place: int, trial: Trial, view: View, spans: Sequence[tuple[float, float]], may_lock: bool) -> Iterator[str]:
    number = trial.number
    box = f'<input type="checkbox" name="trial" value="{number}" id="trial-{number}" aria-label="Trial {number}">'
    yield f'<span class="links rank">{box}<label for="trial-{number}" class="num">{place}</label></span>'
    yield f"{link(path('sweeps', view.sweep, 'trials', number), f'trial {number}')}<br>{_outcome(trial, view)}"
    yield _why(trial, view)
    for at, objective in enumerate(view.lane.objectives):
        yield _objective(trial, at, objective, spans)
    yield _margins(trial, view)
    yield _knobs(view.lane.knobs, trial)
    yield _links(trial, view, may_lock)


def _outcome(trial: Trial, view: View) -> str:
    state = view.ledger.state(trial)
    if state != "complete":
        return chip(state, {"vetoed": "bad", "failed": "unsure"}.get(state, "still"))
    if trial.objectives is None:
        return chip("not graded", "unsure")
    band = view.ledger.band(trial)
    return chip("no band", "bad") if band is None else chip(band, "good")


def _why(trial: Trial, view: View) -> str:
    found = behind(trial, view.ranked[0], view.ledger, view.reserve)
    locked = view.locked is not None and trial.number == view.locked.number
    first = "<b>Locked</b> by the decision" if locked else "<b>First</b> in the decision's order"
    if found.kind == FIRST:
        return first
    return f"{first}; {escape(found.text)}" if locked else escape(short(found.text, 200))


def _objective(trial: Trial, at: int, objective: Objective, spans: Sequence[tuple[float, float]]) -> str:
    if trial.objectives is None:
        return '<span class="muted">–</span>'
    value, (low, high) = trial.objectives[at], spans[at]
    share = (value - low) / (high - low) if high > low else 0.5
    way = "greater is better" if objective.maximize else "less is better"
    return f'<span title="{way}">{value:.4g}{meter(share)}</span>'


def _margins(trial: Trial, view: View) -> str:
    """Returns the gate with the least margin over the seeds that were run, with its margins as bars."""
    if trial.failed or not trial.record.measures:
        return ""
    graded = [row for row in view.ledger.overall(trial).gates if row.severity is Severity.GATE and row.margins]
    least = min(graded, key=_least, default=None)
    if least is None:
        return ""
    return f'<span class="muted">{escape(least.id)}</span>{margin_bars(least)}'


def _least(row: GateResult) -> float:
    known = [margin for margin in row.margins.values() if margin is not None]
    return min(known, default=-math.inf)


def _knobs(knobs: Sequence[Knob], trial: Trial) -> str:
    items = [_knob(knob, trial.values[knob.name]) for knob in knobs if knob.name in trial.values]
    shown, more = "".join(items[:_KNOBS]), "".join(items[_KNOBS:])
    folded = (
        f'<details id="knobs-{trial.number}"><summary>{len(items) - _KNOBS} more</summary>'
        f'<ul class="knobs">{more}</ul></details>'
    )
    return f'<ul class="knobs">{shown}</ul>{folded if more else ""}'


def _knob(knob: Knob, value: Value) -> str:
    return f'<li><span class="muted">{escape(knob.name)}</span> {escape(short(value))}{_place(knob, value)}</li>'


def _place(knob: Knob, value: Value) -> str:
    """Returns a mark at a value's place along its knob; nothing where that cannot be told."""
    try:
        return meter(knob.unit(value), at=True)
    except (ValueError, ZeroDivisionError, TypeError):  # a value of a knob that does not count here
        return ""


def _links(trial: Trial, view: View, may_lock: bool) -> str:
    links = [] if not trial.record.measures else [
        link(path("sweeps", view.sweep, "trials", trial.number), "scorecard")
    ]  # fmt: skip
    links.append(link(path("mlflow", "sweeps", view.sweep, trial.number), "MLflow"))
    if may_lock and view.ledger.acceptable(trial) and _kind(trial, view) == "":
        links.append(link(path("sweeps", view.sweep, "trials", trial.number, "lock"), "lock…"))
    return f'<span class="links">{"".join(links)}</span>'


def best_text(view: View) -> str:
    """Returns the first of the ranking in a few words: its number, its band and its objectives."""
    if not view.ranked or view.ranked[0].objectives is None:
        return "none graded yet"
    best = view.ranked[0]
    scores = ", ".join(f"{name} {value:.4g}" for name, value in view.ledger.named(best).items())
    vetoed, band = view.ledger.vetoed(best), view.ledger.band(best)
    held = f"vetoed by {', '.join(vetoed)}" if vetoed else "no band" if band is None else f"band {band}"
    return f"trial {best.number}: {held}, {scores}"
