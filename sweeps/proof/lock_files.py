"""Where locks lie: the workspace's own, promoted and shipped ones, found by name, and the world beside one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lanelock.policies import PolicyError
from lanelock.policies.documents import shipped
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.workspace import Workspace, write_document

FILE, WORLD = "lock.json", "world"  # a lock that is carried in a folder, and the tables of its world beside it


def store_lock(lock: Lock, folder: Path) -> Path:
    """Writes a lock under its name, whole or not at all."""
    path = folder / f"{lock.name}.json"
    write_document(path, lock.document)
    return path


def find_lock(name: str, workspace: Workspace) -> Path:
    """A lock by path, by id (or its beginning), by sweep, by the name of a shipped one, or by a name moved onto one.

    A sweep that was resumed with a larger budget leaves a lock each time; its name stands for the newest.
    """
    if (move := holders(workspace).get(name)) is not None:
        return workspace.promoted / move.to.lock_id / FILE
    path = Path(name)
    if path.is_file():
        return path
    if not re.fullmatch(r"[\w.-]+", name):
        raise PolicyError(f"{name!r}: no lock is named so, and no file is there")
    known = shipped("locks", ".json")
    if name in known:
        return known[name]
    stored = sorted(workspace.locks.glob("*.json"))
    promoted = workspace.promoted.glob(f"*/{FILE}")  # a name is compared, never a pattern of paths
    named = [path for path in stored if _is_named(path, name)]
    named = named or [path for path in promoted if path.parent.name == name]
    if len(named) == 1 or (named and all(path.stem.rpartition(".")[0] == name for path in named)):
        return max(named, key=lambda path: path.stat().st_mtime_ns)
    what = "more than one lock is" if named else "no lock is"
    raise PolicyError(f"{name}: {what} named so; known here: {', '.join(path.stem for path in stored) or 'none'}")


def _is_named(path: Path, name: str) -> bool:
    sweep, _, short = path.stem.rpartition(".")
    return name in (path.stem, sweep) or (len(name) >= 6 and (name.startswith(short) or short.startswith(name)))


def carry_world(world: Path, folder: Path) -> None:
    """Copies the tables of a world beside a lock in `folder`, so that whoever holds the copy needs nothing else."""
    (folder / WORLD).mkdir()
    for path in sorted(world.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / WORLD / path.name)


def world_beside(folder: Path) -> Path | None:
    """The world that is carried with a lock in `folder`; None where it is drawn."""
    return folder / WORLD if (folder / WORLD).is_dir() else None
