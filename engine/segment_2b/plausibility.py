"""Counts the sites of a world whose zone, country and coordinates do not belong together.

A wrong coordinate or a zone that is not the place's gives a merchant a further group, so it improves the mix that S4
is graded by.
The counts add up over shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.zones import countries_of, rules_over

# Polygons and surveyed coordinates disagree by some kilometres along borders: a country reaches this far beyond.
BORDER_DEG = 0.1
Alike = frozenset[tuple[str, int, str]]  # (country, number of the rules, zone)


@dataclass(frozen=True, slots=True)
class Plausibility:
    """The sites and groups of a world, or of a shard, that are not plausible."""

    foreign_zone: int  # sites whose zone no place of their country has
    off_zone: int  # sites whose zone holds neither at their coordinates nor near them
    unbacked: int  # merchants with a group in whose zone none of their sites stands
    nowhere: int  # sites whose coordinates lie in no country, or at 0/0
    at_zero: int  # sites at 0/0
    abroad: int  # sites whose coordinates lie in countries, but not in their own
    alike_groups: int  # groups of a merchant that has another in the same country by the same rules
    alike: Alike  # of every site

    def counts(self) -> dict[str, int]:
        """Returns the counts of a whole world, for its description."""
        return {
            "sites_in_a_foreign_zone": self.foreign_zone,
            "sites_off_their_zone": self.off_zone,
            "merchants_off_a_zone": self.unbacked,
            "sites_in_no_country": self.nowhere,
            "sites_at_0_0": self.at_zero,
            "sites_in_another_country": self.abroad,
            "zones_alike": alike_zones(self.alike),
            "groups_alike": self.alike_groups,
        }


def plausibility(world: World, horizon: Mapping[str, Any]) -> Plausibility:
    """Returns the counts of a world or a shard; rules are compared over the horizon of `day_effect_policy_v1`."""
    at_zero = (world.lat_deg == 0.0) & (world.lon_deg == 0.0)
    place = _places(world)
    nowhere, abroad = _misplaced(world, place)
    off_zone = _off_zone(world, place)
    rules = rules_over(horizon["start_day"], int(horizon["days"]))
    _, first = _numbered(world.country.codes, world.zone.codes)
    named = [(world.country.values[world.country.codes[i]], world.zones[world.zone.codes[i]]) for i in first]
    return Plausibility(
        foreign_zone=int(_foreign(world, place).sum()),
        off_zone=int(off_zone.sum()),
        unbacked=_unbacked(world, off_zone),
        nowhere=int((nowhere | at_zero).sum()),
        at_zero=int(at_zero.sum()),
        abroad=int((abroad & ~at_zero).sum()),
        alike_groups=_alike_groups(world, np.array([rules[zone] for zone in world.zones], np.int64)),
        alike=frozenset((country, rules[zone], zone) for country, zone in named),
    )


def alike_zones(sites: Iterable[tuple[str, int, str]]) -> int:
    """Returns how many zones share country and rules with another, of (country, number of the rules, zone)."""
    zones: dict[tuple[str, int], set[str]] = {}
    for country, rules, zone in sites:
        zones.setdefault((country, rules), set()).add(zone)
    return len(set[str]().union(*(same for same in zones.values() if len(same) > 1)))


def _places(world: World) -> NDArray[np.int64]:
    """Returns [n] the number of each site's place: its coordinates."""
    return _numbered(
        np.unique(world.lat_deg, return_inverse=True)[1], np.unique(world.lon_deg, return_inverse=True)[1]
    )[0]


