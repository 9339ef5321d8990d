"""The views of a lane on MLflow's comparison page: columns, named views, and a colour per verdict.

MLflow has no default columns for a table of runs. It keeps named views for everyone as tags of the experiment and lists
them under "Views"; the forms below are those that its page reads (3.17). The lane decides which columns matter: its
objectives, the gates and knobs it can move, the vetoes that ended a trial. Everything here is plain data: it imports
no MLflow and names no state and no gate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lanelock.scoring.gates import Gate, Severity, Verdict
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.sensitivity.sensitivity import by_seed

WORST = "worst_margin"  # the metric: least margin over every graded gate in the highest band
FIRST_VIEW, SWEEPS_VIEW = "lanelock-candidates", "lanelock-sweeps"
RANK, MARGINS = "rank", "margin/"  # metrics: place in the decision's order; least margin to the highest band, by gate
LOCKED, WHY_NOT = "lanelock.locked", "lanelock.why_not"  # tags: a star on the locked trial; what another one lacks
PAGE = "?workflowType=machine_learning"  # of a link to a run: without it, MLflow may open its page for GenAI
_TAG = "mlflow.sharedViewState."
_PINNED = ("attributes.`Run Name`", "runDateAndNestInfo")  # the page's names for the columns it keeps on the left
_SHADES = 5  # of one colour, so that runs of one verdict can be told apart
_PASSED = ("#0a5ea8", "#0f6b4f")  # lowest bands to highest: blue, green
_FAILED, _VETOED, _UNGRADED = "#a34a00", "#56606b", "#713a97"  # orange, grey, violet


def address(view: str, experiment: str) -> str:
    """Returns the address of an experiment's view, below the page's root."""
    mode = "&compareRunsMode=CHART" if view == "lanelock-charts" else ""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={view}&workflowType=machine_learning{mode}"


def views(
    ground: Ground, vetoes: Sequence[str], at_ms: int, *, reserved: float | None = None, ranked: bool = False
) -> dict[str, str]:
    """Returns the views of a lane, as experiment tag -> value.

    `vetoes` are the ids of the vetoes that ended a trial so far. `ranked`: its newest sweep is closed, so that the
    first view is in the decision's order, with the locked trial on top. Until then it is sorted by an objective:
    `reserved` is the reserve, if a trial reaches it, so that the second objective decides.
    """
    stamps = {"createdAt": at_ms, "updatedAt": at_ms}
    return {
        _TAG + key: json.dumps({"name": name, **stamps, "state": json.dumps(state)})
        for key, name, state in _views(ground, vetoes, reserved, ranked)
    }


def colour(verdict: Verdict, vetoed: bool, lane: Lane, number: int) -> str:
    """Returns the colour of a trial's run: the hue shows the verdict, the shade only tells neighbours apart."""
    if vetoed:
        hue = _VETOED
    elif verdict.passed:
        hue = _PASSED[verdict.band == lane.gates.bands[-1]]
    else:
        hue = _UNGRADED if verdict.invalid else _FAILED
    part = number % _SHADES / (2 * _SHADES)
    levels = (int(hue[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(level + (255 - level) * part):02x}" for level in levels)


def moved_gates(lane: Lane) -> tuple[Gate, ...]:
    """Returns the graded gates that a lane can move."""
    moved = by_seed(lane)
    return tuple(gate for gate in lane.gates.gates if gate.severity is Severity.GATE and gate.metric in moved)


def _measured(lane: Lane, vetoes: Iterable[str]) -> tuple[str, ...]:
    """Returns the metrics of the gates that a lane can move, then of the vetoes that ended a trial."""
    gates = (gate.metric for gate in moved_gates(lane))
    ended = {gate.id: gate.metric for gate in lane.gates.gates}
    return tuple(dict.fromkeys([*gates, *(ended[name] for name in vetoes if name in ended)]))


def _views(
    ground: Ground, vetoes: Sequence[str], reserved: float | None, ranked: bool
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields key, name and state of each view, in the order of the page."""
    lane = ground.lane
    trials, complete, first = f"{_tag('kind')} = 'trial'", f"{_tag('state')} = 'complete'", lane.objectives[0]
    objectives = [_metric(objective.name) for objective in lane.objectives]
    best = {"orderByKey": objectives[0], "orderByAsc": not first.maximize}
    by_rank = {"orderByKey": _metric(RANK), "orderByAsc": True} if ranked else best
    columns = _columns(ground, vetoes)
    by_margin = f"Candidates: no veto, best {first.name} first", _state(complete, best, columns)
    if ranked:
        yield FIRST_VIEW, "Candidates, in the order of the decision", _state(complete, by_rank, columns)
        yield "lanelock-margin", *by_margin
    elif reserved is not None and len(lane.objectives) > 1:
        other = lane.objectives[1]
        enough = f"{complete} and {objectives[0]} {f'>= {reserved:.9g}' if first.maximize else f'<= {-reserved:.9g}'}"
        order = {"orderByKey": objectives[1], "orderByAsc": not other.maximize}
        title = f"Candidates: {first.name} in reserve, best {other.name} first"
        yield FIRST_VIEW, title, _state(enough, order, columns)
        yield "lanelock-margin", *by_margin
    else:
        yield FIRST_VIEW, *by_margin
    yield "lanelock-trials", "Every trial, best first", _state(trials, by_rank, columns)
    state, ended = _column("state"), _column("ended")
    early = [state, *(name for name in columns if name not in (_metric(RANK), _column("locked"))), ended]
    title = "Vetoed, stopped and failed trials, and why"
    yield "lanelock-vetoed", title, _state(f"{trials} and {_tag('state')} != 'complete'", best, early)
    decision, best_trial, reason, verdict, lock = map(_column, ("decision", "best_trial", "reason", "verdict", "lock"))
    gates = [_metric(name) for name in _measured(lane, vetoes)]
    sweeps = [decision, verdict, best_trial, *objectives, *_over_all(ground), *gates, lock, reason]
    yield SWEEPS_VIEW, "Sweeps and how they closed", _state(f"{_tag('kind')} = 'sweep'", _NEWEST, sweeps)
    beside = [name for name in columns if MARGINS not in name]  # MLflow keeps no view of more than 20,000 characters
    charts = _state(complete, by_rank, beside) | _charts(lane, gates)
    yield "lanelock-charts", "Charts: knobs, margins, objectives", charts


def _columns(ground: Ground, vetoes: Sequence[str]) -> list[str]:
    """Returns the columns of a trial: which it is and why it is not taken, its knobs, what it reached, how it ended."""
    lane = ground.lane
    which = [_column("locked"), _metric(RANK), _column("sweep"), _column("why_not")]
    knobs = [f"params.`{knob.name}`" for knob in lane.knobs]
    objectives = [_metric(objective.name) for objective in lane.objectives]
    margins = [_metric(MARGINS + gate.id) for gate in moved_gates(lane)]
    gates = [_metric(name) for name in _measured(lane, vetoes)]
    columns = [*which, *knobs, *objectives, *_over_all(ground), *margins, *gates]
    return [*dict.fromkeys(columns), *map(_column, ("verdict", "vetoed", "lock"))]


def _over_all(ground: Ground) -> list[str]:
    """Returns the margin over all gates, where the one that is searched leaves some out."""
    return [_metric(WORST)] if any(ground.unreachable.values()) else []


_NEWEST: Mapping[str, Any] = {"orderByKey": "attributes.start_time", "orderByAsc": False}


def _state(where: str, order: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Returns a view in the page's form: its filter, its order, and its columns."""
    return {
        "searchFilter": where,
        **order,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": [*_PINNED, *columns],
        "columnWidths": {_PINNED[1]: 150, **{column: _width(column) for column in columns}},
    }


_WIDE = {"verdict": 140, "vetoed": 140, "lock": 140, "reason": 420, "why_not": 300, "sweep": 120, "locked": 120}


def _width(column: str) -> int:
    """Returns pixels: the whole heading, and room for the usual value."""
    name = column.partition("`")[2].rstrip("`")
    wide = {f"lanelock.{tag}": pixels for tag, pixels in _WIDE.items()}
    return wide.get(name, max(92, 24 + 7 * len(name)))


def _charts(lane: Lane, gates: Sequence[str]) -> dict[str, Any]:
    """Returns charts: parallel coordinates of the knobs, objective against objective, one bar chart per gate.

    Metrics by seed stay folded.
    """
    names = [objective.name for objective in lane.objectives]
    knobs = {"selectedParams": [knob.name for knob in lane.knobs], "selectedMetrics": names, "showAllRuns": False}
    cards = [_card("knobs", "PARALLEL", **knobs, displayName=f"Knobs and {', '.join(names)}")]
    if len(names) > 1:
        axes = {axis: {"key": name, "type": "METRIC"} for axis, name in (("xaxis", names[1]), ("yaxis", names[0]))}
        cards.append(_card("objectives", "SCATTER", **axes, displayName=f"{names[0]} against {names[1]}"))
    for metric in gates:
        name = metric.partition("`")[2].rstrip("`")
        cards.append(_card(name, "BAR", metricKey=name, displayName=name))
    folded = [f"seed_{seed}/{name.rpartition('/')[0]}" for seed in lane.seeds for name in lane.gates.metrics]
    study = {"uuid": "lanelock", "name": "Study", "display": True, "isReordered": True}
    others = dict.fromkeys([*folded, "seconds", "Model metrics", "System metrics"])
    return {
        "compareRunCharts": cards,
        "compareRunSections": [study, *map(_folded, others)],
        "isAccordionReordered": True,
        "runsHiddenMode": "FIRST_20_RUNS",
    }


def _card(name: str, kind: str, **more: Any) -> dict[str, Any]:
    fixed = {"uuid": f"lanelock-{name}", "type": kind, "metricSectionId": "lanelock", "deleted": False}
    return {**fixed, "isGenerated": False, "runsCountToCompare": 100, **more}


def _folded(name: str) -> dict[str, Any]:
    return {"uuid": f"lanelock-{name}", "name": name, "display": False, "isReordered": True, "isGenerated": True}


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _column(tag: str) -> str:
    """Returns the page's name for the column of one of our tags."""
    return f"tags.`lanelock.{tag}`"


def _tag(tag: str) -> str:
    """Returns one of our tags as a filter names it: MLflow asks for quotes around slashes, not around dots."""
    return f"tags.lanelock.{tag}"
