"""A lane whose metrics are defined as data: it is searched, locked and proved from the lock alone."""

import json
import math
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
from conftest import forged
from hypothesis import given
from hypothesis import strategies as st
from lanes import lane_with
from pyarrow import parquet

from lanelock.policies import IntegrityError, LaneError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.policies.expressions import parse
from lanelock.scoring.tables import TableMetrics
from lanelock.sweeps import engines
from lanelock.sweeps.pages import scorecard as scorecard_page
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.reports.scorecards import lock_report
from lanelock.sweeps.search.composite import LaneComposite
from lanelock.sweeps.search.predicted import over_arrays
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal.words import best_document, closing
from lanelock.sweeps.workspace import Workspace

DEFINED = {
    "wait_p90": {"sql": "quantile_cont(wait, 0.9)"},
    "at_once": {"sql": "avg(CASE WHEN wait = 0 THEN 1.0 ELSE 0.0 END)"},
    "customers": {"sql": "count(*)"},
    "by_length": {"sql": "avg(wait)", "by": "CASE WHEN busy > 1 THEN 'long' ELSE 'short' END"},
    "moved": {"distance": "wasserstein", "column": "wait", "table": "waits", "reference": "authority"},
    "real": {"distance": "kolmogorov_smirnov", "column": "wait", "reference": "real.parquet"},
    "own": {"function": "queue_measures:longest"},
}
ROWS = [
    ("wait", "gate", {"metric": "wait_p90", "comparison": "<=", "thresholds": {"B": 1.0, "B+": 0.4}, "scale": 1.0}),
    ("share", "gate", {"metric": "at_once", "comparison": ">=", "thresholds": {"B": 0.3, "B+": 0.5},
                       "support": {"metric": "customers", "at_least": 1000},
                       "confidence": {"level": 0.95, "method": "wilson", "of": "customers"}}),
    ("lengths", "gate", {"metric": "by_length", "comparison": "<=", "threshold": 2.0, "strata": "all"}),
    ("drift", "gate", {"metric": "moved", "comparison": "<=", "threshold": 50.0}),
    ("like", "observe", {"metric": "real", "comparison": "<=", "threshold": 0.0}),
    ("long", "veto", {"metric": "own", "comparison": "<=", "threshold": 1000.0}),
    ("mean", "gate", {"metric": "wait_p90", "comparison": "<=", "threshold": 3.0, "scale": 1.0,
                      "confidence": {"level": 0.9, "method": "seeds"}}),
]  # fmt: skip


