"""The floor of S4's tail, by the number of zones of a merchant."""

from __future__ import annotations

from collections.abc import Mapping

from lanelock.scoring.feasibility import Floor, FloorPart


def tail_floor(metrics: Mapping[str, float]) -> list[Floor]:
    """Returns the floor of s4/tail_share with its parts; nothing if S4 was not measured."""
    if "s4/tail_share" not in metrics:
        return []
    one, two = metrics["s4/single_group_share"], metrics.get("s4/two_group_share")
    parts = (
        FloorPart("1 zone", one, 1.0 if one > 0.0 else None),
        FloorPart("2 zones", two, metrics.get("s4/tail_share_two")),
        FloorPart("3 zones or more", None if two is None else 1.0 - one - two, metrics.get("s4/tail_share_three")),
    )
    return [Floor("s4/tail_share", one, metrics["s4/tail_share"], metrics.get("s4/tail_share_multi"), parts)]
