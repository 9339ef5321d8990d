"""Figures drawn beside this process are those drawn in it, whatever becomes of the other one."""

import subprocess
import sys
from functools import partial

import pytest
from conftest import child_environment

from lanelock.scoring.figures import beside
from lanelock.scoring.figures.beside import Pen
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
    assert all(child.returncode is not None for child in beside._idle)


def test_they_are_the_same_bytes_and_the_process_is_used_again(monkeypatch):
    here = [figure.drawn for figure in drawn(FIGURES)]
    processes = []
    for _ in range(2):
        with Pen() as pen:
            pen.prepare("json")
            wait = pen.draw(FIGURES)
            assert [figure.drawn for figure in wait()] == here
            processes.append(pen._child.pid)
    assert processes[0] == processes[1] and [child.pid for child in beside._idle] == processes[:1]


def test_killed_before_or_after_it_was_asked_costs_nothing_but_time():
    here = [figure.drawn for figure in drawn(FIGURES)]
    for early in (True, False):
        with Pen() as pen:
            if early:
                pen._child.kill()
                pen._child.wait()
            wait = pen.draw(FIGURES)
            pen._child.kill()
            assert [figure.drawn for figure in wait()] == here
        assert beside._idle == []


def test_a_figure_that_cannot_be_drawn_raises_its_own_error_here():
    with pytest.raises(ValueError, match="no slope"), Pen() as pen:
        pen.draw((Figure("flat", "A line", "It does not rise.", 200, partial(line, None)),))()


def test_answers_that_nobody_took_end_the_process():
    with Pen() as pen:
        pen.draw(FIGURES)
    assert beside._idle == [] and pen._child.returncode is not None


def test_it_ends_with_its_program_which_needs_no_guard_around_its_main_module(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text("""
from lanelock.scoring.figures.beside import Pen
with Pen() as pen:
    print(pen.draw(())(), pen._child.pid, flush=True)
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=child_environment())
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("() ") and done.stdout.count("\n") == 1
    process = done.stdout.split()[1]
    assert subprocess.run(["ps", "-p", process], capture_output=True).returncode != 0
