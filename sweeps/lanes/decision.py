"""How a lane closes. Pure: from what was told and measured to GO or NO_GO, with the evidence.

A gate out of reach (a structural floor) never hides which candidate is best: candidates are ranked by
the gates they can pass, and the floor is named as the blocker.
"""

from __future__ import annotations

import math
from collections import Counter
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
    """A gate the best candidate does not pass, and what is known of why."""

    gate: str
    metric: str
    band: str
    value: float | None
    threshold: Threshold | None
    seed: int
    bound: float | None  # the best any trial of this lane can reach, where a bound is known
    proof: str
    movable_by: str

    def __str__(self) -> str:
        seen = "not measured" if self.value is None else f"{self.value:.6g}"
        line = f"{self.gate}: {seen} against {threshold_text(self.threshold)} on seed {self.seed}"
        return f"{line}; out of reach: {self.proof}; movable by {self.movable_by}" if self.proof else line

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Blocker:
        """Returns the blocker in a document: the inverse of `as_document`."""
        threshold = document["threshold"]
        return cls(**{**document, "threshold": tuple(threshold) if isinstance(threshold, list) else threshold})

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"threshold": plain(self.threshold)}


@dataclass(frozen=True, slots=True)
class Decision:
    """GO with the accepted candidate, or NO_GO with the terminal one and what stood in the way."""

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
    """The scorecards of told trials, derived once each from what they measured."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._cards: dict[int, dict[int, Scorecard]] = {}
        self._overall: dict[int, Scorecard] = {}

    def cards(self, told: Trial) -> Mapping[int, Scorecard]:
        """Seed -> card, in the order in which the seeds were run."""
        if told.number not in self._cards:
            lane = self.ground.lane
            self._cards[told.number] = {
                seed: score(metrics, lane.gates, seed=seed, authority=self.ground.authority[seed])
                for seed, metrics in told.record.measures.items()
            }
        return self._cards[told.number]

    def overall(self, told: Trial) -> Scorecard:
        """The worst over the seeds that were run."""
        if told.number not in self._overall:
            self._overall[told.number] = combine(tuple(self.cards(told).values()), self.ground.lane.gates)
        return self._overall[told.number]

    def vetoed(self, told: Trial) -> tuple[str, ...]:
        """Ids of the vetoes and rails that ended this trial."""
        return tuple(dict.fromkeys(name for card in self.cards(told).values() for name in card.vetoed))

    def vetoes(self, history: Sequence[Trial]) -> Mapping[str, int]:
        """Veto id -> trials it ended."""
        return Counter(name for told in history for name in self.vetoed(told))

    def band(self, told: Trial, *, reachable_only: bool = False) -> str | None:
        """The highest band that a trial meets on every seed of the lane; None below the lowest.

        `reachable_only`: by the graded gates alone, those left out that no trial of the lane can pass.
        """
        lane, cards, unreachable = self.ground.lane, self.cards(told), self.ground.unreachable
        if told.objectives is None or len(cards) < len(lane.seeds) or self.vetoed(told):
            return None
        if not reachable_only:
            return self.overall(told).verdict.band
        return highest(
            lane.gates.bands, lambda band: all(card.margin(band, unreachable[band]) >= 0 for card in cards.values())
        )


def decide(history: Sequence[Trial], ledger: Ledger) -> Decision:
    """GO if the best candidate meets the lane's accept band on every seed without a veto."""
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
    """The trials without a veto that no other is as good as in every objective and better than in one.

    Trials that score the same are all on it: no objective says which of them is better.
    """
    lane = ledger.ground.lane
    held = {
        told.number: _signed(told.objectives, lane)
        for told in history
        if told.objectives is not None and not ledger.vetoed(told) and len(ledger.cards(told)) == len(lane.seeds)
    }
    kept = {
        number
        for number, ours in held.items()
        if not any(theirs != ours and all(map(ge, theirs, ours)) for theirs in held.values())
    }
    return tuple(told for told in history if told.number in kept)


def ranking(history: Sequence[Trial], ledger: Ledger) -> tuple[Trial, ...]:
    """The trials, best first, in the order by which the decision takes one; of equals the first told."""
    return tuple(sorted(history, key=lambda told: _rank(told, ledger), reverse=True))


def in_reserve(told: Trial, ledger: Ledger) -> bool:
    """Whether a trial held with as much of its first objective as the decision asks before it weighs the others."""
    if told.objectives is None or ledger.vetoed(told):
        return False
    lane = ledger.ground.lane
    reserve: float = lane.document["decision"]["margin_reserve"]
    return _signed(told.objectives, lane)[0] >= reserve


