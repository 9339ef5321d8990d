"""What moved what: each knob's weight on each gate, and the curve along it, from trials already paid for.

Importance is fANOVA's, the share of a gate's variance that a knob explains by itself; a curve is a conditional mean
with its envelope, along one knob while the others vary as the search let them. Only knobs that can touch a gate's
state count: one of a later state can follow it by the search's habit alone. Nothing is run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lanelock.policies.pack import first_state, split_address
from lanelock.scoring.gates import Gate, Metric, Severity
from lanelock.sweeps.lanes.decision import Ledger
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.trial import Trial

BINS = 8  # of a knob's range; a knob with choices has one each
LEAST = 8  # trials from which anything is said


def sensitivity(sweep: str, history: Sequence[Trial], ledger: Ledger) -> dict[str, Any]:
    """Per gate of the lane: importance by knob (None where the gate never moved), and a curve a knob."""
    lane = ledger.ground.lane
    worst = {trial.number: ledger.overall(trial).metrics for trial in history}
    rows, seen = [], dict[str, dict[str, Any]]()
    for gate in lane.gates.gates:
        if gate.metric not in seen:
            seen[gate.metric] = _metric(gate, history, worst, able(lane, lane.gates.metrics[gate.metric]))
        rows.append({"gate": gate.id, "metric": gate.metric, **seen[gate.metric]})
    return {"sweep": sweep, "lane": lane.id, "trials": len(history), "gates": rows}


def able(lane: Lane, metric: Metric) -> tuple[Knob, ...]:
    """The knobs that can move a metric: those whose first state is not after the metric's."""
    order = {state: place for place, state in enumerate(lane.engine.states)}
    last = order.get(metric.state, -1)

    def first(knob: Knob) -> int:
        policy, pointer = split_address(knob.at)
        return order.get(first_state(lane.authority.schemas[policy], pointer), -1)

    return tuple(knob for knob in lane.knobs if first(knob) <= last)


def _metric(
    gate: Gate, history: Sequence[Trial], worst: Mapping[int, Mapping[str, float]], knobs: Sequence[Knob]
) -> dict[str, Any]:
    measured = [(trial, worst[trial.number][gate.metric]) for trial in history if gate.metric in worst[trial.number]]
    values = [value for _, value in measured]
    if len(values) < LEAST or max(values) == min(values) or not knobs:
        return {"trials": len(values), "importance": None, "curves": {}}
    from lanelock.sweeps.lanes.study import importance  # a lane that is refused never pays for the search

    names = [knob.name for knob in knobs]
    shares = importance(knobs, [({name: trial.values[name] for name in names}, value) for trial, value in measured])
    curves = {
        knob.name: list(_curve(knob, [(trial.values[knob.name], value) for trial, value in measured])) for knob in knobs
    }
    return {"trials": len(values), "importance": shares, "curves": curves}


def _curve(knob: Knob, points: Sequence[tuple[Value, float]]) -> Iterator[dict[str, Any]]:
    """Bins along a knob that hold a trial: where, how many, mean and envelope."""
    bins = defaultdict[int, list[float]](list)
    for place, value in points:
        bins[knob.bin(place, BINS)].append(value)
    for index, where in enumerate(knob.bins(BINS)):
        if values := bins.get(index):
            mean = math.fsum(values) / len(values)
            yield {**where, "trials": len(values), "mean": mean, "min": min(values), "max": max(values)}


def by_seed(lane: Lane) -> frozenset[str]:
    """The metrics worth a column a seed: of gates and objectives, and not the same in every trial of the lane.

    What a page of runs takes to open is what its runs hold; the rest of each seed's numbers is in the trial's files.
    """
    named = {gate.metric for gate in lane.gates.gates if gate.severity is Severity.GATE}
    named |= {str(objective.metric) for objective in lane.objectives}
    return frozenset(name for name, metric in lane.gates.metrics.items() if name in named and able(lane, metric))


def of_upstream(lane: Lane) -> frozenset[str]:
    """The metrics of what lies before the engine's first state and stays: they describe an input, not a trial."""
    return frozenset(
        name for name, metric in lane.gates.metrics.items()
        if metric.state not in lane.engine.states and not able(lane, metric)
    )  # fmt: skip
