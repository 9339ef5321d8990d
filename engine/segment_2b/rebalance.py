"""The rebalance of 2A: gives a few sites of merchants of one zone the nearest further zone of their country.

A site moves only to a zone that holds at a place (a city of the shipped table) of its own country, at most
`greatest_km` away. Its merchant has one zone, at least `least_sites` sites, and sites that span at least
`least_span_deg` of longitude, since a merchant in one town has no use for a second zone. An override stands.

Three caps are applied in turn, each a share of sites rounded down: of a merchant's, of a country's, of all sites. Each
takes the nearest sites first, and the first site of every merchant before any second one. A cap counts only the sites
that the caps before it let through, so a higher cap never moves fewer sites. The order depends on the world alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.geography import EARTH_KM, compacted, great_circle_km
from lanelock.engine.segment_2b.zones import countries_of
from lanelock.engine.surface import Categories

SOURCE = "rebalance"  # the zone_source of a moved site
_ROUNDING = 1e-9  # .29 of 100 sites are 29


@dataclass(frozen=True, slots=True)
class Rebalance:
    """What a rebalance did. The sites that were looked at are those that moved and those that something refused."""

    looked_at: int  # sites of merchants of one zone
    few_sites: int  # refused: the merchant has too few sites
    narrow: int  # refused: the merchant's sites span too few degrees of longitude
    overridden: int  # refused: an override gave the zone
    far: int  # refused: no place of another zone of the country is near enough
    merchant_cap: int  # refused by each cap
    country_cap: int
    sites_cap: int
    moved: int
    zones_before: int  # zones with a site
    zones_after: int
    single_group_share_before: float  # share of merchants with one zone
    single_group_share_after: float

    def described(self) -> dict[str, dict[str, float]]:
        """Returns what became of the sites, and what that changed, for a world's description."""
        counts = asdict(self)
        effect = {name: counts.pop(name) for name in tuple(counts) if name.endswith(("_before", "_after"))}
        return {"rebalance": counts, "rebalance_effect": effect}


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """The sites of a world in the order of their keys, as the rebalance needs them."""

    merchant: NDArray[np.int64]  # [n] index of the merchant, ascending
    country: Categories  # [n]
    lat_deg: NDArray[np.float64]  # [n]
    lon_deg: NDArray[np.float64]  # [n]
    zone: Categories  # [n]
    overridden: NDArray[np.bool_]  # [n] whether an override gave the zone


