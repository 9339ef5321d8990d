"""Segment 2B's metrics, over every row, and the artifact detectors.

Metrics read only surfaces and the world, never the inside of a state. Those of a world or surface are computed once
and remembered while it lives, so a trial pays only for what its knobs changed. Source of the definitions: ENGINE
facts, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Surface
from lanelock.scoring.feasibility import Bound, Box, Floor
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.gates import GateSet
from lanelock.scoring.segment_2b.alias import ALIAS, SITES, alias_error, alias_tables
from lanelock.scoring.segment_2b.bounds import MIX_DOWN, segment_2b_bounds
from lanelock.scoring.segment_2b.figures import segment_2b_figures
from lanelock.scoring.segment_2b.floors import tail_floor
from lanelock.scoring.segment_2b.roster import GATES, arrivals, sample_roster
from lanelock.scoring.segment_2b.samples import (
    MOVED_BITS,
    RANK,
    DaySample,
    MixSample,
    SiteSample,
    sample_days,
    sample_mix,
    sample_sites,
)
from lanelock.scoring.segment_2b.world import sample_world, world_metrics

Sampler = Callable[[Run], Any]
Reducer = Callable[[Any], dict[str, float]]
ATOM_WIDTH = 1e-9
APART = 1e-12  # a greater standard deviation of gamma between zones is a difference, not rounding
BIN, GAP, SIDE = 4, 1, 16  # cells: the narrow bin (.01), the gap beside it, the neighbourhood (.04)


class Segment2BMetrics:
    """The metric source of segment 2B."""

    name = "segment_2b"
    gates_file = GATES

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[World | Surface, dict[str, dict[str, float]]] = WeakKeyDictionary()

    def measure(self, run: Run) -> dict[str, float]:
        """Returns the metrics of the world and of the surfaces that the run has."""
        metrics = dict(self._once(run, run.upstream, *_WORLD, within=str(_horizon(run))))
        for name, measure in _MEASURES.items():
            if name in run.surfaces:
                metrics |= self._once(run, run.surfaces[name], *measure)
        return metrics | self._alias_tables(run)

    def sample(self, run: Run) -> dict[str, Any]:
        """Returns what the metrics need from a shard, by surface, much smaller than the surfaces."""
        samples = {name: take(run) for name, (take, _) in _MEASURES.items() if name in run.surfaces}
        alias = {ALIAS: alias_error(run)} if SITES in run.surfaces else {}
        return {"world": sample_world(run.upstream, _horizon(run)), **samples, **alias}

    def reduce(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns a run's metrics from the samples of all its shards, to the last bit the same for any cuts."""
        metrics = world_metrics([sample["world"] for sample in samples])
        for name, (_, reduce) in (*_MEASURES.items(), (ALIAS, (alias_error, alias_tables))):
            if all(name in sample for sample in samples):
                metrics |= reduce([sample[name] for sample in samples])
        return metrics

    def bounds(self, box: Box) -> list[Bound]:
        """Returns the proven limits of what any trial of a lane can reach on one seed."""
        return list(segment_2b_bounds(box, self.measure))

    def floors(self, metrics: Mapping[str, float]) -> list[Floor]:
        """Returns the floor of the tail: a merchant-day of one zone is that zone's alone, whatever S4 does."""
        return tail_floor(metrics)

    def directions(self, box: Box) -> dict[str, int]:
        """Returns the ends of S4's movable fields that pull every day furthest towards uniform."""
        return {address: side for address, side in MIX_DOWN.items() if address in box.moves}

    def figures(self, candidate: Run, authority: Run, gates: GateSet) -> list[Figure]:
        """Returns the distributions behind the gates, drawn when they are shown."""
        return list(segment_2b_figures(authority, candidate, gates))

    def _alias_tables(self, run: Run) -> dict[str, float]:
        """Returns S2's metrics: of its own tables, or of those that follow from S1, remembered with S1's surface."""
        if SITES not in run.surfaces:
            return {}
        if ALIAS in run.surfaces:
            return alias_tables([alias_error(run)])
        return self._once(run, run.surfaces[SITES], alias_error, alias_tables, within=ALIAS)

    def _once(
        self, run: Run, part: World | Surface, take: Sampler, reduce: Reducer, within: str = ""
    ) -> dict[str, float]:
        """Returns the metrics of a part; `within` names what else of the run they depend on."""
        known = self._known.setdefault(part, {})
        if within not in known:
            known[within] = reduce([take(run)])
        return known[within]


