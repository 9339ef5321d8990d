"""Where work is done: a task is a name and a JSON document, its items and their results are JSON, in order.

A task's name stands for code that every place has (`tasks`), and its document for all that its items have in common,
so that nothing travels but names and JSON. Places differ in what they cost and in what they can end: `Threads` runs in
this process and ends nothing; `Processes` (in `processes`) can kill what goes over a limit. A result never depends on
the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = Mapping[str, Any]
SECONDS, MEMORY, WORKER = "seconds", "memory_mb", "worker"  # what can end an item: a limit, or its worker's death


@dataclass(frozen=True)
class Task:
    """What is to be done with items: the same code everywhere, on what the document states."""

    name: str  # of `tasks.TASKS`
    document: Json
    here: Callable[[Json], Json]  # the same, on what is at hand in this process
    proof: Json  # what a worker must answer when it has built the task from the document


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits of one item, and how often it is tried where its worker dies."""

    seconds: float | None = None
    memory_mb: float | None = None  # MiB of the worker with all that it starts
    tries: int = 2

    @property
    def memory(self) -> int | None:
        """The limit in bytes."""
        return None if self.memory_mb is None else int(self.memory_mb * (1 << 20))

    @property
    def bounded(self) -> bool:
        """Whether there is a limit."""
        return self.seconds is not None or self.memory_mb is not None


NO_LIMITS = Terms()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an item: a result, or what ended it."""

    result: Json | None
    ended_by: str = ""  # SECONDS, MEMORY or WORKER; empty: there is a result
    why: str = ""  # in words
    details: str = ""  # all that the worker printed before it was ended
    used: Mapping[str, float] = field(default_factory=dict)  # "seconds" and "peak_mb", where there are limits


class Executor(Protocol):
    """A place for work. It is a context: what it has started is ended when the context is left."""

    @property
    def apart(self) -> bool:
        """Whether it works in processes of their own, which can be ended."""

    def begin(self, task: Task, terms: Terms = NO_LIMITS) -> None:
        """Makes ready for a task's first item. Raises LaneError or WorkspaceError where no item could be done."""

    def map(self, task: Task, items: Sequence[Json], terms: Terms = NO_LIMITS) -> Iterator[Answer]:
        """Yields what came of each item, in order. Several threads may call it at once.

        Raises what the task raises, and WorkspaceError where no worker can be had.
        """


class Threads:
    """Works in this process, on several threads. It can end nothing, so `terms` are not for it."""

    apart = False

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="work")

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, task: Task, terms: Terms = NO_LIMITS) -> None:
        """Does nothing: everything is at hand."""

    def map(self, task: Task, items: Sequence[Json], terms: Terms = NO_LIMITS) -> Iterator[Answer]:
        """Yields the result of each item, in order."""
        if terms.bounded:
            raise ValueError("a thread cannot be ended: limits need processes")
        return map(Answer, self._pool.map(task.here, items))
