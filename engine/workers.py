"""Work in parts on threads, and processes beside this one.

Results come in the order of their parts, so no result depends on the number of parts or threads. Threads serve because
the hot loops are compiled and release the interpreter's lock; nothing is copied.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")

_THREADS: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """Limits `spread` to `threads` threads within the block; None: one per core."""
    token = _THREADS.set(threads)
    try:
        yield
    finally:
        _THREADS.reset(token)


def spread(work: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """Returns the result of each part, in order."""
    return list(in_order(work, parts))


def in_order(work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """As `spread`, each result handed over as soon as it and all before it are there, and then let go."""
    with ThreadPoolExecutor(_THREADS.get() or os.cpu_count() or 1, thread_name_prefix="part") as workers:
        yield from workers.map(work, parts)


def mapped(work: Callable[[Part], Result], parts: Iterable[Part], jobs: int) -> Iterator[Result]:
    """Yields `work` of each part, in order, on `jobs` threads, with at most jobs + 1 results begun and not yet taken.

    When a part raises, or the iterator is closed early, parts that have not begun are cancelled and running parts are
    waited for. With one job each part is computed only when it is taken.
    """
    if jobs == 1:
        yield from map(work, parts)
        return
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="part")
    waiting: deque[Future[Result]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def ranges(rows: int, size: int) -> list[slice]:
    """Returns slices of at most `size` that cover `rows` rows."""
    return [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


class Beside:
    """A Python process that runs the code `start` with our import paths, and talks over its stdin and stdout.

    Not `multiprocessing`, which would run the user's own script again. Ctrl-C does not reach the process: its owner
    ends it.
    """

    def __init__(self, start: str) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        command, pipe = [sys.executable, "-c", start], subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": paths}
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, process_group=0)
        assert self.child.stdin is not None and self.child.stdout is not None  # both are pipes
        self.stdin, self.stdout = self.child.stdin, self.child.stdout

    def end(self) -> None:
        """Closes the pipes and waits for the process to end. Answers not read yet are lost."""
        for stream in (self.stdin, self.stdout):
            with suppress(OSError):
                stream.close()
        self.child.wait()
