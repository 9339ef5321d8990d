"""Draws a world per seed from `world_v1`: merchants (1A), their sites (1B) and each site's zone (2A).

The draws are stratified: site counts, zone counts, home shares and virtual merchants are quotas of their
distributions, shuffled by the seed. So every seed's world stays near the reference facts while its merchants
differ. Sites lie in real cities; zones follow from polygons.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.arithmetic import exps, interpolated, log, logs, powers
from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b import geography, rebalance, streams
from lanelock.engine.segment_2b.geography import canonical_zones, compacted, one_place
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.zones import AN_IANA_ZONE, canonical_names
from lanelock.engine.surface import Categories
from lanelock.policies import DataError, PolicyError

ZONE_SOURCES = ("nudge", "override", "polygon")
ALL_ZONE_SOURCES = (*ZONE_SOURCES, rebalance.SOURCE)
_BELOW_ONE = 1.0 - 2.0**-53
_AT_ONCE = 8192  # merchants whose zones are chosen together
_QUANTILES = {"min": 0, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99, "max": 1}


def draw_world(policy: Mapping[str, Any], seed: int) -> World:
    """Returns the world of a seed. The quotas come from ENGINE facts, section 1, and are data of `world_v1`."""
    counts = _site_counts(policy["merchants"], seed)
    zones_wanted = _zone_counts(policy["breadth"], counts, seed)
    home = _home_sites(policy["dispersion"], counts, zones_wanted, seed)
    atlas = _Atlas(policy["breadth"])
    chosen = atlas.zones_of(zones_wanted, seed)
    merchant, zone = _spread(counts, zones_wanted, home, chosen)
    city = atlas.place(merchant, zone, chosen[:, 0], seed)
    count = int(policy["merchants"]["count"])
    key = streams.stream_key("merchant", seed, "1A")
    ids = np.unique(streams.words(key, np.arange(2 * count, dtype=np.uint64), np.zeros(2 * count, np.uint64)))
    ids = np.sort(_shuffled(ids, seed, "1A/ids")[:count])
    virtual = np.zeros(count, np.bool_)
    virtual[: round(count * policy["merchants"]["virtual_share"])] = True
    land = geography.cities()
    return assemble_world(
        source="drawn",
        merchant_id=ids,
        is_virtual=_shuffled(virtual, seed, "1A/virtual"),
        site_merchant=ids[merchant],
        country=Categories(land.country.codes[city], land.country.values),
        lat_deg=land.lat_deg[city],
        lon_deg=land.lon_deg[city],
        zone_policy=policy["zones"],
    )


def assemble_world(
    *,
    source: str,
    merchant_id: NDArray[np.uint64],
    is_virtual: NDArray[np.bool_],
    site_merchant: NDArray[np.uint64],
    country: Categories,
    lat_deg: NDArray[np.float64],
    lon_deg: NDArray[np.float64],
    site_order: NDArray[np.int32] | None = None,
    zone: Categories | None = None,
    zone_source: Categories | None = None,
    zone_policy: Mapping[str, Any] | None = None,
) -> World:
    """Sorts sites by key, builds the groups, digests and freezes; looks up zones if `zone` is None.

    `merchant_id` ascends and names the merchants of all sites, each with at least one. Without `site_order` sites are
    numbered from 1 within (merchant, country), in the order given. Places and zones become canonical: a place has one
    pair of coordinates, a zone one name.
    """
    country = compacted(country)
    merchant = np.searchsorted(merchant_id, site_merchant)
    if site_order is None:
        order = np.lexsort((country.codes, merchant))
        fresh = np.ones(len(order), np.bool_)
        fresh[1:] = (np.diff(merchant[order]) != 0) | (np.diff(country.codes[order]) != 0)
        first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        numbers = (np.arange(len(order)) - first + 1).astype(np.int32)
    else:
        order = np.lexsort((site_order, country.codes, merchant))
        numbers = site_order[order].astype(np.int32)
    merchant = merchant[order]
    lat_deg, lon_deg = one_place(lat_deg[order], lon_deg[order])
    country = Categories(country.codes[order], country.values)
    moves = None
    if zone is None:
        zone, origin, renamed = _find_zones(
            merchant_id[merchant], country, numbers, lat_deg, lon_deg, zone_policy or {}
        )
        if (rules := rebalance.rules_of(zone_policy or {})) is not None:
            override = origin.codes == ZONE_SOURCES.index("override")
            sites = rebalance.Sites(merchant, country, lat_deg, lon_deg, zone, override)
            zone, moved, moves = rebalance.rebalanced(sites, rules)
            origin = zone_sources(np.where(moved, ALL_ZONE_SOURCES.index(rebalance.SOURCE), origin.codes))
    else:
        zone, renamed = canonical_zones(Categories(zone.codes[order], zone.values))
        polygon = np.full(len(order), ZONE_SOURCES.index("polygon"), np.int8)
        origin = zone_sources(polygon if zone_source is None else zone_source.codes[order])
    pair = merchant * len(zone.values) + zone.codes
    pairs = np.unique(pair)
    arrays: dict[str, Any] = {
        "merchant_id": merchant_id,
        "is_virtual": is_virtual,
        "site_offsets": _offsets(merchant, len(merchant_id)),
        "country": country,
        "site_order": numbers,
        "lat_deg": lat_deg,
        "lon_deg": lon_deg,
        "zone": zone,
        "zone_source": origin,
        "group_offsets": _offsets(pairs // len(zone.values), len(merchant_id)),
        "group_zone": (pairs % len(zone.values)).astype(np.int32),
        "site_group": np.searchsorted(pairs, pair).astype(np.int64),
    }
    digest = _digest(arrays)
    return World(digest=digest, source=source, renamed_sites=int(renamed.sum()), rebalance=moves, **arrays)


def zone_sources(codes: NDArray[Any]) -> Categories:
    """Returns the sources of zones; without a moved site as if there were no rebalance, which a digest would show."""
    moved = np.any(codes == ALL_ZONE_SOURCES.index(rebalance.SOURCE))
    return Categories(codes.astype(np.int8), ALL_ZONE_SOURCES if moved else ZONE_SOURCES)


def describe(world: World) -> dict[str, Any]:
    """Returns the counts and shares that describe a world."""
    sites, groups = np.diff(world.site_offsets), np.diff(world.group_offsets)
    small = sites <= 5
    return {
        "digest": world.digest,
        "source": world.source,
        "merchants": len(sites),
        "sites": int(sites.sum()),
        "zones": len(world.zones),
        "countries": len(world.country.values),
        "groups": int(groups.sum()),
        "groups_max": int(groups.max()),
        "single_group_share": float(np.mean(groups == 1)),
        "two_group_share": float(np.mean(groups == 2)),
        "small_single_group_share": float(np.mean(groups[small] == 1)) if small.any() else 1.0,
        "virtual_share": float(np.mean(world.is_virtual)),
        "site_count_quantiles": {name: float(np.quantile(sites, at)) for name, at in _QUANTILES.items()},
        "zone_sources": {
            name: int(np.sum(world.zone_source.codes == code)) for code, name in enumerate(world.zone_source.values)
        },
    }


# --- 1A: numbers of sites and zones, share at home ------- --------------------------------------------


def _site_counts(merchants: Mapping[str, Any], seed: int) -> NDArray[np.int64]:
    """Returns [m] the sites of each merchant: quotas of the quantile table, log-linear between its knots."""
    u = _strata(int(merchants["count"]), seed, "1A/sites")
    at, sites = np.array(merchants["site_count_quantiles"], np.float64).T.copy()
    counts = np.rint(exps(interpolated(u, at, logs(sites))))
    return _shuffled(counts.astype(np.int64), seed, "1A/sites/order")


def _zone_counts(breadth: Mapping[str, Any], counts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Returns [m] the zones of each merchant: quotas of F(k)^breadth, which leaves fewer in one zone as breadth grows.

    Small merchants keep their own single-zone share at any breadth; the others take the rest of the quotas, with
    more zones tending to go to merchants with more sites. No merchant has more zones than sites.
    """
    size = len(counts)
    upto = powers(np.cumsum(np.array(breadth["zone_count_shares"], np.float64)), float(breadth["breadth"]))
    quota = np.rint(size * upto / upto[-1]).astype(np.int64)
    small = np.flatnonzero(counts <= breadth["small_merchant_sites"])
    single = round(len(small) * breadth["small_single_share"])
    zones = np.ones(size, np.int64)
    zones[_shuffled(small, seed, "1A/small")[single:]] = 2
    rest = np.setdiff1d(np.arange(size), small)
    taken = np.bincount(zones[small])[1:]
    left = np.repeat(np.arange(1, len(quota) + 1), _remaining(np.diff(quota, prepend=0), taken))
    pull = breadth["size_pull"]
    rank = np.argsort(np.argsort(counts[rest], kind="stable")) / max(1, len(rest))
    score = pull * rank + (1.0 - pull) * _strata_shuffled(len(rest), seed, "1A/zones")
    zones[rest[np.argsort(score, kind="stable")]] = left[: len(rest)]
    return np.minimum(zones, counts)


