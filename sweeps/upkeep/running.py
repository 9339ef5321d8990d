"""Who holds a kernel lock, asked without taking it: who probes by locking may refuse the one who comes just then."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_LOCKS = Path("/proc/locks")
UNKNOWN = 0  # the process that holds it cannot be named


def holder(lock: Path) -> int | None:
    """The process that holds `lock`; None where none does; UNKNOWN where this system does not say which.

    A process on another machine that shares the folder is not seen.
    """
    try:
        stands = lock.stat()
    except OSError:
        return None
    try:
        held = _LOCKS.read_text()
    except OSError:
        return _tried(lock)
    for line in held.splitlines():
        parts = line.split()
        if parts[1:2] == ["FLOCK"] and parts[5].rpartition(":")[2] == str(stands.st_ino):
            place = f"{os.major(stands.st_dev):02x}:{os.minor(stands.st_dev):02x}"
            if parts[5].rpartition(":")[0] == place or _opened(int(parts[4]), lock):
                return int(parts[4])
    return None


def _opened(process: int, lock: Path) -> bool:
    """Whether a process has the file open: some file systems show locks under another device than files."""
    try:
        return any(Path(entry.path).resolve() == lock.resolve() for entry in os.scandir(f"/proc/{process}/fd"))
    except OSError:
        return False


def _tried(lock: Path) -> int | None:
    """Where nobody lists locks: shared and for an instant, so that others who only look are not in the way."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return UNKNOWN
    return None