def _horizon(run: Run) -> Mapping[str, Any]:
    return run.pack["day_effect_policy_v1"]["horizon"]  # type: ignore[no-any-return]


def site_weights(samples: Sequence[SiteSample]) -> dict[str, float]:
    """Returns S1's metrics: distance from even weights, lead of the first site, spread between merchants."""
    low, high = np.quantile(_all(samples, "hhi"), [0.25, 0.75], method=RANK)
    return {
        "s1/residual": float(np.median(_all(samples, "residual"))),
        "s1/gap": float(np.median(_all(samples, "gap"))),
        "s1/hhi_iqr": float(high - low),
    }


def day_effects(samples: Sequence[DaySample]) -> dict[str, float]:
    """Returns S3's metrics: how much days and zones differ, gamma's centre and spread, whether it is in its range."""
    spread, between, rows = _all(samples, "spread"), _all(samples, "between"), _sum(samples, "rows")
    spread = spread[np.isfinite(spread)]
    middle = _median(spread)
    excess, squares = (_exact_sum(_all(samples, name)) for name in ("excess", "squares"))
    return {
        "s3/merchant_std_median": middle,
        "s3/merchant_std_upper_tail": float(np.quantile(spread, 0.9, method=RANK) / middle) if middle > 0 else np.nan,
        "s3/tz_nonzero_share": _share(int(np.sum(between > APART)), len(between)),
        "s3/tz_std_median": _median(between),
        "s3/gamma_mean": 1.0 + excess / rows,
        "s3/gamma_std": math.sqrt(max(0.0, squares - excess * excess / rows) / (rows - 1)) if rows > 1 else np.nan,
        "s3/clipped_share": _share(_sum(samples, "clipped"), rows),
        "s3/nonpositive_rows": float(_sum(samples, "nonpositive")),
        "s3/max_abs_log_gamma": float(np.max([sample.max_abs_log_gamma for sample in samples])),
    }


def group_weights(samples: Sequence[MixSample]) -> dict[str, float]:
    """Returns S4's metrics: how days mix their groups, what the regularizer moved, and the artifact detectors."""
    top, entropy, multi = (_all(samples, name) for name in ("top", "entropy", "multi"))
    days, several = len(top), int(np.count_nonzero(multi))
    cells, raw_cells = (np.sum([getattr(each, name) for each in samples], axis=0) for name in ("cells", "raw_cells"))
    moved = [sample.moved for sample in samples]
    two, tail_multi, tail_two = (_sum(samples, name) for name in ("two", "tail_multi", "tail_two"))
    return {
        "s4/max_p_median": float(np.median(top)),
        "s4/tail_share": _share(_sum(samples, "tail"), days),
        "s4/multigroup_share": _share(_sum(samples, "visible"), days),
        "s4/entropy_p50": float(np.median(entropy)),
        "s4/mass_error_max": float(np.max([sample.mass_error for sample in samples])),
        "s4/single_group_share": _share(days - several, days),
        "s4/two_group_share": _share(two, days),
        "s4/tail_share_multi": _share(tail_multi, several),
        "s4/tail_share_two": _share(tail_two, two),
        "s4/tail_share_three": _share(tail_multi - tail_two, several - two),
        "s4/intervention": np.nan if None in moved else _share(sum(moved), days << MOVED_BITS),  # type: ignore[arg-type]
        "s4/atom_share": max(atom_share(top[multi]), atom_share(entropy[multi])),
        "s4/rank_inversions": float(_sum(samples, "inversions")),
        "s4/groups_without_site": float(_sum(samples, "unbacked")),
        "s4/cliff": cliff(cells, raw_cells),
    }


