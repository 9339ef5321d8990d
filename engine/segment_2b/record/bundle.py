"""A validation bundle: evidence, an index over it, and a flag over the bytes of what the index lists.

`index.json` lists the evidence in the bundle's folder as {path, sha256_hex}, relative to that folder. `_passed.flag`
states the SHA-256 over the bytes of those files, end to end in ASCII order of their paths. The evidence `files.json`
lists every other file that the bundle vouches for in the same form, relative to the root of the run: so flag, index
and list together cover them all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import file_digest, flag_text, text_of
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import parse_json
from lanelock.policies.files import read_bytes

INDEX, FLAG, FILES = "index.json", "_passed.flag", "files.json"
_LARGEST = 1 << 28  # bytes of a list of files
_ELSEWHERE = re.compile(r"\\|\.\.|\0")  # in a path: it may lead out of its folder, or names no file at all


def bundled(evidence: Mapping[str, bytes], *, passed: bool = True) -> dict[str, bytes]:
    """Returns the files of a bundle by their name in its folder; without the flag unless what it is about `passed`."""
    index = text_of(rows({name: sha256(data) for name, data in evidence.items()}))
    flag = {FLAG: flag_text(digest_of(evidence)).encode()} if passed else {}
    return {**evidence, INDEX: index.encode(), **flag}


def digest_of(files: Mapping[str, bytes]) -> str:
    """Returns the SHA-256 over the bytes of files, end to end in ASCII order of their paths."""
    return sha256(b"".join(files[name] for name in sorted(files)))


def sha256(data: Any) -> str:
    """Returns the SHA-256 of bytes (hex64)."""
    return hashlib.sha256(data).hexdigest()


def rows(digests: Mapping[str, str]) -> list[dict[str, str]]:
    """Returns path -> SHA-256 in the form of an index."""
    return [{"path": path, "sha256_hex": digests[path]} for path in sorted(digests)]


def check_bundle(folder: Path) -> dict[str, bytes]:
    """Returns the evidence of a bundle by name, checked: first the flag and what the index lists, then nothing else.

    Raises IntegrityError naming the first file that is missing, changed, or not listed.
    """
    flag, index = _bytes(folder / FLAG), _bytes(folder / INDEX)
    listed = listed_in(folder / INDEX, index)
    evidence = {name: _bytes(folder / name) for name in listed}
    if flag != flag_text(digest_of(evidence)).encode():
        raise IntegrityError(f"{folder / FLAG}: it does not pass the files that {INDEX} lists; nothing was read")
    for name, data in evidence.items():
        _check(folder / name, sha256(data), listed[name])
    if FILES in listed and index != text_of(rows(listed)).encode():  # we wrote it, and in one form
        raise IntegrityError(f"{folder / INDEX}: changed: not as it was written; nothing was read")
    check_only(folder, folder, {INDEX, FLAG, *listed})
    return evidence


def listed_in(path: Path, data: bytes) -> dict[str, str]:
    """Returns the files that an index or a list of files states: path -> SHA-256. Raises IntegrityError otherwise."""
    try:
        found: Any = parse_json(data, str(path))
        listed = {str(row["path"]): str(row["sha256_hex"]) for row in found}
        if not listed or len(listed) != len(found):
            raise ValueError
    except (PolicyError, KeyError, TypeError, ValueError):
        raise IntegrityError(
            f"{path}: not a list of files, each once, with path and sha256_hex; nothing was read"
        ) from None
    if outside := [name for name in listed if name.startswith("/") or _ELSEWHERE.search(name) or not name]:
        raise IntegrityError(f"{path}: /path: {json.dumps(outside[0])} leads out of its folder; nothing was read")
    return listed


def check_files(root: Path, listed: Mapping[str, str]) -> None:
    """Raises IntegrityError at the first file below `root` that is missing or does not digest to what is listed."""
    for name in sorted(listed):
        _check(root / name, digest_at(root / name), listed[name])


def check_only(folder: Path, root: Path, names: set[str]) -> None:
    """Raises IntegrityError if a folder holds a file that is not among `names`, paths relative to `root`."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            check_listed(path, root, names)


def check_listed(path: Path, root: Path, names: set[str]) -> None:
    """Raises IntegrityError if a file is not among `names`, paths relative to `root`."""
    if path.relative_to(root).as_posix() not in names:
        raise IntegrityError(f"{path}: no bundle lists this file; nothing was read")


def _check(path: Path, actual: str, stated: str) -> None:
    if actual != stated:
        raise IntegrityError(f"{path}: sha256 {actual}, its bundle states {stated}; nothing was read")


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path, _LARGEST)
    except (OSError, PolicyError) as error:
        raise _missing(path, error) from None


def digest_at(path: Path) -> str:
    """Returns the SHA-256 of a file that a bundle must vouch for. Raises IntegrityError if it cannot be read."""
    try:
        return file_digest(path)
    except OSError as error:
        raise _missing(path, error) from None


def _missing(path: Path, error: Exception) -> IntegrityError:
    why = "missing" if isinstance(error, FileNotFoundError) else str(getattr(error, "strerror", None) or error)
    return IntegrityError(f"{path}: {why}: no PASS, no read")
