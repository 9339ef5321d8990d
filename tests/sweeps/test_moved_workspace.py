"""A workspace that was copied or renamed works where it is, and nothing outside a workspace is ever touched."""

import json
import os
import shutil
import sqlite3
import warnings
from contextlib import closing

import pandas as pd
import pytest
from lanes import QUEUE

from lanelock.engine.keep.receipts import digests
from lanelock.policies import WorkspaceError
from lanelock.service import load
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.locations import moved_from, relocate
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.mlflow_store import Store
from lanelock.sweeps.record.registry import follow
from lanelock.sweeps.record.shelf import Shelf
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.retention import apply, survey
from lanelock.sweeps.workspace import Workspace, write_whole

LANE = load_lane(str(QUEUE / "lane.json")).with_search(trials=6)
MODEL = "models:/queue@candidate"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two sweeps, the newer one's lock promoted, and something to prune in the older one's artifacts."""
    workspace = Workspace.at(tmp_path_factory.mktemp("moved") / "original")
    for _ in range(2):
        closed = play(LANE, workspace)
    promote(closed.lock, "candidate", workspace)
    follow(workspace)
    older = Shelf(workspace).sweeps()
    run = next(run for sweep in older if sweep.name == "queue-1" for run in sweep.artifacts if run not in sweep.locked)
    folder = workspace.root.parent / "large"
    folder.mkdir()
    (folder / "large.bin").write_bytes(b"x" * 4000)
    Store(workspace).write_files(run, folder)
    return workspace


@pytest.fixture
def copied(original, tmp_path):
    return Workspace(shutil.copytree(original.root, tmp_path / "copy"))


@pytest.fixture
def renamed(copied):
    """A workspace whose former folder is gone, as MLflow's database has it."""
    relocate(copied)
    return Workspace(copied.root.rename(copied.root.with_name("renamed")))


def texts(workspace):
    """Returns every text in MLflow's database."""
    with closing(sqlite3.connect(workspace.tracking_database)) as base:
        return "\n".join(base.iterdump())


def loaded_by_mlflow_alone(workspace, lock):
    with warnings.catch_warnings():  # about MLflow's own types
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        uri = f"sqlite:///{workspace.tracking_database}"
        version = mlflow.MlflowClient(uri, uri).get_model_version_by_alias("queue", "candidate")
        folder = mlflow.artifacts.download_artifacts(version.source, tracking_uri=uri, registry_uri=uri)
        return mlflow.pyfunc.load_model(folder, model_config={"lock_id": lock.lock_id})


def pruned(workspace):
    shelf = Shelf(workspace)
    recorded = {sweep.name: sweep for sweep in shelf.sweeps()}
    found = survey(workspace, recorded.values())
    apply(found, workspace, lambda name, by: shelf.supersede(recorded[name], by))
    return found


def test_pruning_a_copy_frees_the_copy_and_leaves_the_original_alone(original, copied, here):
    before = digests(original.root)
    held = sum(path.stat().st_size for path in copied.artifacts.rglob("*") if path.is_file())
    code, out, _ = here("prune", "--apply", "--json", workspace=copied.root)
    left = sum(path.stat().st_size for path in copied.artifacts.rglob("*") if path.is_file())
    assert code == 0 and json.loads(out)["bytes"] == held - left > 4000
    assert not list(copied.artifacts.rglob("large.bin"))
    assert digests(original.root) == before


def test_a_copy_is_read_as_it_is_and_says_where_it_came_from(original, copied, here):
    before = digests(copied.root)
    compared = compare(copied)
    assert compared.differences == () and compared.trials == 12
    assert len(compared.behind) == 1 and f"moved from {original.root}," in compared.behind[0]
    assert here("status", "--json", workspace=copied.root)[1].count(f"moved from {original.root},") == 1
    assert here("verify", "candidate", workspace=copied.root)[1].count(f"moved from {original.root},") == 1
    assert sum(item.bytes for item in survey(copied, Shelf(copied, reading=True).sweeps()).remove) > 4000
    changed = {name for name, was in digests(copied.root).items() if before.get(name) != was}
    assert not changed, "reading sets nothing right: the disk may be read-only"


def test_what_was_changed_in_the_copy_is_seen_though_the_original_is_whole(copied):
    for path in copied.artifacts.rglob("lock.json"):
        path.write_text("{}")
    assert len(compare(copied).differences) >= 3, "of each sweep, and of the registered model"


def test_a_renamed_workspace_goes_on_where_it_is(renamed, here):
    (former,) = moved_from(renamed)
    closed = play(LANE.with_search(trials=8), renamed, resume=True)
    assert closed.sweep == "queue-2" and not former.exists()
    assert compare(renamed).differences == () and moved_from(renamed) == ()


