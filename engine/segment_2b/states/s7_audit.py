"""S7, the audit: every check over every row, without random numbers, failing closed.

A check states how many rows it looked at, how many failed, and the first that did. A surface that is missing,
or that breaks a check in a way the check did not foresee, is a failure, never a pass: the audit of nothing
fails. Every column of every surface is asked of by some check. What is asked of each state stands in
`s7_weights` and `s7_arrivals`; what the numbers mean for a grade is not asked here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.keep.columns import dtype_of
from lanelock.engine.segment_2b.states import s7_arrivals, s7_weights
from lanelock.engine.segment_2b.states.s7_evidence import Evidence, Failing, is_not
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.engine.workers import spread


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    state: str
    passed: bool
    rows: int  # looked at
    failures: int
    first: int | None  # row of the first failure, from 0
    reason: str  # empty where it passed


@dataclass(frozen=True, slots=True)
class Audit:
    """The report of S7. `rows` counts the audited checks, as a surface's rows are counted."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def rows(self) -> int:
        return len(self.checks)

    def as_document(self) -> dict[str, Any]:
        """The published JSON s7_audit_report."""
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
    """Every check, whatever the others found."""
    contracts = [(f"{name}: contract", spec.state, _contract(name)) for name, spec in TABLES.items()]
    return Audit(tuple(spread(lambda check: _run(*check, evidence), [*contracts, *CHECKS])))


def _run(name: str, state: str, check: Callable[[Evidence], Failing], evidence: Evidence) -> Check:
    try:
        failing = np.atleast_1d(check(evidence))
    except Exception as error:  # whatever keeps a check from being made keeps the run from passing
        missing = isinstance(error, KeyError) and error.args[0] in TABLES
        reason = f"the surface {error.args[0]} is missing" if missing else f"{type(error).__name__}: {error}"
        return Check(name, state, False, 0, 1, None, reason)
    count = int(np.count_nonzero(failing))
    first = int(np.argmax(failing)) if count else None
    return Check(name, state, count == 0, len(failing), count, first, f"row {first}" if count else "")


# --- every surface: its columns, its key, its order -------------------------------------------------------


def _contract(name: str) -> Callable[[Evidence], Failing]:
    """Columns and their types as declared, equally long; the key strictly ascends, so it is unique too; the stamp is
    the sealed time."""

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
    """Raises ValueError where columns are not those declared, in their types and of one length."""
    if list(surface.columns) != schema.names or len({len(surface[name]) for name in schema.names}) != 1:
        raise ValueError(f"columns {list(surface.columns)} are not those declared")
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = surface[name]
        if isinstance(column, Categories):
            held = pa.types.is_string(kind)
            if surface.rows and not 0 <= column.codes.min() <= column.codes.max() < len(column.values):
                raise ValueError(f"{name}: a code is past the {len(column.values)} values")
        else:
            held = column.dtype == dtype_of(kind)
        if not held:
            raise ValueError(f"{name}: not held as {kind}")


def _ordinal(column: Column) -> NDArray[Any]:
    """Numbers in the order of the column's values."""
    if not isinstance(column, Categories):
        return np.unique(column, return_inverse=True)[1] if column.dtype == object else column
    rank = np.empty(len(column.values), np.int64)
    rank[np.argsort(np.array(column.values, object), kind="stable")] = np.arange(len(column.values))
    return np.asarray(rank[column.codes])
