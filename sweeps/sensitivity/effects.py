"""What each knob does to a metric, and how sure that is: indices, pairs and curves from a surrogate of the metric.

The surrogate is a Gaussian process over the whole box: every knob uniform on its own scale and independent of the
others, also where a rule of the lane forbids the candidate. It is fitted to the trials wherever they lie, so a search
that crowds near its optimum is no worse than a design, only less sure elsewhere.

Shares. Let V be a function's variance over the box. A knob's *total* share is the mean variance along the knob over V:
what stays unknown if only this knob is. Its *alone* share is the variance of the mean along the knob over V. They are
Sobol's total and first-order index; since a function is cheap, they are integrated along the knob instead of sampled.
A pair's *together* share is the mean of (f(x, y) - f(x', y) - f(x, y') + f(x', y'))² over 4 V: what the two knobs do
only together (their total interaction index).

Intervals. Each share is computed on functions drawn from the surrogate's posterior. The median is reported, and an
interval of 90 %: from the 5th to the 95th percentile, and beyond by the part of the metric's variance that
leave-one-out predictions leave unexplained, 1 - R2. If that part is uncorrelated with the surrogate, it changes no
share by more; it may belong to any knob. A curve's band has the percentiles alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.sweeps.lanes.knob import Condition, Knob, Value
from lanelock.sweeps.search.gaussian import Curve, curve, one_thread
from lanelock.sweeps.search.proposals import distribution
from lanelock.sweeps.search.unit_cube import Cube
from lanelock.sweeps.sensitivity.posterior import Draws

Array = NDArray[np.float64]
Values = Mapping[str, Value]

TRUSTED = 0.5  # least share of the variance that leave-one-out predictions must explain
PAIRS = 2  # pairs that are reported
ROWS = 256  # trials that a surrogate is fitted to
_FUNCTIONS = 64  # drawn from the posterior
_BOX, _CENTRES = 512, 64  # places that stand for the box; the first of them, from which one knob is moved
_NODES = 9  # places along a knob with many values
_FEW = 16  # values of a knob that are all looked at
_INTERACTING = 4  # knobs, the likeliest to interact, whose pairs are compared
_INTERVAL = (0.05, 0.5, 0.95)
_INTEGRATION = 0.005  # error of a share by the number of places


@dataclass(frozen=True, slots=True)
class Box:
    """The knobs that can move a metric, as a unit cube."""

    knobs: tuple[Knob, ...]
    resting: Values  # of inactive knobs
    cube: Cube

    @classmethod
    def of(cls, knobs: Sequence[Knob], resting: Values) -> Box:
        return cls(tuple(knobs), resting, Cube.of({knob.name: distribution(knob) for knob in knobs}))

    def features(self, places: Array) -> Array:
        """Returns places [m, d] as a model sees them [m, f], every inactive knob at rest."""
        placed = places.copy()
        for column, knob in enumerate(self.knobs):
            if knob.when is not None:
                placed[~self._active(knob, places), column] = knob.unit(self.resting[knob.name])
        return self.cube.features(placed)

    def two(self) -> tuple[Array, Array]:
        """Returns two independent sets of places [m, d] that fill the cube: a design of twice as many dimensions."""
        axes = self.cube.axes
        both = Cube({**axes, **{f"{name}'": axis for name, axis in axes.items()}})
        here, there = np.hsplit(both.everywhere(_BOX, np.random.default_rng(1)), 2)
        return here, there

    def _active(self, knob: Knob, places: Array) -> NDArray[np.bool_]:
        """Returns at which places [m] a knob counts; a condition on a knob outside the box is taken to hold."""
        columns = {other.name: place for place, other in enumerate(self.knobs)}
        if knob.when is None or not knob.when.names <= columns.keys():
            return np.ones(len(places), dtype=bool)
        parents = [self.knobs[columns[name]] for name in sorted(knob.when.names)]
        active: NDArray[np.bool_] = np.all([self._active(parent, places) for parent in parents], axis=0)
        if isinstance(knob.when, Condition):
            active &= np.array([knob.when.holds(self.cube.values(place)) for place in places])
            return active
        allowed = [parents[0].unit(value) for value in knob.when.values]
        return active & (np.abs(places[:, [columns[parents[0].name]]] - allowed) < 1e-9).any(axis=1)


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A metric over the box: its fitted process, and functions drawn from the posterior."""

    box: Box
    curve: Curve
    draws: Draws

    @classmethod
    def of(cls, box: Box, trials: Sequence[Values], measured: Sequence[float]) -> Surrogate:
        """Returns the surrogate of what trials measured; of more than `ROWS`, an even spread is taken."""
        some = np.unique(np.linspace(0, len(trials) - 1, ROWS).round().astype(int))
        rows = box.features(box.cube.places([trials[at] for at in some]))
        fitted = curve(rows, np.array(measured, float)[some])
        return cls(box, fitted, Draws.from_(fitted, _FUNCTIONS, np.random.default_rng(0)))

    def at(self, places: Array) -> Array:
        """Returns the functions' values [m, s] at places [m, d]."""
        return self.draws.at(self.box.features(places))

    def error(self) -> dict[str, float]:
        """Returns the leave-one-out error: its root mean square, and the share of the variance that is explained."""
        outputs = self.curve.process.outputs
        square = float(((outputs - self.curve.process.left_out()[0]) ** 2).mean() / (outputs.var() or 1.0))
        return {"rmse": _short(self.curve.spread * square**0.5), "r2": _short(1.0 - square)}


