"""Distances of two samples of one column, by SciPy: Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon.

They are rounded to twelve digits, because NumPy chooses the order of a sum and the logarithm by the processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lanelock.policies import DataError

BINS = 20  # of Jensen-Shannon over numbers, where none are stated
_DIGITS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The values of a column, and what each counts."""

    values: NDArray[Any]  # float64, or objects where they are categories
    weights: NDArray[np.float64] | None  # None: every row counts once

    @property
    def numeric(self) -> bool:
        return bool(self.values.dtype.kind == "f")

    @property
    def empty(self) -> bool:
        return len(self.values) == 0 or (self.weights is not None and not self.weights.sum() > 0)


def sample_of(table: pa.Table, column: str, weight: str | None, where: str) -> Sample:
    """Returns a column without its nulls. Raises DataError for a column that is missing or of another kind."""
    for name in filter(None, (column, weight)):
        if table.column_names.count(name) != 1:
            raise DataError(f"{where}: {name!r} is not one of the columns: {', '.join(table.column_names)[:200]}")
    values = table[column]
    there = pc.is_valid(values)
    if weight is None:
        return Sample(_plain(values.filter(there), f"{where}: column {column!r}"), None)
    weights = _plain(table[weight].filter(there), f"{where}: weight {weight!r}")
    if weights.dtype.kind != "f" or not np.all(np.isfinite(weights) & (weights >= 0)):
        raise DataError(f"{where}: weight {weight!r}: weights are finite numbers of 0 or more")
    return Sample(_plain(values.filter(there), f"{where}: column {column!r}"), weights)


def _plain(values: pa.ChunkedArray, where: str) -> NDArray[Any]:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy()
        return numbers
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return np.array(values.cast(pa.string()).to_pylist(), dtype=object)
    raise DataError(f"{where} is {kind}; a distance takes numbers, texts and truth values")


def distance(kind: str, ours: Sample, reference: Sample, where: str, bins: int = BINS) -> float:
    """Returns a distance of two samples; NaN where one is empty or holds a NaN. Raises DataError for unlike kinds."""
    if ours.empty or reference.empty:
        return math.nan
    if ours.numeric != reference.numeric:
        raise DataError(f"{where}: one column holds numbers and the other texts")
    if not ours.numeric and kind != "jensen_shannon":
        raise DataError(f"{where}: {kind} takes numbers; jensen_shannon compares categories")
    if ours.numeric and not (np.isfinite(ours.values).all() and np.isfinite(reference.values).all()):
        return math.nan
    with np.errstate(all="ignore"):  # SciPy also computes a probability, which nobody asks for
        return float(f"{_LAWS[kind](ours, reference, bins):.{_DIGITS}g}")


def _kolmogorov_smirnov(ours: Sample, reference: Sample, bins: int) -> float:
    """Returns the greatest difference of the two distribution functions, from 0 to 1."""
    if ours.weights is None and reference.weights is None:
        from scipy.stats import ks_2samp  # takes half a second

        return float(ks_2samp(ours.values, reference.values, method="asymp").statistic)
    at = np.union1d(ours.values, reference.values)
    return float(np.abs(_below(ours, at) - _below(reference, at)).max())


def _below(sample: Sample, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the share of a sample at or below each point."""
    weights = np.ones(len(sample.values)) if sample.weights is None else sample.weights
    order = np.argsort(sample.values, kind="stable")
    summed = np.concatenate([[0.0], np.cumsum(weights[order])])
    shares: NDArray[np.float64] = summed[np.searchsorted(sample.values[order], at, side="right")] / summed[-1]
    return shares


def _wasserstein(ours: Sample, reference: Sample, bins: int) -> float:
    """Returns how far the mass of one sample is moved to give the other, in the column's unit."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(ours.values, reference.values, ours.weights, reference.weights))


def _jensen_shannon(ours: Sample, reference: Sample, bins: int) -> float:
    """Returns the distance of the two shares by category, or by bin with equal shares of the reference, from 0 to 1."""
    from scipy.spatial.distance import jensenshannon

    if ours.numeric:
        inner = np.unique(np.quantile(reference.values, np.linspace(0, 1, bins + 1)[1:-1]))
        places = [np.searchsorted(inner, sample.values, side="left") for sample in (ours, reference)]
    else:
        known = {name: at for at, name in enumerate(sorted({*ours.values, *reference.values}))}
        places = [np.array([known[value] for value in sample.values]) for sample in (ours, reference)]
    count = max(int(at.max()) for at in places) + 1
    mine, theirs = (
        np.bincount(at, weights=sample.weights, minlength=count)
        for at, sample in zip(places, (ours, reference), strict=True)
    )
    found = float(jensenshannon(mine, theirs, base=2))
    return 0.0 if math.isnan(found) else found  # the root of a rounding below 0: they are the same


_LAWS: Mapping[str, Callable[[Sample, Sample, int], float]] = {
    "kolmogorov_smirnov": _kolmogorov_smirnov,
    "wasserstein": _wasserstein,
    "jensen_shannon": _jensen_shannon,
}
