"""Where something was made: it is stated, it explains a difference, and it changes no identity."""

import json
import subprocess
import sys
from dataclasses import replace

from conftest import child_environment, forged
from lanes import lane_with

from lanelock.policies.documents import read_json
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import otherwise, verify_lock
from lanelock.sweeps.provenance import here
from lanelock.sweeps.record.mlflow_store import Store
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

CALL = "import json; from lanelock.sweeps.provenance import here; print(json.dumps(here().document))"


def git(folder, *arguments):
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


def made_in(folder):
    child = subprocess.run([sys.executable, "-c", CALL], cwd=folder, capture_output=True, env=child_environment())
    return json.loads(child.stdout)


def test_it_names_the_commit_and_the_uncommitted_changes_of_the_current_folder(tmp_path):
    assert made_in(tmp_path)["git"] is None, "no repository"
    git(tmp_path, "init", "-q")
    assert made_in(tmp_path)["git"] is None, "no commit"
    (tmp_path / "lane.json").write_text("{}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    clean = made_in(tmp_path)
    assert len(clean["git"]) == 40 and clean["diff"] is None
    (tmp_path / "lane.json").write_text("[]")
    dirty = made_in(tmp_path)
    assert dirty["git"] == clean["git"] and len(dirty["diff"]) == 64
    assert {**dirty, "diff": None} == clean and {"numpy", "optuna"} <= set(clean["libraries"])


def test_a_sweep_its_lock_and_its_record_say_where_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr("lanelock.sweeps.record.sweep_letters.uncommitted", lambda: "- one\n+ another\n")
    workspace = Workspace.at(tmp_path / "ws")
    lock = Lock.read(play(lane_with(tmp_path).with_search(trials=4), workspace).lock)
    assert lock.made_by == here().document
    store = Store(workspace)
    (experiment,) = [
        row.experiment_id for row in store.client.search_experiments() if row.name == lock.lane_document["id"]
    ]
    runs = store.search(experiment, "tags.`lanelock.sweep` != ''")
    assert runs and all(run.data.tags["lanelock.version"] == here().lanelock for run in runs)
    assert all(run.data.tags.get("mlflow.source.git.commit") == here().git for run in runs)
    (sweep,) = [run for run in runs if run.data.tags["lanelock.kind"] == "sweep"]
    files = {row.path for row in store.client.list_artifacts(sweep.info.run_id)}
    assert {"provenance.json", "uncommitted.diff"} <= files


def test_a_lock_that_differs_says_first_what_is_other_here(tmp_path, lanelock):
    path = play(lane_with(tmp_path).with_search(trials=4), Workspace.at(tmp_path / "ws"), track=False).lock
    assert list(otherwise(Lock.read(path))) == [] and verify_lock(path).ok
    made = {**here().document, "lanelock": "0.1.0", "libraries": {**here().libraries, "numpy": "1.0"}}
    body = read_json(path)
    first = next(iter(body["proof"]))
    proof = {**body["proof"], first: {**body["proof"][first], "world": "0" * 64}}
    other = forged(path, tmp_path, made_by=made, code_version="0" * 64, proof=proof)
    code, said, err = lanelock("verify", other, "--json", workspace=tmp_path / "ws")
    assert code == 3 and [row["name"] for row in said["failed"]] == [f"seed {first}: world"]
    assert [row.split(":")[0].split(" ")[0] for row in said["made_elsewhere"]] == ["other", "other", "numpy"]
    assert err.splitlines()[0].startswith(f"{other}: made elsewhere: other code: engine 000000000000")


def test_no_identity_depends_on_it(tmp_path, monkeypatch):
    lane = lane_with(tmp_path).with_search(trials=4)
    first = Lock.read(play(lane, Workspace.at(tmp_path / "one"), track=False).lock)
    elsewhere = replace(here(), git="0" * 40, user="somebody")
    monkeypatch.setattr("lanelock.sweeps.proof.lock.here", lambda: elsewhere)
    second = Lock.read(play(lane, Workspace.at(tmp_path / "two"), track=False).lock)
    assert first.candidate_pack == second.candidate_pack and first.proof == second.proof
    assert first.search == second.search and first.lock_id != second.lock_id
