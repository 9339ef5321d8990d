"""Figures drawn by a process beside this one.

A process and not a thread: matplotlib is Python from end to end, and so is what a sweep computes while it closes. It
is spoken to from the calling thread alone, since another would wait for Python. Once its figures are drawn it waits
for the next ones, and it ends with the program. Figures that it cannot draw are drawn here.
"""

from __future__ import annotations

import atexit
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from lanelock.engine.workers import beside
from lanelock.scoring.figures.drawing import Figure, drawn, ready

_START = "from lanelock.scoring.figures.beside import main; main()"
_idle: list[subprocess.Popen[bytes]] = []


class Pen:
    """A context that draws one set of figures at a time."""

    def __init__(self) -> None:
        self._child = _idle.pop() if _idle else beside(_START)
        self._asked = False  # whether there is an answer that was not taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._asked or self._child.poll() is not None:
            _end(self._child)
        else:
            _idle.append(self._child)

    def prepare(self, module: str) -> None:
        """Has everything imported that drawing will need, `module` with it; does not wait."""
        self._send(module)

    def draw(self, figures: Sequence[Figure]) -> Callable[[], tuple[Figure, ...]]:
        """Has figures drawn. Returns what waits for them, to be called once."""
        self._send(tuple(figures))
        self._asked = True
        return lambda: self._drawn(figures)

    def _send(self, order: Any) -> None:
        with suppress(OSError):  # it has ended, which its answer will show
            pickle.dump(order, _pipe(self._child.stdin))
            _pipe(self._child.stdin).flush()

    def _drawn(self, figures: Sequence[Figure]) -> tuple[Figure, ...]:
        try:
            both = pickle.load(_pipe(self._child.stdout))
        except (EOFError, pickle.UnpicklingError):
            return drawn(figures)
        self._asked = False
        return tuple(replace(figure, drawn=forms) for figure, forms in zip(figures, both, strict=True))


def main() -> None:
    """Draws what comes on stdin until it ends. What goes wrong ends it: the figures are then drawn where it shows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep decides when to stop
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever a library may print
    try:
        while True:
            order = pickle.load(sys.stdin.buffer)
            if isinstance(order, str):
                import_module(order)
                ready()
            else:
                pickle.dump(tuple(figure.drawn for figure in drawn(order)), answers)
                answers.flush()
    except Exception:
        return


def _pipe(end: Any) -> Any:
    assert end is not None  # both ends are piped
    return end


def _end(child: subprocess.Popen[bytes]) -> None:
    _pipe(child.stdout).close()  # it may be waiting to be read
    with suppress(OSError):
        _pipe(child.stdin).close()
    child.wait()


@atexit.register
def _end_idle() -> None:
    for child in _idle:
        _end(child)
