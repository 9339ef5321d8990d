"""Segment 2B measured: every metric over every row, and the artifact detectors.

Metrics read surfaces (and, for what backs them, the world); they never ask how a state computed. What does
not depend on a trial's knobs is measured once a world or surface and remembered as long as that lives.
Source of the definitions: ENGINE facts, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Surface
from lanelock.scoring.feasibility import Bound, Box
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.gates import GateSet
from lanelock.scoring.segment_2b.bounds import segment_2b_bounds
from lanelock.scoring.segment_2b.figures import segment_2b_figures
from lanelock.scoring.segment_2b.roster import arrivals, sample_roster
from lanelock.scoring.segment_2b.samples import (
    MOVED_BITS,
    DaySample,
    MixSample,
    SiteSample,
    cells_of,
    sample_days,
    sample_mix,
    sample_sites,
)
from lanelock.scoring.segment_2b.world import sample_world, world_metrics

ATOM_WIDTH = 1e-9
BIN, GAP, SIDE = 4, 1, 16  # cells: the narrow bin (.01), what is left out beside it, the neighbourhood (.04)


class Segment2BMetrics:
    """The metric source of segment 2B."""

    name = "segment_2b"
    gates_file = "segment_2b"

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[World | Surface, dict[str, float]] = WeakKeyDictionary()

    def measure(self, run: Run) -> dict[str, float]:
        """Metrics of the world and of the surfaces that the run has: the reduction of its one sample."""
        found = dict(self._once(run.upstream, lambda: world_metrics([sample_world(run.upstream)])))
        for name in _MEASURES:
            if name in run.surfaces:
                found |= self._once(run.surfaces[name], partial(_whole, name, run))
        return found

    def sample(self, run: Run) -> dict[str, Any]:
        """What the metrics need of a shard, by surface: small beside the surfaces, which may then go."""
        taken = {name: take(run) for name, (take, _) in _MEASURES.items() if name in run.surfaces}
        return {"world": sample_world(run.upstream), **taken}

    def reduce(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The metrics of a run from the samples of all its shards; wherever it was cut, the same to the last bit."""
        found = world_metrics([sample["world"] for sample in samples])
        for name, (_, reduce) in _MEASURES.items():
            if all(name in sample for sample in samples):
                found |= reduce([sample[name] for sample in samples])
        return found

    def bounds(self, box: Box) -> list[Bound]:
        """What no trial of a lane can pass on one seed."""
        return list(segment_2b_bounds(box, self.measure))

    def figures(self, candidate: Run, authority: Run, gates: GateSet) -> list[Figure]:
        """Returns the distributions behind the gates, drawn when they are shown."""
        return list(segment_2b_figures(authority, candidate, gates))

    def _once(self, part: World | Surface, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        if part not in self._known:
            self._known[part] = measure()
        return self._known[part]


def _whole(name: str, run: Run) -> dict[str, float]:
    """The metrics of one surface that is whole: the reduction of its one sample."""
    take, reduce = _MEASURES[name]
    return reduce([take(run)])


def site_weights(samples: Sequence[SiteSample]) -> dict[str, float]:
    """S1: how far from even, how far the first site leads, how merchants differ."""
    low, high = np.quantile(_all(samples, "hhi"), [0.25, 0.75])
    return {
        "s1/residual": float(np.median(_all(samples, "residual"))),
        "s1/gap": float(np.median(_all(samples, "gap"))),
        "s1/hhi_iqr": float(high - low),
    }


def day_effects(samples: Sequence[DaySample]) -> dict[str, float]:
    """S3: how merchants' days differ, and whether gamma stays within what it may be."""
    spread = _all(samples, "spread")
    spread = spread[np.isfinite(spread)]
    middle = float(np.median(spread)) if len(spread) else np.nan
    return {
        "s3/merchant_std_median": middle,
        "s3/merchant_std_upper_tail": float(np.quantile(spread, 0.9) / middle) if middle > 0 else np.nan,
        "s3/tz_nonzero_share": _share(_sum(samples, "varied"), _sum(samples, "several")),
        "s3/clipped_share": _share(_sum(samples, "clipped"), _sum(samples, "rows")),
        "s3/nonpositive_rows": float(_sum(samples, "nonpositive")),
        "s3/max_abs_log_gamma": float(np.max([one.max_abs_log_gamma for one in samples])),
    }


def group_weights(samples: Sequence[MixSample]) -> dict[str, float]:
    """S4: how days mix their groups, what the regularizer moved, and the artifacts it must not leave."""
    top, entropy, multi = (_all(samples, name) for name in ("top", "entropy", "multi"))
    days, several = len(top), int(np.count_nonzero(multi))
    moved = [one.moved for one in samples]
    return {
        "s4/max_p_median": float(np.median(top)),
        "s4/tail_share": _share(_sum(samples, "tail"), days),
        "s4/multigroup_share": _share(_sum(samples, "visible"), days),
        "s4/entropy_p50": float(np.median(entropy)),
        "s4/mass_error_max": float(np.max([one.mass_error for one in samples])),
        "s4/single_group_share": _share(days - several, days),
        "s4/tail_share_multi": _share(_sum(samples, "tail_multi"), several),
        "s4/intervention": np.nan if None in moved else _share(sum(moved), days << MOVED_BITS),  # type: ignore[arg-type]
        "s4/atom_share": max(atom_share(top[multi]), atom_share(entropy[multi])),
        "s4/rank_inversions": float(_sum(samples, "inversions")),
        "s4/groups_without_site": float(_sum(samples, "unbacked")),
        "s4/cliff": _cliff(_cells(samples, "cells"), _cells(samples, "raw_cells")),
    }


def atom_share(values: NDArray[np.float64]) -> float:
    """The greatest share of `values` that lie within 1e-9 of one another; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    ordered = np.sort(values)
    most = int(_longest_within(ordered, ATOM_WIDTH))
    return most / len(values) if most > 1 else 0.0


def cliff(after: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """How much more mass one bin of max_p, .01 wide, holds than the raw mix and a smooth curve put there.

    Every place of the bin is tried, on cells of .0025, not the policy's cap alone: a law may pile mass up
    elsewhere. The smooth curve is the denser of the two neighbourhoods, .04 wide on either side and a cell
    away, so that neither a slope nor the end of the support counts as a cliff. Shares of the days given.
    """
    return _cliff(cells_of(after), cells_of(before))


def _cliff(after: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    if not after.any():
        return 0.0
    found, raw = after / after.sum(), before / before.sum()
    pad = np.zeros(SIDE + GAP)
    run = np.concatenate([[0.0], np.cumsum(np.concatenate([pad, found, pad]))])
    at = np.arange(len(found) - BIN + 1) + len(pad)  # first cell of each bin, in padded places
    inside = run[at + BIN] - run[at]
    left = (run[at - GAP] - run[at - GAP - SIDE]) * BIN / SIDE
    right = (run[at + BIN + GAP + SIDE] - run[at + BIN + GAP]) * BIN / SIDE
    raw_run = np.concatenate([[0.0], np.cumsum(raw)])
    unforced = raw_run[BIN:] - raw_run[:-BIN]
    return max(0.0, float(np.max(inside - np.maximum(unforced, np.maximum(left, right)))))


def _all(samples: Sequence[Any], name: str) -> NDArray[Any]:
    """One array's values over all samples."""
    return np.concatenate([getattr(one, name) for one in samples])


def _sum(samples: Sequence[Any], name: str) -> int:
    return sum(int(getattr(one, name)) for one in samples)


def _cells(samples: Sequence[MixSample], name: str) -> NDArray[np.int64]:
    return np.asarray(np.sum([getattr(one, name) for one in samples], axis=0))


def _share(part: int, whole: int) -> float:
    """Of integers, so that it is the nearest double whatever they were summed from; NaN of nothing."""
    return part / whole if whole else np.nan


@compiled
def _longest_within(ordered: Any, width: float) -> int:
    longest, first = 0, 0
    for last in range(len(ordered)):
        while ordered[last] - ordered[first] > width:
            first += 1
        longest = max(longest, last - first + 1)
    return longest


_MEASURES: Mapping[str, tuple[Callable[[Run], Any], Callable[[Any], dict[str, float]]]] = {
    "s1_site_weights": (lambda run: sample_sites(run.surfaces["s1_site_weights"]), site_weights),
    "s3_day_effects": (
        lambda run: sample_days(run.surfaces["s3_day_effects"], run.pack["day_effect_policy_v1"]), day_effects,
    ),
    "s4_group_weights": (lambda run: sample_mix(run.surfaces["s4_group_weights"], run.upstream), group_weights),
    "s5_arrival_roster": (lambda run: sample_roster(run.surfaces["s5_arrival_roster"], run.pack), arrivals),
}  # fmt: skip
SEGMENT_2B = Segment2BMetrics()