def rules_of(zone_policy: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the rebalance of `world_v1#/zones`; None if it is absent or not enabled."""
    rules = zone_policy.get("rebalance")
    return rules if rules is not None and rules["enabled"] else None


def rebalanced(sites: Sites, rules: Mapping[str, Any]) -> tuple[Categories, NDArray[np.bool_], Rebalance]:
    """Returns the zone of each site, [n] whether it was moved, and the counters."""
    merchants = int(sites.merchant.max()) + 1
    refused, km, zone = _looked_at(sites, rules)
    moved, over = _capped(sites, np.flatnonzero(refused == _NEAR), km, rules["caps"])
    names = Categories(np.zeros(0, np.int32), tuple(sorted({*sites.zone.values, *zone.values})))
    before = _coded(sites.zone, names)
    after = compacted(Categories(np.where(moved, _coded(zone, names), before), names.values))
    alone = [_zones_of(sites.merchant, codes, merchants) == 1 for codes in (before, after.codes)]
    counters = Rebalance(
        looked_at=int(np.sum(refused >= 0)),
        few_sites=int(np.sum(refused == _FEW)),
        narrow=int(np.sum(refused == _NARROW)),
        overridden=int(np.sum(refused == _OVERRIDDEN)),
        far=int(np.sum(refused == _FAR)),
        merchant_cap=over["merchant"],
        country_cap=over["country"],
        sites_cap=over["sites"],
        moved=int(moved.sum()),
        zones_before=len(np.unique(before)),
        zones_after=len(after.values),
        single_group_share_before=float(np.mean(alone[0])),
        single_group_share_after=float(np.mean(alone[1])),
    )
    return after, moved, counters


def movable(sites: Sites, rules: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Returns [n] the sites that could move were there no caps."""
    return np.asarray(_looked_at(sites, rules)[0] == _NEAR)


def most_moves(sites: Sites, able: NDArray[np.bool_], caps: Mapping[str, float]) -> tuple[NDArray[np.int64], int]:
    """Returns [m] the most sites of each merchant that its cap lets move, and the most that the others let in all."""
    merchants = int(sites.merchant.max()) + 1
    of_merchant = np.minimum(
        np.bincount(sites.merchant[able], minlength=merchants), _most(sites.merchant, caps["merchant"])
    )
    limits = _most(sites.country.codes, caps["country"])
    of_country = np.minimum(np.bincount(sites.country.codes[able], minlength=len(limits)), limits)
    return of_merchant, min(int(of_country.sum()), int(_most(np.zeros(len(able), np.int64), caps["sites"])[0]))


# --- which sites may move -----------------------------------------------------------------------------------

_FEW, _NARROW, _OVERRIDDEN, _FAR, _NEAR = range(5)  # why a site that was looked at may not move; the last one may


def _looked_at(sites: Sites, rules: Mapping[str, Any]) -> tuple[NDArray[np.int8], NDArray[np.float64], Categories]:
    """Returns per site [n] why it may not move (-1: its merchant has several zones), km to the place, its zone."""
    owner, size = sites.merchant, int(sites.merchant.max()) + 1
    one_zone = (_zones_of(owner, sites.zone.codes, size) == 1)[owner]
    few = (np.bincount(owner, minlength=size) < rules["least_sites"])[owner]
    narrow = (_spans(owner, sites.lon_deg, size) < rules["least_span_deg"])[owner]
    asked = np.flatnonzero(one_zone & ~few & ~narrow & ~sites.overridden)
    km, zone = _nearest_places(sites, asked, float(rules["greatest_km"]))
    tests = (~one_zone, few, narrow, sites.overridden, ~np.isfinite(km))
    return np.select(tests, (-1, _FEW, _NARROW, _OVERRIDDEN, _FAR), _NEAR).astype(np.int8), km, zone


def _zones_of(merchant: NDArray[np.int64], zone: NDArray[np.integer[Any]], size: int) -> NDArray[np.int64]:
    """Returns [m] the number of zones of each merchant."""
    most = int(zone.max()) + 1
    return np.bincount(np.unique(merchant * most + zone) // most, minlength=size)


def _spans(merchant: NDArray[np.int64], lon_deg: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Returns [m] the degrees of the shortest arc of longitude that holds all of a merchant's sites."""
    order = np.lexsort((lon_deg, merchant))
    lon, first = lon_deg[order], np.searchsorted(merchant, np.arange(size))
    last = np.append(first[1:], len(lon)) - 1
    gap = np.append(np.diff(lon), 0.0)
    gap[last] = lon[first] + 360.0 - lon[last]  # the gap across the meridian of 180 degrees
    return np.asarray(360.0 - np.maximum.reduceat(gap, first))


def _nearest_places(
    sites: Sites, asked: NDArray[np.int64], greatest_km: float
) -> tuple[NDArray[np.float64], Categories]:
    """Returns [n] km to the nearest place of another zone of the country, infinite if none is near; and its zone."""
    towns = _towns()
    which, first = geography.distinct(
        *(column[asked] for column in (sites.lat_deg, sites.lon_deg, sites.country.codes, sites.zone.codes))
    )
    rows = asked[first]  # the first site of each place
    country = _coded(sites.country, towns.country)[rows]
    begin, end = (np.searchsorted(towns.country.codes, country, side=side) for side in ("left", "right"))
    own = _coded(sites.zone, towns.zone)[rows]
    lat, lon = np.radians(sites.lat_deg[rows]), np.radians(sites.lon_deg[rows])
    found_km, found = _nearest(lat, lon, own, begin, end, towns.lat, towns.lon, towns.zone.codes, greatest_km)
    km, zone = np.full(len(sites.merchant), np.inf), np.zeros(len(sites.merchant), np.int32)
    km[asked], zone[asked] = found_km[which], towns.zone.codes[found[which]]
    return km, Categories(zone, towns.zone.values)


def _coded(column: Categories, known: Categories) -> NDArray[np.int32]:
    """Returns [n] the codes of a column's values among known ones; -1 for a value that is not known."""
    code = {name: place for place, name in enumerate(known.values)}
    return np.asarray(np.array([code.get(name, -1) for name in column.values], np.int32)[column.codes])


@dataclass(frozen=True, slots=True, eq=False)
class _Towns:
    """The cities in which a zone of their own country holds, by country."""

    lat: NDArray[np.float64]  # [c] radians
    lon: NDArray[np.float64]  # [c] radians
    country: Categories  # [c] ascending
    zone: Categories  # [c]


@cache
def _towns() -> _Towns:
    land = geography.cities()
    domestic = [[country in countries_of(zone) for zone in land.zone.values] for country in land.country.values]
    kept = np.flatnonzero(np.array(domestic)[land.country.codes, land.zone.codes])
    kept = kept[np.argsort(land.country.codes[kept], kind="stable")]
    lat, lon = np.radians(land.lat_deg[kept]), np.radians(land.lon_deg[kept])
    country, zone = (Categories(column.codes[kept], column.values) for column in (land.country, land.zone))
    return _Towns(lat, lon, country, zone)


@compiled
def _nearest(
    lat: Any, lon: Any, zone: Any, begin: Any, end: Any, town_lat: Any, town_lon: Any, town_zone: Any, most_km: float
) -> Any:
    """Returns km and index of the nearest town in [begin, end) of another zone, infinite and 0 beyond `most_km`."""
    km, found = np.full(len(lat), np.inf), np.zeros(len(lat), np.int64)
    for i in range(len(lat)):
        for j in range(begin[i], end[i]):
            if town_zone[j] == zone[i] or abs(town_lat[j] - lat[i]) * EARTH_KM > most_km + 1.0:
                continue
            far = great_circle_km(lat[i], lon[i], town_lat[j], town_lon[j])
            if far <= most_km and far < km[i]:
                km[i], found[i] = far, j
    return km, found


# --- caps ---------------------------------------------------------------------------------------------------


def _capped(
    sites: Sites, able: NDArray[np.int64], km: NDArray[np.float64], caps: Mapping[str, float]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Returns [n] the sites that move, and how many each cap refused."""
    able = able[np.argsort(km[able], kind="stable")]
    turn = _ranks(sites.merchant[able])
    world = np.zeros(len(km), np.int64)
    kept = np.argsort(turn, kind="stable")  # every merchant's first site, then every second one
    refused = dict[str, int]()
    for owner, name in ((sites.merchant, "merchant"), (sites.country.codes, "country"), (world, "sites")):
        within = _ranks(owner[able[kept]]) < _most(owner, caps[name])[owner[able[kept]]]
        refused[name] = int(np.sum(~within))
        kept = kept[within]
    moved = np.zeros(len(km), np.bool_)
    moved[able[kept]] = True
    return moved, refused


def _most(owner: NDArray[Any], share: float) -> NDArray[np.int64]:
    """Returns [k] the most sites that may move of each owner's."""
    return np.asarray(np.floor(np.bincount(owner) * share + _ROUNDING), np.int64)


def _ranks(owner: NDArray[Any]) -> NDArray[np.int64]:
    """Returns [n] how many earlier rows have the same owner."""
    order = np.argsort(owner, kind="stable")
    fresh = np.append(True, np.diff(owner[order]) != 0)[: len(owner)]
    place = np.arange(len(owner))
    ranks = np.empty(len(owner), np.int64)
    ranks[order] = place - np.maximum.accumulate(np.where(fresh, place, 0))
    return ranks
