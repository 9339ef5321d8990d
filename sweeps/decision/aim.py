"""What a search is told to improve: what the decision takes, or the whole Pareto front.

The decision takes, of the candidates with the reserve, the best in the second objective. So a search that aims at it is
told one objective and one more constraint: how much of the reserve is missing. Before either the decision takes the
higher band, so where the first objective is no margin of that band, holding it is a constraint too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanelock.scoring.scorecard import MISSING
from lanelock.sweeps.lanes.lane import Lane, Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial

RESERVE, BAND = "/reserve", "/band"  # the names of the constraints, which no veto or rail can have


def aims_at_front(lane: Lane) -> bool:
    """Returns whether the lane asks for the whole front instead of what its decision takes."""
    return lane.document.get("aim") == "front"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a sampler optimises, and the constraints it is told."""

    objectives: tuple[Objective, ...]
    reserve: float | None  # of the lane's first objective, signed such that greater is better; None: no constraint
    band: str | None = None  # that every reachable gate shall hold; None: the first objective sees to it

    @classmethod
    def of(cls, history: Sequence[Trial], ledger: Ledger, reserve: float) -> Aim:
        """Returns the aim after these trials, where the reserve is `reserve`."""
        lane = ledger.ground.lane
        band = _band_to_hold(history, ledger)
        if aims_at_front(lane) or len(lane.objectives) == 1:
            return cls(lane.objectives, None, band)
        return cls(lane.objectives[1:2], reserve, band)

    def values(self, trial: Trial, lane: Lane) -> tuple[float, ...]:
        """Returns the values of a graded trial that the sampler is told."""
        named = dict(zip((objective.name for objective in lane.objectives), trial.objectives or (), strict=True))
        return tuple(named[objective.name] for objective in self.objectives)

    def constraints(self, trial: Trial, ledger: Ledger) -> Mapping[str, float]:
        """Returns signed violations by name, feasible where <= 0."""
        more = {}
        if self.reserve is not None:
            more[RESERVE] = self.reserve - ledger.signed(trial)[0]
        if self.band is not None:
            skip = ledger.ground.unreachable[self.band]
            margins = (card.margin(self.band, skip) for card in ledger.cards(trial).values())
            more[BAND] = min(-min(margins), MISSING)  # finite, also where a threshold is unknown
        return {**trial.constraints, **more}


def accepted(lane: Lane) -> int:
    """Returns the place of the band that a decision accepts."""
    return lane.gates.bands.index(lane.document["decision"]["accept_band"])


def _band_to_hold(history: Sequence[Trial], ledger: Ledger) -> str | None:
    """Returns the band that the decision asks before any objective: the highest that a trial held, or the accepted.

    None where the first objective is a margin of that band or a higher one.
    """
    lane = ledger.ground.lane
    asked = max([accepted(lane), *(ledger.held(trial) for trial in history)])
    first = lane.objectives[0].band
    return None if first is not None and lane.gates.bands.index(first) >= asked else lane.gates.bands[asked]
