"""No PASS, no read: a receipt and a flag vouch for the files of a written world.

`world_receipt.json` states the world's facts, its digest and each file's SHA-256; `_passed.flag` holds the
SHA-256 of the receipt. A folder that has either file is read only if both are there and correct. A folder that
has neither holds a user's own tables: they are checked row by row on reading instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import flag_text, read_receipt, text_of, with_digest
from lanelock.engine.segment_2b.record import given
from lanelock.engine.segment_2b.user_tables import file_digest, table_files
from lanelock.policies import IntegrityError
from lanelock.policies.files import read_bytes

RECEIPT, FLAG = "world_receipt.json", "_passed.flag"
UPSTREAM = "upstream"  # the folder of a published run that holds its world
TABLES = ("site_locations", "site_timezones", "merchants")


def passed(tables: Mapping[str, bytes], description: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the files of a world: its tables, the receipt over them, and the flag over that."""
    files = {name: hashlib.sha256(data).hexdigest() for name, data in tables.items()}
    receipt = text_of(with_digest({"status": "PASS", **description, "files": files})).encode()
    return {**tables, RECEIPT: receipt, FLAG: flag_text(hashlib.sha256(receipt).hexdigest()).encode()}


def world_files(folder: Path) -> dict[str, str]:
    """Returns name -> SHA-256 of the tables in a world's folder.

    Raises IntegrityError if the folder has a receipt or a flag that does not match, DataError if a table is no file.
    The root of a tree of the record's form has bundles in the place of the receipt (`record.given`).
    """
    if given.is_tree(folder):
        return given.checked(folder)
    actual: dict[str, str] = {}
    for paths in table_files(folder, TABLES).values():
        for path in paths:
            actual |= file_digest(path)
    receipt, flag = folder / RECEIPT, folder / FLAG
    if not os.path.lexists(receipt) and not os.path.lexists(flag):
        return actual
    for path in (receipt, flag):
        if not path.is_file():
            raise IntegrityError(f"{path}: missing: no PASS, no read; build the world again with `world build`")
    document = read_receipt(receipt, "world_receipt")
    if read_bytes(flag) != flag_text(file_digest(receipt)[RECEIPT]).encode():
        raise IntegrityError(f"{flag}: it does not pass the receipt beside it")
    stated = document["files"]
    for name in sorted(actual.keys() | stated.keys()):
        if actual.get(name) != stated.get(name):
            values = f"sha256 {actual.get(name, 'missing')}, the receipt states {stated.get(name, 'nothing')}"
            raise IntegrityError(f"{folder / name}: {values}")
    return actual
