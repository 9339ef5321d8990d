"""The roster of segment 2B measured: whether there is enough of it for a grade to mean anything.

Source of the definitions: ENGINE facts, section 3, the gate table's last row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.types import Categories, Surface
from policies import Pack


def arrivals(roster: Surface, pack: Pack) -> dict[str, float]:
    """S5: days with arrivals, merchant-days with several, pairs of class and channel that occur."""
    law = pack["route_rng_policy_v1"]["roster"]
    day, klass, channel = (_codes(roster[name]) for name in ("utc_day", "arrival_class", "channel"))
    _, merchant = np.unique(np.asarray(roster["merchant_id"]), return_inverse=True)
    days = int(day.max(initial=-1)) + 1
    per_merchant_day = np.bincount(merchant * days + day)
    seen = per_merchant_day[per_merchant_day > 0]
    pairs = np.unique(klass.astype(np.int64) * len(roster["channel"].values) + channel)  # type: ignore[union-attr]
    declared = [sum(weight > 0 for weight in law[mix].values()) for mix in ("class_mix", "channel_mix")]
    return {
        "s5/arrivals": float(roster.rows),
        "s5/roster_days": float(len(np.unique(day))),
        "s5/repeat_share": float(np.mean(seen >= 2)) if len(seen) else 0.0,
        "s5/class_channel_coverage": len(pairs) / (declared[0] * declared[1]),
    }


def _codes(column: Any) -> Any:
    """A repeated column's codes: which value stands in each row."""
    assert isinstance(column, Categories)
    return column.codes
