"""What the plan asks of the engine of segment 2B: sealed inputs, sequence, provenance, and its policies' fields."""

import pytest
from worlds import tiny_world

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.states.s0_gate import seal
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(tiny_world(virtual=[3]), folder)
    return folder


@pytest.mark.plan("1.6", "2.3", "P2.2.3", "P3.1.2")
@pytest.mark.parametrize("name", ["world_v1", "day_effect_policy_v1", "group_mix_regularizer_v1"])
def test_each_policy_is_an_entry_of_what_is_sealed_and_a_change_shows_there(packs, name):
    world, pack = tiny_world(), packs("p3_recorded")
    knob = {
        "world_v1": ("world_v1#/merchants/count", 90),
        "day_effect_policy_v1": ("day_effect_policy_v1#/horizon/days", 6),
        "group_mix_regularizer_v1": ("group_mix_regularizer_v1#/entropy_floor", 0.1),
    }[name]
    before, after = ({row.asset_id: row for row in seal(world, held, 42).assets}
                     for held in (pack, pack.with_knobs(dict([knob]))))  # fmt: skip
    assert set(before) == {*SEGMENT_2B.policy_schemas, "upstream_world"}
    assert {row.kind for row in before.values()} == {"policy", "world"} and all(row.version for row in before.values())
    assert before[name].sha256 == pack.policies[name].digest
    assert {key for key in before if before[key] != after[key]} == {name}


@pytest.mark.parametrize(
    ("knob", "value", "moved"),
    [
        pytest.param("alias_layout_policy_v1#/law", "uniform", "S1 S2 S4 S5",
                     marks=pytest.mark.plan("4.1.1", "4.1.2")),
        pytest.param("day_effect_policy_v1#/sigma_gamma_policy_v2/jitter_amplitude", 0.1, "S3 S4 S5 S6",
                     marks=pytest.mark.plan("4.1.1", "4.1.3")),
        pytest.param("group_mix_regularizer_v1#/enabled", False, "S4 S5",
                     marks=pytest.mark.plan("4.1.1", "4.1.4", "P3.3.1")),
        pytest.param("route_rng_policy_v1#/roster/arrivals_per_merchant_day", 5, "S5 S6",
                     marks=pytest.mark.plan("4.1.1", "4.1.5")),
    ],
)  # fmt: skip
def test_a_change_computes_its_state_and_what_follows_it(packs, tiny, knob, value, moved):
    """S0 seals anew and S7 audits anew whatever changed; a state whose inputs are the same is taken as it was."""
    engine, pack = Segment2B(), packs("p3_recorded").with_knobs({"route_rng_policy_v1#/roster/mode": "realism"})
    engine.evaluate(pack, 42, world=tiny)
    changed = engine.evaluate(pack.with_knobs({knob: value}), 42, world=tiny)
    assert {state.name for state in changed.states if not state.reused} == {"S0", *moved.split(), "S7"}


@pytest.mark.parametrize(
    ("surface", "columns"),
    [
        pytest.param("s1_site_weights", {"weight_profile", "mixture_component", "alpha_used"},
                     marks=pytest.mark.plan("P1.3")),
        pytest.param("s3_day_effects", {"sigma_source", "sigma_value", "weekly_amp"},
                     marks=pytest.mark.plan("P2.3.1")),
        pytest.param("s4_group_weights", {"regularizer_applied", "regularizer_strength", "regularizer_delta_mass"},
                     marks=pytest.mark.plan("P3.2.3")),
    ],
)  # fmt: skip
def test_every_row_says_how_it_came_about(packs, tiny, surface, columns):
    found = (
        Segment2B()
        .evaluate(packs("p3_recorded"), 42, world=tiny, until=TABLES[surface].state)
        .surfaces[surface]
        .table()
    )
    assert columns <= set(found.column_names)
    for column in columns:
        assert found[column].null_count == 0 and len(found[column]) == found.num_rows > 0


@pytest.mark.parametrize(
    ("policy", "at", "fields"),
    [
        pytest.param("day_effect_policy_v1", "sigma_gamma_policy_v2",
                     {"segments", "base_sigma", "tz_multipliers", "jitter_amplitude", "weekly_amplitude", "sigma_min",
                      "sigma_max", "gamma_clip"}, marks=pytest.mark.plan("P2.2.1")),
        pytest.param("group_mix_regularizer_v1", None,
                     {"enabled", "apply_when_groups_ge", "max_p_group_soft_cap", "regularization_strength",
                      "entropy_floor", "preserve_rank_order", "sum_to_one"}, marks=pytest.mark.plan("P3.0.5")),
    ],
)  # fmt: skip
def test_a_policy_must_have_the_fields_that_the_plan_requires(policy, at, fields):
    schema = SEGMENT_2B.policy_schemas[policy]
    node = schema if at is None else schema["properties"][at]
    assert fields <= set(node["required"]) and node["additionalProperties"] is False


@pytest.mark.plan("P2.0.2")
def test_the_weekly_amplitude_is_bounded_for_every_size():
    node = SEGMENT_2B.policy_schemas["day_effect_policy_v1"]["properties"]["sigma_gamma_policy_v2"]
    weekly = node["properties"]["weekly_amplitude"]
    assert set(weekly["properties"]) == {"small", "mid", "large", "default"} and weekly["required"] == ["default"]
    assert all(0 <= row["minimum"] < row["maximum"] <= 1 for row in weekly["properties"].values())


@pytest.mark.plan("P0.7", "P4.1")
def test_the_baselines_smoke_roster_leaves_it_without_a_grade(packs):
    """On the reference world; deepened to the whole horizon, the same pack is graded, and fails."""
    gates, pack = load_gates("segment_2b"), packs("baseline")
    names = [gate.id for gate in gates.gates if gate.metric in ("s5/roster_days", "s5/repeat_share", "s1/residual")]
    verdicts = []
    for mode in ("smoke", "realism"):
        run = SEGMENT_2B.evaluate(pack.with_knobs({"route_rng_policy_v1#/roster/mode": mode}), 42)
        verdicts.append(score(METRICS.measure(run), gates.select(names), seed=42, authority=None).verdict.name)
    assert verdicts == ["INVALID_FOR_GRADING", "FAIL_REALISM"]
