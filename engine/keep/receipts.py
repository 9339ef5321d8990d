"""Receipts: JSON documents that carry their own digest, and digests of files.

A receipt has one exact form (sorted keys, two spaces, one newline), so that any changed byte is detected, white space
included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import parse_json, shipped_schema, validate
from lanelock.policies.files import open_file, read_bytes

_OWN = "receipt_sha256"
_LARGEST = 1 << 30  # bytes: the receipt over a cached state holds the names in it


def text_of(document: Any) -> str:
    """Returns a published JSON document in its one form."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, document: Any) -> None:
    """Writes a document in its one form, and makes the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(document), encoding="utf-8")


def write_receipt(path: Path, body: Mapping[str, Any]) -> None:
    """Writes `body` and its digest."""
    write_json(path, with_digest(body))


def with_digest(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a receipt: `body` and its own digest."""
    return {**body, _OWN: _digest(body)}


def read_receipt(path: Path, schema: str | None = None) -> dict[str, Any]:
    """Returns the body of a receipt. Raises IntegrityError if it is missing, incomplete, changed or off its schema."""
    try:
        data = read_bytes(path, _LARGEST)
        document: dict[str, Any] = parse_json(data, str(path), ids=True)
        if not isinstance(document, dict):
            raise PolicyError(f"{path}: not a JSON object")
        body = {key: value for key, value in document.items() if key != _OWN}
        if _digest(body) != document.get(_OWN) or text_of(document).encode() != data:
            raise IntegrityError(f"{path}: the receipt was changed: it does not match its own digest")
        if schema is not None:
            validate(body, shipped_schema(schema), str(path))
    except OSError as error:
        raise IntegrityError(f"{path}: not a complete receipt: {error.strerror}") from None
    except PolicyError as error:
        raise IntegrityError(f"not a complete receipt: {error}") from None
    return body


def flag_text(sha256: str) -> str:
    """Returns the text of a `_passed.flag`."""
    return f"sha256_hex = {sha256}\n"


def bundle(files: Mapping[str, str], read: Callable[[str], bytes]) -> tuple[dict[str, Any], str]:
    """Returns (index document, flag text) over relative path -> SHA-256 (hex64); `read` gives a file's bytes."""
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(read(path))
    return index_of(files), flag_text(whole.hexdigest())


def index_of(files: Mapping[str, str]) -> dict[str, Any]:
    """Returns the index document of a bundle."""
    return {"files": [{"path": path, "sha256": files[path]} for path in sorted(files)]}


def file_digest(path: Path) -> str:
    """Returns the SHA-256 (hex64) of a file's bytes."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Returns the SHA-256 of every file below `folder` by relative path, in ASCII order."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {name: file_digest(folder / name) for name in sorted(names.difference(leave_out))}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(text_of(body).encode()).hexdigest()