def gates_of(definitions, rows):
    names = {*definitions, *(row["metric"] for _, _, row in rows)}
    return {
        "id": "defined", "title": "Waiting, measured by definitions", "bands": ["B", "B+"],
        "metrics": {name: {"unit": "1", "state": "Q1", "worst": "highest", "what": name} for name in sorted(names)},
        "gates": [{"id": gate_id, "severity": severity, "why": "w", **row} for gate_id, severity, row in rows],
        "promotion": {"last-good": {"holdout_seeds": 1}, "certified": {"holdout_seeds": 2}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project's folder: a reference file and a module."""
    place = tmp_path_factory.mktemp("project")
    waits = np.random.Generator(np.random.Philox(5)).exponential(0.1, 500)
    parquet.write_table(pa.table({"wait": waits}), place / "real.parquet")
    (place / "queue_measures.py").write_text(
        "def longest(tables):\n    return max(tables['waits']['wait'].to_pylist())\n"
    )
    return place


@pytest.fixture
def source(folder, monkeypatch):
    """The queue engine, measured by definitions."""
    made = TableMetrics("queue", gates_of(DEFINED, ROWS), DEFINED, folder=folder)
    monkeypatch.setattr(engines, "_installed_metrics", lambda name: made)
    return made


OBJECTIVES = [
    {"name": "margin", "direction": "maximize", "worst_margin": "B+"},
    {"name": "cost", "direction": "minimize", "expression": "2 * wait_p90 + 10 * outside(at_once, 0.5, 0.8) - moved"},
]
GRADE = [gate_id for gate_id, _, _ in ROWS]


@pytest.fixture(scope="module")
def locked(folder, tmp_path_factory):
    place = Workspace.at(tmp_path_factory.mktemp("defined"))
    made = TableMetrics("queue", gates_of(DEFINED, ROWS), DEFINED, folder=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "_installed_metrics", lambda name: made)
        lane = lane_with(place.root, id="defined", gates__grade=GRADE, objectives=OBJECTIVES)
        closed = play(lane.with_search(trials=10), place, track=False)
    return place, closed


def test_it_is_searched_locked_and_proved_by_what_the_lock_carries(locked, source):
    place, closed = locked
    lock = Lock.read(closed.lock)
    assert lock.decision == "GO" and [trial.failed for trial in closed.trials].count(True) == 0
    assert (
        lock.gates["metrics"]["own"]["definition"]["sha256"] and lock.gates["metrics"]["real"]["definition"]["sha256"]
    )
    found = verify_lock(closed.lock, workspace=place)
    assert [check for check in found if not check.ok] == []
    metrics = lock.proof[1].metrics
    assert {"by_length/strata", "by_length/strata/long", "by_length/strata/short", "moved", "real", "own"} <= {*metrics}
    assert all(lock.authority_metrics[seed]["moved"] == 0.0 for seed in lock.seeds)


def failing(path, workspace=None):
    return {check.name for check in verify_lock(path, workspace=workspace) if not check.ok}


def changed(lock, tmp_path, change):
    """Returns a lock whose gate file is changed, under an id that fits."""
    gates = json.loads(json.dumps(read_json(lock)["gates"]))
    change(gates)
    return forged(lock, tmp_path, gates=gates)


def test_another_definition_in_a_lock_is_found_twice(locked, source, tmp_path):
    def change(gates):
        gates["metrics"]["wait_p90"]["definition"]["sql"] = "quantile_cont(wait, 0.5)"

    found = failing(changed(locked[1].lock, tmp_path, change))
    assert {"gates: those of the installed engine", "seed 1: authority metrics"} <= found


@pytest.mark.parametrize("field", ["support", "confidence"])
def test_what_lies_behind_a_gate_cannot_be_taken_out_of_a_lock(locked, source, tmp_path, field):
    def change(gates):
        del next(row for row in gates["gates"] if row["id"] == "share")[field]

    found = failing(changed(locked[1].lock, tmp_path, change))
    assert "gates: those of the installed engine" in found and (field == "support") != ("seed 1: scorecard" in found)


def test_a_reference_or_a_function_that_has_changed_is_refused_by_name(locked, folder, tmp_path, monkeypatch):
    copy = tmp_path / "project"
    shutil.copytree(folder, copy)
    original = TableMetrics("queue", gates_of(DEFINED, ROWS), DEFINED, folder=copy)
    for name, content in (("real.parquet", None), ("queue_measures.py", "def longest(tables):\n    return 0.0\n")):
        kept = (copy / name).read_bytes()
        if content is None:
            parquet.write_table(pa.table({"wait": [1.0, 2.0]}), copy / name)
        else:
            (copy / name).write_text(content)
        today = TableMetrics("queue", gates_of(DEFINED, ROWS), DEFINED, folder=copy)
        monkeypatch.setattr(engines, "_installed_metrics", lambda _, today=today: today)
        assert today.gates_file != original.gates_file
        with pytest.raises(IntegrityError, match=rf"{name}: the definition states \w+, the file is \w+"):
            verify_lock(locked[1].lock)
        (copy / name).write_bytes(kept)


def test_the_same_lock_is_certified_with_distances_from_its_authority(locked, source):
    place, closed = locked
    certified = certify_lock(closed.lock, place, seeds=(1, 2, 3), holdout=2)
    assert "PASS" in str(certified.verdict)
    evidence = read_json(certified.folder / "certification.json")
    assert all(card["metrics"]["moved"] > 0 for card in evidence["graded"]["cards"])


def test_a_trial_without_its_support_says_so(folder, tmp_path, monkeypatch):
    rows = [(gate_id, severity, dict(row)) for gate_id, severity, row in ROWS]
    rows[1][2]["support"] = {"metric": "customers", "at_least": 5000}
    made = TableMetrics("queue", gates_of(DEFINED, rows), DEFINED, folder=folder)
    monkeypatch.setattr(engines, "_installed_metrics", lambda name: made)
    lane = lane_with(tmp_path, gates__grade=GRADE, objectives=OBJECTIVES)
    closed = play(lane.with_search(trials=3), Workspace.at(tmp_path), track=False)
    assert all("share: customers is 2000, 5000 are needed" in trial.record.failure for trial in closed.trials)


def test_terms_of_an_objective_are_means_over_seeds_and_their_sum_is_the_objective(locked, source):
    closed = locked[1]
    cost = closed.ground.lane.objectives[1]
    trial = closed.decision.best
    rows = list(trial.record.measures.values())
    terms = cost.terms(rows)
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    beyond = [max(0.5 - row["at_once"], row["at_once"] - 0.8, 0.0) for row in rows]
    assert list(terms) == ["2 * wait_p90", "10 * outside(at_once, 0.5, 0.8)", "-moved"]
    assert terms["2 * wait_p90"] == pytest.approx(2 * mean["wait_p90"])
    assert terms["10 * outside(at_once, 0.5, 0.8)"] == pytest.approx(10 * sum(beyond) / len(beyond))
    assert terms["-moved"] == pytest.approx(-mean["moved"])
    assert sum(terms.values()) == trial.objectives[1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"objectives": [OBJECTIVES[0], {**OBJECTIVES[1], "expression": "waits + 1"}]},
         "/objectives/cost/expression: 'waits + 1', column 1: 'waits' is not a known name"),
        ({"objectives": [OBJECTIVES[0], {**OBJECTIVES[1], "expression": "outside(at_once, 1)"}]},
         "outside takes a number and the low and high end of a corridor"),
        ({"seeds": [1], "gates__grade": ["mean"]},
         "/gates/mean/confidence: a bound over seeds, and the lane has a single seed"),
        ({"gates__rails": [{"id": "r", "metric": "at_once", "severity": "rail", "comparison": ">=", "threshold": 0.1,
                            "confidence": {"level": 0.95, "method": "bootstrap"}, "why": "w"}]},
         "/gates/r/confidence: no gate of the file measures this bound"),
    ],
)  # fmt: skip
def test_what_a_lane_cannot_ask_is_refused_before_a_trial(source, tmp_path, changed, said):
    with pytest.raises(LaneError, match=re.escape(said)):
        lane_with(tmp_path, **{"gates__grade": GRADE, "objectives": OBJECTIVES, **changed})


