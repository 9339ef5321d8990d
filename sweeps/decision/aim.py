"""What a search is told to improve: what the decision takes, or the whole Pareto front.

The decision takes, of the candidates with the reserve, the best in the second objective. So a search that aims at it is
told one objective and one more constraint: how much of the reserve is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lanelock.sweeps.lanes.lane import Lane, Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial

RESERVE = "reserve"  # the name of the constraint, beside vetoes and rails


def aims_at_front(lane: Lane) -> bool:
    """Returns whether the lane asks for the whole front instead of what its decision takes."""
    return lane.document.get("aim") == "front"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a sampler optimises, and the constraints it is told."""

    objectives: tuple[Objective, ...]
    reserve: float | None  # of the lane's first objective, signed such that greater is better; None: no constraint

    @classmethod
    def of(cls, lane: Lane, reserve: float) -> Aim:
        """Returns the aim of a lane whose reserve is, for now, `reserve`."""
        if aims_at_front(lane) or len(lane.objectives) == 1:
            return cls(lane.objectives, None)
        return cls(lane.objectives[1:2], reserve)

    def values(self, trial: Trial, lane: Lane) -> tuple[float, ...]:
        """Returns the values of a graded trial that the sampler is told."""
        named = dict(zip((objective.name for objective in lane.objectives), trial.objectives or (), strict=True))
        return tuple(named[objective.name] for objective in self.objectives)

    def constraints(self, trial: Trial, ledger: Ledger) -> Mapping[str, float]:
        """Returns signed violations by name, feasible where <= 0."""
        if self.reserve is None:
            return trial.constraints
        return {**trial.constraints, RESERVE: self.reserve - ledger.signed(trial)[0]}
