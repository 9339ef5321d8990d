"""Constraints and conditions that are texts: every way to a candidate keeps them exactly, or the lane is refused."""

import re
from fractions import Fraction
from functools import cache
from itertools import islice, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanelock.policies import LaneError
from lanelock.sweeps.lanes.knob import Condition, Knob, When
from lanelock.sweeps.lanes.space import Space

SHARE, UNIT = {"low": 0, "high": 1, "step": 0.1}, {"low": 0, "high": 1}


def space_of(knobs, constraints=(), **authority):
    """A space from rows as a lane's file has them; the authority is at each knob's first value if not given."""
    made = [Knob.of(name, {"at": f"p#/{name}", **row}, f"lane: /knobs/{name}") for name, row in knobs.items()]
    return Space.of(made, constraints, {knob.name: knob.extent[0] for knob in made} | authority, "lane")


def true(text, values):
    """Whether Python, in fractions of the decimals as written, finds a text true; an undefined text is not."""
    named = {name: _exact(value) if type(value) in (int, float) else value for name, value in values.items()}
    try:
        return bool(eval(_code(text), {"exact": _exact, "sum": lambda *terms: sum(terms)}, named))
    except ZeroDivisionError:
        return False


@cache
def _code(text):
    return compile(re.sub(r"(?<![\w.'])(\d+\.?\d*)", r"exact('\1')", text), text, "eval")


@cache
def _exact(number):
    return Fraction(str(number))


@cache
def _named(text):
    return set(re.findall(r"[a-z]\w*", re.sub(r"'\w+'", "", text)))


def keeps(values, texts, whens):
    """Whether a candidate keeps every text whose knobs all count."""
    return all(true(text, values) for text in texts if _counted(text, values, whens))


def _counted(text, values, whens):
    names = _named(text) & set(values)
    return all(
        name not in whens or (true(whens[name], values) and _counted(whens[name], values, whens)) for name in names
    )


STEPS = [(0, 1, 0.5), (0, 1, 0.25), (0, 0.9, 0.3), (-1, 1, 0.5), (0.2, 0.8, 0.2)]
TEXTS = [
    "a + b + c == 1", "sum(a, b) == 1", "2 * a - b == 0.5", "a + b <= 0.8", "a < b", "c > 0.3 and a != b",
    "a * b <= 0.3", "a / c >= 0.5", "law == 'flat' or a <= 0.4", "0.1 <= a <= b", "n * a >= 1", "n + a == 2",
    "law in ['flat', 'deep'] or b == 0.5", "max(a, b) <= 0.7", "abs(a - b) >= 0.2", "not (a == b)",
]  # fmt: skip
WHENS = ["law == 'deep'", "n > 2", "law != 'flat' and a >= 0.5", "n * a > 1"]


@st.composite
def worded(draw):
    """The rows of a small space that can be counted, with texts of every kind."""
    rows = {"law": {"choices": ["flat", "deep"]}, "n": {"choices": [1, 4]}}
    for name in "abc":
        low, high, step = draw(st.sampled_from(STEPS))
        rows[name] = {"low": low, "high": high, "step": step}
    whens = {}
    for name in draw(st.sets(st.sampled_from("bc"))):
        rows[name]["when"] = whens[name] = draw(st.sampled_from(WHENS))
    names = draw(st.permutations(list(rows)))
    texts = draw(st.lists(st.sampled_from(TEXTS), max_size=3, unique=True))
    return {name: rows[name] for name in names}, texts, whens


def _oracle(rows, texts, whens):
    """Every allowed candidate, by trying all combinations of values: slow, and of nobody's code but this."""
    axes = {}
    for name, row in rows.items():
        count = 0 if "choices" in row else round((row["high"] - row["low"]) / row["step"])
        axes[name] = row.get("choices") or [float(round(row["low"] + i * row["step"], 9)) for i in range(count + 1)]
    found = set()
    for values in product(*axes.values()):
        candidate = dict(zip(axes, values, strict=True))
        for name in rows:
            if (name in whens and not _counted(whens[name], candidate, whens)) or (
                name in whens and not true(whens[name], candidate)
            ):
                candidate[name] = axes[name][0]
        if keeps(candidate, texts, whens):
            found.add(tuple(candidate.items()))
    return found


def _key(candidate):
    return tuple(candidate.items())


