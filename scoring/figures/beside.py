"""Draws figures in a process beside this one.

It is a process, not a thread, because matplotlib and the closing of a sweep both hold Python's lock; for the same
reason only the calling thread talks to it. The process waits for further figures and ends with the program. Figures
that it cannot draw are drawn in this process.
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
    """Provides a drawing process for the block, an idle one if there is one."""
    pen = Pen(_idle.pop() if _idle else Beside(_START))
    try:
        yield pen
    finally:
        if pen.pending or pen.process.child.poll() is not None:
            pen.process.end()
        else:
            _idle.append(pen.process)


class Pen:
    """Draws one set of figures at a time."""

    def __init__(self, process: Beside) -> None:
        self.process = process
        self.pending = False  # whether an answer is still to be read

    def prepare(self, module: str) -> None:
        """Imports `module` and everything that drawing needs, without waiting."""
        self._send(module)

    def draw(self, figures: Sequence[Figure]) -> Callable[[], tuple[Figure, ...]]:
        """Starts drawing. Returns a function that waits for the figures, to be called once."""
        self._send(tuple(figures))
        self.pending = True
        return lambda: self._drawn(figures)

    def _send(self, order: str | tuple[Figure, ...]) -> None:
        with suppress(OSError):  # the process has ended: reading the answer will fail
            pickle.dump(order, self.process.stdin)
            self.process.stdin.flush()

    def _drawn(self, figures: Sequence[Figure]) -> tuple[Figure, ...]:
        try:
            answer = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            return drawn(figures)
        self.pending = False
        return tuple(replace(figure, drawn=forms) for figure, forms in zip(figures, answer, strict=True))


def main() -> None:
    """Draws figures from stdin until it closes. Any error ends the process; its caller then draws and raises it."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # keeps a library's prints off the answers
    with suppress(Exception):
        while True:
            order = pickle.load(sys.stdin.buffer)
            if isinstance(order, str):
                import_module(order)
                ready()
            else:
                pickle.dump(tuple(figure.drawn for figure in drawn(order)), answers)
                answers.flush()
    os._exit(0)  # no flush of an answer that was not read
