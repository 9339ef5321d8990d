"""S6: each virtual arrival takes an edge, by one uniform at the arrival's own address.

The address is that of S5 (see `s5_routing`), in a separate stream. Edges come from the policy's override for the
merchant, if it has one, else from the default edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lanelock.engine.segment_2b import streams
from lanelock.engine.segment_2b.mass import cumulative
from lanelock.engine.segment_2b.states import rng_log
from lanelock.engine.segment_2b.states.s5_routing import arrivals
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Categories, Surface
from lanelock.policies import PolicyError

Edge = Mapping[str, Any]
_LAST_MERCHANT = 2**64 - 1


def edges(
    world: World, roster: Surface, offer: Mapping[str, Any], policy: Mapping[str, Any], seed: int, created_utc: str
) -> Surface:
    """Returns the surface s6_edge_log: the virtual arrivals of the roster, in its order."""
    stream = str(policy["streams"]["edge"])
    arrival, lo = arrivals(roster, np.flatnonzero(np.asarray(roster["is_virtual"])))
    merchant_id = np.asarray(arrival["merchant_id"])
    u = streams.uniforms(streams.stream_key(world.digest, seed, stream), lo, merchant_id)
    every: list[Edge] = []
    choice, left = np.empty(len(lo), np.int32), np.ones(len(lo), np.bool_)
    for merchant, own in offered(offer).items():
        rows = left if merchant is None else merchant_id == np.uint64(merchant)
        field = "default_edges" if merchant is None else f"merchant_overrides/{merchant}"
        choice[rows] = len(every) + _pick(own, u[rows], field)
        left = left & ~rows
        every.extend(own)
    return published(
        "s6_edge_log",
        **arrival,
        edge_id=Categories(choice, tuple(str(edge["edge_id"]) for edge in every)),
        ip_country=Categories(choice, tuple(str(edge["ip_country"]) for edge in every)),
        edge_lat=np.array([edge["edge_lat"] for edge in every], np.float64)[choice],
        edge_lon=np.array([edge["edge_lon"] for edge in every], np.float64)[choice],
        rng_stream_id=constant(stream, len(lo)),
        ctr_edge_hi=merchant_id,
        ctr_edge_lo=lo,
        created_utc=constant(created_utc, len(lo)),
    )


def logged(log: Surface, policy: Mapping[str, Any], created_utc: str) -> tuple[Surface, Surface, Surface]:
    """Returns what S6 publishes: the edge log, its event log, its trace."""
    stream = str(policy["streams"]["edge"])
    drawn = rng_log.events("s6_rng_event_edge", log, "ctr_edge", stream)
    return log, drawn, rng_log.trace("s6_rng_trace", {stream: drawn}, created_utc)


def offered(edge_policy: Mapping[str, Any]) -> dict[int | None, Sequence[Edge]]:
    """Returns merchant id -> the edges it may take; None, the last key, stands for all other merchants.

    Raises PolicyError if an id exceeds 64 bits.
    """
    by_merchant: dict[int | None, Sequence[Edge]] = {}
    for merchant, edges in sorted(edge_policy["merchant_overrides"].items()):
        if int(merchant) > _LAST_MERCHANT:
            where = f"virtual_edge_policy_v1: /merchant_overrides/{merchant}"
            raise PolicyError(f"{where}: above the largest merchant id {_LAST_MERCHANT}")
        by_merchant[int(merchant)] = edges
    return {**by_merchant, None: edge_policy["default_edges"]}


def _pick(offered: Sequence[Edge], u: Any, field: str) -> Any:
    """Returns [a] the index of the first edge whose cumulative weight exceeds u; an edge of weight 0 is never taken."""
    upto = cumulative((edge["weight"] for edge in offered), f"virtual_edge_policy_v1: /{field}")
    return np.searchsorted(upto, u, side="right").astype(np.int32)
