"""Each gate that guards a won shape, against an edit of a shipped pack that breaks this gate and no other."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from lanelock.engine.segment_2b.run import Segment2B
from lanelock.engine.surface import Surface
from lanelock.policies import load_pack
from lanelock.policies.documents import shipped
from lanelock.scoring.certification import certify
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
from lanelock.sweeps.lanes.lane import load_lane

GATES = load_gates("segment_2b")
ENGINE = Segment2B()
LAYOUT, EFFECTS, MIX = (
    "alias_layout_policy_v1#/profile_mixture_v2/", "day_effect_policy_v1#/sigma_gamma_policy_v2/",
    "group_mix_regularizer_v1#/",
)  # fmt: skip
ROSTER = "route_rng_policy_v1#/roster/"
HOLDS = {"law": "smooth_soft_cap_v1", "regularization_strength": 1.0, "max_p_group_soft_cap": 0.75, "knee": 1.0}


def by_size(name, *values):
    return {f"{EFFECTS}{name}/{size}": value for size, value in zip(("small", "mid", "large"), values, strict=True)}


TIED = {  # merchants of four to eight sites have no day effect: their zones tie
    **by_size("base_sigma", 0.3, 0.0, 0.1), f"{EFFECTS}sigma_min": 0.0, f"{LAYOUT}top1_soft_cap/mid": 0.9,
    **{f"{LAYOUT}mixture/{kind}/mid": share
       for kind, share in (("hub_spoke", 0.2), ("heavy_tail", 0.6), ("near_uniform", 0.2))},
}  # fmt: skip
FAINT = {  # zones differ by half a per cent, days by the week
    **by_size("base_sigma", 0.006, 0.006, 0.006), f"{EFFECTS}sigma_min": 0.001,
    **by_size("weekly_amplitude", 0.3, 0.2, 0.1),
}  # fmt: skip
SURPLUS = {**by_size("weekly_amplitude", 0.48, 0.47, 0.46), **by_size("base_sigma", 0.35, 0.1, 0.05)}
A_SURPLUS = {**by_size("weekly_amplitude", 0.45, 0.37, 0.28), **by_size("base_sigma", 0.06, 0.05, 0.05)}
WILD = {**by_size("base_sigma", 0.4, 0.42, 0.38), f"{EFFECTS}gamma_clip": [0.1, 5.0]}
ONE_KIND = {f"{ROSTER}class_mix": {"one": 1}, f"{ROSTER}channel_mix": {"one": 1}}
FEWER_CHANNELS = {f"{ROSTER}channel_mix": {"in_store": 0.6, "online": 0.4}}


@cache
def start():
    pack = load_pack("p3_wide", ENGINE.policy_schemas)
    return pack.with_knobs({f"{MIX}{name}": value for name, value in HOLDS.items()})


@cache
def whole_run():
    return ENGINE.evaluate(start(), 42, until="S5")


def card_of(run):
    return score(METRICS.measure(run), GATES, seed=run.seed, authority=None)


def test_the_pack_that_is_edited_holds_every_gate():
    card = card_of(whole_run())
    assert str(card.verdict) == "PASS_BPLUS" and all(row.full for row in card.gates)


@pytest.mark.plan("3.1.3", "3.2.5", "3.2.6", "3.2.7")
@pytest.mark.parametrize(("gate", "verdict", "knobs"), [
    ("s3_tz_nonzero", "FAIL_REALISM", TIED),
    ("s3_tz_std", "FAIL_REALISM", FAINT),
    ("s3_gamma_mean", "FAIL_REALISM", SURPLUS),
    ("s3_gamma_mean", "PASS_B", A_SURPLUS),
    ("s3_gamma_std", "FAIL_REALISM", WILD),
    ("s5_coverage", "INVALID_FOR_GRADING", ONE_KIND),
    ("s5_coverage", "INVALID_FOR_GRADING", FEWER_CHANNELS),
])  # fmt: skip
def test_a_pack_fails_one_gate_and_it_alone(gate, verdict, knobs):
    """In the band that it loses: to hold B and not B+ is not to fail B."""
    card = card_of(ENGINE.evaluate(start().with_knobs(knobs), 42, until="S5"))
    assert str(card.verdict) == verdict
    lost = "B+" if verdict == "PASS_B" else "B"
    assert {row.id for row in card.gates if not row.passed[lost]} == {gate}


@pytest.mark.plan("3.2.5", "3.2.6", "3.2.7")
@pytest.mark.parametrize(("knobs", "lost"), [
    ({**by_size("base_sigma", 0, 0, 0), f"{EFFECTS}sigma_min": 0.0, f"{EFFECTS}jitter_amplitude": 0.0,
      **by_size("weekly_amplitude", 0.45, 0.45, 0.2)}, {"s3_tz_nonzero", "s3_tz_std"}),
    ({**by_size("weekly_amplitude", 1.0, 1.0, 0.65), f"{EFFECTS}gamma_clip": [0.05, 20.0]},
     {"s3_gamma_mean", "s3_gamma_std"}),
])  # fmt: skip
def test_what_once_held_every_band_is_no_realism(knobs, lost):
    """Zones that share every day effect; a mean day effect of 1.13 with a spread of .6."""
    card = card_of(ENGINE.evaluate(start().with_knobs(knobs), 42, until="S5"))
    assert str(card.verdict) == "FAIL_REALISM"
    assert lost <= {row.id for row in card.gates if row.holds is None}


# --- alias parity -------------------------------------------------------------------------------------------


def with_surface(run, name, **columns):
    old = run.surfaces[name]
    return dataclasses.replace(
        run, surfaces={**run.surfaces, name: Surface(old.name, old.schema, {**old.columns, **columns})}
    )


@cache
def indexed():
    """A run as far as S2's own tables."""
    return ENGINE.evaluate(start(), 42, until="S2")


