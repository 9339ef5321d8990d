"""A bound of an SQL expression over rows that are drawn again, by SciPy's bootstrap, with a seed of its own."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.policies import DataError
from lanelock.scoring.gates import Confidence
from lanelock.scoring.queries import Sql, number, quoted, run

MOST = 200_000_000  # rows that one bound may draw
_AT_ONCE = 2_000_000  # rows in one query
_GROUP = "lanelock resample"


def bound_of(expression: Sql, rows: pa.Table, asked: Confidence, comparison: str, seed: int, where: str) -> float:
    """Returns the pessimistic end of the bound that a gate asks for; NaN for fewer than two rows.

    The same rows, expression and run seed give the same bound. Raises DataError where too many rows would be drawn.
    """
    count = len(rows)
    drawn = count * (asked.resamples + (count if asked.method == "bca" else 0))
    if drawn > MOST:
        raise DataError(
            f"{where}: {asked.method} would draw {drawn:.3g} rows of {MOST:.3g}: ask for fewer resamples, or for wilson"
        )
    if count < 2:
        return math.nan
    from scipy.stats import bootstrap  # takes half a second

    def statistic(places: NDArray[np.intp], axis: int = -1) -> Any:
        return _of_each(expression, rows, np.moveaxis(places, axis, -1), where)

    with np.errstate(all="ignore"):
        interval = bootstrap(
            (np.arange(count),), statistic, n_resamples=asked.resamples, batch=max(1, _AT_ONCE // count),
            vectorized=True, confidence_level=asked.level, alternative="greater" if comparison == ">=" else "less",
            method="BCa" if asked.method == "bca" else "percentile", rng=_generator(expression, seed),
        ).confidence_interval  # fmt: skip
    return float(interval.low if comparison == ">=" else interval.high)


def _generator(expression: Sql, seed: int) -> np.random.Generator:
    """Returns the generator of a run and an expression."""
    digest = hashlib.sha256(f"{seed}\n{expression.text}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "big")))


def _of_each(expression: Sql, rows: pa.Table, places: NDArray[np.intp], where: str) -> Any:
    """Returns the expression over the rows at each row of places [..., n]; a single number for places [n]."""
    flat = places.reshape(-1, places.shape[-1])
    group = pa.array(np.repeat(np.arange(len(flat)), flat.shape[1]))
    table = rows.take(pa.array(flat.ravel())).append_column(_GROUP, group)
    name = quoted(_GROUP)
    text = f"SELECT {name}, ({expression.text}) FROM rows GROUP BY {name} ORDER BY {name}"
    values = np.array([number(value, where) for _, value in run(text, {"rows": table}, where)])
    return values.reshape(places.shape[:-1]) if places.ndim > 1 else values[0]
