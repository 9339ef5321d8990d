"""What is drawn and written of a study is what its trials were: checked against the trials themselves."""

import re
from dataclasses import replace
from html import escape
from pathlib import Path

import mlflow
import numpy as np
import pytest
from lanes import lane_with

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.figures.drawing import png, svg
from lanelock.scoring.gates import Severity
from lanelock.sweeps.decision.decision import front
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.reports.study import closed as opened
from lanelock.sweeps.reports.study import html, markdown
from lanelock.sweeps.sensitivity.trial_arrays import Ceiling, trials_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

BOUNDS = {"wait": 0.2, "at_once": 0.99}  # gate -> what no trial could pass, in this test


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studied")
    workspace = Workspace.at(folder / "ws")
    closed = play(lane_with(folder), workspace, jobs=2)
    return workspace, closed, opened(closed.sweep, workspace)


def held(closed):
    """The trials that ran on every seed without a veto."""
    return [told for told in closed.trials if closed.ledger.acceptable(told)]


def test_the_front_is_every_trial_that_no_other_beats(swept):
    _, closed, found = swept
    trials = found.trials
    assert [objective.maximize for objective in trials.objectives] == [True, False]

    def beaten(one):
        margin, servers = one.objectives
        return any(
            other.objectives[0] >= margin and other.objectives[1] <= servers and other.objectives != one.objectives
            for other in held(closed)
        )

    best = [told for told in held(closed) if not beaten(told)]
    assert [closed.trials[row] for row in trials.front] == best == [*front(closed.trials, found.ledger)]
    twin = replace(best[0], number=len(closed.trials))
    twice = trials_of(closed.sweep, [*closed.trials, twin], Ledger(found.ledger.ground), None)
    assert len(twice.front) == len(best) + 1, "one that scores the same is as good: it is on the front too"


@pytest.mark.parametrize("count", [1, 7])
def test_a_budget_that_ends_within_a_batch_is_shown_whole(tmp_path, count):
    lane = lane_with(tmp_path).with_search(trials=count)
    assert count % lane.document["batch"]
    workspace = Workspace.at(tmp_path / "ws")
    closed = play(lane, workspace, track=False)
    found = opened(closed.sweep, workspace)
    assert found.history == closed.trials and len(found.trials.number) == count


def test_best_so_far_never_falls_and_ends_at_the_best(swept):
    _, closed, found = swept
    best = found.trials.best_so_far()
    known = best[~np.isnan(best)]
    assert (np.diff(known) >= 0).all() and known[-1] == max(told.objectives[0] for told in held(closed))
    first = next(place for place, told in enumerate(closed.trials) if told in held(closed))
    assert np.isnan(best[:first]).all() and best[first] == closed.trials[first].objectives[0]


def test_every_trial_has_its_outcome_and_every_veto_its_mark(swept):
    _, closed, found = swept
    trials = found.trials
    for told, outcome in zip(closed.trials, trials.outcome, strict=True):
        assert (outcome == "vetoed by crowd") == (told.constraints["crowd"] > 0)
    vetoed = sum(told.constraints["crowd"] > 0 for told in closed.trials)
    pareto = next(figure for figure in found.figures if figure.id == "study_pareto")
    drawn = svg(pareto)
    assert f"vetoed by crowd ({vetoed})" in drawn and f"locked: trial {closed.decision.best.number}" in drawn
    counts = [int(count) for count in re.findall(r">(?:band [^<]*|no veto, no band) \((\d+)\)<", drawn)]
    assert counts and sum(counts) == len(held(closed)), "the trials that held, counted"


def test_a_trial_that_was_stopped_is_not_drawn_as_vetoed(swept):
    _, closed, found = swept
    trials = found.trials
    assert trials.vetoed.tolist() == [told.constraints["crowd"] > 0 for told in closed.trials]
    assert not (trials.vetoed & trials.valid).any()
    ended = ~trials.valid & ~trials.vetoed
    gates = next(figure for figure in found.figures if figure.id == "study_gates")
    for outcome, rows in (("vetoed", trials.vetoed), ("stopped or not graded", ended), ("no veto", trials.valid)):
        assert (f">{outcome}<" in svg(gates)) == rows.any()


def test_no_trial_passes_a_bound_that_is_drawn(swept):
    _, closed, found = swept
    strips = {strip.gate.id: strip for strip in found.trials.strips}
    assert set(strips) == {gate.id for gate in found.lane.gates.gates if gate.severity is Severity.GATE}
    for strip in strips.values():
        for told, value in zip(closed.trials, strip.values, strict=True):
            measured = [found_[strip.gate.metric] for found_ in told.record.measures.values()]
            assert value == (min(measured) if strip.gate.comparison == ">=" else max(measured))
    assert [row.bound for row in found.ledger.ground.reach] == [row.bound for row in closed.ground.reach]
    ceiling = found.trials.ceiling
    assert ceiling is None or all(told.objectives[0] <= ceiling.value for told in held(closed))


