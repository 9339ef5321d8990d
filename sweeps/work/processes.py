"""Work in processes of their own: what goes over a limit is killed with all that it started, and replaced.

A worker runs below a supervisor (`engine.commands`), so it ends with this process, however that ends. Workers are
started, never forked: threads run here. A worker that dies, or goes over its memory after it has done other items,
costs its item one try; the item is then tried in a new worker, so that no item fails by what others left behind.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lanelock.engine.commands.conversation import Broken, Conversation, Line
from lanelock.engine.commands.processes import Ended, Limits, Program, reason
from lanelock.policies import EngineError, LaneError, LanelockError, WorkspaceError, errors
from lanelock.sweeps.work.executor import MEMORY, NO_LIMITS, SECONDS, WORKER, Answer, Json, Task, Terms

_START = "from lanelock.sweeps.work.worker import serve; serve()"
_FILE = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
_NONE = Limits(None, None, 1 << 62 if _FILE == resource.RLIM_INFINITY else _FILE)  # as this process
_ENDED = {"seconds": SECONDS, "memory": MEMORY}


class Processes:
    """As many workers as jobs, each started when it is first needed."""

    apart = True

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="work")  # each thread waits for one worker
        self._idle, self._busy, self._lock = list[_Worker](), set[_Worker](), threading.Lock()
        self._left = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *raised: object) -> None:
        """Ends all workers, also those that are at work: nobody waits for them any more."""
        with self._lock:
            self._left = True
            for worker in (*self._idle, *self._busy):
                worker.kill()
        self._pool.shutdown(cancel_futures=True)
        for worker in (*self._idle, *self._busy):
            worker.close()

    def begin(self, task: Task, terms: Terms = NO_LIMITS) -> None:
        """Starts the first worker; see `Executor`."""
        with self._worker(task, terms, fresh=False):
            pass

    def map(self, task: Task, items: Sequence[Json], terms: Terms = NO_LIMITS) -> Iterator[Answer]:
        """Yields what came of each item, in order; see `Executor`."""
        return self._pool.map(partial(self._done, task, terms), items)

    def _done(self, task: Task, terms: Terms, item: Json) -> Answer:
        """Does an item, in a new worker where a worker dies of it."""
        for attempt in range(1, terms.tries + 1):
            with self._worker(task, terms, fresh=attempt > 1) as worker:
                answer = worker.done(item, terms)
            if answer.ended_by != WORKER and not (answer.ended_by == MEMORY and worker.count > 1):
                break
        return answer

    @contextmanager
    def _worker(self, task: Task, terms: Terms, fresh: bool) -> Iterator[_Worker]:
        """Lends a worker that has the task open: a new one where it has to be `fresh`, or none waits."""
        with self._lock:
            self._check_open()
            worker = None if fresh else next((one for one in self._idle if one.task is task), None)
            if worker is not None:
                self._idle.remove(worker)
                self._busy.add(worker)
        if worker is None:
            worker = self._started(task, terms)
        try:
            yield worker
        finally:
            if not worker.usable:
                worker.close()
            with self._lock:
                self._busy.discard(worker)
                if worker.usable:
                    self._idle.append(worker)

    def _started(self, task: Task, terms: Terms) -> _Worker:
        """Returns a new worker with the task open, in the place of those that wait with another."""
        with self._lock:
            others = [worker for worker in self._idle if worker.task is not task]
            self._idle = [worker for worker in self._idle if worker.task is task]
        for other in others:
            other.close()
        for attempt in range(1, terms.tries + 1):
            worker = _Worker()
            with self._lock:
                self._busy.add(worker)
                self._check_open()
            try:
                worker.open(task, terms)
                break
            except _Died as died:
                worker.close()
                with self._lock:
                    self._busy.discard(worker)
                if self._left or attempt == terms.tries:
                    raise WorkspaceError(f"a worker process ended before it began to work: {died}") from None
        return worker

    def _check_open(self) -> None:
        if self._left:
            raise WorkspaceError("the work is over, and its processes with it")


class _Died(Exception):
    """A worker ended without an answer; the message says how."""


class _Worker:
    """One process, for one caller at a time."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": paths}
        self._talk = Conversation(Program(sys.executable, ("-c", _START), environment, _NONE))
        self.task: Task | None = None
        self.count = 0  # items that it was given
        self.usable = True
        self.close, self.kill = self._talk.close, self._talk.kill

    def open(self, task: Task, terms: Terms) -> None:
        """Makes the task known. Raises what the task's document raises there, and where it is not the same there."""
        request = {"open": task.name, "document": task.document, "folder": str(Path.cwd()), "memory": terms.memory}
        proof = self._asked(request, NO_LIMITS)[0]["proof"]
        for name in task.proof:
            if proof.get(name) != task.proof[name]:
                raise WorkspaceError(
                    f"a worker process has another {name}: {_short(proof.get(name))} there, {_short(task.proof[name])} "
                    "here; its files were changed meanwhile: start again"
                )
        if terms.memory is not None and (needs := self._talk.memory()) > terms.memory:
            self.usable = False
            raise LaneError(
                f"/limits/memory_mb: {terms.memory_mb:g}: a process needs {needs >> 20} MiB before it runs anything"
            )
        self.task = task

    def done(self, item: Json, terms: Terms) -> Answer:
        """Does an item. What it raises there is raised here."""
        self.count, began = self.count + 1, time.monotonic()
        try:
            answer, line = self._asked({"item": item}, terms)
        except Broken as broken:
            over, took = _ENDED[broken.why], f"took longer than {terms.seconds or 0:g} s (limits/seconds)"
            text = took if over == SECONDS else f"used more than {terms.memory_mb or 0:g} MiB (limits/memory_mb)"
            return Answer(None, over, text, self._talk.said(), _used(time.monotonic() - began, broken.peak))
        except _Died as died:
            tries = f", {terms.tries} times" if terms.tries > 1 else ""
            used = _used(time.monotonic() - began, 0) if terms.bounded else {}
            return Answer(None, WORKER, f"its process ended: {died}{tries}", self._talk.said(), used)
        return Answer(answer["result"], used=_used(line.seconds, line.peak) if terms.bounded else {})

    def _asked(self, request: Json, terms: Terms) -> tuple[Mapping[str, Any], Line]:
        """Returns the answer to a request. Raises Broken where a limit ended the process, _Died where it ended."""
        self.usable = False
        try:
            line = self._talk.exchange(json.dumps(request).encode(), terms.seconds, terms.memory)
        except Broken as broken:
            if broken.why in _ENDED:
                raise
            raise _Died(_how(broken.ended) if broken.why == "gone" else "it wrote what is no answer") from None
        except EngineError as error:
            raise _Died(error.what) from None
        answer: Mapping[str, Any] = json.loads(line.text)
        self.usable = True
        if "raised" in answer:
            raise _raised(answer["raised"], answer["text"])
        return answer, line


def _how(ended: Ended | None) -> str:
    """Returns in words how a process ended."""
    return "closed its output" if ended is None else reason(ended, _NONE) or "exit 0"


def _raised(kind: str, text: str) -> Exception:
    """Returns what a task raised there, as it is raised here."""
    here = getattr(errors, kind, None)
    return here(text) if isinstance(here, type) and issubclass(here, LanelockError) else RuntimeError(f"{kind}: {text}")


def _used(seconds: float, peak: int) -> dict[str, float]:
    """Returns what an item took; the memory only where it was looked at."""
    return {"seconds": seconds, **({"peak_mb": peak / (1 << 20)} if peak else {})}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 20 else f"{text[:12]}…"
