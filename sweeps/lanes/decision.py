"""How a lane closes: a pure function from the finished trials to GO or NO_GO, with the evidence.

A gate that no trial can pass never hides which candidate is best: candidates are ranked by the gates they can pass,
and the unreachable gate is named as the blocker.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import ge
from typing import Any

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import Severity, Threshold, highest, threshold_text
from lanelock.scoring.scorecard import GateResult, Scorecard, combine, plain, score
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial


@dataclass(frozen=True, slots=True)
class Blocker:
    """A gate that the best candidate fails, and the known reason."""

    gate: str
    metric: str
    band: str
    value: float | None
    threshold: Threshold | None
    seed: int
    bound: float | None = None  # the best value any trial of the lane can give, where one is proven
    proof: str = ""
    movable_by: str = ""

    def __str__(self) -> str:
        seen = "not measured" if self.value is None else f"{self.value:.6g}"
        line = f"{self.gate}: {seen} against {threshold_text(self.threshold)} on seed {self.seed}"
        return f"{line}; out of reach: {self.proof}; movable by {self.movable_by}" if self.proof else line

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Blocker:
        """Returns the blocker that `as_document` wrote."""
        threshold = document["threshold"]
        return cls(**{**document, "threshold": tuple(threshold) if isinstance(threshold, list) else threshold})

    def as_document(self) -> dict[str, Any]:
        return asdict(self) | {"threshold": plain(self.threshold)}


@dataclass(frozen=True, slots=True)
class Decision:
    """GO with the accepted candidate, or NO_GO with the terminal candidate and its blockers."""

    outcome: str  # "GO" or "NO_GO"
    verdict: str
    reason: str
    best: Trial | None
    blockers: tuple[Blocker, ...]

    def as_document(self) -> dict[str, Any]:
        return {
            "decision": self.outcome,
            "verdict": self.verdict,
            "reason": self.reason,
            "blockers": [blocker.as_document() for blocker in self.blockers],
        }


class Ledger:
    """The scorecards of finished trials, each derived once from the metrics of its trial."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._cards: dict[int, dict[int, Scorecard]] = {}
        self._overall: dict[int, Scorecard] = {}

    def cards(self, trial: Trial) -> Mapping[int, Scorecard]:
        """Returns seed -> scorecard, in the order in which the seeds were run."""
        if trial.number not in self._cards:
            self._cards[trial.number] = {
                seed: score(metrics, self.ground.lane.gates, seed=seed, authority=self.ground.authority[seed])
                for seed, metrics in trial.record.measures.items()
            }
        return self._cards[trial.number]

    def overall(self, trial: Trial) -> Scorecard:
        if trial.number not in self._overall:
            self._overall[trial.number] = combine(tuple(self.cards(trial).values()), self.ground.lane.gates)
        return self._overall[trial.number]

    def complete(self, trial: Trial) -> bool:
        """Returns whether a trial ran on every seed of the lane."""
        return len(self.cards(trial)) == len(self.ground.lane.seeds)

    def vetoed(self, trial: Trial) -> tuple[str, ...]:
        """Returns the ids of the vetoes and rails that ended a trial."""
        return tuple(dict.fromkeys(name for card in self.cards(trial).values() for name in card.vetoed))

    def vetoes(self, history: Sequence[Trial]) -> Mapping[str, int]:
        """Returns veto id -> number of trials it ended."""
        return Counter(name for trial in history for name in self.vetoed(trial))

    def band(self, trial: Trial, *, reachable_only: bool = False) -> str | None:
        """Returns the highest band that a trial meets on every seed of the lane; None below the lowest.

        `reachable_only`: counts only the graded gates that some trial of the lane can pass.
        """
        gates, unreachable = self.ground.lane.gates, self.ground.unreachable
        if trial.objectives is None or not self.complete(trial) or self.vetoed(trial):
            return None
        if not reachable_only:
            return self.overall(trial).verdict.band
        cards = self.cards(trial).values()
        return highest(gates.bands, lambda band: all(card.margin(band, unreachable[band]) >= 0 for card in cards))


def decide(history: Sequence[Trial], ledger: Ledger) -> Decision:
    """Returns GO if the best candidate meets the lane's accept band on every seed without a veto."""
    lane = ledger.ground.lane
    gates = lane.gates
    if not history:
        return Decision("NO_GO", str(gates.invalid), "no trial was run within the budget", None, ())
    best = ranking(history, ledger)[0]
    accept = lane.document["decision"]["accept_band"]
    verdict = gates.of_band(ledger.band(best))
    if verdict.rank >= gates.of_band(accept).rank:
        return Decision("GO", str(verdict), f"trial {best.number} meets band {verdict.band} on every seed", best, ())
    blockers = _blockers(best, ledger, accept)
    vetoed = ledger.vetoed(best)
    if vetoed:
        reason = f"every trial was vetoed; the least violating is trial {best.number} ({', '.join(vetoed)})"
    else:
        reason = "; ".join(str(blocker) for blocker in blockers) or "no trial could be graded on every seed"
    ungraded = best.objectives is None or ledger.overall(best).verdict.invalid
    return Decision("NO_GO", str(gates.invalid if ungraded else gates.of_band(None)), reason, best, blockers)


def front(history: Sequence[Trial], ledger: Ledger) -> tuple[Trial, ...]:
    """Returns the Pareto front: the trials without a veto that no other trial beats.

    One trial beats another if it is at least as good in every objective and better in one; trials with equal scores
    are all on the front.
    """
    scores = {
        trial.number: _signed(trial.objectives, ledger.ground.lane)
        for trial in history
        if trial.objectives is not None and not ledger.vetoed(trial) and ledger.complete(trial)
    }
    unbeaten = {
        number
        for number, ours in scores.items()
        if not any(theirs != ours and all(map(ge, theirs, ours)) for theirs in scores.values())
    }
    return tuple(trial for trial in history if trial.number in unbeaten)


