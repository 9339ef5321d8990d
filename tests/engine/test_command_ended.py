"""Programs and all that they start are gone when their time is over, and when whoever runs them is."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from programs import lives, pack, pids, shell, tables, until

from lanelock.engine.commands import processes
from lanelock.policies import EngineError

MARK = "mkdir -p {folder}/pids; echo $$ > {folder}/pids/$$"
FAMILY = """
here="$1"
mark() { mkdir -p "$here/pids"; sh -c 'echo $PPID' > "$here/pids/.$1"; mv "$here/pids/.$1" "$here/pids/$1"; }
trap '' TERM INT HUP
for i in 1 2 3 4 5; do (mark child$i; sleep 1000) & done
setsid sh -c 'trap "" TERM; echo $$ > "$0/pids/.s"; mv "$0/pids/.s" "$0/pids/session"; sleep 1000' "$here" &
(setsid sh -c '(sh -c "echo \\$PPID" > "$0/pids/.d"; mv "$0/pids/.d" "$0/pids/daemon"; sleep 1000) &' "$here" &)
"""
ALL = 'while [ $(ls "$here/pids" | wc -l) -lt {} ]; do sleep 0.01; done'
COMMAND = "./program {folder} {config}"
ALONE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from programs import SCHEMA, pack
from lanelock.engine.command import CommandEngine
engine = CommandEngine("heater", {command!r}, SCHEMA, folder=Path({folder!r}), **{options!r})
try:
    engine.evaluate(pack(), 1)
    engine.evaluate(pack(count=4), 1)
except KeyboardInterrupt:
    sys.exit(130)
"""


def gone(ids):
    return until(lambda: not any(map(lives, ids)))


def test_a_family_is_gone_when_its_time_is_over(tmp_path):
    (tmp_path / "pids").mkdir()
    engine = shell(tmp_path, FAMILY + "mark head; sleep 1000", COMMAND, timeout_s=1.5)
    with pytest.raises(EngineError, match=r"ran longer than 1\.5 s, killed"):
        engine.evaluate(pack(), 1)
    assert gone(pids(tmp_path, 1)), "those that had started by then: all eight, unless the machine is busy"


def test_what_a_program_leaves_behind_is_gone_when_it_has_ended(tmp_path):
    """Also before its results are read: nothing writes into them any more."""
    (tmp_path / "pids").mkdir()
    engine = shell(tmp_path, FAMILY + ALL.format(7) + "; echo '{\"a\": 1}'", COMMAND)
    assert tables(engine.evaluate(pack(), 1))["metrics"]["value"] == [1.0]
    ids = pids(tmp_path, 7)
    assert len(ids) == 7 and not any(map(lives, ids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("server", [False, True])
def test_a_family_ends_with_whoever_runs_it(tmp_path, number, server):
    (tmp_path / "pids").mkdir()
    place = tmp_path / "temporary"
    place.mkdir()
    command = "./program {folder}" if server else COMMAND
    shell(tmp_path, FAMILY + "mark head; sleep 1000", command, server=server)
    script = ALONE.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), command=command,
                          options={"server": server})  # fmt: skip
    # SIGTERM and SIGINT as a program of its own answers them: by default, and by KeyboardInterrupt.
    run = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(place)})
    try:
        ids = pids(tmp_path, 8)
        assert len(ids) == 8 and all(map(lives, ids)) and len([*place.iterdir()]) == 1
    finally:
        run.send_signal(number)
        run.wait(30)
    assert gone(ids) and until(lambda: not [*place.iterdir()])


def test_a_server_between_two_questions_ends_with_whoever_asked(tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    text = f'{FAMILY}mark head; {ALL.format(8)}; while read line; do echo \'{{"id": 1, "result": {{"a": 1}}}}\'; done'
    (tmp_path / "pids").mkdir()
    shell(tmp_path, text, "./program {folder}", server=True)
    script = ALONE.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), command="./program {folder}",
                          options={"server": True})  # fmt: skip
    run = subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(place)}, capture_output=True)
    assert b"answered" in run.stderr, "it answers the second question with the first one's id"
    assert gone(pids(tmp_path, 8)) and not [*place.iterdir()]


def test_a_supervisor_that_is_killed_costs_one_run(tmp_path):
    (tmp_path / "pids").mkdir()
    engine = shell(tmp_path, 'here="$1"; echo $PPID > "$here/pids/.p"; mv "$here/pids/.p" "$here/pids/parent"; '
                   'test -e "$here/go" || exec sleep 1000; echo \'{"a": 1}\'', COMMAND)  # fmt: skip
    failed = []

    def run():
        try:
            engine.evaluate(pack(), 1)
        except EngineError as error:
            failed.append(str(error))

    caller = threading.Thread(target=run)
    caller.start()
    os.kill(pids(tmp_path, 1)[0], signal.SIGKILL)
    caller.join(30)
    assert len(failed) == 1 and "was killed" in failed[0]
    (tmp_path / "go").touch()
    assert tables(engine.evaluate(pack(), 1))["metrics"]["value"] == [1.0]


def test_a_copy_of_this_process_leaves_its_supervisors_alone(tmp_path):
    engine = shell(tmp_path, "echo '{\"a\": 1}'")
    first = engine.evaluate(pack(), 1).digests()
    script = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\nfrom programs import SCHEMA, pack\n"
        "from lanelock.engine.command import CommandEngine\n"
        "engine = CommandEngine('heater', './program {config}', SCHEMA, folder=Path(sys.argv[2]))\n"
        "first = engine.evaluate(pack(), 1).digests()\n"
        "pid = os.fork()\n"
        "assert engine.evaluate(pack(), 1).digests() == first\n"
        "if pid:\n    assert os.waitpid(pid, 0)[1] == 0\n    assert engine.evaluate(pack(), 1).digests() == first\n"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parents[1]), str(tmp_path)], check=True)
    assert engine.evaluate(pack(), 1).digests() == first


def test_idle_supervisors_are_as_many_as_ran_at_once(tmp_path):
    engine = shell(tmp_path, "echo '{\"a\": 1}'")
    for _ in range(5):
        engine.evaluate(pack(), 1)
    before = len(processes._idle)
    for _ in range(5):
        engine.evaluate(pack(), 1)
    assert len(processes._idle) == before
