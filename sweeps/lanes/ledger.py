"""The scorecards of finished trials, each derived once from the metrics that the trial's record holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lanelock.scoring.gates import highest
from lanelock.scoring.scorecard import Scorecard, combine, score
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial

Law = TypeVar("Law")
STATES = ("failed", "vetoed", "behind", "complete")  # how a trial ended


class Ledger:
    """The results of a sweep's trials, as its gates grade them."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._cards: dict[int, dict[int, Scorecard]] = {}
        self._overall: dict[int, Scorecard] = {}
        self._bands: dict[tuple[int, bool], str | None] = {}
        self._once: dict[Any, dict[int, Any]] = {}

    def once(self, law: Callable[[Trial, Ledger], Law], trial: Trial) -> Law:
        """Returns what a law says of a trial, which is asked once: a search asks the same of all trials every batch."""
        known = self._once.setdefault(law, {})
        if trial.number not in known:
            known[trial.number] = law(trial, self)
        answer: Law = known[trial.number]
        return answer

    def cards(self, trial: Trial) -> Mapping[int, Scorecard]:
        """Returns seed -> scorecard, in the order in which the seeds were run."""
        if trial.number not in self._cards:
            self._cards[trial.number] = {
                seed: self.ground.graded(seed, metrics) for seed, metrics in trial.record.measures.items()
            }
        return self._cards[trial.number]

    def overall(self, trial: Trial) -> Scorecard:
        """Returns the worst over the seeds that were run. A failed trial has no grade."""
        if trial.number not in self._overall:
            cards, gates = tuple(self.cards(trial).values()), self.ground.lane.gates
            ungraded = score({}, gates, seed=None, authority=None)
            self._overall[trial.number] = ungraded if trial.failed or not cards else combine(cards, gates)
        return self._overall[trial.number]

    def complete(self, trial: Trial) -> bool:
        """Returns whether a trial ran on every seed of the lane."""
        return not trial.failed and len(self.cards(trial)) == len(self.ground.lane.seeds)

    def vetoed(self, trial: Trial) -> tuple[str, ...]:
        """Returns the ids of the vetoes and rails that ended a trial."""
        return tuple(dict.fromkeys(name for card in self.cards(trial).values() for name in card.vetoed))

    def acceptable(self, trial: Trial) -> bool:
        """Returns whether a trial ran on every seed without a veto and was graded, which a decision asks."""
        return trial.objectives is not None and self.complete(trial) and not self.vetoed(trial)

    def state(self, trial: Trial) -> str:
        """Returns how a trial ended: complete, vetoed, behind (it lost the race over seeds) or failed."""
        if trial.failed:
            return "failed"
        return "vetoed" if self.vetoed(trial) else "complete" if self.complete(trial) else "behind"

    def vetoes(self, history: Sequence[Trial]) -> Mapping[str, int]:
        """Returns veto id -> number of trials it ended."""
        return Counter(name for trial in history for name in self.vetoed(trial))

    def signed(self, trial: Trial) -> tuple[float, ...]:
        """Returns the objectives of a graded trial with signs such that greater is better."""
        named = zip(self.ground.lane.objectives, trial.objectives or (), strict=True)
        return tuple(value if objective.maximize else -value for objective, value in named)

    def named(self, trial: Trial) -> dict[str, float]:
        """Returns the objectives of a trial by name; none where it was not graded."""
        if trial.objectives is None:
            return {}
        names = (objective.name for objective in self.ground.lane.objectives)
        return dict(zip(names, trial.objectives, strict=True))

    def terms(self, trial: Trial) -> dict[str, dict[str, float]]:
        """Returns the terms of each objective that is an expression, as means over the seeds that were run."""
        rows = list(trial.record.measures.values()) if trial.objectives is not None else []
        expressed = (row for row in self.ground.lane.objectives if row.expression is not None and rows)
        return {objective.name: objective.terms(rows) for objective in expressed}

    def band(self, trial: Trial, *, reachable_only: bool = False) -> str | None:
        """Returns the highest band that a trial meets on every seed of the lane; None below the lowest.

        `reachable_only`: counts only the graded gates that some trial of the lane can pass.
        """
        key = trial.number, reachable_only
        if key not in self._bands:
            self._bands[key] = self._band(trial, reachable_only) if self.acceptable(trial) else None
        return self._bands[key]

    def _band(self, trial: Trial, reachable_only: bool) -> str | None:
        if not reachable_only:
            return self.overall(trial).verdict.band
        bands, cards = self.ground.lane.gates.bands, self.cards(trial).values()
        return bands[level] if (level := min(map(self.level, cards))) >= 0 else None

    def held(self, trial: Trial) -> int:
        """Returns the place of the band that a trial holds in the reachable gates; -1 where it holds none."""
        band = self.band(trial, reachable_only=True)
        return -1 if band is None else self.ground.lane.gates.bands.index(band)

    def level(self, card: Scorecard) -> int:
        """Returns the place of the highest band that a scorecard holds in the reachable gates; -1 below the lowest."""
        bands, unreachable = self.ground.lane.gates.bands, self.ground.unreachable
        held = highest(bands, lambda band: card.margin(band, unreachable[band]) >= 0)
        return -1 if held is None else bands.index(held)
