"""A program that answers configurations, one JSON text a line, until it is no longer needed.

    {"id": 17, "params": {...}, "seed": 1}   ->   {"id": 17, "result": {...}}   or   {"id": 17, "error": "the reason"}

Whatever else it does (another id, another line, silence, its end) fails the run that waits, and ends the server: what
it would answer next is not known. Its stderr is its log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lanelock.engine.commands.configuration import as_json
from lanelock.engine.commands.conversation import Broken, Conversation
from lanelock.engine.commands.once import Left
from lanelock.engine.commands.outputs import read_json
from lanelock.engine.commands.processes import Ended, Limits, Program, in_short, masked, reason, taken
from lanelock.policies import DataError, EngineError

_KEYS = {"id", "result", "error"}


class Server:
    """A running server, for one caller at a time."""

    def __init__(self, program: Program, where: str) -> None:
        self._program, self._where, self._talk = program, where, Conversation(program)
        self._asked, self.usable, self.close = 0, True, self._talk.close

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._talk.alive

    def ask(self, params: Mapping[str, Any], seed: int) -> tuple[str, Any]:
        """Returns the request as it was sent, but for its id, and the result.

        Raises EngineError, with the log since the request, for anything but a result; only after an `error` that the
        server itself gives is it of further use.
        """
        self._asked, self.usable = self._asked + 1, False
        question = {"params": params, "seed": seed}
        result = self._result(self._exchanged(as_json({"id": self._asked, **question}).encode()))
        self.usable = True
        return as_json(question), result

    def _exchanged(self, request: bytes) -> bytes:
        """Sends a line and returns the line that comes back."""
        limits = self._program.limits
        try:
            return self._talk.exchange(request, limits.seconds).text
        except Broken as broken:
            said = {
                "seconds": f"did not answer in {limits.seconds or 0:g} s, killed",
                "size": f"answered with more than {limits.file >> 20} MiB, killed",
                "unasked": f"printed {_shown(broken.line)} unasked; stdout is for answers alone, the log is stderr",
                "gone": _ended(broken.ended, limits),
            }
            raise self._failed(said[broken.why]) from None

    def _result(self, line: bytes) -> Any:
        try:
            answer = read_json(line, "answer")
        except DataError as error:
            raise self._failed(f"{_shown(line)}: {error}") from None
        if not isinstance(answer, dict) or answer.get("id") != self._asked or answer.keys() - _KEYS or len(answer) != 2:
            raise self._failed(f'answered {_shown(line)} instead of {{"id": {self._asked}, "result": {{…}}}}')
        if "error" in answer:
            self.usable, log = True, self._talk.said()
            raise EngineError(self._where, in_short(masked(str(answer["error"]), self._program.environment)), log)
        return answer["result"]

    def _failed(self, why: str) -> EngineError:
        """Ends the server and returns the error."""
        log = self._talk.said()
        self.close()
        return EngineError(self._where, ": ".join(filter(None, (why, in_short(log)))), log)


def _ended(ended: Ended | None, limits: Limits) -> str:
    """Returns how a server ended that gave no answer."""
    return "closed its stdout, killed" if ended is None else reason(ended, limits) or "ended without an answer"


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