def test_the_ceiling_is_the_tightest_bound_of_the_gates_that_the_margin_counts(swept):
    _, closed, found = swept
    gates = {gate.id: gate for gate in found.lane.gates.gates}

    def reach(name, bound, top=True):
        gate, can = gates[name], {"B": True, "B+": top}
        margins = {band: gate.margin(bound, threshold) for band, threshold in gate.thresholds.items()}
        fixed = gate.metric, gate.comparison, gate.thresholds
        return GateReach(name, *fixed, bound, 1, can, f"why {name}", "none", margins=margins)

    def ceiling(*rows):
        ground = replace(found.ledger.ground, reach=rows)
        return trials_of(closed.sweep, closed.trials, Ledger(ground), None).ceiling

    assert ceiling() is None
    wait, at_once = (gates[name].margin(bound, gates[name].thresholds["B+"]) for name, bound in BOUNDS.items())
    assert wait < at_once
    near, far = (reach(name, bound) for name, bound in BOUNDS.items())
    assert ceiling(near, far) == ceiling(far, near) == Ceiling(wait, "wait", "why wait")
    assert ceiling(reach("wait", 9.0, top=False), far) == Ceiling(at_once, "at_once", "why at_once"), (
        "a gate out of reach is not counted by the margin"
    )


def test_the_page_needs_nothing_beside_it_and_says_what_was_decided(swept):
    _, closed, found = swept
    page, words = html(found), markdown(found)
    assert not re.search(r"(src|href)=[\"'](?!#|data:)", page) and "@import" not in page and "url(http" not in page
    assert page.count('<svg class="figure"') == len(found.figures) >= 5
    for said in (closed.decision.reason, closed.decision.verdict, found.lane.title, "crowd"):
        assert escape(said) in page and said in words
    for knob in found.lane.knobs:
        assert f"<td>{knob.name}</td>" in page
    first = page.split("<tbody><tr><td>")[1]
    assert first.startswith(f"{closed.decision.best.number} (locked)"), "what was chosen stands first"
    assert "in the order of the decision: the highest band, then margin up to" in page


def test_beside_each_bound_stand_the_best_that_was_found_and_the_gap(swept):
    """By hand, from what every seed of every whole trial measured."""
    _, closed, found = swept
    lane = closed.ground.lane
    gate = next(gate for gate in lane.gates.gates if gate.id == "wait")
    row = GateReach("wait", gate.metric, gate.comparison, gate.thresholds, 0.2, 1, {"B": True}, "by law", "none")
    of = replace(found, ledger=Ledger(replace(found.ledger.ground, reach=(row,))))
    worst = [
        max(measured[gate.metric] for measured in told.record.measures.values())
        for told in closed.trials
        if len(told.record.measures) == len(lane.seeds)
    ]
    assert f"| 0.2 | {min(worst):.6g} | {abs(min(worst) - 0.2):.6g} |" in markdown(of)


def test_the_same_study_is_drawn_in_the_same_bytes(swept):
    workspace, closed, found = swept
    again = opened(closed.sweep, workspace)
    assert html(again) == html(found)
    assert [png(figure) for figure in again.figures] == [png(figure) for figure in found.figures]


def test_the_sweeps_run_carries_what_is_drawn(swept, tmp_path):
    workspace, closed, found = swept
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.tracking_database}")
    stored = {item.path for item in client.list_artifacts(closed.parent_run, "study")}
    assert stored == {f"study/{figure.id}.png" for figure in found.figures}
    for figure in found.figures:
        path = Path(client.download_artifacts(closed.parent_run, f"study/{figure.id}.png", str(tmp_path)))
        assert path.read_bytes() == png(figure)
    page = Path(client.download_artifacts(closed.parent_run, "study.html", str(tmp_path)))
    assert page.read_text(encoding="utf-8") == html(found)
    note = client.get_run(closed.parent_run).data.tags["mlflow.note.content"]
    assert all(f"get-artifact?path={path}&run_uuid={closed.parent_run}" in note for path in stored)


def test_the_command_writes_the_page(swept, lanelock, tmp_path):
    workspace, closed, found = swept
    code, document, _ = lanelock(
        "report", closed.sweep, "--html", tmp_path / "study.html", "--json", workspace=workspace.root
    )
    assert code == 0 and (tmp_path / "study.html").read_text(encoding="utf-8") == html(found)
    assert [one["id"] for one in document["figures"]] == [figure.id for figure in found.figures]
    assert document["gates"] == found.sensitivity["gates"]
