"""Profiles: data of a gate file that say on which seeds, with which laws and how completely a candidate is run."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError, load_pack
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import load_gates, parse_gates
from lanelock.sweeps.engines import engine_named

QUEUE = read_json(Path(__file__).parents[1] / "queue_engine" / "gates.json")
LAWS = {
    "alias_layout_policy_v1#/law": "uniform",
    "day_effect_policy_v1#/law": "scalar_sigma_v1",
    "group_mix_regularizer_v1#/enabled": False,
    "group_mix_regularizer_v1#/law": "uniform_blend_v1",
    "route_rng_policy_v1#/roster/mode": "smoke",
}


def profile(*seeds, **more):
    return {"seeds": list(seeds), "minutes": 1, "what": "w", **more}


def gates_with(profiles, **more):
    """The queue's gates, with profiles; read back as a lock stores them, with sorted keys."""
    document = json.loads(json.dumps({**QUEUE, "profiles": profiles, **more}, sort_keys=True))
    return parse_gates(document, "mine.json")


SEEDS = st.lists(st.integers(0, 9), min_size=3, max_size=10, unique=True)


@given(SEEDS, st.data())
def test_the_profile_of_seeds_is_the_strongest_whose_seeds_are_all_there(seeds, data):
    ends = sorted(data.draw(st.sets(st.integers(1, len(seeds)), min_size=1, max_size=4)))
    names = data.draw(st.permutations([f"p{place}" for place in range(len(ends))]))
    gates = gates_with({name: profile(*seeds[:end]) for name, end in zip(names, ends, strict=True)})
    assert list(gates.profiles) == list(names), "weakest first, whatever the names"
    given_seeds = data.draw(st.sets(st.integers(0, 9)))
    met = [name for name, end in zip(names, ends, strict=True) if set(seeds[:end]) <= given_seeds]
    found = gates.profile_of(given_seeds)
    assert (found and found.name) == (met[-1] if met else None)
    for row in gates.profiles.values():
        assert set(row.missing(given_seeds)) == set(row.seeds) - given_seeds
    more = gates.profile_of(given_seeds | set(seeds[: ends[0]]))
    assert more is not None, "whatever is run besides the required seeds, a profile is met"
    if found is not None:
        assert len(more.seeds) >= len(found.seeds), "more seeds never meet less"


def test_a_file_without_profiles_asks_for_none():
    gates = parse_gates(QUEUE, "mine.json")
    assert not gates.profiles and gates.profile_of(range(99)) is None and gates.strongest is None
    assert gates.asked_profile("certified") is None
    with pytest.raises(PolicyError, match="gates queue: /profiles: 'smoke' is not one of them: none"):
        gates.profile("smoke")


SPEC = {"queue_policy_v1#/servers": [1, 2]}
REFUSED = {
    "a weaker one's seed left out": (
        {"a": profile(1), "b": profile(2, 3)},
        "/profiles/b/seeds: leaves out 1, which a asks",
    ),
    "the same seeds twice": ({"a": profile(1, 2), "b": profile(2, 1)}, "/profiles/b/seeds: has the same seeds"),
    "a bundle no more": ({"a": profile(1, bundled=True), "b": profile(1, 2)}, "/profiles/b/bundled: is not true"),
    "a spec no more": ({"a": profile(1, spec=SPEC), "b": profile(1, 2)}, "spec/queue_policy_v1#/servers: allows"),
    "a wider spec": (
        {"a": profile(1, spec=SPEC), "b": profile(1, 2, spec={"queue_policy_v1#/servers": [1, True]})},
        "spec/queue_policy_v1#/servers: allows other values",
    ),
    "no seed": ({"a": profile()}, "/profiles/a/seeds"),
    "a seed twice": ({"a": profile(1, 1)}, "/profiles/a/seeds"),
    "a seed below 0": ({"a": profile(-1)}, "/profiles/a/seeds/0"),
    "no minutes": ({"a": profile(1, minutes=0)}, "/profiles/a/minutes"),
    "no address": ({"a": profile(1, spec={"servers": [1]})}, "/profiles/a/spec"),
    "nothing allowed": ({"a": profile(1, spec={"queue_policy_v1#/servers": []})}, "/profiles/a/spec"),
    "a field of another": ({"a": profile(1, laws=[])}, "unknown field laws"),
    "none": ({}, "/profiles"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_profiles_that_ask_less_or_nothing_are_refused(case):
    profiles, said = REFUSED[case]
    with pytest.raises(PolicyError, match=r"^mine\.json: ") as refused:
        gates_with(profiles)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_an_alias_asks_for_a_profile_of_the_file_the_strongest_if_it_names_none():
    profiles = {"a": profile(1), "b": profile(1, 2)}
    gates = gates_with(profiles, promotion={"last-good": {"profile": "a", "holdout_seeds": 1}})
    assert [gates.asked_profile(alias).name for alias in ("last-good", "certified")] == ["a", "b"]
    with pytest.raises(PolicyError, match="/promotion/certified/profile: 'c' is not a profile of the file: a, b"):
        gates_with(profiles, promotion={"certified": {"profile": "c", "holdout_seeds": 1}})


def test_profiles_grade_and_what_promotions_ask_does_not():
    gates = gates_with({"a": profile(1)})
    assert "profiles" in gates.grading and not gates.grades_as(gates_with({"a": profile(2)}).document)
    assert gates.grades_as(gates_with({"a": profile(1)}, promotion={"certified": {"holdout_seeds": 9}}).document)


@pytest.mark.parametrize(
    ("address", "values", "said"),
    [
        ("queue_policy_v2#/servers", [1], "'queue_policy_v2' is not a policy of the engine: queue_policy_v1"),
        ("queue_policy_v1#/tills", [1], "the policy's schema has no field /tills"),
        ("queue_policy_v1#/servers/0", [1], "the policy's schema has no field /servers/0"),
        ("queue_policy_v1#/servers", [1, 99], "99 is above the maximum 20"),
        ("queue_policy_v1#/servers", ["many"], '"many" is not of type integer'),
    ],
)
def test_a_spec_of_what_the_engine_does_not_have_is_refused(address, values, said):
    gates = gates_with({"a": profile(1, spec={address: values})})
    with pytest.raises(PolicyError, match=r"^gates\.json: /profiles/a/spec/") as refused:
        gates.check_spec(engine_named("queue").policy_schemas, "gates.json")
    assert said in str(refused.value)


@given(st.lists(st.sampled_from([*LAWS]), unique=True))
def test_a_pack_is_of_the_spec_exactly_where_it_has_the_chosen_laws(moved):
    engine, required = engine_named("segment_2b"), load_gates("segment_2b").profile("certification")
    chosen = {address: allowed[0] for address, allowed in required.spec.items()}
    pack = load_pack("p3_wide", engine.policy_schemas).with_knobs({**chosen, **{at: LAWS[at] for at in moved}})
    found = [row.partition(" ")[0] for row in required.otherwise(pack)]
    assert sorted(found) == sorted(moved)


@pytest.mark.plan("0.3")
def test_segment_2b_names_three_profiles():
    gates = load_gates("segment_2b")
    gates.check_spec(engine_named("segment_2b").policy_schemas, "gates")
    assert {name: row.seeds for name, row in gates.profiles.items()} == {
        "smoke": (42,), "witness": (42, 7), "certification": (42, 7, 101, 202),
    }  # fmt: skip
    assert [gates.asked_profile(alias).name for alias in ("last-good", "certified")] == ["certification"] * 2
    assert gates.profile("certification").bundled and set(gates.profile("certification").spec) == set(LAWS)
