"""The search space as a unit cube: places for values, values for places, and where to look.

A place [d] has one coordinate in 0 … 1 for each parameter, on the parameter's own scale; a categorical parameter's is
its index. A place is *snapped* where it stands for a value exactly. `features` gives the places as a model sees
them: a categorical parameter becomes one coordinate per choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import qmc

Array = NDArray[np.float64]

_FINEST = 1e-6  # of a continuous coordinate
_DIGITS = 6  # significant digits of a continuous value, within its range


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter: its distribution, and the number of values that it can take."""

    distribution: BaseDistribution

    @property
    def choices(self) -> int:
        """Returns the number of choices; 0 where values have an order."""
        return len(self.distribution.choices) if isinstance(self.distribution, CategoricalDistribution) else 0

    @property
    def parts(self) -> int:
        """Returns the number of equal parts between the values in the cube; 0 for a continuous or log scale."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return len(choices) - 1
            case FloatDistribution(step=float(step), low=low, high=high):
                return round((high - low) / step)
            case IntDistribution(log=False, step=step, low=low, high=high):
                return (high - low) // step
        return 0

    @property
    def single(self) -> bool:
        return self.distribution.single()

    def place(self, value: Any) -> float:
        """Returns the coordinate of a value."""
        if self.single:
            return 0.0
        match self.distribution:
            case CategoricalDistribution() as distribution:
                return float(distribution.to_internal_repr(value)) / (len(distribution.choices) - 1)
            case FloatDistribution(log=log, low=low, high=high) | IntDistribution(log=log, low=low, high=high):
                low, high, value = map(math.log if log else float, (low, high, value))
                return float(min(max((value - low) / (high - low), 0.0), 1.0))
        raise NotImplementedError(self.distribution)

    def value(self, place: float) -> Any:
        """Returns the value nearest to a coordinate."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return choices[round(place * (len(choices) - 1))]
            case IntDistribution(log=True, low=low, high=high):
                return min(max(round(low * (high / low) ** place), low), high)
            case IntDistribution(low=low, step=step):
                return low + step * round(place * self.parts)
            case FloatDistribution(step=float(step), low=low, high=high):
                return min(float(f"{low + step * round(place * self.parts):.12g}"), high)
            case FloatDistribution(log=log, low=low, high=high):
                number = low * (high / low) ** place if log else low + place * (high - low)
                finest = number if log else high - low
                return min(max(_rounded(number, finest), low), high)
        raise NotImplementedError(self.distribution)


def _rounded(number: float, size: float) -> float:
    """Returns a number with as many decimals as give `size` six significant digits: none reads 0.30000001."""
    return round(number, _DIGITS - 1 - math.floor(math.log10(abs(size)))) if size else number