def atom_share(values: NDArray[np.float64]) -> float:
    """Returns the greatest share of `values` within 1e-9 of each other; 0 if no two are."""
    most = int(_longest_within(np.sort(values), ATOM_WIDTH))
    return most / len(values) if most > 1 else 0.0


def cliff(after: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    """Returns the most excess mass in one bin of max p, .01 wide, over both the raw mix and a smooth curve.

    `after` and `before` (the raw mix) are counts of days by cell (`cells_of`). Every position of the bin is tried, not
    the policy's cap alone: a law may pile up mass elsewhere. The smooth curve is the denser of the two
    neighbourhoods, .04 wide and one cell away, so that neither a slope nor the end of the support counts as a cliff.
    """
    if not after.any():
        return 0.0
    share, raw = after / after.sum(), before / before.sum()
    pad = np.zeros(SIDE + GAP)
    run = np.concatenate([[0.0], np.cumsum(np.concatenate([pad, share, pad]))])
    at = np.arange(len(share) - BIN + 1) + len(pad)  # first cell of each bin, counted with the padding
    inside = run[at + BIN] - run[at]
    left = (run[at - GAP] - run[at - GAP - SIDE]) * BIN / SIDE
    right = (run[at + BIN + GAP + SIDE] - run[at + BIN + GAP]) * BIN / SIDE
    raw_run = np.concatenate([[0.0], np.cumsum(raw)])
    unforced = raw_run[BIN:] - raw_run[:-BIN]
    return max(0.0, float(np.max(inside - np.maximum(unforced, np.maximum(left, right)))))


def _all(samples: Sequence[Any], name: str) -> NDArray[Any]:
    """Returns one array's values over all samples."""
    return np.concatenate([getattr(sample, name) for sample in samples])


def _sum(samples: Sequence[Any], name: str) -> int:
    return sum(int(getattr(sample, name)) for sample in samples)


def _median(values: NDArray[np.float64]) -> float:
    """Returns the median, NaN of nothing or if one is not a number."""
    return float(np.median(values)) if len(values) and not np.isnan(values).any() else np.nan


def _exact_sum(values: NDArray[np.float64]) -> float:
    """Returns the sum, rounded once, so that it does not depend on the order; NaN if a value is out of all range."""
    return math.fsum(values.tolist()) if np.all(np.abs(values) < 1e300) else np.nan


def _share(part: int, whole: int) -> float:
    """Returns the share, NaN if `whole` is 0; of exact integers, so it does not depend on the cuts."""
    return part / whole if whole else np.nan


@compiled
def _longest_within(ordered: Any, width: float) -> int:
    longest, first = 0, 0
    for last in range(len(ordered)):
        while ordered[last] - ordered[first] > width:
            first += 1
        longest = max(longest, last - first + 1)
    return longest


_WORLD: tuple[Sampler, Reducer] = (
    lambda run: sample_world(run.upstream, _horizon(run)),
    world_metrics,
)
_MEASURES: Mapping[str, tuple[Sampler, Reducer]] = {
    "s1_site_weights": (lambda run: sample_sites(run.surfaces["s1_site_weights"]), site_weights),
    "s3_day_effects": (
        lambda run: sample_days(run.surfaces["s3_day_effects"], run.pack["day_effect_policy_v1"]), day_effects,
    ),
    "s4_group_weights": (lambda run: sample_mix(run.surfaces["s4_group_weights"], run.upstream), group_weights),
    "s5_arrival_roster": (sample_roster, arrivals),
}  # fmt: skip
SEGMENT_2B = Segment2BMetrics()
