"""Evidence of a lock whose world was imported: it carries the world's tables, and no other file."""

import shutil
from pathlib import Path

import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from lanes import seal
from worlds import tiny_world

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.evidence import certify_lock, verify_evidence
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """The candidate of a lane that was played on a tiny world, which a user wrote as CSV; it fails there."""
    folder = tmp_path_factory.mktemp("world")
    SEGMENT_2B.keep_world(tiny_world(), folder / "kept")
    (folder / "own").mkdir()
    for path in (folder / "kept").glob("*.parquet"):
        csv.write_csv(pq.read_table(path), folder / "own" / f"{path.stem}.csv")
    (folder / "own" / "notes.txt").write_text("Written by hand.")
    workspace = Workspace.at(folder / "ws")
    lock = play(load_lane("p3").with_search(trials=2), workspace, world=folder / "own", track=False).lock
    return certify_lock(lock, workspace, holdout=2, world=folder / "own")


def failed(folder):
    return [check.name for check in verify_evidence(folder) if not check.ok]


def test_the_world_is_carried_as_its_engine_writes_it_and_nothing_beside_it(certified):
    assert certified.verdict.name == "FAIL_REALISM" and failed(certified.folder) == []
    names = {path.name for path in (certified.folder / "world").iterdir()}
    assert {name for name in names if name.endswith(".parquet")} and not names & {"notes.txt", "merchants.csv"}
    assert "where the tables of its world came from" in verify_evidence(certified.folder).not_proved


def test_a_promoted_lock_takes_the_tables_of_its_world_and_nothing_that_a_link_leads_to(certified, tmp_path):
    """What is promoted is sent to MLflow: a world from a stranger could have brought a file of the user's along."""
    (tmp_path / "secret").write_text("private")
    world = Path(shutil.copytree(certified.folder / "world", tmp_path / "own"))
    (world / "notes.txt").symlink_to(tmp_path / "secret")
    place = Workspace.at(tmp_path / "ws")
    assert promote(certified.folder / "lock.json", "candidate", place, world=world).written
    (promoted,) = place.promoted.glob("*/world")
    assert {path.name for path in promoted.iterdir()} == {path.name for path in (certified.folder / "world").iterdir()}


def test_a_file_beside_the_tables_of_a_world_is_found(certified, tmp_path):
    pack = Path(shutil.copytree(certified.folder, tmp_path / "pack"))
    (pack / "world" / "notes.txt").write_text("A better world.")
    seal(pack, passed=False)
    assert failed(pack) == ["tables of its world"]


def test_a_world_exchanged_for_another_is_found(certified, tmp_path):
    pack = Path(shutil.copytree(certified.folder, tmp_path / "pack"))
    shutil.rmtree(pack / "world")
    SEGMENT_2B.keep_world(tiny_world(sites={1: {"Europe/London": 3}, 2: {"Asia/Tokyo": 6}}), pack / "world")
    seal(pack, passed=False)
    assert "seed 42: world" in failed(pack)
    shutil.rmtree(pack / "world")
    seal(pack, passed=False)
    assert failed(pack) == ["world"]
