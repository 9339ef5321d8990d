"""The run report of each state: the rows it wrote, what it counted and the audit's findings.

No timings: those differ between hosts.
"""

from __future__ import annotations

from typing import Any

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.counters import counters_of, day_effect_draws
from lanelock.engine.segment_2b.tables import TABLES


def state_reports(run: Run) -> dict[str, dict[str, Any]]:
    """Returns state -> report: `summary.overall_status` and `fail_count`, rows of each surface, counters, checks."""
    counters, reports = counters_of(run), {}
    for state in ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7"):
        checks = [check for check in run.audit.checks if state in (check.state, "S7")]
        failed = [check.name for check in checks if not check.passed]
        reports[state] = {
            "summary": {"overall_status": "FAIL" if failed else "PASS", "fail_count": len(failed), "failed": failed},
            "rows": {name: surface.rows for name, surface in run.surfaces.items() if TABLES[name].state == state},
            "counters": counters[state],
            "checks": {check.name: {"rows": check.rows, "failures": check.failures} for check in checks},
        }
    reports["S3"]["rng_accounting"] = day_effect_draws(run)
    return reports