def effects(
    knobs: Sequence[Knob], resting: Values, trials: Sequence[Values], measured: Sequence[float]
) -> dict[str, Any]:
    """Returns a metric's leave-one-out error, the effects and curves of the knobs, and the strongest pairs, as JSON.

    A pure function of its arguments.
    """
    with one_thread():
        surrogate = Surrogate.of(Box.of(knobs, resting), trials, measured)
        here, there = surrogate.box.two()
        variance = np.maximum(surrogate.at(here).var(axis=0), 1e-300)
        swept = [_Sweep.of(surrogate, column, here[:_CENTRES]) for column in range(len(knobs))]
        order = sorted(range(len(knobs)), key=lambda at: -float(np.median(swept[at].total / variance)))
        error = surrogate.error()
        unexplained = max(1.0 - error["r2"], _INTEGRATION)
        shares = partial(_shares, variance=variance, unexplained=unexplained)
        pairs = islice(_pairs(surrogate, here, there, swept), PAIRS)
        return {
            "error": error,
            "trusted": error["r2"] >= TRUSTED,
            "effects": {
                knobs[at].name: {"total": shares(swept[at].total), "alone": shares(swept[at].alone)} for at in order
            },
            "pairs": [{"knobs": names, "together": shares(together)} for names, together in pairs],
            "curves": {knobs[at].name: list(swept[at].points()) for at in order},
        }


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One knob moved over its range from each of the centres."""

    values: tuple[Value, ...]  # [g]
    mean: Array  # [g, s] over the centres
    alone: Array  # [s] variance of the mean along the knob
    total: Array  # [s] mean over the centres of the variance along the knob

    @classmethod
    def of(cls, surrogate: Surrogate, column: int, centres: Array) -> _Sweep:
        values, places, weights = _nodes(surrogate.box.knobs[column])
        moved = np.repeat(centres[None], len(places), axis=0)
        moved[:, :, column] = places[:, None]
        found = surrogate.at(moved.reshape(-1, centres.shape[1])).reshape(len(places), len(centres), -1)
        mean = found.mean(axis=1)
        return cls(values, mean, _variance(mean, weights), _variance(found, weights).mean(axis=0))

    def points(self) -> Iterator[dict[str, Any]]:
        """Yields the curve's points: a value, the mean over the other knobs, and its interval."""
        for value, functions in zip(self.values, self.mean, strict=True):
            low, _, high = np.quantile(functions, _INTERVAL)
            yield {"at": value, "mean": _short(functions.mean()), "low": _short(low), "high": _short(high)}


def _nodes(knob: Knob) -> tuple[tuple[Value, ...], Array, Array]:
    """Returns values [g] along a knob, their places and weights: all if few, else those of Gauss and Legendre."""
    weights: dict[Value, float] = {}
    if knob.choices or (knob.size is not None and knob.size <= _FEW and not knob.log):
        count = knob.size or 1
        weights = {knob.value(index): 1.0 / count for index in range(count)}
    else:
        for node, weight in zip(*np.polynomial.legendre.leggauss(_NODES), strict=True):
            value = knob.along(float(0.5 + node / 2))
            weights[value] = weights.get(value, 0.0) + float(weight) / 2  # few integers may be nearest to two nodes
    return tuple(weights), np.array([knob.unit(value) for value in weights]), np.array(list(weights.values()))


def _variance(values: Array, weights: Array) -> Array:
    """Returns the weighted variance [...] along the first axis of values [g, ...]."""
    mean = np.tensordot(weights, values, 1)
    return np.asarray(np.tensordot(weights, (values - mean) ** 2, 1))


def _pairs(
    surrogate: Surrogate, here: Array, there: Array, swept: Sequence[_Sweep]
) -> Iterator[tuple[list[str], Array]]:
    """Yields the names of two knobs and the variance [s] of what they do only together, the strongest pair first.

    No pair does more together than either of its knobs does beyond what it does alone, so only the few knobs that do
    most beyond it are compared.
    """
    beyond = [float(np.median(knob.total - knob.alone)) for knob in swept]
    likely = sorted(sorted(range(len(swept)), key=lambda column: -beyond[column])[:_INTERACTING])
    moves = [columns for size in range(3) for columns in combinations(likely, size)]
    at = {columns: surrogate.at(_mixed(here, there, columns)) for columns in moves}
    together = {
        (a, b): ((at[()] - at[(a,)] - at[(b,)] + at[(a, b)]) ** 2).mean(axis=0) / 4 for a, b in combinations(likely, 2)
    }
    for pair in sorted(together, key=lambda pair: -float(np.median(together[pair]))):
        yield [surrogate.box.knobs[column].name for column in pair], together[pair]


def _mixed(here: Array, there: Array, columns: Sequence[int]) -> Array:
    """Returns places [m, d] with some coordinates from other places."""
    mixed = here.copy()
    mixed[:, columns] = there[:, columns]
    return mixed


def _shares(values: Array, variance: Array, unexplained: float) -> dict[str, float]:
    """Returns a share and its interval, by variances [s] of the functions."""
    low, share, high = np.quantile(np.clip(values / variance, 0.0, 1.0), _INTERVAL)
    return {
        "share": _short(share),
        "low": _short(max(low - unexplained, 0.0)),
        "high": _short(min(high + unexplained, 1.0)),
    }


def _short(number: float) -> float:
    """Returns six significant digits, of which a processor's own rounding changes none."""
    return float(f"{float(number):.6g}")
