"""An engine whose gate file has bands and verdict names of its own, driven through the command line to the end."""

import json
import shutil
from types import SimpleNamespace

import pytest
from conftest import ROOT
from lanes import QUEUE, lane_with

from lanelock.policies.documents import read_json
from lanelock.scoring.gates import parse_gates
from lanelock.sweeps.decision.decision import refusal
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.record.views import colour
from lanelock.sweeps.reports import study
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

ENGINE = """
from pathlib import Path
from queue_engine import QueueEngine, QueueMetrics

class Engine(QueueEngine):
    name = "metal"

class Metrics(QueueMetrics):
    name = "metal"
    gates_file = Path(__file__).parent / "gates.json"

ENGINE, METRICS = Engine(), Metrics()
"""
POINTS = "[lanelock.engines]\nmetal = metal:ENGINE\n[lanelock.metrics]\nmetal = metal:METRICS\n"
PHASES = {
    "start": {"kind": "authority", "title": "Start", "pack": "./pack", "until": "Q1",
              "then": {"GO": {"next": "short"}}},
    "short": {"kind": "lane", "title": "Short waits", "lane": "./lane.json",
              "then": {name: {"next": "grade"} for name in ("GO", "NO_GO", "REFUSED")}},
    "grade": {"kind": "certify", "title": "Grade", "seeds": [1, 2], "accept_band": "GOLD",
              "then": {name: {"next": "end"} for name in ("GO", "NO_GO")}},
    "end": {"kind": "freeze", "title": "End"},
}  # fmt: skip


def gates():
    """SILVER and GOLD, which the alphabet has the other way round, with a corridor among the gates."""
    document = read_json(QUEUE / "gates.json") | {"id": "metal", "bands": ["SILVER", "GOLD"]}
    wait, at_once, crowd = document["gates"]
    wait["thresholds"], at_once["thresholds"] = {"GOLD": 0.25, "SILVER": 1.0}, {"GOLD": 0.7, "SILVER": 0.5}
    few = {"id": "few", "metric": "q1/servers", "severity": "gate", "comparison": "within",
           "corridors": {"GOLD": [7, 19], "SILVER": [6, 20]}, "why": "Not too many servers, not too few."}  # fmt: skip
    names = {"invalid": "UNGRADED", "fail": "REJECTED", "pass": {"GOLD": "FLAWLESS"}}
    return {**document, "verdicts": names, "gates": [wait, at_once, crowd, few]}


@pytest.fixture(scope="module")
def metal(tmp_path_factory, lanelock):
    """(folder, call): the engine as one installs it, its lane and campaign; `call` is the command that finds it."""
    folder = tmp_path_factory.mktemp("metal")
    info = folder / "metal-0.1.dist-info"
    info.mkdir()
    lane = read_json(QUEUE / "lane.json") | {"id": "metal", "engine": "metal", "authority": "./pack"}
    lane["gates"]["grade"].append("few")
    lane["objectives"][0]["worst_margin"], lane["decision"]["accept_band"] = "GOLD", "SILVER"
    campaign = {"id": "metal", "title": "Metal", "why": "Bands of its own.", "engine": "metal", "until": "Q1",
                "seeds": [1, 2, 3], "frozen": [], "first": "start", "phases": PHASES}  # fmt: skip
    shutil.copytree(QUEUE / "pack", folder / "pack")
    (folder / "pack" / "pack.json").write_text('{"engine": "metal"}')
    files = {"metal.py": ENGINE, "gates.json": json.dumps(gates()), "lane.json": json.dumps(lane),
             "campaign.json": json.dumps(campaign), "metal-0.1.dist-info/entry_points.txt": POINTS,
             "metal-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: metal\nVersion: 0.1\n"}  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    path = ":".join(map(str, (ROOT / "src", folder, QUEUE)))

    def call(*arguments):
        return lanelock(*arguments, workspace=folder / "ws", PYTHONPATH=path)

    return folder, call


@pytest.fixture(scope="module")
def played(metal):
    """What the campaign said: a lane swept, its lock certified and frozen."""
    folder, call = metal
    code, said, err = call("campaign", folder / "campaign.json", "--json")
    assert code == 0, err
    return said


def test_a_campaign_ends_at_its_own_highest_band(metal, played):
    rows = {row["phase"]: row for row in played["phases"]}
    assert played["status"] == rows["end"]["status"] == "FROZEN_CERTIFIED_GOLD"
    assert rows["start"]["verdict"] == "REJECTED", "the counter starts with two servers"
    assert rows["grade"]["verdict"] == "FLAWLESS" and rows["grade"]["outcome"] == "GO"
    (report,) = (metal[0] / "ws" / "campaigns").glob("*/report.md")
    text = report.read_text()
    assert "| gate | kind |  | SILVER | GOLD | holds |" in text
    assert "| few | gate | within | 6 … 20 | 7 … 19 | GOLD |" in text


