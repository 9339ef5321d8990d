"""The record's consumers: the scorers of the phases P0 to P3 and the analyser of the tail floor.

They read files only. Medians run over all merchants or merchant-days; quantiles of the record take the nearest rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from record_readers import datasets
from record_readers.kinds import Unreadable, refuse
from record_readers.tree import Tree


def p0_scores(tree: Tree) -> dict[str, Any]:
    """Returns what the roster can show: days, arrivals, and whether any merchant comes twice in a day."""
    rows = tree.table(datasets.ROSTER)
    per_day = rows.group_by(["merchant_id", "utc_day"]).aggregate([([], "count_all")])["count_all"]
    return {
        "arrivals": rows.num_rows,
        "days": len(pc.unique(rows["utc_day"])),
        "merchants": len(pc.unique(rows["merchant_id"])),
        "repeated": bool(len(per_day)) and pc.max(per_day).as_py() > 1,
    }


def p1_scores(tree: Tree) -> dict[str, float]:
    """Returns S1's residual, gap and spread of concentration."""
    rows = tree.table(datasets.S1)
    weights = _split(rows, rows["p_weight"].to_numpy())
    hhi = [float((one**2).sum()) for one in weights]
    tops = [np.sort(one)[::-1] for one in weights]
    return {
        "s1/residual": float(np.median([np.median(np.abs(one - 1.0 / len(one))) for one in weights])),
        "s1/gap": float(np.median([top[0] - top[1] if len(top) > 1 else top[0] for top in tops])),
        "s1/hhi_iqr": _nearest(hhi, 0.75) - _nearest(hhi, 0.25),
    }


def p2_scores(tree: Tree) -> dict[str, Any]:
    """Returns what S3's run report accounts for, and whether every state's report passes."""
    report = tree.document(datasets.report("S3"))
    rows, accounting = report["samples"]["rows"], report["rng_accounting"]
    if not rows:
        refuse(datasets.report("S3").path, "no sample to score")
    summaries = [tree.document(datasets.report(state))["summary"] for state in datasets.STATES]
    return {
        "s3/clipped_share": accounting["gamma_clipped_rows"] / accounting["rows_written"],
        "s3/nonpositive_rows": accounting["nonpositive_gamma_rows"],
        "s3/max_abs_log_gamma": accounting["max_abs_log_gamma"],
        "sources": sorted({row["sigma_source"] for row in rows}),
        "sigma_values": [row["sigma_value"] for row in rows],
        "weekly": any(row["weekly_amp"] for row in rows),
        "passes": all(one["overall_status"] == "PASS" and not one["fail_count"] for one in summaries),
    }


def p3_scores(tree: Tree) -> dict[str, Any]:
    """Returns S4's numbers and the verdict of the bundle: without a flag that passes its files it is FAIL."""
    top, big, entropy, error = _mixes(tree.table(datasets.S4))
    return {
        "s4/max_p_median": float(np.median(top)),
        "s4/tail_share": float((top >= 0.95).mean()),
        "s4/multigroup_share": float((big >= 2).mean()),
        "s4/entropy_p50": float(np.median(entropy)),
        "s4/mass_error_max": float(error.max()),
        "s3/merchant_std_median": _spread(tree.table(datasets.S3)),
        "s1/gap": p1_scores(tree)["s1/gap"],
        "bundle": _bundle_verdict(tree),
    }


def floor_shares(tree: Tree) -> dict[str, float]:
    """Returns the share of merchants with a single zone, which the tail share cannot go below."""
    zones = tree.table(datasets.SITE_ZONES).group_by(["merchant_id"]).aggregate([("tzid", "count_distinct")])
    return {"single_group_share": float((zones["tzid_count_distinct"].to_numpy() == 1).mean())}


def _bundle_verdict(tree: Tree) -> str:
    try:
        tree.bundle(datasets.BUNDLE)
    except Unreadable:
        return "FAIL"
    return "PASS"


def _split(rows: pa.Table, values: NDArray[Any]) -> list[NDArray[Any]]:
    """Returns the values of each merchant."""
    _, starts = np.unique(rows["merchant_id"].to_numpy(), return_index=True)
    return np.split(values, starts[1:])


def _nearest(values: list[float], share: float) -> float:
    """Returns the quantile at the nearest rank."""
    return sorted(values)[round(share * (len(values) - 1))]


def _spread(rows: pa.Table) -> float:
    """Returns the median of merchants' standard deviations of gamma."""
    return float(np.median([np.std(one, ddof=1) for one in _split(rows, rows["gamma"].to_numpy())]))


def _mixes(rows: pa.Table) -> tuple[NDArray[np.float64], ...]:
    """Returns per merchant-day: greatest share, zones of .05 or more, entropy (nats), distance of the sum from one."""
    merchant, day = rows["merchant_id"].to_numpy(), rows["utc_day"].combine_chunks().dictionary_encode()
    codes, p = day.indices.to_numpy(), rows["p_group"].to_numpy()
    starts = np.flatnonzero(np.r_[True, (merchant[1:] != merchant[:-1]) | (codes[1:] != codes[:-1])])
    surprise = np.where(p > 0.0, -p * np.log(np.where(p > 0.0, p, 1.0)), 0.0)
    return (
        np.maximum.reduceat(p, starts),
        np.add.reduceat((p >= 0.05).astype(np.int64), starts),
        np.add.reduceat(surprise, starts),
        np.abs(np.add.reduceat(p, starts) - 1.0),
    )