def seed_order(history: Sequence[Trial], ledger: Ledger) -> tuple[int, ...]:
    """The lane's seeds, the one that fails most and has the least margin first, so that vetoes come cheap."""
    lane = ledger.ground.lane
    objective = next((objective.band for objective in lane.objectives if objective.band), lane.gates.bands[-1])
    skip = ledger.ground.unreachable[objective]
    vetoes: Counter[int] = Counter()
    margins: dict[int, list[float]] = {seed: [] for seed in lane.seeds}
    for told in history:
        for seed, card in ledger.cards(told).items():
            vetoes[seed] += bool(card.vetoed)
            margin = card.margin(objective, skip)
            if math.isfinite(margin):
                margins[seed].append(margin)

    def hardness(seed: int) -> tuple[float, float]:
        seen = margins[seed]
        return -vetoes[seed], sum(seen) / len(seen) if seen else 0.0

    return tuple(sorted(lane.seeds, key=hardness))  # stable: ties keep the lane's order


def _rank(told: Trial, ledger: Ledger) -> tuple[float, ...]:
    """Greater is better: fewer violations, then the band over reachable gates, margin up to the reserve, the rest."""
    lane = ledger.ground.lane
    if told.objectives is None:
        return (-math.inf,)
    violation = sum(max(0.0, value) for value in told.constraints.values())
    complete = len(ledger.cards(told)) == len(lane.seeds)
    band = ledger.band(told, reachable_only=True)
    graded = -1 if band is None else lane.gates.bands.index(band)
    signed = _signed(told.objectives, lane)
    first = min(signed[0], lane.document["decision"]["margin_reserve"]) if len(signed) > 1 else signed[0]
    return (float(complete), -violation, graded, first, *signed[1:], signed[0])


def _signed(objectives: Sequence[float], lane: Lane) -> tuple[float, ...]:
    """Objectives by which greater is better."""
    named = zip(lane.objectives, objectives, strict=True)
    return tuple(value if objective.maximize else -value for objective, value in named)


def _blockers(best: Trial, ledger: Ledger, accept: str) -> tuple[Blocker, ...]:
    """Per gate that fails the accept band, its worst seed; gates out of reach first."""
    worst: dict[str, tuple[int, GateResult]] = {}
    for seed, card in ledger.cards(best).items():
        for result in card.gates:
            if result.severity is Severity.GATE and not result.passed[accept]:
                held = worst.get(result.id)
                if held is None or _margin(result, accept) < _margin(held[1], accept):
                    worst[result.id] = seed, result
    reach = {row.gate: row for row in ledger.ground.reach if not row.reachable.get(accept, True)}
    blockers = [_blocker(result, accept, seed, reach.get(name)) for name, (seed, result) in worst.items()]
    return tuple(sorted(blockers, key=lambda blocker: blocker.bound is None))


def _blocker(result: GateResult, band: str, seed: int, reach: GateReach | None) -> Blocker:
    """`reach`: of a gate that no trial of the lane can pass in this band."""
    return Blocker(
        gate=result.id,
        metric=result.metric,
        band=band,
        value=result.value,
        threshold=result.thresholds.get(band),
        seed=seed,
        bound=None if reach is None else reach.bound,
        proof="" if reach is None else reach.proof,
        movable_by="" if reach is None else reach.movable_by,
    )


def _margin(result: GateResult, band: str) -> float:
    margin = result.margins.get(band)
    return -math.inf if margin is None else margin


def refusal(lane: Lane, found: tuple[GateReach, ...]) -> Decision | None:
    """NO_GO without a trial where a gate's bound forbids the lane's accept band; None where none does."""
    accept = lane.document["decision"]["accept_band"]
    blockers = tuple(
        Blocker(
            gate=row.gate,
            metric=row.metric,
            band=accept,
            value=row.bound,
            threshold=row.thresholds[accept],
            seed=row.seed or 0,
            bound=row.bound,
            proof=row.proof,
            movable_by=row.movable_by,
        )
        for row in found
        if not row.reachable.get(accept, True)
    )
    if not blockers:
        return None
    told = "; ".join(f"{row.gate}: {row.proof}, against {threshold_text(row.threshold)}" for row in blockers)
    reason = f"refused without a trial: band {accept} is out of reach. {told}"
    return Decision("NO_GO", str(lane.gates.of_band(None)), reason, None, blockers)


def best_found(locked: Scorecard, history: Iterable[Trial], ledger: Ledger) -> dict[str, float]:
    """By gate, the best worst-of-seeds value of the locked candidate and of the trials that ran on every seed."""
    lane, found = ledger.ground.lane, dict[str, tuple[float, float]]()
    whole = (told for told in history if len(ledger.cards(told)) == len(lane.seeds))
    for row in (row for card in (locked, *map(ledger.overall, whole)) for row in card.gates):
        if row.value is not None and row.known:
            found[row.id] = max(found.get(row.id, (row.worst_margin, row.value)), (row.worst_margin, row.value))
    return {gate: value for gate, (_, value) in found.items()}
