"""Certification of a lock: graded on seeds asked for and held out, kept so that anyone can verify it, and refused
where a byte or a number was changed."""

import shutil
from pathlib import Path

import pytest
from conftest import forged
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE

from lanelock.engine.keep.receipts import bundle, digests, text_of
from lanelock.policies import IntegrityError
from lanelock.policies.documents import read_json
from lanelock.sweeps.decision.confirmation import fresh_seeds
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.evidence import (
    certify_lock,
    check_files,
    evidence_of,
    find_evidence,
    verify_evidence,
)
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


def seal(folder):
    """Index and flag made good over whatever the folder holds now."""
    for name in ("index.json", "_passed.flag"):
        (folder / name).unlink(missing_ok=True)
    index, flag = bundle(digests(folder), lambda name: (folder / name).read_bytes())
    (folder / "index.json").write_text(text_of(index))
    (folder / "_passed.flag").write_text(flag)


def test_it_grades_seeds_asked_for_and_seeds_fresh_seeds(certified, locked):
    document = read_json(certified.folder / "certification.json")
    assert document == certified.document
    assert document["seeds"] == [1, 2, 3] and len(document["holdout_seeds"]) == 4
    assert document["verdict"] == str(certified.verdict) and certified.verdict.passed
    assert len(document["graded"]["cards"]) == 3 and len(document["holdout"]["cards"]) == 4
    assert {row["name"] for row in document["preconditions"]} >= {"policies", "audit", "lock on seed 1"}
    assert all(row["ok"] for row in document["preconditions"])
    assert find_evidence(certified.folder.name, locked[0]) == certified.folder
    assert [folder for folder, _ in evidence_of(document["lock_id"], locked[0])] == [certified.folder]


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
def test_what_is_no_certification_stops_whoever_weighs_evidence(locked, tmp_path, text):
    workspace = Workspace.at(tmp_path)
    (workspace.evidence / "torn").mkdir(parents=True)
    (workspace.evidence / "torn" / "certification.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"not a whole certification: .*torn/certification\.json"):
        evidence_of("0" * 64, workspace)


def test_a_file_missing_or_added_is_seen(pack):
    (pack / "seeds" / "1.json").rename(pack / "seeds" / "9.json")
    failed = [check.name for check in verify_evidence(pack) if not check.ok]
    assert failed == ["seeds/1.json", "seeds/9.json"]


@pytest.mark.parametrize(
    ("file", "address", "value"),
    [
        ("seeds/1.json", ("metrics", "q1/wait_p90"), 0.001),
        ("seeds/2.json", ("surfaces", "waits"), "0" * 64),
        ("certification.json", ("graded", "cards", 0, "metrics", "q1/wait_p90"), 0.001),
        ("certification.json", ("graded", "verdict"), "PASS_B"),
        ("certification.json", ("holdout_seeds",), [5, 6, 7, 8]),
        ("certification.json", ("preconditions",), []),
        ("gates.json", ("gates", 0, "thresholds", "B+"), 0.9),
    ],
)
def test_a_number_changed_under_digests_made_good_is_found_by_running_it_again(pack, file, address, value):
    document = read_json(pack / file)
    *parents, last = address
    node = document
    for name in parents:
        node = node[name]
    assert node[last] != value
    node[last] = value
    if address == ("holdout_seeds",):
        for seed, old in zip(value, sorted(int(path.stem) for path in (pack / "seeds").glob("*"))[3:], strict=True):
            (pack / "seeds" / f"{old}.json").rename(pack / "seeds" / f"{seed}.json")
    (pack / file).write_text(text_of(document))
    seal(pack)
    assert all(check.ok for check in [*verify_evidence(pack)][: len(digests(pack))]), "the digests alone say nothing"
    assert not all(check.ok for check in verify_evidence(pack))


def test_a_failed_certification_is_kept_without_a_flag(locked, tmp_path, lanelock):
    """The queue's authority has too few servers: its own pack as the candidate does not pass."""
    lock = read_json(locked[1])
    carried = {key: lock["authority"][key] for key in ("name", "digest", "policies")}
    poor = forged(locked[1], tmp_path, pack=carried, proof={"99": lock["proof"]["1"]})
    code, said, _ = lanelock("certify", poor, "--seeds", "1,2", "--json", workspace=tmp_path / "ws")
    assert code == 1 and said["verdict"] == "FAIL"
    folder = Path(said["evidence"])
    assert not (folder / "_passed.flag").exists() and (folder / "index.json").exists()
    assert all(check.ok for check in verify_evidence(folder)), "the evidence of a failure holds too"
    seal(folder)
    assert not all(check.ok for check in verify_evidence(folder)), "a flag on a failure is a forgery"


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
    monkeypatch.setattr("lanelock.sweeps.proof.evidence.prove", lambda *given: pytest.fail("a seed was run"))
    code, out, err = here("certify", "segment_2b_certified", asked, workspace=tmp_path / "ws")
    assert code == 2 and out == "" and err.count("\n") == 1
    assert f"{asked.partition('=')[0]}: 1 given, at least 2 are needed" in err and "s4/max_p_median" in err


def test_a_lock_with_a_byte_changed_is_not_graded(locked, tmp_path, lanelock):
    path = tmp_path / "lock.json"
    path.write_text(locked[1].read_text().replace('"candidate": "accepted"', '"candidate": "terminal"'))
    code, _, err = lanelock("certify", path, workspace=tmp_path / "ws")
    assert code == 3 and "/lock_id" in err and err.count("\n") == 1