def blob_with(change):
    words = np.frombuffer(indexed().surfaces["s2_alias_blob"]["blob"][0], "<u4").copy()
    blob = change(words)
    return with_surface(indexed(), "s2_alias_blob", blob=np.array([blob], object))


def swapped(words):
    """The first two columns of the first table give their thresholds to each other."""
    words[[4, 5]] = words[[5, 4]]
    return words.tobytes()


def foreign_alias(words):
    words[4 + words[0]] = words[0]
    return words.tobytes()


def longer(words):
    words[0] += 1
    return words.tobytes()


@pytest.mark.plan("3.2.15")
@pytest.mark.parametrize(
    "change", [swapped, foreign_alias, longer, lambda words: words.tobytes()[:-3], lambda words: b""]
)
def test_tables_that_do_not_decode_to_the_weights_fail_the_veto_alone(change):
    run, whole = blob_with(change), whole_run()
    damaged = dataclasses.replace(whole, surfaces={**whole.surfaces, **run.surfaces})
    card = card_of(damaged)
    assert card.vetoed == ("s2_alias",) and str(card.verdict) == "FAIL_REALISM"
    assert {row.id for row in card.gates if not row.full} == {"s2_alias"}


def test_an_index_of_other_slices_is_seen():
    index = indexed().surfaces["s2_alias_index"]
    offset = np.array(index["offset"])
    odd = [
        with_surface(indexed(), index.name, offset=other)
        for other in (np.roll(offset, 1), offset + 4, offset - 8, offset + 1)
    ]
    short = index.part(slice(0, len(offset) - 1))
    odd.append(dataclasses.replace(indexed(), surfaces={**indexed().surfaces, index.name: short}))
    assert all(METRICS.measure(run)["s2/alias_error"] > 1.0 for run in odd)


@pytest.mark.parametrize("pack", ["baseline", "p3_wide"])
def test_tables_that_a_run_leaves_out_are_those_that_it_would_have(packs, pack):
    run = ENGINE.evaluate(packs(pack), 7, until="S2")
    alone = dataclasses.replace(run, surfaces={"s1_site_weights": run.surfaces["s1_site_weights"]})
    found = METRICS.measure(run)["s2/alias_error"]
    assert found == METRICS.measure(alone)["s2/alias_error"] <= 1.0
    assert (found == 0.0) == (pack != "baseline"), "even weights are not in quanta"


