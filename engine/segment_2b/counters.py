"""What the states did, counted: from a run's surfaces and policies alone, by the states' own laws.

Where a cap, a floor or a blend acted cannot be seen in a table, the law is computed again without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.states import s1_site_weights, s3_day_effects, s4_group_weights
from lanelock.engine.segment_2b.states.s1_site_weights import BUCKETS, COMPONENTS
from lanelock.engine.surface import Categories, Surface

Counters = dict[str, Any]


def counters_of(run: Run) -> dict[str, Counters]:
    """Returns state -> its counters, of S0 to S7."""
    return {state: count(run) for state, count in _COUNTED.items()}


def day_effect_draws(run: Run) -> Counters:
    """Returns how many draws S3 made, and how many gave an odd or clipped gamma."""
    surface = run.surfaces["s3_day_effects"]
    gamma = np.asarray(surface["gamma"])
    return {
        "rows_written": surface.rows,
        "nonpositive_gamma_rows": int(np.count_nonzero(~(gamma > 0.0))),
        "gamma_clipped_rows": s3_day_effects.clipped_rows(gamma, run.pack["day_effect_policy_v1"]),
        "max_abs_log_gamma": float(np.max(np.abs(np.asarray(surface["log_gamma"])))),
    }


def _gate(run: Run) -> Counters:
    world = run.upstream
    return {
        "assets_sealed": run.sealed.rows,
        "merchants": len(world.merchant_id),
        "sites": world.rows,
        "zones": len(world.zones),
        "groups": len(world.group_zone),
    }


def _site_weights(run: Run) -> Counters:
    world, surface, policy = run.upstream, run.surfaces["s1_site_weights"], run.pack["alias_layout_policy_v1"]
    first, p = world.site_offsets[:-1], np.asarray(surface["p_weight"])
    bucket, component = (
        _codes(surface[name], values)[first]
        for name, values in (("weight_profile", BUCKETS), ("mixture_component", COMPONENTS))
    )
    total = np.add.reduceat(p, first)
    counted = {
        "rows_written": surface.rows,
        "merchants_by_bucket": _tally(bucket, BUCKETS),
        "merchants_by_component": {} if policy["law"] == "uniform" else _tally(component, COMPONENTS),
        "zero_mass_fallbacks": int(np.count_nonzero(total <= 0.0)),
        "zero_weight_rows": int(np.count_nonzero(p <= 0.0)),
    }
    if policy["law"] == "uniform":
        even, capped, floored = p, 0, 0
        p = s1_site_weights.site_quanta(world, p, int(policy["quantised_bits"])) / float(1 << policy["quantised_bits"])
        worst = float(np.max(np.abs(p - even)))
    else:
        worst, capped, floored = _acted(world.site_offsets, bucket, component, surface, policy["profile_mixture_v2"])
    return {**counted, "soft_cap_rows": capped, "floor_rows": floored, "max_abs_quantisation_error": worst}


def _acted(
    offsets: NDArray[np.int64], bucket: NDArray[np.int8], component: NDArray[np.int8], surface: Surface,
    profile: Mapping[str, Any],
) -> tuple[float, int, int]:  # fmt: skip
    """Returns the greatest quantisation error, and in how many rows the soft cap and the floor changed a weight.

    The weights before quantisation are known by rank, not by site. Quantisation keeps their order, so that a merchant's
    least weight belongs to its least published one, and so on.
    """
    p, alpha = np.asarray(surface["p_weight"]), np.asarray(surface["alpha_used"])[offsets[:-1]]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    rank = np.arange(len(owner)) - offsets[owner]
    cap, floor = s1_site_weights.limits(profile, bucket)
    free, none = np.ones(len(cap)), np.zeros(len(cap))
    raw, capped, whole = (
        s1_site_weights.weighed(offsets, rank, component, alpha, *limits)
        for limits in ((free, none), (cap, none), (cap, floor))
    )
    published, weights = (each[np.lexsort((each, owner))] for each in (p, whole))
    worst = float(np.max(np.abs(published - weights)))
    return worst, int(np.count_nonzero(capped != raw)), int(np.count_nonzero(whole != capped))


def _alias_index(run: Run) -> Counters:
    index, blob = run.surfaces["s2_alias_index"], run.surfaces["s2_alias_blob"]
    sites = np.asarray(index["sites"])
    return {
        "merchants": index.rows,
        "slots": int(sites.sum()),
        "most_sites": int(sites.max()),
        "blob_bytes": int(np.asarray(blob["size"])[0]),
    }


def _day_effects(run: Run) -> Counters:
    surface, policy = run.surfaces["s3_day_effects"], run.pack["day_effect_policy_v1"]
    sigma, gamma = np.asarray(surface["sigma_gamma"]), np.asarray(surface["gamma"])
    words = [np.asarray(surface[f"rng_counter_{part}"]) for part in ("hi", "lo")]
    first, last = ({"hi": int(words[0][row]), "lo": int(words[1][row])} for row in (0, -1))
    return {
        "rows_written": surface.rows,
        "sigma_min": float(sigma.min()),
        "sigma_max": float(sigma.max()),
        "clipped_rows": s3_day_effects.clipped_rows(gamma, policy),
        "rng_counter_first": first,
        "rng_counter_last": last,
    }


def _group_weights(run: Run) -> Counters:
    surface, policy = run.surfaces["s4_group_weights"], run.pack["group_mix_regularizer_v1"]
    starts = merchant_days(surface)
    moved = np.asarray(surface["regularizer_delta_mass"])[starts[:-1]]
    mass, denom = (np.asarray(surface[f"{name}_raw"]) for name in ("mass", "denom"))
    free = {**policy, "max_p_group_soft_cap": 1.0, "entropy_floor": 0.0}
    steps = (free, {**policy, "entropy_floor": 0.0}, policy)
    kept = [1.0 - s4_group_weights.blends(starts, mass, denom, step) for step in steps]
    return {
        "rows_written": surface.rows,
        "merchant_days": len(moved),
        "rows_regularised": int(np.count_nonzero(np.asarray(surface["regularizer_applied"]))),
        "moved_mass_max": float(moved.max()),
        "moved_mass_total": float(moved.sum()),
        "blend_by_cap_max": _most_added(kept[0], kept[1]),
        "blend_by_entropy_floor_max": _most_added(kept[1], kept[2]),
    }


def _most_added(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Returns the greatest blend that was added; the arguments are what is kept of the distance from uniform."""
    return float(np.max(1.0 - np.divide(after, before, out=np.ones_like(after), where=before > 0.0)))


