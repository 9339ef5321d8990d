"""Metrics of the roster: whether there are enough arrivals for a grade to mean anything.

Source of the definitions: ENGINE facts, section 3, the gate table's last row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.surface import Categories
from lanelock.policies import Pack, load_pack
from lanelock.scoring.gates import load_gates

GATES = "segment_2b"  # the gate file of these metrics
_MIXES = ("class_mix", "channel_mix")


@dataclass(frozen=True, slots=True)
class RosterSample:
    """What the metrics need from a roster, or from the arrivals of some of its merchants."""

    rows: int
    days: frozenset[str]  # days with an arrival
    merchant_days: int  # merchant-days with an arrival
    repeated: int  # merchant-days with two or more
    pairs: frozenset[tuple[str, str]]  # (class, channel) that occur together
    expected: frozenset[tuple[str, str]]  # those that must occur


def sample_roster(run: Run) -> RosterSample:
    """Returns the counts of a roster's arrivals, and the days and pairs that occur."""
    roster = run.surfaces["s5_arrival_roster"]
    day, klass, channel = (_categories(roster[name]) for name in ("utc_day", "arrival_class", "channel"))
    merchant, _ = pd.factorize(np.asarray(roster["merchant_id"]))
    per_merchant_day = np.bincount(merchant * len(day.values) + day.codes)
    width = len(channel.values)
    pairs = np.flatnonzero(np.bincount(klass.codes.astype(np.int64) * width + channel.codes))
    return RosterSample(
        rows=roster.rows,
        days=frozenset(day.values[code] for code in np.flatnonzero(np.bincount(day.codes))),
        merchant_days=int(np.count_nonzero(per_merchant_day)),
        repeated=int(np.count_nonzero(per_merchant_day >= 2)),
        pairs=frozenset((klass.values[pair // width], channel.values[pair % width]) for pair in pairs),
        expected=_expected(run),
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
        "s5/class_channel_coverage": len(pairs & samples[0].expected) / len(samples[0].expected),
    }


def _expected(run: Run) -> frozenset[tuple[str, str]]:
    """Returns the pairs that must occur: those of the run's pack, and those of the baseline, which it retains.

    An imported roster has the classes and channels of its owner, whatever the baseline draws.
    """
    imported = run.sealed is not None and "arrival_roster" in run.sealed.digests()
    return _declared(run.pack) | (frozenset() if imported else _retained())


@cache
def _retained() -> frozenset[tuple[str, str]]:
    """Returns the pairs of the pack that the gate file names as baseline."""
    return _declared(load_pack(load_gates(GATES).document["baseline"], SEGMENT_2B.policy_schemas))


def _declared(pack: Pack) -> frozenset[tuple[str, str]]:
    """Returns the (class, channel) pairs with a weight in a pack."""
    law = pack["route_rng_policy_v1"]["roster"]
    classes, channels = ([name for name, weight in law[mix].items() if weight > 0] for mix in _MIXES)
    return frozenset(product(classes, channels))


def _categories(column: Any) -> Categories:
    assert isinstance(column, Categories)
    return column
