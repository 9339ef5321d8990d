"""The locks that the package ships: promoted truth, which must hold by the package alone."""

import pytest
from machines import OLD_C_LIBRARY, old_numpy

from lanelock.policies.documents import shipped
from lanelock.sweeps.decision.confirmation import fresh_seeds
from lanelock.sweeps.proof.evidence import check_files, claim_in, verify_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.signatures import signed_by
from lanelock.sweeps.proof.trust import trust_for
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.workspace import Workspace

LOCKS = shipped("locks", ".json")
EVIDENCE = LOCKS["segment_2b_certified"].parents[1] / "evidence"  # in a checkout only


def test_both_campaigns_locks_are_shipped():
    assert set(LOCKS) == {"segment_2b_certified", "segment_2b_recorded"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_shipped_lock_is_proved_from_the_package_alone(name):
    checks = verify_lock(LOCKS[name])
    assert len(checks) > 30 and [check for check in checks if not check.ok] == []


def test_a_shipped_lock_is_proved_on_an_older_processor(lanelock):
    code, said, err = lanelock("verify", "segment_2b_recorded", "--json", **OLD_C_LIBRARY, **old_numpy())
    assert code == 0 and said["ok"] and said["checked"] > 30 and err == ""


@pytest.mark.parametrize("name", LOCKS)
def test_a_shipped_lock_is_signed_by_the_demonstration_key(name, tmp_path):
    trust = trust_for(LOCKS[name], Workspace(tmp_path))
    assert [str(key) for key in signed_by(LOCKS[name], trust)] == ["demonstration (maker)"]


def test_the_certified_lock_comes_with_its_claim():
    """Its files and the lock in it; running its 63 seeds again takes minutes, in the slow test below."""
    (folder,) = (path for path in EVIDENCE.iterdir() if path.is_dir())
    stated, lock = check_files(folder), Lock.read(LOCKS["segment_2b_certified"])
    assert (
        stated["lock_id"] == lock.lock_id and stated["verdict"] == "PASS_BPLUS" and stated["seeds"] == list(lock.seeds)
    )
    assert str(claim_in(stated)) == (
        "with 95 % confidence at least 95 % of worlds drawn from this policy meet B+ (59 held-out seeds, none below)"
    )
    (key,) = signed_by(folder, trust_for(LOCKS["segment_2b_certified"], Workspace(folder)))
    assert key.name == "demonstration"


@pytest.mark.slow
def test_the_shipped_claim_is_proved_again():
    (folder,) = (path for path in EVIDENCE.iterdir() if path.is_dir())
    findings = verify_evidence(folder)
    assert findings.ok and len(findings) > 300


def test_they_say_how_each_campaign_ended():
    certified, recorded = (Lock.read(LOCKS[f"segment_2b_{name}"]) for name in ("certified", "recorded"))
    assert certified.decision == "GO" and certified.lane_document["id"] == "joint"
    assert str(certified.card(certified.lane()).verdict) == certified.verdict == "PASS_BPLUS"
    assert recorded.decision == "NO_GO" and recorded.candidate == "terminal"
    floor = next(blocker for blocker in recorded.blockers if blocker.gate == "s4_tail")
    assert "598 of 1238 merchants have one group" in floor.proof and floor.movable_by == "2A, 1B"


def test_the_certified_lock_is_graded_on_whole_runs_and_on_seeds_nothing_was_tuned_to(lanelock, tmp_path):
    """Two of its own seeds and two held out, from a clone's point of view; all twenty in the slow test."""
    code, said, _ = lanelock(
        "certify", "segment_2b_certified", "--seeds", "42,7", "--holdout-seeds", "2", "--json", workspace=tmp_path
    )
    assert code == 0 and said["verdict"] == "PASS_BPLUS"
    lock = Lock.read(LOCKS["segment_2b_certified"])
    assert said["holdout"]["seeds"] == said["holdout_seeds"] == list(fresh_seeds(lock.candidate_pack.digest, 2, ()))
    assert said["claim"] == {
        "confidence": 95, "coverage": 22.3, "band": "B+", "of": "worlds", "seeds": 2, "failures": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_the_certified_lock_holds_on_its_four_seeds_and_sixteen_fresh_seeds(lanelock, tmp_path):
    code, said, _ = lanelock("certify", "segment_2b_certified", "--holdout-seeds", "16", "--json", workspace=tmp_path)
    assert code == 0 and said["verdict"] == "PASS_BPLUS" and len(said["holdout"]["cards"]) == 16
    assert all(not card["vetoed"] for half in ("graded", "holdout") for card in said[half]["cards"])
    code, verified, _ = lanelock("verify", said["evidence"], "--json", workspace=tmp_path)
    assert code == 0 and verified["ok"] and verified["checked"] > 100
    for alias in ("candidate", "authority", "last-good", "certified"):
        code, moved, _ = lanelock("promote", "segment_2b_certified", "--to", alias, "--json", workspace=tmp_path)
        assert code == 0 and moved["moved"] and moved["model"] == f"models:/segment-2b@{alias}"
