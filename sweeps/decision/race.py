"""Racing over seeds: a trial that is behind the best candidate on one seed is not run on the others.

Seeds of one lane rank candidates alike, so the first seed nearly always tells. The trials of a batch are all run on
one seed, and go on in the order of what they promise there, each against the best that has finished. Nothing that was
not run on every seed can be accepted; the race only saves runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.decision.aim import aims_at_front
from lanelock.sweeps.decision.decision import leader
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.lanes.lane import Lane, Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial


@dataclass(frozen=True, slots=True)
class Race:
    """The best candidate so far, by seed, as another trial has to follow it."""

    trial: int
    objectives: tuple[Objective, ...]
    cards: Mapping[int, Scorecard]
    level: int  # place of the band that it holds on every seed
    ledger: Ledger
    reserve: float  # of the first objective, signed such that greater is better
    skip: frozenset[str]  # the gates that the margin does not count
    tolerance: float  # how far behind, relative to the best candidate's value, a trial may be and still go on

    def lost(self, card: Scorecard) -> str:
        """Returns by what a trial's result on a seed is behind, in the order of the decision; empty if it is not."""
        best, level = self.cards[int(card.seed or 0)], self.ledger.level(card)
        if level > self.level:
            return ""
        first, *others = self.objectives
        ours, theirs = (_signed(first, side, self.skip) for side in (card, best))
        needed = min(theirs, self.reserve) if others else theirs
        if ours < needed - self.tolerance * abs(needed):
            return self._text(card, first, ours, needed)
        if level < self.level:
            return f"seed {card.seed}: {self._band(level)} against {self._band(self.level)} of trial {self.trial}"
        if not others or theirs < self.reserve or ours < self.reserve:
            return ""
        ours, theirs = (_signed(others[0], side, self.skip) for side in (card, best))
        return self._text(card, others[0], ours, theirs) if ours < theirs - self.tolerance * abs(theirs) else ""

    def _band(self, level: int) -> str:
        return "no band" if level < 0 else self.ledger.ground.lane.gates.bands[level]

    def _text(self, card: Scorecard, objective: Objective, ours: float, theirs: float) -> str:
        sign = 1.0 if objective.maximize else -1.0
        return f"seed {card.seed}: {objective.name} {sign * ours:.4g} against {sign * theirs:.4g} of trial {self.trial}"


def races(lane: Lane) -> bool:
    """Returns whether trials of a lane race: on more than one seed, towards one decision, unless it says otherwise."""
    return len(lane.seeds) > 1 and _racing(lane) is not False and not aims_at_front(lane)


def promise(card: Scorecard | None, ledger: Ledger, reserve: float) -> tuple[float, ...]:
    """Returns a sort key of what one seed promises, in the decision's order, greater is better."""
    if card is None or card.vetoed:
        return (-math.inf,)
    first, *others = (_signed(objective, card, _skipped(ledger)) for objective in ledger.ground.lane.objectives)
    return (float(ledger.level(card)), min(first, reserve) if others else first, *others, first)


def race_of(history: Sequence[Trial], ledger: Ledger) -> Race | None:
    """Returns the race after these trials; None where there is nothing to race with, or the lane does not race."""
    lane = ledger.ground.lane
    best = leader(history, ledger) if races(lane) else None
    if best is None or not ledger.acceptable(best):
        return None
    racing, reserve = _racing(lane), reserve_of(history, ledger).value
    tolerance = 0.0 if racing is True else float(racing)
    return Race(
        best.number,
        lane.objectives,
        ledger.cards(best),
        ledger.held(best),
        ledger,
        reserve,
        _skipped(ledger),
        tolerance,
    )


def _racing(lane: Lane) -> bool | float:
    racing: bool | float = lane.document.get("racing", True)
    return racing


def _skipped(ledger: Ledger) -> frozenset[str]:
    """Returns the gates that the first objective does not count, since no trial can pass them."""
    band = ledger.ground.lane.objectives[0].band
    return frozenset() if band is None else ledger.ground.unreachable[band]


def _signed(objective: Objective, card: Scorecard, skip: frozenset[str]) -> float:
    value = card.margin(objective.band, skip) if objective.band is not None else objective.on(card.metrics)
    return value if objective.maximize else -value
