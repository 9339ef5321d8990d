"""Zones, countries and places are those of pinned data, each under one name."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zone_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanelock.engine.segment_2b import geography, zones
from lanelock.engine.segment_2b.draw_world import draw_world
from lanelock.engine.segment_2b.geography import one_place, zone_of
from lanelock.engine.segment_2b.world_import import open_world, write_world
from lanelock.engine.segment_2b.zones import canonical_names, countries_of, rules_over
from lanelock.policies import DataError, IntegrityError, PolicyError

NAMES = sorted(zone.name for zone in zones.zones().values() if zone.other_names and zone.countries)
NEW_YORK = "America/New_York"


@pytest.fixture
def policy(packs):
    return packs("baseline")["world_v1"]


def folder_of(folder, names, **columns):
    """A world of a merchant per two zones; `columns` replaces columns of the sites."""
    size = len(names)
    key = {
        "merchant_id": np.arange(size) // 2 + 1,
        "legal_country_iso": [min(countries_of(canonical_names()[name])) for name in names],
        "site_order": np.arange(size) + 1,
    }
    folder.mkdir(exist_ok=True)
    sites = {**key, "lat_deg": np.linspace(-60, 60, size), "lon_deg": np.linspace(-170, 170, size), **columns}
    pd.DataFrame(sites).to_csv(folder / "site_locations.csv", index=False)
    pd.DataFrame({**key, "tzid": names}).to_csv(folder / "site_timezones.csv", index=False)
    return folder


def test_the_shipped_zones_are_those_of_tzdata():
    shipped = pa.ipc.open_file(zones.ZONES.read_bytes()).read_all()
    assert shipped.equals(zone_table.zone_table())
    assert zone_table.lines("iso3166.tab")
    iso = {line.split("\t")[0] for line in zone_table.lines("iso3166.tab")}
    assert geography.known_countries() == iso | {"XK"}
    assert frozenset().union(*(zone.countries for zone in zones.zones().values())) <= geography.known_countries()


def test_an_old_name_that_is_sent_home_has_the_rules_that_tzdata_gives_it():
    for name, home in zone_table.AT_HOME.items():
        assert zone_table.base(name) == zone_table.base(home) and name not in zones.zones()
        assert countries_of(home) != countries_of(zone_table.base(name))  # else the link itself would do


def test_a_table_of_zones_that_is_not_the_shipped_one_is_refused(monkeypatch, tmp_path):
    changed = tmp_path / "zones.arrow"
    changed.write_bytes(zones.ZONES.read_bytes() + b"\0")
    monkeypatch.setattr(zones, "ZONES", changed)
    with pytest.raises(IntegrityError, match=r"zones\.arrow: not the table of zones that this version ships"):
        zones.zones.__wrapped__()


def test_no_name_is_that_of_two_zones_and_a_zone_of_its_own_country_is_no_other_name():
    every = [name for zone in zones.zones().values() for name in (zone.name, *zone.other_names)]
    assert len(every) == len(set(every))
    names = canonical_names()
    assert names["Europe/Amsterdam"] == "Europe/Amsterdam" and names["Iceland"] == "Atlantic/Reykjavik"
    assert names["US/Eastern"] == NEW_YORK and names["Asia/Calcutta"] == "Asia/Kolkata"


def test_every_zone_of_the_polygons_and_of_the_cities_stands_in_the_table_under_its_own_name():
    import tzfpy

    assert set(tzfpy.timezonenames()) <= set(zones.zones())
    assert set(geography.cities().zone.values) <= {name for name in zones.zones() if countries_of(name)}


@pytest.mark.parametrize(
    "name",
    ["localtime", "Factory", "posixrules", "posix/Europe/Paris", "right/Europe/Paris", "EST", "CET", "EST5EDT",
     "europe/paris", "Europe/Paris ", "../Europe/Paris", "Etc"],
)  # fmt: skip
def test_a_name_that_is_no_zone_of_a_place_is_refused(policy, tmp_path, name):
    folder_of(tmp_path, ["Europe/Paris"] * 2)
    table = pd.read_csv(tmp_path / "site_timezones.csv")
    table.loc[1, "tzid"] = name
    table.to_csv(tmp_path / "site_timezones.csv", index=False)
    with pytest.raises(DataError, match=r"row 2: tzid: .* is not an IANA zone of a place"):
        open_world(tmp_path, policy)


@pytest.mark.parametrize("code", ["AN", "CS", "YU", "UK", "EU", "SU"])
def test_a_withdrawn_or_reserved_country_is_refused(policy, tmp_path, code):
    folder_of(tmp_path, ["Europe/Paris"] * 2, legal_country_iso=["FR", code])
    with pytest.raises(DataError, match=f"row 2: legal_country_iso: {code}: not an ISO-3166"):
        open_world(tmp_path, policy)


def test_the_host_decides_nothing(tmp_path):
    script = (
        "from lanelock.engine.segment_2b.zones import canonical_names, rules_over; import hashlib, sys;"
        "print(hashlib.sha256(repr([canonical_names(), rules_over('2026-01-01', 90)]).encode()).hexdigest(),"
        "'zoneinfo' in sys.modules, 'tzdata' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **env}, capture_output=True, text=True, check=True
        ).stdout
        for env in ({"PYTHONTZPATH": "/nowhere", "TZ": "Asia/Kathmandu"}, {"PYTHONTZPATH": "", "TZ": "UTC"})
    ]
    assert said[0] == said[1] and said[0].split()[1:] == ["False", "False"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_mixture_of_other_names_reads_as_the_same_world(policy, tmp_path, data):
    own = data.draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=8))
    given_names = [data.draw(st.sampled_from((name, *zones.zones()[name].other_names))) for name in own]
    plain, mixed = (open_world(folder_of(tmp_path / "world", names), policy) for names in (own, given_names))
    assert plain.digest == mixed.digest and plain.zones == mixed.zones
    assert mixed.renamed_sites == sum(a != b for a, b in zip(own, given_names, strict=True)) and not plain.renamed_sites


def test_a_world_that_is_written_has_own_names_only(policy, tmp_path):
    world = open_world(folder_of(tmp_path / "given", ["US/Eastern", "US/Pacific"]), policy)
    write_world(world, tmp_path / "written")
    again = open_world(tmp_path / "written", policy)
    assert (again.digest, again.renamed_sites, world.renamed_sites) == (world.digest, 0, 2)
    assert "renamed_sites" not in json.loads((tmp_path / "written" / "world_receipt.json").read_text())


def test_an_override_by_another_name_is_the_same_override(policy):
    def drawn(**row):
        return draw_world({**policy, "zones": {**policy["zones"], "tz_overrides": [row]}}, 42)

    plain = draw_world(policy, 42)
    nothing = drawn(legal_country_iso="US", from_tzid=NEW_YORK, tzid="US/Eastern")
    assert nothing.zones == plain.zones and np.array_equal(nothing.site_group, plain.site_group)
    assert nothing.renamed_sites == int(np.sum(nothing.zone_source.codes == 1)) > 0
    assert (
        drawn(legal_country_iso="US", from_tzid="US/Eastern", tzid="US/Michigan").digest
        == drawn(legal_country_iso="US", from_tzid=NEW_YORK, tzid="America/Detroit").digest
        != plain.digest
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tzid": "Factory"}, "/zones/tz_overrides/1/tzid: 'Factory' is not an IANA zone"),
        ({"from_tzid": "localtime"}, "/zones/tz_overrides/1/from_tzid: 'localtime' is not an IANA zone"),
        ({"legal_country_iso": "AN"}, "/zones/tz_overrides/1/legal_country_iso: 'AN' is not an ISO-3166"),
    ],
)
def test_an_override_without_a_zone_or_country_is_a_fault_of_the_policy(policy, changed, said):
    good = {"legal_country_iso": "FR", "tzid": "Europe/Paris"}
    with pytest.raises(PolicyError, match=f"world_v1: {said}"):
        draw_world({**policy, "zones": {**policy["zones"], "tz_overrides": [good, {**good, **changed}]}}, 42)


def test_a_place_has_one_pair_of_coordinates(policy, tmp_path):
    lat, lon = one_place(np.array([10.0, -0.0, 90.0, -90.0]), np.array([-180.0, -0.0, 77.0, -180.0]))
    assert lat.tolist() == [10.0, 0.0, 90.0, -90.0] and lon.tolist() == [180.0, 0.0, 0.0, 0.0]
    assert not np.signbit(lat[1]) and not np.signbit(lon).any()
    worlds = []
    for name, place in (("east", (180, 0.0)), ("west", (-180, -0.0))):
        columns = {"legal_country_iso": ["FJ", "FJ"], "lon_deg": [place[0], place[1]], "lat_deg": [-16.5, place[1]]}
        folder = folder_of(tmp_path / name, ["Pacific/Fiji"] * 2, **columns)
        (folder / "site_timezones.csv").unlink()
        worlds.append(open_world(folder, policy))
    assert worlds[0].digest == worlds[1].digest


def test_a_point_is_nudged_across_the_meridian(monkeypatch):
    asked = []
    monkeypatch.setattr(geography.tzfpy, "get_tzs", lambda lon, lat: ["Pacific/Fiji", "Etc/GMT-12"])
    monkeypatch.setattr(geography.tzfpy, "get_tz", lambda lon, lat: asked.append((lon, lat)) or "Pacific/Fiji")
    assert zone_of.__wrapped__(-16.5, 179.9, 0.2) == ("Pacific/Fiji", "nudge")
    assert asked == [(pytest.approx(-179.9), pytest.approx(-16.3))]


@pytest.mark.parametrize(
    ("start_day", "days", "one", "other", "same"),
    [
        ("2026-01-01", 90, NEW_YORK, "America/Detroit", True),
        ("1974-01-01", 90, NEW_YORK, "America/Detroit", True),
        ("1975-01-01", 90, NEW_YORK, "America/Detroit", False),
        ("2026-01-01", 60, "America/Phoenix", "America/Denver", True),  # until summer time begins
        ("2026-01-01", 90, "America/Phoenix", "America/Denver", False),
        ("2026-07-01", 60, "America/Phoenix", "America/Los_Angeles", True),
        ("1960-01-01", 9, "Europe/Paris", "Europe/Paris", True),  # before the table, and after it
        ("2150-01-01", 9, "Asia/Tokyo", "Asia/Kolkata", False),
    ],
)
def test_zones_are_alike_if_their_offsets_are_equal_all_the_horizon_long(start_day, days, one, other, same):
    rules = rules_over(start_day, days)
    assert (rules[one] == rules[other]) is same
