"""The main job on the reference world: p3 closes NO_GO on its floor, the same search on a wider world closes GO."""

import json
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.scoring.figures.drawing import pngs
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.sweeps.pages.scorecard import html
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.reports.scorecards import lock_report

SEEDS = ("42", "7", "101", "202")
ARTIFACTS = ("s4_atom", "s4_rank", "s4_backed_groups", "s4_cliff")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, lanelock):
    """Both lanes with their own budgets, as `make sweep` plays them, in one workspace."""
    workspace = tmp_path_factory.mktemp("p3")
    said = {}
    for lane, code in (("p3", 1), ("p3_wide", 0)):
        found, said[lane], err = lanelock("sweep", lane, "--anyway", "--json", workspace=workspace)
        assert found == code, err
        assert err == "", "with --json nothing else is said"
    return workspace, said


@pytest.mark.plan("P3.4.6")
def test_p3_passes_all_it_can_and_names_the_floor_that_blocks_it(swept):
    workspace, said = swept
    closed = said["p3"]
    assert closed["decision"] == "NO_GO" and closed["verdict"] == "FAIL_REALISM" and closed["trials"]["number"] == 40
    assert [row["gate"] for row in closed["blockers"]] == ["s4_tail"]
    (floor,) = closed["blockers"]
    assert floor["movable_by"] == "2A, 1B" and "share(n_groups = 1)" in floor["proof"] and "s4_tail" in closed["reason"]
    for seed in SEEDS:
        found = closed["best"]["metrics"][seed]
        assert (
            found["s4/max_p_median"] <= 0.78
            and found["s4/entropy_p50"] >= 0.45
            and found["s4/multigroup_share"] >= 0.50
        )
        assert found["s4/tail_share"] == found["s4/single_group_share"] == pytest.approx(0.483, abs=0.005)
        assert floor["bound"] <= max(closed["best"]["metrics"][s]["s4/tail_share"] for s in SEEDS)
    lock = Lock.read(Path(closed["lock"]))
    assert (
        lock.candidate == "terminal" and lock.decision == "NO_GO" and Path(closed["lock"]).parent == workspace / "locks"
    )
    assert lock.lane_document["until"] == "S4" and {*lock.whole} == {*lock.seeds}, "the trials alone stop at S4"
    assert all(run.audit for run in lock.whole.values()) and len({run.bundle for run in lock.whole.values()}) == 4
    assert_no_artifact(lock)


