"""Storing locks, finding them by name, and carrying an imported world beside a lock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.protocol import Worlds
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import LARGEST, digest, read_json, shipped
from lanelock.policies.files import read_bytes
from lanelock.policies.names import ALIASES, check_name, inside, is_name, path_named
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_page import lock_page
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.workspace import Workspace, glance, write_document, write_whole, writing

FILE, WORLD = "lock.json", "world"  # of a folder that carries a lock, and the tables of its world
_ID = re.compile("[0-9a-f]{6,64}")  # an id, or its beginning


@dataclass(frozen=True, slots=True)
class Stored:
    """A lock's file and what its content states; whoever reads the lock checks that its id holds."""

    path: Path
    lock_id: str
    sweep: str  # of a lock chosen by hand with its trial, which its sweep's name never means
    order: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.sweep}.{self.lock_id[:12]}"


def store_lock(lock: Lock, folder: Path) -> Path:
    """Writes a lock into `folder`, whole or not at all, with a page beside it, and returns its path."""
    path = inside(folder, f"{lock.name}.json")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path.with_suffix(".md"), as_markdown(lock_page(lock)), synced=False)
    write_document(path, lock.document)
    return path


def find_lock(name: str, workspace: Workspace) -> Path:
    """Returns the file of a lock. A name means the first of these that has it:

    1. an alias, whether or not it points to a lock here; a file of that name is `./NAME`
    2. a file
    3. a shipped lock
    4. an id, or its first six digits and more: only what the content of a lock states, whatever its file is called
    5. a sweep, or SWEEP.SHORT_ID; the locks that a person chose are SWEEP.TRIAL

    A sweep that was resumed with a larger budget leaves a lock each time; its name means the lock of the longest
    search (`order_of`), never the youngest file. Raises PolicyError if no lock has the name, or if it does not say
    which of several is meant.
    """
    if name in ALIASES:
        return _pointed_to(name, workspace)
    path = path_named(name)
    if path is not None and path.is_file():
        return _looked_at(path)
    if path is not None and path.is_dir() and not is_name(name):
        raise PolicyError(f"{name}: is a folder that holds no run and no evidence; a lock is a file")
    check_name(name, "a lock, and there is no such file")
    known = shipped("locks", ".json")
    return known[name] if name in known else _stored(name, workspace)


def _looked_at(path: Path) -> Path:
    """Returns a file that a user names. Raises PolicyError for one that is no lock, rather than a lock that changed."""
    try:
        like_one = b'"lock_id"' in read_bytes(path, LARGEST)
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
    if not like_one:
        raise PolicyError(f"{path}: not a lock: nothing in it is called lock_id")
    return path


def order_of(document: Mapping[str, Any]) -> tuple[float, ...]:
    """Returns how long the search behind a lock was: of the locks of one sweep, its name means the greatest.

    That is the number of its finished trials, then the lane's budget, which grows when a sweep is resumed.
    """
    budget = document["lane"]["budget"]
    return float(document["search"]["trials"]), float(budget["trials"]), float(budget["seconds"])


def _pointed_to(alias: str, workspace: Workspace) -> Path:
    move = holders(workspace).get(alias)
    if move is None:
        raise PolicyError(f"{alias}: the alias points to no lock in {workspace.root}; for a file, name ./{alias}")
    return promoted(move.to.lock_id, workspace)


def promoted(lock_id: str, workspace: Workspace) -> Path:
    """Returns the file of a promoted lock. Raises IntegrityError if it states another id than its folder's name."""
    path = inside(workspace.promoted, lock_id, FILE)
    stated = _stated(path)
    if stated is not None and stated.lock_id != lock_id:
        raise IntegrityError(f"{path}: holds lock {stated.lock_id}; it was exchanged")
    return path


def _stored(name: str, workspace: Workspace) -> Path:
    """Returns the file of a lock of this workspace, by its id or its sweep."""
    paths = sorted(workspace.locks.glob("[!.]*.json"))
    files = {path: _stated(path) for path in paths if _may_have(name, path)}
    locks = [lock for lock in files.values() if lock is not None]
    if _ID.fullmatch(name) and (same := [*_by_id(name, [*locks, *_promoted(name, workspace)])]):
        return _only(name, same, "an id begins like this")
    for path, lock in files.items():
        if lock is None and name in (path.stem, path.stem.rpartition(".")[0]):
            return path  # whoever reads it says what is wrong with it; an older lock must not take its place
    named = {lock.lock_id: lock for lock in locks if name in (lock.name, lock.sweep)}.values()
    if named:
        longest = max(lock.order for lock in named)
        return _only(name, [*_distinct(lock for lock in named if lock.order == longest)], "of the longest search")
    raise PolicyError(f"{name}: no lock has this name; known here: {', '.join(path.stem for path in paths) or 'none'}")


def _may_have(name: str, path: Path) -> bool:
    """Returns whether a lock's file may have a name, from the two lines that say it; others need not be parsed."""
    stated = glance(path, "lock_id", "sweep")
    if stated is None or name in (path.stem, path.stem.rpartition(".")[0]):
        return True
    lock_id, sweep = stated
    return lock_id.startswith(name) or f"{name}.".startswith(f"{sweep}.")


def _by_id(name: str, locks: Sequence[Stored]) -> Iterator[Stored]:
    """Yields one file of each lock whose id is `name` or begins with it."""
    first = {lock.lock_id: lock for lock in reversed(locks)}
    return (lock for lock_id, lock in first.items() if lock_id.startswith(name))


def _distinct(locks: Iterable[Stored]) -> Iterable[Stored]:
    """Returns the locks without those that differ from another only in where they were made; the least id stays."""
    ordered = sorted(locks, key=lambda lock: lock.lock_id, reverse=True)
    return {digest(_said(lock.path)): lock for lock in ordered}.values() if len(ordered) > 1 else ordered


def _said(path: Path) -> dict[str, Any]:
    return {key: value for key, value in read_json(path).items() if key not in ("lock_id", "made_by")}


def _only(name: str, locks: Sequence[Stored], rule: str) -> Path:
    if len(locks) > 1:
        listed = ", ".join(sorted(lock.lock_id for lock in locks))
        raise PolicyError(f"{name}: more than one lock has this name ({rule}): {listed}; name one by its id")
    return locks[0].path


def _promoted(name: str, workspace: Workspace) -> Iterator[Stored]:
    for path in sorted(workspace.promoted.glob(f"*/{FILE}")):
        if _may_have(name, path) and (lock := _stated(path)) is not None:
            yield lock


def _stated(path: Path) -> Stored | None:
    """Returns what a lock's file states of itself; None where it is not a lock's document."""
    try:
        document = read_json(path)
        by_hand = f".{document['trial']}" if "chosen_by_hand" in document else ""
        return Stored(path, str(document["lock_id"]), f"{document['sweep']}{by_hand}", order_of(document))
    except (PolicyError, KeyError, TypeError, ValueError, AttributeError):
        return None


def carry_world(lock: Lock, world: Path, folder: Path) -> None:
    """Writes the tables of a lock's imported world beside the lock in `folder`, so that the folder is self-contained.

    The engine writes them, so that nothing else in the user's folder, and nothing that a link leads to, comes along.
    """
    engine = engine_named(lock.engine).part(Worlds)
    engine.keep_world(engine.open_world(lock.pack(), lock.seeds[0], world), folder / WORLD)


def world_beside(folder: Path) -> Path | None:
    """Returns the world beside the lock in `folder`, or None if the world is drawn."""
    return folder / WORLD if (folder / WORLD).is_dir() else None
