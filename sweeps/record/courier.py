"""The sweep's end of the process that delivers letters beside it.

It is a process and not a thread because MLflow's client is pure Python: in a thread it would compete with the engine
for the interpreter. It imports MLflow while the lane is surveyed. After a sweep the process waits for the next sweep
of this program; it ends with the program.
"""

from __future__ import annotations

import atexit
import json
import queue
import shutil
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from lanelock import policies
from lanelock.engine.workers import Beside
from lanelock.policies import LanelockError, WorkspaceError
from lanelock.sweeps.record.outbox import Box, own_record
from lanelock.sweeps.workspace import Workspace

_ROOM = 1 << 23  # bytes that are enough for a new database
_START = "from lanelock.sweeps.record.delivery import main; main()"
_idle: list[_Process] = []


@atexit.register
def _end_idle() -> None:
    for process in _idle:
        process.end()


class Courier:
    """A context that connects to the tracking server and, when it ends, waits until all letters are delivered.

    Contract: call `take` once, then `wake` after letters were put. Once the server has refused something, every method
    raises its WorkspaceError.
    """

    def __init__(self, workspace: Workspace, uri: str) -> None:
        room = shutil.disk_usage(workspace.root).free > _ROOM
        new = room and uri == own_record(workspace) and not workspace.tracking_database.exists()
        self._process = _idle.pop() if _idle else _Process()
        self._unanswered = not new  # a new database cannot refuse
        self._process.order(do="open", root=str(workspace.root), uri=uri, answer=not new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Even after an interrupt, finished trials are written; the caller's error goes before an error from here.
        if kind is None:
            self._leave()
            return
        try:
            with suppress(LanelockError):
                self.settle()
        finally:
            self._process.end()  # the next sweep might read an answer that was meant for this one

    def connected(self) -> None:
        """Waits until the tracking server has answered or is known to be away; a new database is not waited for."""
        if self._unanswered:
            self._unanswered = False
            self._process.answer()

    def take(self, box: Box) -> None:
        """Sets the box that is delivered from now on."""
        self._process.order(do="take", box=str(box.path))

    def wake(self) -> None:
        """Announces new letters, without waiting."""
        self._process.order(do="deliver")

    def settle(self) -> str | None:
        """Waits until all is delivered or the server is known to be away. Returns the sweep's run, if there is one."""
        self.connected()  # answers come in order
        self._process.order(do="settle")
        run: str | None = self._process.answer()["run"]
        return run

    def _leave(self) -> None:
        """Frees the process for another sweep."""
        try:
            self.settle()
            self._process.order(do="leave")
            self._process.answer()
        except BaseException:
            self._process.end()  # after a refusal its state is of no use to another sweep
            raise
        _idle.append(self._process)


class _Process:
    def __init__(self) -> None:
        self._beside = Beside(_START)
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._refused: dict[str, Any] | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def order(self, **order: Any) -> None:
        self._raise_refusal()
        try:
            self._beside.stdin.write(json.dumps(order).encode() + b"\n")
            self._beside.stdin.flush()
        except OSError:
            raise self._ended() from None

    def answer(self) -> dict[str, Any]:
        answer = self._answers.get()
        self._raise_refusal()
        return answer

    def end(self) -> None:
        with suppress(OSError):
            self._beside.stdin.close()  # ends the process, and with it the listener
        self._listener.join()
        self._beside.end()

    def _listen(self) -> None:
        for line in self._beside.stdout:
            answer = json.loads(line)
            if "refused" in answer:
                self._refused = answer
            self._answers.put(answer)
        self._refused = self._refused or {"refused": str(self._ended()), "error": "WorkspaceError"}
        self._answers.put(self._refused)

    def _raise_refusal(self) -> None:
        if self._refused is not None:
            if "broken" in self._refused:
                raise RuntimeError(self._refused["broken"])
            error: type[LanelockError] = getattr(policies, self._refused["error"])
            raise error(self._refused["refused"])

    def _ended(self) -> WorkspaceError:
        return WorkspaceError(
            f"the process that writes to the tracking server ended with exit code {self._beside.child.wait()}; "
            "pending uploads are in the outbox; deliver them with: lanelock sync"
        )
