"""The default sampler: a surrogate for every output of a trial, and the place where their composite promises most.

Each output (a metric on a seed, a value, a constraint) has a Gaussian process of its own; what the outputs mean
together is computed from samples of their posterior by a `Composite`. Outputs of one metric over several seeds share a
kernel: the one that was measured most often leads, and the others are modelled by their difference from it, so a trial
that ended after its first seed tells about all seeds.

A proposal is a pure function of (the study's trials, seed). `memory` keeps what is costly to derive from them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from lanelock.sweeps.search.gaussian import Kernel, Process, fit, one_thread, squared
from lanelock.sweeps.search.unit_cube import Cube

Array = NDArray[np.float64]
Allowed = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]

ROWS = 256  # rows that a model keeps
_SAMPLES, _FEW = 64, 8  # of the posterior; pairs of them for a first look
_EVERYWHERE, _AROUND, _REFINED = 256, 384, 96  # places looked at: of the whole cube, near the best rows, a round
_SCALES = (0.3, 0.1, 0.03, 0.01, 0.003)  # of moves from the best rows
_SCREENED = 128  # places left by the first look
_TOP = 6  # places that a round looks around
_ROUNDS = (0.1, 0.03, 0.01, 0.003)  # scale of moves from the best places, round by round
_UNLUCKY = 0.1  # probability of success below which no gain is worth a trial
_SIZED_BY = 10  # trials, the first, that tell the size of a plain study's constraints
_FAR = 1e9  # typical sizes; a constraint beyond, even infinite, says no more
_SPENT = 4096  # a search space of at most this many values is looked at whole


class Composite(Protocol):
    """What the outputs of a trial mean."""

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Returns the indices of outputs that share lengthscales: one metric over the seeds."""
        ...

    def outputs(self, trial: FrozenTrial) -> Array | None:
        """Returns the outputs [o] of a finished trial, NaN where not measured; None: the trial failed."""
        ...

    def score(self, outputs: Array) -> tuple[Array, Array]:
        """Returns the objectives [..., k], smaller is better, and the violation [...] of outputs [..., o].

        The violation is at least 0, and 0 where everything that must hold does.
        """
        ...


class StudyComposite:
    """The values and constraints of a plain study: constraints hold where they are at most 0.

    A constraint's output is its inverse hyperbolic sine over its typical size, so that constraints of any unit count
    alike, and are resolved best near 0.
    """

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self._signs = np.array([1.0 if to == StudyDirection.MINIMIZE else -1.0 for to in study.directions])
        self._names = sorted({name for trial in trials for name in trial.constraints})
        first = [trial.constraints for trial in trials if trial.constraints][:_SIZED_BY]
        self._sizes = np.array([_typical([row[name] for row in first if row.get(name)]) for name in self._names])

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        return [(at,) for at in range(len(self._signs) + len(self._names))]

    def outputs(self, trial: FrozenTrial) -> Array | None:
        complete = trial.state == TrialState.COMPLETE
        if trial.state == TrialState.FAIL or (complete and not np.isfinite(trial.values).all()):
            return None
        values = trial.values if complete else [np.nan] * len(self._signs)
        constraints = np.array([trial.constraints.get(name, np.nan) for name in self._names], float)
        return np.concatenate([self._signs * values, np.arcsinh(np.clip(constraints / self._sizes, -_FAR, _FAR))])

    def score(self, outputs: Array) -> tuple[Array, Array]:
        k = len(self._signs)
        return outputs[..., :k], np.asarray(np.maximum(outputs[..., k:], 0.0).sum(axis=-1))


def _typical(values: Sequence[float]) -> float:
    """Returns the median size of values; 1 without any."""
    return float(np.median(np.abs(values))) if values else 1.0


