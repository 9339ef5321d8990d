"""The record's logs, as JSON Lines made a part of a day at a time.

The roster, the selection and edge logs hold the rows of our own; streams have their names in the record's policies. Of
each draw there is an event, and a row of the trace with the totals of its stream so far. A draw takes one block of its
counter, so `after` is `before + 1`, in 128 bits over (hi, lo). `ts_utc` is the moment of the arrival that was drawn
for, and that of S0 in the audit log: no clock.

S5 routes physical arrivals only, and S6 gives virtual ones an edge. The record's edge log names a zone and a site for
them too: those that S5's law gives for the arrival at its own address. No event stands for these, since S6 uses
neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.layout import Address, days_of
from lanelock.engine.segment_2b.lines import Fields, lines, numbers, parts_of, texts
from lanelock.engine.segment_2b.record.places import place
from lanelock.engine.segment_2b.states.s3_day_effects import horizon
from lanelock.engine.segment_2b.states.s5_roster import merchants_at
from lanelock.engine.segment_2b.states.s5_routing import Router, router
from lanelock.engine.segment_2b.states.s7_evidence import coded
from lanelock.engine.surface import Categories, Surface

ALGORITHM = "philox2x64-10"  # the one name that the record's audit log admits
_NOTES = "drawn by Philox4x64-10 at counter (lo, hi, 0, 0); its first word is used"
_ROUTER, _EDGE = "2B.S5.router", "2B.virtual_edge"
_ZERO = np.uint64(0)
Part = tuple[str, Any]  # a file, and the bytes that go to its end


@dataclass(frozen=True, eq=False)
class Logs:
    """The logs of one run. `streams`: the names of the streams by which arrivals are routed and edges are picked."""

    run: Run
    address: Address
    streams: Mapping[str, str]

    def parts(self) -> Iterator[Callable[[], list[Part]]]:
        """Yields how to make each part of the logs. Files are made by adding the parts' bytes in order."""
        yield lambda: [(self._place("rng_audit_log"), lines(self._audit))]
        for name, made in (
            ("s5_arrival_roster", self._arrivals),
            ("s5_selection_log", self._selections),
            ("s6_edge_log", self._edges),
        ):
            surface = self.run.surfaces[name]
            for number, (day, rows) in enumerate(days_of(surface)):
                for each in parts_of(rows):
                    yield partial(made, surface, day, number, each)

    def _arrivals(self, roster: Surface, day: str, number: int, rows: slice) -> list[Part]:
        names = ("merchant_id", "utc_timestamp", "utc_day", "is_virtual")
        fields = {name: texts(roster, name, rows) for name in names}
        return [(self._place("s5_arrival_roster"), lines(fields))]

    def _selections(self, log: Surface, day: str, number: int, rows: slice) -> list[Part]:
        names = ("merchant_id", "utc_timestamp", "tz_group_id", "site_id")
        column = {name: texts(log, name, rows) for name in names}
        counters = {name: texts(log, name, rows) for name in ("ctr_group_hi", "ctr_group_lo")}
        site = {name: texts(log, name, rows) for name in ("ctr_site_hi", "ctr_site_lo")}
        selection = {
            **{name: column[name] for name in ("merchant_id", "utc_timestamp")},
            "utc_day": day,
            **{name: column[name] for name in ("tz_group_id", "site_id")},
            "rng_stream_id": self.streams["routing_selection"],
            **counters,
            **site,
            **self._world,
        }
        common = {"merchant_id": column["merchant_id"], "utc_day": day, "tz_group_id": column["tz_group_id"]}
        group, group_total = self._draws(_ROUTER, "alias_pick_group", log, "ctr_group", column, rows)
        pick, pick_total = self._draws(_ROUTER, "alias_pick_site", log, "ctr_site", column, rows)
        share = numbers(self._shares(log, day, rows), pa.float64())
        return [
            (self._place("s5_selection_log", utc_day=day), lines(selection)),
            (self._event("alias_pick_group", number), lines({**group, **common, "p_group": share})),
            (self._event("alias_pick_site", number), lines({**pick, **common, "site_id": column["site_id"]})),
            (self._place("rng_trace_log"), lines(group_total, pick_total)),
        ]

    def _edges(self, log: Surface, day: str, number: int, rows: slice) -> list[Part]:
        place, counter = ("edge_id", "ip_country", "edge_lat", "edge_lon"), ("ctr_edge_hi", "ctr_edge_lo")
        names = ("merchant_id", "utc_timestamp", *place, *counter)
        column = {name: texts(log, name, rows) for name in names}
        zone, site = self._routed(log, day, rows)
        edge = {
            "merchant_id": column["merchant_id"],
            "is_virtual": True,
            "utc_timestamp": column["utc_timestamp"],
            "utc_day": day,
            "tz_group_id": zone,
            "site_id": site,
            **{name: column[name] for name in place},
            "rng_stream_id": self.streams["routing_edge"],
            **{name: column[name] for name in counter},
            **self._world,
        }
        drawn, total = self._draws(_EDGE, "cdn_edge_pick", log, "ctr_edge", column, rows)
        return [
            (self._place("s6_edge_log", utc_day=day), lines(edge)),
            (self._event("cdn_edge_pick", number), lines({**drawn, "merchant_id": column["merchant_id"]})),
            (self._place("rng_trace_log"), lines(total)),
        ]

    def _draws(
        self, module: str, label: str, log: Surface, counter: str, column: Fields, rows: slice
    ) -> tuple[Fields, Fields]:
        """Returns the fields of the events' envelope and of the trace: one draw per row of a log, at its counter."""
        source = {"module": module, "substream_label": label}
        counters = _before_and_after(np.asarray(log[f"{counter}_hi"])[rows], np.asarray(log[f"{counter}_lo"])[rows])
        upto = numbers(np.arange(rows.start + 1, rows.stop + 1), pa.int64())
        hashes = {name: getattr(self.address, name) for name in ("parameter_hash", "manifest_fingerprint")}
        moment = {"ts_utc": column["utc_timestamp"]}
        event = {**moment, **self._run, **hashes, **source, **counters, "draws": "1", "blocks": 1}
        totals = dict.fromkeys(("draws_total", "blocks_total", "events_total"), upto)
        return event, {**moment, **self._run, **source, **totals, **counters}

    def _shares(self, log: Surface, day: str, rows: slice) -> NDArray[np.float64]:
        """Returns the share that each arrival's zone has of its merchant's day."""
        world, names = self.run.upstream, {name: code for code, name in enumerate(self.run.upstream.zones)}
        zone = coded(log["tz_group_id"][rows], names)
        merchant = merchants_at(world.merchant_id, np.asarray(log["merchant_id"])[rows])
        group = np.searchsorted(self._groups, merchant * len(world.zones) + zone)
        first, zones = world.group_offsets[merchant], np.diff(world.group_offsets)[merchant]
        row = len(self._days) * first + self._days.index(day) * zones + group - first
        return np.asarray(self._router.p_group[row])

    def _routed(self, log: Surface, day: str, rows: slice) -> tuple[pa.Array, pa.Array]:
        """Returns zone and site, as JSON texts, where S5's law would send the arrivals."""
        merchant = merchants_at(self.run.upstream.merchant_id, np.asarray(log["merchant_id"])[rows])
        days = np.full(len(merchant), self._days.index(day), np.int64)
        group, site = self._router.choose(merchant, days, np.asarray(log["ctr_edge_lo"])[rows])
        zone = Categories(self._router.group_zone[group], self._router.zones)
        named = pa.array([f'"{name}"' for name in zone.values]).take(pa.array(zone.codes))
        return named, numbers(self._router.site_id[site], pa.uint64())

    @cached_property
    def _router(self) -> Router:
        run = self.run
        s1, s4, policy = (
            run.surfaces["s1_site_weights"],
            run.surfaces["s4_group_weights"],
            run.pack["route_rng_policy_v1"],
        )
        return router(run.upstream, self._days, s1, s4, policy, run.seed)

    @cached_property
    def _days(self) -> tuple[str, ...]:
        return horizon(self.run.pack["day_effect_policy_v1"])

    @cached_property
    def _groups(self) -> NDArray[np.int64]:
        """Returns [g] ascending: the merchant's index times the number of zones, plus the zone."""
        world = self.run.upstream
        merchant = np.repeat(np.arange(len(world.merchant_id)), np.diff(world.group_offsets))
        return np.asarray(merchant * len(world.zones) + world.group_zone)

    @property
    def _audit(self) -> Fields:
        """Returns the one row of the audit log."""
        hashes = {name: getattr(self.address, name) for name in ("manifest_fingerprint", "parameter_hash")}
        law = {"algorithm": ALGORITHM, "build_commit": self.run.code_version, "notes": _NOTES}
        return {"ts_utc": self._created, **self._run, **hashes, **law}

    @cached_property
    def _created(self) -> str:
        return str(self.run.sealed.created_utc)

    @cached_property
    def _run(self) -> Fields:
        return {"run_id": self.address.run_id, "seed": self.address.seed}

    @cached_property
    def _world(self) -> Fields:
        return {"manifest_fingerprint": self.address.manifest_fingerprint, "created_utc": self._created}

    def _place(self, name: str, **more: object) -> str:
        return place(name, self.address, **more)

    def _event(self, event: str, part: int) -> str:
        return place("rng_event", self.address, event=event, part=part)


def _before_and_after(hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> Fields:
    """Returns the counters before and after a draw of one block, as JSON texts."""
    after = lo + np.uint64(1)
    words = {"before_lo": lo, "before_hi": hi, "after_lo": after, "after_hi": hi + (after == _ZERO)}
    return {f"rng_counter_{name}": numbers(values, pa.uint64()) for name, values in words.items()}
