"""The space of a lane: what its candidates are, how many, and how one is found near a point that is none."""

import json
import re
from itertools import islice, product
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanelock.policies import LaneError
from lanelock.policies.documents import read_json, shipped
from lanelock.sweeps.lanes.candidates import read_candidates
from lanelock.sweeps.lanes.knob import Knob, When
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.space import COUNTED, Rule, Space, permuted

MIX = "group_mix_regularizer_v1"
P3 = read_json(shipped("lanes", ".json")["p3_wide"])


def space_of(knobs, constraints=(), **authority):
    """A space from rows as a lane's file has them; the authority is at each knob's first value if not given."""
    made = [Knob.of(name, {"at": f"p#/{name}", **row}, f"lane: /knobs/{name}") for name, row in knobs.items()]
    return Space.of(made, constraints, {knob.name: knob.extent[0] for knob in made} | authority, "lane")


def all_allowed(space):
    """Every allowed candidate, found by trying each combination of values."""
    axes = [[knob.value(place) for place in range(knob.size)] for knob in space.knobs]
    names = [knob.name for knob in space.knobs]
    canonical = (space.canonical(dict(zip(names, values, strict=True))) for values in product(*axes))
    return {tuple(values.values()) for values in canonical if space.broken(values) is None}


SHARE = {"low": 0, "high": 1, "step": 0.1}
FINE = {"low": 0, "high": 1}
LAWS = {
    "law": {"choices": ["plain", "capped", "deep"]},
    "cap": {**SHARE, "when": {"knob": "law", "is": ["capped", "deep"]}},
    "mode": {"choices": [1, 2], "when": {"knob": "law", "is": ["deep"]}},
    "depth": {"low": 1, "high": 3, "step": 1, "when": {"knob": "mode", "is": [2]}},
}


@st.composite
def spaces(draw):
    """A small space whose values can be counted, with conditions and rules that may or may not leave something."""
    switch = Knob("on", "p#/on", choices=(False, True))
    numbers = [Knob("level", "p#/level", choices=(0.0, 0.5, 2.0))]
    for name in "abc":
        low, size = draw(st.integers(-3, 3)), draw(st.integers(1, 4))
        when = When("on", (draw(st.booleans()),)) if draw(st.booleans()) else None
        numbers.append(Knob(name, f"p#/{name}", low / 2, (low + size) / 2, 0.5, when=when))
    numbers.append(Knob("n", "p#/n", 1, draw(st.integers(2, 4)), integral=True))
    names = [knob.name for knob in numbers]
    weights = st.dictionaries(st.sampled_from(names), st.sampled_from([-2, -1, 0.5, 1, 3]), min_size=1, max_size=3)
    limits = st.sampled_from(
        [{"at_most": 1.0}, {"at_least": 0.5}, {"at_least": -1, "at_most": 1}, {"at_least": 0, "at_most": 0}]
    )
    order = st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=True)
    sums = st.builds(lambda sum, limit: {"sum": sum, **limit}, weights, limits)
    rows = draw(st.lists(st.one_of(sums, st.builds(lambda names: {"order": names}, order)), max_size=3))
    rules = tuple(rule for row in rows for rule in Rule.of(row, "/constraints/0", "lane"))
    knobs = (switch, *numbers) if draw(st.booleans()) else (*numbers, switch)
    return Space(knobs, rules, {knob.name: draw(st.sampled_from(knob.points(9))) for knob in knobs})


@given(spaces())
def test_the_size_is_the_number_of_allowed_candidates(space):
    assert space.size() == len(all_allowed(space))


@given(spaces(), st.integers(0, 9))
def test_the_start_is_allowed_wherever_anything_is(space, seed):
    allowed = all_allowed(space)
    if not allowed:
        with pytest.raises(LaneError, match="/constraints/0: no candidate was found that keeps all constraints"):
            _ = space.start
        return
    assert tuple(space.start.values()) in allowed
    if tuple(space.canonical(space.resting).values()) in allowed:
        assert space.start == space.canonical(space.resting)
    near = space.repaired({knob.name: knob.extent[-1] for knob in space.knobs}, seed)
    assert near is None or tuple(near.values()) in allowed


