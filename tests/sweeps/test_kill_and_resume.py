"""Real processes, killed and interrupted: no trial lost, none doubled, in Optuna and in MLflow alike."""

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import mlflow
import optuna
import pytest
from conftest import child_environment
from lanes import TESTS, leaky_lane
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

QUEUE = str(TESTS / "queue_engine" / "lane.json")


@contextmanager
def start(workspace, lane, *arguments):
    """A sweep in a process of its own, gone at the latest when the block ends."""
    command = [
        sys.executable,
        "-m",
        "lanelock",
        "sweep",
        lane,
        "--workspace",
        str(workspace),
        *arguments,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(workspace, lane, *arguments):
    """A sweep played to its end: (exit code, what it says as JSON, stderr)."""
    with start(workspace, lane, *arguments, "--json") as process:
        out, err = process.communicate()
    return process.returncode, json.loads(out) if out else None, err


def told(workspace):
    """Trials in the journal, counted by its lines: op code 4 creates one."""
    journal = workspace / "optuna.journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return sum('"op_code": 4' in line or '"op_code":4' in line for line in lines)


def until_told(process, workspace, count):
    while process.poll() is None and told(workspace) < count:
        time.sleep(0.002)


def trials(workspace, name):
    storage = JournalStorage(JournalFileBackend(str(workspace / "optuna.journal")))
    study = optuna.load_study(study_name=name, storage=storage)
    return [(trial.number, trial.params, trial.values, trial.constraints) for trial in study.trials]


def runs(workspace, lane):
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name(lane).experiment_id], max_results=5000)
    numbers = [int(run.data.tags["lanelock.trial"]) for run in found if "lanelock.trial" in run.data.tags]
    return sorted(numbers), found


@pytest.mark.parametrize(
    ("lane", "name", "count", "kills"),
    [
        (QUEUE, "queue", 24, (6, 23)),
        pytest.param("p3", "p3", 16, (2, 9), marks=pytest.mark.slow),
        ("leaky", "leaky", 24, (1, 7, 14, 22)),
    ],
)
def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path, lane, name, count, kills):
    lane = str(leaky_lane(tmp_path / "lane", sampler={"seed": 5})) if lane == "leaky" else lane
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert finish(whole, lane, "--anyway", "--trials", str(count))[0] in (0, 1)
    for index, kill in enumerate(kills):
        with start(torn, lane, "--trials", str(count), ["--anyway", "--resume"][bool(index)]) as process:
            until_told(process, torn, kill)
            assert process.poll() is None, process.communicate()
            process.kill()
        assert told(torn) >= kill
    same_as_undisturbed(whole, torn, lane, name, count)


@pytest.mark.slow
def test_two_hundred_kills_with_failing_trials_lose_and_double_nothing(tmp_path):
    lane, count, draw = str(leaky_lane(tmp_path / "lane", sampler={"seed": 5})), 240, random.Random(1)
    whole, torn, killed = tmp_path / "whole", tmp_path / "torn", 0
    assert finish(whole, lane, "--anyway", "--trials", str(count))[0] in (0, 1)
    while killed < 200:
        with start(torn, lane, "--trials", str(count), "--resume" if told(torn) else "--anyway") as process:
            until_told(process, torn, min(told(torn) + draw.randrange(2), count - 4))
            time.sleep(draw.random() * 0.1)  # at any moment, whichever it is
            killed += process.poll() is None
            process.kill()
    same_as_undisturbed(whole, torn, lane, "leaky", count)


def same_as_undisturbed(whole, torn, lane, name, count):
    """Checks that a killed sweep, played to its end, has the trials of one that nobody killed, each recorded once."""
    code, said, err = finish(torn, lane, "--trials", str(count), "--resume")
    assert code in (0, 1), err
    assert said["trials"]["number"] == count
    assert trials(whole, f"{name}-1") == trials(torn, f"{name}-1")
    numbers, found = runs(torn, name)
    assert numbers == list(range(count)) and len(found) == count + 1
    failed = {row[0] for row in trials(torn, f"{name}-1") if row[2] is None}
    assert bool(failed) == (name == "leaky") and said["trials"]["failed"] == len(failed)
    for run in found:
        number = int(run.data.tags.get("lanelock.trial", -1))
        assert run.info.status == ("FAILED" if number in failed else "FINISHED")
        if number in failed:
            assert (
                "pump burst" in run.data.tags["lanelock.ended"] and "pump burst" in run.data.tags["mlflow.note.content"]
            )
    same = [
        {run.data.tags.get("lanelock.trial"): run.data.metrics for run in runs(place, name)[1]}
        for place in (whole, torn)
    ]
    for number in map(str, range(count)):
        ours, theirs = (
            {key: value for key, value in one[number].items() if not key.startswith("seconds/")} for one in same
        )
        assert ours == theirs


def test_a_budget_below_what_was_run_is_refused(tmp_path):
    """A lock of it would state a shorter search than there was."""
    assert finish(tmp_path, QUEUE, "--trials", "8")[0] == 0
    code, _, err = finish(tmp_path, QUEUE, "--trials", "5", "--resume")
    assert code == 2 and "/budget/trials: 5, but queue-1 has run 8 trials; give at least --trials 8" in err
    assert len([*(tmp_path / "locks").glob("*.json")]) == 1
    assert finish(tmp_path, QUEUE, "--trials", "8", "--resume")[0] == 0


def test_a_torn_last_line_of_the_journal_is_mended(tmp_path):
    assert finish(tmp_path, QUEUE, "--trials", "8")[0] == 0
    journal = tmp_path / "optuna.journal"
    last = journal.read_bytes().splitlines(keepends=True)[-1]
    journal.write_bytes(journal.read_bytes() + last[:-40])  # a kill while the next one was written
    code, said, err = finish(tmp_path, QUEUE, "--trials", "12", "--resume")
    assert code == 0, err
    assert said["trials"]["number"] == 12 and [row[0] for row in trials(tmp_path, "queue-1")] == list(range(12))
    assert runs(tmp_path, "queue")[0] == list(range(12))


def test_interrupted_it_ends_cleanly_and_says_how_to_go_on(tmp_path):
    with start(tmp_path, QUEUE, "--trials", "2000") as process:
        until_told(process, tmp_path, 10)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err and "--resume" in err and "lanelock sweep" in err
    count = told(tmp_path)
    assert runs(tmp_path, "queue")[0] == list(range(count)), "what was told is recorded before it leaves"
    assert finish(tmp_path, QUEUE, "--resume", "--trials", str(count + 4))[1]["trials"]["number"] == count + 4


def test_a_second_sweep_of_the_same_study_is_refused_and_the_first_unhurt(tmp_path):
    with start(tmp_path, QUEUE, "--trials", "2000") as first:
        until_told(first, tmp_path, 4)
        code, _, err = finish(tmp_path, QUEUE, "--resume")
        assert code == 2 and err.count("\n") == 1
        assert "sweep-queue is being played by another process" in err
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130
