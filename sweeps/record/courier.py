"""The sweep's end of the process that delivers letters beside it.

It is a process and not a thread because MLflow's client is pure Python: in a thread it would compete with the engine
for the interpreter. It imports MLflow while the lane is surveyed. After a sweep the process waits for the next sweep
of this program; it ends with the program.

The sweep never depends on it. If it ends, answers nothing that is an answer, or neither answers nor delivers for
`_PATIENCE` seconds, it is killed and another one is started in its place, once; after that the letters wait in the
outbox.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from lanelock.engine.workers import Beside
from lanelock.policies import WorkspaceError
from lanelock.sweeps.record.outbox import Box, own_record
from lanelock.sweeps.workspace import Workspace

_ROOM = 1 << 23  # bytes that are enough for a new database
_PATIENCE = 120.0  # seconds without an answer or a delivered letter; more than any one request of MLflow's may take
_LOOK = 0.5  # seconds between two looks at whether letters were delivered
_END = 15.0  # seconds that the process has to end by itself: what it has to do, the next one does
_START = "from lanelock.sweeps.record.delivery import main; main()"
_idle: list[_Process] = []


@atexit.register
def _end_idle() -> None:
    for process in _idle:
        process.end()


class Courier:
    """A context that connects to the tracking server and, when it ends, waits until all letters are delivered.

    Contract: call `take` once, then `wake` after letters were put. Only `connected` raises: WorkspaceError if the
    server refuses before the sweep begins. Later refusals are noted in the box, with the letters that wait.
    """

    def __init__(self, workspace: Workspace, uri: str) -> None:
        room = shutil.disk_usage(workspace.root).free > _ROOM
        new = room and uri == own_record(workspace) and not workspace.tracking_database.exists()
        self._workspace, self._uri = workspace, uri
        self._box: Box | None = None
        self._spare = True  # whether another process may be started
        self._process: _Process | None = None
        self._unanswered = not new  # a new database cannot refuse
        self._begin(_idle.pop() if _idle else _Process(), answer=not new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Even after an interrupt, finished trials are written.
        left = False
        try:
            self.settle()
            left = kind is None and self._asked(do="leave") is not None
        finally:
            if self._process is not None and left:
                _idle.append(self._process)
            elif self._process is not None:
                self._process.end()  # the next sweep might read an answer that was meant for this one

    def connected(self) -> None:
        """Waits until the tracking server has answered or is known to be away; a new database is not waited for.

        Raises WorkspaceError if it refuses.
        """
        if self._unanswered:
            answer = self._answer()
            self._unanswered = False
            if answer is not None and "broken" in answer:
                raise RuntimeError(answer["broken"])
            if answer is not None and "refused" in answer:
                raise WorkspaceError(answer["refused"])

    def take(self, box: Box) -> None:
        """Sets the box that is delivered from now on."""
        self._box = box
        self._order(do="take", box=str(box.path))

    def wake(self) -> None:
        """Announces new letters, without waiting."""
        self._order(do="deliver")

    def settle(self) -> str | None:
        """Waits until all is delivered or the server is known to take nothing. Returns the sweep's run, if known."""
        if self._unanswered:  # answers come in order
            self._unanswered = False
            self._answer()
        answer = self._asked(do="settle")
        run: str | None = None if answer is None else answer.get("run")
        return run

    def trouble(self) -> str:
        """Returns why letters of the sweep wait, or ""."""
        return "" if self._box is None else self._box.notes().reason

    def _begin(self, process: _Process, *, answer: bool) -> None:
        self._process = process
        self._order(do="open", root=str(self._workspace.root), uri=self._uri, answer=answer)
        if self._box is not None:
            self._order(do="take", box=str(self._box.path))

    def _asked(self, **order: Any) -> dict[str, Any] | None:
        """Returns the answer to an order, asked of another process if this one ends; None if there is none."""
        while self._process is not None:
            self._order(**order)
            if (answer := self._answer()) is not None:
                return answer
        return None

    def _order(self, **order: Any) -> None:
        try:
            if self._process is not None:
                self._process.order(order)
        except _GoneError as error:
            self._gone(str(error))

    def _answer(self) -> dict[str, Any] | None:
        """Waits for an answer. Returns None if the process gives none; then another one was begun, if there is one."""
        if self._process is None:
            return None
        try:
            return self._process.answer(self._delivered)
        except _GoneError as error:
            self._gone(str(error))
            return None

    def _delivered(self) -> int:
        """Returns a number that changes when a letter is delivered: when a mark in the outbox was replaced."""
        with suppress(OSError):
            return self._workspace.outbox.stat().st_mtime_ns
        return 0

    def _gone(self, why: str) -> None:
        """Gives the process up, and begins another one if none was begun before."""
        if self._process is not None:
            self._process.end(kill=True)
        self._process = None
        if self._spare:
            self._spare = False
            self._begin(_Process(), answer=False)
        elif self._box is not None:
            with suppress(WorkspaceError):  # a full disk: the reason is lost, the letters are not
                self._box.explain(why)


class _GoneError(Exception):
    """The process ended, or is of no use; the message says how."""


class _Process:
    def __init__(self) -> None:
        self._beside = Beside(_START)
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()  # None: no more will come
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        os.set_blocking(self._beside.stdin.fileno(), False)  # a process that was stopped must not stop the sweep

    def order(self, order: dict[str, Any]) -> None:
        """Gives an order, without waiting. Raises _GoneError if the process has ended, or takes no order."""
        try:
            os.write(self._beside.stdin.fileno(), json.dumps(order).encode() + b"\n")  # whole or not: a page at most
        except BlockingIOError:
            if order["do"] != "deliver":  # many of these wait there unread
                raise _GoneError("the process that writes to the tracking server takes no orders") from None
        except (OSError, ValueError):
            raise self._ended() from None

    def answer(self, delivered: Callable[[], int]) -> dict[str, Any]:
        """Waits for an answer. Raises _GoneError if there is none and `delivered` does not change for too long."""
        last, until = delivered(), time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with suppress(queue.Empty):
                answer = self._answers.get(timeout=_LOOK)
                if answer is None:
                    raise self._ended()
                return answer
            if (now := delivered()) != last:
                last, until = now, time.monotonic() + _PATIENCE
        raise _GoneError(f"the process that writes to the tracking server did nothing for {_PATIENCE:g} s")

    def end(self, *, kill: bool = False) -> None:
        """Ends the process: by closing its stdin, by force if it does not end or with `kill`."""
        with suppress(OSError):
            self._beside.stdin.close()
        if kill:
            self._beside.child.kill()
        try:
            self._beside.child.wait(_END)
        except subprocess.TimeoutExpired:
            self._beside.child.kill()
        self._listener.join()
        self._beside.end()

    def _listen(self) -> None:
        with suppress(OSError, ValueError):  # ValueError: no answer, or a closed stream
            for line in self._beside.stdout:
                answer = json.loads(line)
                if not isinstance(answer, dict):
                    break
                self._answers.put(answer)
        self._answers.put(None)

    def _ended(self) -> _GoneError:
        with suppress(subprocess.TimeoutExpired):
            code = self._beside.child.wait(1.0)
            return _GoneError(f"the process that writes to the tracking server ended with exit code {code}")
        return _GoneError("the process that writes to the tracking server gave no answer that can be read")
