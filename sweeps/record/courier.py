"""The process that delivers letters beside a sweep, as the sweep sees it.

A process and not a thread: MLflow's client is Python from end to end, and on a thread it would take turns with the
engine. Its start, MLflow's import, runs beside the survey of the lane. A process that is done with a sweep waits for
the next one of this program, and ends with the program. It also draws what the record shows, since matplotlib is
Python from end to end too.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lanelock import policies
from lanelock.policies import LanelockError, WorkspaceError
from lanelock.scoring.figures.drawing import Figure, packed, unpacked
from lanelock.sweeps.record.outbox import Box, own_record
from lanelock.sweeps.workspace import Workspace

_ROOM = 1 << 23  # bytes that are enough for a new database
_START = "from lanelock.sweeps.record.delivery import main; main()"
_idle: list[_Process] = []


@atexit.register
def _end_idle() -> None:
    for process in _idle:
        process.end()


@dataclass(frozen=True, slots=True)
class Standing:
    """What was delivered: the run ids where they are known, and what still waits because the record is away."""

    parent: str | None
    run: str | None
    waits: int
    away: str


class Courier:
    """Contract: `open` first, `take` once, then `wake` whenever letters were put; `leave` at the end.

    Every method raises the record's own WorkspaceError once it has refused what it was given.
    """

    def __init__(self) -> None:
        self._process = _idle.pop() if _idle else _Process()
        self._figures: Mapping[str, tuple[Figure, ...]] = {}

    def open(self, workspace: Workspace, uri: str) -> None:
        """Connects to the record; waits for its answer, or for it to be found away, where there is one to refuse."""
        room = shutil.disk_usage(workspace.root).free > _ROOM
        new = room and uri == own_record(workspace) and not workspace.tracking_database.exists()
        self._process.order(do="open", root=str(workspace.root), uri=uri, answer=not new)
        if not new:
            self._process.answer()

    def take(self, box: Box, metrics: object) -> None:
        """Names the box that is delivered from now on, and the source of metrics whose figures it may have to draw."""
        self._process.order(do="take", box=str(box.path), needs=type(metrics).__module__)

    def wake(self) -> None:
        """Says that there are new letters; does not wait."""
        self._process.order(do="deliver")

    def settle(self, trial: int | None = None) -> Standing:
        """Waits until all is delivered, or the record is found away."""
        self.drawn()  # answers come in order: one that nobody waits for any more comes first
        self._process.order(do="settle", trial=trial)
        return self._process.answer()

    def draw(self, figures: Mapping[str, tuple[Figure, ...]]) -> None:
        """Has groups of figures drawn; does not wait."""
        self._figures = figures
        self._process.order(do="draw", figures=packed(tuple(chain.from_iterable(figures.values()))))

    def drawn(self) -> Mapping[str, tuple[Figure, ...]]:
        """The groups that were to be drawn, once; none where nothing was."""
        groups, self._figures = self._figures, {}
        found = iter(unpacked(self._process.reply()["drawn"]) if groups else ())
        return {
            name: tuple(replace(figure, drawn=next(found)) for figure in figures) for name, figures in groups.items()
        }

    def leave(self) -> None:
        """Lets the process go on to another sweep."""
        try:
            self.drawn()
            self._process.order(do="leave")
            self._process.answer()
        except LanelockError:
            self._process.end()  # it has refused: what it thinks of the record is worth nothing to the next
        else:
            _idle.append(self._process)


class _Process:
    def __init__(self) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._child = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._refused: dict[str, Any] | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def order(self, **order: Any) -> None:
        self._raise_refusal()
        assert self._child.stdin is not None  # it is piped
        try:
            self._child.stdin.write(json.dumps(order) + "\n")
            self._child.stdin.flush()
        except OSError:
            raise self._ended() from None

    def answer(self) -> Standing:
        return Standing(**self.reply())

    def reply(self) -> dict[str, Any]:
        found = self._answers.get()
        self._raise_refusal()
        return found

    def end(self) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None  # they are piped
        self._child.stdin.close()
        self._child.wait()
        self._listener.join()
        self._child.stdout.close()

    def _listen(self) -> None:
        assert self._child.stdout is not None  # it is piped
        for line in self._child.stdout:
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
            f"the process that writes the record ended with {self._child.wait()}; what it has not written waits in the "
            "outbox: lanelock sync"
        )
