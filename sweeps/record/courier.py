"""The process that delivers letters beside a sweep, as the sweep sees it.

A process and not a thread: MLflow's client is Python from end to end, and on a thread it would take turns with the
engine. Its start, MLflow's import, runs beside the survey of the lane. A process that is done with a sweep waits for
the next one of this program, and ends with the program.
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
    """A context: it begins to connect to the record, and on leaving waits until all that was put is delivered.

    Contract: `take` once, then `wake` whenever letters were put. Every method raises the record's own WorkspaceError
    once it has refused what it was given.
    """

    def __init__(self, workspace: Workspace, uri: str) -> None:
        room = shutil.disk_usage(workspace.root).free > _ROOM
        new = room and uri == own_record(workspace) and not workspace.tracking_database.exists()
        self._process = _idle.pop() if _idle else _Process()
        self._unanswered = not new  # a database that is made now cannot refuse
        self._process.order(do="open", root=str(workspace.root), uri=uri, answer=not new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Interrupted or not, what was told is written; another error is told in place of one from here.
        if kind is None:
            self._leave()
            return
        try:
            with suppress(LanelockError):
                self.settle()
        finally:
            self._process.end()  # its answers may not be those that the next sweep would wait for

    def connected(self) -> None:
        """Waits for the record's answer, or for it to be found away, where there is one that may refuse."""
        if self._unanswered:
            self._unanswered = False
            self._process.answer()

    def take(self, box: Box) -> None:
        """Names the box that is delivered from now on."""
        self._process.order(do="take", box=str(box.path))

    def wake(self) -> None:
        """Says that there are new letters; does not wait."""
        self._process.order(do="deliver")

    def settle(self, trial: int | None = None) -> dict[str, str | None]:
        """Waits until all is delivered, or the record is found away. Returns the runs of the sweep and of a trial."""
        self.connected()  # answers come in order
        self._process.order(do="settle", trial=trial)
        return self._process.answer()

    def _leave(self) -> None:
        """Lets the process go on to another sweep."""
        try:
            self.settle()
            self._process.order(do="leave")
            self._process.answer()
        except BaseException:
            self._process.end()  # it has refused: what it thinks of the record is worth nothing to the next
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
            self._beside.stdin.close()  # it delivers no more, and ends, and so does who listens to it
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
            f"the process that writes the record ended with {self._beside.child.wait()}; what it has not written waits "
            "in the outbox: lanelock sync"
        )
