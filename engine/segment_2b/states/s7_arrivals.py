"""What the audit asks of S5 and S6: the arrivals, where each went, and what was drawn for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.states import s5_routing, s6_edges
from lanelock.engine.segment_2b.states.s5_roster import DAY_US, first_day, merchants_at, occurrences
from lanelock.engine.segment_2b.states.s7_evidence import Evidence, Failing, among, coded, differ, is_not
from lanelock.engine.surface import Categories, Surface
from lanelock.engine.workers import ranges, spread

_PART = 1 << 18  # rows that a thread looks at together, where a check costs much a row
_ROUTING = "route_rng_policy_v1"


def roster(evidence: Evidence) -> Failing:
    """Arrival by arrival: a day of the horizon and of its own moment; a known merchant, virtual as the world says; a
    declared class and channel; its number among those of its merchant and moment."""
    found, world = evidence["s5_arrival_roster"], evidence.world
    law, moment, merchant = evidence.pack[_ROUTING]["roster"], *_moments(found)
    of_day = coded(found["utc_day"], {day: first_day((day,)) // DAY_US for day in evidence.horizon})
    at = merchants_at(world.merchant_id, merchant)
    failing = (at < 0) | (world.is_virtual[at] != np.asarray(found["is_virtual"])) | (moment // DAY_US != of_day)
    failing |= differ(found["occurrence"], occurrences(moment, merchant))
    for column, mix in (("arrival_class", "class_mix"), ("channel", "channel_mix")):
        failing |= ~among(found[column], law[mix].__contains__)
    return np.asarray(failing)


def coverage(evidence: Evidence) -> Failing:
    """Merchant-day by merchant-day, a drawn roster has arrivals: one on the first day in smoke mode, some on every day
    of the horizon in realism mode. Of one brought in nothing is promised here: gates say what a grade needs."""
    if "arrival_roster" in evidence.sealed.digests():
        return np.zeros(0, np.bool_)
    found, days = evidence["s5_arrival_roster"], len(evidence.horizon)
    merchant = merchants_at(evidence.world.merchant_id, np.asarray(found["merchant_id"]))
    day = coded(found["utc_day"], evidence.horizon)
    cell, known = merchant * days + day, (merchant >= 0) & (day >= 0)
    counts = np.bincount(cell if known.all() else cell[known], minlength=len(evidence.world.merchant_id) * days)
    if evidence.pack[_ROUTING]["roster"]["mode"] == "realism":
        return np.asarray(counts < 1)
    first = np.arange(len(counts)) % days == 0
    return np.asarray(counts != first)


def of_roster(name: str, streams: Sequence[str], *, virtual: bool) -> Callable[[Evidence], Failing]:
    """Row by row, the log holds the roster's arrivals of its kind, each once, at the address that the law gives."""

    def check(evidence: Evidence) -> Failing:
        found, log = evidence["s5_arrival_roster"], evidence[name]
        kept = np.flatnonzero(np.asarray(found["is_virtual"]) == virtual)
        moment, merchant = (column[kept] for column in _moments(found))
        day = found["utc_day"]
        assert isinstance(day, Categories)
        day = Categories(day.codes[kept], day.values)
        lo = s5_routing.counters(moment, np.asarray(found["occurrence"])[kept])
        failing = differ(log["utc_timestamp"], moment) | differ(log["merchant_id"], merchant)
        failing |= differ(log["utc_day"], day)
        failing |= is_not(log["rng_stream_id"], s5_routing.stream_names(evidence.streams, streams))
        for column in log.columns:
            if column.startswith("ctr_"):
                failing |= differ(log[column], merchant if column.endswith("_hi") else lo)
        return failing

    return check


def routed(evidence: Evidence) -> Failing:
    """Arrival by arrival: the zone is one of the merchant's with a share that day; the site one of that zone, and with
    a weight, unless none there has one."""
    log, world, days = evidence["s5_selection_log"], evidence.world, len(evidence.horizon)
    p_group = np.asarray(evidence["s4_group_weights"]["p_group"])
    weight = np.asarray(evidence["s1_site_weights"]["p_weight"])
    if len(p_group) != days * len(world.group_zone) or len(weight) != len(world.site_group):
        raise ValueError("shares and weights are not those of the world's groups and sites")
    merchant = merchants_at(world.merchant_id, np.asarray(log["merchant_id"]))
    zone = coded(log["tz_group_id"], {name: code for code, name in enumerate(world.zones)})
    day, site_id = coded(log["utc_day"], evidence.horizon), np.asarray(log["site_id"])
    ids = s5_routing.site_ids(world)
    order = np.lexsort((ids, world.site_group))
    starts = np.searchsorted(world.site_group[order], np.arange(len(world.group_zone) + 1))
    failing = np.empty(log.rows, np.bool_)

    def look(rows: slice) -> None:
        _routed(
            merchant[rows], zone[rows], day[rows], site_id[rows], world.group_offsets, world.group_zone, p_group, days,
            starts, ids[order], weight[order], failing[rows],
        )  # fmt: skip

    spread(look, ranges(log.rows, _PART))
    return failing


