"""The place where everything is recorded, and the one way to be alone in a part of it.

Locks are kernel locks: a process that is killed leaves nothing behind that a later one must clean up.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lanelock.policies import LaneError, PolicyError, WorkspaceError
from lanelock.policies.documents import read_json
from lanelock.sweeps import TRACKING_URI

_GLANCE = 0.2  # seconds: far longer than somebody takes to see whether a lock is held

FOLDER = ".lanelock"  # the default workspace outside a checkout of Lanelock


class Place:
    """A file or folder inside a workspace, as an attribute of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, workspace: Workspace, owner: type[Workspace]) -> Path:
        return workspace.root / self.name


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with everything that runs, sweeps and campaigns leave. No other module names what lies in it."""

    root: Path
    tracking_uri: str | None = TRACKING_URI  # of the record; None: the workspace's own database

    tracking_database = Place("mlflow.db")
    artifacts = Place("artifacts")  # of MLflow's runs
    journal = Place("optuna.journal")  # the studies, unless a database holds them
    tallies = Place("sweeps")  # how many trials each sweep has
    locks = Place("locks")
    runs = Place("runs")  # published, each a folder by its run id
    run_records = Place("run_records")  # what each run did, published or not
    evidence = Place("evidence")  # of certifications, each a folder
    promotions = Place("promotions")  # the moves, numbered
    promoted = Place("promoted")  # what moves stand on: each lock by its id, with its world
    campaigns = Place("campaigns")  # runs of campaigns, each a folder with its phases' records
    exports = Place("exports")
    worlds = Place("worlds")
    outbox = Place("outbox")  # letters to the tracking server
    prunes = Place("prunes")  # what each prune removed
    cache = Place("cache")  # states
    scratch = Place("scratch")  # a replay's files, while it compares them
    server_log = Place("ui.log")
    registry_lock = Place(".registry.lock")  # held while the model registry is brought up to date

    @classmethod
    def at(cls, root: Path, tracking_uri: str | None = TRACKING_URI) -> Workspace:
        """The workspace in `root`, created where missing. Raises WorkspaceError if it cannot be written.

        Its record is at `tracking_uri`, by default what MLFLOW_TRACKING_URI named when Lanelock was imported.
        """
        workspace = cls(root.resolve(), tracking_uri)
        with writing(workspace.root):
            for folder in (workspace.root, workspace.locks, workspace.runs, workspace.artifacts):
                folder.mkdir(parents=True, exist_ok=True)
            probe = workspace.root / f".probe-{os.getpid()}"
            try:
                probe.write_bytes(b"lanelock")
            finally:
                probe.unlink(missing_ok=True)  # a full disk takes the name and not the bytes
        return workspace

    @property
    def study_storage(self) -> Path | str:
        """The journal, or the database that LANELOCK_STUDY_STORAGE names."""
        return os.environ.get("LANELOCK_STUDY_STORAGE") or self.journal

    def _record(self, run_id: str) -> Path:
        return self.run_records / f"{run_id}.json"

    def remember(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Keeps what a run did, published or not: which states it computed, from what, and after which other run."""
        others = [path for path in self.run_records.glob("*.json") if path.stem != run_id]
        newest = max(others, key=lambda path: path.stat().st_mtime_ns, default=None)
        write_document(self._record(run_id), {**document, "before": None if newest is None else newest.stem})

    def recalls(self, run_id: str) -> bool:
        """Whether a run of this name was made here."""
        return self._record(run_id).is_file()

    def remembered(self, run_id: str) -> dict[str, Any]:
        """What was kept of a run. Raises PolicyError naming those that are known."""
        if not self.recalls(run_id):
            known = ", ".join(sorted(other.stem for other in self.run_records.glob("*.json"))) or "none"
            raise PolicyError(f"{run_id}: no run of this name was made in {self.root} (known: {known})")
        found: dict[str, Any] = read_json(self._record(run_id))
        return found

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Holds `what` for this process, and says so in the lock's file. Raises LaneError where another holds it."""
        lock = FileLock(self._lock(what), timeout=_GLANCE)
        try:
            lock.acquire()
        except Timeout:
            raise LaneError(f"{self.root}: {what} is being played by another process; wait for it to end") from None
        except OSError as error:
            raise _cannot_write(self.root, error) from None
        try:
            with suppress(OSError):  # on a full disk it is held all the same, and `holder` does not see it
                self._lock(what).write_text(str(os.getpid()))
            yield
        finally:
            with suppress(OSError):
                os.truncate(self._lock(what), 0)
            lock.release()

    def holder(self, what: str) -> int | None:
        """Returns the process that holds `what`; None where none on this machine does."""
        try:
            process = int(self._lock(what).read_text())
            with suppress(PermissionError):  # another user's is alive as well
                os.kill(process, 0)  # asks, and sends nothing
            with self._lock(what).open("rb") as file:  # a killed one's id may have gone to another process since
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant, which `alone` waits
        except BlockingIOError:
            return process
        except (OSError, ValueError, OverflowError):
            pass
        return None

    def held(self, kind: str) -> Iterator[tuple[str, int]]:
        """Yields what is held of a kind, by name, and by which process: of "sweep" each lane that is played."""
        for path in sorted(self.root.glob(f".{kind}-*.lock")):
            if (process := self.holder(path.stem.removeprefix("."))) is not None:
                yield path.stem.removeprefix(f".{kind}-"), process

    def _lock(self, what: str) -> Path:
        return self.root / f".{what}.lock"


def default_folder(start: Path | None = None) -> Path:
    """Returns the folder that is meant where nobody names one, seen from `start` (the current folder).

    It is the nearest `.lanelock/` at or above it, as git finds its own; `mlruns/` in a checkout of Lanelock; and
    where there is neither, `.lanelock/` in `start` itself, which need not exist.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if _is_checkout(folder):
            return folder / "mlruns"
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    return start / FOLDER


def _is_checkout(folder: Path) -> bool:
    """Whether `folder` is the root of Lanelock's own source: its pyproject.toml says so."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):  # none here, or somebody else's that is not whole
        return False
    return isinstance(project, dict) and project.get("name") == "lanelock"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns what the file system refuses below `place` into one clear WorkspaceError."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(place, error) from None


def write_document(path: Path, document: Any) -> None:
    """Writes JSON whole or not at all, making the folders above it."""
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n")


def write_whole(path: Path, text: str, *, synced: bool = True) -> None:
    """Writes a file whole or not at all: staging beside the target, fsync where it is `synced`, rename."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; one that goes while it is counted does not count."""
    size, folders = 0, [str(folder)]
    while folders:
        try:
            for entry in os.scandir(folders.pop()):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return size


def shown(uri: str) -> str:
    """A URI without its password."""
    return re.sub(r"(://[^/:@]*):[^/@]*@", r"\1@", uri)


def _cannot_write(place: Path, error: OSError) -> WorkspaceError:
    why = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the quota is spent",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "it may not be written by this user",
        errno.EPERM: "it may not be written by this user",
        errno.ENOTDIR: "it is not a folder",
        errno.EEXIST: "it is not a folder",
    }.get(error.errno or 0, error.strerror or str(error))
    return WorkspaceError(f"workspace {place}: {why}; name another with --workspace DIR or LANELOCK_WORKSPACE")
