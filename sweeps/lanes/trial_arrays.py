"""A sweep's trials as arrays: what its figures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import Gate, Severity
from lanelock.sweeps.lanes.decision import Ledger, front
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.lanes.lane import Objective
from lanelock.sweeps.lanes.sensitivity import by_seed
from lanelock.sweeps.lanes.trial import Trial

VETOED = "vetoed by "
UNGRADED, BELOW = "not graded", "no veto, no band"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best an objective can be, whatever a trial does: proved before the first one."""

    value: float
    gate: str
    proof: str


@dataclass(frozen=True, slots=True)
class Strip:
    """One gate that the lane can move: what its trials measured, worst over seeds, and what none can."""

    gate: Gate
    values: NDArray[np.float64]  # [t] in the metric's unit; NaN where not measured
    reach: GateReach | None


@dataclass(frozen=True, slots=True)
class Trials:
    """[t] trials in the order in which they finished; rows of every array."""

    sweep: str
    number: NDArray[np.int64]
    objectives: tuple[Objective, ...]
    scores: NDArray[np.float64]  # [t, objectives] NaN where not graded
    knobs: tuple[Knob, ...]
    places: NDArray[np.float64]  # [t, knobs] 0 … 1 along each knob's range, on its own scale
    bands: tuple[str, ...]  # the outcomes that are a band, lowest first
    outcome: tuple[str, ...]  # one of them, BELOW, UNGRADED or VETOED + ids
    front: NDArray[np.int64]  # rows of the trials that the decision calls its front, equal scores each with its own
    chosen: int | None  # row of the trial that the sweep locked
    reserve: float  # of the first objective, from which the decision weighs the others
    ceiling: Ceiling | None  # of the first objective
    left_out: tuple[str, ...]  # gates out of reach, which the first objective does not count
    strips: tuple[Strip, ...]

    @property
    def held(self) -> NDArray[np.bool_]:
        """Graded, and not vetoed."""
        free = [not name.startswith(VETOED) and name != UNGRADED for name in self.outcome]
        return np.array(free, dtype=bool)

    @property
    def kept(self) -> tuple[int, ...]:
        """Rows of the trials that one may want to open: the front, and the one that was locked."""
        chosen = () if self.chosen is None else (self.chosen,)
        return tuple(sorted({*self.front.tolist(), *chosen}))

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Those that occur: bands first, then what fell short, then the vetoes, each by how often it came."""
        order = sorted(set(self.outcome), key=lambda name: (name.startswith(VETOED), -self.outcome.count(name), name))
        return tuple(order)

    def best_so_far(self) -> NDArray[np.float64]:
        """[t] of the first objective, over the trials that held; NaN before the first of them."""
        sign = 1.0 if self.objectives[0].maximize else -1.0
        held = np.where(self.held, sign * self.scores[:, 0], -np.inf)
        best = np.maximum.accumulate(held) if len(held) else held
        return np.where(np.isfinite(best), sign * best, np.nan)


def trials_of(sweep: str, history: Sequence[Trial], ledger: Ledger, best: Trial | None) -> Trials:
    """The arrays of a sweep's history; `best`: the trial that was locked."""
    lane, ground = ledger.ground.lane, ledger.ground
    worst = [ledger.overall(trial).metrics for trial in history]
    scores = np.full((len(history), len(lane.objectives)), np.nan)
    for row, trial in enumerate(history):
        if trial.objectives is not None:
            scores[row] = trial.objectives
    moved, reach = by_seed(lane), {row.gate: row for row in ground.reach}
    strips = tuple(
        Strip(gate, np.array([found.get(gate.metric, np.nan) for found in worst]), reach.get(gate.id))
        for gate in lane.gates.gates
        if gate.severity is Severity.GATE and gate.metric in moved
    )
    rows = {trial.number: row for row, trial in enumerate(history)}
    places = np.array([[knob.unit(trial.values[knob.name]) for knob in lane.knobs] for trial in history])
    first = lane.objectives[0]
    out = () if first.band is None else ground.unreachable[first.band]
    return Trials(
        sweep=sweep,
        number=np.array([trial.number for trial in history], dtype=np.int64),
        objectives=lane.objectives,
        scores=scores,
        knobs=lane.knobs,
        places=places.reshape(-1, len(lane.knobs)),
        bands=tuple(map(_in_band, lane.gates.bands)),
        outcome=tuple(_outcome(told, ledger) for told in history),
        front=np.array([rows[told.number] for told in front(history, ledger)], dtype=np.int64),
        chosen=None if best is None else rows.get(best.number),
        reserve=float(lane.document["decision"]["margin_reserve"]),
        ceiling=_ceiling(first, ledger, reach),
        left_out=tuple(sorted(out)),
        strips=strips,
    )


def chosen_words(trials: Trials) -> str:
    """Which trial was locked, and what it scored."""
    if trials.chosen is None:
        return "No trial was locked."
    scores = ", ".join(f"{of.name} {value:.4g}" for of, value in zip(trials.objectives, trials.scores[trials.chosen],
                                                                    strict=True))  # fmt: skip
    return f"Trial {trials.number[trials.chosen]} was locked ({scores})."


def _outcome(trial: Trial, ledger: Ledger) -> str:
    vetoed = ledger.vetoed(trial)
    if vetoed:
        return VETOED + ", ".join(vetoed)
    if trial.objectives is None:
        return UNGRADED
    band = ledger.band(trial)
    return BELOW if band is None else _in_band(band)


def _in_band(band: str) -> str:
    return f"band {band}"


def _ceiling(first: Objective, ledger: Ledger, reach: Mapping[str, GateReach]) -> Ceiling | None:
    """The least of what the gates' bounds leave of the margin, over the gates that the margin counts."""
    if first.band is None:
        return None
    ground, found = ledger.ground, list[Ceiling]()
    for gate in ground.lane.gates.gates:
        row = reach.get(gate.id)
        greatest = None if row is None else row.margins.get(first.band)
        if row is None or greatest is None or gate.id in ground.unreachable[first.band]:
            continue
        if gate.severity is Severity.GATE:
            found.append(Ceiling(greatest, gate.id, row.proof))
    return min(found, key=lambda ceiling: ceiling.value, default=None)
