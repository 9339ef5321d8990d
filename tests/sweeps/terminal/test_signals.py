"""Signals that end a program, and readers that go away: real processes, each resumable, none silent."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from conftest import child_environment
from lanes import QUEUE

from lanelock.sweeps.interrupts import Interrupted, answered, deferred
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.workspace import Workspace

LANE = str(QUEUE / "lane.json")
COMMAND = [sys.executable, "-m", "lanelock"]


@contextmanager
def started(*arguments, **settings):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
    with subprocess.Popen([*COMMAND, *map(str, arguments)], env=child_environment(), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def trials(workspace):
    return sum(row.trials for row in sweeps_in(Workspace(workspace)).values())


def children_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in found]


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_that_is_ended_says_what_is_kept_and_goes_on_by_what_it_says(tmp_path, number):
    workspace = tmp_path / "w"
    with started("sweep", LANE, "--trials", 2000, "--workspace", workspace, "--quiet") as process:
        while process.poll() is None and trials(workspace) < 8:
            time.sleep(0.02)
        children = children_of(process)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    kept = trials(workspace)
    resume = f"lanelock sweep {LANE} --resume --trials 2000 --workspace {workspace}"
    assert err == f"lanelock: interrupted: {kept} of 2000 trials are kept; go on with: {resume}\n"
    assert children and not any(map(alive, children))
    again = ["sweep", LANE, "--resume", "--trials", kept + 1, "--workspace", workspace, "--quiet"]
    with started(*again, stdout=None) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert trials(workspace) == kept + 1 and list((workspace / "locks").glob("*.json"))


def test_the_second_signal_ends_a_program_at_once():
    program = (
        "import os, signal, sys, time\n"
        "from lanelock.sweeps import interrupts\n"
        "interrupts._SAME = 0\n"
        "with interrupts.answered():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaning up', flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=child_environment())
    assert done.returncode == -signal.SIGINT and done.stdout == "cleaning up\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_once_and_one_press_counts_once(number):
    with pytest.raises(Interrupted) as raised, answered():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # a terminal and a program between: the same press
    assert raised.value.exit_code == 128 + number


def test_a_signal_that_is_ignored_from_the_start_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with answered():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_signal_waits_for_stop_or_for_the_end():
    reached = []
    with pytest.raises(Interrupted), answered(), deferred() as stop:
        stop()
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("between")
        stop()
        reached.append("after")
    with pytest.raises(Interrupted), answered():
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("to the end")
        reached.append("beyond it")
    assert reached == ["between", "to the end"]


def test_a_program_of_ones_own_keeps_its_answer_and_its_second_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one is raised at once")
    with pytest.raises(KeyboardInterrupt), deferred() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        stop()
    with deferred() as stop:
        stop()  # what came before is forgotten
    assert signal.getsignal(signal.SIGINT) is before


def test_a_command_that_is_interrupted_before_it_does_anything_says_so(tmp_path):
    with started("run", "--pack", "baseline", "--seed", 1, "--workspace", tmp_path / "w") as process:
        while process.poll() is None and not (tmp_path / "w" / "locks").is_dir():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (143, "", "lanelock: interrupted\n")


# --- readers that go away ---------------------------------------------------------------------------------


def shell(line, **environment):
    line = line.replace("lanelock", f"{sys.executable} -m lanelock")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=child_environment(**environment))


def test_a_sweep_nobody_reads_finishes_and_locks_with_its_own_code(tmp_path):
    call = f"sweep {LANE} --trials 4 --workspace {tmp_path}"
    done = shell(f"set -o pipefail; lanelock {call} --quiet >&-; echo first $?; lanelock {call} --json | true; echo $?")
    assert done.stdout == "first 0\n0\n"
    assert done.stderr == "lanelock: note: standard output: Broken pipe; the answer was not printed whole\n"
    assert trials(tmp_path) == 8 and len(list((tmp_path / "locks").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("to", "code", "why"), [(">&-", 0, "closed"), (">/dev/full", 2, "No space left on device"), ("2>&-", 0, "")]
)
def test_an_answer_that_cannot_be_printed_is_said_so(tmp_path, to, code, why):
    done = shell(f"lanelock policy digest baseline --workspace {tmp_path} {to}")
    line = f"lanelock: note: standard output: {why}; the answer was not printed whole\n" if why else ""
    assert (done.returncode, done.stderr) == (code, line)


@pytest.mark.parametrize("call", ["--help", "sweep --help", "--version", "completion bash"])
def test_help_that_nobody_reads_is_no_error(call):
    done = shell(f"set -o pipefail; lanelock {call} | true")
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_file_of_ours_never_takes_the_number_of_a_closed_stream(tmp_path):
    done = shell(f"lanelock policy digest baseline --workspace {tmp_path} <&- >&- 2>&-; echo $?")
    assert done.stdout == "0\n"
