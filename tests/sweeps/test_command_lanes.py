"""Lanes of commands: the search of a function that computes the same, and what comes of failures and changes."""

import sys

import pytest
from programs import program

from lanelock.policies import IntegrityError, LaneError
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.record.recorder import Recorder, Recording
from lanelock.sweeps.record.sweep_letters import Entries
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

FUNCTION = """
import random

def simulate(params, seed):
    draw = random.Random(seed)
    gain, floor = params["gain"], params["floor"]
    if gain > 9:
        raise ValueError("unstable gain")
    waits = [draw.expovariate(gain) * floor for _ in range(40)]
    return {"fill": 1 - floor / 200 - 0.1 * draw.random() / gain, "stock": 10 * gain + floor, "waits": {"wait": waits}}
"""
SAYS = 'print("gain is", params["gain"], file=sys.stderr)\n'
FILES = """
import json, sys
params = json.load(open(sys.argv[1]))
seed = params.pop("seed")
"""
WRITES = "json.dump(simulate(params, seed), open(sys.argv[2], 'w'))\n"
LINES = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = {"result": simulate(asked["params"], asked["seed"])}
    except ValueError as error:
        answer = {"error": str(error)}
    print(json.dumps({"id": asked["id"], **answer}), flush=True)
"""
PROJECT = """
[engine]
id = "heater"
{engine}
[params]
gain = {{value = 2.0, low = 1.0, high = 12.0}}
floor = {{value = 5, low = 1, high = 20}}
[metrics]
p90 = {{sql = "quantile_cont(wait, 0.9)", table = "waits", unit = "minutes"}}
[gates]
fill = "fill >= 0.9, 0.95"
[vetoes]
slow = "p90 <= 20"
[sweep]
minimize = "stock"
trials = 12
"""
KINDS = {
    "function": ('function = "heater:simulate"', FUNCTION),
    "command": ('command = "./heater.py {config} {out}"', FILES + SAYS + FUNCTION + WRITES),
    "server": ('command = "./heater.py"\nserver = true', FUNCTION + LINES),
}  # fmt: skip


def project(folder, kind, more=""):
    engine, text = KINDS[kind]
    folder.mkdir(exist_ok=True)
    program(folder, f"#!{sys.executable} -IS\n{text}", "heater.py")
    (folder / "lanelock.toml").write_text(PROJECT.format(engine=engine) + more)


def played(folder, monkeypatch, **options):
    monkeypatch.chdir(folder)
    return play(load_lane("heater"), Workspace.at(folder / "space"), track=False, **options)


def test_a_function_and_commands_that_compute_the_same_give_the_same_sweep(tmp_path, monkeypatch):
    closed = {}
    for kind, jobs in (("function", 1), ("command", 2), ("server", 2)):
        project(tmp_path / kind, kind)
        closed[kind] = played(tmp_path / kind, monkeypatch, jobs=jobs)
    first = closed.pop("function")
    assert first.decision.outcome == "GO" and any(trial.failed for trial in first.trials)
    for sweep in closed.values():
        assert [(trial.values, trial.objectives, trial.constraints, trial.record.measures, trial.failed)
                for trial in sweep.trials] == [
            (trial.values, trial.objectives, trial.constraints, trial.record.measures, trial.failed)
            for trial in first.trials
        ]  # fmt: skip
        assert (
            sweep.decision.outcome == first.decision.outcome
            and sweep.decision.best.number == first.decision.best.number
        )
        assert sweep.decision.reason == first.decision.reason and sweep.stopped_by == first.stopped_by


class Collecting(Recording):
    def __init__(self, entries):
        self.entries, self.written = entries, []

    def trial(self, trial, details=""):
        self.written.append((trial, self.entries.trial(trial, details)))


def test_the_log_of_a_failed_trial_is_a_file_of_its_record_and_no_other_trial_has_one(tmp_path, monkeypatch):
    project(tmp_path / "p", "command")
    taken = []
    monkeypatch.setattr(
        Recorder, "begin", lambda self, study, ledger: taken.append(Collecting(Entries(study, ledger))) or taken[0]
    )
    played(tmp_path / "p", monkeypatch)
    failed = 0
    for trial, entry in taken[0].written:
        if trial.failed:
            failed += 1
            assert trial.record.failure.startswith("seed ") and trial.record.failure.endswith("unstable gain")
            log = entry.files["stderr.txt"]
            assert log.startswith(f"gain is {trial.values['gain']!r}\nTraceback") and log.endswith("unstable gain\n")
            assert "details" not in trial.record.document
        else:
            assert "stderr.txt" not in entry.files
    assert failed


def test_a_program_that_changes_during_a_sweep_ends_it_and_may_not_go_on_with_it(tmp_path, monkeypatch):
    project(tmp_path / "p", "command")

    def change(progress):
        path = tmp_path / "p" / "heater.py"
        path.write_text(path.read_text().replace("10 * gain", "11 * gain"))

    with pytest.raises(IntegrityError, match=r"heater: heater\.py was changed while it was in use"):
        played(tmp_path / "p", monkeypatch, watch=change)
    (tmp_path / "p" / "lanelock.toml").write_text((tmp_path / "p" / "lanelock.toml").read_text() + "# read again\n")
    with pytest.raises(LaneError, match="was played by engine code"):
        played(tmp_path / "p", monkeypatch, resume=True)
