"""Names: the one pattern of every string that becomes a file, a query or an id, and the one way from a name to a path.

A sweep, a lock, a run, an engine, an evidence folder: whatever a document, a command line, a study or a tracking server
calls them, the string is a name by `NAME` or it is refused. The JSON Schemas state the same pattern.
"""

from __future__ import annotations

import re
from pathlib import Path

from lanelock.policies.errors import PolicyError

NAME = "^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}$"
PACK_NAME = "^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}(/[0-9]{1,9})?$"  # a pack's own name, or the trial it comes from
ALLOWED = "a letter, digit or _, then letters, digits and _ . + -, at most 200"
ALIASES = ("candidate", "authority", "last-good", "certified")  # words that mean a lock, wherever a name is asked for

_NAME = re.compile(NAME)


def is_name(value: object) -> bool:
    """Returns whether a value is a name. Then it is one part of a path, is not hidden, and needs no quoting."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def check_name(value: str, what: str, where: str = "") -> str:
    """Returns a name as it is. Raises PolicyError, which says what it names and in which file or field, if it is none.

    The message cuts a long value short and escapes what a terminal would act on.
    """
    if is_name(value):
        return value
    seen = ascii(value)
    seen = seen if len(seen) <= 60 else f"{seen[:57]}..."
    raise PolicyError(f"{where + ': ' if where else ''}{seen} is not a name for {what}: {ALLOWED}")


def inside(folder: Path, *names: str) -> Path:
    """Returns the path of `names` below a folder: each one part, so that the path never leaves the folder.

    Raises PolicyError where a part is not a name.
    """
    for name in names:
        check_name(name, "a file or folder", str(folder))
    return folder.joinpath(*names)


def name_from(text: str) -> str:
    """Returns a name for what lies in a user's own folder, such as `my_pack__2_` for `my pack (2)`."""
    made = re.sub(r"[^A-Za-z0-9_.+-]", "_", text)[:200]
    return made if is_name(made) else f"_{made[1:]}"


def path_named(word: str) -> Path | None:
    """Returns the path that a user's word gives; None for an alias, which means its lock, and for nothing at all.

    A file that is called like an alias is named with its folder: `./certified`.
    """
    return None if word in ALIASES or not word or "\0" in word else Path(word)
