"""Certification of a lock: graded on seeds asked for and held out, kept so that anyone can verify it, and refused
where a byte or a number was changed."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import forged
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import QUEUE, edge_lock, refused, seal

from lanelock.engine.keep.receipts import digests, text_of
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import load_gates, parse_gates
from lanelock.sweeps.decision.confirmation import fresh_seeds
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof import evidence, grading
from lanelock.sweeps.proof.evidence import certify_lock, check_files, find_evidence, verify_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.weighing import evidence_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """(workspace, path of a lock) of the queue's lane, played."""
    workspace = Workspace.at(tmp_path_factory.mktemp("evidence"))
    return workspace, play(load_lane(str(QUEUE / "lane.json")), workspace, track=False).lock


@pytest.fixture(scope="module")
def certified(locked):
    workspace, lock = locked
    return certify_lock(lock, workspace, seeds=(1, 2, 3), holdout=4, jobs=2)


@pytest.fixture
def pack(certified, tmp_path):
    """A copy of the evidence, somewhere else: a third party has the folder and nothing more."""
    return Path(shutil.copytree(certified.folder, tmp_path / "pack"))


@pytest.fixture(scope="module")
def edge(locked, tmp_path_factory):
    """A lock whose candidate holds B on the seeds of its lane and on six held-out seeds, and fails on the seventh."""
    return edge_lock(locked[0])


def failed(folder):
    return [check.name for check in verify_evidence(folder) if not check.ok]


@pytest.mark.plan("P4.3")
def test_it_grades_seeds_asked_for_and_seeds_fresh_seeds(certified, locked):
    document = read_json(certified.folder / "certification.json")
    assert document == certified.document
    assert document["seeds"] == [1, 2, 3] and len(document["holdout_seeds"]) == 4
    assert document["verdict"] == str(certified.verdict) and certified.verdict.passed
    assert len(document["graded"]["cards"]) == 3 and len(document["holdout"]["cards"]) == 4
    assert {row["name"] for row in document["preconditions"]} >= {"policies", "audit", "lock on seed 1"}
    assert all(row["ok"] for row in document["preconditions"])
    assert find_evidence(certified.folder.name, locked[0]) == certified.folder
    gates = load_gates(str(QUEUE / "gates.json"))
    assert [row.folder for row in evidence_of(Lock.read(locked[1]), locked[0], gates)] == [certified.folder]


def test_seeds_held_out_are_none_that_were_used(locked):
    used = read_json(locked[1])["seeds"]
    fresh = fresh_seeds("a" * 64, 50, used)
    assert len({*fresh, *used}) == 50 + len(used) and fresh == fresh_seeds("a" * 64, 50, used)
    assert fresh != fresh_seeds("b" * 64, 50, used), "they follow from the candidate"
    assert fresh_seeds("a" * 64, 49, (*used, fresh[0])) == fresh[1:], "one that was used is passed over"


def test_certifying_again_writes_the_same_bytes(certified, locked, tmp_path):
    again = certify_lock(locked[1], locked[0], seeds=(1, 2, 3), holdout=4)
    assert again.folder == certified.folder
    other = certify_lock(locked[1], Workspace.at(tmp_path / "other"), seeds=(1, 2, 3), holdout=4)
    assert other.folder.name == certified.folder.name and digests(other.folder) == digests(certified.folder)


def test_a_third_party_proves_it_from_the_folder_alone(pack, lanelock, tmp_path):
    code, said, err = lanelock("verify", pack, "--json", workspace=tmp_path / "nothing here")
    assert (code, said["ok"], said["failed"], err) == (0, True, [], "")
    assert said["checked"] > 40