@pytest.mark.parametrize("weight", [-1.0, 0.5, 1e300, np.inf, np.nan])
def test_weights_that_are_no_distribution_have_no_table(weight):
    p = np.array(indexed().surfaces["s1_site_weights"]["p_weight"])
    p[3] = weight
    odd = with_surface(indexed(), "s1_site_weights", p_weight=p)
    alone = dataclasses.replace(odd, surfaces={"s1_site_weights": odd.surfaces["s1_site_weights"]})
    assert METRICS.measure(alone)["s2/alias_error"] == 2.0 ** start()["alias_layout_policy_v1"]["quantised_bits"]


# --- across seeds, and in lanes -----------------------------------------------------------------------------


def cards_with(values):
    measures = METRICS.measure(whole_run())
    return [
        score({**measures, "s3/tz_std_median": value}, GATES, seed=seed, authority=None)
        for seed, value in enumerate(values, 1)
    ]


@pytest.mark.plan("3.3.6")
@pytest.mark.parametrize(("values", "verdict"), [
    ((0.1, 0.1, 0.1, 0.1), "PASS_BPLUS"),
    ((0.1, 0.12, 0.1, 0.12), "PASS_BPLUS"),
    ((0.1, 0.16, 0.1, 0.14), "PASS_B"),  # it drifts
    ((0.1, 0.1, 0.1, 0.04), "FAIL_REALISM"),  # one seed collapses, which no band forgives
])  # fmt: skip
def test_differentiation_between_zones_may_not_drift(values, verdict):
    assert str(certify(cards_with(values), GATES).verdict) == verdict


LANES = sorted(shipped("lanes", ".json"))


@pytest.mark.plan("P1.5", "P3.3.4", "P2.0.3", "P2.4.3", "P1L.7")
@pytest.mark.parametrize("name", [name for name in LANES if load_lane(name).engine.name == "segment_2b"])
def test_a_lane_grades_what_it_may_lose(name):
    lane = load_lane(name)
    grades, policies = {gate.id for gate in lane.gates.gates}, {knob.at.partition("#")[0] for knob in lane.knobs}
    assert "s2_alias" in grades
    if lane.engine.states.index(lane.until) >= 3:
        assert {"s3_tz_nonzero", "s3_tz_std", "s3_gamma_mean", "s3_gamma_std"} <= grades
    if "reopen" in name:
        assert {"rail_s4_max_p", "rail_s4_entropy", "rail_s4_multigroup"} <= grades
    if policies == {"group_mix_regularizer_v1"}:
        states = {gate.metric.partition("/")[0] for gate in lane.gates.gates if gate.severity == "rail"}
        assert {"s1", "s3"} <= states


@pytest.mark.plan("P1L.7")
def test_a_reopened_lane_may_not_give_back_what_s4_won():
    """The lane's start plays the authority's parameters by another law, under which most of it is lost."""
    lane = load_lane("p1_reopen")
    authority, begun = (lane.measure(ENGINE.evaluate(pack, 42, until="S4")) for pack in (lane.authority, lane.start))
    card = score(begun, lane.gates, seed=42, authority=authority)
    assert {"rail_s4_max_p", "rail_s4_entropy"} <= set(card.vetoed)
    kept = score(authority, lane.gates, seed=42, authority=authority)
    assert not any(name.startswith("rail_") for name in kept.vetoed)


@pytest.mark.parametrize("option", ["none", "islands_home", "one_legal_time", "second_sites_apart"])
def test_no_option_of_the_2a_lane_names_a_zone_of_another_country(option):
    lane = load_lane("reopen_2a")
    start = lane.space.start
    found = lane.measure(ENGINE.evaluate(lane.candidate({**start, "overrides": option}), 42, until="S0"))
    assert found["world/foreign_zone_share"] == found["world/nowhere_share"] == found["world/abroad_share"] == 0.0
    assert (found["world/overridden_share"] > 0.0) == (option in ("one_legal_time", "second_sites_apart"))