@dataclass(frozen=True)
class Cube:
    """The unit cube of a search space."""

    axes: Mapping[str, Axis]

    @classmethod
    def of(cls, space: Mapping[str, BaseDistribution]) -> Cube:
        return cls({name: Axis(distribution) for name, distribution in space.items()})

    @property
    def d(self) -> int:
        return len(self.axes)

    @cached_property
    def _parts(self) -> Array:
        return np.array([axis.parts for axis in self.axes.values()], float)

    @cached_property
    def moving(self) -> NDArray[np.intp]:
        """Returns the indices of the parameters that can take more than one value."""
        return np.array([i for i, axis in enumerate(self.axes.values()) if not axis.single], dtype=np.intp)

    @cached_property
    def finest(self) -> Array:
        """Returns the distance [d] between neighbouring values."""
        return np.where(self._parts > 0, 1.0 / np.maximum(self._parts, 1.0), _FINEST)

    def places(self, trials: Sequence[Mapping[str, Any]]) -> Array:
        """Returns the places [n, d] of parameter values."""
        rows = [[axis.place(params[name]) for name, axis in self.axes.items()] for params in trials]
        return np.array(rows, float).reshape(len(rows), self.d)

    def values(self, place: Array) -> dict[str, Any]:
        """Returns the parameter values at a place [d]."""
        return {name: axis.value(float(at)) for (name, axis), at in zip(self.axes.items(), place, strict=True)}

    def snapped(self, places: Array) -> Array:
        """Returns the nearest places [m, d] that stand for values."""
        inside = np.clip(places, 0.0, 1.0)
        inside = np.where(self._parts > 0, np.round(inside * self._parts) * self.finest, inside)
        for i, axis in enumerate(self.axes.values()):
            if isinstance(axis.distribution, IntDistribution) and axis.distribution.log:
                inside[:, i] = [axis.place(axis.value(at)) for at in inside[:, i]]
            elif axis.single:
                inside[:, i] = 0.0
        return np.asarray(np.clip(inside, 0.0, 1.0))

    def keys(self, places: Array) -> list[bytes]:
        """Returns a key for each place; equal keys stand for the same values."""
        return [row.tobytes() for row in np.round(places / self.finest).astype(np.int64)]

    def features(self, places: Array) -> Array:
        """Returns the places [m, f] as a model sees them."""
        columns: list[Array] = []
        for i, axis in enumerate(self.axes.values()):
            if axis.single:
                continue
            if axis.choices > 2:
                chosen = np.round(places[:, i] * (axis.choices - 1)).astype(int)
                columns.append(np.eye(axis.choices)[chosen])
            else:
                columns.append(places[:, i : i + 1])
        return np.hstack(columns) if columns else np.zeros((len(places), 1))

    def everywhere(self, count: int, rng: np.random.Generator) -> Array:
        """Returns a scrambled Sobol design of places [count, d], snapped; `count` is a power of two."""
        return self.snapped(_even(qmc.Sobol(self.d, rng=rng).random(count), self._parts))

    def every(self, most: int) -> Array | None:
        """Returns all places [m, d]; None if they are more than `most`, or without number."""
        sizes = [1 if axis.single else axis.parts + 1 for axis in self.axes.values()]
        if math.prod(sizes) > most or any(not axis.single and not axis.parts for axis in self.axes.values()):
            return None
        grid = np.meshgrid(*(np.arange(size) / max(1, size - 1) for size in sizes), indexing="ij")
        return np.stack([axis.ravel() for axis in grid], axis=1)

    def around(self, centres: Array, count: int, scales: Sequence[float], rng: np.random.Generator) -> Array:
        """Returns `count` places near the centres [c, d], snapped: moves of one, of a few and of all coordinates."""
        centre = centres[rng.integers(len(centres), size=count)]
        share = rng.choice([0.0, 2.0 / self.d, 0.5, 1.0], size=(count, 1))
        moved = rng.random((count, self.d)) < share
        moved[np.arange(count), rng.choice(self.moving, size=count)] = True
        scale = rng.choice(np.asarray(scales), size=(count, 1))
        step = rng.standard_normal((count, self.d)) * np.maximum(scale, 0.5 * self.finest)
        # A move shorter than half a step would be none: it becomes a step to the neighbour.
        step = np.where((self._parts > 0) & (np.abs(step) < self.finest), np.copysign(self.finest, step), step)
        places = centre + np.where(moved, step, 0.0)
        return self.snapped(self._rechosen(places, moved, rng))

    def _rechosen(self, places: Array, moved: NDArray[np.bool_], rng: np.random.Generator) -> Array:
        """Returns the places with another choice drawn wherever a categorical coordinate moved."""
        for i, axis in enumerate(self.axes.values()):
            if axis.choices > 1:
                drawn = rng.integers(axis.choices, size=len(places)) / (axis.choices - 1)
                places[:, i] = np.where(moved[:, i], drawn, places[:, i])
        return places


def _even(unit: Array, parts: Array) -> Array:
    """Returns numbers of 0 … 1 so that snapping gives every value the same share, the ends included."""
    return np.where(parts > 0, np.clip((unit * (parts + 1) - 0.5) / np.maximum(parts, 1), 0.0, 1.0), unit)