@given(data=st.data())
def test_no_byte_can_be_changed_unseen(certified, tmp_path_factory, data):
    folder = Path(shutil.copytree(certified.folder, tmp_path_factory.mktemp("bytes") / "pack"))
    path = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    held = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(held) - 1))
    held[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(held)
    assert not all(check.ok for check in verify_evidence(folder)), path
    with pytest.raises(IntegrityError):
        check_files(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"lock_id": "0"}'])
def test_a_folder_that_is_no_certification_stops_whoever_weighs_evidence(locked, tmp_path, text):
    workspace = Workspace.at(tmp_path)
    (workspace.evidence / "torn").mkdir(parents=True)
    (workspace.evidence / "torn" / "certification.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"not a whole certification: .*torn/certification\.json"):
        evidence_of(Lock.read(locked[1]), workspace, load_gates(str(QUEUE / "gates.json")))


def test_a_file_missing_or_added_is_seen(pack):
    (pack / "seeds" / "1.json").rename(pack / "seeds" / "9.json")
    assert failed(pack) == ["seeds/1.json", "seeds/9.json"]


def _linked(pack):
    (pack / "seeds" / "1.json").rename(pack.parent / "1.json")
    (pack / "seeds" / "1.json").symlink_to(pack.parent / "1.json")


def _linked_folder(pack):
    (pack / "seeds").rename(pack.parent / "seeds")
    (pack / "seeds").symlink_to(pack.parent / "seeds")


def _with_a_world(pack):
    (pack / "world").mkdir()
    (pack / "world" / "merchants.csv").write_text("merchant_id\n1\n")


ADDED = {
    "a file": lambda pack: (pack / "README.md").write_text("Certified by nobody."),
    "a hidden file": lambda pack: (pack / ".notes").write_text("x"),
    "another seed": lambda pack: shutil.copy(pack / "seeds" / "1.json", pack / "seeds" / "77.json"),
    "a folder": lambda pack: (pack / "more").mkdir(),
    "a pipe": lambda pack: os.mkfifo(pack / "seeds" / "pipe"),
    "a link": _linked,
    "a link in the place of a folder": _linked_folder,
    "a link to nothing": lambda pack: (pack / "gone").symlink_to("nowhere"),
    "a world, where worlds are drawn": _with_a_world,
    "a name that is no text": lambda pack: Path(os.fsdecode(os.fsencode(pack) + b"/\xff")).write_text("x"),
}


@pytest.mark.plan("P5.5")
@pytest.mark.parametrize("kind", ADDED)
def test_a_pack_is_a_closed_list_of_files_and_nothing_else(pack, kind, here, tmp_path):
    ADDED[kind](pack)
    if kind not in ("a pipe", "a link to nothing", "a name that is no text"):
        seal(pack)
    code, _, err = here("verify", pack, workspace=tmp_path / "ws")
    assert code == 3 and "Traceback" not in err and err.encode()
    with pytest.raises(IntegrityError):
        check_files(pack)


@pytest.mark.plan("P5.5")
@pytest.mark.parametrize(
    "name", ["lock.json", "gates.json", "certification.json", "report.md", "report.html", "seeds/2.json", "index.json"]
)
def test_every_file_of_the_list_must_be_there(pack, name):
    (pack / name).unlink()
    if name != "index.json":
        seal(pack)
    assert failed(pack)


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_an_edited_page_under_digests_made_good_is_found_by_setting_it_again(pack, name):
    text = (pack / name).read_text()
    (pack / name).write_text(text.replace("PASS_BPLUS: ", "PASS_PLATINUM: ", 1))
    assert (pack / name).read_text() != text
    seal(pack)
    assert failed(pack) == [f"{name}, written again"]


@pytest.mark.plan("P4.4")
@pytest.mark.parametrize(
    ("file", "address", "value"),
    [
        ("seeds/1.json", ("metrics", "q1/wait_p90"), 0.001),
        ("seeds/2.json", ("surfaces", "waits"), "0" * 64),
        ("certification.json", ("graded", "cards", 0, "metrics", "q1/wait_p90"), 0.001),
        ("certification.json", ("graded", "verdict"), "PASS_B"),
        ("certification.json", ("holdout_seeds",), [5, 6, 7, 8]),
        ("certification.json", ("preconditions",), []),
        ("certification.json", ("claim", "coverage"), 99),
        ("certification.json", ("claim", "confidence"), 99),
        ("certification.json", ("claim", "seeds"), 400),
        ("certification.json", ("claim", "of"), "worlds"),
        ("certification.json", ("claim",), None),
        ("certification.json", ("format",), "lanelock.evidence/1"),
        ("certification.json", ("sweep",), "another"),
        ("gates.json", ("gates", 0, "thresholds", "B+"), 0.9),
        ("gates.json", ("title",), "Waiting for nothing"),
        ("gates.json", ("promotion",), {"certified": {"holdout_seeds": 1}}),
    ],
)
def test_a_number_changed_under_digests_made_good_is_found_by_running_it_again(pack, file, address, value):
    document = read_json(pack / file)
    *parents, last = address
    node = document
    for name in parents:
        node = node[name]
    assert node.get(last, ...) != value if isinstance(node, dict) else node[last] != value
    node[last] = value
    if address == ("holdout_seeds",):
        for seed, old in zip(value, sorted(int(path.stem) for path in (pack / "seeds").glob("*"))[3:], strict=True):
            (pack / "seeds" / f"{old}.json").rename(pack / "seeds" / f"{seed}.json")
    (pack / file).write_text(text_of(document))
    seal(pack)
    check_files(pack)  # digests say nothing
    assert failed(pack)


def test_a_shorter_list_of_held_out_seeds_does_not_carry_the_claim_of_the_longer(pack):
    document = read_json(pack / "certification.json")
    last = document["holdout_seeds"].pop()
    document["holdout"]["seeds"].pop()
    document["holdout"]["cards"].pop()
    (pack / "seeds" / f"{last}.json").unlink()
    (pack / "certification.json").write_text(text_of(document))
    seal(pack)
    assert {"claim", "report.md, written again"} <= set(failed(pack))


def test_held_out_seeds_cannot_be_left_out_in_the_middle(pack):
    document = read_json(pack / "certification.json")
    first = document["holdout_seeds"].pop(0)
    (pack / "seeds" / f"{first}.json").unlink()
    (pack / "certification.json").write_text(text_of(document))
    seal(pack)
    assert failed(pack) == ["holdout seeds"]


def test_a_certification_of_no_seed_is_none(pack):
    document = read_json(pack / "certification.json") | {"seeds": [], "holdout_seeds": []}
    (pack / "certification.json").write_text(text_of(document))
    shutil.rmtree(pack / "seeds")
    seal(pack)
    with pytest.raises(IntegrityError, match="/seeds: \\[\\] has fewer items than 1"):
        check_files(pack)


def relaxed(document):
    """Gates that anything passes."""
    gates = [row | {"thresholds": {"B": 1e9, "B+": 1e9}} if row["id"] == "wait" else row for row in document["gates"]]
    return {**document, "gates": [row for row in gates if row["id"] != "at_once"]}


def test_evidence_made_under_gates_of_its_own_is_found_although_all_in_it_agrees(edge, tmp_path, monkeypatch):
    lax = parse_gates(relaxed(read_json(QUEUE / "gates.json")), "lax")
    with monkeypatch.context() as patched:
        patched.setattr(grading, "gates_of_engine", lambda name: lax)
        made = certify_lock(edge, Workspace.at(tmp_path / "ws"), holdout=8)
        assert made.verdict.name == "PASS_BPLUS" and not failed(made.folder), "all in it agrees"
    assert failed(made.folder)[0] == "gates"


def test_evidence_of_another_lock_under_this_locks_file_is_found(pack, edge):
    (pack / "lock.json").write_text(text_of(read_json(edge)))
    seal(pack)
    assert failed(pack)[0] == "lock"


def test_a_lock_of_drawn_worlds_is_not_graded_on_a_world_of_ones_choice(locked, tmp_path):
    with pytest.raises(PolicyError, match="leave out --world"):
        certify_lock(locked[1], Workspace.at(tmp_path / "ws"), world=tmp_path)


@pytest.mark.plan("P4.4")
@settings(max_examples=40)
@given(data=st.data())
def test_no_statement_can_be_changed_under_digests_made_good(certified, tmp_path_factory, data):
    """Any value of any document, replaced by another: found, and never by a traceback."""
    folder = Path(shutil.copytree(certified.folder, tmp_path_factory.mktemp("values") / "pack"))
    path = data.draw(st.sampled_from(sorted({*folder.rglob("*.json")} - {folder / "made_by.json"})))
    document = read_json(path)
    node, last, parent = document, None, None
    while isinstance(node, (dict, list)) and node:
        parent = node
        last = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node = node[last]
        if data.draw(st.integers(0, 3)) == 0:
            break
    value = data.draw(st.sampled_from([None, True, 0, -1, 1e300, 10**40, "", "\ud800", "../x", [], {}, [{}], "PASS_B"]))
    parent[last] = value
    if json.dumps(parent[last]) == json.dumps(node):
        return
    path.write_text(json.dumps(document))
    if path.name != "index.json":
        seal(folder)
    assert failed(folder), (path, last, value)


def test_it_says_what_is_not_proved(certified, here, tmp_path):
    code, out, _ = here("verify", certified.folder, "--json", workspace=tmp_path)
    said = json.loads(out)
    assert code == 0 and said["proved"] == [
        f"numbers recomputed on 3 seeds and 4 held out; verdict derived; {certified.claim}",
        "lock: numbers recomputed on 3 seeds; decision derived",
    ]
    by, others, *lock = said["not_proved"]
    assert by.startswith("made by ") and "no other certification" in others
    assert lock and all(row.startswith("lock: ") for row in lock)


def test_who_made_it_is_no_part_of_what_it_is(locked, certified, tmp_path, monkeypatch):
    other = replace(evidence.here(), user="somebody", platform="a machine")
    monkeypatch.setattr(evidence, "here", lambda: other)
    assert certify_lock(locked[1], locked[0], seeds=(1, 2, 3), holdout=4).folder == certified.folder
    again = certify_lock(locked[1], Workspace.at(tmp_path / "ws"), seeds=(1, 2, 3), holdout=4)
    assert again.folder.name == certified.folder.name
    found = verify_evidence(again.folder)
    assert found.ok and found.not_proved[0].startswith("made by somebody, ")
    made_by = read_json(again.folder / "made_by.json") | {"approved": True}
    (again.folder / "made_by.json").write_text(text_of(made_by))
    seal(again.folder)
    assert failed(again.folder) == ["certification.json"], "it may say what a maker is, and nothing more"


def test_a_claim_runs_as_many_seeds_as_it_needs_and_says_what_they_support(locked, here, tmp_path, certified):
    call = ("certify", locked[1], "--confidence", 90, "--coverage", "80", "--jobs", 2)
    code, out, _ = here(*call, "--json", workspace=tmp_path)
    said = json.loads(out)
    assert code == 0 and len(said["holdout_seeds"]) == 11, "0.8^11 is below 0.1, 0.8^10 is above"
    assert said["claim"] == {
        "confidence": 90, "coverage": 81.1, "band": "B+", "of": "runs", "seeds": 11, "failures": 0,
    }  # fmt: skip
    text = "with 90 % confidence at least 81.1 % of runs of this policy meet B+ (11 held-out seeds, none below)"
    assert text in (Path(said["evidence"]) / "report.md").read_text()
    assert text in (Path(said["evidence"]) / "report.html").read_text()
    assert f"  {text}\n" in here(*call, workspace=tmp_path)[1]
    assert certified.claim.seeds == 4 and certified.claim.coverage == 47.2, "four seeds support little, and say so"
    more = json.loads(here(*call, "--holdout-seeds", 12, "--json", workspace=tmp_path)[1])["claim"]
    assert more["seeds"] == 12 and more["coverage"] == 82.5, "more seeds than it needs support more"


def test_a_claim_ends_at_the_first_seed_that_fails_for_any_number_of_workers(edge, tmp_path, here):
    made = [certify_lock(edge, Workspace.at(tmp_path / str(jobs)), coverage=95, jobs=jobs) for jobs in (1, 3)]
    one, three = (digests(row.folder) for row in made)
    assert one == three and made[0].folder.name == made[1].folder.name
    document = made[0].document
    assert made[0].verdict.name == "FAIL" and made[0].claim is None and document["claim"] is None
    verdicts = [card["verdict"] for card in document["holdout"]["cards"]]
    assert verdicts == ["PASS_B"] * 6 + ["FAIL"], "and holds exactly the seeds up to the one that fails"
    assert failed(made[0].folder) == []
    code, out, _ = here("certify", edge, "--coverage", 95, "--json", workspace=tmp_path / "1")
    assert code == 1 and json.loads(out)["claim"] is None
    assert (
        certify_lock(edge, Workspace.at(tmp_path / "4"), holdout=8).document["holdout_seeds"][:7]
        == (document["holdout_seeds"])
    ), "without a claim every seed that was asked for is run"


@pytest.mark.parametrize("how", ["its pack fails", "its pack is not the lock's"])
def test_a_claim_of_a_candidate_that_fails_where_it_was_asked_runs_no_further_seed(locked, tmp_path, how):
    lock = read_json(locked[1])
    carried = {key: lock["authority"][key] for key in ("name", "digest", "policies")}
    authority = {**lock["authority"], "metrics": {"99": lock["authority"]["metrics"]["1"]}}
    fields = {
        "its pack fails": {
            "pack": carried, "seeds": [99], "authority": authority, "proof": {"99": lock["proof"]["1"]},
        },
        "its pack is not the lock's": {"pack": {**lock["pack"], "digest": "0" * 64}},
    }[how]  # fmt: skip
    poor = forged(locked[1], tmp_path, **fields)
    found = certify_lock(poor, Workspace.at(tmp_path / "ws"), seeds=(1, 2, 3), coverage=95)
    assert not found.verdict.passed and found.document["holdout_seeds"] == [] and found.claim is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--coverage", "99.99"), "99.99 is not in the range 50<=x<=99.9"),
        (("--coverage", "95.05"), "95.05 has more than one decimal"),
        (("--coverage", "nan"), "nan"),
        (("--confidence", "100", "--coverage", "95"), "100.0 is not in the range"),
        (("--confidence", "99.9", "--coverage", "99.9"), "needs 4097 held-out seeds or more, of 4096"),
        (("--holdout-seeds", "5000"), "5000 is not in the range"),
    ],
)
def test_a_claim_that_cannot_be_made_is_refused_before_any_run(locked, here, tmp_path, options, said):
    refused(here("certify", locked[1], *options, workspace=tmp_path / "ws"), said)


