"""S5, routing: each physical arrival goes to a zone by the day's mix, then to a site by its weight in that zone.

Each arrival takes two uniforms, from two streams, both at the arrival's own address

    lo = utc microseconds * 4096 + occurrence among equal (merchant, moment)      hi = merchant id

so the choice depends only on (merchant, moment, occurrence) and the frozen tables: `Router` makes the choices of
the published log for arrivals in any order. Virtual arrivals are not routed here; they take an edge in S6.

The zone is the first whose cumulative share exceeds u; shares are quanta of 2^-48, so the sums are exact. The
site is the first whose cumulative weight within the zone exceeds u times the zone's weight. If all sites of the
zone have weight zero (heavy tails fall below a quantum), the choice among them is even.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b import streams
from lanelock.engine.segment_2b.states import rng_log
from lanelock.engine.segment_2b.states.s5_roster import DAY_US, OCCURRENCES, first_day, merchants_at, occurrences
from lanelock.engine.segment_2b.streams import unit
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.engine.workers import ranges, spread
from lanelock.policies import DataError

_PART = 1 << 18  # arrivals per thread at a time


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """The frozen tables of a run, laid out for lookup by arrival; independent of any roster."""

    merchant_id: NDArray[np.uint64]  # [m] ascending
    group_offsets: NDArray[np.int64]  # [m+1] merchant i owns groups group_offsets[i]:group_offsets[i+1]
    group_zone: NDArray[np.int32]  # [g] code into zones
    zones: tuple[str, ...]
    site_starts: NDArray[np.int64]  # [g+1] group k owns sites site_starts[k]:site_starts[k+1] of `site_id` and `upto`
    site_id: NDArray[np.uint64]  # [n] by group, as `site_ids` packs them
    upto: NDArray[np.float64]  # [n] cumulative weight within the group
    p_group: NDArray[np.float64]  # [r] S4's shares in grid order
    first_day: int  # days since 1970 of the grid's first day
    days: int
    keys: tuple[streams.Key, streams.Key]  # stream keys of the zone draw and the site draw

    def route(
        self, merchant_id: NDArray[np.uint64], utc_us: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> tuple[Categories, NDArray[np.uint64]]:
        """Returns zone and site of each arrival; arrivals come in any order, equal ones are numbered in that order.

        Raises DataError naming the row whose merchant or day is not in the tables, by its index in `rows`.
        """
        order = np.lexsort((merchant_id, utc_us))
        merchant_id, utc_us = merchant_id[order], utc_us[order]
        merchant, day = self.places(merchant_id, utc_us, order if rows is None else rows[order])
        lo = counters(utc_us, occurrences(utc_us, merchant_id))
        group, site = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        group[order], site[order] = self.choose(merchant, day, lo)
        return Categories(self.group_zone[group], self.zones), self.site_id[site]

    def places(
        self, merchant_id: NDArray[np.uint64], utc_us: NDArray[np.int64], rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns [a] indices of merchant and day. Raises DataError naming the row, by its index in `rows` if given."""
        merchant = merchants_at(self.merchant_id, merchant_id)
        day = utc_us // DAY_US - self.first_day
        unknown = merchant < 0
        wrong = np.flatnonzero(unknown | (day < 0) | (day >= self.days))
        if len(wrong):
            at = wrong[0]
            row = 1 + int(at if rows is None else rows[at])
            column, value = ("merchant_id", merchant_id[at]) if unknown[at] else ("utc_timestamp", utc_us[at])
            raise DataError(f"arrivals: row {row}: {column}: {value} is not in the routed tables")
        return merchant, day

    def choose(
        self, merchant: NDArray[np.int64], day: NDArray[np.int64], lo: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns [a] group and index into `site_id` of arrivals, from merchant, day and counter."""
        group, site = np.empty(len(lo), np.int64), np.empty(len(lo), np.int64)

        def choose(rows: slice) -> None:
            _choose(
                *self.keys, self.merchant_id, self.group_offsets, self.site_starts, self.upto, self.p_group, self.days,
                merchant[rows], day[rows], lo[rows], group[rows], site[rows],
            )  # fmt: skip

        spread(choose, ranges(len(lo), _PART))
        return group, site


def router(
    world: World, days: tuple[str, ...], s1: Surface, s4: Surface, policy: Mapping[str, Any], seed: int
) -> Router:
    """Lays out a run's tables: sites by group, with cumulative weights within each group."""
    order = np.argsort(world.site_group, kind="stable")
    starts = np.searchsorted(world.site_group[order], np.arange(len(world.group_zone) + 1)).astype(np.int64)
    weight = np.asarray(s1["p_weight"])[order]
    upto = np.empty_like(weight)
    _sum_within(starts, weight, upto)
    keys = tuple(streams.stream_key(world.digest, seed, str(policy["streams"][name])) for name in ("group", "site"))
    return Router(
        world.merchant_id, world.group_offsets, world.group_zone, world.zones, starts, site_ids(world)[order], upto,
        np.asarray(s4["p_group"]), first_day(days) // DAY_US, len(days), (keys[0], keys[1]),
    )  # fmt: skip


def route(tables: Router, roster: Surface, policy: Mapping[str, Any], created_utc: str) -> Surface:
    """Returns the surface s5_selection_log: the physical arrivals of the roster, in its order."""
    rows = np.flatnonzero(~np.asarray(roster["is_virtual"]))
    arrival, lo = arrivals(roster, rows)
    utc_us, merchant_id = np.asarray(arrival["utc_timestamp"]), np.asarray(arrival["merchant_id"])
    group, site = tables.choose(*tables.places(merchant_id, utc_us, rows), lo)
    return published(
        "s5_selection_log",
        **arrival,
        tz_group_id=Categories(tables.group_zone[group], tables.zones),
        site_id=tables.site_id[site],
        rng_stream_id=constant(stream_names(policy["streams"], ("group", "site")), len(rows)),
        ctr_group_hi=merchant_id,
        ctr_group_lo=lo,
        ctr_site_hi=merchant_id,
        ctr_site_lo=lo,
        created_utc=constant(created_utc, len(rows)),
    )


def arrivals(roster: Surface, rows: NDArray[np.int64]) -> tuple[dict[str, Column], NDArray[np.uint64]]:
    """Returns the columns that a log shares with these rows of the roster, and the counters of their draws."""
    names = ("utc_timestamp", "merchant_id", "utc_day")
    columns: dict[str, Column] = {name: roster[name][rows] for name in names}  # type: ignore[index]
    return columns, counters(np.asarray(columns["utc_timestamp"]), np.asarray(roster["occurrence"])[rows])


def routed(
    world: World, days: tuple[str, ...], s1: Surface, s4: Surface, roster: Surface, policy: Mapping[str, Any],
    seed: int, created_utc: str,
) -> tuple[Surface, Surface, Surface, Surface]:  # fmt: skip
    """Returns what S5 publishes beside the roster: selection log, both event logs, trace."""
    tables = router(world, days, s1, s4, policy, seed)
    log = route(tables, roster, policy, created_utc)
    zone_stream, site_stream = (str(policy["streams"][name]) for name in ("group", "site"))
    zones = rng_log.events("s5_rng_event_group", log, "ctr_group", zone_stream)
    sites = rng_log.events("s5_rng_event_site", log, "ctr_site", site_stream)
    return log, zones, sites, rng_log.trace("s5_rng_trace", {zone_stream: zones, site_stream: sites}, created_utc)


def stream_names(streams: Mapping[str, str], draws: Sequence[str]) -> str:
    """Returns the value of a log's rng_stream_id: the streams of its draws, in order."""
    return "+".join(streams[draw] for draw in draws)


def counters(utc_us: NDArray[np.int64], occurrence: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Returns [a] lower counter words. Raises DataError past 4,096 arrivals of one merchant in one microsecond."""
    if len(occurrence) and int(occurrence.max()) >= OCCURRENCES:
        raise DataError(
            f"arrivals: row {int(occurrence.argmax()) + 1}: more than {OCCURRENCES} of one merchant at once"
        )
    return utc_us.astype(np.uint64) * np.uint64(OCCURRENCES) + occurrence.astype(np.uint64)


def site_ids(world: World) -> NDArray[np.uint64]:
    """Returns [n] ids of sites within their merchant: (the country's two ASCII letters) * 2^32 + site_order."""
    letters = np.array([(ord(name[0]) << 8) | ord(name[1]) for name in world.country.values], np.uint64)
    return np.asarray((letters[world.country.codes] << np.uint64(32)) + world.site_order.astype(np.uint64))


@compiled
def _sum_within(starts: Any, weight: Any, upto: Any) -> None:
    for k in range(len(starts) - 1):
        total = 0.0
        for site in range(starts[k], starts[k + 1]):
            total += weight[site]
            upto[site] = total


@compiled
def _choose(
    zone_key: Any, site_key: Any, merchant_id: Any, group_offsets: Any, site_starts: Any, upto: Any, p_group: Any,
    days: int, merchant: Any, day: Any, lo: Any, group: Any, site: Any,
) -> None:  # fmt: skip
    for row in range(len(lo)):
        i = merchant[row]
        first, n = group_offsets[i], group_offsets[i + 1] - group_offsets[i]
        at = days * first + day[row] * n
        u, passed, k = unit(zone_key, lo[row], merchant_id[i]), p_group[at], 0
        while u >= passed:  # the shares sum to exactly 1 and u < 1
            k += 1
            passed += p_group[at + k]
        group[row] = first + k
        v = unit(site_key, lo[row], merchant_id[i])
        site[row] = _site(upto, site_starts[first + k], site_starts[first + k + 1], v)


@compiled
def _site(upto: Any, begin: int, end: int, u: float) -> int:
    """Returns the first site of begin:end whose cumulative weight exceeds u of the total; if that is 0, any evenly."""
    whole = upto[end - 1]
    if whole == 0.0:
        return begin + min(int(u * (end - begin)), end - begin - 1)
    wanted = min(u * whole, np.nextafter(whole, 0.0))  # u * whole may round up to the whole
    low, high = begin, end - 1
    while low < high:
        middle = (low + high) // 2
        if upto[middle] > wanted:
            high = middle
        else:
            low = middle + 1
    return low
