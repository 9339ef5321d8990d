"""Performance phases of a campaign: measured, compared and locked before there is a pack to tune, and what blocks."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from lanes import QUEUE
from small import END, campaign, played, start

from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, LaneError, PolicyError, WorkspaceError
from lanelock.policies.documents import read_json, shipped
from lanelock.sweeps.campaign import performance
from lanelock.sweeps.campaign.checks import CHECKS, Closing
from lanelock.sweeps.campaign.frozen_proof import verify_freeze
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.records import records_in
from lanelock.sweeps.campaign.report import report, write_report
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.perf.comparisons import read, store
from lanelock.sweeps.proof.runtime_locks import STATUS, RuntimeLock, newest
from lanelock.sweeps.workspace import Workspace, write_document

PACK, RUN = str(QUEUE / "pack"), "small-1"
RECORDED = {"before": 30.0, "after": 6.0}


def measuring(next_, **more):
    then = {"GO": {"next": next_, "decision": "GO_POPT1"}}
    document = {"kind": "performance", "title": "Baseline", "mode": "baseline", "pack": PACK, "rounds": 1, "then": then}
    return {**document, "done_when": ["decided", "measured", "ranked", "pruned"], **more}


def comparing(of, next_, **more):
    then = {name: {"next": next_, "decision": "CLOSED"} for name in ("GO", "NO_GO")}
    document = {"kind": "performance", "title": "Compared", "mode": "compare", "of": of, "then": then}
    checks = ["decided", "measured", "replay", "audited", "no_regression"]
    return {**document, "recorded": RECORDED, "done_when": checks, **more}


def locking(of, next_, **more):
    then = {"GO": {"next": next_, "decision": "GO_P0"}, "NO_GO": {"next": next_, "decision": "NO_GO_P0"}}
    document = {"kind": "performance", "title": "Locked", "why": "Kept.", "mode": "lock", "of": of, "then": then}
    return {**document, "done_when": ["decided", "measured", "runtime_locked", "no_regression", "pruned"], **more}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A campaign that measures, compares twice, locks and goes on, played to its freeze."""
    folder = tmp_path_factory.mktemp("performance")
    phases = {
        "popt0": measuring("popt1"), "popt1": comparing("popt0", "popt4", state="Q1"),
        "popt4": comparing("popt1", "popt5"), "popt5": locking("popt1", "start"), "start": start("end"), "end": END,
    }  # fmt: skip
    document = {
        "id": "small", "title": "Small", "why": "A test.", "engine": "queue", "until": "Q1", "seeds": [1],
        "frozen": [], "first": "popt0", "phases": phases,
    }  # fmt: skip
    document["record"] = {
        "title": "Before", "columns": {"q1/servers": "servers"}, "world": "Another machine.",
        "rows": [
            {"phase": "popt1", "label": "First", "values": {}, "seconds": RECORDED, "outcome": "CLOSED"},
            {"phase": "start", "label": "Start", "values": {"q1/servers": 3}, "outcome": "accepted"},
        ],
    }  # fmt: skip
    (folder / "small.json").write_text(json.dumps(document))
    plan, workspace = load_campaign(str(folder / "small.json")), Workspace.at(folder / "ws")
    standing = played(plan, workspace)
    rows = {record.phase: record for record in standing.records}
    return SimpleNamespace(plan=plan, workspace=workspace, standing=standing, rows=rows, folder=folder)


@pytest.mark.plan("5.5", "5.5.2", "5.5.3")
def test_what_it_costs_is_measured_compared_and_locked_before_there_is_a_pack(done):
    assert [record.phase for record in done.standing.records] == ["popt0", "popt1", "popt4", "popt5", "start", "end"]
    assert {name: row.decision for name, row in done.rows.items()} == {
        "popt0": "GO_POPT1", "popt1": "CLOSED", "popt4": "CLOSED", "popt5": "GO_P0", "start": "GO_END",
        "end": done.rows["end"].ending,
    }  # fmt: skip
    for row in done.standing.records[:4]:
        assert row.checks and all(check.ok for check in row.checks), row.red
        assert row.performance.costs and row.performance.machine["cores"] >= 1
    assert done.rows["popt0"].performance.focus == "Q1" and done.rows["popt0"].performance.measured["cpu_s"]["Q1"]
    for name in ("popt0", "popt5"):
        assert read_json(done.workspace.prunes / done.rows[name].pruned)["bytes"] >= 0, "what was freed is recorded"
    assert "the record took 30 and then 6 s" in done.rows["popt1"].reason
    assert done.rows["popt5"].reason.startswith(STATUS)
    assert tuple(records_in(done.workspace.campaigns / RUN)) == done.standing.records


