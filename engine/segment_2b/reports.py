"""The run report of each state: the rows it wrote and the audit's findings. No timings: those differ between hosts."""

from __future__ import annotations

from typing import Any

import numpy as np

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.states.s3_day_effects import clipped_rows
from lanelock.engine.segment_2b.tables import TABLES


def state_reports(run: Run) -> dict[str, dict[str, Any]]:
    """Returns state -> report: `summary.overall_status` and `fail_count`, rows of each surface, checks by name."""
    reports = {}
    for state in ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7"):
        checks = [check for check in run.audit.checks if state in (check.state, "S7")]
        failed = [check.name for check in checks if not check.passed]
        reports[state] = {
            "summary": {"overall_status": "FAIL" if failed else "PASS", "fail_count": len(failed), "failed": failed},
            "rows": {name: surface.rows for name, surface in run.surfaces.items() if TABLES[name].state == state},
            "checks": {check.name: {"rows": check.rows, "failures": check.failures} for check in checks},
        }
    reports["S3"]["rng_accounting"] = _day_effect_draws(run)
    return reports


def _day_effect_draws(run: Run) -> dict[str, Any]:
    """Returns how many draws S3 made, and how many gave an odd or clipped gamma."""
    surface = run.surfaces["s3_day_effects"]
    gamma = np.asarray(surface["gamma"])
    return {
        "rows_written": surface.rows,
        "nonpositive_gamma_rows": int(np.count_nonzero(~(gamma > 0.0))),
        "gamma_clipped_rows": clipped_rows(gamma, run.pack["day_effect_policy_v1"]),
        "max_abs_log_gamma": float(np.max(np.abs(np.asarray(surface["log_gamma"])))),
    }