@given(spaces(), st.integers(0, 9))
@settings(max_examples=25)
def test_a_design_and_a_grid_give_allowed_candidates_once(space, seed):
    allowed = all_allowed(space)
    assume(allowed)
    design = [tuple(point.values()) for point in space.design(6, seed)]
    assert len(design) == len(set(design)) <= 6 and set(design) <= allowed
    grid = space.grid(seed)
    points = [tuple(point.values()) for point in grid if point is not None]
    assert len(points) == len(set(points)) and set(points) <= allowed
    if not any(knob.when for knob in space.knobs):
        assert set(points) == allowed
    assert len(points) == len(allowed), "an inactive knob makes no two candidates of one"


@given(spaces(), st.data())
def test_a_canonical_candidate_stays_and_holds_inactive_knobs_at_rest(space, data):
    values = {knob.name: data.draw(st.floats(-9, 9) if knob.numeric else st.booleans()) for knob in space.knobs}
    once = space.canonical(values)
    active = space.active(once)
    assert space.canonical(once) == once and space.active(values) <= {knob.name for knob in space.knobs}
    for knob in space.knobs:
        assert once[knob.name] == (knob.nearest(values[knob.name]) if knob.name in active else space.resting[knob.name])


@given(st.integers(1, 5000), st.integers(0, 99))
@settings(max_examples=20)
def test_a_permutation_takes_each_index_once(size, seed):
    assert {permuted(index, size, seed) for index in range(size)} == set(range(size))


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.sampled_from([
        [{"sum": {"a": 1, "b": 1, "c": 1}, "at_least": 1, "at_most": 1}],
        [{"order": ["c", "b", "a"]}],
        [{"sum": {"a": 1, "b": -2}, "at_most": -0.35}, {"order": ["b", "c"]}],
        [{"sum": {"a": 3, "b": 0.7, "c": -1.1}, "at_least": 1.2345, "at_most": 1.24}],
    ]),
    st.sampled_from([SHARE | {"step": 0.01}, FINE]),
)  # fmt: skip
def test_a_point_is_mended_near_where_it_was(numbers, constraints, kind):
    space = space_of({"a": FINE, "b": kind, "c": {"low": 0, "high": 0.9}}, constraints)
    values = dict(zip("abc", numbers, strict=True))
    near = space.repaired(values, 1)
    assert near is not None and space.broken(near) is None and space.canonical(near) == near
    assert near == space.repaired(values, 1)
    if space.broken(space.canonical(values)) is None:
        assert near == space.canonical(values)


def test_a_condition_holds_through_the_knobs_it_depends_on():
    space = space_of(LAWS)
    assert space.active({"law": "plain", "cap": 0.5, "mode": 2, "depth": 2}) == {"law"}
    assert space.active({"law": "deep", "cap": 0.5, "mode": 2, "depth": 2}) == set(LAWS)
    assert space.canonical({"law": "capped", "cap": 0.52, "mode": 2, "depth": 2}) == {
        "law": "capped", "cap": 0.5, "mode": 1, "depth": 1,
    }  # fmt: skip
    assert space.size() == 1 + 11 + 11 * (1 + 3)
    assert space.condition("depth") == "law is deep and mode is 2"


def test_a_rule_counts_while_its_knobs_do_and_says_its_numbers():
    space = space_of(LAWS, [{"sum": {"cap": 2, "depth": -1}, "at_most": -0.5}, {"order": ["cap", "depth"]}])
    assert space.broken({"law": "capped", "cap": 1.0, "mode": 2, "depth": 1}) is None
    assert space.broken({"law": "deep", "cap": 0.5, "mode": 2, "depth": 1.0}) == (
        "/constraints/0: 2 cap - depth is 0 (cap 0.5, depth 1.0), at most -0.5 is allowed"
    )
    order = space_of({"low": SHARE, "mid": SHARE, "high": SHARE}, [{"order": ["low", "mid", "high"]}])
    assert order.broken({"low": 0.2, "mid": 0.7, "high": 0.6}) == "/constraints/0: mid is 0.7, above high, 0.6"
    assert order.broken({"low": 0.2, "mid": 0.2 + 1e-12, "high": 0.2}) is None, "floats are not exact"
    assert order.size() == 11 * 12 * 13 // 6


def test_a_space_too_large_or_without_steps_is_not_counted():
    steps = {f"k{place}": SHARE for place in range(5)}
    assert space_of(steps).size() is None and COUNTED < 11**5
    assert space_of(steps, [{"order": list(steps)}]).size() == 3003
    assert space_of({"a": FINE, "b": SHARE}).size() is None
    assert space_of({f"k{place}": SHARE for place in range(60)}, [{"order": ["k0", "k1"]}]).size() is None


