"""Knobs moved before a sweep: exact effects of a linear function, and no candidate that the lane would not admit."""

import json
import sys

import numpy as np
import pytest
from lanes import QUEUE, TESTS, lane_with, leaky_lane, refused
from worded_lane import NASTY, P, mix_lane
from worlds import tiny_world

from lanelock.engine.segment_2b.world_import import write_world
from lanelock.policies import LaneError
from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.notebook import lane_of_function
from lanelock.sweeps.probing.page import text
from lanelock.sweeps.probing.points import on_seeds
from lanelock.sweeps.probing.probe import plan_of, probe
from lanelock.sweeps.probing.sampled import MORRIS, SOBOL, design
from lanelock.sweeps.sensitivity.sensitivity import able
from lanelock.sweeps.sweep import play
from lanelock.sweeps.trial import evaluate
from lanelock.sweeps.workspace import Workspace

LINEAR = {"cap": {"at": f"{P}cap", "low": 0.1, "high": 0.9}, "count": {"at": f"{P}count"}}


def run(lane, method="oat", steps=3, blocks=None, world=None, jobs=1, watch=lambda *row: None):
    return probe(plan_of(lane, method, steps, blocks), world, jobs, watch)


def effects(document, gate):
    (row,) = [row for row in document["gates"] if row["gate"] == gate]
    return {effect["knob"]: effect for effect in row["effects"]}


@pytest.fixture(autouse=True)
def mix(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS / "mix_engine"))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS / "mix_engine"))
        return mix_lane(tmp_path_factory.mktemp("nasty"), **NASTY)


# --- one at a time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 3, 5, 8])
def test_the_effect_of_a_linear_function_is_exact(tmp_path, steps):
    document = run(mix_lane(tmp_path, knobs=LINEAR), steps=steps).document
    found = effects(document, "cost")
    assert found["cap"]["effect"] == 0.8 and found["count"]["effect"] == pytest.approx(8 / 9, abs=1e-6)
    assert list(found) == ["count", "cap"], "the strongest first"
    assert found["cap"]["gaps"] == 0.08, "of the ten between what B and B+ ask"
    assert found["cap"]["low"] == found["cap"]["high"] == 0.8
    means = [point["mean"] for point in found["cap"]["curve"]]
    assert means == sorted(means) and document["still"] == []


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_every_candidate_is_one_that_the_lane_admits_and_others_are_counted(nasty, steps):
    lane = nasty
    plan = plan_of(lane, "oat", steps, None)
    for candidate in plan.candidates:
        assert lane.space.broken(candidate) is None and lane.space.canonical(candidate) == candidate
        assert lane.admit(lane.candidate(candidate)) == candidate
        assert sum(round(10**6 * candidate[name]) for name in "abc") == 10**6
    for each in plan.ladders:
        base = {**lane.space.start, **each.above}
        for at, candidate in each.admitted:
            assert candidate[each.knob.name] == at
            others = {name for name in base if candidate[name] != base[name]} - {each.knob.name}
            assert others <= each.moving | each.above.keys() or each.knob.choices, "the others stay where they start"
        assert all(level.why for level in each.left_out)


def test_conditions_constraints_and_sums_are_obeyed_and_said(nasty):
    probed = run(nasty)
    document, words = probed.document, text(probed.document)
    rows = {row["knob"]: row for row in document["knobs"]}
    assert rows["scale"]["while"] == {"open": True} and "scale does not count at the start" in words
    assert set(rows["a"]["with"]) & {"b", "c"} and "an equality holds, so" in words
    left = [(row["knob"], row["at"]) for row in document["left_out"]]
    assert ("floor", 1.0) in left and f"levels that the lane does not admit: {len(left)}" in words
    assert all("breaks" in row["why"] or "counts only while" in row["why"] for row in document["left_out"])
    assert {"law", "scale"} <= set(document["still"]) and "a" not in document["still"]
    assert "move no gate, and could be fixed: " in words
    assert {row["knob"]: row["levels"] for row in document["knobs"]}["law"] == 3, "every choice of a knob without order"


def test_runs_are_counted_before_and_each_candidate_is_run_once(tmp_path):
    lane, seen = lane_with(tmp_path), []
    plan = plan_of(lane, "oat", 5, None)
    probed = probe(plan, None, 1, lambda *row: seen.append(row))
    assert plan.runs == 3 * len(plan.candidates) == len(seen) and seen[-1][:2] == (plan.runs, plan.runs)
    assert len({tuple(values.values()) for values in plan.candidates}) == len(plan.candidates)
    assert plan.candidates[0] == lane.space.start, "the first run, from which the time is estimated"
    again = run(lane, steps=5, jobs=4).document
    assert {**again, "seconds": 0} == {**probed.document, "seconds": 0}, "for any number of jobs"


