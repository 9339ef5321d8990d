"""A knob's arithmetic: its values as short decimals, along its own scale and back, the values that a grid takes."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import LaneError
from lanelock.policies.pack import is_integer
from lanelock.sweeps.lanes.knob import Knob

CHOICES = st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=6, unique=True)
NUMBERS = st.tuples(st.floats(0.001, 10), st.floats(0.01, 1000))
INTEGERS = st.tuples(st.integers(1, 50), st.integers(1, 300))
DECIMALS = st.decimals(-1000, 1000, places=4)
STEPS = st.decimals("0.0001", 50, places=4)
ANY = st.floats(-2000, 2000)


@st.composite
def exact(draw):
    """A knob whose values can be counted, and all of them in order."""
    kind, (low, size) = draw(st.sampled_from(["integral", "log", "stepped", "choices"])), draw(INTEGERS)
    whole = list(range(low, low + size + 1))
    if kind == "choices":
        values = draw(CHOICES)
        return Knob("k", "p#/f", choices=tuple(values)), values
    if kind == "stepped":
        first, step = draw(DECIMALS), draw(STEPS)
        values = [float(first + step * i) for i in range(size + 1)]
        return Knob("k", "p#/f", values[0], values[-1], float(step)), values
    return Knob("k", "p#/f", low, low + size, log=kind == "log", integral=True), whole


@st.composite
def smooth(draw):
    """A knob of real numbers, and some of its values in order."""
    low, width = draw(NUMBERS)
    knob = Knob("k", "p#/f", low, low + width, log=draw(st.booleans()))
    parts = draw(st.lists(st.floats(0, 1), min_size=1, max_size=9))
    return knob, sorted(knob.nearest(low + part * width) for part in parts)


@given(exact())
def test_a_value_that_can_be_counted_is_found_again_from_its_place(case):
    knob, values = case
    places = [knob.unit(value) for value in values]
    assert places[0] == 0 and places[-1] <= 1 + 1e-12 and all(before < after for before, after in pairwise(places))
    again = [knob.along(place) for place in places]
    assert again == values and list(map(type, again)) == list(map(type, values))


@given(smooth())
def test_a_real_number_is_found_again_from_its_place(case):
    knob, values = case
    places = [knob.unit(value) for value in values]
    assert all(-1e-12 <= place <= 1 + 1e-12 for place in places) and places == sorted(places)
    assert [knob.along(place) for place in places] == values
    assert (knob.unit(knob.low), knob.unit(knob.high)) == (0, 1)
    assert (knob.along(0), knob.along(1)) == (knob.low, knob.high)


@given(st.one_of(exact(), smooth()), ANY)
def test_the_nearest_value_is_allowed_and_near_and_stays(case, number):
    knob, values = case
    if knob.choices:
        return
    near = knob.nearest(number)
    inside = min(max(number, knob.low), knob.high)
    gap = knob.step or (1 if knob.integral else 1e-5 * knob.high if knob.log else 1e-6 * (knob.high - knob.low))
    assert knob.low <= near <= knob.high and abs(near - inside) <= 0.5 * gap * (1 + 1e-6)
    assert knob.nearest(near) == near == knob.along(knob.unit(near)) and knob.given(near) == near
    if knob.size is not None:
        assert near in values
    for up in (True, False):
        beyond = knob.rounded(number, up)
        assert beyond == knob.nearest(beyond) and abs(beyond - inside) <= gap * (1 + 1e-6)
        assert (beyond >= inside - 1e-12 if up else beyond <= inside + 1e-12) or beyond in (knob.low, knob.high)


@given(st.one_of(exact(), smooth()), st.floats(0, 1))
def test_no_value_is_written_longer_than_its_range_or_step_needs(case, unit):
    knob, _ = case
    value = knob.along(unit)
    assert knob.drawn(min(unit, 1 - 1e-12)) == knob.nearest(knob.drawn(min(unit, 1 - 1e-12)))
    if knob.choices or knob.integral or value in (knob.low, knob.high):
        return
    written = Decimal(repr(value)).normalize()
    if knob.step:
        assert written.as_tuple().exponent >= -4, "low and step have four places"
    elif knob.log:
        assert len(written.as_tuple().digits) <= 6
    else:
        assert Decimal(1).scaleb(written.as_tuple().exponent) >= Decimal(knob.high - knob.low) * Decimal("0.9e-7")


@given(exact(), smooth())
def test_a_grid_takes_each_value_once_and_in_order(counted, real):
    knob, values = counted
    points = list(knob.points(5))
    assert points == sorted(set(points), key=values.index) and points[0] == values[0] and points[-1] == values[-1]
    assert points == values if knob.choices or knob.step or len(values) <= 5 else 2 < len(points) <= 5
    knob, _ = real
    assert len(knob.points(5)) == 5 and (knob.points(5)[0], knob.points(5)[-1]) == (knob.low, knob.high)


def test_a_log_scale_goes_by_ratio():
    knob = Knob("k", "p#/f", 0.01, 100.0, log=True)
    assert [knob.along(place) for place in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert knob.unit(1.0) == pytest.approx(0.5)


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


@pytest.mark.parametrize(
    ("row", "points"),
    [
        ({"low": 0, "high": 0.6, "step": 0.05}, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]),
        ({"low": 0, "high": 1, "step": 0.25}, [0, 0.25, 0.5, 0.75, 1]),
        ({"low": 0, "high": 1}, [0, 0.25, 0.5, 0.75, 1]),
        ({"low": 3, "high": 12, "step": 1.5}, [3, 4.5, 6, 7.5, 9, 10.5, 12]),
        ({"low": 0.55, "high": 0.85, "step": 0.09999999999}, [0.55, 0.64999999999, 0.74999999998, 0.85]),
    ],
)
def test_a_field_of_numbers_takes_numbers_however_its_bounds_are_spelled(row, points):
    knob = Knob.of("k", {"at": "p#/f", **row}, "lane.json: /knobs/k")
    assert list(knob.points(5)) == points and {type(point) for point in knob.points(5)} == {float}


def test_an_integer_field_takes_whole_numbers_however_its_bounds_are_spelled():
    knob = Knob.of("k", {"at": "p#/f", "low": 2.0, "high": 12, "step": 5.0}, "lane.json: /knobs/k", integral=True)
    assert knob.points(5) == (2, 7, 12) and {type(point) for point in (*knob.points(5), knob.along(0.4))} == {int}


@pytest.mark.parametrize(("name", "bound"), [("step", 1.5), ("low", 2.5), ("high", 11.5)])
def test_a_fraction_is_refused_where_the_field_is_an_integer(name, bound):
    row = {"at": "p#/f", "low": 3, "high": 12, "step": 3, name: bound}
    with pytest.raises(
        LaneError, match=f"lane.json: /knobs/k/{name}: {bound} is not a whole number, and p#/f is an int"
    ):
        Knob.of("k", row, "lane.json: /knobs/k", integral=True)


@pytest.mark.parametrize(
    ("knob", "value", "given"),
    [
        (Knob("k", "p#/f", 0.0, 0.6, 0.05), 0.6000000000000001, 0.6),
        (Knob("k", "p#/f", 0.0, 0.6, 0.05), 0.06, None),
        (Knob("k", "p#/f", 0.0, 0.6, 0.05), 0.65, None),
        (Knob("k", "p#/f", 0.0, 1.0), 0.12345678, 0.123457),
        (Knob("k", "p#/f", 0.0, 1.0), 1.01, None),
        (Knob("k", "p#/f", 0.0, 1.0), float("nan"), None),
        (Knob("k", "p#/f", 0.0, 1.0), True, None),
        (Knob("k", "p#/f", 0.0, 1.0), "0.5", None),
        (Knob("k", "p#/f", choices=("1", "2")), 2, "2"),
        (Knob("k", "p#/f", choices=(False, True)), True, True),
        (Knob("k", "p#/f", choices=(False, True)), 1, None),
    ],
)
def test_a_users_value_means_an_allowed_one_or_none(knob, value, given):
    assert knob.given(value) == given and type(knob.given(value)) is type(given)


SCHEMA = {
    "$defs": {
        "count": {"type": "integer"},
        "tree": {"properties": {"next": {"$ref": "#/$defs/tree"}, "n": {"$ref": "#/$defs/count"}}},
    },
    "properties": {
        "share": {"type": "number"},
        "either": {"type": ["integer", "number"]},
        "maybe": {"type": ["integer", "null"]},
        "count": {"$ref": "#/$defs/count"},
        "pair": {"prefixItems": [{"type": "number"}, {"type": "integer"}], "items": {"type": "integer"}},
        "law": {"oneOf": [{"properties": {"n": {"type": "integer"}}}, {"properties": {"x": {"type": "number"}}}]},
        "mixed": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        "both": {"allOf": [{"type": "number"}, {"type": "integer"}]},
        "tree": {"$ref": "#/$defs/tree"},
        "a/b": {"additionalProperties": {"type": "integer"}},
        "named": {"patternProperties": {"^n_": {"type": "integer"}}},
        "free": {},
    },
}


@pytest.mark.parametrize(
    ("pointer", "integer"),
    [
        ("/share", False), ("/either", False), ("/maybe", True), ("/count", True), ("/pair/0", False),
        ("/pair/1", True), ("/pair/7", True),
        ("/law/n", True), ("/law/x", False), ("/mixed", False), ("/both", True), ("/tree/n", True),
        ("/tree/next/next/n", True), ("/a~1b/x", True), ("/named/n_x", True), ("/named/x", False), ("/free", False),
        ("/unknown", False),
    ],
)  # fmt: skip
def test_the_policys_schema_says_what_is_an_integer(pointer, integer):
    assert is_integer(SCHEMA, pointer) is integer


def test_the_shipped_schemas_say_what_is_an_integer():
    mix = SEGMENT_2B.policy_schemas["group_mix_regularizer_v1"]
    assert is_integer(mix, "/apply_when_groups_ge") and not is_integer(mix, "/knee")


def test_choices_of_an_integer_field_are_integers_however_they_are_spelled():
    knob = Knob.of("k", {"at": "p#/n", "choices": [9.0, 12]}, "/knobs/k", integral=True)
    assert list(map(repr, knob.choices)) == ["9", "12"]
