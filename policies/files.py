"""Opens files that others may have put there. Only a regular file is ever read.

Reading a named pipe would wait for a writer, and a device may have no end; both are refused on the opened descriptor,
so that nothing can be exchanged between the look and the reading.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder"}


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file for reading. Raises OSError, with the path and a reason, for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise _not_a_file(path, "a socket") from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise _not_a_file(path, _KINDS.get(stat.S_IFMT(mode), "something else"))


def read_bytes(path: Path, largest: int | None = None) -> bytes:
    """Returns the content of a regular file of at most `largest` bytes, or as many as this machine's memory has.

    Raises OSError for anything else.
    """
    largest = _memory() if largest is None else largest
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size  # refused unread
        try:
            data = file.read(size + 1) if size <= largest else b""
            if len(data) > size:  # it grew, or states no size: else no room for `largest` bytes is asked for
                data += file.read(largest + 1 - len(data))
        except MemoryError:
            raise OSError(errno.ENOMEM, f"{size:,} bytes do not fit into memory", str(path)) from None
    if max(size, len(data)) > largest:
        raise OSError(errno.EFBIG, f"larger than {largest:,} bytes", str(path))
    return data


def real(path: Path) -> Path:
    """Returns a path without links, whether or not it exists. Raises OSError for a link that leads to itself."""
    try:
        return path.resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, "a link that leads to itself", str(path)) from None


def _memory() -> int:
    """Returns the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _not_a_file(path: Path, kind: str) -> OSError:
    return OSError(errno.EISDIR if kind == "a folder" else errno.EINVAL, f"{kind}, not a file", str(path))
