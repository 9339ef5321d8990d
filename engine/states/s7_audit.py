"""S7, the audit: every check over every row, without random numbers, failing closed.

A check states how many rows it looked at, how many failed, and the first that did. A surface that is missing,
or that breaks a check in a way the check did not foresee, is a failure, never a pass: the audit of nothing
fails. What is checked of each state stands in `_CHECKS`, in order; what the numbers mean for a grade is not
asked here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.states import s2_alias_index, s3_day_effects, s4_group_weights, s5_routing, s6_edges
from engine.states.s0_gate import SealedInputs, seal
from engine.states.s5_roster import DAY_US, first_day
from engine.tables import TABLES, table_digest
from engine.types import Categories, Column, Surface, World
from engine.workers import ranges, spread
from policies import Pack

_PART = 1 << 18  # rows that a thread looks at together, where a check costs much a row
Failing = NDArray[np.bool_]  # one flag a row looked at, true where the check fails


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    state: str
    passed: bool
    rows: int  # looked at
    failures: int
    first: int | None  # row of the first failure, from 0
    reason: str  # empty where it passed


@dataclass(frozen=True, slots=True)
class Audit:
    """The report of S7. `rows` counts the audited checks, as a surface's rows are counted."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def rows(self) -> int:
        return len(self.checks)

    def as_document(self) -> dict[str, Any]:
        """The published JSON s7_audit_report."""
        failed = [check.name for check in self.checks if not check.passed]
        summary = {
            "overall_status": "PASS" if self.passed else "FAIL",
            "fail_count": len(failed),
            "failed": failed,
            "checks": len(self.checks),
        }
        metrics = {"rows_checked": sum(check.rows for check in self.checks)}
        return {"checks": [asdict(check) for check in self.checks], "metrics": metrics, "summary": summary}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the audit reads."""

    world: World
    pack: Pack
    seed: int
    sealed: SealedInputs
    surfaces: Mapping[str, Surface]

    def __getitem__(self, name: str) -> Surface:
        return self.surfaces[name]


def audit(evidence: Evidence) -> Audit:
    """Every check, whatever the others found."""
    contracts = [(f"{name}: contract", spec.state, _contract(name)) for name, spec in TABLES.items()]
    return Audit(tuple(spread(lambda check: _run(*check, evidence), [*contracts, *_CHECKS])))


def _run(name: str, state: str, check: Callable[[Evidence], Failing], evidence: Evidence) -> Check:
    try:
        failing = np.atleast_1d(check(evidence))
    except Exception as error:  # whatever keeps a check from being made keeps the run from passing
        missing = isinstance(error, KeyError) and error.args[0] in TABLES
        reason = f"the surface {error.args[0]} is missing" if missing else f"{type(error).__name__}: {error}"
        return Check(name, state, False, 0, 1, None, reason)
    count = int(np.count_nonzero(failing))
    first = int(np.argmax(failing)) if count else None
    return Check(name, state, count == 0, len(failing), count, first, f"row {first}" if count else "")


# --- every surface: its columns, its key, its order -------------------------------------------------------


def _contract(name: str) -> Callable[[Evidence], Failing]:
    """Columns as declared and equally long; the key strictly ascends, so it is unique too."""

    def check(evidence: Evidence) -> Failing:
        surface, spec = evidence[name], TABLES[name]
        lengths = {len(surface[column]) for column in spec.schema.names}
        if list(surface.columns) != spec.schema.names or len(lengths) != 1:
            raise ValueError(f"columns {list(surface.columns)} are not those declared")
        keys = [_ordinal(surface[column]) for column in spec.key]
        failing = np.zeros(surface.rows, np.bool_)
        equal = np.ones(max(surface.rows - 1, 0), np.bool_)
        above = ~equal
        for key in keys:
            above |= equal & (key[1:] > key[:-1])
            equal &= key[1:] == key[:-1]
        failing[1:] = ~above
        return failing

    return check


def _ordinal(column: Column) -> NDArray[Any]:
    """Numbers in the order of the column's values."""
    if not isinstance(column, Categories):
        return np.unique(column, return_inverse=True)[1] if column.dtype == object else column
    rank = np.empty(len(column.values), np.int64)
    rank[np.argsort(np.array(column.values, object), kind="stable")] = np.arange(len(column.values))
    return np.asarray(rank[column.codes])