def test_a_corner_takes_the_ends_of_the_knobs_it_names():
    space = space_of({**LAWS, "level": {"choices": [3, 1, 2]}})
    assert space.corner({"cap": 1, "level": -1, "law": 1}, {**space.start, "law": "deep"}) == {
        "law": "deep", "cap": 1.0, "mode": 1, "depth": 1, "level": 1,
    }  # fmt: skip
    assert space.corner({"cap": 1, "level": 0}, space.start) == space.start, "cap does not count at the start"


def test_a_design_fills_each_knob_and_follows_from_its_seed():
    space = space_of({"a": FINE, "b": SHARE, "c": {"choices": ["x", "y", "z"]}}, [{"order": ["a", "b"]}])
    design = space.design(32, 7)
    assert len(design) == 32 and design == space.design(32, 7) != space.design(32, 8)
    assert {point["c"] for point in design} == {"x", "y", "z"} and len({point["b"] for point in design}) > 8
    assert space_of({"c": {"choices": [1, 2, 3]}}).design(40, 1) != [] and len(space_of(LAWS).design(400, 1)) == 56


def test_a_grid_of_any_size_is_found_by_index():
    lane = load_lane("joint")
    grid = lane.space.grid(3)
    assert grid.size > 9e24
    first = list(islice((point for point in grid if point), 40))
    assert len({tuple(point.values()) for point in first}) == 40
    assert first == list(islice((point for point in lane.space.grid(3) if point), 40))
    for point in first:
        assert lane.admit(lane.candidate(point)) == point and lane.space.canonical(point) == point
    with pytest.raises(IndexError):
        grid[grid.size]


ON_B = {"knob": "b", "is": [1]}
CIRCLE = {
    name: {"choices": [1, 2], "when": {"knob": other, "is": [1]}} for name, other in (("a", "b"), ("b", "a"))
}  # fmt: skip


@pytest.mark.parametrize(
    ("knobs", "constraints", "said"),
    [
        ({"a": {**FINE, "when": ON_B}}, [], "/knobs/a/when/knob: b is not a knob with choices or options"),
        ({"a": {**FINE, "when": ON_B}, "b": FINE}, [], "/knobs/a/when/knob: b is not a knob with choices or options"),
        ({"a": {**FINE, "when": ON_B}, "b": {"choices": [2, 3]}}, [], "/knobs/a/when/is: 1 is not a value of b: 2, 3"),
        (CIRCLE, [], "/knobs/a/when/knob: a depends on itself"),
        ({"a": FINE}, [{"sum": {"a": 1}}], "/constraints/0: a sum needs at_most, at_least or both"),
        ({"a": FINE}, [{"sum": {"a": 1}, "at_least": 2, "at_most": 1}], "/constraints/0: at_least 2 is above at_most"),
        ({"a": FINE}, [{"order": ["a", "c"]}], "/constraints/0: c is not a knob of numbers"),
        ({"a": {"choices": ["x", 1]}, "b": FINE}, [{"order": ["a", "b"]}], "/constraints/0: a is not a knob of n"),
        ({"a": {"options": {"x": [1]}}, "b": FINE}, [{"order": ["a", "b"]}], "/constraints/0: a is not a knob of n"),
        (
            {"a": FINE, "b": FINE}, [{"sum": {"a": 1, "b": 1}, "at_least": 2.5}],
            "/constraints/0: no candidate can keep it: a + b is at most 2, at least 2.5 is needed",
        ),
        (
            {"a": {"low": 2, "high": 3}, "b": FINE}, [{"order": ["a", "b"]}],
            "/constraints/0: no candidate can keep it: a - b is at least 1, at most 0 is allowed",
        ),
        (
            {"a": {"low": 0.6, "high": 1}, "b": FINE, "c": {"low": 0, "high": 0.5}}, [{"order": ["a", "b", "c"]}],
            "/constraints/0: no candidate can keep it together with the other constraints",
        ),
    ],
)  # fmt: skip
def test_a_condition_or_constraint_that_cannot_be_is_refused_by_its_field(knobs, constraints, said):
    with pytest.raises(LaneError) as refused:
        space_of(knobs, constraints)
    assert f"lane: {said}" in str(refused.value) and "\n" not in str(refused.value)


# --- in a lane ------------------------------------------------------------------------------------------------