def _misplaced(world: World, place: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns [n] whether a site lies in no country, and [n] whether in countries that are not its own."""
    which, first = _numbered(place, world.country.codes)
    nowhere, abroad = np.zeros(len(first), np.bool_), np.zeros(len(first), np.bool_)
    for i, (lat, lon, country) in enumerate(_points(world, first)):
        here = _countries(geography.polygons(lat, lon))
        nowhere[i] = not here
        abroad[i] = bool(here) and country not in here and country not in _countries(_zones_near(lat, lon))
    return nowhere[which], abroad[which]


def _foreign(world: World, place: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns [n] whether no place of a site's country has its zone.

    The zone in which a place near the border lies by its polygon is none that somebody chose: it counts as its own.
    """
    which, first = _numbered(world.country.codes, world.zone.codes)
    pairs = [(world.country.values[world.country.codes[i]], world.zones[world.zone.codes[i]]) for i in first]
    foreign = np.array([country not in countries_of(zone) for country, zone in pairs], np.bool_)[which]
    chosen = np.asarray(world.zone_source.values)[world.zone_source.codes] == "override"
    sites = np.flatnonzero(foreign & ~chosen)
    kind, first = _numbered(place[sites], world.country.codes[sites], world.zone.codes[sites])
    on_border = np.zeros(len(first), np.bool_)
    for i, (lat, lon, country) in enumerate(_points(world, sites[first])):
        near = _zones_near(lat, lon)
        on_border[i] = world.zones[world.zone.codes[sites[first[i]]]] in near and country in _countries(near)
    foreign[sites] = ~on_border[kind]
    return foreign


def _off_zone(world: World, place: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns [n] whether a site's zone holds neither at its coordinates nor within the breadth of a border."""
    which, first = _numbered(place, world.zone.codes)
    points = zip(world.lat_deg[first].tolist(), world.lon_deg[first].tolist(), world.zone.codes[first], strict=True)
    off = [
        world.zones[zone] not in geography.polygons(lat, lon) and world.zones[zone] not in _zones_near(lat, lon)
        for lat, lon, zone in points
    ]
    return np.array(off, np.bool_)[which]


def _unbacked(world: World, off_zone: NDArray[np.bool_]) -> int:
    """Returns the number of merchants with a group whose sites are all off their zone."""
    groups = len(world.group_zone)
    inside = np.bincount(world.site_group[~off_zone], minlength=groups) > 0
    outside = np.bincount(world.site_group[off_zone], minlength=groups) > 0
    merchant = np.repeat(np.arange(len(world.merchant_id)), np.diff(world.group_offsets))
    return len(np.unique(merchant[outside & ~inside]))


def _points(world: World, sites: NDArray[np.int64]) -> Iterable[tuple[float, float, str]]:
    """Returns latitude, longitude and country of some sites."""
    countries = [world.country.values[code] for code in world.country.codes[sites]]
    return zip(world.lat_deg[sites].tolist(), world.lon_deg[sites].tolist(), countries, strict=True)


@cache
def _countries(zones: frozenset[str]) -> frozenset[str]:
    return frozenset[str]().union(*map(countries_of, zones))


@cache
def _zones_near(lat_deg: float, lon_deg: float) -> frozenset[str]:
    """Returns the zones of a point and of those around it, across the meridian of 180 degrees too."""
    steps = np.linspace(-BORDER_DEG, BORDER_DEG, 5).tolist()
    norths = [min(max(lat_deg + step, -90.0), 90.0) for step in steps]
    easts = [(lon_deg + step + 180.0) % 360.0 - 180.0 for step in steps]
    around = [(north, east) for north in norths for east in easts]
    return geography.polygons(lat_deg, lon_deg).union(*(geography.polygons(*point) for point in around))


def _alike_groups(world: World, rules: NDArray[np.int64]) -> int:
    """Returns the number of groups whose merchant has another group in the same country by the same rules."""
    merchant = np.repeat(np.arange(len(world.merchant_id)), np.diff(world.site_offsets))
    kind, _ = _numbered(merchant, world.country.codes, rules[world.zone.codes])
    _, first = _numbered(kind, world.site_group)  # each group once for every kind that it has
    several = np.bincount(kind[first])[kind[first]] > 1
    return len(np.unique(world.site_group[first][several]))


def _numbered(*codes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns [n] the number of each row among the distinct rows, and [k] the first row of each; codes are >= 0."""
    key = np.zeros(len(codes[0]), np.int64)
    for column in codes:
        key = np.unique(key * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return which, first