def test_its_lock_is_proved_shown_graded_and_promoted_under_its_own_names(metal, played):
    folder, call = metal
    name = f"{played['run']}.short"
    code, out, _ = call("verify", name)
    assert code == 0, out
    assert "accepted candidate, FLAWLESS" in call("lock", "show", name)[1]
    code, out, err = call("certify", name, "--seeds", "1,2,3", "--holdout-seeds", "2")
    assert code == 0 and out.startswith("FLAWLESS") and "seed 1: FLAWLESS" in err
    assert "with 95 % confidence at least 22.3 % of runs of this policy meet GOLD (2 held-out seeds" in out
    assert "margin SILVER   margin GOLD" in out
    assert call("reopen", "metal", "--why", "another look")[0] == 0, "the campaign froze it, and moved the aliases"
    code, out, _ = call("promote", name, "--to", "certified", "--force", "--why", "another look")
    assert "FLAWLESS" in out and "frozen" not in out
    (path,) = (folder / "ws" / "locks").glob(f"{name}.*.json")
    code, said, _ = call("report", path.stem, "--json")
    assert code == 0 and said["verdict"] == "FLAWLESS"


def test_a_refusal_names_the_verdict_that_is_needed(metal):
    """Graded again where GOLD asks what nobody reaches: a pass of SILVER alone."""
    folder, call = metal
    text = (folder / "gates.json").read_text()
    lane = read_json(folder / "lane.json") | {"id": "dull"}
    lane["knobs"]["servers"]["high"] = 19
    (folder / "dull.json").write_text(json.dumps(lane))
    document = gates()
    document["gates"][3]["corridors"]["GOLD"] = [20, 20]
    (folder / "gates.json").write_text(json.dumps(document))
    try:
        code, said, err = call("sweep", folder / "dull.json", "--trials", "8", "--json")
        assert (code, said["decision"], said["verdict"]) == (0, "GO", "PASS_SILVER"), err
        code, said, _ = call("certify", "dull-1", "--holdout-seeds", "2", "--json")
        assert (code, said["verdict"], said["graded"]["band"]) == (0, "PASS_SILVER", "SILVER")
        code, out, err = call("promote", "dull-1", "--to", "certified")
        assert code == 1 and "its certification says PASS_SILVER, FLAWLESS is needed" in out + err
        assert call("promote", "dull-1", "--to", "last-good")[0] == 0
    finally:
        (folder / "gates.json").write_text(text)


def test_bands_that_are_not_nested_end_the_command_in_one_line(metal):
    folder, call = metal
    lane = read_json(folder / "lane.json")
    document = gates()
    document["gates"][0]["thresholds"]["GOLD"] = 2.0
    (folder / "lax.json").write_text(json.dumps(document))
    lane["gates"]["file"] = "./lax.json"
    (folder / "lax_lane.json").write_text(json.dumps(lane))
    code, out, err = call("sweep", folder / "lax_lane.json")
    assert code == 2 and out == "" and err.count("\n") == 1
    assert f"{folder}/lax.json: /gates/wait: band GOLD asks <= 2, which passes where SILVER fails (<= 1)" in err


def test_a_run_has_a_colour_for_each_of_its_verdicts():
    file = parse_gates(gates(), "mine.json")
    hues = {str(verdict): colour(verdict, False, SimpleNamespace(gates=file), 0) for verdict in file.verdicts}
    assert len(set(hues.values())) == 4
    usual = parse_gates(read_json(QUEUE / "gates.json"), "queue")
    highest = colour(usual.of_band("B+"), False, SimpleNamespace(gates=usual), 0)
    assert hues["FLAWLESS"] == highest, "whatever the band is called"


def test_a_corridor_out_of_reach_is_refused_with_both_ends_and_stands_so_in_lock_and_study(tmp_path):
    document = read_json(QUEUE / "gates.json")
    document["gates"].append({
        "id": "few", "metric": "q1/servers", "severity": "gate", "comparison": "within",
        "corridors": {"B": [1, 4], "B+": [2, 3]}, "why": "Few servers."})  # fmt: skip
    (tmp_path / "gates.json").write_text(json.dumps(document))
    lane = lane_with(tmp_path, gates__file=str(tmp_path / "gates.json"), gates__grade=["wait", "crowd", "few"])
    reach = prospect(lane, None)
    refused = refusal(lane, reach)
    assert "few: at least 6 servers are open, against 1 … 4" in refused.reason
    assert [row.margins for row in reach if row.gate == "few"] == [{"B": -2.0, "B+": -3.0}]
    workspace = Workspace.at(tmp_path / "ws")
    closed = play(lane.with_search(trials=4), workspace, track=False)
    lock = Lock.read(closed.lock)
    (blocker,) = (row for row in lock.blockers if row.gate == "few")
    assert blocker.threshold == (1, 4) and lock.decision == "NO_GO" and lock.verdict == "FAIL"
    assert all(check.ok for check in verify_lock(closed.lock))
    page = study.html(study.closed(closed.sweep, workspace))
    assert "B\u00a0within\u00a01 … 4, B+\u00a0within\u00a02 … 3" in page and "few" in page