def _routing(run: Run) -> Counters:
    roster, selections = run.surfaces["s5_arrival_roster"], run.surfaces["s5_selection_log"]
    return {
        "rows_written": selections.rows,
        "arrivals": roster.rows,
        "virtual_arrivals": int(np.count_nonzero(np.asarray(roster["is_virtual"]))),
        "draws": sum(run.surfaces[f"s5_rng_event_{draw}"].rows for draw in ("group", "site")),
    }


def _edges(run: Run) -> Counters:
    log = run.surfaces["s6_edge_log"]
    edge = log["edge_id"]
    assert isinstance(edge, Categories)
    count = np.bincount(edge.codes, minlength=len(edge.values))
    by_edge: dict[str, int] = {}
    for name, rows in zip(edge.values, count.tolist(), strict=True):
        if rows > 0:  # a log that was read back knows no edge that it lacks
            by_edge[name] = by_edge.get(name, 0) + rows
    return {"rows_written": log.rows, "rows_by_edge": by_edge, "draws": run.surfaces["s6_rng_event_edge"].rows}


def _audit(run: Run) -> Counters:
    checks = run.audit.checks
    return {"checks": len(checks), "rows_checked": sum(check.rows for check in checks)}


_COUNTED: Mapping[str, Callable[[Run], Counters]] = {
    "S0": _gate,
    "S1": _site_weights,
    "S2": _alias_index,
    "S3": _day_effects,
    "S4": _group_weights,
    "S5": _routing,
    "S6": _edges,
    "S7": _audit,
}


def merchant_days(surface: Surface) -> NDArray[np.int64]:
    """Returns where each merchant-day of S4 starts, and the number of rows."""
    merchant, day = np.asarray(surface["merchant_id"]), surface["utc_day"]
    assert isinstance(day, Categories)
    fresh = (merchant[1:] != merchant[:-1]) | (day.codes[1:] != day.codes[:-1])
    return np.concatenate([[0], np.flatnonzero(fresh) + 1, [surface.rows]])


def _codes(column: Any, values: tuple[str, ...]) -> NDArray[np.int8]:
    """Returns a column's codes into `values`; a column that was read from a file has values of its own."""
    place = np.array([values.index(value) for value in column.values], np.int8)
    return np.asarray(place[column.codes])


def _tally(codes: NDArray[np.int8], values: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(values, np.bincount(codes, minlength=len(values)).tolist(), strict=True))
