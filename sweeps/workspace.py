"""The place where everything is recorded, and the one way to be alone in a part of it.

Locks are kernel locks: a process that is killed leaves nothing behind that a later one must clean up.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
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


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with the MLflow database and artifacts, the Optuna journal, locks and published runs."""

    root: Path
    tracking_uri: str | None = TRACKING_URI  # of the record; None: the workspace's own database

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
    def tracking_database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def journal(self) -> Path:
        return self.root / "optuna.journal"

    @property
    def study_storage(self) -> Path | str:
        """The journal, or the database that LANELOCK_STUDY_STORAGE names."""
        return os.environ.get("LANELOCK_STUDY_STORAGE") or self.journal

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def promotions(self) -> Path:
        return self.root / "promotions"

    @property
    def promoted(self) -> Path:
        return self.root / "promoted"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def _records(self) -> Path:
        return self.root / "run_records"

    def _record(self, run_id: str) -> Path:
        return self._records / f"{run_id}.json"

    def remember(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Keeps what a run did, published or not: which states it computed, from what, and after which other run."""
        others = [path for path in self._records.glob("*.json") if path.stem != run_id]
        newest = max(others, key=lambda path: path.stat().st_mtime_ns, default=None)
        write_document(self._record(run_id), {**document, "before": None if newest is None else newest.stem})

    def recalls(self, run_id: str) -> bool:
        """Whether a run of this name was made here."""
        return self._record(run_id).is_file()

    def remembered(self, run_id: str) -> dict[str, Any]:
        """What was kept of a run. Raises PolicyError naming those that are known."""
        if not self.recalls(run_id):
            known = ", ".join(sorted(other.stem for other in self._records.glob("*.json"))) or "none"
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
