"""A running program that answers a line with a line, for one caller at a time, below a supervisor of its own."""

from __future__ import annotations

import os
import select
import time
import weakref
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from lanelock.engine.commands.processes import STDERR, Ended, Program, Supervisor, masked, tail
from lanelock.engine.commands.supervisor import LOOK, in_use

_PATIENCE = 0.5  # seconds for a program that closed its stdout to end


class Broken(Exception):
    """No line came back that can be used; the conversation is over, and the program with all that it started ended."""

    def __init__(self, why: str, line: bytes = b"", ended: Ended | None = None, peak: int = 0) -> None:
        super().__init__(why)
        self.why = why  # "seconds", "memory", "size", "unasked", or "gone": it ended, or closed its stdout
        self.line = line  # that came unasked, or before it was asked to the end
        self.ended = ended  # of one that is gone: how; None: it closed its stdout and did not end
        self.peak = peak  # bytes of memory, the greatest at any look; 0: nobody looked


@dataclass(frozen=True, slots=True)
class Line:
    """An answer, and what it took."""

    text: bytes
    seconds: float
    peak: int  # bytes of memory, the greatest at any look; 0: nobody looked


class Conversation:
    """A program that was started for a conversation. Its stderr is its log."""

    def __init__(self, program: Program) -> None:
        self._program, self._rest = program, bytearray()
        files = ExitStack()
        with ExitStack() as theirs:
            requests, self._requests = os.pipe()
            self._answers, answers = os.pipe()
            for stack, handle in (
                (theirs, requests),
                (theirs, answers),
                (files, self._requests),
                (files, self._answers),
            ):
                stack.callback(os.close, handle)
            self._keeper = Supervisor((requests, answers))
            files.callback(self._keeper.close)
            self.close = weakref.finalize(self, files.close)  # also where nobody calls it
            folder = self._keeper.place()
            self._log = folder / STDERR
            endless = replace(program, limits=replace(program.limits, seconds=None))
            self._keeper.begin(endless, folder, (requests, answers, str(self._log)))
        os.set_blocking(self._requests, False)

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return not self._keeper.has_ended(0)

    def memory(self) -> int:
        """Returns the bytes of memory of the program and all that it started."""
        return in_use(self._keeper.pid, 0)

    def kill(self) -> None:
        """Ends the program with all that it started. A caller that waits for a line gets Broken."""
        self._keeper.terminate()

    def said(self) -> str:
        """Returns its log since the last request."""
        return masked(tail(self._log), self._program.environment)

    def exchange(self, request: bytes, seconds: float | None = None, memory: int | None = None) -> Line:
        """Sends a line and returns the line that comes back, both without its end.

        `memory`: bytes that the program and all that it starts may have together, looked at every `LOOK` seconds.
        Raises Broken where no line comes in time, or something else.
        """
        with suppress(OSError):
            os.truncate(self._log, 0)  # what was said before is of requests that are over
        request += b"\n"
        began, peak = time.monotonic(), 0
        waiting = select.poll()
        waiting.register(self._answers, select.POLLIN)
        waiting.register(self._requests, select.POLLOUT)
        end = self._rest.find(b"\n")
        while end < 0:
            left = None if seconds is None else began + seconds - time.monotonic()
            events = dict(waiting.poll(_milliseconds(left, memory)))
            if left is not None and left <= 0:
                raise Broken("seconds", peak=peak)
            if memory is not None:
                peak = max(peak, in_use(self._keeper.pid, memory))
                if peak > memory:
                    raise Broken("memory", peak=peak)
            if events.get(self._requests):
                request = request[self._sent(request) :]
                if not request:
                    waiting.unregister(self._requests)
            if events.get(self._answers):
                end = self._received()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        if request or self._rest:
            raise Broken("unasked", line)
        return Line(line, time.monotonic() - began, peak)

    def _sent(self, request: bytes) -> int:
        """Sends as much of a request as the program takes now, and returns how many bytes that is."""
        try:
            return os.write(self._requests, request[: 1 << 16])
        except BlockingIOError:
            return 0
        except BrokenPipeError:  # it reads no more; what it says or does not say tells
            return len(request)

    def _received(self) -> int:
        """Takes what the program has said, and returns where a line ends in it, or -1."""
        part, before = os.read(self._answers, 1 << 20), len(self._rest)
        if not part:
            raise Broken("gone", ended=self._keeper.ended() if self._keeper.has_ended(_PATIENCE) else None)
        self._rest += part
        if len(self._rest) > self._program.limits.file:
            raise Broken("size")
        return self._rest.find(b"\n", before)


def _milliseconds(left: float | None, memory: int | None) -> float | None:
    """Returns how long to wait for the other side at most: until the time is over, or until the next look."""
    waits = [] if left is None else [max(left, 0.0)]
    if memory is not None:
        waits.append(LOOK)
    return 1000 * min(waits) if waits else None
