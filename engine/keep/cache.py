"""States kept on disk by key: read back exactly, bounded in bytes, safe with several processes at once.

An entry is a folder `<key[:2]>/<key>` that appears whole, by rename, and goes whole, by rename: a reader
sees all of it or nothing. Equal keys mean equal bytes, so of two writers of one key either may win. Every
byte is digested when it is read. An entry that does not hold is moved aside, told in one error, and the
next run computes it anew. A place that cannot be written only means that less is kept.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Mapping
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

_MANIFEST = "manifest.json"
_GONE = ".gone-"  # entries on their way out
_ASIDE = "aside"  # entries that did not hold, the first to go when room is wanted


class Cache:
    """State results on disk. `trouble` says why something could not be kept, or is empty."""

    def __init__(self, root: Path, limit_bytes: int, kinds: Kinds) -> None:
        self._root, self._limit, self._kinds, self.trouble = root, limit_bytes, kinds, ""
        with suppress(OSError):
            clear_abandoned(root)

    def get(self, key: str) -> Any | None:
        """The value kept under `key`, or None. Raises WorkspaceError where the entry does not hold."""
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
        except (IntegrityError, pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError) as error:
            if not folder.exists() or folder.stat().st_ino != inode:
                return None  # it was removed to make room while it was being read
            self._set_aside(folder, error)
        with suppress(OSError):
            os.utime(folder)
        return value

    def put(self, key: str, value: Any) -> None:
        """Keeps `value` under `key`, and lets go of what was not used for longest."""
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
        kept = self._root / _ASIDE / f"{folder.name[:16]}-{uuid4().hex[:8]}"
        with suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            folder.rename(kept)
        raise WorkspaceError(f"cache entry does not hold: {error}; moved to {kept}, the next run computes it anew")

    def _make_room(self) -> None:
        """Removes entries until what is left fits: those set aside first, then the least recently used."""
        with FileLock(self._root / ".room"):
            for gone in self._root.glob(f"{_GONE}*"):
                shutil.rmtree(gone, ignore_errors=True)
            entries = sorted(_entries(self._root))
            held = sum(size for *_, size in entries)
            for *_, folder, size in entries:
                if held <= self._limit:
                    return
                gone = self._root / f"{_GONE}{uuid4().hex}"
                with suppress(OSError):  # another process may have been quicker
                    Path(folder).rename(gone)
                    shutil.rmtree(gone, ignore_errors=True)
                held -= size


def _entries(root: Path) -> list[tuple[bool, int, str, int]]:
    """(whether it is a good one, when it was last used, folder, bytes) of every entry."""
    found = []
    for shelf in (path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for folder in shelf.iterdir():
            with suppress(FileNotFoundError):
                size = sum(path.stat().st_size for path in folder.iterdir())
                found.append((shelf.name != _ASIDE, folder.stat().st_mtime_ns, str(folder), size))
    return found


def _mapped(folder: Path, manifest: Mapping[str, Any]) -> dict[str, mmap.mmap]:
    """The entry's files in private mappings, each with the bytes that the manifest states."""
    found = {}
    for name, stated in manifest["files"].items():
        with (folder / name).open("rb") as file:
            found[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if hashlib.sha256(found[name]).hexdigest() != stated:
            raise IntegrityError(f"{folder / name}: its bytes are not those that were written")
    return found
