"""A freeze: what it states is proved, what it forbids is refused until a reopen is recorded, and nobody forges it."""

import json
import shutil
from dataclasses import replace

import pytest
from lanes import QUEUE

from lanelock.engine.keep.receipts import text_of
from lanelock.policies import IntegrityError, LaneError, RefusedError
from lanelock.policies.documents import digest, read_json, shipped_schema, validate
from lanelock.sweeps.campaign.floors import floors_page
from lanelock.sweeps.campaign.frozen_proof import verify_freeze
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.campaign.report import write_report
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.proof.chosen import lock_trial
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.freeze_page import freeze_page
from lanelock.sweeps.proof.freezes import Freeze, freezes_in, frozen, hold_gates, reopen, reopened
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.proof.promotion import ALIASES, promote, rollback
from lanelock.sweeps.proof.signatures import sign, signed_by
from lanelock.sweeps.proof.trust import read_trust
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.retention import survey
from lanelock.sweeps.upkeep.status import status
from lanelock.sweeps.workspace import Workspace

RUN = "till-1"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A lane, its certification and a freeze that notes a risk and hands off."""
    folder = tmp_path_factory.mktemp("files")
    lane = read_json(QUEUE / "lane.json") | {"authority": str(QUEUE / "pack"), "budget": {"trials": 8, "seconds": 60}}
    (folder / "lane.json").write_text(json.dumps(lane))
    document = {
        "id": "till", "title": "A till", "why": "Small enough to be played often.", "engine": "queue", "until": "Q1",
        "seeds": [1, 2], "frozen": [], "floors": ["q1/wait_p90"], "first": "start",
        "phases": {
            "start": {
                "kind": "authority", "title": "Start", "pack": str(QUEUE / "pack"), "then": {"GO": {"next": "lane"}},
            },
            "lane": {
                "kind": "lane", "title": "Lane", "lane": str(folder / "lane.json"),
                "then": {name: {"next": "grade", "carry": "candidate"} for name in ("GO", "NO_GO", "REFUSED")},
            },
            "grade": {
                "kind": "certify", "title": "Grade", "seeds": [1, 2, 3], "holdout": 1, "accept_band": "B",
                "then": {"GO": {"next": "end"}, "NO_GO": {"next": "end"}},
            },
            "end": {
                "kind": "freeze", "title": "End", "risks": ["nobody looked at\nnights"], "handoff": "Look at nights.",
            },
        },
    }  # fmt: skip
    (folder / "campaign.json").write_text(json.dumps(document))
    return folder / "campaign.json"


@pytest.fixture(scope="module")
def made(campaign, tmp_path_factory):
    workspace = Workspace.at(tmp_path_factory.mktemp("freeze") / "ws")
    play_campaign(load_campaign(str(campaign)), workspace, track=False)
    return workspace


@pytest.fixture
def place(made, tmp_path):
    """A copy of the frozen workspace, in another place."""
    shutil.copytree(made.root, tmp_path / "moved", symlinks=True)
    return Workspace(tmp_path / "moved", None)


def file_of(place):
    return place.freezes / f"{RUN}.json"


def lock_of(place):
    return find_lock(f"{RUN}.lane", place)


@pytest.mark.plan("P5.1", "P5.3")
def test_a_freeze_states_what_stands_and_what_remains_and_is_proved_where_the_workspace_was_moved(place, made):
    freeze = Freeze.read(file_of(place))
    assert freeze.certified and freeze.lock["lock_id"] == read_json(lock_of(place))["lock_id"]
    assert (
        set(freeze.aliases)
        == {row["alias"] for row in freeze.asked if not row["refused"]}
        == {alias for alias, move in holders(place).items() if move.to.lock_id == freeze.lock["lock_id"]}
    )
    assert {"candidate", "authority"} <= set(freeze.aliases)
    refused = {row["alias"]: row["refused"] for row in freeze.asked if row["refused"]}
    assert "certified" in refused and "held-out seeds" in refused["certified"], "one is not two"
    kinds = [row["kind"] for row in freeze.risks]
    assert {"margin", "alias", "not proved", "noted"} == set(kinds) and freeze.handoff == "Look at nights."
    assert [row["file"] for row in freeze.phases] == ["00.start.json", "01.lane.json", "02.grade.json"]
    assert read_json(place.campaigns / RUN / "03.end.json")["freeze"] == freeze.freeze_id
    page = file_of(place).with_suffix(".md").read_text()
    assert page == as_markdown(freeze_page(freeze)) and "- noted: nobody looked at nights" in page
    assert str(made.root) not in file_of(place).read_text() + page, "no path of a machine is in it"
    assert Freeze.of(freeze.document, "") == freeze
    found = verify_freeze(file_of(place), place)
    assert found.ok and any(row.startswith("evidence: ") for row in found.proved)
    assert any(row.startswith("frozen at ") for row in found.not_proved)


@pytest.mark.plan("P5.8")
def test_what_would_change_it_is_refused_and_the_rest_goes_on(place, campaign, here):
    lane, lock = load_lane(str(campaign.parent / "lane.json")), lock_of(place)
    for call in (
        lambda: play(lane, place, track=False),
        lambda: play(lane, place, track=False, resume=True),
        lambda: play_campaign(load_campaign(str(campaign)), place, track=False),
    ):
        with pytest.raises(
            RefusedError, match=r"queue is frozen by till-1 \(FROZEN_.*lanelock reopen queue --why TEXT"
        ):
            call()
    assert [path.name for path in place.campaigns.iterdir()] == [RUN], "no run is begun"
    before = holders(place)
    for alias in ALIASES:
        assert "is frozen by" in promote(lock, alias, place, force=True, why="hurry").refusals[0]
    assert lock_trial(f"{RUN}.lane", 0, "I like it", place).refusals[0].startswith("queue is frozen by")
    assert holders(place) == before
    assert certify_lock(lock, place, seeds=(1, 2), holdout=2).verdict.passed, "evidence may still be added"
    assert "nothing to roll back to" in rollback("candidate", place).refusals[0], "refused by its own rule alone"
    survey(place)
    assert status(place).frozen["queue"].startswith("by till-1 (FROZEN_CERTIFIED_")
    for call in (
        ("sweep", campaign.parent / "lane.json"),
        ("campaign", campaign),
        ("promote", lock.stem, "--to", "candidate"),
    ):
        code, out, err = here(*call, "--json", workspace=place.root)
        assert code == 1 and err == "" and "is frozen by" in json.dumps(json.loads(out)), call
    assert here("verify", RUN, workspace=place.root)[0] == 0


def test_a_finished_run_is_resumed_without_harm(place, campaign):
    was = file_of(place).read_bytes()
    standing = play_campaign(load_campaign(str(campaign)), place, resume=True, track=False)
    assert standing.records[-1].end.freeze == Freeze.read(file_of(place)).freeze_id
    assert file_of(place).read_bytes() == was


@pytest.mark.parametrize("lost", ["the record", "the record and the freeze", "all but the moves"])
def test_a_kill_at_the_freeze_loses_nothing(place, campaign, lost):
    freeze = Freeze.read(file_of(place))
    (place.campaigns / RUN / "03.end.json").unlink()
    if lost != "the record":
        file_of(place).unlink()
    if lost == "all but the moves":
        file_of(place).with_suffix(".md").unlink()
    standing = play_campaign(load_campaign(str(campaign)), place, resume=True, track=False)
    again = Freeze.read(file_of(place))
    assert standing.records[-1].end.freeze == again.freeze_id and verify_freeze(file_of(place), place).ok
    assert replace(again, at=freeze.at) == freeze, "the aliases were moved once"


def test_nothing_is_graded_by_another_gate_file_until_a_reopen(place, monkeypatch):
    gates = gates_of_engine("queue").document
    hold_gates(place, "queue", gates)
    changed = {**gates, "title": "laxer"}
    with pytest.raises(RefusedError, match="its gate file was changed since"):
        hold_gates(place, "queue", changed)
    hold_gates(place, "segment_2b", changed)
    reopen("queue", place, "laxer gates, reviewed")
    hold_gates(place, "queue", changed)


@pytest.mark.plan("P5.8")
def test_a_reopen_opens_the_engine_once_and_says_who_and_why(place, here):
    code, out, _ = here("reopen", "queue", "--why", "a second till", "--who", "Ada\x1b[2J", workspace=place.root)
    assert code == 0 and "a second till" in out and "\x1b" not in out
    assert frozen(place, "queue") is None
    (freeze,) = freezes_in(place)
    found = reopened(freeze, place)
    assert (found.why, found.who, found.freeze) == ("a second till", "Ada\x1b[2J", freeze.freeze_id)
    assert status(place).frozen["queue"].startswith("reopened at ") and verify_freeze(file_of(place), place).ok
    assert not any("is frozen" in row for row in promote(lock_of(place), "last-good", place).refusals)
    with pytest.raises(LaneError, match="not frozen"):
        reopen("queue", place, "again")
    code, _, err = here("reopen", "queue", "--why", "again", workspace=place.root)
    assert code == 2 and err.count("\n") == 1
    assert here("reopen", "queue", "--why", " ", workspace=place.root)[0] == 2


def test_trust_may_ask_that_a_reopen_be_signed(place, tmp_path, here):
    keys = {name: SigningKey.make(tmp_path / f"{name}.pem") for name in ("ada", "eve")}
    rows = [{"name": "ada", "public": keys["ada"].public, "roles": ["approver"]}]
    trust = {"format": "lanelock.trust/1", "keys": rows, "aliases": {}, "reopen": {"roles": ["approver"]}}
    place.trust.write_text(json.dumps(trust))
    for key in (None, keys["eve"]):
        made, refused = reopen("queue", place, "hurry", key=key)
        assert made == () and "be signed by approver" in refused
    assert here("reopen", "queue", "--why", "hurry", workspace=place.root)[0] == 1
    assert frozen(place, "queue") is not None and not list(place.reopens.glob("*"))
    (made,), _ = reopen("queue", place, "reviewed", key=keys["ada"])
    assert made.signed_by.name == "ada" and frozen(place, "queue") is None
    path = place.reopens / f"{RUN}.json"
    path.write_text(path.read_text().replace("reviewed", "whatever"))
    with pytest.raises(IntegrityError):
        frozen(place, "queue")
    body = {name: value for name, value in read_json(path).items() if name not in ("signed_by", "envelope")}
    path.write_text(text_of(body))
    with pytest.raises(IntegrityError, match="the reopen was not allowed"):
        frozen(place, "queue")


def test_a_reopen_of_another_freeze_opens_nothing(place):
    reopen("queue", place, "reviewed")
    path = place.reopens / f"{RUN}.json"
    path.write_text(json.dumps({**read_json(path), "freeze": "0" * 64}))
    with pytest.raises(IntegrityError, match="opens 0000"):
        frozen(place, "queue")


FORGED = {
    "lock": lambda row: {"lock": {**row["lock"], "lock_id": "0" * 64}},
    "another lock's file": lambda row: {"lock": {**row["lock"], "file": "other.json"}},
    "evidence": lambda row: {"evidence": {**row["evidence"], "index": "0" * 64}},
    "verdict": lambda row: {"evidence": {**row["evidence"], "verdict": "PASS_BPLUSPLUS"}},
    "no evidence": lambda row: {"evidence": None},
    "status": lambda row: {"status": "FROZEN_CERTIFIED_A"},
    "reason": lambda row: {"reason": "it holds everywhere"},
    "risks": lambda row: {"risks": row["risks"][1:]},
    "hand-off": lambda row: {"handoff": ""},
    "aliases": lambda row: {"aliases": {**row["aliases"], "certified": row["lock"]["lock_id"]}},
    "moves": lambda row: {"moves": None, "aliases": {}},
    "phases": lambda row: {"phases": row["phases"][:-1]},
    "engine": lambda row: {"engine": "tides"},
    "identity": lambda row: {"identity": "0" * 64},
    "code": lambda row: {"code_version": "0" * 64},
    "pack": lambda row: {"pack": {**row["pack"], "digest": "0" * 64}},
}


@pytest.mark.plan("P5.1")
@pytest.mark.parametrize("forgery", FORGED)
def test_a_forger_who_makes_every_id_good_is_found(place, forgery):
    """Edits the freeze, its id and the record that states the id; what it stands on is left as it is."""
    path, record = file_of(place), place.campaigns / RUN / "03.end.json"
    body = {name: value for name, value in read_json(path).items() if name != "freeze_id"}
    body |= FORGED[forgery](body)
    path.write_text(text_of({**body, "freeze_id": digest(body)}))
    if forgery != "engine":
        with pytest.raises(IntegrityError, match="/freeze_id"):
            frozen(place, "queue")
    record.write_text(text_of({**read_json(record), "freeze": digest(body)}))
    found = verify_freeze(path, place)
    assert not found.ok, [check for check in found if not check.ok]


def test_a_freeze_that_was_taken_away_is_missed_and_one_that_was_edited_is_refused(place, here):
    path, text = file_of(place), file_of(place).read_text()
    path.write_text(text.replace("Look at nights.", "Look at noons."))
    with pytest.raises(IntegrityError, match="/freeze_id"):
        frozen(place, "queue")
    path.unlink()
    with pytest.raises(IntegrityError, match="it was removed"):
        frozen(place, "queue")
    assert here("status", workspace=place.root)[0] == 3


def test_what_it_points_to_is_missed(place):
    shutil.rmtree(place.evidence)
    assert not verify_freeze(file_of(place), place).ok


def test_it_keeps_its_evidence_whatever_the_slots_say(place):
    evidence = Freeze.read(file_of(place)).evidence["folder"]
    slots = [{"slot": "mine", "keeps": ["rollback"], "why": "All that I ask for."}]
    place.retention.write_text(json.dumps({"format": "lanelock.retention/1", "slots": slots}))
    (kept,) = [item for item in survey(place).keep if item.name == evidence]
    assert (kept.slot, kept.why) == ("always", f"the freeze of {RUN} stands on it")


def test_floors_are_written_beside_the_report_as_json_and_markdown(place, campaign):
    standing = play_campaign(load_campaign(str(campaign)), place, resume=True, track=False)
    folder = place.campaigns / RUN
    write_report(standing, folder)
    document = read_json(folder / "floors.json")
    validate(document, shipped_schema("floors"), "")
    start, lane = document["phases"][:2]
    measured = {str(seed): row["q1/wait_p90"] for seed, row in standing.records[1].metrics.items()}
    assert lane["values"]["q1/wait_p90"] == measured and set(measured) == {"1", "2"}
    moved = {seed: value - start["values"]["q1/wait_p90"][seed] for seed, value in measured.items()}
    assert lane["moved"]["q1/wait_p90"] == moved and any(moved.values())
    page = (folder / "floors.md").read_text()
    assert page == as_markdown(floors_page(document)) and f"({moved['1']:+.6g})" in page
    assert verify_freeze(file_of(place), place).ok, "pages beside the records are no records"


def test_it_is_signed_as_a_lock_is(place, tmp_path, here):
    key = SigningKey.make(tmp_path / "ada.pem")
    rows = [{"name": "ada", "public": key.public, "roles": ["approver"]}]
    place.trust.write_text(json.dumps({"format": "lanelock.trust/1", "keys": rows, "aliases": {}}))
    code, out, err = here("sign", RUN, "--key", tmp_path / "ada.pem", workspace=place.root)
    assert code == 0 and "signed by ada (approver)" in out, err
    trust = read_trust(place.trust)
    assert [one.name for one in signed_by(file_of(place), trust)] == ["ada"] and not sign(file_of(place), key)
    assert len(freezes_in(place)) == 1, "an envelope beside it is no freeze"
