"""What a lane declares of its fields: ranges from the schema, derived fields, constants, and nothing twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import TESTS
from worded_lane import NASTY, SHARES, P, mix_lane

from lanelock.policies import LanelockError, PolicyError
from lanelock.policies.pack import pack_of
from lanelock.sweeps.lanes import lane as lanes
from lanelock.sweeps.lanes.lane import lane_of

MIX = TESTS / "mix_engine"
LAW, OPEN, COUNT = ({"at": f"{P}{name}"} for name in ("law", "open", "count"))


@pytest.fixture(autouse=True)
def mix(monkeypatch):
    monkeypatch.syspath_prepend(str(MIX))


def test_ranges_and_choices_come_from_the_schema_and_stand_in_the_document(tmp_path):
    found = mix_lane(tmp_path, knobs={**SHARES, "law": LAW, "open": OPEN, "count": COUNT})
    rows = found.document["knobs"]
    assert rows["a"] == {"at": f"{P}shares/a", "low": 0, "high": 1} and rows["open"]["choices"] == [False, True]
    assert rows["law"]["choices"] == ["smooth", "sharp", "flat"] and (rows["count"]["low"], rows["count"]["high"]) == (
        1,
        9,
    )
    assert found.space.by_name["count"].integral and found.space.start["open"] is False
    again = lane_of(found.document, found.authority.carried(), {}, found.gates_file, "lock")
    assert again.identity == found.identity and again.knobs == found.knobs


def test_every_candidate_is_placed_within_the_ends_and_found_back(tmp_path):
    found = mix_lane(tmp_path, **NASTY)
    moves = found.moves
    assert moves[f"{P}slots"] == (1, 19) and f"{P}weights/0" in moves and moves[f"{P}stock/x"] == (1, 3)
    for values in [found.space.start, *found.space.design(8, 5), *found.space.extremes(["cap", "floor", "law"])]:
        pack = found.candidate(values)
        policy = pack["mix_policy_v1"]
        assert policy["ceiling"] == pytest.approx(values["cap"] + 0.1, abs=1e-12)
        assert policy["slots"] == round(10 * values["floor"] + values["count"]) and type(policy["slots"]) is int
        assert found.candidate(found.admit(pack)).digest == pack.digest
        for at, ends in moves.items():
            content = lanes.field_of(pack, at, at)
            if at in found.choices or isinstance(content, list | dict):
                continue
            assert min(ends) - 1e-11 <= content <= max(ends) + 1e-11, at


def test_a_pack_that_the_lane_cannot_give_is_refused_by_field(tmp_path):
    found = mix_lane(tmp_path, **NASTY)
    good = found.candidate({**found.space.start, "open": True, "scale": 1.2}).documents()["mix_policy_v1"]
    for change, says in [
        ({"ceiling": 0.5}, f"{P}ceiling is 0.5, not 0.7; it follows from cap + 0.1 * speed"),
        ({"weights": [0.4, 0.3, 0.2, 0.1]}, f"{P}weights (temper) holds what no value of the knob temper gives"),
        ({"shares": {"a": 0.2, "b": 0.3, "c": 0.4}}, "breaks /constraints/0: a + b + c == 1 (a 0.2, b 0.3, c 0.4)"),
        ({"open": False}, "the knob scale counts only while open"),
        ({"label": "other"}, "a lane may change only its knobs"),
    ]:
        with pytest.raises(LanelockError) as error:
            found.admit(pack_of("other", {"mix_policy_v1": {**good, **change}}, found.authority.schemas))
        assert says in str(error.value), error.value


def test_changes_are_shown_number_by_number_where_few_changed(tmp_path):
    found = mix_lane(tmp_path, **NASTY)
    moved = found.moved({**found.space.start, "temper": 2.0, "count": 5})
    assert moved[f"{P}count"] == (3, 5) and moved[f"{P}weights/0"][0] == 0.5 and f"{P}weights" not in moved


def test_a_knob_of_a_law_narrows_and_stays_around_what_changes_nothing(tmp_path):
    knob = {"at": f"{P}table", "by": "scale", "low": 0.5, "high": 2, "narrows": "down", "around": 0.4}
    found = mix_lane(tmp_path, knobs={"t": knob})
    assert found.space.by_name["t"].span == (0.6, 1.4)
    narrowed = found.narrowed(found.candidate({"t": 1.2}))
    assert narrowed.document["after"] == {"t": 1.2} and narrowed.space.by_name["t"].span == (0.6, 1.2)


SHARE = {"at": f"{P}cap", "low": 0, "high": 1}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"knobs": {"s": {"at": f"{P}speed"}}}, "/knobs/s/low: missing, and the policy's schema has no least value"),
        ({"knobs": {"s": {"at": f"{P}label"}}}, "/knobs/s/low: missing"),
        ({"knobs": {"s": {**SHARE, "choices": [1]}}}, "a knob has low and high, or choices, or options"),
        ({"knobs": {"s": {"at": f"{P}table", "by": "shift"}}}, "a knob that moves its fields by shift needs low"),
        ({"knobs": {"s": {"at": f"{P}weights", "by": "scale", "low": 0, "high": 3}}}, "is outside the policy's bounds"),
        ({"knobs": {"s": {"at": f"{P}stock", "by": "shift", "low": 0, "high": 5}}}, "is outside the policy's bounds"),
        ({"knobs": {"w": {"at": f"{P}weights", "by": "temper", "low": 0, "high": 2},
                    "x": {"at": f"{P}weights/1", "low": 0, "high": 1}}}, "overlaps mix_policy_v1#/weights, which"),
        ({"knobs": {"w": {"at": f"{P}weights", "by": "temper", "low": 0, "high": 2}}, "fixed": {f"{P}weights/0": 0.4}},
         "/knobs/w: mix_policy_v1#/weights overlaps mix_policy_v1#/weights/0, which is fixed"),
        ({"knobs": {"s": SHARE, "t": {"at": [f"{P}cap", f"{P}floor"], "low": 0, "high": 1}}}, "two knobs move"),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}cap": "s"}}, "mix_policy_v1#/cap is moved by knob s"),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}ceiling": "1 + 1"}}, "it follows from no knob; state it"),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}ceiling": "t"}}, "t is not a knob of the lane: s"),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}nothing": "s"}}, "no field /nothing"),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}ceiling": "2 * s"}}, "2 * s at s 1.0: "),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}label": "s"}}, "s at s 0.0: "),
        ({"knobs": {"s": SHARE}, "derived": {f"{P}ceiling": "1 / s"}}, "division by zero"),
        ({"knobs": {"s": SHARE}, "constants": {"s": f"{P}speed"}}, "/constants/s: s is a knob of the lane"),
        ({"knobs": {"s": SHARE}, "constants": {"c": f"{P}cap"}}, "is named as a constant too"),
        ({"knobs": {"s": SHARE}, "constants": {"c": f"{P}weights"}}, "is not a number, a text, true or false"),
        ({"knobs": {"s": SHARE}, "constraints": ["s + speed <= 1"]}, "speed is not a knob of"),
        ({"knobs": SHARES, "constraints": ["a + b + c == 1"], "enqueue": [{"a": 1, "b": 1}]}, "/enqueue/0: breaks"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_trial(tmp_path, fields, says):
    with pytest.raises(LanelockError) as error:
        mix_lane(tmp_path, **fields)
    assert says in str(error.value) and "\n" not in str(error.value), error.value


@settings(max_examples=30)
@given(st.data())
def test_derived_ends_hold_every_content(data):
    from lanelock.policies.expressions import parse
    from lanelock.sweeps.lanes.declared import Derived

    text = data.draw(st.sampled_from([
        "a - a * b", "a * b - 2", "max(a, b) / (1 + abs(b))", "2 * a + 0.1 * b", "a / b",
        "min(a, 1, b) * b", "-(a - b)",
    ]))  # fmt: skip
    spans = {name: tuple(sorted(data.draw(st.lists(st.floats(-3, 3), min_size=2, max_size=2)))) for name in "ab"}
    derived = Derived("p#/x", parse(text, "f"), data.draw(st.booleans()))
    low, high = derived.ends(spans, (-100, 100))
    values = {name: data.draw(st.floats(*span)) for name, span in spans.items()}
    try:
        content = derived.content(values)
    except PolicyError:
        return
    assert low <= content <= high or abs(content) > 100
