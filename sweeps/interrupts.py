"""The signals that end a program: raised where it can bear it, and final when they come twice.

The command line answers Ctrl-C, SIGTERM and SIGHUP alike. A program that plays a sweep itself keeps its own answers;
there only Ctrl-C waits for the end of a trial.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME = 0.5  # seconds: a terminal and a program between send one Ctrl-C twice


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end; `kept` says what was kept and how to go on."""

    def __init__(self, number: int = signal.SIGINT, kept: str = "") -> None:
        super().__init__(number)
        self.number, self.kept = number, kept

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells count: 130, 143, 129."""
        return 128 + self.number


class _Answer:
    """What is done with a signal that arrives."""

    def __init__(self) -> None:
        self.ours = False  # whether a second signal may end the whole process
        self.deferring = False
        self.first: tuple[int, float] | None = None  # its number, and when it came

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first = number, time.monotonic()
            if not self.deferring:
                raise Interrupted(number)
        elif not self.ours:
            raise Interrupted(number)
        elif time.monotonic() - self.first[1] > _SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def stop(self) -> None:
        """Raises the signal that was deferred, if any."""
        if self.first is not None:
            raise Interrupted(self.first[0])


_answer = _Answer()


@contextmanager
def answered() -> Iterator[None]:
    """Raises Interrupted once for the signals that end a program; a second one, half a second later, ends it at once.

    A signal that is ignored from the start stays ignored: `nohup` and jobs in the background ask for it.
    """
    if not _in_main_thread():
        yield
        return
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _answer) for number in heard}
    _answer.ours, _answer.first = True, None
    try:
        yield
    finally:
        _answer.ours, _answer.first = False, None
        for number, answer in before.items():
            signal.signal(number, answer)


@contextmanager
def deferred() -> Iterator[Callable[[], None]]:
    """Keeps the signals until `stop()` is called between trials, so that every stored trial is also tracked."""
    if not _in_main_thread():  # Python handles signals in the main thread only
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGINT)
    if not _answer.ours and callable(before):
        _answer.first = None
        signal.signal(signal.SIGINT, _answer)
    _answer.deferring = True
    try:
        yield _answer.stop
    finally:
        _answer.deferring = False
        if not _answer.ours and callable(before):
            signal.signal(signal.SIGINT, before)
    _answer.stop()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
