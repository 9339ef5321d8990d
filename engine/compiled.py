"""Compiles hot loops: the one place that sets how, and where the machine code is cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Returns `loop` compiled to run without the interpreter's lock, cached on disk for the next process.

    If no folder is writable (a read-only installation, no home), each process compiles again; NUMBA_CACHE_DIR names a
    folder to use instead. A temporary folder is never used: anyone who can write to it could plant code for us to run.
    """
    try:
        return njit(cache=True, nogil=True)(loop)  # type: ignore[return-value]  # the same signature
    except RuntimeError:  # numba found no writable folder
        return njit(nogil=True)(loop)  # type: ignore[return-value]