def _same(ours: Column, theirs: Column) -> Failing:
    """Row by row, whether two columns differ; another length is a failure of every row."""
    if len(ours) != len(theirs):
        return np.ones(max(len(ours), len(theirs)), np.bool_)
    if isinstance(ours, Categories) and isinstance(theirs, Categories):
        if ours.values == theirs.values:
            return np.asarray(ours.codes != theirs.codes)
        ours, theirs = (np.array(c.values, object)[c.codes] for c in (ours, theirs))
    return np.asarray(np.asarray(ours) != np.asarray(theirs))


# --- S0 to S4 --------------------------------------------------------------------------------------------


def _sealed(evidence: Evidence) -> Failing:
    roster = evidence.sealed.digests().get("arrival_roster")
    now = seal(evidence.world, evidence.pack, evidence.seed, roster)
    brought = roster is not None and table_digest(evidence["s5_arrival_roster"].table()) != roster
    unsealed = [asset not in evidence.sealed.assets for asset in now.assets]
    return np.array([*unsealed, now != evidence.sealed, brought])


def _site_mass(evidence: Evidence) -> Failing:
    """Merchant by merchant: quantised weights sum to exactly 1; the uniform law's 1/N to within rounding."""
    s1 = evidence["s1_site_weights"]
    total = np.add.reduceat(np.asarray(s1["p_weight"]), evidence.world.site_offsets[:-1])
    uniform = evidence.pack["alias_layout_policy_v1"]["law"] == "uniform"
    return np.abs(total - 1.0) > (1e-12 if uniform else 0.0)


def _sites_of_world(evidence: Evidence) -> Failing:
    s1, world = evidence["s1_site_weights"], evidence.world
    owner = np.repeat(world.merchant_id, np.diff(world.site_offsets))
    return (
        _same(s1["merchant_id"], owner)
        | _same(s1["legal_country_iso"], world.country)
        | _same(s1["site_order"], world.site_order)
        | ~(np.asarray(s1["p_weight"]) >= 0.0)
    )


def _alias_parity(evidence: Evidence) -> Failing:
    """Slice by slice: its digest holds, and it decodes to S1's weights within a quantum."""
    index, blob = evidence["s2_alias_index"], bytes(np.asarray(evidence["s2_alias_blob"]["blob"])[0])
    weight = np.asarray(evidence["s1_site_weights"]["p_weight"])
    offsets, quantum = (
        evidence.world.site_offsets,
        2.0 ** -int(evidence.pack["alias_layout_policy_v1"]["quantised_bits"]),
    )
    offset, length, digest = (np.asarray(index[name]) for name in ("offset", "length", "sha256"))
    failing = np.zeros(index.rows, np.bool_)
    for i in range(index.rows):
        piece = blob[offset[i] : offset[i] + length[i]]
        wanted = weight[offsets[i] : offsets[i + 1]]
        found = s2_alias_index.decode(blob, offset[i], length[i])
        parity = len(found) == len(wanted) and np.abs(found - wanted).max() <= quantum
        failing[i] = not parity or hashlib.sha256(piece).hexdigest() != digest[i]
    return failing


def _alias_blob(evidence: Evidence) -> Failing:
    whole, index = evidence["s2_alias_blob"], evidence["s2_alias_index"]
    blob = bytes(np.asarray(whole["blob"])[0])
    sized = whole["size"][0] == len(blob) == int(np.asarray(index["length"]).sum())  # type: ignore[index]
    return np.array([not sized, hashlib.sha256(blob).hexdigest() != np.asarray(whole["sha256"])[0]])


def _day_grid(name: str) -> Callable[[Evidence], Failing]:
    """Exactly one row for every day of the policy's horizon and every group of the world."""

    def check(evidence: Evidence) -> Failing:
        rows, surface = s3_day_effects.grid(evidence.world, evidence.pack["day_effect_policy_v1"]), evidence[name]
        merchant = _same(surface["merchant_id"], rows.merchant_id)
        return merchant | _same(surface["utc_day"], rows.day) | _same(surface["tz_group_id"], rows.zone)

    return check


def _gamma(evidence: Evidence) -> Failing:
    gamma = np.asarray(evidence["s3_day_effects"]["gamma"])
    return np.asarray(~((gamma > 0.0) & np.isfinite(gamma)))


def _gamma_echo(evidence: Evidence) -> Failing:
    return _same(evidence["s3_day_effects"]["gamma"], evidence["s4_group_weights"]["gamma"])


def _base_share(evidence: Evidence) -> Failing:
    s4 = evidence["s4_group_weights"]
    rows = s3_day_effects.grid(evidence.world, evidence.pack["day_effect_policy_v1"])
    return _same(
        s4["base_share"], s4_group_weights.base_shares(evidence.world, evidence["s1_site_weights"])[rows.group]
    )


