"""Which knob moved which gate, and how sure that is. Runs no trial.

Of each gate's metric: every knob's share of its variance, the two strongest pairs, and a curve along every knob, each
with its interval, and the leave-one-out error of the surrogate that they come from (`effects`). Only knobs that can
affect a gate's state count: a knob of a later state can only correlate with the gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lanelock.policies.pack import first_state, split_address
from lanelock.scoring.gates import Metric, Severity
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial

LEAST = 8  # trials; below this, no effect is stated


def sensitivity(sweep: str, history: Sequence[Trial], ledger: Ledger) -> dict[str, Any]:
    """Returns, per gate, the effect of each knob (None where the gate never moved), pairs, curves and their error."""
    lane = ledger.ground.lane
    metrics = dict.fromkeys(gate.metric for gate in lane.gates.gates)
    moved = {metric: _metric(metric, history, ledger) for metric in metrics}
    rows = [{"gate": gate.id, "metric": gate.metric, **moved[gate.metric]} for gate in lane.gates.gates]
    return {"sweep": sweep, "lane": lane.id, "trials": len(history), "gates": rows}


def able(lane: Lane, metric: Metric) -> tuple[Knob, ...]:
    """Returns the knobs that can move a metric: those whose first state is not after the metric's."""
    order = {state: place for place, state in enumerate(lane.engine.states)}
    last = order.get(metric.state, -1)

    def first(knob: Knob) -> int:
        fields = [split_address(address) for address in lane.moved_by(knob)]
        states = [first_state(lane.authority.schemas[policy], pointer) for policy, pointer in fields]
        return min(order.get(state, -1) for state in states)

    return tuple(knob for knob in lane.knobs if first(knob) <= last)


def _metric(metric: str, history: Sequence[Trial], ledger: Ledger) -> dict[str, Any]:
    lane = ledger.ground.lane
    knobs, (where, measured) = able(lane, lane.gates.metrics[metric]), _measured(metric, history, ledger)
    stated = {"measured": where, "trials": len(measured)}
    values = [value for _, value in measured]
    if len(values) < LEAST or max(values) == min(values) or not knobs:
        return {**stated, "error": None, "trusted": False, "effects": None, "pairs": [], "curves": {}}
    from lanelock.sweeps.sensitivity.effects import effects  # slow to import; a refused lane never needs it

    return {**stated, **effects(knobs, lane.space.resting, [trial.values for trial, _ in measured], values)}


def _measured(metric: str, history: Sequence[Trial], ledger: Ledger) -> tuple[str, list[tuple[Trial, float]]]:
    """Returns where a metric is compared, in words, and the trials with its value there.

    That is the worst over all seeds, if at least half of the trials ran on all; else the seed that most trials have.
    A trial that a veto or the race ended early has no worst value that can be compared with the others'.
    """
    seeds = ledger.ground.lane.seeds
    ran = [trial for trial in history if not trial.failed]
    whole = [trial for trial in ran if ledger.complete(trial)]
    if len(seeds) > 1 and 2 * len(whole) >= len(ran):
        found = [(trial, ledger.overall(trial).metrics) for trial in whole]
        where = f"worst of seeds {', '.join(map(str, seeds))}"
    else:
        seed = max(seeds, key=lambda seed: sum(seed in trial.record.measures for trial in ran))
        found = [(trial, trial.record.measures.get(seed, {})) for trial in ran]
        where = f"seed {seed}" + " alone" * (len(seeds) > 1)
    return where, [(trial, row[metric]) for trial, row in found if math.isfinite(row.get(metric, math.nan))]


def by_seed(lane: Lane) -> frozenset[str]:
    """Returns the metrics worth a column per seed: those of gates and objectives that the lane's knobs can move.

    More columns would make MLflow's page of runs slow to open; a trial's files hold its other metrics per seed.
    """
    named = {gate.metric for gate in lane.gates.gates if gate.severity is Severity.GATE}
    named |= {name for objective in lane.objectives for name in objective.names}
    return frozenset(name for name, metric in lane.gates.metrics.items() if name in named and able(lane, metric))


def of_upstream(lane: Lane) -> frozenset[str]:
    """Returns the metrics of the frozen upstream: they describe an input, not a trial."""
    metrics, states = lane.gates.metrics.items(), lane.engine.states
    return frozenset(name for name, metric in metrics if metric.state not in states and not able(lane, metric))
