"""Morris and Sobol, by SALib: designs over the unit cube, a place per knob, and what follows from values there.

The only module that imports SALib, which is optional. Rows of a design come in blocks, a trajectory of Morris or the
rows of one base sample of Sobol: a block of which one row cannot be had is left out whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.policies import LaneError

Array = NDArray[np.float64]

MORRIS, SOBOL = "morris", "sobol"
_LEVELS = 4  # of Morris: an even number keeps every level equally likely
_SEED = 0  # of designs and of bootstraps: the same call gives the same numbers
_LEAST = 2  # blocks from which anything can be told


@dataclass(frozen=True, slots=True)
class Effect:
    """What a method says of one knob: `effect` ranks it; `sampling` is half its interval of 95 % by bootstrap.

    Morris: the mean size of an elementary effect over the knob's whole range (mu*), in the metric's unit; `other` is
    the standard deviation of the effects (sigma). Sobol: the total share of variance; `other` is the first-order share.
    """

    effect: float
    sampling: float
    other: float


@dataclass(frozen=True, slots=True)
class Design:
    """Places [n, d] in the unit cube, in blocks of `block` rows."""

    method: str
    places: Array

    @property
    def block(self) -> int:
        return int(self.places.shape[1]) + (1 if self.method == MORRIS else 2)

    def whole(self, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which rows are of blocks whose rows are all known."""
        blocks = known.reshape(-1, self.block).all(axis=1)
        return np.asarray(np.repeat(blocks, self.block))

    def effects(self, values: Array) -> list[Effect] | None:
        """Returns the effect of each knob from values [n], NaN where there is none; None with too few blocks."""
        rows = self.whole(np.isfinite(values))
        if rows.sum() < _LEAST * self.block:
            return None
        if np.ptp(values[rows]) == 0:
            return [Effect(0.0, 0.0, 0.0)] * self.places.shape[1]
        problem = _problem(self.places.shape[1])
        with _salib(self.method) as (_, analyze):
            if self.method == MORRIS:
                of = analyze(problem, self.places[rows], values[rows], num_levels=_LEVELS, seed=_SEED)
                found = of["mu_star"], of["mu_star_conf"], of["sigma"]
            else:
                of = analyze(problem, values[rows], calc_second_order=False, seed=_SEED)
                total, first = (frame.to_numpy().T for frame in of.to_df()[:2])
                found = *total, first[0]
        return [Effect(*map(float, row)) for row in zip(*found, strict=True)]


def design(method: str, knobs: int, blocks: int) -> Design:
    """Returns a design of so many trajectories, or base samples. Raises LaneError if SALib is not installed."""
    with _salib(method) as (sample, _):
        if method == MORRIS:
            return Design(method, sample(_problem(knobs), blocks, num_levels=_LEVELS, seed=_SEED))
        return Design(method, sample(_problem(knobs), blocks, calc_second_order=False, seed=_SEED))


def _problem(knobs: int) -> dict[str, Any]:
    return {"num_vars": knobs, "names": [str(at) for at in range(knobs)], "bounds": [[0.0, 1.0]] * knobs}


@contextmanager
def _salib(method: str) -> Iterator[tuple[Any, Any]]:
    """Yields SALib's functions that sample and analyze; its warnings are of its own making, and left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from SALib.analyze import morris as morris_analyze
            from SALib.analyze import sobol as sobol_analyze
            from SALib.sample import morris as morris_sample
            from SALib.sample import sobol as sobol_sample
        except ImportError:
            raise LaneError(f"--method {method}: needs SALib: pip install 'lanelock[salib]'") from None
        yield (
            (morris_sample.sample, morris_analyze.analyze)
            if method == MORRIS
            else (sobol_sample.sample, sobol_analyze.analyze)
        )
