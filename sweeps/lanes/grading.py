"""What a trial's scorecards give over its seeds: the lane's objectives, and the violations of vetoes and rails."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lanelock.scoring.scorecard import Scorecard, combine
from lanelock.sweeps.lanes.survey import Ground


def objectives_of(ground: Ground, cards: Sequence[Scorecard]) -> tuple[float, ...] | None:
    """Returns the lane's objectives over the seeds that were run; None where a number is missing."""
    gates, values = ground.lane.gates, []
    graded = [*cards, combine(cards, gates)] if len(cards) > 1 and gates.over_seeds else cards
    for objective in ground.lane.objectives:
        if objective.band is not None:
            skip = ground.unreachable[objective.band]
            values.append(min(card.margin(objective.band, skip) for card in graded))
        else:
            values.append(objective.mean([card.metrics for card in cards]))
    return tuple(values) if all(map(math.isfinite, values)) else None


def constraints_of(cards: Sequence[Scorecard]) -> dict[str, float]:
    """Returns each veto's and rail's worst signed violation over the seeds that were run."""
    violations = [card.violations() for card in cards]
    return {name: max(by_gate[name] for by_gate in violations) for name in (violations[0] if violations else ())}
