"""Which side of a comparison is preferred, and why: by a lane's own order where both sides are of one rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.decision.decision import in_reserve, ranking
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground, prospect
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.reports.subject import Subject


@dataclass(frozen=True, slots=True)
class Preference:
    """The preferred side's name, or None for a tie, and one sentence that says why."""

    preferred: str | None
    because: str

    def __str__(self) -> str:
        return f"{self.preferred or 'neither'}: {self.because}"


def prefer(before: Subject, after: Subject, cards: Sequence[Scorecard], bands: Sequence[str]) -> Preference:
    """Returns the preferred of two measured sides; `cards` are theirs, by the same gates.

    Trials and locks of lanes with one rule (gates, objectives, decision, seeds) are ranked as the lane of `after` ranks
    its trials. All others are ranked by verdict, vetoes, and the least margin of the highest band.
    """
    if before.lane is not None and after.lane is not None and _rule(before.lane) == _rule(after.lane):
        return _by_lane(before, after, after.lane)
    return _by_verdict((before.name, after.name), cards, bands[-1])


def _rule(lane: Lane) -> tuple[object, ...]:
    return lane.gates.document, lane.objectives, lane.document["decision"], lane.seeds


def _by_verdict(names: tuple[str, str], cards: Sequence[Scorecard], band: str) -> Preference:
    """Ranks two sides by verdict, then one without a veto before one with a veto, then by the least margin."""
    margins = [card.margin(band) for card in cards]
    keys = [(card.verdict.rank, not card.vetoed, margin) for card, margin in zip(cards, margins, strict=True)]
    best, other = (0, 1) if keys[0] >= keys[1] else (1, 0)
    both = f"both are {cards[0].verdict}"
    if keys[0] == keys[1]:
        known = f", with the least margin {margins[0]:.4g} to {band}" if math.isfinite(margins[0]) else ""
        return Preference(None, both + known)
    if cards[0].verdict != cards[1].verdict:
        return Preference(names[best], f"{cards[best].verdict} against {cards[other].verdict}")
    if keys[best][1] != keys[other][1]:
        return Preference(names[best], f"{both}, and the other is vetoed by {', '.join(cards[other].vetoed)}")
    return Preference(names[best], f"{both}; least margin to {band} {margins[best]:.4g} against {margins[other]:.4g}")


def _by_lane(before: Subject, after: Subject, lane: Lane) -> Preference:
    seeds = {**before.measures, **after.measures}
    authority = {seed: after.authority.get(seed) or lane.yardstick(seed, after.world) for seed in seeds}
    reach: tuple[GateReach, ...] = ()  # of two lanes: what one cannot reach, the other may
    if before.lane is not None and before.lane.identity == lane.identity:
        reach = before.reach or after.reach or prospect(lane, after.world)
    ledger = Ledger(Ground(lane, after.world, authority, reach))
    trials = tuple(_as_trial(side, number, ledger) for number, side in enumerate((before, after)))
    best, other = ranking(trials, ledger)
    if ranking(trials[::-1], ledger)[0] is not best:  # of equal trials the earlier comes first
        return Preference(None, f"by the order of lane {lane.id} they are equal: {_objectives(best, lane)}")
    names = (before.name, after.name)
    return Preference(names[best.number], f"by the order of lane {lane.id}, {next(_ahead(best, other, ledger))}")


def _as_trial(side: Subject, number: int, ledger: Ledger) -> Trial:
    """Returns a side as a trial of the ledger's lane, from what it measured."""
    record = TrialRecord(side.measures, side.pack.digest, {}, {}, {}, 0)
    bare = Trial(number, {}, None, {}, record)
    cards = tuple(ledger.cards(bare).values())
    return Trial(number, {}, objectives_of(ledger.ground, cards), constraints_of(cards), record)


def _ahead(best: Trial, other: Trial, ledger: Ledger) -> Iterator[str]:
    """Yields in what one trial is ahead of the other, in the order in which a lane asks."""
    if best.objectives is None or other.objectives is None:
        yield "it can be graded, the other cannot"
        return
    vetoed = [", ".join(ledger.vetoed(trial)) for trial in (best, other)]
    if ledger.complete(best) and not ledger.complete(other):
        ended = f"{vetoed[1]} ended the other" if vetoed[1] else "the other was not"
        yield f"it was run on every seed of the lane, {ended}"
    ours, theirs = (sum(max(0.0, value) for value in trial.constraints.values()) for trial in (best, other))
    if ours < theirs:
        less = f", and it violates its vetoes less: {short(ours)} against {short(theirs)}" if vetoed[0] else ""
        yield f"the other is vetoed by {vetoed[1]}{less}"
    bands = [ledger.band(trial, reachable_only=True) for trial in (best, other)]
    if bands[0] != bands[1]:
        yield f"it meets band {bands[0]}, the other {bands[1] or 'none'}"
    yield from better(best, other, ledger)
    yield "it comes first"


def better(best: Trial, other: Trial, ledger: Ledger) -> Iterator[str]:
    """Yields the objectives in which one trial is better; the first, if both reach the reserve, comes last."""
    lane = ledger.ground.lane
    first, *others = lane.objectives
    sides = (best.objectives or (), other.objectives or ())
    rows = dict(zip(lane.objectives, zip(*sides, strict=True), strict=True))
    reserve = reserve_of((best, other), ledger)
    reserved = bool(others) and all(in_reserve(trial, ledger, reserve) for trial in (best, other))
    enough = f"both have the reserve, {first.name} {reserve.value:.4g}; " if reserved else ""
    for objective in (*others, first) if reserved else (first, *others):
        ours, theirs = rows[objective]
        if ours != theirs and (ours > theirs) == objective.maximize:
            yield f"{enough}{objective.name} {short(ours)} against {short(theirs)}"


def _objectives(trial: Trial, lane: Lane) -> str:
    pairs = zip(lane.objectives, trial.objectives or (), strict=False)
    return ", ".join(f"{objective.name} {short(value)}" for objective, value in pairs) or "neither can be graded"
