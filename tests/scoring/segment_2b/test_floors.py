"""The floor of the tail: its three shares and its parts, against merchant-days counted one by one."""

import pytest

from lanelock.engine.segment_2b.run import Segment2B
from lanelock.scoring.feasibility import Floor
from lanelock.scoring.scorecard import Flooring, floors
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS


@pytest.fixture(scope="module", params=["p2", "p3_recorded"])
def run(request, packs):
    return Segment2B().evaluate(packs(request.param).with_knobs({"world_v1#/merchants/count": 120}), 7, until="S4")


def days_of(run):
    """The shares of each merchant-day."""
    days = {}
    for row in run.surfaces["s4_group_weights"].table().to_pylist():
        days.setdefault((row["merchant_id"], row["utc_day"]), []).append(row["p_group"])
    return list(days.values())


def test_the_floor_is_counted(run):
    days = days_of(run)

    def tail(of):
        return sum(max(p) >= 0.95 for p in of) / len(of) if of else None

    one, two, three = (
        [p for p in days if keep(len(p))] for keep in (lambda n: n == 1, lambda n: n == 2, lambda n: n > 2)
    )
    (floor,) = floors(METRICS, METRICS.measure(run))
    assert (floor.metric, floor.floor, floor.value) == ("s4/tail_share", len(one) / len(days), tail(days))
    assert floor.beyond == tail(two + three)
    assert [part.part for part in floor.parts] == ["1 zone", "2 zones", "3 zones or more"]
    for part, of in zip(floor.parts, (one, two, three), strict=True):
        assert part.share == pytest.approx(len(of) / len(days), abs=1e-12) and part.value == tail(of)
    whole = sum(part.share * part.value for part in floor.parts)
    assert whole == pytest.approx(floor.value) and floor.floor + (1 - floor.floor) * floor.beyond == pytest.approx(
        whole
    )


def test_what_was_not_measured_is_left_out():
    assert floors(METRICS, {}) == () and floors(METRICS, {"s1/gap": 0.1}) == ()
    lone = {
        "s4/tail_share": 1.0,
        "s4/single_group_share": 1.0,
        "s4/two_group_share": 0.0,
    }  # every merchant has one zone
    (floor,) = floors(METRICS, lone)
    assert floor.beyond is None and [(part.share, part.value) for part in floor.parts] == [
        (1.0, 1.0),
        (0.0, None),
        (0.0, None),
    ]
    before = {
        "s4/tail_share": 0.5,
        "s4/single_group_share": 0.4,
        "s4/tail_share_multi": 1 / 6,
    }  # a lock of an earlier version
    (floor,) = floors(METRICS, before)
    assert (floor.floor, floor.value, floor.beyond) == (0.4, 0.5, 1 / 6) and floor.parts[1].share is None


def test_an_engine_need_not_have_floors():
    from queue_engine import QueueMetrics

    assert isinstance(METRICS, Flooring) and not isinstance(QueueMetrics(), Flooring)
    assert floors(QueueMetrics(), {"queue/wait": 1.0}) == ()


def test_feasibility_states_them(lanelock, tmp_path):
    code, said, _ = lanelock("feasibility", "p3", "--json", workspace=tmp_path)
    assert code == 1 and list(said["floors"]) == ["42", "7", "101", "202"]
    tail = next(row for row in said["gates"] if row["gate"] == "s4_tail")
    for (row,) in said["floors"].values():
        assert row["floor"] == tail["bound"] == pytest.approx(0.483037, abs=1e-6)
        assert row["value"] > row["floor"] and row["parts"][0]["value"] == 1.0
    assert row.keys() == set(Floor.__slots__)
    _, text, _ = lanelock("feasibility", "p3", workspace=tmp_path)
    assert "beyond the floor" in text and "3 zones or more" in text
    assert lanelock("feasibility", "p1", "--json", workspace=tmp_path)[1]["floors"]["42"] == [], "it ends before S4"
