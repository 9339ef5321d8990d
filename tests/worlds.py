"""Tiny worlds, built by keyword, with only what a test needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files

import numpy as np

from lanelock.engine.segment_2b.draw_world import assemble_world
from lanelock.engine.segment_2b.geography import categories
from lanelock.engine.segment_2b.world import World

DEFAULT_SITES: Mapping[int, Mapping[str, int]] = {
    1: {"Europe/London": 3, "Europe/Paris": 2},
    2: {"America/New_York": 4, "America/Chicago": 3, "America/Denver": 2},
    3: {"Asia/Tokyo": 6},
    4: {"Europe/Paris": 1, "Europe/Berlin": 9},
    5: {"Australia/Sydney": 2},
}


def tiny_world(
    *, sites: Mapping[int, Mapping[str, int]] = DEFAULT_SITES, virtual: Collection[int] = (), source: str = "drawn"
) -> World:
    """Returns a world from {merchant_id: {zone: number of sites}}.

    Each zone's sites lie in the zone's first country and at its reference city (zone.tab), so the key order
    follows countries, as in a real world; site_order counts from 1 within (merchant, country).
    """
    rows = [
        (merchant, *_reference_city(zone), zone)
        for merchant, zones in sites.items()
        for zone, count in zones.items()
        for _ in range(count)
    ]
    seen: dict[tuple[int, str], int] = {}
    orders = []
    for merchant, country, *_ in rows:
        seen[merchant, country] = seen.get((merchant, country), 0) + 1
        orders.append(seen[merchant, country])
    merchants, countries, lats, lons, zones_ = zip(*rows, strict=True)
    ids = np.array(sorted(sites), dtype=np.uint64)
    return assemble_world(
        source=source,
        merchant_id=ids,
        is_virtual=np.isin(ids, np.array(sorted(virtual), dtype=np.uint64)),
        site_merchant=np.array(merchants, dtype=np.uint64),
        country=categories(countries),
        site_order=np.array(orders, dtype=np.int32),
        lat_deg=np.array(lats, dtype=np.float64),
        lon_deg=np.array(lons, dtype=np.float64),
        zone=categories(zones_),
    )


def _reference_city(zone: str) -> tuple[str, float, float]:
    """Returns (ISO country, latitude, longitude) of the city that names the zone."""
    return _zone_tab()[zone]


@cache
def _zone_tab() -> dict[str, tuple[str, float, float]]:
    text = files("tzdata").joinpath("zoneinfo/zone.tab").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {name: (country, *_degrees(place)) for country, place, name, *_ in lines}


def _degrees(place: str) -> tuple[float, float]:
    """Returns ISO 6709 "+5130-00007" or "+513030-0000731" as (latitude, longitude) in degrees."""
    cut = max(place.rfind("+"), place.rfind("-"))
    return _angle(place[:cut], 2), _angle(place[cut:], 3)


def _angle(text: str, width: int) -> float:
    sign, digits = (-1.0 if text[0] == "-" else 1.0), text[1:].ljust(width + 4, "0")
    return sign * (int(digits[:width]) + int(digits[width : width + 2]) / 60 + int(digits[width + 2 :]) / 3600)