@settings(max_examples=40)
@given(worded(), st.integers(0, 99), st.data())
def test_every_way_to_a_candidate_keeps_every_text(drawn, seed, data):
    rows, texts, whens = drawn
    allowed = _oracle(rows, texts, whens)
    try:
        space = space_of(rows, texts)
        start = space.start
    except LaneError as error:
        refused = texts[int(re.search(r"/constraints/(\d)", str(error))[1])]
        counting = {row for row in allowed if "found" in str(error) or _counted(refused, dict(row), whens)}
        assert not counting and "\n" not in str(error), error  # what can never be kept while it counts is refused
        return
    assert _key(start) in allowed and space.size() == len(allowed)
    assert {_key(candidate) for candidate in space.everything()} == allowed
    units = data.draw(st.fixed_dictionaries({knob.name: st.floats(0, 1) for knob in space.knobs}))
    drawn = {knob.name: knob.drawn(min(units[knob.name], 0.999)) for knob in space.knobs}
    assert space.canonical(space.canonical(drawn)) == space.canonical(drawn)
    grid = space.grid(seed)
    ways = [
        space.repaired(drawn, seed), *space.design(6, seed), *map(grid.__getitem__, range(min(grid.size, 20))),
        *islice(space.extremes(["a", "law"]), 8),
    ]  # fmt: skip
    for candidate in filter(None, ways):
        assert _key(candidate) in allowed and space.broken(candidate) is None
        assert space.canonical(candidate) == candidate
        assert space.stated({name: candidate[name] for name in space.active(candidate)}, "row") == candidate
    nearby = space.canonical(drawn)
    assert (space.broken(nearby) is None) == (_key(nearby) in allowed)


@settings(max_examples=60)
@given(st.data())
def test_an_equality_holds_to_the_last_digit_over_knobs_of_any_steps(data):
    steps = st.sampled_from([None, 0.1, 0.25, 0.05, 0.01, 0.3])
    rows = {}
    for name in "abcde"[: data.draw(st.integers(2, 5))]:
        low, step = data.draw(st.sampled_from([0, 0.1, 0.5, 1 / 3])), data.draw(steps)
        rows[name] = {"low": low, "high": low + 3, **({} if step is None or low == 1 / 3 else {"step": step})}
    weights = {name: data.draw(st.sampled_from(["1", "1", "0.5", "2"])) for name in rows}
    text = " + ".join(f"{weights[name]} * {name}" for name in rows) + " == 3.5"
    try:
        space = space_of(rows, [text])
        _ = space.start
    except LaneError:
        assume(False)
    draws = st.fixed_dictionaries({knob.name: st.floats(0, 1).map(knob.along) for knob in space.knobs})
    for values in (data.draw(draws), space.corner(dict.fromkeys(rows, 1), space.start)):
        found = space.repaired(values, 0)
        if found is not None:
            assert true(text, found) and space.canonical(found) == found
            assert all(row["low"] <= found[name] <= row["high"] for name, row in rows.items())
    assert all(true(text, point) for point in space.design(8, 1))


def test_shares_of_forty_knobs_sum_to_one():
    names = [f"k{place}" for place in range(64)]
    space = space_of({name: dict(UNIT) for name in names}, [f"sum({', '.join(names[:40])}) == 1", "k50 < k51"])
    points = [*space.design(8, 3), space.start, space.grid(1)[12345], space.repaired(dict.fromkeys(names, 0.77), 4)]
    for point in points:
        assert sum(Fraction(str(point[name])) for name in names[:40]) == 1 and point["k50"] < point["k51"]
    zero = space.repaired({**dict.fromkeys(names, 0.0), "k0": 3.0, "k1": 1.0, "k51": 0.5}, 0)
    assert sum(zero[name] == 0 for name in names[:40]) >= 36, "a share of 0 stays 0"


def test_a_row_that_leaves_one_share_out_is_given_the_rest():
    space = space_of({"a": SHARE, "b": SHARE, "c": SHARE}, ["a + b + c == 1"], a=0.2, b=0.3, c=0.5)
    assert space.stated({"a": 0.6, "b": 0.1}, "row 1") == {"a": 0.6, "b": 0.1, "c": 0.3}
    for row in ({"a": 0.6, "b": 0.6}, {"a": 0.6, "b": 0.1, "c": 0.1}):
        with pytest.raises(LaneError, match=re.escape("/constraints/0: a + b + c == 1 (a 0.6, ")):
            space.stated(row, "row 1")