def test_a_candidate_is_evaluated_as_a_trial_is_and_a_veto_marks_it(tmp_path):
    lane = lane_with(tmp_path)
    probed = run(lane, steps=5)
    for point in probed.points.by_key.values():
        record = evaluate(probed.ground, point.values, lane.seeds).record
        measures = {run.seed: run.measures for run in point.runs}
        assert {seed: measures[seed] for seed in record.measures} == record.measures
        assert bool(point.vetoed) == any(run.card.vetoed for run in point.runs)
        assert point.vetoed or list(record.measures) == list(lane.seeds), "no veto, no early end"
    marked = probed.document["vetoed"]
    assert marked and {name for row in marked for name in row["by"]} == {"crowd"}
    assert f"vetoed: {len(marked)} of" in text(probed.document)


def test_intervals_are_over_seeds_and_there_is_none_over_one(tmp_path):
    document = run(lane_with(tmp_path)).document
    assert document["interval"] == "least and greatest over 3 seeds"
    for row in document["gates"]:
        for effect in row["effects"]:
            assert effect["low"] <= effect["effect"] <= effect["high"]
    assert any(effect["low"] < effect["high"] for row in document["gates"] for effect in row["effects"])
    alone = run(on_seeds(lane_with(tmp_path, witness=[7, 8]), [7])).document
    assert alone["interval"] is None and alone["seeds"] == [7]
    assert not any("low" in effect for row in alone["gates"] for effect in row["effects"])


def test_a_knob_of_a_later_state_moves_nothing_before_it(tmp_path):
    """The effects agree with the order of the states: what `able` leaves out is exactly still."""
    folder = tmp_path / "world"
    write_world(tiny_world(), folder)
    lane = on_seeds(load_lane("joint"), [42])
    probed = run(lane, steps=2, world=folder)
    assert probed.document["out_of_order"] == []
    listed = {row["gate"]: {effect["knob"] for effect in row["effects"]} for row in probed.document["gates"]}
    for gate in lane.gates.gates:
        assert listed[gate.id] <= {knob.name for knob in able(lane, lane.gates.metrics[gate.metric])}
    assert any(len(names) < len(lane.knobs) for names in listed.values()), "some gate is of an early state"
    assert any(effect["effect"] > 0 for row in probed.document["gates"] for effect in row["effects"])


def test_a_metric_of_a_state_before_the_knob_is_named(tmp_path, monkeypatch):
    gates = read_json(QUEUE / "gates.json")
    gates["metrics"]["q1/wait_p90"]["state"] = "upstream"
    (tmp_path / "gates.json").write_text(json.dumps(gates))
    document = run(lane_with(tmp_path, gates__file=str(tmp_path / "gates.json"))).document
    assert {"knob": "service", "metric": "q1/wait_p90"} in document["out_of_order"]
    assert "whose state comes before the knob's" in text(document)


def test_a_candidate_that_fails_is_named_and_its_level_counts_nowhere(tmp_path):
    lane = load_lane(str(leaky_lane(tmp_path)))
    document = run(lane, steps=9).document
    assert document["failed"] and all(0.6 < row["at"] < 1.0 for row in document["failed"] if row["knob"] == "service")
    assert "pump burst" in document["failed"][0]["why"] and "failed: " in text(document)
    curve = effects(document, "wait")["service"]["curve"]
    assert curve and not any(0.6 < point["at"] < 1.0 for point in curve)


def fragile(params, seed):
    if params["mode"] == "bad":
        raise ValueError("the seal leaks")
    return {"level": params["level"]}


@pytest.mark.parametrize(("method", "unknown"), [("oat", ["mode"]), (MORRIS, ["level", "mode"])])
def test_a_knob_of_which_too_little_has_a_result_is_not_said_to_move_nothing(method, unknown):
    if method == MORRIS:
        pytest.importorskip("SALib")
    level = {"value": 0.5, "low": 0.0, "high": 4.0}
    params = {"level": level, "mode": {"value": "good", "choices": ["good", "bad"]}}
    document = run(lane_of_function(fragile, id="fragile", params=params, gates={"low": "level <= 9"}), method).document
    assert document["failed"] and document["unknown"] == unknown and document["still"] == []
    said = text(document)
    assert f"too few candidates have a result to say what moves with: {', '.join(unknown)}" in said
    assert "could be fixed" not in said


def test_a_lane_that_limits_its_trials_is_probed_within_the_limits(tmp_path):
    probed = run(lane_with(tmp_path, limits={"seconds": 600}, seeds=[1]), steps=2)
    assert {**probed.document, "seconds": 0} == {**run(lane_with(tmp_path, seeds=[1]), steps=2).document, "seconds": 0}


def test_an_interrupt_ends_it_before_the_next_run(tmp_path):
    done = []

    def watch(*row):
        done.append(row)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(lane_with(tmp_path), steps=5, watch=watch)
    assert len(done) == 3


# --- over the box -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slopes", [[1.0, -2.0, 0.0], [0.25, 3.0, -7.5]])
def test_morris_of_a_linear_function_is_its_slopes(slopes):
    pytest.importorskip("SALib")
    of = design(MORRIS, 3, 6)
    found = of.effects(of.places @ np.array(slopes))
    assert [effect.effect for effect in found] == pytest.approx(np.abs(slopes))
    assert [effect.other for effect in found] == pytest.approx([0.0] * 3, abs=1e-9), "it does not bend"


