"""A lane that is refused is on record: once however often it is refused, and beside the sweeps of its lane."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
from conftest import child_environment
from lanes import TESTS

from lanelock.sweeps.record import outbox

FEW = TESTS / "queue_engine" / "lane_few.json"


def runs(workspace):
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("queue_few").experiment_id])
    return found, {file.path for run in found for file in client.list_artifacts(run.info.run_id)}


def test_a_refusal_waits_as_two_letters_and_is_one_finished_run_of_its_lane(here, tmp_path):
    for waiting in (2, 2):
        code, out, _ = here("sweep", FEW, "--json", workspace=tmp_path)
        refused = json.loads(out)
        assert code == 1 and refused["refused"] and not list(tmp_path.glob("locks/*"))
        assert json.loads(here("status", "--json", workspace=tmp_path)[1])["waiting"] == waiting
    for _ in range(2):
        assert here("sync", workspace=tmp_path)[0] == 0
        (run,), files = runs(tmp_path)
        assert run.info.status == "FINISHED" and files == {"lane.json", "feasibility.json"}
        assert run.data.tags["lanelock.decision"] == "NO_GO" and run.data.tags["lanelock.kind"] == "sweep"
        assert run.data.tags["lanelock.reason"] == refused["reason"]
        bounds = {f"bound/{row['metric']}": row["bound"] for row in refused["blockers"]}
        assert bounds and bounds.items() <= run.data.metrics.items()
        assert "at least 6 servers are open" in run.data.tags["mlflow.note.content"]
        here("sweep", FEW, "--quiet", workspace=tmp_path)
    here("sweep", FEW, "--anyway", "--trials", "4", "--quiet", workspace=tmp_path)
    found, _ = runs(tmp_path)
    assert sorted(run.info.run_name for run in found if run.data.tags["lanelock.kind"] == "sweep") == [
        "queue_few-1",
        "queue_few-refused",
    ]


def test_a_refusal_loads_neither_the_search_nor_the_record(tmp_path):
    told = """import sys
from lanelock.sweeps.terminal.cli import main
try:
    main()
finally:
    print(*(name for name in ("optuna", "mlflow", "sklearn") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", told, "sweep", FEW, "--quiet", "--workspace", tmp_path],
        capture_output=True, text=True, env=child_environment(),
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == "\n", done


def test_a_refusal_is_on_the_disk_before_the_command_ends(here, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(outbox.os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    assert here("sweep", FEW, "--quiet", workspace=tmp_path)[0] == 1
    assert [path for path in synced if path.suffix == ".jsonl"], "no study holds what it says"