def test_a_lane_with_gates_of_its_own_measures_by_the_engines_definitions(source, tmp_path):
    own = gates_of({"wait_p90": 0, "twice": 0}, [ROWS[0]])
    own["metrics"]["twice"]["definition"] = "2 * quantile_cont(wait, 0.9)"
    (tmp_path / "own.json").write_text(json.dumps(own))
    objectives = [{"name": "twice", "direction": "minimize", "metric": "twice"}]
    lane = lane_with(
        tmp_path, gates={"file": str(tmp_path / "own.json"), "grade": ["wait"], "rails": []}, objectives=objectives
    )
    assert lane.gates_file["metrics"]["wait_p90"]["definition"] == {"sql": "quantile_cont(wait, 0.9)"}
    metrics = lane.yardstick(1, None)
    assert metrics["twice"] == 2 * metrics["wait_p90"] and {*metrics} == {"twice", "wait_p90"}


def test_engines_that_measure_by_their_own_code_read_no_definition(tmp_path):
    own = gates_of(
        {"q1/wait_p90": 0}, [("wait", "gate", {"metric": "q1/wait_p90", "comparison": "<=", "threshold": 1})]
    )
    own["metrics"]["q1/wait_p90"]["definition"] = "avg(wait)"
    (tmp_path / "own.json").write_text(json.dumps(own))
    with pytest.raises(
        LaneError, match="/metrics/q1/wait_p90/definition: the metrics of queue are measured by its own"
    ):
        lane_with(tmp_path, gates={"file": str(tmp_path / "own.json"), "grade": ["wait"], "rails": []})


def test_what_is_observed_and_each_term_are_shown(locked, source):
    closed = locked[1]
    lock = Lock.read(closed.lock)
    text, page = closing(closed), scorecard_page.html(lock_report(lock, None, ()))
    assert re.search(r"like +observe", text) and "cost = [2 * wait_p90: " in text
    assert [*best_document(closed)["terms"]["cost"]] == ["2 * wait_p90", "10 * outside(at_once, 0.5, 0.8)", "-moved"]
    assert "Observed" in page and 'class="gates observed"' in page and page.index("Observed") > page.index("Vetoes")


def test_a_predicted_trial_is_judged_as_it_will_be(locked, source):
    """The model's composite gives of a trial's own metrics what the trial got."""
    closed = locked[1]
    ground, ledger = closed.ground, closed.ledger
    composite = LaneComposite(ground, reserve=-math.inf, band="B")
    for trial in (trial for trial in closed.trials if ledger.complete(trial)):
        outputs = composite.of_measures(trial.record.measures)
        (objective,), violation = composite.score(outputs)
        rows = [card.margins["B"] for card in ledger.overall(trial).gates if card.severity == "gate"]
        assert objective == pytest.approx(trial.objectives[1])
        one_seed = [
            min(card.gates[at].margins["B"] for card in ledger.cards(trial).values()) for at in range(len(rows))
        ]
        assert (violation == 0) == all(margin >= 0 for margin in one_seed)


@given(
    st.sampled_from(
        ["a + 2 * b", "max(a, b, 1) - min(a, b)", "outside(a, -1, b)", "abs(a) / b", "-a", "sum(a, b, 3)", "2"]
    ),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6),
)
def test_an_expression_over_arrays_is_the_expression_of_each_number(text, pairs):
    expression = parse(text, "t")
    arrays = {"a": np.array([a for a, _ in pairs], float), "b": np.array([b for _, b in pairs], float)}
    found = over_arrays(expression, arrays)
    for at, (a, b) in enumerate(pairs):
        try:
            assert found[at] == expression.value({"a": a, "b": b})
        except PolicyError:
            assert not math.isfinite(found[at])
