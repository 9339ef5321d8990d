"""Commands ask an engine for what it has: a publishing engine on no world, and one that only evaluates."""

import json
import os
import shutil

import pytest
from conftest import child_environment
from lanes import QUEUE, TESTS, refused

from lanelock.engine.keep.published import RECEIPT

TIDES = TESTS / "tides_engine"
PATH = os.pathsep.join([child_environment()["PYTHONPATH"], str(TIDES)])


@pytest.fixture
def third(lanelock, tmp_path):
    """The command where the third engine is installed beside the others."""
    return lambda *call: lanelock(*call, workspace=tmp_path / "w", PYTHONPATH=PATH)


@pytest.fixture
def published(third, tmp_path):
    code, made, err = third("run", "--pack", TIDES / "pack", "--seed", 5, "--publish", "--jsonl", "--score", "--json")
    assert code == 0, err
    return made


def test_a_run_is_published_exported_scored_verified_replayed_and_explained(third, published, tmp_path):
    run = published["run_id"]
    folder = tmp_path / "w" / "runs" / run
    assert published["published"] == str(folder) and (folder / "heights.parquet").is_file()
    lines = (tmp_path / "w" / "exports" / run / "heights.jsonl").read_text().splitlines()
    assert len(lines) == 7 * 48 and json.loads(lines[0])["gauge"] == 0
    for name in (run, folder):
        assert third("verify", name, "--json")[1] == {
            "ok": True,
            "checked": 3,
            "run": str(folder),
            "failed": [],
            "machine": "",
        }
        assert third("score", name, "--json")[1]["metrics"] == published["metrics"]
    assert third("replay", run, "--json")[1]["identical"]
    (state,) = third("explain", run, "--json")[1]["states"]
    assert state["name"] == "tides" and set(state["reads"]["policies"]) == {"tide_policy_v1"}


def test_a_run_is_reported_compared_and_weighed_for_pruning(third, published, tmp_path):
    run, page = published["run_id"], tmp_path / "page.html"
    said = third("report", run, "--html", page, "--json")[1]
    assert said["verdict"] == published["verdict"] and "names no baseline" in said["beside"] and page.is_file()
    steeper = tmp_path / "steeper"
    shutil.copytree(TIDES / "pack", steeper)
    policy = steeper / "tide_policy_v1.json"
    policy.write_text(policy.read_text().replace('"range_m": 4.0', '"range_m": 5.0'))
    compared = third("compare", run, steeper, "--json")[1]
    assert [(row["policy"], row["pointer"], row["state"]) for row in compared["policies"]] == [
        ("tide_policy_v1", "/range_m", "tides")
    ]
    assert {(row["kind"], row["name"]) for row in third("prune", "--json")[1]["remove"]} == {
        ("run", run), ("export", run),
    }  # fmt: skip


def test_a_changed_byte_is_named_and_a_receipt_that_names_no_engine_is_refused(third, published, tmp_path):
    folder = tmp_path / "w" / "runs" / published["run_id"]
    file = folder / "heights.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    code, said, err = third("verify", published["run_id"], "--json")
    assert code == 3 and [row["name"] for row in said["failed"]] == ["heights.parquet"] and err.count("\n") == 1
    refused(third("score", published["run_id"]), "heights.parquet", code=3)
    (folder / RECEIPT).unlink()
    refused(third("verify", published["run_id"]), RECEIPT, code=3)


def test_a_run_of_an_engine_that_is_not_installed_says_so(lanelock, published, tmp_path):
    for command in ("verify", "score", "replay", "report"):
        said = lanelock(command, published["run_id"], workspace=tmp_path / "w")
        refused(said, RECEIPT, "'tides' is not installed under lanelock.engines")


def test_a_run_in_shards_measures_what_the_whole_does(third, published):
    call = ("run", "--pack", TIDES / "pack", "--seed", 5, "--shard-size", 2, "--score", "--json")
    code, said, err = third(*call)
    assert code == 0 and said["shards"] == 4 and said["metrics"] == published["metrics"], err


def test_the_contract_is_that_of_the_engine_asked_for(third):
    code, said, _ = third("contract", "--engine", "tides", "--json")
    assert code == 0 and [row["surface"] for row in said["surfaces"]] == ["heights"]
    assert {row["state"] for row in third("contract", "--engine", "segment_2b", "--json")[1]["surfaces"]} > {"S1"}
    refused(third("contract"), "--engine: name one of segment_2b, tides")
    refused(third("contract", "--engine", "queue"), "engine queue lacks Declaring")
    refused(third("contract", "--engine", "none"), "'none' is not installed", "queue, segment_2b, tides")


