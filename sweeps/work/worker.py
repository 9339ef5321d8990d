"""A worker process: it builds a task again from its document, and does the task's items, one line of JSON each.

    {"open": NAME, "document": {…}, "folder": "/…", "memory": null}   ->   {"proof": {…}}
    {"item": {…}}                                                     ->   {"result": {…}}
    anything else that comes of them                                  ->   {"raised": KIND, "text": "…"}

It starts in a folder of its own, and works in the folder that it is told. What an engine prints is no answer, and what
it reads is no request: its output goes to stderr, which is this process's log, and its input is empty.
"""

from __future__ import annotations

import json
import os
from typing import Any

from lanelock.engine.steps import remember_at_most
from lanelock.policies import LanelockError
from lanelock.policies.errors import EngineError
from lanelock.sweeps.work.executor import Task
from lanelock.sweeps.work.tasks import TASKS


def serve() -> None:
    """Answers requests until there are no more."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    worker = Worker()
    for line in requests:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()


class Worker:
    """The task that is open, and the requests about it."""

    def __init__(self) -> None:
        self._task: Task | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request."""
        try:
            return self._opened(request) if "open" in request else {"result": self._done(request["item"])}
        except (Exception, SystemExit) as error:
            kind = LanelockError if isinstance(error, EngineError) else type(error)
            return {"raised": kind.__name__, "text": str(error) or type(error).__name__}

    def _opened(self, request: dict[str, Any]) -> dict[str, Any]:
        os.chdir(request["folder"])  # in which a project and relative paths are found
        if request["memory"] is not None:
            remember_at_most(request["memory"] // 3)  # the rest is for what a run computes
        self._task = TASKS[request["open"]](request["document"])
        return {"proof": self._task.proof}

    def _done(self, item: dict[str, Any]) -> Any:
        assert self._task is not None  # `processes` opens a task before it sends an item
        return self._task.here(item)
