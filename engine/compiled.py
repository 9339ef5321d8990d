"""Compiling the loops that count: one place that says how, and where the machine code is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Returns `loop` as machine code that runs without the interpreter's lock, kept on disk for the next process.

    Where no folder may be written (a read-only installation, no home), each process compiles anew what it calls. A
    temporary folder is not used: one that others can write to would let them hand us code to run. NUMBA_CACHE_DIR
    names a folder to keep it in.
    """
    try:
        return njit(cache=True, nogil=True)(loop)  # type: ignore[return-value]  # it is called as the loop is
    except RuntimeError:  # numba has found no folder that it may write to
        return njit(nogil=True)(loop)  # type: ignore[return-value]