def children_seconds():
    """Processor seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.plan("P1.RO.1")
def test_unasked_p3_is_refused_at_once_and_leaves_its_refusal_alone(lanelock, tmp_path):
    began = children_seconds()
    code, said, err = lanelock("sweep", "p3", "--json", workspace=tmp_path / "ws")
    assert code == 1 and err == ""
    assert children_seconds() - began < 8, "seconds of processor, start-up included: a loaded machine is no failure"
    assert said["decision"] == "NO_GO" and said["refused"] and said["trials"]["number"] == 0 and said["lock"] is None
    (blocker,) = said["blockers"]
    assert blocker["gate"] == "s4_tail" and blocker["bound"] == pytest.approx(598 / 1238)
    assert "598 of 1238 merchants have one group" in said["reason"] and blocker["movable_by"] == "2A, 1B"
    assert {path.name for path in (tmp_path / "ws").iterdir()} == {"artifacts", "locks", "outbox", "runs"}, "no study"
    assert not list((tmp_path / "ws" / "locks").iterdir())


@pytest.mark.plan("P3.4.5")
def test_on_a_wider_world_the_same_search_closes_go(swept):
    closed = swept[1]["p3_wide"]
    assert closed["decision"] == "GO" and closed["verdict"] in ("PASS_B", "PASS_BPLUS") and closed["blockers"] == []
    lock = Lock.read(Path(closed["lock"]))
    assert lock.candidate == "accepted" and all(not lock.proof[int(seed)].card["vetoed"] for seed in SEEDS)
    assert_no_artifact(lock)


def assert_no_artifact(lock):
    for seed in SEEDS:
        rows = {row["id"]: row for row in lock.proof[int(seed)].card["gates"]}
        assert all(all(rows[name]["passed"].values()) for name in ARTIFACTS)


@pytest.mark.plan("P1.6", "P3.6.1")
def test_the_lock_is_proved_again_from_itself_and_the_package(swept, lanelock, tmp_path):
    lock = swept[1]["p3_wide"]["lock"]
    code, said, _ = lanelock("lock", "verify", lock, "--json", workspace=tmp_path / "elsewhere")
    assert code == 0 and said["ok"] and said["checked"] > 4 * 7 and said["failed"] == []


@pytest.mark.parametrize(
    ("pointer", "value", "said"),
    [
        (("reason",), "because", "/lock_id"),
        (("proof", "7", "metrics", "s4/tail_share"), 0.1, "/lock_id"),
        (("surprise",), 1, "not a whole lock"),
    ],
)
def test_a_changed_lock_is_found(swept, lanelock, tmp_path, pointer, value, said):
    lock = read_json(Path(swept[1]["p3_wide"]["lock"]))
    node = lock
    for part in pointer[:-1]:
        node = node[part]
    node[pointer[-1]] = value
    path = tmp_path / "lock.json"
    path.write_text(json.dumps(lock))
    code, _, err = lanelock("lock", "verify", path)
    assert code == 3 and said in err and "Traceback" not in err


@pytest.mark.plan("P1.6", "P3.6.1")
def test_a_lie_under_a_right_id_is_found_by_running_again(swept, tmp_path):
    from lanelock.policies.documents import digest

    lock = read_json(Path(swept[1]["p3_wide"]["lock"]))
    lock["proof"]["101"]["metrics"]["s4/tail_share"] = 0.1
    del lock["lock_id"]
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({**lock, "lock_id": digest(lock)}))
    failed = [check.name for check in verify_lock(path) if not check.ok]
    assert "seed 101: metrics" in failed and "seed 42: metrics" not in failed


def test_a_scorecard_of_a_trial_says_what_the_gates_say(swept):
    import mlflow

    workspace, said = swept
    lock = Lock.read(Path(said["p3"]["lock"]))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    experiments = [row.experiment_id for row in client.search_experiments()]
    carrying = f"tags.`lanelock.lock` = '{lock.lock_id}' and tags.`lanelock.kind` = 'trial'"
    (run,) = client.search_runs(experiments, carrying)
    folder = client.download_artifacts(run.info.run_id, "")
    report = lock_report(lock, None)
    assert Path(folder, "scorecard.html").read_text(encoding="utf-8") == html(report), "drawn beside the sweep or here"
    pictures = {path.name: path.read_bytes() for path in Path(folder, "figures").iterdir()}
    assert len(pictures) == 10 and pictures == pngs(report.figures)
    card = read_json(Path(folder) / "scorecard.json")
    validate(card, shipped_schema("scorecard"), "scorecard.json")
    assert run.data.tags["lanelock.vetoed"] == "none" and run.data.tags["lanelock.pack"] == lock.candidate_pack.digest
    assert run.data.metrics["s4/entropy_p50"] == min(lock.proof[int(s)].metrics["s4/entropy_p50"] for s in SEEDS)
    assert run.data.metrics["s4/max_p_median"] == max(lock.proof[int(s)].metrics["s4/max_p_median"] for s in SEEDS)
    gates = load_gates("segment_2b")
    for seed in SEEDS:
        again = score(lock.proof[int(seed)].metrics, gates, seed=int(seed), authority=None)
        stated = {row["id"]: row for row in lock.proof[int(seed)].card["gates"]}
        for row in again.gates:
            if row.id in stated:
                assert stated[row.id]["passed"] == dict(row.passed) and stated[row.id]["margins"] == dict(row.margins)


def test_every_trial_is_recorded_once_with_one_value_a_metric(swept):
    with closing(sqlite3.connect(swept[0] / "mlflow.db")) as database:
        count = "SELECT COUNT(*) FROM (SELECT run_uuid, key FROM metrics GROUP BY run_uuid, key HAVING COUNT(*) > 1)"
        assert database.execute(count).fetchone() == (0,)
        trials = "SELECT COUNT(DISTINCT run_uuid), COUNT(*) FROM tags WHERE key = 'lanelock.trial'"
        expected = sum(said["trials"]["number"] for said in swept[1].values())
        assert database.execute(trials).fetchone() == (expected, expected)