def _group_mass(evidence: Evidence) -> Failing:
    """Merchant-day by merchant-day: shares sum to exactly 1 and none is negative."""
    p = np.asarray(evidence["s4_group_weights"]["p_group"])
    starts = s3_day_effects.grid(evidence.world, evidence.pack["day_effect_policy_v1"]).starts[:-1]
    return np.asarray((np.add.reduceat(p, starts) != 1.0) | ~(np.minimum.reduceat(p, starts) >= 0.0))


# --- S5 and S6 -------------------------------------------------------------------------------------------


def _roster(evidence: Evidence) -> Failing:
    """Arrival by arrival: a day of the horizon and of its own moment, a known merchant, virtual as the world says."""
    roster, world = evidence["s5_arrival_roster"], evidence.world
    moment, day = np.asarray(roster["utc_timestamp"]), roster["utc_day"]
    horizon = _horizon(evidence)
    number = np.array([first_day((name,)) // DAY_US for name in day.values], np.int64)  # type: ignore[union-attr]
    outside = np.array([name not in horizon for name in day.values], np.bool_)  # type: ignore[union-attr]
    codes = day.codes  # type: ignore[union-attr]
    merchant = np.asarray(roster["merchant_id"])
    at = np.minimum(np.searchsorted(world.merchant_id, merchant), len(world.merchant_id) - 1)
    wrong = (world.merchant_id[at] != merchant) | (world.is_virtual[at] != np.asarray(roster["is_virtual"]))
    return np.asarray(wrong | outside[codes] | (moment // DAY_US != number[codes]))


def _of_roster(name: str, *, virtual: bool) -> Callable[[Evidence], Failing]:
    """Row by row, the log holds the roster's arrivals of its kind, each once, at the address the law gives it."""

    def check(evidence: Evidence) -> Failing:
        roster, log = evidence["s5_arrival_roster"], evidence[name]
        kept = np.asarray(roster["is_virtual"]) == virtual
        moment, merchant = np.asarray(roster["utc_timestamp"])[kept], np.asarray(roster["merchant_id"])[kept]
        lo = s5_routing.counters(moment, np.asarray(roster["occurrence"])[kept])
        failing = _same(log["utc_timestamp"], moment) | _same(log["merchant_id"], merchant)
        for column in log.columns:
            if column.startswith("ctr_"):
                failing = failing | _same(log[column], merchant if column.endswith("_hi") else lo)
        return failing

    return check


def _routed(evidence: Evidence) -> Failing:
    """Arrival by arrival: the zone is one of the merchant's with a share that day, the site one of that zone."""
    parts = spread(lambda rows: _routed_rows(evidence, rows), ranges(evidence["s5_selection_log"].rows, _PART))
    return np.concatenate([np.zeros(0, np.bool_), *parts])


def _routed_rows(evidence: Evidence, rows: slice) -> Failing:
    log, world = evidence["s5_selection_log"], evidence.world
    merchant = np.searchsorted(world.merchant_id, np.asarray(log["merchant_id"])[rows])
    zone, day, days = log["tz_group_id"], log["utc_day"], _horizon(evidence)
    assert isinstance(zone, Categories) and isinstance(day, Categories)
    place = {name: code for code, name in enumerate(world.zones)}
    code = np.array([place.get(name, -1) for name in zone.values], np.int64)[zone.codes[rows]]
    pairs = np.repeat(np.arange(len(world.merchant_id)), np.diff(world.group_offsets)) * len(place) + world.group_zone
    wanted = merchant * len(place) + code
    group = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    number = np.array([days.get(name, -1) for name in day.values])[day.codes[rows]]
    first = world.group_offsets[merchant]
    row = len(days) * first + number * np.diff(world.group_offsets)[merchant] + group - first
    failing = (pairs[group] != wanted) | (code < 0) | (number < 0)
    failing |= ~(np.asarray(evidence["s4_group_weights"]["p_group"])[np.where(failing, 0, row)] > 0.0)
    return np.asarray(failing | ~_sites_known(world, group, np.asarray(log["site_id"])[rows]))


def _sites_known(world: World, group: NDArray[np.int64], site_id: NDArray[np.uint64]) -> Failing:
    """[a] whether the group has the site."""
    ids = s5_routing.site_ids(world)
    names, place = np.unique(ids, return_inverse=True)
    known = np.sort(world.site_group * len(names) + place)
    at = np.minimum(np.searchsorted(names, site_id), len(names) - 1)
    asked = group * len(names) + at
    found = known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked
    return np.asarray(found & (names[at] == site_id))


def _edges(evidence: Evidence) -> Failing:
    """Arrival by arrival, the edge is one that the policy offers its merchant, with the coordinates it states."""
    log, offered = evidence["s6_edge_log"], s6_edges.offered(evidence.pack["virtual_edge_policy_v1"])
    merchant, edge = np.asarray(log["merchant_id"]), log["edge_id"]
    names = np.array(edge.values, object)[edge.codes] if log.rows else np.empty(0, object)  # type: ignore[union-attr]
    known = np.zeros(log.rows, np.bool_)
    alone = np.zeros(log.rows, np.bool_)
    for owner, edges in offered.items():
        mine = ~alone if owner is None else merchant == np.uint64(owner)
        alone |= mine
        for one in edges:
            place = (np.asarray(log["edge_lat"]) == one["edge_lat"]) & (np.asarray(log["edge_lon"]) == one["edge_lon"])
            known |= mine & place & (names == one["edge_id"])
    return ~known


def _events(event: str, log: str, counter: str) -> Callable[[Evidence], Failing]:
    """Row by row, the event log holds the log's draws: one each, at the same address."""

    def check(evidence: Evidence) -> Failing:
        events, drawn = evidence[event], evidence[log]
        failing = _same(events["rng_counter_lo"], drawn[f"{counter}_lo"]) | (np.asarray(events["draws"]) != 1)
        return np.asarray(failing | _same(events["rng_counter_hi"], drawn[f"{counter}_hi"]))

    return check


def _trace(trace: str, logs: Mapping[str, str]) -> Callable[[Evidence], Failing]:
    """Stream by stream, the totals are those of its event log; `logs`: key of the policy's streams -> event log."""

    def check(evidence: Evidence) -> Failing:
        names, streams = evidence[trace]["rng_stream_id"], evidence.pack["route_rng_policy_v1"]["streams"]
        expected = {str(streams[which]): evidence[log] for which, log in logs.items()}
        listed = [names.values[code] for code in names.codes]  # type: ignore[union-attr]
        if sorted(listed) != sorted(expected):
            raise ValueError(f"streams {listed} are not {sorted(expected)}")
        rows = np.array([expected[name].rows for name in listed])
        draws = np.array([int(np.asarray(expected[name]["draws"]).sum()) for name in listed])
        wrong = np.asarray(evidence[trace]["events"]) != rows
        return np.asarray(wrong | (np.asarray(evidence[trace]["draws"]) != draws))

    return check


def _horizon(evidence: Evidence) -> dict[str, int]:
    """Day -> index, over the policy's horizon."""
    return {day: at for at, day in enumerate(s3_day_effects.horizon(evidence.pack["day_effect_policy_v1"]))}


_CHECKS: tuple[tuple[str, str, Callable[[Evidence], Failing]], ...] = (
    ("inputs are those sealed", "S0", _sealed),
    ("sites are the world's", "S1", _sites_of_world),
    ("site weights sum to one", "S1", _site_mass),
    ("alias slices decode to the weights", "S2", _alias_parity),
    ("alias blob is whole", "S2", _alias_blob),
    ("day grid is the policy's (S3)", "S3", _day_grid("s3_day_effects")),
    ("gamma is positive", "S3", _gamma),
    ("day grid is the policy's (S4)", "S4", _day_grid("s4_group_weights")),
    ("gamma is echoed", "S4", _gamma_echo),
    ("base shares are the weights' sums", "S4", _base_share),
    ("shares sum to exactly one", "S4", _group_mass),
    ("arrivals are the world's, on their day", "S5", _roster),
    ("every physical arrival is routed once", "S5", _of_roster("s5_selection_log", virtual=False)),
    ("zones and sites are the merchant's", "S5", _routed),
    ("zone draws are logged", "S5", _events("s5_rng_event_group", "s5_selection_log", "ctr_group")),
    ("site draws are logged", "S5", _events("s5_rng_event_site", "s5_selection_log", "ctr_site")),
    ("draws are accounted", "S5", _trace("s5_rng_trace", {"group": "s5_rng_event_group", "site": "s5_rng_event_site"})),
    ("every virtual arrival has an edge", "S6", _of_roster("s6_edge_log", virtual=True)),
    ("edges are those offered", "S6", _edges),
    ("edge draws are logged", "S6", _events("s6_rng_event_edge", "s6_edge_log", "ctr_edge")),
    ("edge draws are accounted", "S6", _trace("s6_rng_trace", {"edge": "s6_rng_event_edge"})),
)
