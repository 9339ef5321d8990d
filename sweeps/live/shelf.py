"""What lies in a workspace, for pages that are asked for again and again: whatever did not change is not read again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from lanelock.policies import LanelockError, PolicyError
from lanelock.policies.names import inside, is_name
from lanelock.sweeps.live.sight import Sight, Sights, View
from lanelock.sweeps.proof.evidence import CERTIFICATION
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import Move, moves
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.search.tally import Sweep, sweeps_in
from lanelock.sweeps.upkeep.status import Closed, Played, Running, campaigns_in, frozen_in, locks_in, running_in
from lanelock.sweeps.workspace import Workspace, size_of

_WEIGHED = 60.0  # seconds for which the sizes on the disk are taken as they were
_KEPT = 400  # locks that are kept whole in memory
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Row:
    """One sweep in the list of sweeps."""

    sweep: Sweep
    state: str  # RUNNING, FINISHED or STOPPED
    lock: Closed | None  # of its decision, the newest


@dataclass(frozen=True, slots=True)
class Now:
    """A workspace at one moment."""

    rows: tuple[Row, ...]  # what runs first, then the newest
    running: tuple[Running, ...]
    campaigns: tuple[Played, ...]  # newest first
    locks: tuple[Closed, ...]  # newest first

    def row(self, sweep: str) -> Row | None:
        return next((row for row in self.rows if row.sweep.name == sweep), None)


class Shelf:
    """A workspace, read again and again."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.sights = workspace, Sights(workspace)
        self._glanced: dict[Path, tuple[int, Closed]] = {}
        self._read: dict[Path, tuple[int, Lock]] = {}
        self._moves: tuple[tuple[tuple[str, int], ...], tuple[Move, ...]] = ((("", 0),), ())  # files and their times
        self._weighed: tuple[float, Mapping[str, int]] = (0.0, {})

    def now(self) -> Now:
        sweeps = sweeps_in(self.workspace, self.sights.studies)
        locks, campaigns = tuple(locks_in(self.workspace, self._glanced)), tuple(campaigns_in(self.workspace))
        running = tuple(running_in(self.workspace, sweeps, campaigns))
        closed = {lock.sweep: lock for lock in reversed(locks) if not lock.by_hand}
        rows = [Row(sweep, _state(sweep, running, closed), closed.get(sweep.name)) for sweep in sweeps.values()]
        ordered = sorted(rows, key=lambda row: (row.state == RUNNING, row.sweep.at_ms), reverse=True)
        return Now(tuple(ordered), running, campaigns[::-1], locks)

    def look(self, sweep: str, now: Now) -> tuple[Sight, View]:
        """Returns a sweep as it is now. Raises PolicyError where there is none."""
        row = now.row(sweep)
        lock = partial(self.lock_of, None if row is None else row.lock)
        sight = self.sights.sight(sweep, lock)
        return sight, sight.view(lock())

    def lock_of(self, row: Closed | None) -> Lock | None:
        """Returns the lock of a row of the list; None where it cannot be read."""
        if row is None:
            return None
        with suppress(LanelockError):
            return self.lock(inside(self.workspace.locks, f"{row.name}.json"))
        return None

    def lock(self, path: Path) -> Lock:
        """Returns the lock in a file, read once for as long as the file is the same."""
        try:
            at = path.stat().st_mtime_ns
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
        if self._read.get(path, (-1, None))[0] != at:
            if len(self._read) >= _KEPT:
                self._read.clear()
            self._read[path] = at, Lock.read(path)
        return self._read[path][1]

    def find(self, name: str) -> Path:
        """Returns the file of a lock by its file's name, an id, an alias or a sweep. Raises PolicyError where none."""
        if not is_name(name):
            raise PolicyError(f"{name!r:.60}: not the name of a lock")
        path = inside(self.workspace.locks, f"{name}.json")
        return path if path.is_file() else find_lock(name, self.workspace)

    def moves(self) -> tuple[Move, ...]:
        """Returns every move of an alias, oldest first. Raises IntegrityError where one was changed."""
        at = tuple((path.name, path.stat().st_mtime_ns) for path in sorted(self.workspace.promotions.glob("*.json")))
        if self._moves[0] != at:
            self._moves = at, moves(self.workspace)
        return self._moves[1]

    def evidence(self, lock: Lock) -> Iterator[Path]:
        """Yields the folders of a lock's certifications."""
        paths = sorted(self.workspace.evidence.glob(f"{lock.name}.*/{CERTIFICATION}"))
        yield from (path.parent for path in paths)

    def frozen(self) -> dict[str, str]:
        return dict(frozen_in(self.workspace))

    def pending(self) -> tuple[int, str]:
        """Returns how many uploads wait, and why."""
        return Outbox(self.workspace).pending()

    def bytes(self) -> Mapping[str, int]:
        """Returns the sizes of the workspace's parts, "all" last; at most a minute old."""
        if time.monotonic() - self._weighed[0] > _WEIGHED or not self._weighed[1]:
            here = self.workspace
            parts = {"cache": here.cache, "runs": here.runs, "artifacts": here.artifacts, "all": here.root}
            self._weighed = time.monotonic(), {name: size_of(folder) for name, folder in parts.items()}
        return self._weighed[1]


def _state(sweep: Sweep, running: tuple[Running, ...], closed: Mapping[str, Closed]) -> str:
    if any(row.kind == "sweep" and row.name == sweep.name for row in running):
        return RUNNING
    return FINISHED if sweep.name in closed else STOPPED
