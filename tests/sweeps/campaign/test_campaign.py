"""Campaigns: checked whole, played in causal order, branching as the file says, resumable after any kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from conftest import child_environment
from lanes import QUEUE

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.documents import read_json, shipped
from lanelock.sweeps.campaign.phases import freeze
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.campaign.records import End, Graded, PhaseRecord, Tried, records_in
from lanelock.sweeps.campaign.report import report, write_report
from lanelock.sweeps.decision.decision import Blocker
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.workspace import Workspace

VOLATILE = ("seconds", "lock", "runtime", "evidence", "pinned", "freeze")


def campaign_with(tmp_path, **changed):
    """The queue's campaign with fields replaced, by address `a__b__c`; a value of None drops the field."""
    document = read_json(QUEUE / "campaign.json")
    for phase in document["phases"].values():
        phase.update({key: str(QUEUE / phase[key]) for key in ("pack", "lane") if key in phase})
    for row in document["record"]["rows"]:
        row.update({"pack": str(QUEUE / row["pack"])} if "pack" in row else {})
    for address, value in changed.items():
        *parents, last = address.split("__")
        node = document
        for name in parents:
            node = node[name]
        if value is None:
            del node[last]
        else:
            node[last] = value
    path = tmp_path / "campaign.json"
    path.write_text(json.dumps(document))
    return load_campaign(str(path))


def steady(record):
    """A record's document less what a clock and the tracking database put in it."""
    text = {key: value for key, value in record.items() if key not in VOLATILE}
    if graded := text.get("certification"):
        text["certification"] = {key: value for key, value in graded.items() if key != "lock_id"}
    return {
        **text,
        "holder": record["holder"] and {key: record["holder"][key] for key in ("name", "digest", "policies")},
    }


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    workspace = Workspace.at(tmp_path_factory.mktemp("campaign") / "ws")
    return workspace, play_campaign(load_campaign(str(QUEUE / "campaign.json")), workspace)


@pytest.mark.plan("P2.0.4", "P1.RO.9", "P5.9")
def test_each_lane_starts_from_what_the_one_before_it_left(played):
    workspace, standing = played
    rows = {row.phase: row for row in standing.records}
    assert [row.phase for row in standing.records] == ["start", "short", "few", "steady", "grade", "end"]
    assert [row.outcome for row in standing.records] == ["GO", "GO", "REFUSED", "GO", "GO", "FROZEN"]
    held = {name: row.holder.pack for name, row in rows.items()}
    assert rows["short"].authority["digest"] == held["start"].digest
    assert held["few"].digest == held["short"].digest, "a refused lane passes on what it was given"
    assert rows["steady"].authority["digest"] == held["short"].digest
    kept = held["short"].policies["queue_policy_v1"]["servers"]
    assert held["steady"].policies["queue_policy_v1"]["servers"] == kept, "its knobs alone were moved"
    assert rows["steady"].trials == 12 and rows["few"].trials is None
    assert rows["end"].ending in ("FROZEN_CERTIFIED_B", "FROZEN_CERTIFIED_BPLUS")
    assert [row.carried for row in standing.records] == [
        *["candidate"] * 2,
        "authority",
        "candidate",
        "authority",
        "candidate",
    ]
    for name in ("short", "steady"):
        assert all(check.ok for check in verify_lock(find_lock(rows[name].tried.swept.sweep, workspace)))


def test_a_record_is_read_back_from_its_json_with_what_its_kind_has_and_nothing_else(played):
    workspace, standing = played
    assert tuple(records_in(workspace.campaigns / standing.run)) == standing.records
    common = {"phase", "kind", "title", "why", "authority", "outcome", "reason", "metrics", "changes", "carried",
              "holder", "next", "seconds", "decision"}  # fmt: skip
    refused = {"verdict", "lane", "knobs", "reach", "blockers"}
    more = {
        "start": {"verdict", "pinned"},
        "few": refused,
        "short": refused | {"sweep", "trials", "vetoes", "values", "best", "runtime", "lock"},
        "grade": {"verdict", "band", "certification", "evidence"},
        "end": {"status", "certified", "freeze"},
    }
    for path, record in zip(
        sorted((workspace.campaigns / standing.run).glob("0*.json")), standing.records, strict=True
    ):
        document = read_json(path)
        assert record.document == document and PhaseRecord.of(document) == record
        assert set(document) == common | more.get(record.phase, more["short"])


