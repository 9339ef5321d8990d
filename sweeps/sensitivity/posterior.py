"""Functions drawn from the posterior of a Gaussian process: each fits the measurements and is defined everywhere.

A function is drawn from the prior by random Fourier features and corrected by what it gets wrong at the measured rows
(Matheron's rule), so it can be evaluated at any number of places without a covariance among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lanelock.sweeps.search.gaussian import Curve

Array = NDArray[np.float64]

_WAVES = 64  # of the Matern part, an even number
_FREEDOM = 5.0  # degrees of freedom of Matern 5/2's spectrum, a t distribution


@dataclass(frozen=True, slots=True)
class Draws:
    """Functions drawn from a posterior, in mirrored pairs, so that their mean is the posterior's."""

    of: Curve
    waves: Array  # [f, w] frequencies
    sizes: Array  # [w] standard deviation of each wave
    heights: Array  # [2 w + f + 1, s / 2] of the prior's waves, slopes and level
    pulls: Array  # [n, s / 2] weights of the rows in the correction

    @classmethod
    def from_(cls, of: Curve, count: int, rng: np.random.Generator) -> Draws:
        """Returns `count` functions, an even number."""
        process = of.process
        n, f = process.rows.shape
        waves, sizes = _spectrum(f, rng)
        waves /= process.kernel.lengths[:, None]
        heights = rng.standard_normal((2 * _WAVES + f + 1, count // 2))
        noise = np.sqrt(process.kernel.noise) * rng.standard_normal((n, count // 2))
        prior = _features(process.rows, waves, sizes, process.kernel.slopes) @ heights
        pulls = process.inner.T @ (process.inner @ (prior + noise))
        return cls(of, waves, sizes, heights, pulls)

    def at(self, places: Array) -> Array:
        """Returns the values [m, s] of the functions at places [m, f], in the output's units."""
        process = self.of.process
        cross = process.kernel.between(places, process.rows)
        away = _features(places, self.waves, self.sizes, process.kernel.slopes) @ self.heights - cross @ self.pulls
        away *= process.scales
        mean = cross @ process.weights
        return self.of.mean + self.of.spread * np.hstack([mean + away, mean - away])


def _spectrum(f: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns frequencies [f, w] of Matern 5/2 of unit lengths, and the standard deviation [w] of each wave.

    What the rows leave open is mostly waves that are shorter than the rows are apart, and the spectrum has few of
    those. So half the waves come from Matern 1/2's spectrum, which has more, and each is weighted by the ratio of
    Matern 5/2's density to that of the mixture.
    """
    half = _WAVES // 2
    squares = np.concatenate([rng.chisquare(_FREEDOM, size=half), rng.chisquare(1.0, size=half)])
    ratio = squares**2 / 3.0  # of the densities of chi-square with 5 degrees of freedom and with 1
    waves = rng.standard_normal((f, _WAVES)) / np.sqrt(squares / _FREEDOM)
    return waves, np.sqrt(2.0 * ratio / (1.0 + ratio) / _WAVES)


def _features(places: Array, waves: Array, sizes: Array, slopes: Array) -> Array:
    """Returns features [m, 2 w + f + 1] whose products are the kernel's prior covariance, on average over waves."""
    phase = places @ waves
    level = np.ones((len(places), 1))
    return np.hstack([np.sin(phase) * sizes, np.cos(phase) * sizes, (places - 0.5) * slopes, level])
