"""A program that answers configurations, one JSON text a line, until it is no longer needed.

    {"id": 17, "params": {...}, "seed": 1}   ->   {"id": 17, "result": {...}}   or   {"id": 17, "error": "the reason"}

Whatever else it does (another id, another line, silence, its end) fails the run that waits, and ends the server: what
it would answer next is not known. Its stderr is its log.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from lanelock.engine.commands.configuration import as_json
from lanelock.engine.commands.once import Left
from lanelock.engine.commands.outputs import read_json
from lanelock.engine.commands.processes import STDERR, Program, Supervisor, in_short, masked, reason, tail, taken
from lanelock.policies import DataError, EngineError

_KEYS = {"id", "result", "error"}
_PATIENCE = 0.5  # seconds for a server that closed its stdout to end


class Server:
    """A running server, for one caller at a time."""

    def __init__(self, program: Program, where: str) -> None:
        self._program, self._where, self._rest = program, where, bytearray()
        self._asked, self.usable = 0, True
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
            keeper = self._keeper = Supervisor((requests, answers))
            files.callback(keeper.close)
            self.close = weakref.finalize(self, files.close)  # also where nobody calls it
            folder = keeper.place()
            self._log = folder / STDERR
            endless = replace(program, limits=replace(program.limits, seconds=None))
            keeper.begin(endless, folder, (requests, answers, str(self._log)))
        os.set_blocking(self._requests, False)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._keeper.has_ended(0)

    def ask(self, params: Mapping[str, Any], seed: int) -> tuple[str, Any]:
        """Returns the request as it was sent, but for its id, and the result.

        Raises EngineError, with the log since the request, for anything but a result; only after an `error` that the
        server itself gives is it of further use.
        """
        self._asked, self.usable = self._asked + 1, False
        with suppress(OSError):
            os.truncate(self._log, 0)  # what was said before is of runs that are over
        question = {"params": params, "seed": seed}
        result = self._result(self._exchanged(as_json({"id": self._asked, **question}).encode() + b"\n"))
        self.usable = True
        return as_json(question), result

    def _exchanged(self, request: bytes) -> bytes:
        """Sends a line and returns the line that comes back."""
        seconds = self._program.limits.seconds
        until = None if seconds is None else time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(self._answers, select.POLLIN)
        waiting.register(self._requests, select.POLLOUT)
        end = self._rest.find(b"\n")
        while end < 0:
            left = None if until is None else until - time.monotonic()
            events = dict(waiting.poll(None if left is None else max(left, 0) * 1000))
            if left is not None and (not events or left <= 0):
                raise self._failed(f"did not answer in {seconds:g} s, killed")
            if events.get(self._requests):
                request = request[self._sent(request) :]
                if not request:
                    waiting.unregister(self._requests)
            if events.get(self._answers):
                end = self._received()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        if request or self._rest:
            raise self._failed(f"printed {_shown(line)} unasked; stdout is for answers alone, the log is stderr")
        return line

    def _sent(self, request: bytes) -> int:
        """Sends as much of a request as the server takes now, and returns how many bytes that is."""
        try:
            return os.write(self._requests, request[: 1 << 16])
        except BlockingIOError:
            return 0
        except BrokenPipeError:  # it reads no more; what it says or does not say tells
            return len(request)

    def _received(self) -> int:
        """Takes what the server has said, and returns where a line ends in it, or -1."""
        part, before = os.read(self._answers, 1 << 20), len(self._rest)
        if not part:
            raise self._failed("")
        self._rest += part
        if len(self._rest) > self._program.limits.file:
            raise self._failed(f"answered with more than {self._program.limits.file >> 20} MiB, killed")
        return self._rest.find(b"\n", before)

    def _result(self, line: bytes) -> Any:
        try:
            answer = read_json(line, "answer")
        except DataError as error:
            raise self._failed(f"{_shown(line)}: {error}") from None
        if not isinstance(answer, dict) or answer.get("id") != self._asked or answer.keys() - _KEYS or len(answer) != 2:
            raise self._failed(f'answered {_shown(line)} instead of {{"id": {self._asked}, "result": {{…}}}}')
        if "error" in answer:
            self.usable, log = True, self._said()
            raise EngineError(self._where, in_short(masked(str(answer["error"]), self._program.environment)), log)
        return answer["result"]

    def _failed(self, why: str) -> EngineError:
        """Ends the server. Returns the error: `why`, or else how it ended."""
        if not why and self._keeper.has_ended(_PATIENCE):
            why = reason(self._keeper.ended(), self._program.limits) or "ended without an answer"
        log = self._said()
        self.close()
        return EngineError(
            self._where, ": ".join(filter(None, (why or "closed its stdout, killed", in_short(log)))), log
        )

    def _said(self) -> str:
        return masked(tail(self._log), self._program.environment)


def _shown(line: bytes) -> str:
    text = in_short(line[:200].decode(errors="replace"))
    return f"{text[:60]!r}" if line else "an empty line"


class Servers:
    """The servers of one engine: as many as callers wait at once, started when they are first needed."""

    def __init__(self, program: Program, where: str) -> None:
        self._program, self._where = program, where
        self._idle = dict[int, list[Server]]()  # by the process that started them: a copy of it has none

    def answer(self, params: Mapping[str, Any], seed: int, world: Mapping[str, bytes] | None) -> tuple[Any, Left]:
        """Returns the result of a configuration, from a server that waits or a new one."""
        if world is not None:
            raise EngineError(self._where, "a server has no world; leave out server = true")
        idle = self._idle.setdefault(os.getpid(), [])
        server = next((kept for kept in taken(idle) if kept.alive), None) or Server(self._program, self._where)
        try:
            question, result = server.ask(params, seed)
        finally:
            idle.append(server) if server.usable else server.close()
        return result, Left(
            {"request.json": f"{question}\n".encode(), "result.json": f"{as_json(result)}\n".encode()}, {}
        )
