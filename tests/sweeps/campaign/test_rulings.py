"""Where a campaign waits for a person: questions, waivers, and checklists that do not hold; nothing goes on unasked."""

import json

import pytest
from conftest import ROOT
from lanes import refused
from small import END, campaign, lane, lane_file, played, question, start

from lanelock.policies import IntegrityError
from lanelock.policies.documents import read_json
from lanelock.sweeps.campaign.checks import CHECKS, Closing
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.workspace import Workspace

ANSWER = {"is": "no", "who": "the owner", "why": "as was decided"}
RED = {"done_when": ["decided", "runtime"]}  # the queue's gates have no profile that says how long it may take


@pytest.fixture
def place(tmp_path):
    return Workspace.at(tmp_path / "ws")


def asking(folder, **more):
    more = {"yes": "more", "done_when": ["answered"]} | more
    return campaign(folder, start=start("ask"), ask=question(**more), more=grading())


def grading(go="end", no_go="end", **more):
    then = {"GO": {"next": go}, "NO_GO": {"next": no_go}}
    return {"kind": "certify", "title": "Grade", "seeds": [1, 2], "accept_band": "B", "then": then} | more


def phases(standing):
    return [row.phase for row in standing.records]


@pytest.mark.plan("P1L.10")
def test_it_stops_with_the_question_its_evidence_and_its_consequences(tmp_path, place, here):
    standing = played(asking(tmp_path), place)
    waiting = standing.waiting
    assert phases(standing) == ["start"] and waiting.asks == "May it be?"
    assert [row.phase for row in waiting.findings] == ["start"] and "as it stands FAIL" in waiting.findings[0].reason
    assert waiting.consequences == {"yes": "It is.", "no": "It is not."}
    code, out, _ = here("campaign", tmp_path / "small.json", "--resume", "--quiet", workspace=place.root)
    assert code == 1 and out == ""
    code, out, _ = here("campaign", tmp_path / "small.json", "--resume", workspace=place.root)
    assert code == 1 and "lanelock campaign answer small-1 yes|no --why TEXT" in out
    assert all(text in out for text in ("May it be?", "yes: It is.", "no: It is not.", "start: GO_ASK"))
    code, out, _ = here("campaign", tmp_path / "small.json", "--resume", "--json", workspace=place.root)
    assert json.loads(out)["status"] == "WAITING" and json.loads(out)["waiting"]["asks"] == "May it be?"


@pytest.mark.plan("P1L.11", "P1L.12")
@pytest.mark.parametrize(("word", "order"), [("no", ["start", "ask", "end"]), ("yes", ["start", "ask", "more", "end"])])
def test_an_answer_says_who_when_and_why_and_goes_on(tmp_path, place, here, word, order):
    played(asking(tmp_path), place)
    call = ("campaign", "answer", "small-1", word, "--who", "Ada", "--why", "so it is")
    out = here(*call, "--json", workspace=place.root)[1]
    rows = {row["phase"]: row for row in json.loads(out)["phases"]}
    assert (
        [*rows] == order and rows["ask"]["outcome"] == word.upper() and rows["ask"]["decision"] == f"ASK_{word.upper()}"
    )
    ruling = rows["ask"]["answered"]["ruling"]
    assert (ruling["who"], ruling["why"], ruling["signed_by"]) == ("Ada", "so it is", None) and ruling["at"]
    assert rows["ask"]["checks"][0]["ok"] and "Ada" in rows["ask"]["checks"][0]["witness"]
    assert "May it be?" in (place.campaigns / "small-1" / "report.md").read_text()
    refused(here("campaign", "answer", "small-1", word, "--why", "again", workspace=place.root), "it has ended")


@pytest.mark.plan("P1L.10", "P1L.11")
def test_an_answer_given_beforehand_is_taken_and_marked(tmp_path, place, here):
    standing = played(asking(tmp_path, answer=ANSWER), place)
    assert phases(standing) == ["start", "ask", "end"] and standing.records[1].answered.ruling.beforehand
    assert "the owner, given beforehand: as was decided" in standing.records[1].reason


def test_what_does_not_wait_cannot_be_answered(tmp_path, place, here):
    plan = campaign(tmp_path, start=start("end", **RED))
    played(plan, place)
    call = ("campaign", "answer", "small-1", "no", "--why", "so")
    refused(here(*call, workspace=place.root), "no question waits", "start does not close: runtime does not hold")
    refused(here("campaign", "answer", "small-7", "no", "--why", "so", workspace=place.root), "no run of a campaign")
    refused(here("campaign", "waive", "small-1", "decided", "--why", "so", workspace=place.root), "runtime does")
    assert here("campaign", "answer", "small-1", "maybe", "--why", "so", workspace=place.root)[0] == 2


