"""What MLflow's comparison page shows of a lane: its columns, its named views, a colour by verdict.

MLflow has no default columns for a table of runs. What it keeps for everyone, and lists under "Views", is a named
view as a tag of the experiment; the forms below are those its page reads (3.17). Which columns matter is said by
the lane: its objectives, the gates and knobs it can move, the vetoes that ended a trial. Plain data: nothing here
knows MLflow, a state or a gate by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lanelock.scoring.gates import Severity, Verdict
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.sensitivity import by_seed
from lanelock.sweeps.lanes.survey import Ground

WORST = "worst_margin"  # the metric: least margin over every graded gate in the highest band
FIRST_VIEW, SWEEPS_VIEW = "lanelock-candidates", "lanelock-sweeps"
_TAG = "mlflow.sharedViewState."
_PINNED = ("attributes.`Run Name`", "runDateAndNestInfo")  # the columns the page keeps on the left, by its names
_SHADES = 5  # of one colour, so that runs of one verdict can be told apart
_PASSED = ("#0a5ea8", "#0f6b4f")  # lowest bands to highest: blue, green
_FAILED, _VETOED, _UNGRADED = "#a34a00", "#56606b", "#713a97"  # orange, grey, violet


def address(view: str, experiment: str) -> str:
    """Where the page shows a view of an experiment, below its root."""
    mode = "&compareRunsMode=CHART" if view == "lanelock-charts" else ""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={view}&workflowType=machine_learning{mode}"


def views(ground: Ground, vetoes: Sequence[str], at_ms: int, *, reserved: bool = False) -> dict[str, str]:
    """Experiment tag -> value: the views of a lane.

    `vetoes`: ids of those that ended a trial so far. `reserved`: whether a trial has its first objective in reserve, so
    that the decision goes by the second; the first view then does so too, and the locked trial stands on top of it.
    """
    found = {}
    for key, name, state in _views(ground, vetoes, reserved):
        held = {"name": name, "createdAt": at_ms, "updatedAt": at_ms, "state": json.dumps(state)}
        found[_TAG + key] = json.dumps(held)
    return found


def colour(verdict: Verdict, vetoed: bool, lane: Lane, number: int) -> str:
    """The colour of a trial's run: its hue says the verdict, its shade only tells neighbours apart."""
    if vetoed:
        hue = _VETOED
    elif verdict.passed:
        hue = _PASSED[verdict.band == lane.gates.bands[-1]]
    else:
        hue = _UNGRADED if verdict.invalid else _FAILED
    part = number % _SHADES / (2 * _SHADES)
    levels = (int(hue[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(level + (255 - level) * part):02x}" for level in levels)


def _measured(lane: Lane, vetoes: Iterable[str]) -> tuple[str, ...]:
    """The metrics that matter in a lane: of the gates it can move, then of the vetoes that ended a trial."""
    moved = by_seed(lane)
    gates = (gate.metric for gate in lane.gates.gates if gate.severity is Severity.GATE and gate.metric in moved)
    ended = {gate.id: gate.metric for gate in lane.gates.gates}
    return tuple(dict.fromkeys([*gates, *(ended[name] for name in vetoes if name in ended)]))


def _views(ground: Ground, vetoes: Sequence[str], reserved: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Key, name and state of each view, the first one first."""
    lane = ground.lane
    trials, first = "tags.`lanelock.kind` = 'trial'", lane.objectives[0]
    objectives = [_metric(objective.name) for objective in lane.objectives]
    best = {"orderByKey": objectives[0], "orderByAsc": not first.maximize}
    worst = [_metric(WORST)] if any(ground.unreachable.values()) else []
    gates = [_metric(name) for name in _measured(lane, vetoes)]
    knobs = [f"params.`{knob.name}`" for knob in lane.knobs]
    verdict, vetoed, lock = (f"tags.`lanelock.{name}`" for name in ("verdict", "vetoed", "lock"))
    columns = [verdict, *objectives, *worst, *gates, *knobs, vetoed, lock]
    held = f"{trials} and {vetoed} = 'none'"
    by_margin = f"Candidates: no veto, best {first.name} first", _state(held, best, columns)
    if reserved and len(lane.objectives) > 1:
        other, reserve = lane.objectives[1], lane.document["decision"]["margin_reserve"]
        enough = f"{held} and {objectives[0]} {f'>= {reserve}' if first.maximize else f'<= {-reserve}'}"
        order = {"orderByKey": objectives[1], "orderByAsc": not other.maximize}
        yield (
            FIRST_VIEW,
            f"Candidates: {first.name} in reserve, best {other.name} first",
            _state(enough, order, columns),
        )
        yield "lanelock-margin", *by_margin
    else:
        yield FIRST_VIEW, *by_margin
    yield "lanelock-trials", "Every trial, best first", _state(trials, best, columns)
    yield (
        "lanelock-vetoed",
        "Vetoed trials, by which veto",
        _state(f"{trials} and {vetoed} != 'none'", best, [vetoed, verdict, *objectives, *worst, *gates, *knobs]),
    )
    said = [f"tags.`lanelock.{name}`" for name in ("decision", "verdict", "best_trial", "lock", "reason")]
    sweeps = [*said[:3], *objectives, *worst, *gates, *said[3:]]
    yield SWEEPS_VIEW, "Sweeps and how they closed", _state("tags.`lanelock.kind` = 'sweep'", _NEWEST, sweeps)
    yield "lanelock-charts", "Charts: knobs, margins, objectives", _state(held, best, columns) | _charts(lane, gates)


_NEWEST: Mapping[str, Any] = {"orderByKey": "attributes.start_time", "orderByAsc": False}


def _state(where: str, order: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """A view as the page keeps one: what is searched, in which order, and which columns stand where."""
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


def _width(column: str) -> int:
    """Pixels: the heading whole, and room for the usual value."""
    name = column.partition("`")[2].rstrip("`")
    wide = {"lanelock.verdict": 140, "lanelock.vetoed": 140, "lanelock.lock": 140, "lanelock.reason": 420}
    return wide.get(name, max(92, 24 + 7 * len(name)))


def _charts(lane: Lane, gates: Sequence[str]) -> dict[str, Any]:
    """Parallel coordinates of the knobs, objective against objective, a bar a gate; what is by seed stays folded."""
    names = [objective.name for objective in lane.objectives]
    cards: list[dict[str, Any]] = [
        _card("knobs", "PARALLEL", selectedParams=[knob.name for knob in lane.knobs], selectedMetrics=names[:1],
              showAllRuns=False, displayName=f"Knobs and {names[0]}"),
    ]  # fmt: skip
    if len(names) > 1:
        axes = {axis: {"key": name, "type": "METRIC"} for axis, name in (("xaxis", names[1]), ("yaxis", names[0]))}
        cards.append(_card("objectives", "SCATTER", **axes, displayName=f"{names[0]} against {names[1]}"))
    for metric in gates:
        name = metric.partition("`")[2].rstrip("`")
        cards.append(_card(name, "BAR", metricKey=name, displayName=name))
    folded = [f"seed_{seed}/{name.rpartition('/')[0]}" for seed in lane.seeds for name in lane.gates.metrics]
    study = {"uuid": "lanelock", "name": "Study", "display": True, "isReordered": True}
    sections = [
        study,
        *(_folded(name) for name in dict.fromkeys([*folded, "seconds", "Model metrics", "System metrics"])),
    ]
    return {
        "compareRunCharts": cards,
        "compareRunSections": sections,
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
