"""Storing locks, finding them by name, and carrying an imported world beside a lock."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lanelock.policies import PolicyError
from lanelock.policies.documents import shipped
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.workspace import Workspace, write_document

FILE, WORLD = "lock.json", "world"  # of a folder that carries a lock, and the tables of its world


def store_lock(lock: Lock, folder: Path) -> Path:
    """Writes a lock into `folder`, whole or not at all, and returns its path."""
    path = folder / f"{lock.name}.json"
    write_document(path, lock.document)
    return path


def find_lock(name: str, workspace: Workspace) -> Path:
    """Returns the file of a lock, found by alias, path, id (or its beginning), sweep, or the name of a shipped lock.

    A sweep that was resumed with a larger budget leaves a lock each time; its name means the newest. Raises PolicyError
    if no lock or more than one has the name.
    """
    if (move := holders(workspace).get(name)) is not None:
        return workspace.promoted / move.to.lock_id / FILE
    path = Path(name)
    if path.is_file():
        return path
    if not re.fullmatch(r"[\w.-]+", name):
        raise PolicyError(f"{name!r}: no lock has this name, and there is no such file")
    known = shipped("locks", ".json")
    if name in known:
        return known[name]
    stored = sorted(workspace.locks.glob("*.json"))
    promoted = workspace.promoted.glob(f"*/{FILE}")  # compared with `name`, which is never a pattern
    named = [path for path in stored if _is_named(path, name)]
    named = named or [path for path in promoted if path.parent.name == name]
    if len(named) == 1 or (named and all(path.stem.rpartition(".")[0] == name for path in named)):
        return max(named, key=lambda path: path.stat().st_mtime_ns)
    what = "more than one lock has this name" if named else "no lock has this name"
    raise PolicyError(f"{name}: {what}; known here: {', '.join(path.stem for path in stored) or 'none'}")


def _is_named(path: Path, name: str) -> bool:
    sweep, _, short = path.stem.rpartition(".")
    return name in (path.stem, sweep) or (len(name) >= 6 and (name.startswith(short) or short.startswith(name)))


def carry_world(world: Path, folder: Path) -> None:
    """Copies the tables of a world beside the lock in `folder`, so that the folder is self-contained."""
    (folder / WORLD).mkdir()
    for path in sorted(world.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / WORLD / path.name)


def world_beside(folder: Path) -> Path | None:
    """Returns the world beside the lock in `folder`, or None if the world is drawn."""
    return folder / WORLD if (folder / WORLD).is_dir() else None