def test_an_answer_is_given_once_and_to_the_question_that_was_asked(tmp_path, place, here):
    played(asking(tmp_path), place)
    assert here("campaign", "answer", "small-1", "no", "--why", "so", workspace=place.root)[0] == 1
    folder = place.campaigns / "small-1"
    for path in (*folder.glob("0[12].*.json"), *place.freezes.iterdir()):
        path.unlink()  # killed before it went on
    call = ("campaign", "answer", "small-1", "yes", "--why", "otherwise")
    refused(here(*call, workspace=place.root), "decided already by", "never changed")
    document = read_json(tmp_path / "small.json")
    document["phases"]["ask"]["asks"] = "May it be otherwise?"
    (tmp_path / "small.json").write_text(json.dumps(document))
    refused(here(*call, workspace=place.root), "changed since small-1 began")


@pytest.mark.plan("P1L.11")
@pytest.mark.parametrize("field", ["answer", "who", "why", "at", "phase", "asks"])
def test_a_signed_answer_cannot_be_changed(tmp_path, place, here, field):
    SigningKey.make(tmp_path / "key.pem")
    played(asking(tmp_path), place)
    call = ("campaign", "answer", "small-1", "no", "--why", "so", "--key", tmp_path / "key.pem")
    assert here(*call, "--json", workspace=place.root)[0] == 1
    folder = place.campaigns / "small-1"
    public = read_json(folder / "01.ask.json")["answered"]["ruling"]["signed_by"]
    assert public == SigningKey.read(tmp_path / "key.pem").public
    for path in (*folder.glob("0[12].*.json"), *place.freezes.iterdir()):
        path.unlink()
    path = folder / "ruling.01.ask.json"
    path.write_text(json.dumps(read_json(path) | {field: {"answer": "yes", "phase": "more"}.get(field, "other")}))
    with pytest.raises(IntegrityError, match=r"ruling\.01\.ask\.json"):
        played(asking(tmp_path), place, resume=True)


def test_where_the_trust_asks_for_a_signature_nobody_answers_without_it(tmp_path, place, here):
    owner, other = (SigningKey.make(tmp_path / f"{name}.pem") for name in ("owner", "other"))
    keys = [{"name": "Ada", "public": owner.public, "roles": ["owner"]}]
    keys += [{"name": "Bob", "public": other.public, "roles": ["maker"]}]
    trust = {"format": "lanelock.trust/1", "keys": keys, "aliases": {}, "rulings": {"roles": ["owner"]}}
    played(asking(tmp_path), place)
    place.trust.write_text(json.dumps(trust))
    call = ("campaign", "answer", "small-1", "no", "--why", "so")
    for key in ((), ("--key", tmp_path / "other.pem")):
        code, out, err = here(*call, *key, workspace=place.root)
        assert code == 1 and "asks that an answer or a waiver be signed by owner" in out + err
    forged = {"format": "lanelock.ruling/1", "run": "small-1", "place": 1, "phase": "ask", "asks": "May it be?"}
    forged |= {"answer": "yes", "who": "The owner", "why": "by hand", "at": "2026-01-01T00:00:00+00:00"}
    path = place.campaigns / "small-1" / "ruling.01.ask.json"
    path.write_text(json.dumps(forged))
    with pytest.raises(IntegrityError, match="was not allowed"):
        played(asking(tmp_path), place, resume=True)
    path.unlink()
    assert here(*call, "--key", tmp_path / "owner.pem", workspace=place.root)[0] == 1, "it ends below the band"
    assert (place.campaigns / "small-1" / "02.end.json").exists()


@pytest.mark.plan("0.6", "P4.6")
def test_a_check_that_does_not_hold_stops_it_until_it_is_waived(tmp_path, place, here):
    plan = campaign(tmp_path, start=start("end", **RED))
    standing = played(plan, place)
    assert phases(standing) == ["start"] and "runtime does not hold" in standing.waiting.line
    assert phases(played(plan, place, resume=True)) == ["start"], "trying again does not help"
    call = ("campaign", "waive", "small-1", "runtime", "--who", "Ada", "--why", "a toy")
    document = json.loads(here(*call, "--json", workspace=place.root)[1])
    first, end = document["phases"]
    checked = {row["check"]: row for row in first["checks"]}
    assert checked["runtime"]["ok"] is False and checked["runtime"]["waiver"]["who"] == "Ada"
    assert checked["decided"] == {
        "check": "decided",
        "ok": True,
        "witness": "GO_END, so that end follows",
        "waiver": None,
    }
    assert len(end["waivers"]) == 1 and "start: runtime, by Ada" in end["waivers"][0]
    assert read_json(place.freezes / "small-1.json")["waivers"][0]["who"] == "Ada"
    assert "a toy" in (place.campaigns / "small-1" / "report.md").read_text()


