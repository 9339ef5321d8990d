"""Retention: what nothing refers to goes, what anything refers to never does, and a dry run touches nothing."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import QUEUE

from lanelock.engine.keep.receipts import digests
from lanelock.policies import IntegrityError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import PROMOTE, Standing, append, moves, new_move
from lanelock.sweeps.proof.promotion import promote, rollback
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.record.mlflow_store import SUPERSEDED, Store
from lanelock.sweeps.record.shelf import Shelf
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.retention import _series, apply, prune_before, survey
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two sweeps of the queue's lane and one campaign, recorded."""
    workspace = Workspace.at(tmp_path_factory.mktemp("retention") / "ws")
    lane = load_lane(str(QUEUE / "lane.json")).with_search(trials=40)  # enough for a front beside the locked one
    for _ in range(2):
        play(lane, workspace)
    play_campaign(load_campaign(str(QUEUE / "campaign.json")), workspace)
    return workspace


def removing(found):
    return {(item.kind, item.name) for item in found.remove}


def published(workspace, run_id, pack=""):
    """A folder as a published run has it."""
    folder = workspace.runs / run_id
    folder.mkdir(parents=True)
    (folder / "part.parquet").write_bytes(b"x" * 1000)
    return folder


def test_a_superseded_sweep_is_marked_and_its_artifacts_reclaimed_but_those_its_lock_refers_to(played):
    shelf = Shelf(played)
    recorded = {sweep.name: sweep for sweep in shelf.sweeps()}
    found = survey(played, recorded.values())
    assert ("trials", "queue-1") in removing(found) and ("trials", "queue-2") not in removing(found)
    kept = {item.name for item in found.keep if item.kind == "trials"}
    assert "queue-2" in kept and any(name.startswith("counter-1.") for name in kept)
    old, lock = recorded["queue-1"], Lock.read(find_lock("queue-1", played))
    before = sum(old.artifacts.values())
    summary = read_json(apply(found, played, lambda name, by: shelf.supersede(recorded[name], by)))
    assert summary["remove"] == found.as_document()["remove"]
    after = {sweep.name: sweep for sweep in shelf.sweeps()}["queue-1"]
    kept = old.locked
    assert len(kept) == 2 and kept == {
        run.info.run_id for run in Store(played).search("1", f"tags.`lanelock.lock` = '{lock.lock_id}'")
    }
    assert sum(old.artifacts[run] for run in kept) == sum(after.artifacts.values()), "the lock's own stay"
    freed = next(item.bytes for item in found.remove if item.name == "queue-1")
    assert before - sum(after.artifacts.values()) == freed
    client = Store(played).client
    for run in old.artifacts:
        data = client.get_run(run).data
        assert data.tags[SUPERSEDED] == "queue-2"
        assert run == old.parent or data.metrics, "metrics stay"
    again = survey(played, shelf.sweeps())
    assert ("trials", "queue-1") not in removing(again), "once is enough"
    assert all(check.ok for check in verify_lock(find_lock("queue-1", played)))


def test_a_dry_run_touches_nothing(played, lanelock):
    before = digests(played.root)
    code, said, err = lanelock("prune", "--json", workspace=played.root)
    assert code == 0 and said["applied"] is False and said["summary"] is None and err == ""
    changed = {name for name, was in digests(played.root).items() if before.get(name) != was}
    assert not {name for name in changed if not name.startswith((".", "mlflow.db"))}


@pytest.mark.plan("4.0.5")
def test_apply_frees_what_it_said_and_leaves_a_summary(tmp_path, lanelock):
    workspace = Workspace.at(tmp_path)
    loose = published(workspace, "0" * 32)
    (workspace.cache).mkdir()
    (workspace.cache / "state").write_bytes(b"y" * 500)
    code, said, _ = lanelock("prune", "--apply", "--json", workspace=tmp_path)
    assert code == 0 and said["bytes"] == 1500 and not loose.exists() and not workspace.cache.exists()
    assert read_json(Path(said["summary"]))["remove"] == said["remove"]
    code, text, _ = lanelock("prune", workspace=tmp_path)
    assert code == 0 and "would free 0 B of 0 things" in text


def test_one_that_was_interrupted_is_finished_by_the_next(tmp_path):
    workspace = Workspace.at(tmp_path)
    published(workspace, "0" * 32).rename(workspace.runs / (".pruned-" + "0" * 32))
    found = survey(workspace)
    assert found.remove == ()
    apply(found, workspace, lambda *given: None)
    assert list(workspace.runs.iterdir()) == []


