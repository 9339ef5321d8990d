"""No PASS, no read: a written world answers for its files by a receipt and a flag.

`world_receipt.json` states what the world is, its digest and each file's SHA-256; `_passed.flag` holds the
SHA-256 of the receipt. A folder with either is read only if both are there and hold. A folder with neither
is a user's own tables: they are checked row by row when they are read, which is their pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import file_digest, flag_text, read_receipt, text_of, with_digest
from lanelock.policies import DataError, IntegrityError

RECEIPT, FLAG = "world_receipt.json", "_passed.flag"
UPSTREAM = "upstream"  # where a published run holds its world
TABLES = ("site_locations", "site_timezones", "merchants")


def passed(tables: Mapping[str, bytes], description: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the files of a world: its tables, the receipt over them, and the flag over that."""
    files = {name: hashlib.sha256(data).hexdigest() for name, data in tables.items()}
    receipt = text_of(with_digest({"status": "PASS", **description, "files": files})).encode()
    return {**tables, RECEIPT: receipt, FLAG: flag_text(hashlib.sha256(receipt).hexdigest()).encode()}


def world_files(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of the tables in a world's folder.

    Raises IntegrityError where the folder has a receipt or a flag that does not hold.
    """
    tables = [folder / f"{name}{ending}" for name in TABLES for ending in (".parquet", ".csv")]
    try:
        found = {path.name: file_digest(path) for path in tables if path.is_file()}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    receipt, flag = folder / RECEIPT, folder / FLAG
    if not receipt.exists() and not flag.exists():
        return found
    for path in (receipt, flag):
        if not path.is_file():
            raise IntegrityError(f"{path}: missing: no PASS, no read; build the world again with `world build`")
    stated = read_receipt(receipt)
    if flag.read_bytes() != flag_text(file_digest(receipt)).encode() or stated["status"] != "PASS":
        raise IntegrityError(f"{flag}: it does not pass the receipt beside it")
    for name in sorted(found.keys() | stated["files"].keys()):
        if found.get(name) != stated["files"].get(name):
            seen, said = found.get(name, "missing"), stated["files"].get(name, "nothing")
            raise IntegrityError(f"{folder / name}: sha256 {seen}, the receipt states {said}")
    return found