@compiled
def _routed(
    merchant: Any, zone: Any, day: Any, site_id: Any, group_offsets: Any, group_zone: Any, p_group: Any, days: int,
    starts: Any, ids: Any, weight: Any, failing: Any,
) -> None:  # fmt: skip
    for row in range(len(merchant)):
        failing[row] = True
        if merchant[row] < 0 or day[row] < 0:
            continue
        first, last = group_offsets[merchant[row]], group_offsets[merchant[row] + 1]
        group = first
        while group < last and group_zone[group] != zone[row]:
            group += 1
        if group == last or not p_group[days * first + day[row] * (last - first) + group - first] > 0.0:
            continue
        begin, end = starts[group], starts[group + 1]
        site = begin + np.searchsorted(ids[begin:end], site_id[row])
        if site < end and ids[site] == site_id[row]:
            failing[row] = not (weight[site] > 0.0 or weight[begin:end].max() == 0.0)


def edges(evidence: Evidence) -> Failing:
    """Arrival by arrival, the edge is one with a weight that the policy offers its merchant, where it says it is."""
    log, offered = evidence["s6_edge_log"], s6_edges.offered(evidence.pack["virtual_edge_policy_v1"])
    merchant, lat, lon = (np.asarray(log[name]) for name in ("merchant_id", "edge_lat", "edge_lon"))
    known, alone = np.zeros(log.rows, np.bool_), np.zeros(log.rows, np.bool_)
    for owner, some in offered.items():
        mine = ~alone if owner is None else merchant == np.uint64(owner)
        alone |= mine
        for edge in some:
            if edge["weight"] > 0:
                place = (lat == edge["edge_lat"]) & (lon == edge["edge_lon"])
                named = ~is_not(log["edge_id"], edge["edge_id"]) & ~is_not(log["ip_country"], edge["ip_country"])
                known |= mine & place & named
    return ~known


def events(event: str, log: str, counter: str, stream: str) -> Callable[[Evidence], Failing]:
    """Row by row, the event log holds the log's draws: one each, for the same arrival, at the same address."""

    def check(evidence: Evidence) -> Failing:
        found, drawn = evidence[event], evidence[log]
        failing = is_not(found["rng_stream_id"], evidence.streams[stream]) | (np.asarray(found["draws"]) != 1)
        for column in ("utc_timestamp", "merchant_id", "utc_day"):
            failing = failing | differ(found[column], drawn[column])
        for word in ("lo", "hi"):
            failing = failing | differ(found[f"rng_counter_{word}"], drawn[f"{counter}_{word}"])
        return np.asarray(failing)

    return check


def trace(name: str, logs: Mapping[str, str]) -> Callable[[Evidence], Failing]:
    """Stream by stream, the totals are those of its event log; `logs`: key of the policy's streams -> event log."""

    def check(evidence: Evidence) -> Failing:
        names = evidence[name]["rng_stream_id"]
        expected = {evidence.streams[which]: evidence[log] for which, log in logs.items()}
        listed = [names.values[code] for code in names.codes]  # type: ignore[union-attr]
        if sorted(listed) != sorted(expected):
            raise ValueError(f"streams {listed} are not {sorted(expected)}")
        rows = np.array([expected[stream].rows for stream in listed])
        draws = np.array([int(np.asarray(expected[stream]["draws"]).sum()) for stream in listed])
        wrong = np.asarray(evidence[name]["events"]) != rows
        return np.asarray(wrong | (np.asarray(evidence[name]["draws"]) != draws))

    return check


def _moments(surface: Surface) -> tuple[Any, Any]:
    """Moment and merchant of each row."""
    return np.asarray(surface["utc_timestamp"]), np.asarray(surface["merchant_id"])


CHECKS = (
    ("arrivals are the world's, on their day", "S5", roster),
    ("arrivals cover their days", "S5", coverage),
    ("every physical arrival is routed once", "S5", of_roster("s5_selection_log", ("group", "site"), virtual=False)),
    ("zones and sites are the merchant's", "S5", routed),
    ("zone draws are logged", "S5", events("s5_rng_event_group", "s5_selection_log", "ctr_group", "group")),
    ("site draws are logged", "S5", events("s5_rng_event_site", "s5_selection_log", "ctr_site", "site")),
    ("draws are accounted", "S5", trace("s5_rng_trace", {"group": "s5_rng_event_group", "site": "s5_rng_event_site"})),
    ("every virtual arrival has an edge", "S6", of_roster("s6_edge_log", ("edge",), virtual=True)),
    ("edges are those offered", "S6", edges),
    ("edge draws are logged", "S6", events("s6_rng_event_edge", "s6_edge_log", "ctr_edge", "edge")),
    ("edge draws are accounted", "S6", trace("s6_rng_trace", {"edge": "s6_rng_event_edge"})),
)
