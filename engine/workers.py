"""Work in parts, on threads, and what is done beside this process.

Parts are values and results come in their order, so nothing depends on how many there are.

Threads, not processes: the loops that count are compiled and let go of the interpreter, and nothing is copied.
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
    """Within, `spread` takes no more than so many threads; None: every core."""
    token = _THREADS.set(threads)
    try:
        yield
    finally:
        _THREADS.reset(token)


def spread(work: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """The result of each part, in order; all are begun as threads come free."""
    return list(in_order(work, parts))


def in_order(work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """As `spread`, each result handed over as soon as it and all before it are there, and then let go."""
    with ThreadPoolExecutor(_THREADS.get() or os.cpu_count() or 1, thread_name_prefix="part") as workers:
        yield from workers.map(work, parts)


def mapped(work: Callable[[Part], Result], parts: Iterable[Part], jobs: int) -> Iterator[Result]:
    """`work` of each part, in order, on `jobs` threads; at most jobs + 1 results are begun and not yet taken.

    The first part in order that raises ends it: what has not begun is cancelled, what runs is waited for. So it is
    when the iterator is closed early. With one job nothing is computed before it is asked for.
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
    """`rows` rows cut into slices of at most `size`."""
    return [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


class Beside:
    """A process that runs `start` and imports what this one can; it is spoken to on its stdin and stdout.

    Not by multiprocessing, which would run the user's own script in it again. Ctrl-C does not reach it: who began it
    decides when it stops.
    """

    def __init__(self, start: str) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        command, environment = [sys.executable, "-c", start], {**os.environ, "PYTHONPATH": paths}
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, process_group=0
        )
        assert self.child.stdin is not None and self.child.stdout is not None  # they are piped
        self.stdin, self.stdout = self.child.stdin, self.child.stdout

    def end(self) -> None:
        """Ends its stdin and waits until it has ended itself. What it still answers is lost."""
        with suppress(OSError):
            self.stdin.close()
        with suppress(OSError):
            self.stdout.close()
        self.child.wait()