@pytest.mark.plan("5.3")
def test_no_policy_moves_in_it_and_no_pack_is_passed_on(done):
    for row in done.standing.records[:4]:
        assert row.holder is None and row.carried is None and row.authority is None and row.changes == ()
        assert row.tried is None and row.metrics is None, "nothing is searched, and no gate is looked at"
    assert done.rows["start"].holder.pack.digest == done.plan.phases["start"].pack.digest


def test_two_phases_look_at_one_comparison_which_is_kept_and_locked(done):
    files = [done.rows[name].performance.file for name in ("popt1", "popt4", "popt5")]
    assert set(files) == {f"{RUN}.popt1.json"}
    comparison = read(done.workspace.perf / files[0])
    assert comparison.derived.holds and comparison.candidate.code_version == comparison.reference.code_version
    assert set(comparison.derived.slower) <= set(comparison.terms.explained), "one code is never slower than itself"
    lock = newest(done.workspace, "queue")
    assert lock is not None and lock.name == f"{RUN}.popt1" and lock.comparison == comparison.document
    assert lock.runtime_id == done.rows["popt5"].performance.runtime_id and lock.why == "Kept."


def test_its_report_shows_the_seconds_beside_the_record_and_its_freeze_is_proved(done):
    text = as_markdown(report(done.standing))
    assert "### What it takes" in text and "| First | Q1 | 30 → 6 | CLOSED |" in text
    assert f"Runtime lock: lanelock verify {RUN}.popt1" in text and "### Cost" in text
    assert [path.is_file() for path in write_report(done.standing, done.workspace.campaigns / RUN)] == [True, True]
    found = verify_freeze(done.workspace.freezes / f"{RUN}.json", done.workspace)
    assert found.ok, [check for check in found if not check.ok]


