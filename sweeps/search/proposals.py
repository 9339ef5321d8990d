"""Which candidates a sweep tries: first the listed ones, then its sampler's, and none twice.

The list begins with the authority placed in the box (unless the budget is a single trial and a candidate is enqueued);
then come the candidates that the user enqueues, the corners in which the engine's directions end, and a scrambled Sobol
design. A batch is a pure function of the finished trials, so an interrupted search proposes the same candidates again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from lanelock.sweeps.decision.aim import Aim
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane, Objective
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.sampler_names import LISTED
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.search.samplers import (
    sampler_name,
    sampler_of,
    sampler_seed,
    seed_of,
    takes_constraints,
    varying,
)

_ATTEMPTS = 24  # proposals of known candidates, after which an untried one is taken at random
_PENALTY = 1e6  # added to the value of a trial that breaks a constraint, for samplers that know no constraints
_CONSTRAINTS = "constraints"  # the beginning of the attributes in which Optuna keeps them

Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate that has not finished."""

    number: int
    values: Values  # by knob name
    asked_at: int  # number of trials that had finished
    repeats: int = 0  # proposals of known candidates before this one
    attributes: Mapping[str, Any] = field(default_factory=dict)  # what the sampler keeps with the trial


def distribution(knob: Knob) -> BaseDistribution:
    """Returns a knob's range as Optuna declares it."""
    if knob.choices:
        return CategoricalDistribution(knob.choices)
    if knob.integral:
        return IntDistribution(int(knob.low), int(knob.high), log=knob.log, step=int(knob.step or 1))
    return FloatDistribution(float(knob.low), float(knob.high), log=knob.log, step=knob.step)


def directions_of(objectives: Iterable[Objective]) -> list[StudyDirection]:
    """Returns the directions of objectives as Optuna names them."""
    return [StudyDirection.MAXIMIZE if row.maximize else StudyDirection.MINIMIZE for row in objectives]


class Proposer:
    """Proposes the candidates of one sweep."""

    def __init__(self, lane: Lane, listed: Sequence[Values]) -> None:
        self._lane, self._listed = lane, listed
        self.space = {knob.name: distribution(knob) for knob in lane.knobs}
        self._memory: dict[Any, Any] = {}
        self._points = _Points(lane) if sampler_name(lane) in LISTED else None

    def batch(
        self, history: Sequence[Trial], stored: Sequence[FrozenTrial], count: int, ledger: Ledger
    ) -> tuple[Proposal, ...]:
        """Returns up to `count` candidates that no trial had; fewer only where the space is spent.

        `stored` are the same trials as `history`, as Optuna keeps them.
        """
        # A trial that was taken over and not run on every seed may still be run here.
        known = {key for row in history if (key := ledger.once(_taken, row)) is not None}
        aim = Aim.of(history, ledger, reserve_of(history, ledger).value)
        mirror = _Mirror(self._lane, self.space, aim, ledger, history, stored)
        proposals = list[Proposal]()
        for number in range(len(history), len(history) + count):
            drawn = self._next(number, known, mirror)
            if drawn is None:
                break
            values, repeats, attributes = drawn
            known.add(_key(values))
            proposals.append(Proposal(number, values, len(history), repeats, attributes))
        return tuple(proposals)

    def _next(self, number: int, known: set[Any], mirror: _Mirror) -> tuple[Values, int, Mapping[str, Any]] | None:
        listed = next((values for values in self._listed if _key(values) not in known), None)
        if listed is not None:
            mirror.pending(listed)
            return listed, 0, {}
        size = self._lane.space.size()
        if size is not None and len(known) >= size:
            return None
        if self._points is not None:
            point = self._points.next(known)
            return None if point is None else (point, 0, {})
        for attempt in range(_ATTEMPTS):
            values, attributes = mirror.ask(number, attempt, self._memory)
            if values is not None and _key(values) not in known:
                return values, attempt, attributes
            mirror.drop()
        untried = next((values for values in self._at_random(number) if _key(values) not in known), None)
        if untried is None:
            return None
        mirror.pending(untried)
        return untried, _ATTEMPTS, {}

    def _at_random(self, number: int) -> Iterator[Values]:
        """Yields candidates at random; of a small space, every one of them."""
        space = self._lane.space
        if space.size() is not None:
            everything = list(space.everything())
            start = seed_of(self._lane, number, _ATTEMPTS) % len(everything)
            yield from everything[start:] + everything[:start]
        for attempt in range(4):
            yield from space.design(256, seed_of(self._lane, number, _ATTEMPTS + attempt))