def test_a_lane_without_a_last_state_or_bounds_is_swept_and_its_lock_proved(third):
    code, said, err = third("sweep", TIDES / "lane.json", "--json")
    assert code == 0 and said["decision"] == "GO" and said["trials"]["number"] == 6, err
    assert third("verify", said["lock"], "--json")[1]["ok"]
    promoted = third("promote", said["lock"], "--to", "candidate", "--json")
    assert promoted[0] == 0 and promoted[1]["model"] == "models:/tides@candidate" and promoted[1]["version"] == "1"
    gates = third("feasibility", TIDES / "lane.json", "--json")[1]["gates"]
    assert [row["bound"] for row in gates] == [None, None], "nothing is frozen, and nothing is proved"


def test_a_campaign_without_a_last_state_goes_to_the_engines_last(third, tmp_path):
    phases = {
        "start": {"kind": "authority", "title": "Start", "pack": str(TIDES / "pack"),
                  "then": {"GO": {"next": "grade"}}},
        "grade": {"kind": "certify", "title": "Grade", "seeds": [1, 2], "accept_band": "B",
                  "then": {"GO": {"next": "end"}, "NO_GO": {"next": "end"}}},
        "end": {"kind": "freeze", "title": "End"},
    }  # fmt: skip
    document = {"id": "coast", "title": "A coast", "why": "No last state is named.", "engine": "tides", "seeds": [1],
                "frozen": [], "first": "start", "phases": phases}  # fmt: skip
    path = tmp_path / "coast.json"
    path.write_text(json.dumps(document))
    code, said, err = third("campaign", path, "--json")
    assert code in (0, 1) and [row["phase"] for row in said["phases"]] == ["start", "grade", "end"], err
    start = said["phases"][0]
    assert start["outcome"] == "GO" and set(start["metrics"]["1"]) == {"tides/spread", "tides/high"}


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (("world", "show", "--pack", TIDES / "pack"), "Worlds"),
        (("world", "build", "--engine", "tides", "--pack", TIDES / "pack"), "Worlds"),
        (("world", "show", "--engine", "tides"), "--pack: required"),
        (("world", "show", "--engine", "tides", "--pack", "p1"), "pack p1 is of engine segment_2b"),
        (("run", "--pack", TIDES / "pack", "--seed", 1, "--world", TIDES), "takes no world: it uses no world"),
        (("run", "--pack", TIDES / "pack", "--seed", 1, "--feed", "tide=x.csv"), "Feeding"),
        (("run", "--pack", "p1", "--seed", 1, "--feed", "tide=x.csv"), "one of roster"),
        (("run", "--pack", QUEUE / "pack", "--seed", 1, "--publish"), "Publishing"),
        (("run", "--pack", QUEUE / "pack", "--seed", 1, "--jsonl"), "Exporting"),
        (("run", "--pack", QUEUE / "pack", "--seed", 1, "--jobs", 2), "Sharding"),
        (("policy", "diff", "p1", QUEUE / "pack"), "/engine: a pack of engine queue, not of segment_2b"),
        (("compare", "p1", QUEUE / "pack"), "compare subjects of one engine"),
    ],
)
def test_what_an_engine_lacks_is_said_in_one_line(third, call, part):
    refused(third(*call), part)


def test_an_engine_that_only_evaluates_is_run_scored_remembered_and_explained(third, tmp_path):
    code, made, err = third("run", "--pack", QUEUE / "pack", "--seed", 1, "--score", "--json")
    assert (
        code == 1
        and made["verdict"] == "FAIL"
        and made["states"][0]["name"] == "Q1"
        and set(made["digests"]) == {"waits"}
    ), err
    assert third("explain", made["run_id"], "--json")[1]["states"][0]["key"] == made["states"][0]["key"]
    assert not (tmp_path / "w" / "cache").exists(), "it keeps no states, and nobody made a place for them"


def test_a_pack_says_which_engine_it_is_for(third, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(QUEUE / "pack", mine)
    for text, said in (
        ('{"engine": "tides"}', ("queue_policy_v1.json", "not a policy of this engine (tide_policy_v1)")),
        ('{"engine": "nothing"}', ("pack.json: /engine: 'nothing' is not installed",)),
        ('{"engine": "queue", "engin": 1}', ("pack.json: /: unknown field engin",)),
        ("{}", ("pack.json: /: missing field engine",)),
    ):
        (mine / "pack.json").write_text(text)
        refused(third("policy", "validate", mine), *said)
    (mine / "pack.json").unlink()
    refused(third("policy", "validate", mine), "pack.json: missing; add it", '{"engine": "NAME"}')
