"""Compiles hot loops: the one place that sets how, and where the machine code is cached."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache

Loop = TypeVar("Loop", bound=Callable[..., object])
_UNUSABLE = (OSError, EOFError, ValueError, pickle.UnpicklingError)  # a full disk; a file that was cut


class _Cache(FunctionCache):
    """Numba's cache, except that files which cannot be read or written cost a compilation, never the run."""

    def load_overload(self, *address: Any) -> Any:
        with suppress(*_UNUSABLE):
            return super().load_overload(*address)  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, *made: Any) -> None:
        with suppress(*_UNUSABLE):
            super().save_overload(*made)  # type: ignore[no-untyped-call]


def compiled(loop: Loop) -> Loop:
    """Returns `loop` compiled to run without the interpreter's lock, cached on disk for the next process.

    If no folder is writable (a read-only installation, no home), each process compiles again; NUMBA_CACHE_DIR names a
    folder to use instead. A temporary folder is never used: anyone who can write to it could plant code for us to run.
    """
    made: Any = njit(nogil=True)(loop)
    with suppress(RuntimeError):  # numba found no writable folder
        made._cache = _Cache(loop)  # type: ignore[no-untyped-call]  # as its own `enable_caching` does
    return made  # type: ignore[no-any-return]  # the same signature
