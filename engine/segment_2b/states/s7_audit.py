"""S7, the audit: every check over every row, without random numbers, failing closed.

A check reports how many rows it looked at, how many failed, and the first that did. A missing surface, or one
that makes a check raise, is a failure, never a pass; an audit of nothing fails too. Every column of every
surface is covered by some check. The checks of each state are in `s7_weights` and `s7_arrivals`; grades are not
decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.columns import dtype_of
from lanelock.engine.segment_2b.states import s7_arrivals, s7_weights
from lanelock.engine.segment_2b.states.s7_evidence import Evidence, Failing, is_not
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.engine.workers import spread


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    state: str
    passed: bool
    rows: int  # checked
    failures: int
    first: int | None  # row of the first failure, from 0
    reason: str  # empty if it passed


@dataclass(frozen=True, slots=True)
class Audit:
    """The report of S7. Its `rows` are the checks, for the run's report of states."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def rows(self) -> int:
        return len(self.checks)

    def as_document(self) -> dict[str, Any]:
        """Returns the published JSON s7_audit_report."""
        failed = [check.name for check in self.checks if not check.passed]
        summary = {
            "overall_status": "PASS" if self.passed else "FAIL",
            "fail_count": len(failed),
            "failed": failed,
            "checks": len(self.checks),
        }
        metrics = {"rows_checked": sum(check.rows for check in self.checks)}
        return {"checks": [asdict(check) for check in self.checks], "metrics": metrics, "summary": summary}


CHECKS = (*s7_weights.CHECKS, *s7_arrivals.CHECKS)


def audit(evidence: Evidence) -> Audit:
    """Runs every check, whatever the results of the others."""
    contracts = [(f"{name}: contract", spec.state, _contract(name)) for name, spec in TABLES.items()]
    return Audit(tuple(spread(lambda check: _run(*check, evidence), [*contracts, *CHECKS])))


def _run(name: str, state: str, check: Callable[[Evidence], Failing], evidence: Evidence) -> Check:
    try:
        failing = np.atleast_1d(check(evidence))
    except Exception as error:  # a check that cannot be made fails the run
        missing = isinstance(error, KeyError) and error.args[0] in TABLES
        reason = f"the surface {error.args[0]} is missing" if missing else f"{type(error).__name__}: {error}"
        return Check(name, state, False, 0, 1, None, reason)
    count = int(np.count_nonzero(failing))
    first = int(np.argmax(failing)) if count else None
    return Check(name, state, count == 0, len(failing), count, first, f"row {first}" if count else "")


# --- every surface: its columns, its key, its order -------------------------------------------------------


def _contract(name: str) -> Callable[[Evidence], Failing]:
    """Returns a check, per row: columns have the declared types and equal lengths; the key strictly ascends, so it is
    unique; created_utc is the sealed time."""

    def check(evidence: Evidence) -> Failing:
        surface, spec = evidence[name], TABLES[name]
        _conform(surface, spec.schema)
        failing = np.zeros(surface.rows, np.bool_)
        equal = np.ones(max(surface.rows - 1, 0), np.bool_)
        above = ~equal
        for key in (_ordinal(surface[column]) for column in spec.key):
            above |= equal & (key[1:] > key[:-1])
            equal &= key[1:] == key[:-1]
        failing[1:] = ~above
        if "created_utc" in surface.columns:
            failing |= is_not(surface["created_utc"], evidence.sealed.created_utc)
        return failing

    return check


def _conform(surface: Surface, schema: pa.Schema) -> None:
    """Raises ValueError unless the columns are those declared, of the declared types and of equal length."""
    if list(surface.columns) != schema.names or len({len(surface[name]) for name in schema.names}) != 1:
        raise ValueError(f"columns {list(surface.columns)} are not those declared")
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = surface[name]
        if isinstance(column, Categories):
            fits = pa.types.is_string(kind)
            if surface.rows and not 0 <= column.codes.min() <= column.codes.max() < len(column.values):
                raise ValueError(f"{name}: a code is past the {len(column.values)} values")
        else:
            fits = column.dtype == dtype_of(kind)
        if not fits:
            raise ValueError(f"{name}: not held as {kind}")


def _ordinal(column: Column) -> NDArray[Any]:
    """Returns numbers in the same order as the column's values."""
    if not isinstance(column, Categories):
        return np.unique(column, return_inverse=True)[1] if column.dtype == object else column
    rank = np.empty(len(column.values), np.int64)
    rank[np.argsort(np.array(column.values, object), kind="stable")] = np.arange(len(column.values))
    return np.asarray(rank[column.codes])
