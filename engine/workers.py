"""Work in parts, on every core. Parts are values and results come in their order, so nothing depends on how many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def spread(work: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """The result of each part, in order. Threads: the loops that count are compiled and let go of the interpreter."""
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="state") as workers:
        return list(workers.map(work, parts))


def ranges(rows: int, size: int) -> list[slice]:
    """`rows` rows cut into slices of at most `size`."""
    return [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]
