"""Gaussian processes on the unit cube: a kernel, its fit, predictions, and leave-one-out errors in closed form.

The kernel is a constant, plus a line in each coordinate, plus Matern 5/2, every coordinate with its own slope and
lengthscale. An output's scale is not fitted: it follows from the other hyperparameters in closed form, so outputs of
different scale can share a kernel, and its factor where they were measured on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, dtrtri
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

_ROOT5 = math.sqrt(5.0)
# Priors are log-normal: a median, and a width in the logarithm.
_LENGTH, _LENGTH_SD = 1.0, 1.0  # of a lengthscale, over the root of the dimension
_SLOPE, _SLOPE_SD = 1.0, 1.5  # of a slope, times the root of the dimension
_NOISE, _NOISE_SD = 1e-4, 2.0  # of the noise's share of an output's variance
_SCALE_ROWS = 2.0  # rows that the prior of an output's scale counts for
_JITTER = 1e-9
FIT_ROWS = 128  # rows that hyperparameters are fitted on; more would cost time and tell little


@dataclass(frozen=True, slots=True)
class Kernel:
    """The correlation between places in the unit cube."""

    lengths: Array  # [d] of Matern 5/2
    slopes: Array  # [d] standard deviation of the line in each coordinate
    noise: float  # variance

    @classmethod
    def typical(cls, d: int) -> Kernel:
        """Returns the prior's median."""
        root = math.sqrt(d)
        return cls(np.full(d, _LENGTH * root), np.full(d, _SLOPE / root), _NOISE)

    def between(self, a: Array, b: Array) -> Array:
        """Returns the covariance [a, b] of the places a [a, d] and b [b, d], without noise."""
        covariance = _matern(squared(a / self.lengths, b / self.lengths))
        covariance += ((a - 0.5) * self.slopes**2) @ (b - 0.5).T
        covariance += 1.0
        return covariance

    def variance(self, at: Array) -> Array:
        """Returns the variance [m] at places [m, d], without noise."""
        return np.asarray(2.0 + ((at - 0.5) ** 2) @ self.slopes**2)


@dataclass(frozen=True, slots=True)
class Process:
    """Outputs measured on the same rows, with one kernel and a scale each."""

    kernel: Kernel
    rows: Array  # [n, d]
    outputs: Array  # [n, q]
    inner: Array  # [n, n] inverse of the covariance's lower Cholesky factor
    weights: Array  # [n, q] inverse of the covariance times the outputs
    scales: Array  # [q] in the outputs' units

    @classmethod
    def of(cls, kernel: Kernel, rows: Array, outputs: Array, scales: Array | None = None) -> Process:
        """Returns the posterior given outputs [n, q] of mean about zero; `scales` [q] are estimated where not given."""
        covariance = kernel.between(rows, rows)
        covariance[np.diag_indices(len(rows))] += kernel.noise + _JITTER
        inner, _ = dtrtri(np.linalg.cholesky(covariance), lower=1)
        whitened = inner @ outputs
        if scales is None:
            prior = _SCALE_ROWS * outputs.var(axis=0)
            scales = np.sqrt(((whitened**2).sum(axis=0) + prior) / (len(rows) + _SCALE_ROWS))
        return cls(kernel, rows, outputs, inner, inner.T @ whitened, scales)

    def at(self, places: Array) -> tuple[Array, Array]:
        """Returns mean and standard deviation [m, q] at places [m, d]."""
        cross = self.kernel.between(places, self.rows)
        whitened = cross @ self.inner.T
        explained = np.einsum("mn,mn->m", whitened, whitened)
        rest = np.sqrt(np.maximum(self.kernel.variance(places) - explained, 1e-12))
        return cross @ self.weights, rest[:, None] * self.scales

    def believing(self, places: Array) -> Process:
        """Returns the posterior as it will be if the places [m, d] measure their means."""
        if not len(places):
            return self
        outputs = np.vstack([self.outputs, self.at(places)[0]])
        return Process.of(self.kernel, np.vstack([self.rows, places]), outputs, self.scales)

    def left_out(self) -> tuple[Array, Array]:
        """Returns mean and standard deviation [n, q] of each measured output, predicted from all other rows.

        Hyperparameters and scales stay as fitted on all rows. The standard deviation counts the noise.
        """
        inverse = (self.inner**2).sum(axis=0)[:, None]
        return self.outputs - self.weights / inverse, self.scales / np.sqrt(inverse)


@dataclass(frozen=True, slots=True)
class Curve:
    """One process in the units of its output."""

    process: Process
    mean: float
    spread: float

    def at(self, places: Array) -> tuple[Array, Array]:
        """Returns mean and standard deviation [m] at places [m, d]."""
        mean, sd = self.process.at(places)
        return self.mean + self.spread * mean[:, 0], self.spread * sd[:, 0]

    def left_out(self) -> tuple[Array, Array]:
        """Returns mean and standard deviation [n] of each output, predicted from all other rows."""
        mean, sd = self.process.left_out()
        return self.mean + self.spread * mean[:, 0], self.spread * sd[:, 0]


