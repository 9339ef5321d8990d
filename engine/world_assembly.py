"""The one way to make a World: sort, number the groups, digest, freeze.

Where the sites come from (drawn, read from files, built by a test) is elsewhere; whatever they come from,
the same sites in any order give the same arrays and the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.types import Categories, World
from policies.errors import DataError

ZONE_SOURCES = ("nudge", "override", "polygon")


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """Sites in any order, one row each; what segments 1B and 2A say of them."""

    merchant_id: NDArray[np.uint64]  # [n]
    country: Categories  # [n] ISO-3166 alpha-2
    site_order: NDArray[np.int32]  # [n] from 1 within (merchant, country)
    lat_deg: NDArray[np.float64]  # [n]
    lon_deg: NDArray[np.float64]  # [n]
    zone: Categories  # [n] IANA tzid
    zone_source: Categories  # [n] one of ZONE_SOURCES


def categories_of(values: Sequence[str] | NDArray[Any]) -> Categories:
    """A column of strings as Categories, values sorted, none unused."""
    names, codes = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
    return Categories(codes.astype(np.int32), tuple(str(name) for name in names))


def assemble_world(sites: Sites, virtual: NDArray[np.uint64], source: str) -> World:
    """The World of these sites; `virtual` are the ids of virtual merchants, ids without a site are ignored.

    The digest covers content only, not `source`: a drawn world that is written and imported is the same world.
    Raises DataError for no sites, or for a key (merchant_id, legal_country_iso, site_order) given twice.
    """
    if len(sites.merchant_id) == 0:
        raise DataError("world: it has no sites (at least 1 is needed)")
    country, zone, zone_source = (_compact(column) for column in (sites.country, sites.zone, sites.zone_source))
    order = np.lexsort((sites.site_order, country.codes, sites.merchant_id))
    site_merchant = sites.merchant_id[order]
    country, zone, zone_source = (_take(column, order) for column in (country, zone, zone_source))
    site_order = sites.site_order[order].astype(np.int32)
    _refuse_duplicates(site_merchant, country, site_order)
    merchant_id, first = np.unique(site_merchant, return_index=True)
    offsets = np.append(first, len(order)).astype(np.int64)
    group_offsets, group_zone, site_group = _groups(offsets, zone)
    arrays = {
        "merchant_id": merchant_id,
        "is_virtual": np.isin(merchant_id, virtual),
        "site_offsets": offsets,
        "country": country,
        "site_order": site_order,
        "lat_deg": sites.lat_deg[order].astype(np.float64) + 0.0,  # + 0.0: one zero, never a negative one
        "lon_deg": sites.lon_deg[order].astype(np.float64) + 0.0,
        "zone": zone,
        "zone_source": zone_source,
        "group_offsets": group_offsets,
        "group_zone": group_zone,
        "site_group": site_group,
    }
    for column in arrays.values():
        (column.codes if isinstance(column, Categories) else column).setflags(write=False)
    return World(digest=_digest(arrays), source=source, **arrays)


def _groups(
    offsets: NDArray[np.int64], zone: Categories
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Distinct (merchant, zone) pairs in order: group_offsets [m+1], group_zone [g], site_group [n]."""
    merchants, zones = len(offsets) - 1, len(zone.values)
    site_rank = np.repeat(np.arange(merchants, dtype=np.int64), np.diff(offsets))
    pairs, site_group = np.unique(site_rank * zones + zone.codes, return_inverse=True)
    group_offsets = np.searchsorted(pairs // zones, np.arange(merchants + 1)).astype(np.int64)
    return group_offsets, (pairs % zones).astype(np.int32), site_group.astype(np.int64)


def _refuse_duplicates(
    merchant: NDArray[np.uint64], country: Categories, site_order: NDArray[np.int32]
) -> None:
    """Raises DataError on the first equal neighbours among the sorted keys."""
    same = (np.diff(merchant) == 0) & (np.diff(country.codes) == 0) & (np.diff(site_order) == 0)
    if same.any():
        row = int(np.argmax(same))
        key = f"({merchant[row]}, {country.values[country.codes[row]]}, {site_order[row]})"
        raise DataError(f"world: the key (merchant_id, legal_country_iso, site_order) = {key} is given twice")


def _compact(column: Categories) -> Categories:
    """The same column with its values sorted and the unused ones dropped, so that codes are canonical."""
    used = np.unique(column.codes)
    names = sorted({column.values[code] for code in used})
    place = {name: rank for rank, name in enumerate(names)}
    recode = np.zeros(max(len(column.values), 1), dtype=np.int32)
    recode[used] = [place[column.values[code]] for code in used]
    return Categories(recode[column.codes], tuple(names))


def _take(column: Categories, rows: NDArray[np.int64]) -> Categories:
    return Categories(column.codes[rows], column.values)


def _digest(arrays: dict[str, Any]) -> str:
    """SHA-256 (hex64) over name, length and little-endian bytes of each array, and each category value."""
    sink = hashlib.sha256()
    for name, column in arrays.items():
        codes = column.codes if isinstance(column, Categories) else column
        values = "\n".join(column.values) if isinstance(column, Categories) else ""
        sink.update(f"{name}:{len(codes)}:{codes.dtype.newbyteorder('<').str}:{len(values)}:{values}\n".encode())
        sink.update(np.ascontiguousarray(codes, dtype=codes.dtype.newbyteorder("<")).tobytes())
    return sink.hexdigest()
