"""Figures drawn beside this process are those drawn in it, whatever becomes of the other one."""

import subprocess
import sys
from functools import partial

import pytest
from conftest import child_environment

from lanelock.scoring.figures import beside
from lanelock.scoring.figures.beside import pen
from lanelock.scoring.figures.drawing import Figure, drawn
from lanelock.scoring.figures.palette import LIGHT


def line(slope, canvas):
    if slope is None:
        raise ValueError("no slope")
    canvas.subplots().plot([0, 1], [0, slope], color=LIGHT["ink"])


FIGURES = tuple(Figure(f"line_{n}", "A line", f"It rises by {n}.", 200, partial(line, n)) for n in (1, 2))


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch):
    monkeypatch.setattr(beside, "_idle", [])
    yield
    beside._end_idle()
    assert all(process.child.returncode is not None for process in beside._idle)


def test_they_are_the_same_bytes_and_the_process_is_used_again(monkeypatch):
    here = [figure.drawn for figure in drawn(FIGURES)]
    processes = []
    for _ in range(2):
        with pen() as held:
            held.prepare("json")
            wait = held.draw(FIGURES)
            assert [figure.drawn for figure in wait()] == here
            processes.append(held.process.child.pid)
    assert processes[0] == processes[1] and [process.child.pid for process in beside._idle] == processes[:1]


def test_killed_before_or_after_it_was_asked_costs_nothing_but_time():
    here = [figure.drawn for figure in drawn(FIGURES)]
    for early in (True, False):
        with pen() as held:
            if early:
                held.process.child.kill()
                held.process.child.wait()
            wait = held.draw(FIGURES)
            held.process.child.kill()
            assert [figure.drawn for figure in wait()] == here
        assert beside._idle == []


def test_a_figure_that_cannot_be_drawn_raises_its_own_error_here():
    with pytest.raises(ValueError, match="no slope"), pen() as held:
        held.draw((Figure("flat", "A line", "It does not rise.", 200, partial(line, None)),))()


def test_answers_that_nobody_took_end_the_process():
    with pen() as held:
        held.draw(FIGURES)
    assert beside._idle == [] and held.process.child.returncode is not None


SCRIPT = """
import sys
from lanelock.scoring.figures.beside import pen
with pen() as held:
    print(held.draw(())(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_it_ends_with_its_program_which_needs_no_guard_around_its_main_module(tmp_path, killed):
    script = tmp_path / "unguarded.py"
    script.write_text(SCRIPT)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, script], stdin=pipe, stdout=pipe, stderr=pipe, env=child_environment()) as p:
        assert p.stdout.readline() == b"()\n"
        if killed:
            p.kill()
        out, err = p.communicate(timeout=120)  # which reads until nobody has its stderr: the other process has gone
    assert (p.returncode, out, err) == (-9 if killed else 0, b"", b"")