@pytest.mark.plan("P5.6")
def test_the_report_says_what_was_tried_measured_decided_and_why(played, tmp_path):
    _, standing = played
    page, web = write_report(standing, tmp_path)
    text, html = page.read_text(), web.read_text()
    for row in standing.records:
        assert row.title in text and row.reason[:80] in text
    assert "at least 6 servers are open" in text and "6" in text, "the bound stands beside the best found"
    assert "An earlier counter" in text and "Customers come at other moments." in text
    assert "start: its recorded policies, run here, come to wait" in text
    lines = [line for line in text.splitlines() if "| this campaign |" in line]
    assert any("| at best 6.000000 | REFUSED" in line for line in lines), "what is refused shows what forbids it"
    assert any(line.startswith("| Steady service | this campaign |") for line in lines), "what the record did not have"
    assert text.split("## Proof")[1].count("lanelock verify") == 3, "two locks and the evidence, each once"
    assert "<table>" in html and "http" not in html, "self-contained"
    assert text == as_markdown(report(standing))


@pytest.mark.plan("P5.4")
@pytest.mark.parametrize(
    ("changed", "order", "status"),
    [
        (
            {"phases__short__then__GO": {"next": "steady"}, "phases__steady__then__GO": {"next": "few"},
             "phases__few__then__GO": {"next": "grade"}, "phases__few__then__REFUSED": {"next": "grade"}},
            ["start", "short", "steady", "few", "grade", "end"], "FROZEN_CERTIFIED_B",
        ),
        ({"phases__grade__accept_band": "B+"}, ["start", "short", "few", "steady", "grade", "end"], "FROZEN"),
        ({"phases__few__anyway": True, "phases__few__then__NO_GO": {"next": "grade", "carry": "candidate"}},
         ["start", "short", "few", "grade", "end"], "FROZEN"),
        ({"frozen": ["Q1"], "phases__short__then__REFUSED": {"next": "few"}},
         ["start", "short", "few", "steady", "grade", "end"], "FROZEN_BEST_EFFORT_BELOW_B"),
    ],
)  # fmt: skip
def test_it_branches_as_the_file_says(tmp_path, changed, order, status):
    standing = play_campaign(campaign_with(tmp_path, **changed), Workspace.at(tmp_path / "ws"), track=False)
    assert [row.phase for row in standing.records] == order
    assert standing.records[-1].ending.startswith(status)


