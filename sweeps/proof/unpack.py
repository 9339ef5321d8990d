"""A lock's pack as policy files: whole in a folder of its own, or its values in the files that are there."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanelock.engine.keep.staging import place, staging
from lanelock.policies import IntegrityError, PolicyError, pack_of
from lanelock.policies.documents import LARGEST, parse_json
from lanelock.policies.edit import edited
from lanelock.policies.files import read_bytes, real
from lanelock.policies.names import inside
from lanelock.policies.pack import PACK
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.workspace import write_whole


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file's text before and after. `before` is None where there is no such file."""

    path: Path
    before: str | None
    after: str

    def diff(self) -> str:
        """Returns a unified diff; empty where nothing changes."""
        old = [] if self.before is None else self.before.splitlines()
        name = str(self.path)
        lines = difflib.unified_diff(
            old, self.after.splitlines(), "/dev/null" if self.before is None else name, name, lineterm=""
        )
        return "\n".join(lines)


def unpacking(lock: Lock, folder: Path) -> tuple[FileChange, ...]:
    """Returns what it takes to have a lock's pack in `folder`: the files that change. Writes nothing.

    Where a policy's file is there, only the values that differ are changed in its text. Raises PolicyError where its
    fields are not the pack's, IntegrityError where the result would not be the lock's pack.
    """
    if folder.exists() and not folder.is_dir():
        raise PolicyError(f"{folder}: --to: is a file; name a folder")
    changes = tuple(_changes(lock, folder))
    documents = {change.path.stem: parse_json(change.after, str(change.path)) for change in changes[1:]}
    pack = pack_of(lock.name, documents, engine_named(lock.engine).policy_schemas, str(folder))
    if pack.digest != lock.candidate_pack.digest:
        raise IntegrityError(f"{folder}: would hold pack {pack.digest}, the lock's is {lock.candidate_pack.digest}")
    return tuple(change for change in changes if change.after != change.before)


def unpack(changes: Sequence[FileChange], folder: Path) -> None:
    """Writes the files: all of them, or none.

    A new folder appears whole. In a folder that is there, each file is written beside its target first, so that a full
    disk changes nothing; if a rename fails, the files before it are put back.
    """
    target = real(folder)
    if target.is_dir() and any(target.iterdir()):
        _replace(changes)
        return
    with staging(target.parent, target.name) as staged:
        for change in changes:
            (staged / change.path.name).write_text(change.after, encoding="utf-8", newline="")
        if not place(staged, target):
            raise PolicyError(f"{folder}: --to: another process has just filled it; look at it and start again")


def _changes(lock: Lock, folder: Path) -> Iterator[FileChange]:
    """Yields the pack's own file, then each policy's, changed or not."""
    yield _pack_file(folder / PACK, lock.engine)
    for name, document in lock.candidate_pack.policies.items():
        path = inside(folder, f"{name}.json")
        before = _text(path)
        yield FileChange(path, before, _new(document) if before is None else edited(before, document, str(path)))


def _pack_file(path: Path, engine: str) -> FileChange:
    before = _text(path)
    if before is None:
        return FileChange(path, None, _new({"engine": engine}))
    document = parse_json(before, str(path))
    named = document.get("engine") if isinstance(document, dict) else None
    if named != engine:
        raise PolicyError(f"{path}: /engine: a pack of engine {named}, the lock's is of {engine}")
    return FileChange(path, before, before)


def _text(path: Path) -> str | None:
    """Returns the text of a file, with its line ends as they are; None where it is missing."""
    try:
        data = read_bytes(path, LARGEST)
    except FileNotFoundError:
        if path.is_symlink():
            raise PolicyError(f"{path}: a link to nothing; remove it, or put back what it leads to") from None
        return None
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
    parse_json(data, str(path))  # raises for whatever is not strict JSON
    return data.decode()


def _new(document: object) -> str:
    return f"{json.dumps(document, indent=2, ensure_ascii=False)}\n"


def _replace(changes: Sequence[FileChange]) -> None:
    targets = [(change, real(change.path)) for change in changes]  # a link stays a link
    beside = {target: target.with_name(f".{target.name}.{os.getpid()}.unpacked") for _, target in targets}
    done = list[tuple[FileChange, Path]]()
    try:
        for change, target in targets:
            write_whole(beside[target], change.after)
            if change.before is not None:
                shutil.copymode(target, beside[target])
        for change, target in targets:
            beside[target].replace(target)
            done.append((change, target))
    except OSError:
        for change, target in done:
            target.unlink() if change.before is None else write_whole(target, change.before)
        raise
    finally:
        for staged in beside.values():
            staged.unlink(missing_ok=True)
