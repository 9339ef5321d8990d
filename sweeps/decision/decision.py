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
from types import MappingProxyType
from typing import Any

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import Severity, Threshold, threshold_text
from lanelock.scoring.scorecard import GateResult, Scorecard, plain
from lanelock.sweeps.decision.reserve import Reserve, reserve_of
from lanelock.sweeps.lanes.lane import Lane, Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial

NOTHING: Mapping[int, str] = MappingProxyType({})


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
class Confirmation:
    """The results of a candidate on fresh seeds, which the search never saw."""

    metrics: Mapping[int, Mapping[str, float]]  # seed -> metrics
    band: str | None  # the highest band that holds on every fresh seed, without a veto
    fault: str  # the first result below the band that is claimed; empty: confirmed
    blockers: tuple[Blocker, ...]  # the gate of the fault


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """The candidate that the decision would take next, and by what it is behind."""

    trial: int
    objectives: tuple[float, ...]
    separated_by: str  # name of the first objective, in the decision's order, in which the two differ; empty: none


@dataclass(frozen=True, slots=True)
class Decision:
    """GO with the accepted candidate, or NO_GO with the terminal candidate and its blockers."""

    outcome: str  # "GO" or "NO_GO"
    verdict: str
    reason: str
    best: Trial | None
    blockers: tuple[Blocker, ...]
    runner_up: RunnerUp | None = None
    confirmation: Confirmation | None = None  # of an accepted candidate, where the lane asks for fresh seeds

    def as_document(self) -> dict[str, Any]:
        return {
            "decision": self.outcome,
            "verdict": self.verdict,
            "reason": self.reason,
            "blockers": [blocker.as_document() for blocker in self.blockers],
            "runner_up": None if self.runner_up is None else asdict(self.runner_up),
        }


def decide(history: Sequence[Trial], ledger: Ledger, passed_over: Mapping[int, str] = NOTHING) -> Decision:
    """Returns GO if the best candidate meets the lane's accept band on every seed without a veto.

    `passed_over`: trial -> why it is not taken, whatever its rank.
    """
    lane = ledger.ground.lane
    gates = lane.gates
    if not history:
        return Decision("NO_GO", str(gates.invalid), "no trial was run within the budget", None, ())
    everything = ranking(history, ledger)
    ranked = [trial for trial in everything if trial.number not in passed_over]
    best = ranked[0] if ranked else everything[0]
    accept = lane.document["decision"]["accept_band"]
    verdict = gates.of_band(ledger.band(best))
    if verdict.rank >= gates.of_band(accept).rank:
        reason, runner_up = _why(ranked, ledger, reserve_of(history, ledger))
        return Decision("GO", str(verdict), "; ".join([reason, *passed_over.values()]), best, (), runner_up)
    if best.failed:
        return Decision("NO_GO", str(gates.invalid), _why_not(best, ledger, ()), None, ())
    blockers = _blockers(best, ledger, accept)
    ungraded = best.objectives is None or ledger.overall(best).verdict.invalid
    return Decision(
        "NO_GO",
        str(gates.invalid if ungraded else gates.of_band(None)),
        _why_not(best, ledger, blockers),
        best,
        blockers,
    )


def _why_not(best: Trial, ledger: Ledger, blockers: Sequence[Blocker]) -> str:
    """Returns why the best trial, terminal, is not accepted."""
    if best.failed:
        return f"every trial failed; trial {best.number}: {best.record.failure}"
    if vetoed := ledger.vetoed(best):
        return f"every trial was vetoed; the least violating is trial {best.number} ({', '.join(vetoed)})"
    return "; ".join(map(str, blockers)) or "no trial could be graded on every seed"


def _why(ranked: Sequence[Trial], ledger: Ledger, reserve: Reserve) -> tuple[str, RunnerUp | None]:
    """Returns by which rule the first of `ranked` is taken, among how many, and the candidate after it."""
    best, lane = ranked[0], ledger.ground.lane
    first, *others = lane.objectives
    band = ledger.band(best)
    reserved = bool(others) and in_reserve(best, ledger, reserve)
    rivals = [trial for trial in ranked if ledger.acceptable(trial) and ledger.band(trial) == band]
    if reserved:
        rivals = [trial for trial in rivals if in_reserve(trial, ledger, reserve)]
    decided_by = others[0] if reserved else first
    at = lane.objectives.index(decided_by)
    held = f"hold {band}" + (f" with {first.name} {_side(first)} {_number(reserve.value, first)}" if reserved else "")
    word = "greatest" if decided_by.maximize else "least"
    taken = f"the {word} {decided_by.name}: {_objective(best, at):.4g} (trial {best.number})"
    among = f"of {len(rivals)} candidates that {held}, " if len(rivals) > 1 else f"the only candidate to {held}, with "
    runner_up = _runner_up(best, rivals[1], lane) if len(rivals) > 1 else None
    after = "" if runner_up is None else f"; next {runner_up.objectives[at]:.4g} (trial {runner_up.trial})"
    if runner_up is not None and others and runner_up.objectives[at] == _objective(best, at):
        after += f", behind in {runner_up.separated_by}" if runner_up.separated_by else ", equal to it but later"
    return among + taken + after, runner_up


