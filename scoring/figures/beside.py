"""Figures drawn by a process beside this one.

A process and not a thread: matplotlib is Python from end to end, and so is what a sweep computes while it closes. It is
spoken to from the calling thread alone, since another would wait for Python. Once its figures are drawn it waits for
the next ones, and it ends with the program. Figures that it cannot draw are drawn here.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module

from lanelock.engine.workers import Beside
from lanelock.scoring.figures.drawing import Figure, drawn, ready

_START = "from lanelock.scoring.figures.beside import main; main()"
_idle: list[Beside] = []


@atexit.register
def _end_idle() -> None:
    for process in _idle:
        process.end()


@contextmanager
def pen() -> Iterator[Pen]:
    """Holds a process that draws."""
    held = Pen(_idle.pop() if _idle else Beside(_START))
    try:
        yield held
    finally:
        if held.asked or held.process.child.poll() is not None:
            held.process.end()
        else:
            _idle.append(held.process)


class Pen:
    """Draws one set of figures at a time."""

    def __init__(self, process: Beside) -> None:
        self.process = process
        self.asked = False  # whether there is an answer that was not taken

    def prepare(self, module: str) -> None:
        """Has everything imported that drawing will need, `module` with it; does not wait."""
        self._send(module)

    def draw(self, figures: Sequence[Figure]) -> Callable[[], tuple[Figure, ...]]:
        """Has figures drawn. Returns what waits for them, to be called once."""
        self._send(tuple(figures))
        self.asked = True
        return lambda: self._drawn(figures)

    def _send(self, order: str | tuple[Figure, ...]) -> None:
        with suppress(OSError):  # it has ended, which its answer will show
            pickle.dump(order, self.process.stdin)
            self.process.stdin.flush()

    def _drawn(self, figures: Sequence[Figure]) -> tuple[Figure, ...]:
        try:
            both = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            return drawn(figures)
        self.asked = False
        return tuple(replace(figure, drawn=forms) for figure, forms in zip(figures, both, strict=True))


def main() -> None:
    """Draws what comes on stdin until it ends. What goes wrong ends it: the figures are then drawn where it shows."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever a library may print
    with suppress(Exception):
        while True:
            order = pickle.load(sys.stdin.buffer)
            if isinstance(order, str):
                import_module(order)
                ready()
            else:
                pickle.dump(tuple(figure.drawn for figure in drawn(order)), answers)
                answers.flush()
    os._exit(0)  # what nobody has read is not written again