def _remaining(quota: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns [k] the rest of each zone count's quota; a quota too small borrows from those above, then below."""
    left, owed, upward = quota.copy(), 0, range(len(quota))
    for step, k in enumerate([*upward, *reversed(upward)]):
        owed += int(taken[k]) if step < min(len(taken), len(quota)) else 0
        given = min(owed, int(left[k]))
        left[k] -= given
        owed -= given
    return left


def _home_sites(
    dispersion: Mapping[str, Any], counts: NDArray[np.int64], zones: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Returns [m] the sites in the home zone: quotas of the home-share table, highest first, to merchants with room.

    A merchant with three or more zones must leave its second zone visible (`second_share_min`), so the highest
    shares go to two-zone merchants with many sites.
    """
    home = counts.copy()
    multi = _shuffled(np.flatnonzero(zones > 1), seed, "1A/home")
    n, total = zones[multi], counts[multi]
    ranks = np.cumsum(1.0 / np.arange(1, zones.max() + 1))
    room = np.where(n > 2, 1.0 - dispersion["second_share_min"] * ranks[n - 2], 1.0)
    most = np.minimum((total - n + 1) / total, np.maximum(room, 1.0 / n))
    u = powers(np.sort(_strata(len(multi), seed, "1A/home/strata")), float(dispersion["dispersion"]))
    at, quantiles = np.array(dispersion["home_share_quantiles"], np.float64).T.copy()
    shares = interpolated(u, at, quantiles)[::-1]
    waiting = list(np.argsort(most, kind="stable"))  # the last has the most room
    able: list[int] = []
    luck = _generator(seed, "1A/home/pick").random(len(multi))
    for share, u in zip(shares, luck, strict=True):  # highest first, to a random merchant with room for it
        while waiting and (not able or most[waiting[-1]] >= share):
            able.append(waiting.pop())
        at = int(u * len(able))
        able[at], able[-1] = able[-1], able[at]
        pick = able.pop()
        at_home = np.clip(round(share * total[pick]), -(-total[pick] // n[pick]), total[pick] - n[pick] + 1)
        home[multi[pick]] = at_home
    return home


def _spread(
    counts: NDArray[np.int64], zones: NDArray[np.int64], home: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns [n] merchant and pool zone of each site: `home` sites at home, the others by 1/rank, no zone empty."""
    parts = (np.arange(chosen.shape[1]) < zones[:, None]).astype(np.int64)  # [m, most zones] sites in each zone
    parts[:, 0] = home
    for n in range(2, chosen.shape[1] + 1):  # merchants of n zones at once
        rows = np.flatnonzero(zones == n)
        weight = 1.0 / np.arange(1, n)
        exact = weight / weight.sum() * np.maximum(counts[rows] - home[rows] - (n - 1), 0)[:, None]
        parts[rows, 1:n] += np.floor(exact).astype(np.int64)
        short = counts[rows] - parts[rows].sum(axis=1)
        served = np.argsort(-(exact % 1.0), axis=1, kind="stable")
        extra = np.zeros_like(served)
        np.put_along_axis(extra, served, (np.arange(n - 1) < short[:, None]).astype(np.int64), axis=1)
        parts[rows, 1:n] += extra
    return np.repeat(np.arange(len(counts)), counts), np.repeat(chosen.ravel(), parts.ravel())


# --- 1B: places -------------------------------------------------------------------------------------


class _Atlas:
    """The zones that a world may use, and the cities in them."""

    def __init__(self, breadth: Mapping[str, Any]) -> None:
        land = geography.cities()
        people = np.bincount(land.zone.codes, land.population, minlength=len(land.zone.values))
        self.pool = np.sort(np.argsort(-people, kind="stable")[: breadth["zone_pool"]])  # zone codes
        self.weight = powers(np.asarray(people[self.pool], np.float64), float(breadth["population_exponent"]))
        first = np.searchsorted(land.zone.codes, self.pool)
        last = np.searchsorted(land.zone.codes, self.pool, side="right")
        largest = [a + int(np.argmax(land.population[a:b])) for a, b in zip(first, last, strict=True)]
        self.first, self.last = first, last
        lat, lon = land.lat_deg[largest], land.lon_deg[largest]
        far = geography.distance_km(lat[:, None], lon[:, None], lat, lon)
        same = land.country.codes[largest][:, None] == land.country.codes[largest]
        self.appeal = self.weight * exps(-far / breadth["reach_km"]) * np.where(same, breadth["home_country_pull"], 1.0)

    def zones_of(self, wanted: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Returns [m, most zones] pool indices: home, then Gumbel top-k by appeal from home; -1 beyond the wanted."""
        size, draw = len(wanted), _generator(seed, "1B/zones")
        upto = np.cumsum(self.weight) / self.weight.sum()
        home = np.searchsorted(upto, _strata_shuffled(size, seed, "1B/home"))
        most, appeal = int(wanted.max()), logs(self.appeal)
        chosen = np.empty((size, most), np.int64)
        for first in range(0, size, _AT_ONCE):  # the same draws in the same order, without holding [m, pool] whole
            at = home[first : first + _AT_ONCE]
            keys = appeal[at] + _gumbels(draw.random((len(at), len(self.pool))))
            keys[np.arange(len(at)), at] = np.inf
            chosen[first : first + len(at)] = np.argsort(-keys, axis=1, kind="stable")[:, :most]
        return np.where(np.arange(most) < wanted[:, None], chosen, -1)

    def place(
        self, merchant: NDArray[np.int64], zone: NDArray[np.int64], home: NDArray[np.int64], seed: int
    ) -> NDArray[np.int64]:
        """Returns [n] a city per site, drawn by population within its zone."""
        land = geography.cities()
        upto = np.concatenate([[0.0], np.cumsum(land.population)])
        low, high = upto[self.first[zone]], upto[self.last[zone]]
        u = _generator(seed, "1B/cities").random(len(zone))
        city = np.searchsorted(upto, low + u * (high - low), side="right") - 1
        return np.asarray(np.clip(city, self.first[zone], self.last[zone] - 1))


# --- 2A: zones --------------------------------------------------------------------------------------


def _find_zones(
    merchant: NDArray[np.uint64],
    country: Categories,
    number: NDArray[np.int32],
    lat_deg: NDArray[np.float64],
    lon_deg: NDArray[np.float64],
    policy: Mapping[str, Any],
) -> tuple[Categories, Categories, NDArray[np.bool_]]:
    """Returns zone and source of each site, and [n] whether an override gave the zone under another name.

    A zone is that of the polygon, nudged off a border, or overridden by country or site.
    """
    overrides = zone_overrides(policy)
    found = _zones_by_polygon(lat_deg, lon_deg, float(policy.get("tz_nudge", {}).get("epsilon_deg", 0.0)))
    names = sorted({*found[0].values} | {row["tzid"] for row in overrides})
    code = {name: place for place, name in enumerate(names)}
    zone = np.array([code[name] for name in found[0].values], np.int32)[found[0].codes]
    source, renamed = found[1].codes.copy(), np.zeros(len(zone), np.bool_)
    for row, stated in zip(overrides, policy.get("tz_overrides", ()), strict=True):
        hit = np.array([name == row["legal_country_iso"] for name in country.values])[country.codes]
        if "merchant_id" in row:
            hit = hit & (merchant == int(row["merchant_id"]))
        if "site_order" in row:
            hit = hit & (number == row["site_order"])
        if "from_tzid" in row:
            hit = hit & (zone == code.get(row["from_tzid"], -1))
        zone[hit], source[hit] = code[row["tzid"]], ZONE_SOURCES.index("override")
        renamed[hit] = row["tzid"] != stated["tzid"]
    return compacted(Categories(zone, tuple(names))), Categories(source, ZONE_SOURCES), renamed


def zone_overrides(policy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the overrides of `world_v1`'s zones under the zones' own names.

    Raises PolicyError naming the first field that holds no zone or no country.
    """
    return [
        canonical_override(row, f"world_v1: /zones/tz_overrides/{i}")
        for i, row in enumerate(policy.get("tz_overrides", ()))
    ]


def canonical_override(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Returns an override under the zones' own names. Raises PolicyError naming the field after `where`."""
    if row["legal_country_iso"] not in geography.known_countries():
        raise PolicyError(f"{where}/legal_country_iso: {row['legal_country_iso']!r} is not an ISO-3166 alpha-2 code")
    stated = {name: row[name] for name in ("tzid", "from_tzid") if name in row}
    for name, zone in stated.items():
        if zone not in canonical_names():
            raise PolicyError(f"{where}/{name}: {zone!r} is not {AN_IANA_ZONE}")
    return {**row, **{name: canonical_names()[zone] for name, zone in stated.items()}}


def _zones_by_polygon(
    lat_deg: NDArray[np.float64], lon_deg: NDArray[np.float64], nudge: float
) -> tuple[Categories, Categories]:
    """Returns zone and source of each site; raises DataError for a point without a zone."""
    where, first = geography.distinct(lat_deg, lon_deg)  # many sites share few cities
    points = list(zip(lat_deg[first].tolist(), lon_deg[first].tolist(), strict=True))
    found = [geography.zone_of(lat, lon, nudge) for lat, lon in points]
    for (lat, lon), (name, _) in zip(points, found, strict=True):
        if name not in canonical_names():
            unknown = f"tzfpy's {name!r} is not {AN_IANA_ZONE}" if name else "no zone's polygon holds the point"
            raise DataError(f"site at lat_deg {lat}, lon_deg {lon}: {unknown}")
    names = sorted({name for name, _ in found})
    code = {name: place for place, name in enumerate(names)}
    zone = np.array([code[name] for name, _ in found], np.int32)[where]
    source = np.array([ZONE_SOURCES.index(origin) for _, origin in found], np.int8)[where]
    return Categories(zone, tuple(names)), Categories(source, ZONE_SOURCES)


# --- quotas and digests -----------------------------------------------------------------------------


def _generator(seed: int, name: str) -> np.random.Generator:
    key = np.array(streams.stream_key("world", seed, name), np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


@compiled
def _gumbels(u: Any) -> Any:
    """Returns a standard Gumbel value per uniform in [0, 1)."""
    out = np.empty(u.shape, np.float64)
    for i, below in np.ndenumerate(u):
        out[i] = -log(-log(min(1.0 - below, _BELOW_ONE)))
    return out


def _strata(size: int, seed: int, name: str) -> NDArray[np.float64]:
    """Returns [size] ascending: a uniform in the inner part of each of `size` equal strata; the ends are 0 and 1."""
    u = (np.arange(size) + 0.5 + 0.8 * (_generator(seed, name).random(size) - 0.5)) / size
    u[0], u[-1] = 0.0, 1.0
    return u


def _strata_shuffled(size: int, seed: int, name: str) -> NDArray[np.float64]:
    return _shuffled((np.arange(size) + _generator(seed, name).random(size)) / size, seed, f"{name}/order")


def _shuffled(values: NDArray[Any], seed: int, name: str) -> NDArray[Any]:
    return _generator(seed, name).permutation(values)


def _offsets(owner: NDArray[np.int64], owners: int) -> NDArray[np.int64]:
    """Returns [owners + 1] where each owner's rows begin; owners ascend along the rows."""
    return np.searchsorted(owner, np.arange(owners + 1)).astype(np.int64)


def _digest(arrays: Mapping[str, Any]) -> str:
    """Returns the SHA-256 over names, types, lengths and bytes of all arrays, and makes them read-only."""
    sink = hashlib.sha256()
    for name, value in arrays.items():
        if isinstance(value, Categories):
            value.codes.flags.writeable = False
            parts = [("<i4", value.codes.astype("<i4").tobytes()), ("text", "\0".join(value.values).encode())]
        else:
            value.flags.writeable = False
            parts = [(value.dtype.str, value.tobytes())]
        for kind, data in parts:
            sink.update(f"{name}:{kind}:{len(data)}\n".encode())
            sink.update(data)
    return sink.hexdigest()
