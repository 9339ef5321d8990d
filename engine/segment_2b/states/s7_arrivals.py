"""The audit's checks of S5 and S6: the arrivals, the route of each, and the draws made for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.states import s5_routing, s6_edges
from lanelock.engine.segment_2b.states.s5_roster import DAY_US, first_day, merchants_at, occurrences
from lanelock.engine.segment_2b.states.s7_evidence import Evidence, Failing, among, any_differ, coded, differ, is_not
from lanelock.engine.workers import ranges, spread

_PART = 1 << 18  # rows per thread at a time, in a check that is slow per row
_ROUTING = "route_rng_policy_v1"


def roster(evidence: Evidence) -> Failing:
    """Per arrival: its day is in the horizon and that of its moment; its merchant is known and virtual as in the world;
    its class and channel are declared; its occurrence counts earlier arrivals of that merchant and moment."""
    arrivals, world = evidence["s5_arrival_roster"], evidence.world
    law = evidence.pack[_ROUTING]["roster"]
    moment, merchant = np.asarray(arrivals["utc_timestamp"]), np.asarray(arrivals["merchant_id"])
    of_day = coded(arrivals["utc_day"], {day: first_day((day,)) // DAY_US for day in evidence.horizon})
    at = merchants_at(world.merchant_id, merchant)
    failing = (at < 0) | (world.is_virtual[at] != np.asarray(arrivals["is_virtual"])) | (moment // DAY_US != of_day)
    failing |= differ(arrivals["occurrence"], occurrences(moment, merchant))
    for column, mix in (("arrival_class", "class_mix"), ("channel", "channel_mix")):
        failing |= ~among(arrivals[column], law[mix].__contains__)
    return np.asarray(failing)


def coverage(evidence: Evidence) -> Failing:
    """Per merchant-day: a drawn roster has one arrival on the first day (smoke mode) or at least one on every day
    (realism mode). An imported roster need not cover its days: gates decide what a grade needs."""
    if "arrival_roster" in evidence.sealed.digests():
        return np.zeros(0, np.bool_)
    arrivals, days = evidence["s5_arrival_roster"], len(evidence.horizon)
    merchant = merchants_at(evidence.world.merchant_id, np.asarray(arrivals["merchant_id"]))
    day = coded(arrivals["utc_day"], evidence.horizon)
    cell, known = merchant * days + day, (merchant >= 0) & (day >= 0)
    counts = np.bincount(cell if known.all() else cell[known], minlength=len(evidence.world.merchant_id) * days)
    if evidence.pack[_ROUTING]["roster"]["mode"] == "realism":
        return np.asarray(counts < 1)
    first = np.arange(len(counts)) % days == 0
    return np.asarray(counts != first)


def of_roster(name: str, streams: Sequence[str], *, virtual: bool) -> Callable[[Evidence], Failing]:
    """Returns a check, per row: the log holds each physical (or virtual) arrival once, at the law's address."""

    def check(evidence: Evidence) -> Failing:
        roster, log = evidence["s5_arrival_roster"], evidence[name]
        expected, lo = s5_routing.arrivals(roster, np.flatnonzero(np.asarray(roster["is_virtual"]) == virtual))
        failing = any_differ(log, expected, expected)
        failing |= is_not(log["rng_stream_id"], s5_routing.stream_names(evidence.streams, streams))
        for column in log.columns:
            if column.startswith("ctr_"):
                failing |= differ(log[column], expected["merchant_id"] if column.endswith("_hi") else lo)
        return failing

    return check


def routed(evidence: Evidence) -> Failing:
    """Per arrival: the zone is one of the merchant's, with a share that day; the site is in that zone, with a weight
    unless all its sites have weight 0."""
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

    def check(rows: slice) -> None:
        _routed(
            merchant[rows], zone[rows], day[rows], site_id[rows], world.group_offsets, world.group_zone, p_group, days,
            starts, ids[order], weight[order], failing[rows],
        )  # fmt: skip

    spread(check, ranges(log.rows, _PART))
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
    """Per arrival: the edge is one that the policy offers its merchant with a weight above 0, at its declared place."""
    log, offered = evidence["s6_edge_log"], s6_edges.offered(evidence.pack["virtual_edge_policy_v1"])
    merchant, lat, lon = (np.asarray(log[name]) for name in ("merchant_id", "edge_lat", "edge_lon"))
    known, alone = np.zeros(log.rows, np.bool_), np.zeros(log.rows, np.bool_)
    for owner, choices in offered.items():
        mine = ~alone if owner is None else merchant == np.uint64(owner)
        alone |= mine
        for edge in choices:
            if edge["weight"] > 0:
                place = (lat == edge["edge_lat"]) & (lon == edge["edge_lon"])
                named = ~is_not(log["edge_id"], edge["edge_id"]) & ~is_not(log["ip_country"], edge["ip_country"])
                known |= mine & place & named
    return ~known


def events(event: str, log: str, counter: str, stream: str) -> Callable[[Evidence], Failing]:
    """Returns a check, per row: the event log holds the log's draws, one each, for the same arrival and address."""

    def check(evidence: Evidence) -> Failing:
        events, drawn = evidence[event], evidence[log]
        failing = is_not(events["rng_stream_id"], evidence.streams[stream]) | (np.asarray(events["draws"]) != 1)
        failing = failing | any_differ(events, drawn, ("utc_timestamp", "merchant_id", "utc_day"))
        for word in ("lo", "hi"):
            failing = failing | differ(events[f"rng_counter_{word}"], drawn[f"{counter}_{word}"])
        return np.asarray(failing)

    return check


def trace(name: str, logs: Mapping[str, str]) -> Callable[[Evidence], Failing]:
    """Returns a check, per stream: its totals are those of its event log; `logs` maps draw -> event log."""

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
