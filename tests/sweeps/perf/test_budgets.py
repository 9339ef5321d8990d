"""Budgets: colours at their edges, what is shipped, and what is refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import PolicyError
from lanelock.policies.documents import read_json, shipped
from lanelock.policies.project import FILE
from lanelock.sweeps.perf.budgets import WORST, Budget, Budgets, budgets_of, profile_budgets, read_budgets
from lanelock.sweeps.proof.grading import gates_of_engine

STATED = {
    "engine": "relay",
    "why": "Twice and four times the fastest round.",
    "states": {"first": {"target_s": 1, "limit_s": 2}, "last": {"target_s": 0.5, "limit_s": 0.5}},
    "total": {"target_s": 3, "limit_s": 6},
    "beside": [{"id": "old", "title": "Before.", "kind": "wall", "pack": "start", "states": {"first": 9.5}}],
}


@given(st.floats(1e-6, 1e5), st.floats(0, 1e5), st.floats(0, 3e5))
def test_a_colour_is_where_the_seconds_lie(target, headroom, seconds):
    budget = Budget(target, target + headroom)
    assert (budget.colour(seconds) == "GREEN") == (seconds <= target)
    assert (budget.colour(seconds) == "RED") == (seconds > target + headroom)
    assert WORST.index(budget.colour(seconds + 1)) <= WORST.index(budget.colour(seconds)), "more is never better"


def test_a_state_without_a_budget_has_no_colour():
    budgets = Budgets.of(STATED, "budgets.json")
    assert [budgets.colour("first", seconds) for seconds in (1, 1.5, 2, 2.01)] == ["GREEN", "AMBER", "AMBER", "RED"]
    assert budgets.colour("middle", 1e9) == "" and budgets.colour("last", 0.51) == "RED"


def test_another_measurement_is_shown_beside_the_pack_that_asks_for_the_same_work():
    budgets = Budgets.of(STATED, "budgets.json")
    assert [other.id for other in budgets.beside_pack("relay/start")] == ["old"] and not budgets.beside_pack("other")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"states": {"first": {"target_s": 3, "limit_s": 2}}}, "/states/first: target_s 3 is above limit_s 2"),
        ({"states": {"first": {"target_s": 0, "limit_s": 2}}}, "/states/first/target_s: 0 must be above 0"),
        ({"states": {"first": {"target_s": 1}}}, "/states/first: missing field limit_s"),
        ({"states": {"first": {"target_s": 1, "limit_s": 1e9}}}, "/states/first/limit_s: 1000000000.0 is above"),
        ({"states": {}}, "/states"),
        ({"stages": {}}, "unknown field stages"),
        ({"total": {"target_s": 8, "limit_s": 7}}, "/total: target_s 8 is above limit_s 7"),
        ({"beside": [{**STATED["beside"][0], "kind": "guessed"}]}, '/beside/0/kind: "guessed" is not one of'),
        ({"beside": [{**STATED["beside"][0], "budgets": {"a": {"target_s": 2, "limit_s": 1}}}]}, "/beside/0/budgets/a"),
    ],
)
def test_malformed_budgets_are_refused_by_name(tmp_path, change, said):
    file = tmp_path / "budgets.json"
    file.write_text(json.dumps({**STATED, **change}))
    with pytest.raises(PolicyError) as refused:
        read_budgets(file)
    assert str(refused.value).startswith(f"{file}: ") and said in str(refused.value)


def test_budgets_of_another_engine_or_of_no_state_are_refused():
    budgets = Budgets.of(STATED, "budgets.json")
    budgets.check("relay", ["first", "middle", "last"])
    with pytest.raises(PolicyError, match=r"budgets\.json: /states/last: no state of relay \(first, middle\)"):
        budgets.check("relay", ["first", "middle"])
    with pytest.raises(PolicyError, match="/engine: 'relay'; the engine that is measured is queue"):
        budgets.check("queue", ["first"])


@pytest.mark.plan("5.0.3")
def test_segment_2b_has_pinned_budgets_and_those_of_the_record_beside_them():
    budgets = budgets_of("segment_2b")
    budgets.check("segment_2b", ["world", *SEGMENT_2B.states])
    assert set(budgets.states) >= set(SEGMENT_2B.states) and budgets.total is not None
    measured = read_json(shipped("budgets")["segment_2b"])["measured"]
    assert measured["target_times"] == 2 and measured["limit_times"] == 4
    (record,) = (other for other in budgets.beside if other.budgets)
    assert {state: (row.target_s, row.limit_s) for state, row in record.budgets.items()} == {
        "S3": (18, 24), "S4": (18, 24), "S5": (16, 22)
    }  # fmt: skip
    colours = {state: row.colour(record.states[state]) for state, row in record.budgets.items()}
    assert colours == {"S3": "AMBER", "S4": "AMBER", "S5": "RED"}, "as its own closure says"


def test_the_pinned_limits_keep_every_profile_far_within_its_minutes():
    total = budgets_of("segment_2b").total
    for row in profile_budgets(gates_of_engine("segment_2b").profiles.values(), total.limit_s):
        assert row.colour == "GREEN" and row.estimated_s <= 60 * 5, "an iteration takes minutes"


@pytest.mark.plan("4.2.2", "4.2.3", "4.2.4")
def test_the_profiles_of_the_gate_file_take_seeds_times_a_run():
    rows = {row.name: row for row in profile_budgets(gates_of_engine("segment_2b").profiles.values(), 1200.0)}
    assert {name: (row.seeds, row.limit_s / 60) for name, row in rows.items()} == {
        "smoke": (1, 20), "witness": (2, 40), "certification": (4, 90)
    }  # fmt: skip
    assert {name: row.colour for name, row in rows.items()} == {
        "smoke": "GREEN", "witness": "GREEN", "certification": "GREEN"
    }  # fmt: skip
    slower = profile_budgets(gates_of_engine("segment_2b").profiles.values(), 1351.0)
    assert [row.colour for row in slower] == ["RED", "RED", "RED"]


def test_a_project_states_the_budget_of_its_one_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = '[engine]\nid = "foyer"\nfunction = "foyer:simulate"\n[params]\nslots = {value = 3, low = 1, high = 9}\n'
    (tmp_path / FILE).write_text(f'{text}[budgets]\ntarget_s = 2\nlimit_s = 4.5\n[gates]\nwait = "wait <= 3"\n')
    assert budgets_of("foyer").states == {"foyer": Budget(2, 4.5)}
    (tmp_path / FILE).write_text(f'{text}[budgets]\ntarget_s = 5\nlimit_s = 4.5\n[gates]\nwait = "wait <= 3"\n')
    with pytest.raises(PolicyError, match=r"\[budgets\]: /states/foyer: target_s 5 is above limit_s 4\.5"):
        budgets_of("foyer")
    (tmp_path / FILE).write_text(f'{text}[gates]\nwait = "wait <= 3"\n')
    assert budgets_of("foyer") is None
