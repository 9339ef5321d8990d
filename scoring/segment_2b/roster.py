"""The roster of segment 2B measured: whether there is enough of it for a grade to mean anything.

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
    """What the metrics need of a roster, or of the part of one that some merchants have."""

    rows: int
    days: frozenset[str]  # with an arrival
    merchant_days: int  # with an arrival
    repeated: int  # of those, with two or more
    pairs: frozenset[tuple[str, str]]  # class and channel, as they occur together
    declared: int  # pairs that the policy gives a weight


def sample_roster(roster: Surface, pack: Pack) -> RosterSample:
    """Counts of the arrivals; of days and pairs, which they are."""
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
    """S5: days with arrivals, merchant-days with several, pairs of class and channel that occur."""
    merchant_days = sum(one.merchant_days for one in samples)
    return {
        "s5/arrivals": float(sum(one.rows for one in samples)),
        "s5/roster_days": float(len(frozenset[Any]().union(*(one.days for one in samples)))),
        "s5/repeat_share": sum(one.repeated for one in samples) / merchant_days if merchant_days else 0.0,
        "s5/class_channel_coverage": len(frozenset[Any]().union(*(one.pairs for one in samples))) / samples[0].declared,
    }


def _categories(column: Any) -> Categories:
    """A repeated column."""
    assert isinstance(column, Categories)
    return column