def test_a_waiver_given_beforehand_counts_only_where_the_check_does_not_hold(tmp_path, place):
    waived = [{"check": name, "who": "the owner", "why": "a toy"} for name in RED["done_when"]]
    standing = played(campaign(tmp_path, start=start("end", **RED, waived=waived)), place)
    decided, runtime = standing.records[0].checks
    assert decided.waiver is None and runtime.waiver.beforehand and standing.records[-1].end is not None
    assert [text.partition(",")[0] for text in standing.records[-1].waivers] == ["start: runtime"]


@pytest.mark.plan("P4.6")
def test_a_phase_that_is_waived_as_a_whole_is_not_played_and_closes_fail_closed(tmp_path, place):
    graded = grading("start_again", done_when=["evidence"], skipped={"who": "the owner", "why": "no roster"})
    plan = campaign(tmp_path, start=start("grade"), grade=graded, start_again=lane(lane_file(tmp_path, "more")))
    standing = played(plan, place)
    grade = standing.records[1]
    assert phases(standing) == ["start", "grade", "end"] and grade.outcome == "WAIVED" and not grade.checks
    assert "given beforehand" in grade.reason and "no roster" in grade.reason and grade.decision == "NO_GO_START_AGAIN"
    assert standing.records[-1].waivers[0].startswith("grade as a whole, by the owner")


def test_what_was_mended_holds_when_it_is_resumed(tmp_path, place):
    plan = campaign(tmp_path, start=start("few"), few=lane(lane_file(tmp_path, "few"), done_when=["lock_pair"]))
    standing = played(plan, place)
    assert standing.records[-1].end is not None
    page = place.locks / standing.records[1].lock.replace(".json", ".md")
    text = page.read_text()
    folder = place.campaigns / "small-1"
    for path in (folder / "02.end.json", *place.freezes.iterdir(), page):
        path.unlink()
    row = read_json(folder / "01.few.json")
    row["checks"][0] |= {"ok": False, "witness": "it is missing"}
    (folder / "01.few.json").write_text(json.dumps(row))
    assert "lock_pair does not hold" in played(plan, place, resume=True).waiting.line
    page.write_text(text)
    assert played(plan, place, resume=True).records[-1].end is not None


@pytest.mark.parametrize("name", [*CHECKS])
def test_every_check_stands_in_the_documentation_as_it_says_itself(name):
    check = CHECKS[name]
    row = f"| `{name}` | {', '.join(check.kinds)} | {check.what} |"
    assert check.what.endswith(".") and row in (ROOT / "docs" / "campaigns.md").read_text().splitlines()


LOCKED = ["decided", "locked", "lock_pair", "replayed", "rails_hold", "gates_hold", "floors", "runtime", "pruned"]


@pytest.mark.plan("4.0.4", "P0.3", "P1.RO.5", "P1.7", "P2.5.2", "P3.6.2")
def test_a_lane_and_a_certification_close_with_every_witness(tmp_path, place):
    plan = campaign(
        tmp_path,
        start=start("few", done_when=["pinned"]),
        few=lane(lane_file(tmp_path, "few"), "grade", done_when=LOCKED),
        grade=grading(done_when=["decided", "evidence"]),
        end=END | {"done_when": ["frozen_lock"]},
    )
    standing = played(plan, place)
    assert standing.waiting is None and all(row.ok for record in standing.records for row in record.checks)
    few = {row.check: row.witness for row in standing.records[1].checks}
    assert standing.records[1].lock in few["locked"] and "0 differ" in few["replayed"]
    assert few["gates_hold"].startswith("wait, at_once hold B") and "q1/servers 8.000000 ->" in few["floors"]
    pin = standing.records[0].pinned[1]
    assert pin.run_id[:12] in standing.records[0].checks[0].witness and set(pin.seconds) == {"Q1"}


def test_a_lost_lock_or_a_changed_one_is_seen(tmp_path, place):
    plan = campaign(tmp_path, start=start("few"), few=lane(lane_file(tmp_path, "few"), done_when=["locked", "floors"]))
    lost = played(plan, place).records[1]
    (place.locks / lost.lock).unlink()
    closing = Closing("small-1", lost, plan.phases["few"].document, plan.document, plan.gates, place)
    assert not CHECKS["locked"].evaluated(closing).ok
    assert CHECKS["floors"].evaluated(closing).ok
