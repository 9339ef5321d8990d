"""The rebalance of 2A, written for reading: sites as dictionaries, one at a time."""

import math
from collections import Counter, defaultdict

EARTH_KM = 6371.0088


def distance_km(a, b):
    """Great-circle distance of two (latitude, longitude) in degrees."""
    (lat_a, lon_a), (lat_b, lon_b) = (map(math.radians, place) for place in (a, b))
    half = math.sin((lat_a - lat_b) / 2) ** 2
    half += math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_a - lon_b) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(half, 1.0)))


def span_deg(longitudes):
    """The shortest arc that holds all longitudes: the circle without its widest gap."""
    lons = sorted(longitudes)
    gaps = [after - before for before, after in zip(lons, [*lons[1:], lons[0] + 360], strict=True)]
    return 360 - max(gaps)


def rebalanced(sites, towns, rules):
    """Returns the zone of each site, in the order of the keys, and how many sites each rule refused.

    A site: merchant, country, place, zone, overridden. A town: country, place, zone, of zones that hold in the country.
    """
    of_merchant = defaultdict(list)
    for site in sites:
        of_merchant[site["merchant"]].append(site)
    zones, refused, able = [site["zone"] for site in sites], Counter(), []
    for number, site in enumerate(sites):
        own = of_merchant[site["merchant"]]
        if len({other["zone"] for other in own}) > 1:
            continue
        near = [
            (distance_km(site["place"], town["place"]), town["zone"])
            for town in towns
            if town["country"] == site["country"] and town["zone"] != site["zone"]
        ]
        km, zone = min(near, key=lambda pair: pair[0], default=(math.inf, None))
        if len(own) < rules["least_sites"]:
            refused["few_sites"] += 1
        elif span_deg(other["place"][1] for other in own) < rules["least_span_deg"]:
            refused["narrow"] += 1
        elif site["overridden"]:
            refused["overridden"] += 1
        elif km > rules["greatest_km"]:
            refused["far"] += 1
        else:
            able.append((km, number, zone))
    able.sort()
    turns, queue = Counter(), []
    for km, number, zone in able:
        merchant = sites[number]["merchant"]
        turns[merchant] += 1
        queue.append((turns[merchant], km, number, zone))
    queue.sort()  # every merchant's first site before any second one
    for cap in ("merchant", "country", "sites"):
        taken, kept = Counter(), []
        all_sites = Counter(site.get(cap, "all") for site in sites)
        for entry in queue:
            owner = sites[entry[2]].get(cap, "all")
            if taken[owner] < math.floor(all_sites[owner] * rules["caps"][cap] + 1e-9):
                taken[owner] += 1
                kept.append(entry)
            else:
                refused[f"{cap}_cap"] += 1
        queue = kept
    for _, _, number, zone in queue:
        zones[number] = zone
    return zones, refused