def test_a_condition_on_choices_is_the_same_as_an_object_and_others_hold_as_they_say():
    rows = {"law": {"choices": ["x", "y", "z"]}, "n": {"low": 0, "high": 9, "step": 1}, "d": {**UNIT, "when": ""}}
    for text, values in (("law == 'x'", ("x",)), ("law in ['z', 'x']", ("x", "z")), ("not (law == 'x')", ("y", "z"))):
        space = space_of({**rows, "d": {**UNIT, "when": text}})
        assert space.by_name["d"].when == When("law", values)
    space = space_of({**rows, "d": {**UNIT, "when": "n > 2 and law != 'x'"}}, n=0.0)
    assert isinstance(space.by_name["d"].when, Condition) and space.condition("d") == "n > 2 and law != 'x'"
    assert space.canonical({"law": "y", "n": 2, "d": 0.7})["d"] == 0.0
    assert space.canonical({"law": "y", "n": 3, "d": 0.7})["d"] == 0.7
    with pytest.raises(LaneError, match=re.escape("d: 0.7 counts only while n > 2 and law != 'x'")):
        space.stated({"law": "x", "n": 3, "d": 0.7}, "row")


def test_a_chain_of_conditions_is_followed_to_its_end():
    rows = {"k0": {"low": 0, "high": 4, "step": 1}}
    rows |= {f"k{i}": {"low": 0, "high": 4, "step": 1, "when": f"k{i - 1} >= {i}"} for i in range(1, 5)}
    space = space_of(rows, k0=0.0)
    deep = {"k0": 4, "k1": 4, "k2": 4, "k3": 4, "k4": 2}
    assert space.canonical(deep) == deep and space.activating(space.by_name["k4"])
    assert space.canonical({**deep, "k1": 1})["k4"] == 0 == space.canonical({**deep, "k1": 1})["k2"]
    everyone = (space.canonical(dict(zip(rows, values, strict=True))) for values in product(range(5), repeat=5))
    assert space.size() == len({_key(candidate) for candidate in everyone})


@pytest.mark.parametrize(
    ("knobs", "constraints", "says"),
    [
        ({"a": SHARE}, ["a + b <= 1"], "b is not a knob"),
        ({"a": SHARE}, ["1 < 2"], "it names no knob"),
        ({"a": SHARE}, ["a - a <= 1"], "it names no knob"),
        ({"a": SHARE}, ["a + a >= 3"], "a + a >= 3: 2 a is at least 0 and at most 2"),
        ({"a": SHARE}, ["a < 0"], "a < 0: a is at least 0 and at most 1"),
        ({"a": SHARE, "b": SHARE}, ["a * b >= 1.01"], "it is false for all values of a, b"),
        ({"a": SHARE}, ["a / 0 <= 1"], "a / 0 <= 1: no candidate was found"),
        ({"a": SHARE}, ["a"], "neither true nor false"),
        ({"a": SHARE}, ["a ** 2 <= 1"], "column 3: '**' is not allowed"),
        ({"a": SHARE}, ["a * 1e300 * 1e300 <= -1"], "no candidate"),
        ({"l": {"choices": ["x", "y"]}}, ["l == 'z'"], "'z' is not a value of l: x, y"),
        ({"l": {"choices": ["x", "y"]}}, ["l <= 1"], "l is not a knob of numbers"),
        ({"a": SHARE, "b": {"low": 0, "high": 1, "step": 0.25}}, ["a + b == 0.33"], "comes to 0.3 or 0.35, never"),
        (
            {"a": {"low": 0, "high": 9, "step": 3}, "b": {"low": 0, "high": 4, "step": 2}},
            ["a + b == 1"],
            "no candidate",
        ),
        ({"a": SHARE, "b": SHARE}, ["a + b == 1", "a + b == 0.5"], "together with the other constraints"),
        ({"a": {**SHARE, "when": "b > 2"}, "b": SHARE}, [], "/knobs/a/when: b > 2 is false for all values"),
        ({"a": {**SHARE, "when": "z > 2"}}, [], "z is not a knob of the lane: a"),
        (
            {"l": {"choices": ["x", "y"]}, "a": {**SHARE, "when": "l in ['x', 'Y']"}},
            [],
            "'Y' is not a value of l: x, y",
        ),
        ({"a": {**SHARE, "when": "b > 0"}, "b": {**SHARE, "when": "a > 0"}}, [], "a depends on itself"),
        ({"a": {**SHARE, "when": "a > 0"}}, [], "a depends on itself"),
        ({"a": {**SHARE, "when": "b +"}, "b": SHARE}, [], "column 3: cannot be read from here"),
    ],
)
def test_what_nothing_can_keep_is_refused_and_named(knobs, constraints, says):
    with pytest.raises(LaneError) as error:
        _ = space_of(knobs, constraints).start
    assert says in str(error.value) and "\n" not in str(error.value), error.value
    assert ("/constraints/" in str(error.value)) == bool(constraints)