class _Points:
    """The points of a grid or of a Sobol sequence, in order."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._left = self._all()

    def next(self, known: set[Any]) -> Values | None:
        return next((values for values in self._left if _key(values) not in known), None)

    def _all(self) -> Iterator[Values]:
        space, seed = self._lane.space, sampler_seed(self._lane)
        if sampler_name(self._lane) == "grid":
            grid = space.grid(seed)
            yield from (point for index in range(grid.size) if (point := grid[index]) is not None)
            return
        count, given = 64, 0
        while True:  # a longer design begins with the shorter one
            design = space.design(count, seed)
            yield from design[given:]
            if len(design) < count:
                return
            given, count = len(design), 2 * count


class _Shared(dict[str, Any]):
    """A part of a finished trial, which nobody changes: copies of the trial share it."""

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self


class _Mirror:
    """The finished trials as the sampler is told them, in memory, and the pending ones of a batch."""

    def __init__(
        self, lane: Lane, space: Mapping[str, BaseDistribution], aim: Aim, ledger: Ledger,
        history: Sequence[Trial], stored: Sequence[FrozenTrial],
    ) -> None:  # fmt: skip
        self._lane, self._space, self._aim, self._ledger = lane, space, aim, ledger
        self._history, self._stored = history, stored
        self._waiting: list[Values] = []  # pending trials that no sampler was told of yet
        self._asked: optuna.Trial | None = None

    @cached_property
    def _study(self) -> optuna.Study:
        """The finished trials as a study, made when a sampler is first asked: listed candidates need none."""
        constraints = [self._aim.constraints(row, self._ledger) if row.objectives else {} for row in self._history]
        told = varying([row for row in constraints if row]) if sampler_name(self._lane) == "gp" else None
        study = optuna.create_study(
            directions=directions_of(self._aim.objectives), sampler=optuna.samplers.RandomSampler(seed=0)
        )
        for trial, stored, row in zip(self._history, self._stored, constraints, strict=True):
            study.add_trial(self._finished(trial, stored, row, told))
        return study

    def ask(self, number: int, attempt: int, memory: dict[Any, Any]) -> tuple[Values | None, Mapping[str, Any]]:
        """Returns the sampler's candidate, None where the lane does not allow it, and what the sampler keeps of it."""
        self._tell_pending()
        self._study.sampler = sampler_of(
            self._lane, number, attempt, ledger=self._ledger, aim=self._aim, space=self._space, memory=memory
        )
        self._asked = self._study.ask(dict(self._space))
        space, seed = self._lane.space, seed_of(self._lane, number, attempt)
        values = space.canonical(self._asked.params)
        allowed = values if space.broken(values) is None else space.repaired(values, seed)
        return allowed, dict(self._study.get_trials(deepcopy=False)[self._asked.number].system_attrs)

    def drop(self) -> None:
        """Takes back the newest proposal."""
        assert self._asked is not None
        self._study.sampler = optuna.samplers.RandomSampler(seed=0)  # telling draws nothing
        self._study.tell(self._asked, state=TrialState.FAIL)

    def pending(self, values: Values) -> None:
        """Adds a pending trial that no sampler proposed."""
        self._waiting.append(values)

    def _tell_pending(self) -> None:
        for values in self._waiting:
            self._study.enqueue_trial(dict(values))
            self._study.sampler = optuna.samplers.RandomSampler(seed=0)
            self._study.ask(dict(self._space))
        self._waiting.clear()

    def _finished(
        self, trial: Trial, stored: FrozenTrial, constraints: Mapping[str, float], told: frozenset[str] | None
    ) -> FrozenTrial:
        return create_trial(
            state=TrialState.FAIL if trial.objectives is None else TrialState.COMPLETE,
            values=None if trial.objectives is None else self._values(trial, constraints),
            params=_Shared(stored.params),
            distributions=_Shared(stored.distributions),
            user_attrs=_Shared(stored.user_attrs),
            system_attrs={key: row for key, row in stored.system_attrs.items() if not key.startswith(_CONSTRAINTS)},
            constraints={name: row for name, row in constraints.items() if told is None or name in told},
        )

    def _values(self, trial: Trial, constraints: Mapping[str, float]) -> tuple[float, ...]:
        values = self._aim.values(trial, self._lane)
        broken = sum(max(0.0, violation) for violation in constraints.values())
        if broken > 0 and not takes_constraints(self._lane):
            signs = (-1.0 if objective.maximize else 1.0 for objective in self._aim.objectives)
            values = tuple(sign * (_PENALTY + broken) for sign in signs)
        return values


def _taken(trial: Trial, ledger: Ledger) -> tuple[Any, ...] | None:
    """Returns the key of a candidate that is not proposed again; None of one that may still be run here."""
    return _key(trial.values) if trial.paid or ledger.complete(trial) or ledger.vetoed(trial) else None


def _key(values: Values) -> tuple[Any, ...]:
    """Returns what makes two candidates the same; True and 1 are different choices."""
    return tuple((name, type(values[name]) is bool, values[name]) for name in sorted(values))


def listed_first(lane: Lane, enqueued: Sequence[Values], corners: Sequence[Values], design: int) -> list[Values]:
    """Returns the candidates that a sweep tries before its sampler's, each once.

    With a budget of one trial that trial is the enqueued candidate, and the start only where nothing is enqueued.
    """
    space = lane.space
    filling = space.design(design, sampler_seed(lane)) if design else []
    begun = [*enqueued, space.start] if lane.document["budget"]["trials"] == 1 else [space.start, *enqueued]
    rows = itertools.chain(begun, corners, filling)
    return list({_key(values): values for values in rows}.values())
