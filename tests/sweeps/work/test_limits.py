"""Trials that take too long, too much, or their process with them: each fails by name, and no other is lost."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import child_environment
from programs import lives, pids, until

from lanelock.engine import steps
from lanelock.policies.project import FILE
from lanelock.sweeps.audit import audit
from lanelock.sweeps.engines import project_here
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.limits import limits_lines
from lanelock.sweeps.project.checking import check_project
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal.words import closed_document, closing
from lanelock.sweeps.work.worker import Worker
from lanelock.sweeps.workspace import Workspace

ENGINE = """
import os, signal, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).parent

def mark(name):
    (HERE / "pids").mkdir(exist_ok=True)
    (HERE / f".{os.getpid()}").write_text(str(os.getpid()))
    os.rename(HERE / f".{os.getpid()}", HERE / "pids" / f"{name}{os.getpid()}")

def first(name):
    try:
        (HERE / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

def hangs():
    script = "import os, time; from ward import mark; os.setsid(); mark('child'); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", script], cwd=HERE)
    mark("trial")
    time.sleep(1000)

def simulate(params, seed):
    how = params["how"]
    if seed == 2 and how == "is slow": hangs()
    if seed == 2 and how == "is slow once" and first("slow"): time.sleep(1000)
    if seed == 2 and how == "is hungry":
        held = bytearray(b"x") * (900 << 20)
        time.sleep(1000)
    if how == "is killed": os.kill(os.getpid(), signal.SIGKILL)
    if how == "is killed once" and first("killed"): os.kill(os.getpid(), signal.SIGKILL)
    if how == "leaves": os._exit(3)
    if how == "prints": print('{"result": {"measures": {"level": 99}}}', flush=True), sys.stdin.read()
    return {"level": params["level"] + seed}