def ranking(history: Sequence[Trial], ledger: Ledger) -> tuple[Trial, ...]:
    """Returns the trials in the decision's order, best first; of equal trials the earlier comes first."""
    return tuple(sorted(history, key=lambda trial: _rank(trial, ledger), reverse=True))


def in_reserve(trial: Trial, ledger: Ledger) -> bool:
    """Returns whether a trial without a veto reaches the margin from which the other objectives count."""
    if trial.objectives is None or ledger.vetoed(trial):
        return False
    reserve: float = ledger.ground.lane.document["decision"]["margin_reserve"]
    return _signed(trial.objectives, ledger.ground.lane)[0] >= reserve


def seed_order(history: Sequence[Trial], ledger: Ledger) -> tuple[int, ...]:
    """Returns the lane's seeds, hardest first (most vetoes, then the least mean margin), so that vetoes come cheap."""
    lane = ledger.ground.lane
    band = next((objective.band for objective in lane.objectives if objective.band), lane.gates.bands[-1])
    vetoes = Counter[int]()
    margins = defaultdict[int, list[float]](list)
    for trial in history:
        for seed, card in ledger.cards(trial).items():
            vetoes[seed] += bool(card.vetoed)
            margin = card.margin(band, ledger.ground.unreachable[band])
            if math.isfinite(margin):
                margins[seed].append(margin)

    def hardness(seed: int) -> tuple[float, float]:
        return -vetoes[seed], sum(margins[seed]) / max(1, len(margins[seed]))

    return tuple(sorted(lane.seeds, key=hardness))  # stable: ties keep the lane's order


def _rank(trial: Trial, ledger: Ledger) -> tuple[float, ...]:
    """Returns a sort key, greater is better.

    Complete trials come first, then those with fewer violations, then a higher band over the reachable gates. Of equal
    ones the first objective decides, but values above the reserve count as equal to it, so that the others decide.
    """
    lane = ledger.ground.lane
    if trial.objectives is None:
        return (-math.inf,)
    violation = sum(max(0.0, value) for value in trial.constraints.values())
    band = ledger.band(trial, reachable_only=True)
    level = -1 if band is None else lane.gates.bands.index(band)
    signed = _signed(trial.objectives, lane)
    first = min(signed[0], lane.document["decision"]["margin_reserve"]) if len(signed) > 1 else signed[0]
    return (float(ledger.complete(trial)), -violation, level, first, *signed[1:], signed[0])


def _signed(objectives: Sequence[float], lane: Lane) -> tuple[float, ...]:
    """Returns the objectives with signs such that greater is better."""
    named = zip(lane.objectives, objectives, strict=True)
    return tuple(value if objective.maximize else -value for objective, value in named)


def _blockers(best: Trial, ledger: Ledger, accept: str) -> tuple[Blocker, ...]:
    """Returns the gates that fail the accept band, each on its worst seed; the unreachable gates first."""
    failed = defaultdict[str, list[tuple[float, int, GateResult]]](list)
    for seed, card in ledger.cards(best).items():
        for row in card.gates:
            if row.severity is Severity.GATE and not row.passed[accept]:
                margin = row.margins.get(accept)
                failed[row.id].append((-math.inf if margin is None else margin, seed, row))
    unreachable = _unreachable(ledger.ground.reach, accept)
    blockers = []
    for gate, results in failed.items():
        _, seed, row = min(results, key=lambda result: result[0])
        limit = row.thresholds.get(accept)
        blockers.append(Blocker(gate, row.metric, accept, row.value, limit, seed, *_proof(unreachable.get(gate))))
    return tuple(sorted(blockers, key=lambda blocker: blocker.bound is None))


def _unreachable(reach: Iterable[GateReach], band: str) -> dict[str, GateReach]:
    return {row.gate: row for row in reach if not row.reachable.get(band, True)}


def _proof(reach: GateReach | None) -> tuple[float | None, str, str]:
    return (None, "", "") if reach is None else (reach.bound, reach.proof, reach.movable_by)


def refusal(lane: Lane, reach: tuple[GateReach, ...]) -> Decision | None:
    """Returns NO_GO without a trial where a gate's bound forbids the lane's accept band; otherwise None."""
    accept = lane.document["decision"]["accept_band"]
    blockers = tuple(
        Blocker(gate, row.metric, accept, row.bound, row.thresholds[accept], row.seed or 0, *_proof(row))
        for gate, row in _unreachable(reach, accept).items()
    )
    if not blockers:
        return None
    proofs = "; ".join(f"{row.gate}: {row.proof}, against {threshold_text(row.threshold)}" for row in blockers)
    reason = f"refused without a trial: band {accept} is out of reach. {proofs}"
    return Decision("NO_GO", str(lane.gates.of_band(None)), reason, None, blockers)


def best_found(locked: Scorecard, history: Iterable[Trial], ledger: Ledger) -> dict[str, float]:
    """Returns gate -> the best worst-of-seeds value among the locked candidate and the trials run on every seed."""
    best = dict[str, tuple[float, float]]()
    for card in (locked, *(ledger.overall(trial) for trial in history if ledger.complete(trial))):
        for row in card.gates:
            if row.value is not None and row.known:
                best[row.id] = max(best.get(row.id, (-math.inf, 0.0)), (row.worst_margin, row.value))
    return {gate: value for gate, (_, value) in best.items()}