@pytest.mark.plan("1.8")
def test_what_is_frozen_is_refused_without_a_trial(tmp_path):
    standing = play_campaign(
        campaign_with(tmp_path, frozen=["Q1"], phases__short__then__REFUSED={"next": "few"}),
        Workspace.at(tmp_path / "ws"),
        track=False,
    )
    lanes = [row for row in standing.records if row.kind == "lane"]
    assert all(row.outcome == "REFUSED" and "keeps Q1 frozen" in row.reason for row in lanes)
    assert not (tmp_path / "ws" / "optuna.journal").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"phases__short__then__GO": {"next": "nowhere"}}, "/phases/short/then/GO: no phase 'nowhere'"),
        ({"phases__few__then__GO": {"next": "short"}}, "comes back to it: short -> few -> short; a branch of it"),
        ({"first": "short"}, "/first: 'short' is not a phase of kind authority"),
        ({"phases__start__then__GO": {"next": "few"}}, "/phases/short: no branch leads there"),
        ({"phases__short__lane": "no_such_lane"}, "/phases/short: no_such_lane"),
        ({"phases__short__lane": "p1"}, "p1 is a lane of engine segment_2b"),
        ({"phases__grade__accept_band": "A"}, "'A' is not one of B, B+"),
        ({"phases__start__until": "Q9"}, "/phases/start/until: 'Q9' is not a state of queue"),
        ({"record__rows": [{"phase": "x", "label": "x", "values": {}, "outcome": "x"}]}, "/record/rows: no phase 'x'"),
        ({"record__columns": {"q9/none": "n"}}, "/record/columns: 'q9/none' is not a metric"),
        ({"record__columns": {"q1/servers": "n"}}, "/record/rows/start: 'q1/wait_p90' is not one of its columns"),
        ({"frozen": ["1Z"]}, "/frozen: '1Z' is not a state of queue: Q1"),
    ],
)
def test_a_campaign_that_does_not_hold_together_is_refused(tmp_path, changed, said):
    with pytest.raises(LaneError) as refused:
        campaign_with(tmp_path, **changed)
    assert said in str(refused.value) and "campaign.json" in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"surprise": 1}, "/: unknown field surprise"),
        ({"phases__short__surprise": 1}, "/phases/short: unknown field surprise"),
        ({"phases__short__then__MAYBE": {"next": "end"}}, "/phases/short/then: unknown field MAYBE"),
        ({"phases__short__then__REFUSED": None}, "/phases/short/then: missing field REFUSED"),
        ({"phases__short__kind": "lanes"}, "/phases/short/kind: "),
        ({"phases__start__then__NO_GO": {"next": "short"}}, "/phases/start/then/NO_GO: does not belong here"),
        ({"phases__end__then": {"GO": {"next": "start"}}}, "/phases/end/then: does not belong here"),
        ({"phases__start__pack": None}, "/phases/start: missing field pack"),
        ({"phases__grade__lane": "x"}, "/phases/grade/lane: does not belong here"),
        ({"phases__grade__seeds": [1]}, "/phases/grade/seeds: [1] has fewer items than 2"),
        ({"phases__grade__seeds": [1, 1]}, "/phases/grade/seeds: [1, 1] has an item twice"),
        ({"phases__grade__seeds": [1, 2**32]}, "/phases/grade/seeds/1: 4294967296 is above the maximum"),
    ],
)
def test_fields_that_do_not_belong_are_named(tmp_path, changed, said):
    with pytest.raises(PolicyError) as refused:
        campaign_with(tmp_path, **changed)
    assert f"campaign.json: {said}" in str(refused.value)


RECORDED = """
p0         0         0         .067633    .120403  .928926  .4913    .5084    .256493
p1         .036163   .171117   .270633    -        -        -        -        -
p2         unchanged unchanged unchanged  pass     .972654  -        -        .125673
p2_r1      unchanged unchanged unchanged  pass     .972396  -        -        .126338
p3         unchanged unchanged unchanged  pass     .780000  .483037  .516963  .526908
p1_reopen  -         -         -          -        -        .483037  -        -
"""


@pytest.mark.parametrize("name", shipped("campaigns", ".json"))
def test_shipped_campaigns_carry_the_record_whole(name):
    record = load_campaign(name).document["record"]
    rows = {row["phase"]: row["values"] for row in record["rows"]}
    for line in RECORDED.split("\n")[1:-1]:
        phase, *cells = line.split()
        stated = {column: cell for column, cell in zip(record["columns"], cells, strict=True) if cell != "-"}
        assert rows[phase] == {key: cell if cell.isalpha() else float(cell) for key, cell in stated.items()}, phase
    assert rows["reopen_2a"] == {"s4/tail_share": "0.483845 / 0.481422"}
    assert record["rows"][-1]["outcome"] == "FROZEN_BEST_EFFORT_BELOW_B"


def test_a_single_seed_held_out_is_refused_where_the_gates_limit_the_spread(tmp_path):
    document = read_json(shipped("campaigns", ".json")["segment_2b"])
    document["phases"]["p4"]["holdout"] = 1
    (tmp_path / "campaign.json").write_text(json.dumps(document))
    with pytest.raises(LaneError, match="/phases/p4/holdout: 1 shows no variation over seeds"):
        load_campaign(str(tmp_path / "campaign.json"))


