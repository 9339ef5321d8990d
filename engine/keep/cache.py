"""A cache of states on disk, by key: read back exactly, bounded in bytes, safe with several processes.

An entry is a folder `<key[:2]>/<key>` that is added and removed by rename, so a reader sees all of it or nothing. Equal
keys mean equal bytes, so either of two writers may win. Every byte is digested when it is read; a damaged entry is
moved aside and reported in one error, and the next run computes it again. If the disk cannot be written, less is kept.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
from filelock import FileLock

from lanelock.engine.keep.frozen import FORMAT, Kinds, read_value, write_value
from lanelock.engine.keep.receipts import digests, read_receipt, write_receipt
from lanelock.engine.keep.staging import clear_abandoned, place, staging
from lanelock.policies import IntegrityError, WorkspaceError
from lanelock.policies.files import open_file

_MANIFEST = "manifest.json"
# What reading an entry may raise whose receipt holds, by whichever hand: its files and its tree are not trusted.
_DAMAGE = (
    IntegrityError, pa.ArrowException, OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError,
    RecursionError, BufferError,
)  # fmt: skip
_GONE = ".gone-"  # entries being removed
_ASIDE = "aside"  # damaged entries, the first to be removed for room


class Cache:
    """State results on disk. `trouble` is the reason why a result could not be kept, or empty."""

    def __init__(self, root: Path, limit_bytes: int, kinds: Kinds) -> None:
        self._root, self._limit, self._kinds, self.trouble = root, limit_bytes, kinds, ""
        with suppress(OSError):
            clear_abandoned(root)

    def get(self, key: str) -> Any | None:
        """Returns the value of `key`, or None if there is none. Raises WorkspaceError if the entry is damaged."""
        folder = self._folder(key)
        try:
            inode = folder.stat().st_ino
        except FileNotFoundError:
            return None
        try:
            manifest = read_receipt(folder / _MANIFEST)
            if manifest["key"] != key:
                raise IntegrityError(f"{folder / _MANIFEST}: it is the entry of {manifest['key']}")
            value = None
            if manifest["format"] == FORMAT:
                value = read_value(manifest["tree"], _mapped(folder, manifest), self._kinds)
        except _DAMAGE as error:
            if not folder.exists() or folder.stat().st_ino != inode:
                return None  # it was removed to make room while it was being read
            self._set_aside(folder, error)
        with suppress(OSError):
            os.utime(folder)
        return value

    def put(self, key: str, value: Any) -> None:
        """Keeps `value` under `key`, and removes the least recently used entries beyond the limit."""
        folder = self._folder(key)
        if folder.exists():
            return
        try:
            with staging(self._root, key[:16]) as staged:
                tree = write_value(value, staged, self._kinds)
                files = {path.name: path.stat().st_size for path in staged.iterdir()}
                if sum(files.values()) <= self._limit:
                    write_receipt(
                        staged / _MANIFEST, {"format": FORMAT, "key": key, "tree": tree, "files": digests(staged)}
                    )
                    place(staged, folder)
            self._make_room()
        except OSError as error:
            self.trouble = f"{self._root}: {error.strerror or error}"

    def _folder(self, key: str) -> Path:
        return self._root / key[:2] / key

    def _set_aside(self, folder: Path, error: Exception) -> None:
        aside = self._root / _ASIDE / f"{folder.name[:16]}-{uuid4().hex[:8]}"
        with suppress(OSError):
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
        raise WorkspaceError(f"damaged cache entry: {error}; moved to {aside}, the next run computes it again")

    def _make_room(self) -> None:
        """Removes entries until the rest fits: damaged entries first, then the least recently used."""
        with FileLock(self._root / ".room"):
            for gone in self._root.glob(f"{_GONE}*"):
                shutil.rmtree(gone, ignore_errors=True)
            entries = sorted(_entries(self._root))
            total = sum(size for *_, size in entries)
            for *_, folder, size in entries:
                if total <= self._limit:
                    return
                gone = self._root / f"{_GONE}{uuid4().hex}"
                with suppress(OSError):  # another process may have removed it
                    Path(folder).rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)
                total -= size


def _entries(root: Path) -> Iterator[tuple[bool, int, str, int]]:
    """Yields (whether it is intact, last use in ns, folder, bytes) of every entry."""
    for shelf in (path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for folder in shelf.iterdir():
            with suppress(FileNotFoundError):
                size = sum(path.stat().st_size for path in folder.iterdir())
                yield shelf.name != _ASIDE, folder.stat().st_mtime_ns, str(folder), size


def _mapped(folder: Path, manifest: Mapping[str, Any]) -> dict[str, mmap.mmap]:
    """Returns the entry's files in private mappings. Raises IntegrityError if one differs from the manifest."""
    mappings = {}
    for name, stated in manifest["files"].items():
        with open_file(folder / name) as file:
            mappings[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if hashlib.sha256(mappings[name]).hexdigest() != stated:
            raise IntegrityError(f"{folder / name}: its bytes are not those that were written")
    return mappings