def ishigami(places):
    x = np.pi * (2 * places - 1)
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def test_sobol_of_ishigami_is_as_known():
    pytest.importorskip("SALib")
    of = design(SOBOL, 3, 1024)
    found = of.effects(ishigami(of.places))
    assert [effect.other for effect in found] == pytest.approx([0.3139, 0.4424, 0.0], abs=0.04)
    assert [effect.effect for effect in found] == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.04)


def test_morris_of_ishigami_sees_what_bends_and_works_with_others():
    pytest.importorskip("SALib")
    of = design(MORRIS, 3, 500)
    found = of.effects(ishigami(of.places))
    # On four levels sin(x) is 0, -s, s, 0 with s = sin(pi / 3); each step is 2/3 of the range.
    s, fourth = np.sin(np.pi / 3), np.array([np.pi**4, (np.pi / 3) ** 4])
    known = [1.5 * s * (1 + 0.1 * fourth.mean()), 1.5 * 7 * s**2, 1.5 * 0.1 * (fourth[0] - fourth[1]) * s / 2]
    assert [effect.effect for effect in found] == pytest.approx(known, rel=0.1)
    assert all(effect.other > 0 for effect in found), "no knob acts by itself and evenly"


@pytest.mark.parametrize("method", [MORRIS, SOBOL])
def test_a_block_with_an_unknown_row_is_left_out_whole(method):
    pytest.importorskip("SALib")
    of = design(method, 2, 8)
    values = of.places @ np.array([2.0, 1.0])
    values[3] = np.nan
    whole = of.whole(np.isfinite(values))
    assert len(values) - whole.sum() == of.block and not whole[3]
    assert of.effects(values) is not None
    assert of.effects(np.full(len(values), np.nan)) is None, "of nothing, nothing is said"
    assert {effect.effect for effect in of.effects(np.ones(len(values)))} == {0.0}


@pytest.mark.parametrize("method", [MORRIS, SOBOL])
def test_a_lane_over_its_box(tmp_path, method):
    pytest.importorskip("SALib")
    knobs = {**LINEAR, "law": {"at": f"{P}law"}}
    document = run(mix_lane(tmp_path, knobs=knobs), method, blocks=8).document
    found = effects(document, "cost")
    assert list(found)[:2] == ["count", "cap"] and found["law"]["effect"] == 0 and document["still"] == ["law"]
    assert document["left_out"] == [] and "sampling" in found["cap"]
    if method == MORRIS:
        assert found["cap"]["effect"] == pytest.approx(0.8, abs=1e-6)


def test_blocks_that_break_a_rule_are_left_out_and_counted(tmp_path):
    pytest.importorskip("SALib")
    knobs = {**LINEAR, "floor": {"at": f"{P}floor"}}
    lane = mix_lane(tmp_path, knobs=knobs, constraints=["floor <= cap + 0.5"])
    plan = plan_of(lane, MORRIS, 5, 12)
    assert all(lane.space.broken(candidate) is None for candidate in plan.candidates)
    (left,) = probe(plan, None, 1, lambda *row: None).document["left_out"]
    assert 0 < left["blocks"] < left["of"] == 12


def test_an_equality_is_refused_over_the_box(nasty):
    pytest.importorskip("SALib")
    with pytest.raises(LaneError, match="an equality ties a, b, c; --method oat keeps it"):
        plan_of(nasty, SOBOL, 5, None)


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_a_page_and_nothing_else(here, tmp_path):
    place, page = tmp_path / "ws", tmp_path / "page.html"
    code, out, err = here("sensitivity", QUEUE / "lane.json", "--steps", 2, "--html", page, workspace=place)
    assert code == 0 and "effect by knob (least and greatest over 3 seeds)" in out
    assert "candidates on 3 seeds: " in err and ", and the authority's 3" in err and "s left" in err
    assert 'id="figure-probe_effects"' in page.read_text() and 'id="figure-probe_curves"' in page.read_text()
    assert not place.exists() or not any(place.iterdir())


def test_a_sweep_is_answered_from_its_trials(here, tmp_path):
    closed = play(lane_with(tmp_path, budget__trials=12), Workspace.at(tmp_path / "ws"), track=False)
    code, out, _ = here("sensitivity", closed.sweep, "--json", workspace=tmp_path / "ws")
    assert code == 0 and json.loads(out)["sweep"] == closed.sweep and json.loads(out)["trials"] == 12
    refused(here("sensitivity", closed.sweep, "--steps", 3, workspace=tmp_path / "ws"), "--steps: is of a LANE")


def test_without_salib_the_command_says_what_to_install(here, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "SALib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "SALib", None)
    answer = here("sensitivity", QUEUE / "lane.json", "--method", "sobol", workspace=tmp_path)
    refused(answer, "--method sobol: needs SALib: pip install 'lanelock[salib]'")
    answer = here("sensitivity", QUEUE / "lane.json", "--trajectories", 4, workspace=tmp_path)
    refused(answer, "--trajectories: is of --method morris and sobol")
