"""S6: each virtual arrival takes an edge, by one uniform at the arrival's own address.

The address is S5's (see `engine.segment_2b.states.s5_routing`), in a stream of its own. A merchant that the policy
gives edges of its own takes one of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lanelock.engine.segment_2b import streams
from lanelock.engine.segment_2b.mass import cumulative
from lanelock.engine.segment_2b.states import rng_log
from lanelock.engine.segment_2b.states.s5_routing import counters
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.policies import PolicyError

Edge = Mapping[str, Any]
_LAST_MERCHANT = 2**64 - 1


def edges(
    world: World,
    roster: Surface,
    edge_policy: Mapping[str, Any],
    policy: Mapping[str, Any],
    seed: int,
    created_utc: str,
) -> Surface:
    """The surface s6_edge_log: the virtual arrivals of the roster, in its order."""
    stream = str(policy["streams"]["edge"])
    kept = np.flatnonzero(np.asarray(roster["is_virtual"]))
    merchant_id = np.asarray(roster["merchant_id"])[kept]
    lo = counters(np.asarray(roster["utc_timestamp"])[kept], np.asarray(roster["occurrence"])[kept])
    u = streams.uniforms(streams.stream_key(world.digest, seed, stream), lo, merchant_id)
    every: list[Edge] = []
    choice = np.empty(len(kept), np.int32)
    left = np.ones(len(kept), np.bool_)
    for merchant, own in offered(edge_policy).items():
        rows = left if merchant is None else merchant_id == np.uint64(merchant)
        field = "default_edges" if merchant is None else f"merchant_overrides/{merchant}"
        choice[rows] = len(every) + _pick(own, u[rows], field)
        left = left & ~rows
        every.extend(own)
    which: Categories = roster["utc_day"]  # type: ignore[assignment]
    constant = np.zeros(len(kept), np.int8)
    columns: dict[str, Column] = {
        "utc_timestamp": np.asarray(roster["utc_timestamp"])[kept],
        "merchant_id": merchant_id,
        "utc_day": Categories(which.codes[kept], which.values),
        "edge_id": Categories(choice, tuple(str(edge["edge_id"]) for edge in every)),
        "ip_country": Categories(choice, tuple(str(edge["ip_country"]) for edge in every)),
        "edge_lat": np.array([edge["edge_lat"] for edge in every], np.float64)[choice],
        "edge_lon": np.array([edge["edge_lon"] for edge in every], np.float64)[choice],
        "rng_stream_id": Categories(constant, (stream,)),
        "ctr_edge_hi": merchant_id,
        "ctr_edge_lo": lo,
        "created_utc": Categories(constant, (created_utc,)),
    }
    return Surface("s6_edge_log", TABLES["s6_edge_log"].schema, columns)


def logged(log: Surface, policy: Mapping[str, Any], created_utc: str) -> tuple[Surface, Surface, Surface]:
    """What S6 publishes: the edge log, its event log, its trace."""
    stream = str(policy["streams"]["edge"])
    drawn = rng_log.events("s6_rng_event_edge", log, "ctr_edge", stream)
    return log, drawn, rng_log.trace("s6_rng_trace", {stream: drawn}, created_utc)


def offered(edge_policy: Mapping[str, Any]) -> dict[int | None, Sequence[Edge]]:
    """Merchant id -> the edges it may take; None, the last, stands for every other merchant. Raises PolicyError."""
    own: list[tuple[int | None, Sequence[Edge]]] = [
        (int(merchant), some) for merchant, some in sorted(edge_policy["merchant_overrides"].items())
    ]
    for merchant, _ in own:
        if merchant is not None and merchant > _LAST_MERCHANT:
            where = f"virtual_edge_policy_v1: /merchant_overrides/{merchant}"
            raise PolicyError(f"{where}: above the largest merchant id {_LAST_MERCHANT}")
    return dict([*own, (None, edge_policy["default_edges"])])


def _pick(offered: Sequence[Edge], u: Any, field: str) -> Any:
    """[a] index of the first edge whose cumulative weight passes u; edges without weight are never taken."""
    upto = cumulative((edge["weight"] for edge in offered), f"virtual_edge_policy_v1: /{field}")
    return np.searchsorted(upto, u, side="right").astype(np.int32)
