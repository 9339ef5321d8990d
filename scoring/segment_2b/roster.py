"""Metrics of the roster: whether there are enough arrivals for a grade to mean anything.

Source of the definitions: ENGINE facts, section 3, the gate table's last row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lanelock.engine.surface import Categories, Surface
from lanelock.policies import Pack


@dataclass(frozen=True, slots=True)
class RosterSample:
    """What the metrics need from a roster, or from the arrivals of some of its merchants."""

    rows: int
    days: frozenset[str]  # days with an arrival
    merchant_days: int  # merchant-days with an arrival
    repeated: int  # merchant-days with two or more
    pairs: frozenset[tuple[str, str]]  # (class, channel) that occur together
    declared: int  # pairs with a weight in the policy


def sample_roster(roster: Surface, pack: Pack) -> RosterSample:
    """Returns the counts of a roster's arrivals, and the days and pairs that occur."""
    law = pack["route_rng_policy_v1"]["roster"]
    day, klass, channel = (_categories(roster[name]) for name in ("utc_day", "arrival_class", "channel"))
    merchant, _ = pd.factorize(np.asarray(roster["merchant_id"]))
    per_merchant_day = np.bincount(merchant * len(day.values) + day.codes)
    width = len(channel.values)
    pairs = np.flatnonzero(np.bincount(klass.codes.astype(np.int64) * width + channel.codes))
    declared = [sum(weight > 0 for weight in law[mix].values()) for mix in ("class_mix", "channel_mix")]
    return RosterSample(
        rows=roster.rows,
        days=frozenset(day.values[code] for code in np.flatnonzero(np.bincount(day.codes))),
        merchant_days=int(np.count_nonzero(per_merchant_day)),
        repeated=int(np.count_nonzero(per_merchant_day >= 2)),
        pairs=frozenset((klass.values[pair // width], channel.values[pair % width]) for pair in pairs),
        declared=declared[0] * declared[1],
    )


def arrivals(samples: Sequence[RosterSample]) -> dict[str, float]:
    """Returns S5's metrics: arrivals, days with arrivals, merchant-days with several, pairs of class and channel."""
    days = frozenset[str]().union(*(sample.days for sample in samples))
    pairs = frozenset[tuple[str, str]]().union(*(sample.pairs for sample in samples))
    merchant_days = sum(sample.merchant_days for sample in samples)
    return {
        "s5/arrivals": float(sum(sample.rows for sample in samples)),
        "s5/roster_days": float(len(days)),
        "s5/repeat_share": sum(sample.repeated for sample in samples) / merchant_days if merchant_days else 0.0,
        "s5/class_channel_coverage": len(pairs) / samples[0].declared,
    }


def _categories(column: Any) -> Categories:
    assert isinstance(column, Categories)
    return column