def lane_with(tmp_path, knobs, authority="p3_wide", **changed):
    """The lane p3_wide with other knobs, all of S4's mix, and further fields replaced."""
    knobs = {name: {"at": f"{MIX}#/{row.pop('at')}", **row} for name, row in ((n, dict(r)) for n, r in knobs.items())}
    fixed = {at: value for at, value in P3["fixed"].items() if at not in {row["at"] for row in knobs.values()}}
    path = tmp_path / "lane.json"
    path.write_text(json.dumps({**P3, "authority": authority, "fixed": fixed, "knobs": knobs, **changed}))
    return load_lane(str(path))


CAP = {"at": "max_p_group_soft_cap", "low": 0.6, "high": 0.95, "step": 0.05}
LAW = {"at": "law", "choices": ["uniform_blend_v1", "smooth_soft_cap_v1"]}
KNEE = {"at": "knee", "low": 0.5, "high": 0.8, "step": 0.1, "when": {"knob": "law", "is": ["smooth_soft_cap_v1"]}}


@pytest.mark.parametrize(
    ("row", "size", "some"),
    [
        ({"at": "regularization_strength", "low": 0, "high": 1}, None, 0.5),
        ({"at": "regularization_strength", "low": 0, "high": 1, "step": 0.25}, 5, 0.75),
        ({"at": "knee", "low": 3, "high": 12, "step": 1.5}, 7, 4.5),
        ({"at": "entropy_floor", "low": 0, "high": 0.6, "step": 0.05}, 13, 0.6),
        ({"at": "max_p_group_soft_cap", "choices": [0.6, 0.7, 0.8]}, 3, 0.7),
        ({"at": "apply_when_groups_ge", "low": 2, "high": 12, "step": 5.0}, 3, 7),
    ],
)
def test_a_knob_of_a_lane_has_the_values_that_its_field_means(tmp_path, row, size, some):
    lane = lane_with(tmp_path, {"k": row})
    assert lane.space.size() == size
    assert all(lane.admit(lane.candidate(point)) == point for point in lane.space.grid(1) if point)
    assert {"k": some} in list(lane.space.grid(1)) and type(some) is type(lane.space.canonical({"k": some})["k"])


def test_a_fraction_of_an_integer_field_names_the_file_and_the_field(tmp_path):
    with pytest.raises(LaneError, match=r"lane.json: /knobs/k/step: 1.5 is not a whole number, and .*_ge is an int"):
        lane_with(tmp_path, {"k": {"at": "apply_when_groups_ge", "low": 3, "high": 12, "step": 1.5}})


def test_an_inactive_knob_keeps_the_field_of_the_authority(tmp_path):
    lane = lane_with(tmp_path, {"law": LAW, "cap": CAP, "knee": KNEE})
    knee = lane.start[MIX]["knee"]
    assert knee == 1.0 and lane.space.resting["knee"] == 0.8 and lane.moves[f"{MIX}#/knee"] == (0.5, knee)
    off = {"law": "uniform_blend_v1", "cap": 0.7, "knee": 0.8}
    pack = lane.candidate(off)
    assert pack[MIX]["knee"] == knee and f"{MIX}#/knee" not in lane.moved(off)
    assert lane.admit(pack) == off == lane.space.canonical({**off, "knee": 0.6})
    on = {**off, "law": "smooth_soft_cap_v1", "knee": 0.6}
    assert lane.candidate(on)[MIX]["knee"] == 0.6 and lane.admit(lane.candidate(on)) == on
    with pytest.raises(LaneError, match=f"knee is 0.6, not {knee}; the knob knee counts only while law is smooth_soft"):
        lane.admit(pack.with_knobs({f"{MIX}#/knee": 0.6}))
    with pytest.raises(LaneError, match="outside the knob knee"):
        lane.admit(lane.candidate(on).with_knobs({f"{MIX}#/knee": 1.5}))


def test_a_pack_that_breaks_a_constraint_is_not_admitted(tmp_path):
    floor = {"at": "entropy_floor", "low": 0, "high": 0.6, "step": 0.1}
    lane = lane_with(
        tmp_path, {"cap": CAP, "floor": floor}, constraints=[{"sum": {"cap": 1, "floor": 1}, "at_most": 1}]
    )
    assert lane.space.broken(lane.space.start) is None
    with pytest.raises(
        LaneError, match=r"breaks /constraints/0: cap \+ floor is 1.2 \(cap 0.9, floor 0.3\), at most 1 is"
    ):
        lane.admit(lane.candidate({"cap": 0.9, "floor": 0.3}))
    free = lane_with(tmp_path, {"cap": CAP, "floor": floor})
    assert free.identity != lane.identity, "a constraint makes another lane"