def test_a_run_whose_receipt_does_not_hold_stays_and_a_changed_lock_stops_everything(played, tmp_path):
    workspace = Workspace.at(tmp_path)
    folder = published(workspace, "0" * 32)
    (folder / "run_receipt.json").write_text("{}")
    name = next(path.name for path in folder.iterdir() if path.suffix == ".json")
    from lanelock.engine.keep.published import RECEIPT

    (folder / name).rename(folder / RECEIPT)
    (kept,) = survey(workspace).keep
    assert kept.why.startswith("its receipt does not hold")
    path = shutil.copy(find_lock("queue-2", played), workspace.locks)
    Path(path).write_text(Path(path).read_text().replace('"candidate": "accepted"', '"candidate": "terminal"'))
    with pytest.raises(IntegrityError):
        survey(workspace)


@pytest.mark.plan("P5.2")
def test_what_a_name_stands_on_or_a_rollback_leads_to_stays_with_its_evidence(played, tmp_path):
    (tmp_path / "locks").symlink_to(played.locks)
    workspace = Workspace.at(tmp_path)
    old, new = find_lock("queue-1", workspace), find_lock("queue-2", workspace)
    first = certify_lock(old, workspace, seeds=(1, 2)).folder.name
    assert ("evidence", first) in removing(survey(workspace)), "its lane was played again, and no alias points to it"
    promote(old, "candidate", workspace)
    assert ("evidence", first) not in removing(survey(workspace))
    promote(new, "candidate", workspace, force=True, why="newer")
    assert ("evidence", first) not in removing(survey(workspace)), "a rollback would lead to it"
    rollback("candidate", workspace)
    assert next(item.why for item in survey(workspace).keep if item.name == first) == "candidate points to it"
    apply(survey(workspace), workspace, lambda *given: None)
    assert (workspace.evidence / first).is_dir()


def test_a_run_in_another_layout_stays_with_what_refers_to_the_run(played, tmp_path):
    (tmp_path / "locks").symlink_to(played.locks)
    workspace = Workspace.at(tmp_path)
    lock = find_lock("queue-1", workspace)
    promote(lock, "candidate", workspace)
    run_id = next(iter(Lock.read(lock).proof.values())).run_id
    for name in (f"{run_id}.record", f"{'0' * 32}.record"):
        (workspace.exports / name).mkdir(parents=True)
        (workspace.exports / name / "log.jsonl").write_text("{}")
    assert ("export", f"{'0' * 32}.record") in removing(survey(workspace))
    assert ("export", f"{run_id}.record") not in removing(survey(workspace))


@pytest.mark.parametrize(
    ("name", "series"),
    [("p3-2", "p3"), ("p3-12", "p3"), ("cycle-2.p3", "cycle.p3"), ("p2_r1-1", "p2_r1"), ("loose", "loose")],
)
def test_what_is_played_again_is_one_series(name, series):
    assert _series(name) == series


def invented(body, number, sweep):
    """A lock of another run of the same lane, its id made good; its runs and packs are its own."""
    proof = {seed: {**row, "run_id": digest([number, seed])[:32]} for seed, row in body["proof"].items()}
    pack = {**body["pack"], "digest": digest([number, "pack"])}
    made = {
        **{key: value for key, value in body.items() if key != "lock_id"},
        "sweep": sweep,
        "proof": proof,
        "pack": pack,
    }
    return {**made, "lock_id": digest(made)}


@pytest.mark.plan("4.0.3", "P5.7")
@settings(max_examples=40)
@given(
    sweeps=st.lists(st.sampled_from(["a-1", "a-2", "a-3", "b-1", "b-2"]), min_size=1, max_size=5, unique=True),
    steps=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["candidate", "certified"])), max_size=6),
    loose=st.integers(0, 3),
)
def test_nothing_that_is_referred_to_is_ever_removed(played, tmp_path_factory, sweeps, steps, loose):
    """Any history of moves over any locks: every run of every lock that an alias points to or may return to stays."""
    workspace = Workspace.at(tmp_path_factory.mktemp("any"))
    body = read_json(find_lock("queue-2", played))
    locks = [invented(body, number, sweep) for number, sweep in enumerate(sweeps)]
    for lock in locks:
        (workspace.locks / f"{lock['sweep']}.{lock['lock_id'][:12]}.json").write_text(json.dumps(lock))
        for proof in lock["proof"].values():
            published(workspace, proof["run_id"])
    for number in range(loose):
        published(workspace, digest(["loose", number])[:32])
    stood: dict[str, list] = {}
    for at, alias in steps:
        lock, history = locks[at % len(locks)], moves(workspace)
        to = Standing(lock["lock_id"], lock["sweep"], "queue", lock["pack"]["digest"], "PASS_B", None)
        assert append(workspace, new_move(history, workspace, PROMOTE, alias, to, forced=False, why=""))
        stood.setdefault(alias, []).append(lock)
    newest = {series: max(name for name in sweeps if _series(name) == series) for series in map(_series, sweeps)}
    referred = [lock for held in stood.values() for lock in held] + [
        lock for lock in locks if lock["sweep"] in newest.values()
    ]
    apply(survey(workspace), workspace, lambda *given: None)
    left = {path.name for path in workspace.runs.iterdir()}
    kept = {proof["run_id"] for lock in referred for proof in lock["proof"].values()}
    assert left == kept, "all that is referred to, and nothing else"
    assert len(list(workspace.locks.glob("*.json"))) == len(locks), "locks are never removed"


