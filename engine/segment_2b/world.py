"""The upstream of segment 2B as values: the world of one seed, and the rows that S3 and S4 publish.

Everything here is frozen, and every array is read-only once built.

Letters of array shapes: m merchants, n sites, g groups (distinct zones of one merchant, summed over
merchants), d days, r rows of S3 and S4 (r = d * g).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.segment_2b.rebalance import Rebalance
from lanelock.engine.surface import Categories


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class World:
    """The frozen upstream of one seed: merchants, their sites, each site's zone.

    Merchants ascend by id; sites ascend by (merchant_id, legal_country_iso, site_order); groups
    ascend by (merchant_id, zone name). Zones and countries are sorted, so code order is name order.
    """

    digest: str  # hex64, the manifest fingerprint: SHA-256 over the canonical bytes of all arrays
    source: str  # "drawn" or "imported"
    merchant_id: NDArray[np.uint64]  # [m] ascending, unique
    is_virtual: NDArray[np.bool_]  # [m]
    site_offsets: NDArray[np.int64]  # [m+1] merchant i owns sites site_offsets[i]:site_offsets[i+1]
    country: Categories  # [n] ISO-3166 alpha-2
    site_order: NDArray[np.int32]  # [n] from 1 within (merchant, country)
    lat_deg: NDArray[np.float64]  # [n] -90 … 90
    lon_deg: NDArray[np.float64]  # [n] above -180, up to 180; 0 at the poles
    zone: Categories  # [n] IANA tzid, the zone's own name
    zone_source: Categories  # [n] "polygon", "override", "nudge" or "rebalance"
    group_offsets: NDArray[np.int64]  # [m+1] merchant i owns groups group_offsets[i]:group_offsets[i+1]
    group_zone: NDArray[np.int32]  # [g] code into zone.values
    site_group: NDArray[np.int64]  # [n] index into the groups
    renamed_sites: int = 0  # of the whole world: sites whose zone was given under another of its names
    rebalance: Rebalance | None = None  # of the whole world: what the rebalance did; None if there was none
    merchants_before: int = 0  # for a shard: how many merchants of the whole world precede it

    @property
    def rows(self) -> int:
        """Returns the number of sites."""
        return len(self.lat_deg)

    @property
    def zones(self) -> tuple[str, ...]:
        return self.zone.values

    def shard(self, first: int, last: int) -> World:
        """Returns a view of merchants [first, last), with offsets and groups counted from its own start.

        The digest stays that of the whole world: it addresses the random streams, so every row stays the same.
        """
        if not 0 <= first < last <= len(self.merchant_id):
            raise ValueError(f"no merchants [{first}, {last}) in a world of {len(self.merchant_id)}")
        site, group = self.site_offsets[first : last + 1], self.group_offsets[first : last + 1]
        sites, groups = slice(site[0], site[-1]), slice(group[0], group[-1])
        return replace(
            self,
            merchant_id=self.merchant_id[first:last],
            is_virtual=self.is_virtual[first:last],
            site_offsets=site - site[0],
            country=self.country[sites],
            site_order=self.site_order[sites],
            lat_deg=self.lat_deg[sites],
            lon_deg=self.lon_deg[sites],
            zone=self.zone[sites],
            zone_source=self.zone_source[sites],
            group_offsets=group - group[0],
            group_zone=self.group_zone[groups],
            site_group=self.site_group[sites] - group[0],
            merchants_before=self.merchants_before + first,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The rows of S3 and S4: (merchant, day, group), groups fastest. Built once per world and horizon.

    The row of (merchant i, day d, its k-th group) is days * group_offsets[i] + d * groups(i) + k.
    """

    days: tuple[str, ...]  # ISO dates, ascending
    merchant_id: NDArray[np.uint64]  # [r]
    day: Categories  # [r]
    zone: Categories  # [r]
    group: NDArray[np.int64]  # [r] index into the world's groups
    rank: NDArray[np.int32]  # [r] k: the group's rank within its merchant
    starts: NDArray[np.int64]  # [m*d + 1] first row of each merchant-day; last, the number of rows

    def shard(self, first: int, last: int) -> Grid:
        """Returns a view of the rows of merchants [first, last), with rows and groups counted from its own start."""
        days = len(self.days)
        starts = self.starts[first * days : last * days + 1]
        rows = slice(starts[0], starts[-1])
        group = self.group[rows] - self.group[starts[0]]
        columns = (self.merchant_id[rows], self.day[rows], self.zone[rows], group, self.rank[rows])
        return Grid(self.days, *columns, starts - starts[0])