def test_the_start_is_the_authority_placed_in_the_box():
    for name in shipped("lanes", ".json"):
        lane = load_lane(name)
        start = lane.space.start
        assert lane.space.canonical(start) == start == lane.admit(lane.candidate(start))
        assert start == lane.space.resting, "no shipped lane has constraints"


def test_a_lane_lists_the_candidates_to_try_first(tmp_path):
    lane = lane_with(
        tmp_path,
        {"cap": CAP, "law": LAW, "knee": KNEE},
        enqueue=[{"cap": 0.7500000000000001}, {"law": "uniform_blend_v1"}],
    )
    start = lane.space.start
    assert lane.enqueued() == ({**start, "cap": 0.75}, {**start, "law": "uniform_blend_v1", "knee": 0.8})
    file = tmp_path / "more.csv"
    file.write_text("cap,law\n0.8,smooth_soft_cap_v1\n\n,uniform_blend_v1\n")
    assert [row["cap"] for row in lane.enqueued(file)[2:]] == [0.8, start["cap"]]
    file.write_text("cap,knee,law\n0.8,0.6,smooth_soft_cap_v1\n0.8,0.6,uniform_blend_v1\n")
    with pytest.raises(LaneError, match=r"more.csv: row 2: knee: 0.6 counts only while law is smooth_soft_cap_v1"):
        lane.enqueued(file)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"cup": 0.7}, "lane.json: /enqueue/0: cup: not a knob of the lane: cap, strength"),
        ({"cap": 0.97}, "lane.json: /enqueue/0: cap: 0.97 is not a value of the knob: 0.6 … 0.95, step 0.05"),
        ({"cap": 0.72}, "lane.json: /enqueue/0: cap: 0.72 is not a value of the knob: 0.6 … 0.95, step 0.05"),
        ({"cap": "wide"}, "lane.json: /enqueue/0: cap: 'wide' is not a value of the knob"),
        (
            {"cap": 0.9, "strength": 0.2},
            "lane.json: /enqueue/0: breaks /constraints/0: cap is 0.9, above strength, 0.2",
        ),
    ],
)
def test_a_listed_candidate_that_the_lane_cannot_have_is_refused(tmp_path, row, said):
    strength = {"at": "regularization_strength", "low": 0, "high": 1}
    rules = {"constraints": [{"order": ["cap", "strength"]}]}
    with pytest.raises(LaneError) as refused:
        lane_with(tmp_path, {"cap": CAP, "strength": strength}, enqueue=[row], **rules)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.json", '[{"cap": 0.7, "on": true}, {}]', [{"cap": 0.7, "on": True}, {}]),
        ("a.CSV", "\ufeffcap, on ,law\n1,True,v2\n0.5,,\n", [{"cap": 1, "on": True, "law": "v2"}, {"cap": 0.5}]),
        ("a.csv", "", []),
    ],
)
def test_candidates_are_read_from_json_and_csv(tmp_path, name, text, rows):
    (tmp_path / name).write_text(text)
    assert read_candidates(tmp_path / name) == rows


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"cap": 0.7}', "a.json: not an array of objects"),
        ("a.json", "[1]", "a.json: not an array of objects"),
        ("a.json", "[", "a.json: line 1 column 2: not JSON"),
        ("a.csv", "cap,cap\n1,2\n", "a.csv: header: 'cap' is given twice"),
        ("a.csv", "cap\n1\n1,2\n", "a.csv: row 2: 2 cells, the header has 1"),
        ("a.txt", "cap\n1\n", "a.txt: the ending .txt is not one of .json, .csv"),
        ("a.csv", None, "a.csv: cannot be read as CSV"),
    ],
)
def test_a_file_of_candidates_that_cannot_be_read_is_refused(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(Exception, match=r"^.*/a\.\w+: .*") as refused:
        read_candidates(tmp_path / name)
    assert said in str(refused.value) and refused.value.exit_code == 2


def test_the_documented_lane_of_tied_knobs_is_one(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "writing-a-policy-and-a-lane.md").read_text()
    shown = next(block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"constraints"' in block)
    document = json.loads(shown)
    fixed = {f"{MIX}#/enabled": True}
    (tmp_path / "lane.json").write_text(json.dumps({**P3, "fixed": fixed, **document}))
    lane = load_lane(str(tmp_path / "lane.json"))
    assert len(lane.enqueued()) == len(document["enqueue"]) and len(lane.space.rules) == 2
