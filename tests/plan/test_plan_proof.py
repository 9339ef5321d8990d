"""What the plan asks of certifications and locks, on the queue, where a run costs milliseconds."""

from dataclasses import replace

import pytest
from lanes import QUEUE

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.grading import Examination
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def lock(tmp_path_factory):
    workspace = Workspace.at(tmp_path_factory.mktemp("plan"))
    return Lock.read(play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), workspace, track=False).lock)


@pytest.mark.plan("2.7")
def test_an_audit_that_fails_on_one_seed_leaves_no_grade(lock):
    examined = Examination.of(lock, None, "lock")
    proofs = {seed: examined.run(seed) for seed in SEEDS}
    assert examined.conclude(proofs, SEEDS, 0.95).verdict.passed
    proofs[2] = replace(proofs[2], audited=False)
    found = examined.conclude(proofs, SEEDS, 0.95)
    assert found.verdict == examined.gates.invalid and found.reason.endswith("audit fails on seeds 2")


@pytest.mark.plan("P1.6", "P3.3.3", "P3.6.1", "P2.4.6")
def test_a_lock_carries_packs_run_ids_and_numbers_of_both_sides_seed_by_seed(lock):
    assert set(lock.proof) == set(lock.authority_metrics) == set(SEEDS)
    for seed, proof in lock.proof.items():
        assert proof.run_id and proof.metrics.keys() == lock.authority_metrics[seed].keys()
        for row in proof.card["gates"]:
            assert row["thresholds"] and all(isinstance(held, bool) for held in row["passed"].values())
    assert set(lock.candidate_pack.policies) == set(lock.pack("lock").policies)
    assert lock.candidate_pack.digest == lock.pack("lock").digest