def curve(rows: Array, outputs: Array) -> Curve:
    """Returns the process fitted to outputs [n] at rows [n, d] of the unit cube."""
    mean, spread = float(outputs.mean()), float(outputs.std()) or 1.0
    standard = ((outputs - mean) / spread)[:, None]
    with one_thread():
        return Curve(Process.of(fit(rows, standard[:, 0]), rows, standard), mean, spread)


def fit(rows: Array, outputs: Array, steps: int = 60) -> Kernel:
    """Returns the kernel of greatest posterior density for standardised outputs [n] at rows [n, d].

    Starts cold, at the prior's median, so that the same rows always give the same kernel.
    """
    if len(rows) > FIT_ROWS:
        some = np.unique(np.linspace(0, len(rows) - 1, FIT_ROWS).round().astype(int))
        rows, outputs = rows[some], outputs[some]
    d = rows.shape[1]
    squares = np.ascontiguousarray(((rows[:, None, :] - rows[None, :, :]) ** 2).reshape(-1, d).T)
    bounds = [(-5.0, 5.0)] * d + [(-7.0, 4.0)] * d + [(math.log(1e-8), math.log(0.3))]
    found = minimize(
        cost, _logs(Kernel.typical(d)), (rows, outputs, squares), "L-BFGS-B", jac=True, bounds=bounds,
        options={"maxiter": steps},
    )  # fmt: skip
    return _of_logs(found.x)


def cost(logs: Array, rows: Array, outputs: Array, squares: Array) -> tuple[float, Array]:
    """Returns the negative log posterior density of hyperparameters, and its gradient.

    `logs` [2 d + 1] are the logarithms of lengths, slopes and noise; `squares` [d, n n] the squared differences of the
    rows in each coordinate. The output's scale is integrated out.
    """
    kernel, (n, d) = _of_logs(logs), rows.shape
    centred, shape = rows - 0.5, (len(rows), len(rows))
    radius = np.sqrt(kernel.lengths**-2 @ squares).reshape(shape)
    decay = np.exp(-_ROOT5 * radius)
    covariance = 1.0 + (centred * kernel.slopes**2) @ centred.T + (1 + _ROOT5 * radius + 5 / 3 * radius**2) * decay
    covariance[np.diag_indices(n)] += kernel.noise + _JITTER
    factor, failed = dpotrf(covariance, lower=1)
    if failed:
        return 1e10, np.zeros_like(logs)
    half = 0.5 * (n + _SCALE_ROWS)
    inverse = _mirrored(dpotri(factor, lower=1)[0])
    weights = inverse @ outputs
    energy = outputs @ weights + _SCALE_ROWS * outputs.var()
    off, prior = _prior(logs, d)
    value = np.log(np.diag(factor)).sum() + half * math.log(max(energy, 1e-300)) + prior
    pull = 0.5 * inverse - (half / max(energy, 1e-300)) * np.outer(weights, weights)  # of each covariance
    matern = (pull * (5 / 3 * (1 + _ROOT5 * radius) * decay)).ravel()
    gradient = np.concatenate([
        (squares @ matern) * kernel.lengths**-2,
        2 * kernel.slopes**2 * np.einsum("nd,nd->d", centred, pull @ centred),
        [kernel.noise * np.trace(pull)],
    ])  # fmt: skip
    return value, gradient + off


def _prior(logs: Array, d: int) -> tuple[Array, float]:
    """Returns the gradient and the value of the hyperparameters' negative log prior density."""
    widths = np.concatenate([np.full(d, _LENGTH_SD), np.full(d, _SLOPE_SD), [_NOISE_SD]])
    away = (logs - _logs(Kernel.typical(d))) / widths
    return away / widths, float(0.5 * away @ away)


def _logs(kernel: Kernel) -> Array:
    return np.asarray(np.log(np.concatenate([kernel.lengths, kernel.slopes, [kernel.noise]])))


def _of_logs(logs: Array) -> Kernel:
    d = len(logs) // 2
    return Kernel(np.exp(logs[:d]), np.exp(logs[d:-1]), math.exp(logs[-1]))


def squared(a: Array, b: Array) -> Array:
    """Returns the squared distances [a, b] of places a [a, d] and b [b, d]."""
    squares = a @ (-2.0 * b.T)
    squares += (a**2).sum(axis=1)[:, None]
    squares += (b**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0.0, out=squares))


def _matern(squares: Array) -> Array:
    """Returns Matern 5/2 of squared distances; overwrites them."""
    squares *= 5.0
    radius = np.sqrt(squares, out=squares)
    decay = np.exp(-radius)
    decay *= 1.0 + radius * (1.0 + radius / 3.0)
    return decay


def _mirrored(lower: Array) -> Array:
    """Returns the symmetric matrix of a lower triangle."""
    whole = np.tril(lower)
    return np.asarray(whole + np.tril(whole, -1).T)


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps linear algebra on one thread, since another order of summation would give other last bits."""
    with _pools().limit(limits=1):
        yield
