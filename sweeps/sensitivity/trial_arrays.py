"""A sweep's trials as arrays, from which its figures are drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import Gate, Severity
from lanelock.sweeps.decision.decision import front
from lanelock.sweeps.decision.reserve import Ceiling, reserve_of
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.lanes.lane import Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.sensitivity.sensitivity import by_seed

VETOED = "vetoed by "
UNGRADED, BELOW = "not graded", "no veto, no band"
BEHIND, FAILED = "stopped, behind the best", "failed"


@dataclass(frozen=True, slots=True)
class Strip:
    """One gate that the lane can move: each trial's worst value over seeds, and the proven bound."""

    gate: Gate
    values: NDArray[np.float64]  # [t] in the metric's unit; NaN where not measured
    reach: GateReach | None


@dataclass(frozen=True, slots=True)
class Trials:
    """[t] trials in the order in which they finished, the rows of every array."""

    sweep: str
    number: NDArray[np.int64]
    objectives: tuple[Objective, ...]
    scores: NDArray[np.float64]  # [t, objectives] NaN where not graded
    knobs: tuple[Knob, ...]
    places: NDArray[np.float64]  # [t, knobs] 0 … 1 along each knob's range, on its own scale
    bands: tuple[str, ...]  # the outcomes that name a band, lowest first
    outcome: tuple[str, ...]  # [t] a band's, BELOW, UNGRADED, BEHIND, FAILED or VETOED + ids
    front: NDArray[np.int64]  # rows of the Pareto front, trials with equal scores included
    chosen: int | None  # row of the trial that the sweep locked
    reserve: float  # value of the first objective from which the decision weighs the others
    ceiling: Ceiling | None  # of the first objective
    left_out: tuple[str, ...]  # unreachable gates, which the first objective does not count
    strips: tuple[Strip, ...]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """[t] Whether a trial was graded on every seed without a veto."""
        return np.array([name in (*self.bands, BELOW) for name in self.outcome], dtype=bool)

    @property
    def vetoed(self) -> NDArray[np.bool_]:
        """[t] Whether a veto ended a trial. A trial that was stopped or failed is neither vetoed nor valid."""
        return np.array([name.startswith(VETOED) for name in self.outcome], dtype=bool)

    @property
    def kept(self) -> tuple[int, ...]:
        """Rows of the trials worth opening: the front and the locked trial."""
        return tuple(sorted({*self.front.tolist(), self.chosen} - {None}))

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Each outcome once: the vetoes last, otherwise the most frequent first."""
        counts = Counter(self.outcome)
        return tuple(sorted(counts, key=lambda name: (name.startswith(VETOED), -counts[name], name)))

    def best_so_far(self) -> NDArray[np.float64]:
        """[t] The best first objective of a valid trial so far; NaN before the first valid trial."""
        best_of = np.fmax if self.objectives[0].maximize else np.fmin
        best: NDArray[np.float64] = best_of.accumulate(np.where(self.valid, self.scores[:, 0], np.nan))
        return best


def trials_of(sweep: str, history: Sequence[Trial], ledger: Ledger, best: Trial | None) -> Trials:
    """Returns the arrays of a sweep's trials; `best` is the locked trial."""
    lane, ground = ledger.ground.lane, ledger.ground
    worst = [ledger.overall(trial).metrics for trial in history]
    ungraded = (math.nan,) * len(lane.objectives)
    scores = np.array([ungraded if trial.objectives is None else trial.objectives for trial in history], dtype=float)
    moved, reach = by_seed(lane), {row.gate: row for row in ground.reach}
    strips = tuple(
        Strip(gate, np.array([metrics.get(gate.metric, np.nan) for metrics in worst]), reach.get(gate.id))
        for gate in lane.gates.gates
        if gate.severity is Severity.GATE and gate.metric in moved
    )
    rows = {trial.number: row for row, trial in enumerate(history)}
    places = np.array([[knob.unit(trial.values[knob.name]) for knob in lane.knobs] for trial in history])
    first, reserve = lane.objectives[0], reserve_of(history, ledger)
    return Trials(
        sweep=sweep,
        number=np.array([trial.number for trial in history], dtype=np.int64),
        objectives=lane.objectives,
        scores=scores.reshape(-1, len(lane.objectives)),
        knobs=lane.knobs,
        places=places.reshape(-1, len(lane.knobs)),
        bands=tuple(f"band {band}" for band in lane.gates.bands),
        outcome=tuple(_outcome(trial, ledger) for trial in history),
        front=np.array([rows[trial.number] for trial in front(history, ledger)], dtype=np.int64),
        chosen=None if best is None else rows.get(best.number),
        reserve=reserve.value if first.maximize else -reserve.value,
        ceiling=reserve.ceiling,
        left_out=() if first.band is None else tuple(sorted(ground.unreachable[first.band])),
        strips=strips,
    )


def chosen_words(trials: Trials) -> str:
    """Returns a sentence that names the locked trial and its scores."""
    if trials.chosen is None:
        return "No trial was locked."
    scores = zip(trials.objectives, trials.scores[trials.chosen], strict=True)
    words = ", ".join(f"{objective.name} {value:.4g}" for objective, value in scores)
    return f"Trial {trials.number[trials.chosen]} was locked ({words})."


def _outcome(trial: Trial, ledger: Ledger) -> str:
    if vetoed := ledger.vetoed(trial):
        return VETOED + ", ".join(vetoed)
    if trial.failed:
        return FAILED
    if not ledger.complete(trial):
        return BEHIND
    if trial.objectives is None:
        return UNGRADED
    band = ledger.band(trial)
    return BELOW if band is None else f"band {band}"
