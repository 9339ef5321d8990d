"""Which knob moved which gate: each knob's importance for each gate, and a curve along it. Runs no trial.

Importance is fANOVA's: the share of a gate's variance that a knob explains by itself. A curve is the conditional mean,
minimum and maximum along one knob while the others vary as in the search. Only knobs that can affect a gate's state
count: a knob of a later state can only correlate with the gate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from lanelock.policies.pack import first_state, split_address
from lanelock.scoring.gates import Metric, Severity
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial

BINS = 8  # per range of a knob; a knob with choices has a bin per choice
LEAST = 8  # trials; below this, no importance and no curve


def sensitivity(sweep: str, history: Sequence[Trial], ledger: Ledger) -> dict[str, Any]:
    """Returns, per gate, the importance of each knob (None where the gate never moved) and a curve per knob."""
    lane = ledger.ground.lane
    worst = {trial.number: ledger.overall(trial).metrics for trial in history}
    moved = {
        metric: _metric(metric, history, worst, able(lane, lane.gates.metrics[metric]))
        for metric in {gate.metric for gate in lane.gates.gates}
    }
    rows = [{"gate": gate.id, "metric": gate.metric, **moved[gate.metric]} for gate in lane.gates.gates]
    return {"sweep": sweep, "lane": lane.id, "trials": len(history), "gates": rows}


def able(lane: Lane, metric: Metric) -> tuple[Knob, ...]:
    """Returns the knobs that can move a metric: those whose first state is not after the metric's."""
    order = {state: place for place, state in enumerate(lane.engine.states)}
    last = order.get(metric.state, -1)

    def first(knob: Knob) -> int:
        policy, pointer = split_address(knob.at)
        return order.get(first_state(lane.authority.schemas[policy], pointer), -1)

    return tuple(knob for knob in lane.knobs if first(knob) <= last)


def _metric(
    metric: str, history: Sequence[Trial], worst: Mapping[int, Mapping[str, float]], knobs: Sequence[Knob]
) -> dict[str, Any]:
    measured = [(trial, worst[trial.number][metric]) for trial in history if metric in worst[trial.number]]
    values = [value for _, value in measured]
    if len(values) < LEAST or max(values) == min(values) or not knobs:
        return {"trials": len(values), "importance": None, "curves": {}}
    from lanelock.sweeps.lanes.study import importance  # slow to import; a refused lane never needs it

    names = [knob.name for knob in knobs]
    shares = importance(knobs, [({name: trial.values[name] for name in names}, value) for trial, value in measured])
    curves = {
        knob.name: list(_curve(knob, [(trial.values[knob.name], value) for trial, value in measured])) for knob in knobs
    }
    return {"trials": len(values), "importance": shares, "curves": curves}


def _curve(knob: Knob, points: Sequence[tuple[Value, float]]) -> Iterator[dict[str, Any]]:
    """Yields the non-empty bins along a knob: range or choice, number of trials, mean, minimum and maximum."""
    bins = defaultdict[int, list[float]](list)
    for place, value in points:
        bins[knob.bin(place, BINS)].append(value)
    for index, where in enumerate(knob.bins(BINS)):
        if values := bins.get(index):
            yield {**where, "trials": len(values), "mean": fmean(values), "min": min(values), "max": max(values)}


def by_seed(lane: Lane) -> frozenset[str]:
    """Returns the metrics worth a column per seed: those of gates and objectives that the lane's knobs can move.

    More columns would make MLflow's page of runs slow to open; a trial's files hold its other metrics per seed.
    """
    named = {gate.metric for gate in lane.gates.gates if gate.severity is Severity.GATE}
    named |= {str(objective.metric) for objective in lane.objectives}
    return frozenset(name for name, metric in lane.gates.metrics.items() if name in named and able(lane, metric))


def of_upstream(lane: Lane) -> frozenset[str]:
    """Returns the metrics of the frozen upstream: they describe an input, not a trial."""
    metrics, states = lane.gates.metrics.items(), lane.engine.states
    return frozenset(name for name, metric in metrics if metric.state not in states and not able(lane, metric))