def _runner_up(best: Trial, other: Trial, lane: Lane) -> RunnerUp:
    order = [*lane.objectives[1:], lane.objectives[0]]
    differs = (row.name for row in order if _objective(best, i := lane.objectives.index(row)) != _objective(other, i))
    return RunnerUp(other.number, tuple(other.objectives or ()), next(differs, ""))


def _objective(trial: Trial, at: int) -> float:
    assert trial.objectives is not None  # only graded trials are accepted
    return trial.objectives[at]


def _side(objective: Objective) -> str:
    return ">=" if objective.maximize else "<="


def _number(signed: float, objective: Objective) -> str:
    """Returns the text of a value that is stored such that greater is better."""
    return f"{(signed if objective.maximize else -signed) + 0.0:.4g}"  # -0.0 is 0.0


def front(history: Sequence[Trial], ledger: Ledger) -> tuple[Trial, ...]:
    """Returns the Pareto front: the trials without a veto that no other trial beats.

    One trial beats another if it is at least as good in every objective and better in one; trials with equal scores
    are all on the front.
    """
    scores = {trial.number: ledger.signed(trial) for trial in history if ledger.acceptable(trial)}
    unbeaten: list[tuple[float, ...]] = []
    for ours in sorted({*scores.values()}, reverse=True):  # whatever beats a score stands before it
        if not any(all(map(ge, theirs, ours)) for theirs in unbeaten):
            unbeaten.append(ours)
    best = {*unbeaten}
    return tuple(trial for trial in history if scores.get(trial.number) in best)


def ranking(history: Sequence[Trial], ledger: Ledger) -> tuple[Trial, ...]:
    """Returns the trials in the decision's order, best first; of equal trials the earlier comes first."""
    reserve = reserve_of(history, ledger)
    return tuple(sorted(history, key=lambda trial: _rank(trial, ledger, reserve), reverse=True))


def leader(history: Sequence[Trial], ledger: Ledger) -> Trial | None:
    """Returns the first of `ranking`, without sorting the others; None without a trial."""
    reserve = reserve_of(history, ledger)
    return max(history, key=lambda trial: _rank(trial, ledger, reserve), default=None)


def in_reserve(trial: Trial, ledger: Ledger, reserve: Reserve) -> bool:
    """Returns whether a trial that can be accepted reaches the reserve, from which the other objectives count."""
    return ledger.acceptable(trial) and ledger.signed(trial)[0] >= reserve.value


def seed_order(history: Sequence[Trial], ledger: Ledger) -> tuple[int, ...]:
    """Returns the lane's seeds, hardest first, so that trials end early.

    The hardest is where most trials ended; of equal ones, where the mean margin is least. A trial that was behind on
    the first seed does not count: it would have been behind on any.
    """
    ended = Counter[int]()
    margins = defaultdict[int, list[float]](list)
    for trial in history:
        where, by_seed = ledger.once(_hardships, trial)
        for seed in where:
            ended[seed] += 1
        for seed, margin in by_seed:
            margins[seed].append(margin)

    def hardness(seed: int) -> tuple[float, float]:
        return -ended[seed], sum(margins[seed]) / max(1, len(margins[seed]))

    return tuple(sorted(ledger.ground.lane.seeds, key=hardness))  # stable: ties keep the lane's order


def _hardships(trial: Trial, ledger: Ledger) -> tuple[list[int], list[tuple[int, float]]]:
    """Returns the seeds on which a trial ended, and its finite margins by seed where it can be accepted."""
    lane, cards = ledger.ground.lane, ledger.cards(trial)
    band = next((objective.band for objective in lane.objectives if objective.band), lane.gates.bands[-1])
    where = [seed for seed, card in cards.items() if card.vetoed]
    if trial.record.stopped and len(cards) > 1:
        where.append(list(cards)[-1])
    rows = cards.items() if ledger.acceptable(trial) else ()
    margins = [(seed, card.margin(band, ledger.ground.unreachable[band])) for seed, card in rows]
    return where, [(seed, margin) for seed, margin in margins if math.isfinite(margin)]


def _rank(trial: Trial, ledger: Ledger, reserve: Reserve) -> tuple[float, ...]:
    """Returns a sort key, greater is better.

    Complete trials come first, then those with fewer violations, then a higher band over the reachable gates. Of equal
    ones the first objective decides, but values above the reserve count as equal to it, so that the others decide.
    """
    if trial.objectives is None:
        return (-math.inf, float(len(trial.record.measures)))
    complete, violation, held, signed = ledger.once(_merits, trial)
    first = min(signed[0], reserve.value) if len(signed) > 1 else signed[0]
    return (complete, violation, held, first, *signed[1:], signed[0])


def _merits(trial: Trial, ledger: Ledger) -> tuple[float, float, int, tuple[float, ...]]:
    """Returns the part of a graded trial's rank that no reserve changes; see `_rank`."""
    violation = sum(max(0.0, value) for value in trial.constraints.values())
    return float(ledger.complete(trial)), -violation, ledger.held(trial), ledger.signed(trial)


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