class SurrogateSampler(BaseSampler):
    """Proposes the trial whose composite promises most, by a surrogate of every output."""

    def __init__(
        self,
        composite: Composite | None = None,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        allowed: Allowed | None = None,
        memory: dict[Any, Any] | None = None,
        space: Mapping[str, BaseDistribution] | None = None,
    ) -> None:
        """Takes the composite (None: the study's values and constraints) and what limits the proposals.

        `allowed` returns a candidate's canonical parameters, or None where it is forbidden. `memory` may be shared by
        the samplers of one study. `space` is the search space where it is known before the first trial: without it
        the first trials are drawn parameter by parameter, and `allowed` cannot be asked.
        """
        self._composite = composite
        self._seed = int(np.random.SeedSequence().entropy) if seed is None else seed  # type: ignore[arg-type]
        self._n_startup_trials = n_startup_trials
        self._allowed = allowed
        self._memory = {} if memory is None else memory
        self._space = space

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._space is not None:
            return dict(self._space)
        return intersection_search_space(study.get_trials(deepcopy=False))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        name = int.from_bytes(hashlib.sha256(param_name.encode()).digest()[:4], "little")
        seed = int(_rng(self._seed, trial.number, name).integers(2**31))
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        cube = Cube.of(search_space)
        trials = [row for row in study.get_trials(deepcopy=False) if set(search_space) <= set(row.params)]
        done = [row for row in trials if row.state.is_finished()]
        waiting = [row for row in trials if row.state == TrialState.RUNNING and row.number != trial.number]
        rng = _rng(self._seed, trial.number)
        with one_thread():
            look = _Look(cube, cube.places([row.params for row in (*done, *waiting)]), self._allowed, rng)
            if len(done) < max(1, self._n_startup_trials):
                return look.emptiest()
            composite = self._composite or StudyComposite(study, done)
            history = _History.of(done, composite, cube, look.known, self._memory, study.study_name)
            return look.best(_Promise.of(history, composite, cube, self._memory, rng), history.centres())


def _rng(*entropy: int) -> np.random.Generator:
    return np.random.default_rng(entropy)


class _Look:
    """The places that one ask looks at."""

    def __init__(self, cube: Cube, known: Array, allowed: Allowed | None, rng: np.random.Generator) -> None:
        self._cube, self.known, self._allowed, self._rng = cube, known, allowed, rng
        self._seen = set(cube.keys(known))
        self._exact: dict[bytes, Mapping[str, Any]] = {}  # canonical parameters by the key of their place

    def emptiest(self) -> dict[str, Any]:
        """Returns the parameters of the new place that best fills what the known places leave empty."""
        places = self._new(self._whole(_EVERYWHERE))
        if not len(places):
            return self._repeated()
        # The part of the wrap-around discrepancy that a place adds: it favours neither the middle nor the edge.
        away = np.abs(places[:, None, :] - self.known[None, :, :])
        crowd = (1.5 - away * (1.0 - away)).prod(axis=2).sum(axis=1)
        return self._params(places[int(crowd.argmin())])

    def best(self, promise: _Promise, centres: Array) -> dict[str, Any]:
        """Returns the parameters of the new place of greatest promise."""
        near = self._cube.around(centres, _AROUND, _SCALES, self._rng)
        places = self._new(np.vstack([self._whole(_EVERYWHERE), near]))
        if not len(places):
            return self._repeated()
        places, gains = promise.screened(places)
        for scale in _ROUNDS:
            top = _apart(places, np.argsort(-gains, kind="stable")[:64], scale)
            closer = self._new(self._cube.around(places[top], _REFINED, (scale, scale / 3), self._rng))
            places, gains = np.vstack([places[top], closer]), np.concatenate([gains[top], promise.at(closer)])
        return self._params(places[int(gains.argmax())])

    def _whole(self, count: int) -> Array:
        every = self._cube.every(_SPENT)
        return self._cube.everywhere(count, self._rng) if every is None else every

    def _new(self, places: Array) -> Array:
        """Returns the places, each once, that are allowed and not known."""
        fresh: dict[bytes, Array] = {}
        for key, place in zip(self._cube.keys(places), places, strict=True):
            if key not in self._seen and key not in fresh:
                fresh[key] = place
        if self._allowed is not None:
            fresh = self._canonical(fresh.values())
        return np.array(list(fresh.values())).reshape(-1, self._cube.d)

    def _canonical(self, places: Iterable[Array]) -> dict[bytes, Array]:
        """Returns the places that are allowed, in their canonical form, which is kept to the last bit."""
        assert self._allowed is not None
        params = [row for place in places if (row := self._allowed(self._cube.values(place))) is not None]
        canonical = self._cube.places(params)
        keys = self._cube.keys(canonical)
        self._exact.update(zip(keys, params, strict=True))
        return {key: place for key, place in zip(keys, canonical, strict=True) if key not in self._seen}

    def _params(self, place: Array) -> dict[str, Any]:
        """Returns the parameters at a place."""
        exact = self._exact.get(self._cube.keys(place[None])[0])
        return self._cube.values(place) if exact is None else dict(exact)

    def _repeated(self) -> dict[str, Any]:
        """Returns the parameters of a known place: no other was found."""
        if not len(self.known):
            return self._cube.values(self._cube.everywhere(1, self._rng)[0])
        return self._cube.values(self.known[int(self._rng.integers(len(self.known)))])


