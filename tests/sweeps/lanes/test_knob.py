"""A knob's arithmetic: along its own scale and back, the parts that a curve has, the values that a grid takes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import LaneError
from lanelock.sweeps.lanes.knob import Knob

CHOICES = st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=6, unique=True)
NUMBERS = st.tuples(st.floats(0.001, 10), st.floats(0.01, 1000))
INTEGERS = st.tuples(st.integers(1, 50), st.integers(1, 300))


@st.composite
def exact(draw):
    """A knob whose values can be counted, and all of them in order."""
    kind, (low, size) = draw(st.sampled_from(["integral", "log", "stepped", "choices"])), draw(INTEGERS)
    whole = list(range(low, low + size + 1))
    if kind == "choices":
        values = draw(CHOICES)
        return Knob("k", "p#/f", choices=tuple(values)), values
    if kind == "stepped":
        first, width = draw(NUMBERS)
        step = width / size
        return Knob("k", "p#/f", first, first + width, step), [first + step * i for i in range(size + 1)]
    return Knob("k", "p#/f", low, low + size, log=kind == "log"), whole


@st.composite
def smooth(draw):
    """A knob of real numbers, and some of its values in order."""
    low, width = draw(NUMBERS)
    parts = draw(st.lists(st.floats(0, 1), min_size=1, max_size=9))
    return Knob("k", "p#/f", low, low + width, log=draw(st.booleans())), sorted(low + part * width for part in parts)


@given(exact())
def test_a_value_that_can_be_counted_is_found_again_from_its_place(case):
    knob, values = case
    places = [knob.unit(value) for value in values]
    assert places[0] == 0 and places[-1] <= 1 + 1e-12 and all(before < after for before, after in pairwise(places))
    again = [knob.along(place) for place in places]
    assert again == values and list(map(type, again)) == list(map(type, values))


@given(smooth())
def test_a_real_number_is_found_again_to_its_last_digits(case):
    knob, values = case
    places = [knob.unit(value) for value in values]
    assert all(-1e-12 <= place <= 1 + 1e-12 for place in places) and places == sorted(places)
    assert [knob.along(place) for place in places] == pytest.approx(values, rel=1e-9)
    assert (knob.unit(knob.low), knob.unit(knob.high)) == (0, 1)


@given(st.one_of(exact(), smooth()), st.integers(1, 12))
def test_a_value_falls_into_the_part_of_the_range_that_covers_it(case, count):
    knob, values = case
    parts = knob.bins(count)
    for part in (parts[knob.bin(value, count)] | {"value": value} for value in values):
        if knob.choices:
            assert part["choice"] == part["value"]
        else:
            room = 1e-9 * part["high"]
            assert part["low"] - room <= part["value"] <= part["high"] + room
            assert part["low"] < knob.middle(part["low"], part["high"]) < part["high"]
    assert len(parts) == (len(knob.choices) or count)


@given(exact(), smooth())
def test_a_grid_takes_each_value_once_and_in_order(counted, real):
    knob, values = counted
    points = list(knob.points(5))
    assert points == sorted(set(points), key=values.index) and points[0] == values[0] and points[-1] == values[-1]
    assert points == values if knob.choices or knob.step or len(values) <= 5 else 2 < len(points) <= 5
    knob, _ = real
    assert len(knob.points(5)) == 5 and knob.points(5)[0] == knob.low


def test_a_log_scale_goes_by_ratio():
    knob = Knob("k", "p#/f", 0.01, 100.0, log=True)
    assert [knob.along(place) for place in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert knob.middle(0.01, 1) == pytest.approx(0.1) and knob.unit(1.0) == pytest.approx(0.5)


def test_its_words_name_every_value_or_both_ends():
    assert Knob("k", "p#/f", 0.5, 2.0).range_text() == "0.5 … 2.0"
    assert Knob("k", "p#/f", 0.5, 2.0).ends_text() == ("0.5", "2")
    assert Knob("k", "p#/f", choices=("off", "on", "auto")).range_text() == "off, on, auto"
    assert Knob("k", "p#/f", choices=(True, False)).ends_text() == ("True", "False")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"low": 2, "high": 2}, "low 2 is not below high 2"),
        ({"low": 0, "high": 2, "scale": "log"}, "a log scale needs low above 0 and no step"),
        ({"low": 1, "high": 2, "scale": "log", "step": 1}, "a log scale needs low above 0 and no step"),
        ({"low": 0, "high": 1, "step": 0.3}, "step 0.3 does not divide the range 0 … 1"),
    ],
)
def test_a_range_that_is_none_is_refused_by_its_field(row, said):
    with pytest.raises(LaneError, match=f"/knobs/k: {said}"):
        Knob.of("k", {"at": "p#/f", **row}, "lane.json: /knobs/k")