@pytest.mark.parametrize("name", shipped("campaigns", ".json"))
def test_shipped_campaigns_hold_together(name):
    campaign = load_campaign(name)
    assert campaign.id == name and {"p0", "p1", "p2", "p2_r1", "p3", "reopen_1b", "p4", "p5"} <= set(campaign.phases)
    lane = campaign.phases["reopen_1b"].lane
    assert (campaign.frozen_move(lane) is not None) == (name == "segment_2b_recorded")


def start(workspace, *arguments):
    command = [
        sys.executable,
        "-m",
        "lanelock",
        "campaign",
        str(QUEUE / "campaign.json"),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--workspace", str(workspace), *arguments], env=child_environment(), **pipes)


def seen(workspace):
    """Phases done and trials told: how far it is."""
    journal = workspace / "optuna.journal"
    trials = (
        journal.read_text().count('"op_code": 4') + journal.read_text().count('"op_code":4') if journal.exists() else 0
    )
    return len(list(workspace.glob("campaigns/counter-1/[0-9][0-9].*.json"))) + trials


def test_killed_at_any_moment_it_goes_on_where_it_was(played, tmp_path):
    """Between phases, within a sweep, twice in the same one."""
    for index, kill in enumerate((1, 12, 30)):
        with start(tmp_path, *(["--resume"] if index else [])) as process:
            while process.poll() is None and seen(tmp_path) < kill:
                time.sleep(0.002)
            assert process.poll() is None, process.communicate()
            os.kill(process.pid, signal.SIGKILL)
    with start(tmp_path, "--resume", "--json") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    said = json.loads(out)
    assert said["run"] == "counter-1" and said["status"] == played[1].records[-1].ending
    torn = [read_json(path) for path in sorted(tmp_path.glob("campaigns/counter-1/[0-9][0-9].*.json"))]
    assert [steady(row) for row in torn] == [steady(row.document) for row in played[1].records]


def test_a_phase_that_is_done_is_not_played_again(played):
    workspace, standing = played
    before = workspace.journal.read_bytes()
    again = play_campaign(standing.campaign, workspace, resume=True)
    assert again.records == standing.records and workspace.journal.read_bytes() == before


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense"])
@pytest.mark.parametrize("name", ["03.steady.json", "campaign.json"])
def test_a_damaged_record_is_seen_by_whoever_reads_it(played, tmp_path, here, name, text):
    for part in ("campaigns", "locks", "freezes"):
        shutil.copytree(played[0].root / part, tmp_path / part)
    (tmp_path / "campaigns" / "counter-1" / name).write_text(text)
    code, out, err = here("campaign", QUEUE / "campaign.json", "--resume", "--quiet", workspace=tmp_path)
    assert code == 3 and out == "" and err.count("\n") == 1 and "not a whole record" in err and name in err
    assert here("status", workspace=tmp_path)[0] == 0, "what only looks goes on looking"
    assert here("prune", workspace=tmp_path)[0] == (3 if name != "campaign.json" else 0)


def test_nothing_to_resume_or_another_campaign_is_said(played, tmp_path):
    with pytest.raises(LaneError, match="--resume: no run of it is in this workspace"):
        play_campaign(campaign_with(tmp_path), Workspace.at(tmp_path / "ws"), resume=True)
    with pytest.raises(LaneError, match="changed since counter-1 began"):
        play_campaign(campaign_with(tmp_path, seeds=[1, 2]), played[0], resume=True)


@pytest.mark.plan("P5.4")
def test_a_freeze_is_certified_or_names_every_floor():
    blocker = Blocker("g", "m", "B", 0.5, 0.3, 1, 0.4, "x >= 0.4", "1B")
    common = dict.fromkeys(("title", "why", "authority", "carried", "holder", "next"))
    row = partial(PhaseRecord, phase="p", kind="k", seconds=1.0, changes=(), outcome="NO_GO", **common)
    lane = row(reason="", tried=Tried(lane={}, knobs={}, blockers=(blocker,)))
    failed = row(reason="g: 0.5 against 0.3 on seed 1", graded=Graded(None, {"seeds": [1]}, "e"))
    end, why = freeze([lane, lane, failed], ("B", "B+"))
    assert end == End("FROZEN_BEST_EFFORT_BELOW_B", False)
    assert why == "g: 0.5 against 0.3 on seed 1; g is out of reach, x >= 0.4; movable by 1B"
    passed = row(reason="all hold", graded=Graded("B+", {"seeds": [1, 2]}, "e"))
    assert freeze([failed, passed], ("B", "B+"))[0] == End("FROZEN_CERTIFIED_BPLUS", True)
    witnessed = row(phase="w", reason="all hold", graded=Graded("B+", {"seeds": [1]}, "e"))
    assert freeze([passed, witnessed], ("B", "B+"), {"w"})[0].certified
    assert freeze([failed, witnessed], ("B", "B+"), {"w"})[0] == End("FROZEN_BEST_EFFORT_BELOW_B", False)


RECORDED_DECISIONS = [
    "GO_P1", "GO_P2", "NO_GO_P3", "NO_GO_P3", "NO_GO_P4", "NO_GO_P1_REOPEN_S1_ONLY", "NO_GO_P1_REOPEN_2A_ONLY",
    "NO_GO_P1_REOPEN_1B_ONLY", "NO_GO_P1_LOCAL_RECOVERY", "ALLOW_SYNTHETIC_LOCAL_GROUPS_NO",
    "NO_GO_P1_REOPEN_2A_R2", "NO_GO_P1_REOPEN_2A_FINAL", "P4_CLOSED_INTO_P5", "FROZEN_BEST_EFFORT_BELOW_B",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "status", "refused"),
    [
        ("segment_2b_recorded", "FROZEN_BEST_EFFORT_BELOW_B", ["reopen_1b", "p1_local"]),
        ("segment_2b", "FROZEN_CERTIFIED_BPLUS", ["p3", "p1_reopen", "reopen_2a"]),
    ],
)
def test_the_campaigns_of_segment_2b_end_as_they_must(lanelock, name, status, refused):
    code, said, err = lanelock("campaign", name, "--json")
    assert said["status"] == status and code == (0 if "CERTIFIED" in status else 1) and err == ""
    rows = {row["phase"]: row for row in said["phases"]}
    assert [row["phase"] for row in said["phases"] if row["outcome"] == "REFUSED"] == refused
    assert all("trials" not in rows[phase] for phase in refused)
    assert rows["p2"]["outcome"] == "NO_GO" and "guard_entropy" in rows["p2"]["reason"]
    assert rows["p0"]["verdict"] == "INVALID_FOR_GRADING"
    assert "share(n_groups = 1)" in rows["p1_reopen"]["reason"]
    assert all(check["ok"] or check["waiver"] for row in said["phases"] for check in row.get("checks", ()))
    if name == "segment_2b":
        assert (
            rows["reopen_1b"]["outcome"] == rows["joint"]["outcome"] == "GO"
            and rows["reopen_1b"]["runtime"]["ratio"] <= 1.2
        )
        assert {row["metric"] for row in rows["p4"]["certification"]["graded"]["cv"]} == {
            "s1/residual",
            "s4/max_p_median",
            "s4/entropy_p50",
        }
    else:
        assert "598 of 1238 merchants" in said["reason"] and rows["p3"]["trials"] == 40
        assert [row["decision"] for row in said["phases"]] == RECORDED_DECISIONS
        assert rows["p2_r1"]["trials"] == rows["p1_reopen"]["trials"] == 1
        assert not any(rows[phase]["material"]["moved"] >= 0.01 for phase in ("p1_reopen", "reopen_2a", "reopen_2a_r2"))
        assert (
            rows["reopen_2a_final"]["material"]["moved"]
            >= 0.02
            < rows["reopen_2a_final"]["material"]["candidate"] - 0.35
        )
        assert "downstream skipped by gate" in rows["reopen_1b"]["reason"]
        assert rows["allow_synthetic_local_groups"]["answered"]["answer"] == "no" and rows["p4"]["outcome"] == "WAIVED"
        assert len(rows["p5"]["waivers"]) == 2