def _apart(places: Array, order: NDArray[np.intp], scale: float) -> NDArray[np.intp]:
    """Returns the first few of the places in an order that are farther than `scale` from those before them."""
    chosen = [order[0]]
    for at in order[1:]:
        if len(chosen) < _TOP and (np.abs(places[at] - places[chosen]).max(axis=1) > scale).all():
            chosen.append(at)
    return np.array(chosen)


@dataclass(frozen=True, slots=True)
class _History:
    """What was measured, in the order of the trials' numbers, and what is being measured."""

    places: Array  # [n, d] of the rows: finished trials that did not fail
    features: Array  # [n, f]
    outputs: Array  # [n, o] NaN where not measured
    objectives: Array  # [n, k] NaN unless complete
    violations: Array  # [n] infinite unless complete
    failed: Array  # [all finished] 1 where the trial failed
    tried: Array  # [all finished, f]
    waiting: Array  # [running trials, f]

    @classmethod
    def of(
        cls, done: Sequence[FrozenTrial], composite: Composite, cube: Cube, known: Array, memory: dict[Any, Any],
        study: str,
    ) -> _History:  # fmt: skip
        measured = [_remembered(memory, (study, row.number, row.datetime_complete), composite, row) for row in done]
        good = np.array([row is not None for row in measured])
        width = sum(map(len, composite.groups))
        outputs = np.array([row for row in measured if row is not None]).reshape(-1, width)
        features = cube.features(known)
        objectives, violations = composite.score(outputs)
        complete = ~np.isnan(outputs).any(axis=1)
        count = len(done)
        return cls(
            known[:count][good], features[:count][good], outputs, np.where(complete[:, None], objectives, np.nan),
            np.where(complete, violations, np.inf), 1.0 - good, features[:count], features[count:],
        )  # fmt: skip

    @property
    def feasible(self) -> NDArray[np.bool_]:
        return self.violations <= 0.0

    def order(self) -> NDArray[np.intp]:
        """Returns the rows, best first: feasible ones by rank, then the others by their violation."""
        return np.lexsort((self._depth(), self.violations))

    def _depth(self) -> Array:
        """Returns of each row how many feasible rows are at least as good in every objective and better in one."""
        ours = np.where(self.feasible[:, None], self.objectives, np.inf)
        if ours.shape[1] == 1:
            return ours[:, 0]
        beats = (ours[None] <= ours[:, None]).all(axis=2) & (ours[None] < ours[:, None]).any(axis=2)
        return np.asarray(beats.sum(axis=1, dtype=float))

    def centres(self) -> Array:
        """Returns the places of the best rows, the best one several times."""
        if not len(self.places):
            return np.full((1, self.places.shape[1]), 0.5)
        order = self.order()
        return self.places[order[[0, 0, 0, 0, 1, 1, 2, 3, 4]] if len(order) > 4 else order]

    def kept(self) -> NDArray[np.intp]:
        """Returns the rows that a model keeps, in order: all, or the best, the newest and an even spread."""
        count = len(self.places)
        if count <= ROWS:
            return np.arange(count)
        best, newest = self.order()[: ROWS // 2], np.arange(count - ROWS // 4, count)
        chosen = np.union1d(best, newest)
        others = np.setdiff1d(np.arange(count), chosen)
        spread = others[np.linspace(0, len(others) - 1, ROWS - len(chosen)).round().astype(int)]
        return np.union1d(chosen, spread)


def _remembered(memory: dict[Any, Any], key: object, composite: Composite, trial: FrozenTrial) -> Array | None:
    if isinstance(composite, StudyComposite):
        return composite.outputs(trial)  # the set of constraints may grow
    if key not in memory:
        memory[key] = composite.outputs(trial)
    outputs: Array | None = memory[key]
    return outputs


@dataclass(frozen=True, slots=True)
class _Warp:
    """Standardises by median and spread, and squashes what is far from the median to its logarithm."""

    centre: float
    spread: float

    KNEE = 2.5

    @classmethod
    def of(cls, values: Array) -> _Warp:
        low, centre, high = np.quantile(values, [0.16, 0.5, 0.84])
        spread = 0.5 * (high - low)
        return cls(float(centre), float(spread if spread > 1e-3 * values.std() else values.std()))

    def to(self, values: Array) -> Array:
        standard = (values - self.centre) / self.spread
        beyond = np.maximum(np.abs(standard) - self.KNEE, 0.0)
        return np.where(beyond > 0, np.copysign(self.KNEE + np.log1p(beyond), standard), standard)

    def back(self, standard: Array) -> Array:
        """Returns the values of warped ones; overwrites them."""
        far = np.abs(standard) > self.KNEE
        if far.any():
            tails = standard[far]
            beyond = np.expm1(np.minimum(np.abs(tails) - self.KNEE, 20.0))
            standard[far] = np.copysign(self.KNEE + beyond, tails)
        standard *= self.spread
        standard += self.centre
        return standard


@dataclass(frozen=True, slots=True)
class _Group:
    """The model of one metric over the seeds: the leading output, and how the others differ from it."""

    columns: Sequence[int]
    leader: int  # position among the columns
    warp: _Warp
    offsets: Array  # [columns] mean of the leader, mean difference of the others
    processes: Sequence[tuple[list[int], Process]]  # positions measured on the same rows, without their offsets

    @classmethod
    def of(cls, features: Array, outputs: Array, columns: Sequence[int], kernel: Kernel) -> _Group:
        """Returns the model of outputs [n, columns], NaN where not measured."""
        warp, leader, standard = _led(outputs)
        measured = ~np.isnan(standard)
        differences = standard - standard[:, [leader]]
        differences[:, leader] = standard[:, leader]
        offsets = np.nansum(differences, axis=0) / np.maximum(measured.sum(axis=0), 1)
        centred = differences - offsets

        def process(positions: list[int]) -> Process:
            rows = measured[:, positions[0]]
            return Process.of(kernel, features[rows], centred[rows][:, positions])

        moving = [at for at in range(len(columns)) if at == leader or _varies(centred[:, at])]
        processes = [(positions, process(positions)) for positions in _alike(moving, measured)]
        return cls(columns, leader, warp, offsets, processes)

    def believing(self, waiting: Array) -> _Group:
        """Returns the group as it will be if the running trials measure what it predicts."""
        return replace(self, processes=[(at, process.believing(waiting)) for at, process in self.processes])

    def sampled(self, features: Array, base: Array) -> Array:
        """Returns samples [columns, s, m] of the outputs at m places, from base samples [columns, s]."""
        standard = np.empty((len(self.columns), base.shape[1], len(features)))
        standard[:] = self.offsets[:, None, None]
        for positions, process in self.processes:
            mean, sd = process.at(features)
            for i, at in enumerate(positions):
                standard[at] += mean[:, i]
                standard[at] += base[at][:, None] * sd[:, i]
        others = np.arange(len(self.columns)) != self.leader
        standard[others] += standard[self.leader]
        return self.warp.back(standard)


def _varies(column: Array) -> bool:
    return bool(np.nanmax(np.abs(column), initial=0.0) > 1e-12)


def _alike(positions: Sequence[int], measured: NDArray[np.bool_]) -> list[list[int]]:
    """Returns the positions by the rows that they were measured on."""
    alike: dict[bytes, list[int]] = {}
    for at in positions:
        alike.setdefault(measured[:, at].tobytes(), []).append(at)
    return list(alike.values())


def _led(outputs: Array) -> tuple[_Warp, int, Array]:
    """Returns the warp of a group's outputs [n, columns], its leading column, and the warped outputs.

    The leader is the column that was measured most often. Where it was not, it is taken from a column that was, shifted
    by their median difference, so that no row is lost.
    """
    measured = ~np.isnan(outputs)
    warp = _Warp.of(outputs[measured])
    standard = warp.to(outputs)
    leader = int(measured.sum(axis=0).argmax())
    for at in range(outputs.shape[1]):
        both, gap = measured[:, at] & measured[:, leader], measured[:, at] & np.isnan(standard[:, leader])
        if gap.any():
            shift = np.median(standard[both, at] - standard[both, leader]) if both.any() else 0.0
            standard[gap, leader] = standard[gap, at] - shift
    return warp, leader, standard


class _Outputs:
    """The models of all outputs. An output that never varied is that constant; one never measured is NaN."""

    def __init__(self, history: _History, groups: Sequence[Sequence[int]], memory: dict[Any, Any]) -> None:
        outputs = history.outputs
        self._constants = np.full(outputs.shape[1], np.nan)
        self._groups = []
        kept = history.kept()
        for group in groups:
            self._constants[list(group)] = constants = _constants(outputs[:, list(group)])
            columns = [at for at, constant in zip(group, constants, strict=True) if np.isnan(constant)]
            if not np.isnan(outputs[:, columns]).all():
                kernel = _kernel(history.features, outputs[:, columns], memory)
                model = _Group.of(history.features[kept], outputs[kept][:, columns], columns, kernel)
                self._groups.append(model.believing(history.waiting))

    def sampled(self, features: Array, base: Array) -> Array:
        """Returns samples [s, m, o] of the outputs at m places, from base samples [o, s]."""
        # Outputs lie first in memory: a composite reads one metric at a time.
        samples = np.empty((len(self._constants), base.shape[1], len(features)))
        samples[:] = self._constants[:, None, None]
        for group in self._groups:
            samples[list(group.columns)] = group.sampled(features, base[list(group.columns)])
        return np.moveaxis(samples, 0, -1)


def _constants(outputs: Array) -> Array:
    """Returns the value of each of a group's outputs [n, columns] that never varied; NaN of the others.

    An output that was measured on few of the group's rows is no constant where the others vary: it may be the metric on
    a seed that few trials reached.
    """
    measured = ~np.isnan(outputs)
    still = np.array([_still(column[known]) for column, known in zip(outputs.T, measured.T, strict=True)])
    often = 2 * measured.sum(axis=0) >= measured.sum(axis=0).max()
    sure = still & measured.any(axis=0) & (often | still.all())
    return np.where(sure, np.nanmax(np.vstack([outputs, np.full(outputs.shape[1], -np.inf)]), axis=0), np.nan)


def _still(values: Array) -> bool:
    return len(values) == 0 or bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _kernel(features: Array, outputs: Array, memory: dict[Any, Any]) -> Kernel:
    """Returns the kernel of a group, fitted on the first rows, as many as the schedule says."""
    some = slice(0, _scheduled(len(features)))
    features, outputs = np.ascontiguousarray(features[some]), np.ascontiguousarray(outputs[some])
    key = hashlib.sha256(features.tobytes() + outputs.tobytes()).digest()
    if key not in memory:
        memory[key] = _fitted(features, outputs)
    kernel: Kernel = memory[key]
    return kernel


def _fitted(features: Array, outputs: Array) -> Kernel:
    if np.isnan(outputs).all() or np.nanmax(outputs) == np.nanmin(outputs):
        return Kernel.typical(features.shape[1])
    _, leader, standard = _led(outputs)
    lead = standard[:, leader]
    known = ~np.isnan(lead)
    if np.ptp(lead[known]) == 0:
        return Kernel.typical(features.shape[1])
    return fit(features[known], (lead[known] - lead[known].mean()) / lead[known].std())


def _scheduled(count: int) -> int:
    """Returns the greatest number of a geometric schedule that is at most `count`."""
    size = 6
    while (larger := size + max(2, size // 4)) <= count:
        size = larger
    return min(size, count)


@dataclass(frozen=True)
class _Promise:
    """What places promise: the expected improvement of the composite over what is known."""

    models: _Outputs
    composite: Composite
    cube: Cube
    history: _History
    base: Array  # [o, s] base samples, the same for every place
    target: _Target
    ok: _Luck

    @classmethod
    def of(
        cls, history: _History, composite: Composite, cube: Cube, memory: dict[Any, Any], rng: np.random.Generator
    ) -> _Promise:
        models = _Outputs(history, composite.groups, memory)
        half = rng.standard_normal((history.outputs.shape[1], _SAMPLES // 2))
        weights = rng.dirichlet(np.ones(history.objectives.shape[1]))
        base = np.hstack([half, -half])
        believed = composite.score(models.sampled(history.waiting, np.zeros((len(base), 1)))[0])
        return cls(
            models, composite, cube, history, base, _Target.of(history, believed, weights), _Luck.of(history, memory)
        )

    def screened(self, places: Array) -> tuple[Array, Array]:
        """Returns the places that promise most by a few samples, and their promise by all."""
        half = self.base.shape[1] // 2
        few = np.r_[:_FEW, half : half + _FEW]
        top = np.argsort(-self._at(places, self.base[:, few]), kind="stable")[:_SCREENED]
        return places[top], self.at(places[top])

    def at(self, places: Array) -> Array:
        """Returns the promise [m] of places: above 0 an expected improvement, below 0 what lacks to any."""
        return self._at(places, self.base) if len(places) else np.zeros(0)

    def _at(self, places: Array, base: Array) -> Array:
        features = self.cube.features(places)
        gain, lack = self.target.of_scores(*self.composite.score(self.models.sampled(features, base)))
        ok = self.ok.at(features)
        mean = np.where(ok > _UNLUCKY, gain.mean(axis=0) * ok, 0.0)
        # Where no sample improves, the most hopeful one says where to look, so an uncertain place leads.
        return np.asarray(np.where(mean > 0, mean, -(1.0 + lack.min(axis=0)) / ok))


@dataclass(frozen=True, slots=True)
class _Target:
    """What is to be improved: the violation while nothing is feasible, then the objectives."""

    front: Array | None  # [p, k] objectives that none of the known feasible ones beats; None: nothing is feasible
    violation: float  # least so far
    sizes: Array  # [k] spread of the objectives
    size: float  # of the violations
    weights: Array  # [k] of the objectives, if there are more than two

    @classmethod
    def of(cls, history: _History, believed: tuple[Array, Array], weights: Array) -> _Target:
        complete = np.isfinite(history.violations)
        violations, seen = history.violations[complete], history.objectives[complete]
        size = float(violations[violations > 0].mean()) if (violations > 0).any() else 1.0
        least = float(violations.min(initial=np.inf))
        if not history.feasible.any():
            sizes = np.maximum(seen.std(axis=0), 1e-300) if len(seen) else np.ones(len(weights))
            return cls(None, least, sizes, size, weights)
        good = history.objectives[history.feasible]
        spread = good.std(axis=0) if len(good) > 2 else seen.std(axis=0)
        sizes = np.where(spread > 0, spread, 1.0)
        front = np.vstack([good, believed[0][believed[1] <= 0]])
        return cls(_unbeaten(front), 0.0, sizes, size, weights)

    def of_scores(self, objectives: Array, violations: Array) -> tuple[Array, Array]:
        """Returns the improvement [s, m] and what lacks to any [s, m] of objectives [s, m, k] and violations [s, m]."""
        lack = violations / self.size
        if self.front is None:
            if not np.isfinite(self.violation):
                return np.zeros_like(lack), lack
            return np.maximum(self.violation - violations, 0.0), lack
        k = objectives.shape[-1]
        if k == 1:
            better = (self.front.min() - objectives[..., 0]) / self.sizes[0]
        elif k == 2:
            better = _hypervolume_gain(self.front / self.sizes, objectives / self.sizes)
        else:
            better = self._chebyshev(self.front).min() - self._chebyshev(objectives)
        better = np.nan_to_num(better, nan=-1.0)
        return np.where(violations <= 0, np.maximum(better, 0.0), 0.0), lack + np.maximum(-better, 0.0)

    def _chebyshev(self, objectives: Array) -> Array:
        """Returns the augmented Chebyshev scalar [...] of objectives [..., k], measured from the front's best."""
        assert self.front is not None
        weighted = self.weights * (objectives - self.front.min(axis=0)) / self.sizes
        return np.asarray(weighted.max(axis=-1) + 0.05 * weighted.sum(axis=-1))


def _unbeaten(objectives: Array) -> Array:
    """Returns the objectives [p, k] that none other beats, each once."""
    unique = np.unique(objectives, axis=0)
    beaten = (unique[None] <= unique[:, None]).all(axis=2).sum(axis=1) > 1
    return np.asarray(unique[~beaten])


def _hypervolume_gain(front: Array, objectives: Array) -> Array:
    """Returns the area [...] that objectives [..., 2] add to a front [p, 2] in ascending order of the first.

    The area is bounded a tenth of the front's extent past its ends. Beaten objectives get minus their distance to it.
    """
    far = front.max(axis=0) + np.maximum(0.1 * np.ptp(front, axis=0), 0.1)
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], far[:1]])
    top = np.concatenate([far[1:], front[:, 1]])
    area, x, y = np.zeros(objectives.shape[:-1]), objectives[..., 0], objectives[..., 1]
    for start, end, height in zip(left, right, top, strict=True):  # one strip of the staircase after the other
        area += np.maximum(end - np.maximum(x, start), 0.0) * np.maximum(height - y, 0.0)
    away = np.full(area.shape, np.inf)
    for point in front:
        away = np.minimum(away, np.maximum(np.maximum(x - point[0], y - point[1]), 0.0))
    return np.asarray(np.where(area > 0, area, -away))


@dataclass(frozen=True, slots=True)
class _Luck:
    """The probability that a trial does not fail, from where trials failed."""

    process: Process | None  # of 1 where a trial failed, less the share that did
    share: float

    @classmethod
    def of(cls, history: _History, memory: dict[Any, Any]) -> _Luck:
        tried, failed = history.tried[-ROWS:], history.failed[-ROWS:, None]
        share = float(failed.mean())
        if share in (0.0, 1.0):
            return cls(None, 0.0)
        kernel = _kernel(history.tried, history.failed[:, None], memory)
        kernel = replace(kernel, noise=max(kernel.noise, 0.01), lengths=np.maximum(kernel.lengths, 0.3))
        return cls(Process.of(kernel, tried, failed - share), share)

    def at(self, features: Array) -> Array:
        """Returns the probability [m] at places [m, f]."""
        if self.process is None:
            return np.ones(len(features))
        mean, sd = self.process.at(features)
        margin = 0.5 - self.share - mean[:, 0]
        smooth = ndtr(margin / np.hypot(sd[:, 0], 0.1))
        return np.asarray(np.maximum(np.minimum(smooth, self._nearness(features)), 1e-6))

    def _nearness(self, features: Array) -> Array:
        """Returns the probability [m] by the nearest trials alone: they see sharply an edge that the process blurs."""
        assert self.process is not None
        failed = self.process.outputs[:, 0] > 0
        squares = squared(features / self.process.kernel.lengths, self.process.rows / self.process.kernel.lengths)
        bad, good = (squares[:, rows].min(axis=1) ** 2 + 1e-12 for rows in (failed, ~failed))
        return np.asarray(bad / (bad + good))