def slots(workspace, *rows):
    document = {
        "format": "lanelock.retention/1",
        "slots": [{"slot": name, "keeps": keeps, "why": "As asked."} for name, keeps in rows],
    }
    workspace.retention.write_text(json.dumps(document))


@pytest.mark.plan("4.0.2")
def test_what_is_kept_is_data_and_each_item_names_the_slot_that_keeps_it(played, tmp_path, lanelock):
    (tmp_path / "locks").symlink_to(played.locks)
    workspace = Workspace.at(tmp_path)
    promote(find_lock("queue-1", workspace), "candidate", workspace)
    folder = certify_lock(find_lock("queue-1", workspace), workspace, seeds=(1, 2)).folder.name
    (kept,) = [item for item in survey(workspace).keep if item.name == folder]
    assert (kept.slot, kept.why) == ("current candidate", "candidate points to it")
    code, text, _ = lanelock("prune", workspace=tmp_path)
    assert code == 0 and "kept as" in text and "current candidate" in text
    slots(workspace, ("what is served", ["certified"]), ("all sweeps", ["newest-sweep"]))
    assert ("evidence", folder) in removing(survey(workspace)), "no slot asks for it"
    slots(workspace, ("first", ["rollback"]), ("second", ["candidate"]), ("third", ["candidate"]))
    (kept,) = [item for item in survey(workspace).keep if item.name == folder]
    assert kept.slot == "second", "the first slot that names it"
    slots(workspace, ("first", ["whatever"]))
    code, _, err = lanelock("prune", workspace=tmp_path)
    assert code == 2 and "retention.json" in err and "whatever" in err and err.count("\n") == 1


def test_of_several_certifications_that_pass_the_one_that_counts_stays(played, tmp_path):
    (tmp_path / "locks").symlink_to(played.locks)
    workspace = Workspace.at(tmp_path)
    lock = find_lock("queue-2", workspace)
    few, more = (certify_lock(lock, workspace, seeds=(1, 2, 3), holdout=count).folder for count in (1, 3))
    verdicts = {read_json(folder / "certification.json")["verdict"] for folder in (few, more)}
    assert verdicts == {"PASS_BPLUS"}
    assert ("evidence", few.name) in removing(survey(workspace))
    assert ("evidence", more.name) not in removing(survey(workspace))
    to = Standing(read_json(lock)["lock_id"], "queue-2", "queue", "0" * 64, "PASS_BPLUS", few.name)
    assert append(workspace, new_move(moves(workspace), workspace, PROMOTE, "last-good", to, forced=False, why=""))
    assert ("evidence", few.name) not in removing(survey(workspace)), "the record of a move names it"


def test_pruning_before_a_run_is_a_step_with_a_summary_of_its_own(played, tmp_path):
    (tmp_path / "locks").symlink_to(played.locks)
    workspace = Workspace.at(tmp_path)
    lock = find_lock("queue-1", workspace)
    folder = certify_lock(lock, workspace, seeds=(1, 2)).folder
    loose = published(workspace, "0" * 32)
    first = prune_before(workspace, "shore-1.lane", keep=[lock.name], track=False)
    assert not loose.exists() and folder.is_dir(), "what is run next stands on it"
    summary = read_json(first)
    assert summary["before"] == "shore-1.lane" and [row["name"] for row in summary["remove"]] == ["0" * 32]
    second = prune_before(workspace, "shore-1.next", track=False)
    assert second != first and read_json(first) == summary and not folder.exists()