def test_sync_sets_the_database_right_once_and_the_promoted_model_loads_without_lanelock(renamed, here):
    (former,) = moved_from(renamed)
    lock = Lock.read(next(renamed.promoted.glob("*/lock.json")))
    assert load(MODEL, renamed, lock_id=lock.lock_id).lock_id == lock.lock_id, "before it, too"
    code, out, err = here("sync", "--json", workspace=renamed.root)
    assert (code, err) == (0, "") and json.loads(out)["moved_from"] == [str(former)]
    assert str(former) not in texts(renamed) and not former.exists()
    assert len(loaded_by_mlflow_alone(renamed, lock).predict(pd.DataFrame({"customer": [7, 3]}))) == 2
    again = texts(renamed)
    assert json.loads(here("sync", "--json", workspace=renamed.root)[1])["moved_from"] == []
    assert texts(renamed) == again


def test_an_experiment_that_somebody_else_made_lies_where_they_said(copied, tmp_path):
    elsewhere = (tmp_path / "artifacts" / "theirs").as_uri()
    client = Store(copied, reading=True).client
    client.create_experiment("theirs", elsewhere)
    relocate(copied)
    assert client.get_experiment_by_name("theirs").artifact_location == elsewhere


def outside_of(workspace):
    """A folder that is somebody's own, with the marks of what may be pruned."""
    folder = workspace.root.parent / "outside"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "precious").write_text("precious")
    return folder


def test_links_in_a_workspace_are_removed_and_what_they_lead_to_stays(copied):
    outside = outside_of(copied)
    copied.exports.mkdir(exist_ok=True)
    copied.cache.mkdir()
    for folder in (copied.runs, copied.exports, copied.evidence):
        folder.mkdir(exist_ok=True)
        (folder / "linked").symlink_to(outside)
        (folder / ".pruned-left").symlink_to(outside)
        (folder / "whole").mkdir()
        (folder / "whole" / "inner").symlink_to(outside)
    (copied.cache / "state").write_bytes(b"y" * 10)
    (copied.cache / "linked").symlink_to(outside)
    for folder in list(copied.artifacts.glob("queue/*/artifacts")):
        (folder / "linked").symlink_to(outside)
    pruned(copied)
    for folder in (copied.runs, copied.exports):
        assert list(folder.iterdir()) == []
    assert not copied.cache.exists()
    assert (outside / "below" / "precious").read_text() == "precious"


@pytest.mark.parametrize("part", ["runs", "exports", "evidence", "cache", "artifacts"])
def test_a_part_that_is_a_link_to_another_disk_is_read_and_not_pruned(original, tmp_path, part):
    workspace = Workspace(tmp_path / "linked")
    shutil.copytree(original.root, workspace.root)
    target = tmp_path / "disk"
    place = workspace.root / part
    place.mkdir(exist_ok=True)
    place.rename(target)
    (target / ("0" * 32)).mkdir()
    (target / ("0" * 32) / "file").write_text("kept")
    place.symlink_to(target)
    before = digests(target)
    found = pruned(workspace)
    assert digests(target) == before and place.is_symlink()
    assert part in ("cache", "artifacts") or any("is a link to" in item.why for item in found.keep)
    assert compare(workspace).differences == ()


@pytest.mark.parametrize("place", ["outside", "dots", "link"])
def test_what_the_database_names_outside_the_workspace_is_neither_written_nor_removed(copied, place):
    outside, store = outside_of(copied), Store(copied)
    run = next(iter(Shelf(copied).sweeps()[0].artifacts))
    (copied.artifacts / "link").symlink_to(outside)
    address = {
        "outside": (outside / "below").as_uri(),
        "dots": f"{copied.artifacts.as_uri()}/../../outside/below",
        "link": f"{copied.artifacts.as_uri()}/link/below",
    }[place]
    with closing(sqlite3.connect(copied.tracking_database)) as base, base:
        base.execute("update runs set artifact_uri = ? where run_uuid = ?", [address, run])
    assert Store(copied).bytes_of(run) == 0
    for attempt in (store.delete_artifacts, lambda run: store.write_files(run, copied.locks)):
        with pytest.raises(WorkspaceError, match=r"nothing is (removed|written) there"):
            attempt(run)
    assert digests(outside) == digests(outside_copy(outside))


def outside_copy(outside):
    """The same folder as it was made."""
    fresh = outside.with_name("fresh")
    (fresh / "below").mkdir(parents=True)
    (fresh / "below" / "precious").write_text("precious")
    return fresh


def test_a_world_in_the_workspace_moves_with_it_and_another_stays(tmp_path):
    first, second = Workspace.at(tmp_path / "a"), Workspace.at(tmp_path / "b")
    (first.worlds / "w").mkdir(parents=True)
    kept = first.as_kept(first.worlds / "w")
    assert kept == "workspace:worlds/w" and second.kept(kept) == second.worlds / "w"
    assert first.as_kept(tmp_path / "w") == str(tmp_path / "w") and first.kept(str(tmp_path / "w")) == tmp_path / "w"
    assert first.as_kept(None) is None


def test_a_file_is_not_written_through_a_link_that_waits_for_it(tmp_path):
    precious, target = tmp_path / "precious", tmp_path / "document.json"
    precious.write_text("precious")
    (tmp_path / f".document.json.{os.getpid()}").symlink_to(precious)
    target.symlink_to(precious)
    write_whole(target, "new")
    assert precious.read_text() == "precious" and target.read_text() == "new" and not target.is_symlink()