def test_a_failed_certification_is_kept_without_a_flag(edge, tmp_path, here):
    code, out, _ = here("certify", edge, "--holdout-seeds", 8, "--json", workspace=tmp_path / "ws")
    said = json.loads(out)
    assert code == 1 and said["verdict"] == "FAIL" and said["claim"] is None
    folder = Path(said["evidence"])
    assert not (folder / "_passed.flag").exists() and (folder / "index.json").exists()
    assert failed(folder) == [], "the evidence of a failure holds too"
    seal(folder)
    assert failed(folder) == ["_passed.flag"], "a flag on a failure is a forgery"


def test_the_lock_in_a_pack_is_verified_too(certified, tmp_path):
    """A lock that states another decision under an id made good, and a certification made of it."""
    lock = forged(certified.folder / "lock.json", tmp_path, decision="NO_GO", candidate="terminal")
    found = certify_lock(lock, Workspace.at(tmp_path / "ws"), seeds=(1, 2, 3), holdout=4)
    assert found.verdict.passed and failed(found.folder) == ["lock: decision", "lock: candidate"]


def test_policies_that_are_not_the_locks_are_no_grade(locked, tmp_path):
    lock = read_json(locked[1])
    other = {**lock["pack"], "policies": lock["authority"]["policies"]}
    found = certify_lock(forged(locked[1], tmp_path, pack=other), Workspace.at(tmp_path / "ws"), seeds=(1, 2))
    assert found.verdict.name == "INVALID" and found.verdict.band is None
    assert found.reason.startswith("policies: the pack digests to ") and "lock on seed 1" in found.reason


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("1,b", "--seeds: '1,b' is not a list of whole numbers"),
        ("", "--seeds: '' is not a list"),
        ("1,1", "--seeds: a seed is given twice"),
        ("-1", "--seeds: -1 is outside 0 … 4294967295"),
        ("4294967296", "is outside 0 … 4294967295"),
    ],
)
def test_seeds_that_are_none_are_refused(locked, tmp_path, lanelock, seeds, said):
    code, out, err = lanelock("certify", locked[1], f"--seeds={seeds}", workspace=tmp_path / "ws")
    assert code == 2 and out == "" and said in err and err.count("\n") == 1
    assert not list((tmp_path / "ws").glob("evidence/*"))


@pytest.mark.parametrize("asked", ["--holdout-seeds=1", "--seeds=1"])
def test_one_seed_shows_no_spread_and_is_refused_before_any_run(tmp_path, here, monkeypatch, asked):
    monkeypatch.setattr(grading.Examination, "run", lambda *given: pytest.fail("a seed was run"))
    code, out, err = here("certify", "segment_2b_certified", asked, workspace=tmp_path / "ws")
    assert code == 2 and out == "" and err.count("\n") == 1
    assert f"{asked.partition('=')[0]}: 1 given, at least 2 are needed" in err and "s4/max_p_median" in err


def test_a_lock_with_a_byte_changed_is_not_graded(locked, tmp_path, lanelock):
    path = tmp_path / "lock.json"
    path.write_text(locked[1].read_text().replace('"candidate": "accepted"', '"candidate": "terminal"'))
    code, _, err = lanelock("certify", path, workspace=tmp_path / "ws")
    assert code == 3 and "/lock_id" in err and err.count("\n") == 1