@pytest.mark.parametrize("killed_at", ["compared", "_kept", "lock_runtime"])
def test_a_phase_that_was_killed_is_measured_again_and_what_was_measured_before_it_is_not(
    tmp_path, monkeypatch, killed_at
):
    phases = {
        "popt0": measuring("popt1"), "popt1": comparing("popt0", "popt5", state="Q1"),
        "popt5": locking("popt1", "start"), "start": start("end"),
    }  # fmt: skip
    plan, place = campaign(tmp_path, **phases, begin="popt0"), Workspace.at(tmp_path / "ws")
    home = performance.Performing if killed_at == "_kept" else performance
    usual = getattr(home, killed_at)

    def killed(*given, **named):
        usual(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as until, pytest.raises(KeyboardInterrupt):
        until.setattr(home, killed_at, killed)
        played(plan, place)
    before = [*records_in(place.campaigns / RUN)]
    assert [row.phase for row in before] == ["popt0"] + ["popt1"] * (killed_at == "lock_runtime")
    assert (place.perf / f"{RUN}.popt1.json").is_file() is (killed_at != "compared")
    records = played(plan, place, resume=True).records
    assert records[: len(before)] == tuple(before)
    assert [row.phase for row in records] == ["popt0", "popt1", "popt5", "start", "end"]
    lock = newest(place, "queue")
    assert lock is not None and lock.comparison == read(place.perf / f"{RUN}.popt1.json").document
    assert records[2].performance.runtime_id == lock.runtime_id


def test_a_lock_of_that_name_which_an_earlier_run_left_is_not_taken_for_this_ones(done, tmp_path):
    place, name = Workspace.at(tmp_path / "ws"), f"{RUN}.popt1.json"
    comparison = read(done.workspace.perf / name)
    store(replace(comparison, who="another"), place)
    place.runtime_locks.mkdir(parents=True)
    (place.runtime_locks / name).write_text((done.workspace.runtime_locks / name).read_text())
    phase = done.plan.phases["popt5"]
    playing = performance.Performing(done.plan, place, RUN, done.standing.records, phase, track=False)
    with pytest.raises(WorkspaceError, match="locks another comparison of that name"):
        playing.played()


def closing(done, phase, record=None):
    row = done.plan.document["phases"][phase]
    return Closing(RUN, record or done.rows[phase], row, done.plan.document, done.plan.gates, done.workspace)


@pytest.mark.plan("5.5.4")
def test_locked_code_that_changed_keeps_every_later_phase_from_closing(done, monkeypatch):
    record = replace(done.rows["start"], seconds=0.0)
    assert "no profile has these seeds" in CHECKS["runtime"].evaluated(closing(done, "start", record)).witness
    monkeypatch.setattr(Resolved, "code_files", property(lambda engine: {"other.py": "0" * 64}))
    checked = CHECKS["runtime"].evaluated(closing(done, "start", record))
    assert not checked.ok and f"is not what runtime lock {RUN}.popt1 froze" in checked.witness


def test_a_regression_without_a_cause_and_a_missing_target_keep_it_open(done, tmp_path):
    path = done.workspace.perf / f"{RUN}.popt1.json"
    text = path.read_text()
    comparison = read(path)
    worse = replace(comparison.candidate, audit=False)
    try:
        again = type(comparison).of({**comparison.document, "candidate": worse.document})
        write_document(path, again.document)
        for check, ok in (("no_regression", False), ("audited", False), ("replay", True)):
            assert CHECKS[check].evaluated(closing(done, "popt1")).ok is ok, check
        path.write_text(text.replace('"holds": true', '"holds": false'))
        with pytest.raises(IntegrityError, match="does not follow"):
            CHECKS["no_regression"].evaluated(closing(done, "popt1"))
    finally:
        path.write_text(text)
    assert not CHECKS["targets"].evaluated(closing(done, "popt0")).ok, "the queue has no budgets"
    without = replace(done.rows["popt5"], performance=replace(done.rows["popt5"].performance, lock=None))
    assert CHECKS["runtime_locked"].evaluated(closing(done, "popt5", without)).witness == "no runtime lock was written"
    lock = RuntimeLock.read(done.workspace.runtime_locks / f"{RUN}.popt1.json")
    other = replace(done.rows["popt5"].performance, runtime_id="0" * 64)
    assert lock.runtime_id in CHECKS["runtime_locked"].evaluated(
        closing(done, "popt5", replace(done.rows["popt5"], performance=other))
    ).witness  # fmt: skip


@pytest.mark.parametrize(
    ("phases", "first", "why"),
    [
        ({"a": measuring("lane"), "lane": {**END}}, "a", "no authority comes before it"),
        ({"a": measuring("b"), "b": comparing("c", "start")}, "a", "'c' is not a phase of kind performance"),
        ({"a": {**measuring("start"), "of": "a"}}, "a", "/of"),
        ({"a": measuring("b"), "b": {**comparing("a", "start"), "pack": PACK}}, "a", "/pack"),
        ({"a": measuring("b"), "b": {**comparing("a", "start"), "then": {"GO": {"next": "start"}}}}, "a", "NO_GO"),
        ({"a": {**measuring("start"), "done_when": ["pinned"]}}, "a", "pinned is a check of authority alone"),
        ({"start": start("end", mode="lock")}, "start", "/mode"),
    ],
)
def test_a_campaign_whose_performance_phases_cannot_be_played_is_refused(tmp_path, phases, first, why):
    document = {
        "id": "small", "title": "Small", "why": "A test.", "engine": "queue", "until": "Q1", "seeds": [1],
        "frozen": [], "first": first, "phases": {**phases, "start": phases.get("start", start("end")), "end": END},
    }  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises((LaneError, PolicyError)) as error:
        load_campaign(str(tmp_path / "c.json"))
    assert why in str(error.value)


@pytest.mark.plan("5.5.3")
def test_the_recorded_cycle_begins_with_the_performance_lane_and_its_decisions():
    document = read_json(shipped("campaigns", ".json")["segment_2b_recorded"])
    phases, seen = document["phases"], [document["first"]]
    while phases[seen[-1]]["kind"] == "performance":
        seen.append(phases[seen[-1]]["then"]["GO"]["next"])
    assert seen == ["popt0", "popt1", "popt2", "popt3", "popt4", "popt5", "p0"]
    decisions = [phases[name]["then"]["GO"]["decision"] for name in seen[:-1]]
    assert decisions == ["GO_POPT1", *["CLOSED"] * 4, "GO_P0"]
    assert [phases[name].get("state") for name in seen[1:5]] == ["S5", "S4", "S3", None]
    assert {"ranked", "targets", "pruned"} <= {*phases["popt0"]["done_when"]}
    for name in seen[1:5]:
        assert {"replay", "audited", "no_regression", "measured"} <= {*phases[name]["done_when"]}
    assert {"runtime_locked", "no_regression", "pruned"} <= {*phases["popt5"]["done_when"]}
    rows = {row["phase"]: row for row in document["record"]["rows"]}
    assert rows["popt1"]["seconds"] == {"before": 30.477, "after": 5.92}
    assert rows["popt4"]["seconds"] == {"before": 76.375, "after": 15.642}
