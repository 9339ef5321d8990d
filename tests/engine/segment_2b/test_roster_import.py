"""A roster from outside: read back as it was written, or refused with its file, row and field."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import tiny_world

from lanelock.engine.segment_2b.roster_import import open_roster
from lanelock.engine.segment_2b.states import s5_roster
from lanelock.engine.surface import table_digest
from lanelock.policies import DataError

DAYS = ("2026-01-01", "2026-01-02")
FIRST = s5_roster.first_day(DAYS)
WORLD = tiny_world(virtual=[3])
UTC = pa.timestamp("us", "UTC")


@pytest.fixture
def policy(packs):
    return packs("p3_recorded")["route_rng_policy_v1"]


def rows_of(**columns):
    """Two arrivals of the first day, with columns put in place of theirs; None leaves one out."""
    rows = {
        "utc_timestamp": pa.array([FIRST, FIRST + 1], UTC),
        "merchant_id": pa.array([1, 3], pa.uint64()),
        "utc_day": ["2026-01-01"] * 2,
        "is_virtual": [False, True],
        "arrival_class": ["purchase", "refund"],
        "channel": ["online", "phone"],
        **columns,
    }
    return pa.table({name: values for name, values in rows.items() if values is not None})


def at(*ticks, unit="us", zone="UTC"):
    return pa.array(ticks, pa.timestamp(unit, zone))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_drawn_roster_reads_back_as_it_was(policy, tmp_path, suffix):
    law = {**policy["roster"], "arrivals_per_merchant_day": 300.0}
    drawn = s5_roster.roster(WORLD, DAYS, {**policy, "roster": law}, 7, "t")
    path = tmp_path / f"roster.{suffix}"
    if suffix == "parquet":
        pq.write_table(drawn.table(), path)
    else:
        frame = drawn.table().to_pandas()
        frame["utc_timestamp"] = [moment.isoformat() for moment in frame["utc_timestamp"]]
        frame.to_csv(path, index=False)
    assert table_digest(open_roster(path, WORLD, DAYS, policy, "t").table()) == table_digest(drawn.table())


@pytest.mark.parametrize(
    "moments",
    [
        at(FIRST // 10**6, FIRST // 10**6 + 1, unit="s"),
        at(FIRST * 1000, (FIRST + 10**6) * 1000, unit="ns", zone="Asia/Tokyo"),
        ["2026-01-01T00:00:00Z", "2026-01-01T09:00:01.000000000+09:00"],
    ],
)
def test_a_moment_is_the_same_in_every_unit_and_zone(policy, tmp_path, moments):
    pq.write_table(rows_of(utc_timestamp=moments), tmp_path / "roster.parquet")
    found = open_roster(tmp_path / "roster.parquet", WORLD, DAYS, policy, "t")
    assert found["utc_timestamp"].tolist() == [FIRST, FIRST + 10**6]


def test_arrivals_of_one_merchant_at_one_moment_are_numbered(policy, tmp_path):
    same = {"utc_timestamp": at(FIRST, FIRST), "merchant_id": pa.array([1, 1], pa.uint64()), "is_virtual": [False] * 2}
    pq.write_table(rows_of(**same), tmp_path / "roster.parquet")
    assert open_roster(tmp_path / "roster.parquet", WORLD, DAYS, policy, "t")["occurrence"].tolist() == [0, 1]


BAD = [
    ({"utc_timestamp": at(FIRST, FIRST, zone=None)}, "row 1: utc_timestamp: a time without an offset"),
    ({"utc_timestamp": at(FIRST, None)}, "row 2: utc_timestamp: empty"),
    ({"utc_timestamp": at(FIRST * 1000, FIRST * 1000 + 1, unit="ns")}, "row 2: utc_timestamp: finer than a microsec"),
    ({"utc_timestamp": at(FIRST // 10**6, 2**50, unit="s")}, "row 2: utc_timestamp: outside what microsec"),
    ({"utc_timestamp": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.1234567Z"]}, "row 2: utc_timestamp: '2026"),
    ({"utc_timestamp": ["2026-01-01T00:00:00", "?"]}, "row 1: utc_timestamp: '2026-01-01T00:00:00' has no offset"),
    ({"utc_timestamp": ["2026-01-01T00:00:00Z", "?"]}, "row 2: utc_timestamp: '?' is not an ISO 8601 time"),
    ({"utc_timestamp": pa.array([FIRST, FIRST])}, "row 1: utc_timestamp: "),
    ({"utc_timestamp": at(FIRST + 1, FIRST)}, "row 2: utc_timestamp: not in the order"),
    ({"utc_timestamp": at(FIRST, FIRST), "merchant_id": pa.array([3, 1], pa.uint64()), "is_virtual": [True, False]},
     "row 2: utc_timestamp: not in the order"),
    ({"utc_timestamp": at(FIRST, FIRST + 86_400_000_000)}, "row 2: utc_day: not the day of utc_timestamp"),
    ({"utc_timestamp": at(FIRST - 1, FIRST)}, "row 1: utc_day: not the day of utc_timestamp"),
    ({"utc_day": ["2026-01-01", "2026-01-03"]}, "row 2: utc_day: outside the policy's horizon 2026-01-01 … 2026-01-02"),
    ({"merchant_id": pa.array([1, 6], pa.uint64())}, "row 2: merchant_id: not a merchant of the world"),
    ({"merchant_id": pa.array([1, -3])}, "row 2: merchant_id: -3 is not of type uint64"),
    ({"merchant_id": pa.array([None, 3], pa.uint64())}, "row 1: merchant_id: empty"),
    ({"is_virtual": [False, False]}, "row 2: is_virtual: the world says otherwise"),
    ({"arrival_class": ["purchase", "gift"]}, "row 2: arrival_class: not one of"),
    ({"channel": ["fax", "phone"]}, "row 1: channel: not one of"),
    ({"channel": None}, "column channel is missing"),
    ({"amount": [1, 2]}, "unknown column amount"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_roster_is_refused_by_row_and_field(policy, tmp_path, columns, said):
    path = tmp_path / "roster.parquet"
    pq.write_table(rows_of(**columns), path)
    with pytest.raises(DataError) as refused:
        open_roster(path, WORLD, DAYS, policy, "t")
    assert str(refused.value).startswith(f"{path}: {said}") and "\n" not in str(refused.value)


def test_more_arrivals_at_once_than_a_counter_can_tell_apart_are_refused(policy, tmp_path):
    path, many = tmp_path / "roster.csv", 4097
    row = {"utc_timestamp": "2026-01-01T00:00:00Z", "merchant_id": 1, "utc_day": "2026-01-01", "is_virtual": "false"}
    frame = pd.DataFrame([{**row, "arrival_class": "purchase", "channel": "online"}] * many)
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"roster\.csv: row 4097: utc_timestamp: more than 4096 arrivals"):
        open_roster(path, WORLD, DAYS, policy, "t")
    frame[:-1].to_csv(path, index=False)
    assert np.array_equal(open_roster(path, WORLD, DAYS, policy, "t")["occurrence"], np.arange(many - 1))


def test_a_roster_that_is_not_there_is_said(policy, tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        open_roster(tmp_path / "none.csv", WORLD, DAYS, policy, "t")
