"""Knobs that move many numbers: the laws, their way back, and ends that no value leaves."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanelock.policies import LaneError
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.lanes.together import Together, numbers_of

NUMBERS = st.decimals(-50, 50, places=2).map(float)
WEIGHTS = st.lists(st.decimals(0, 9, places=3).map(float), min_size=2, max_size=6).filter(lambda row: len({*row}) > 1)
CONTENT = st.recursive(
    NUMBERS | st.just("text") | st.booleans() | st.none(),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner, min_size=1),
    max_leaves=6,
)


def knob_of(by, contents, low, high, integers=(), **row):
    together = Together(by, contents, frozenset(integers))
    knob = Knob.of("k", {"at": list(contents), "by": by, "low": low, "high": high, **row}, "f", together=together)
    together.check(knob.span, "f: /knobs/k")
    return knob


def exact(number):
    return Fraction(str(number))


@settings(max_examples=40, deadline=None)
@given(CONTENT, st.sampled_from(["scale", "shift"]), st.floats(0, 1), st.booleans())
def test_scale_and_shift_are_exact_in_decimals_and_found_back(content, by, unit, integral):
    before = numbers_of({"p#/x": content})
    whole = integral and all(number == int(number) for number in before.values())
    try:
        knob = knob_of(by, {"p#/x": content}, 0.5, 2.5, before if whole else ())
    except LaneError as error:
        assert not before or (by == "scale" and not any(before.values())) or (whole and by == "scale"), error
        return
    value = knob.along(unit)
    contents = knob.contents(value)
    for at, number in numbers_of(contents).items():
        moved = exact(before[at]) * exact(value) if by == "scale" else exact(before[at]) + exact(value)
        assert number == (round(moved) if whole else float(moved)) and isinstance(number, int) == whole
    assert str(contents["p#/x"]).count("text") == str(content).count("text")
    back = knob.found(contents)
    assert back is not None and knob.contents(back) == contents and (whole or back == value)
    for at, number in numbers_of(contents).items():
        low, high = knob.together.ends(*knob.span)[at]
        assert low <= number <= high


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.floats(0, 1))
def test_tempered_weights_keep_their_sum_and_order_and_are_found_back(weights, unit):
    knob = knob_of("temper", {"p#/w": weights, "p#/o": {"x": 2.0, "y": 1.0}}, 0.0, 3.0)
    value = knob.along(unit)
    contents = knob.contents(value)
    moved = contents["p#/w"]
    assert sum(map(exact, moved)) == sum(map(exact, weights)) and [w == 0 for w in weights] >= [m == 0 for m in moved]
    total = math.fsum(weight**value for weight in weights if weight)
    for weight, number in zip(weights, moved, strict=True):
        expected = weight**value / total * math.fsum(weights) if weight else 0.0
        assert number == pytest.approx(expected, abs=1e-9 * math.fsum(weights))
    assert knob.contents(knob.found(contents)) == contents
    for at, number in numbers_of(contents).items():
        low, high = knob.together.ends(*knob.span)[at]
        assert low - 1e-11 <= number <= high + 1e-11
    assert knob.contents(1.0) == knob.together.contents


@settings(max_examples=10)
@given(st.lists(WEIGHTS, min_size=2, max_size=3))
def test_a_table_is_tempered_row_by_row(rows):
    knob = knob_of("temper", {"p#/t": rows}, 0.5, 2.0)
    for before, after in zip(rows, knob.contents(1.7)["p#/t"], strict=True):
        assert sum(map(exact, after)) == sum(map(exact, before))
    alone = [knob_of("temper", {"p#/t": row}, 0.5, 2.0).contents(1.7)["p#/t"] for row in rows]
    assert knob.contents(1.7)["p#/t"] == alone


@pytest.mark.parametrize(
    ("by", "content", "low", "says"),
    [
        ("temper", [0.5, -0.5], 0, "p#/x/1 is -0.5; weights to temper are 0 or more"),
        ("temper", [0.0, 0.0], 0, "weights that are all 0"),
        ("temper", [0.5, 0.5], 0, "nothing moves: temper by 0 and by 3 give the same numbers"),
        ("temper", 0.5, 0, "a single number"),
        ("temper", [0.5, 0.2], -1, "weights are tempered by 0 or more"),
        ("scale", [0, 0.0], 0, "nothing moves"),
        ("scale", ["a", None, True], 0, "holds no number to scale"),
        ("shift", {}, 0, "holds no number to shift"),
    ],
)
def test_what_cannot_be_moved_so_is_refused(by, content, low, says):
    with pytest.raises(LaneError) as error:
        knob_of(by, {"p#/x": content}, low, 3)
    assert says in str(error.value) and str(error.value).startswith("f: /knobs/k")


def test_set_puts_one_value_into_all_fields_and_only_that_is_found():
    knob = knob_of("set", {"p#/a": 1, "p#/b": 2}, 0, 4)
    assert knob.contents(3.0) == {"p#/a": 3.0, "p#/b": 3.0} and knob.fields == ("p#/a", "p#/b")
    assert knob.found({"p#/a": 3.0, "p#/b": 3.0}) == 3.0 and knob.found({"p#/a": 3.0, "p#/b": 2.0}) is None
    assert knob.fields_text == "p#/a and 1 more"