"""
PROJECT = """
[engine]
id = "heater"
function = "ward:simulate"
[params]
level = {{ value = 0.5, low = 0.0, high = 4.0 }}
how = {{ value = "is well", choices = {choices} }}
[gates]
low = "level <= 6, 5"
[sweep]
seeds = [1, 2]
trials = {trials}
batch = 2
racing = false
confirm_seeds = 0
sampler = {{ name = "random" }}
enqueue = {enqueue}
{limits}
"""


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """Returns what writes a project whose trials end in the given ways, into the current folder."""
    folder = tmp_path / "ward"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def written(*ways, limits="limits = { seconds = 8, memory_mb = 600 }"):
        enqueue = ", ".join(f'{{ level = {n + 1}.5, how = "{way}" }}' for n, way in enumerate(ways))
        text = PROJECT.format(
            choices=["is well", *ways], trials=len(ways) + 1, enqueue=f"[{enqueue}]", limits=limits
        ).replace("'", '"')
        (folder / FILE).write_text(text)
        (folder / "ward.py").write_text(ENGINE)
        return load_lane(FILE)

    yield written
    sys.modules.pop("ward", None)


def failures(trials):
    return {row.values["how"]: (row.record.failure, row.record.ended_by) for row in trials if row.failed}


def test_what_goes_over_a_limit_ends_that_trial_and_no_other(ward, tmp_path):
    lane, workspace = ward("is slow", "is hungry"), Workspace.at(tmp_path / "w")
    closed = play(lane, workspace, jobs=2, track=False)
    assert failures(closed.trials) == {
        "is slow": ("seed 2: took longer than 8 s (limits/seconds)", "seconds"),
        "is hungry": ("seed 2: used more than 600 MiB (limits/memory_mb)", "memory_mb"),
    }
    assert all(len(row.record.measures) == 2 for row in closed.trials if row.values["how"] == "is well")
    ids = pids(tmp_path / "ward", 2)
    assert len(ids) == 2 and until(lambda: not any(map(lives, ids))), "the run and the child that left its session"
    shown = [*limits_lines(lane, closed.trials)]
    assert len(shown) == 2 and all(line.endswith("trials ended: 1") and line in closing(closed) for line in shown)
    used = closed_document(closed)["limits"]
    assert used["seconds"]["most"] >= 8 and used["memory_mb"]["most"] > 600 and used["seconds"]["ended"] == 1
    assert [row.record.used.keys() for row in closed.trials] == [{"seconds", "peak_mb"}] * len(closed.trials)


def test_a_worker_that_dies_twice_fails_its_trial_and_one_that_dies_once_costs_nothing(ward, tmp_path):
    lane, workspace = ward("is killed", "leaves", "is killed once", limits=""), Workspace.at(tmp_path / "w")
    closed = play(lane, workspace, jobs=2, processes=True, track=False)
    found = failures(closed.trials)  # the seed that failed a trial is run first from then on
    assert {how: (why.partition(": ")[2], by) for how, (why, by) in found.items()} == {
        "is killed": ("its process ended: killed by SIGKILL, 2 times", "worker"),
        "leaves": ("its process ended: exit 3, 2 times", "worker"),
    }
    assert sum(row.values["how"] == "is killed once" and not row.failed for row in closed.trials) >= 1
    assert [*limits_lines(lane, closed.trials)] == ["trials whose process died: 2"]
    found = audit(closed.sweep, workspace, 1).findings
    assert found.ok and not any("recorded seed" in line for line in found.not_proved), "it dies again, elsewhere"


def test_a_trial_that_was_ended_by_time_and_passes_later_is_a_difference_of_time(ward, tmp_path):
    lane, workspace = ward("is slow once", limits="limits = { seconds = 6 }"), Workspace.at(tmp_path / "w")
    closed = play(lane, workspace, track=False)
    assert failures(closed.trials) == {"is slow once": ("seed 2: took longer than 6 s (limits/seconds)", "seconds")}
    found = audit(closed.sweep, workspace, 1).findings
    assert found.ok, [check for check in found if not check.ok]
    (line,) = (line for line in found.not_proved if line.startswith("trial"))
    assert "recorded seed 2: took longer than 6 s (limits/seconds); run again seed 2: a result" in line
    assert "a difference of the machine's time and memory, not of the study" in line


def test_what_an_engine_prints_and_reads_is_no_part_of_the_conversation(ward, tmp_path):
    closed = play(ward("prints", limits=""), Workspace.at(tmp_path / "w"), processes=True, track=False)
    assert not failures(closed.trials)
    assert {row.values["level"] + 1 for row in closed.trials} == {
        row.record.measures[1]["level"] for row in closed.trials
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_hanging_trial_without_limits_ends_with_its_sweep(ward, tmp_path, number):
    """Ctrl-C waits for the end of a trial; a second one, which comes here until it is heard, ends the process."""
    ward("is slow", limits="")
    command = [sys.executable, "-m", "lanelock", "sweep", "--processes", "--workspace", str(tmp_path / "w")]
    place = tmp_path / "temporary"
    place.mkdir()
    with subprocess.Popen(command, env=child_environment(TMPDIR=str(place))) as process:
        try:
            ids = pids(tmp_path / "ward", 2)
            assert len(ids) == 2 and all(map(lives, ids))
            assert until(lambda: process.send_signal(number) or process.poll() is not None)
        finally:
            process.kill()
    assert process.returncode == -number
    assert until(lambda: not any(map(lives, ids))) and until(lambda: not [*place.iterdir()])


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_its_trials_and_leaves_no_process(ward, tmp_path):
    """The signal waits for the end of the trial that hangs, which its limit ends."""
    ward("is slow", limits="limits = { seconds = 6 }")
    command = [sys.executable, "-m", "lanelock", "sweep", "--jobs", "2", "--workspace", str(tmp_path / "w")]
    place = tmp_path / "temporary"
    place.mkdir()
    environment = child_environment(TMPDIR=str(place))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            ids = pids(tmp_path / "ward", 2)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM and "go on with: lanelock sweep" in err
    assert len(ids) == 2 and not any(map(lives, ids)) and not [*place.iterdir()]


def test_a_process_of_limited_memory_remembers_a_part_of_it(monkeypatch):
    monkeypatch.setattr(steps, "_most", None)
    memory, states = steps.Memory(1 << 30), [np.zeros(1 << 17) for _ in range(4)]  # of 1 MiB
    Worker().answer({"open": "no such task", "folder": ".", "memory": 6 << 20, "document": {}})
    for name, state in enumerate(states):
        memory.get(str(name), lambda: None, lambda state=state: state)
    kept = [memory.get(str(name), lambda: None, lambda: np.zeros(0))[1] for name in (3, 2)]
    assert kept == [True, True] and not memory.get("0", lambda: None, lambda: np.zeros(0))[1]


def test_a_check_of_the_file_says_that_the_start_is_slower_than_its_limit(ward):
    lane = ward(limits="limits = { seconds = 1e-9 }")
    problems = check_project(project_here(), lane).problems
    assert any("sweep.limits.seconds: 1e-09: the start takes" in row for row in problems)
