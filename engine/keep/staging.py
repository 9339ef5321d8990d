"""Folders written whole or not at all: staging, fsync, rename.

A staging folder lies beside its target under a kernel lock of its own. A killed process leaves the folder but not the
lock, so the next process to stage there can tell that it is abandoned, and removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

PREFIX = ".staging-"
_SYNCS = 8  # threads: a file system commits many files at once for the price of one


@contextmanager
def staging(parent: Path, name: str) -> Iterator[Path]:
    """Makes a folder below `parent` and removes it when the block ends, unless `place` has renamed it."""
    parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(parent)
    folder = parent / f"{PREFIX}{name}-{uuid4().hex}"
    lock = FileLock(_lock_of(folder))
    with _register(parent):
        folder.mkdir()  # first: where nothing can be made, a lock would be tried for ever
        lock.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_of(folder).unlink(missing_ok=True)
        lock.release()


def write_file(path: Path, data: Any) -> None:
    """Writes a file below a staging folder, making the folders above it.

    The disk is asked to begin on it at once, so that `place` has little left to wait for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # starts writing back; loses nothing


def place(folder: Path, target: Path) -> bool:
    """Syncs a staging folder and renames it to `target`; returns False if `target` exists already."""
    sync_tree(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    _sync(target.parent)
    return True


def clear_abandoned(parent: Path) -> int:
    """Removes the staging folders of dead processes and returns how many there were."""
    if not any(parent.glob(f"{PREFIX}*")):
        return 0
    removed = 0
    with _register(parent):
        for path in sorted(parent.glob(f"{PREFIX}*.lock")):
            folder, lock = path.with_suffix(""), FileLock(path, timeout=0)
            with suppress(Timeout), lock:
                removed += folder.exists()
                shutil.rmtree(folder, ignore_errors=True)
                path.unlink(missing_ok=True)
    return removed


def sync_tree(folder: Path) -> None:
    """Syncs `folder`, and every file and folder below it, to the disk."""
    paths = [folder, *(Path(above, name) for above, folders, files in os.walk(folder) for name in (*folders, *files))]
    with ThreadPoolExecutor(_SYNCS) as pool:
        list(pool.map(_sync, paths))  # raises the first error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # not every file system syncs folders
            raise
    finally:
        os.close(handle)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


@contextmanager
def _register(parent: Path) -> Iterator[None]:
    """Locks `parent` while staging folders are made or cleared, so that a new folder is never taken for abandoned.

    The folder itself is locked, since a lock file would be left behind in a folder that may be a user's.
    """
    handle = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
