"""Metrics of the world, for its plausibility and for the rails of lanes that reopen the upstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lanelock.engine.segment_2b.plausibility import Plausibility, alike_zones, plausibility
from lanelock.engine.segment_2b.world import World

SMALL_SITES = 5  # the most sites of a small merchant


@dataclass(frozen=True, slots=True)
class WorldSample:
    """What the metrics need from a shard of a world. Counts add up over shards."""

    merchants: int
    sites: int
    groups: int
    single: int  # merchants with one group
    small: int  # merchants with at most SMALL_SITES sites
    small_single: int
    overridden: int  # sites whose zone comes from an override
    empty: int  # groups without a site
    zones: frozenset[str]  # zones with a site
    plausibility: Plausibility


def sample_world(world: World, horizon: Mapping[str, Any]) -> WorldSample:
    """Returns the counts of a shard of a world, or of a whole one, under the horizon of `day_effect_policy_v1`."""
    sites, groups = np.diff(world.site_offsets), np.diff(world.group_offsets)
    small, single = sites <= SMALL_SITES, groups == 1
    override = [code for code, name in enumerate(world.zone_source.values) if name == "override"]
    filled = np.bincount(world.site_group, minlength=len(world.group_zone))
    return WorldSample(
        merchants=len(sites),
        sites=int(sites.sum()),
        groups=int(groups.sum()),
        single=int(np.sum(single)),
        small=int(np.sum(small)),
        small_single=int(np.sum(small & single)),
        overridden=int(np.sum(np.isin(world.zone_source.codes, override))),
        empty=int(np.sum(filled == 0)),
        zones=frozenset(world.zones[code] for code in np.unique(world.zone.codes)),
        plausibility=plausibility(world, horizon),
    )


def world_metrics(samples: Sequence[WorldSample]) -> dict[str, float]:
    """Returns the metrics of a world from the samples of all its shards."""

    def total(name: str) -> int:
        return sum(getattr(sample, name) for sample in samples)

    def implausible(name: str) -> int:
        return sum(getattr(sample.plausibility, name) for sample in samples)

    merchants, sites, small = total("merchants"), total("sites"), total("small")
    return {
        "world/merchants": float(merchants),
        "world/sites": float(sites),
        "world/zones": float(len(frozenset().union(*(sample.zones for sample in samples)))),
        "world/groups": float(total("groups")),
        "world/single_group_share": total("single") / merchants,
        "world/small_single_share": total("small_single") / small if small else 1.0,
        "world/overridden_share": total("overridden") / sites,
        "world/groups_without_site": float(total("empty")),
        "world/foreign_zone_share": implausible("foreign_zone") / sites,
        "world/off_zone_share": implausible("off_zone") / sites,
        "world/unbacked_merchant_share": implausible("unbacked") / merchants,
        "world/nowhere_share": implausible("nowhere") / sites,
        "world/abroad_share": implausible("abroad") / sites,
        "world/alike_zones": float(alike_zones(frozenset().union(*(each.plausibility.alike for each in samples)))),
        "world/alike_groups": float(implausible("alike_groups")),
    }
