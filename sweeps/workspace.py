"""The folder where everything is recorded, and the locks on its parts.

Locks are kernel locks: a killed process leaves nothing to clean up.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from filelock import FileLock, Timeout

from lanelock.policies import LaneError, PolicyError, WorkspaceError
from lanelock.policies.documents import LARGEST, read_json, shipped_schema, validate
from lanelock.policies.files import open_file, read_bytes, real
from lanelock.policies.names import check_name, inside, is_name
from lanelock.sweeps import TRACKING_URI

_ROOM = (errno.ENOSPC, errno.EDQUOT)
_GLANCE = 0.2  # seconds: far longer than `holder` keeps a lock while it probes

_HERE = "workspace:"  # begins the name of a folder that lies in the workspace
_MISREAD = re.compile(r"\?|%[0-9A-Fa-f]{2}")  # in the path of a database
_LONGEST = 504  # bytes in the path of a SQLite database: 512, less the name of its journal
_LONGEST_ADDRESS = 1800  # of the 2048 that MLflow takes, less the names of experiments; far below the system's 4096

FOLDER = ".lanelock"  # the default workspace outside a checkout of Lanelock


class Place:
    """A descriptor: the path of a file or folder inside a workspace."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, workspace: Workspace, owner: type[Workspace]) -> Path:
        return workspace.root / self.name


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of all runs, sweeps and campaigns. No other module names the files in it."""

    root: Path
    tracking_uri: str | None = field(default=TRACKING_URI, repr=False)  # None: the workspace's own database

    tracking_database = Place("mlflow.db")
    artifacts = Place("artifacts")  # of MLflow's runs
    journal = Place("optuna.journal")  # the studies, unless a database holds them
    tallies = Place("sweeps")  # how many trials each sweep has
    locks = Place("locks")
    runs = Place("runs")  # the published runs, each a folder named by its run id
    run_records = Place("run_records")  # what each run did, published or not
    evidence = Place("evidence")  # of certifications, each a folder
    promotions = Place("promotions")  # the moves, numbered
    trust = Place("trust.json")  # whose signatures count, unless the repository says it
    promoted = Place("promoted")  # the locks that moves refer to, each by its id, with its world
    campaigns = Place("campaigns")  # runs of campaigns, each a folder with its phases' records
    exports = Place("exports")  # views of runs for other tools, each named by its run id, and by its layout if any
    worlds = Place("worlds")
    outbox = Place("outbox")  # letters to the tracking server
    hooks = Place("webhooks.json")  # who is told of what happens here
    webhooks = Place("webhooks")  # what each of them was told, or is to be
    prunes = Place("prunes")  # what each prune removed
    retention = Place("retention.json")  # what is kept, unless the shipped slots hold
    freezes = Place("freezes")  # what each freeze stands on, by the campaign's run
    runtime_locks = Place("locks/runtime")  # which code is frozen, and what it took
    reopens = Place("reopens")  # which freezes were opened again, by the campaign's run
    notes = Place("notes")  # the decision trail, numbered
    perf = Place("perf")  # what runs cost: baselines and comparisons of code, each with its page
    cache = Place("cache")  # states
    scratch = Place("scratch")  # a replay's files, while it compares them
    server_log = Place("ui.log")
    errors = Place("errors")  # tracebacks of unexpected errors
    registry = Place("registry.json")  # how the model registry was left
    registry_lock = Place(".registry.lock")  # held while the model registry is brought up to date

    @classmethod
    def at(cls, root: Path, tracking_uri: str | None = TRACKING_URI) -> Workspace:
        """Returns the workspace in `root`, created where missing. Raises WorkspaceError if it cannot be written.

        `tracking_uri` defaults to the value of MLFLOW_TRACKING_URI when `lanelock.sweeps` was imported.
        """
        workspace = cls(real(root), tracking_uri)
        workspace.check_path()
        with writing(workspace.root):
            for folder in (workspace.root, workspace.locks, workspace.runs, workspace.artifacts):
                folder.mkdir(parents=True, exist_ok=True)
            probe = workspace.root / f".probe-{os.getpid()}"
            try:
                probe.write_bytes(b"lanelock")
            finally:
                probe.unlink(missing_ok=True)  # a full disk creates the file but not its content
        return workspace

    def check_path(self) -> None:
        """Raises WorkspaceError where something could not be kept under this path; said before a budget is spent."""
        if (why := _unusable(self.root, self.tracking_uri is None)) is not None:
            raise WorkspaceError(f"workspace {ascii(str(self.root))[1:-1]}: {why}; name another with --workspace DIR")

    def as_kept(self, folder: Path | None) -> str | None:
        """Returns how a folder is named in what is kept: one in the workspace so that the workspace may be moved."""
        if folder is None:
            return None
        path = real(folder)
        if path.is_relative_to(self.root):
            return f"{_HERE}{path.relative_to(self.root).as_posix()}"
        return str(folder.absolute())

    def kept(self, name: str) -> Path:
        """Returns the folder that `as_kept` named."""
        return self.root / name.removeprefix(_HERE) if name.startswith(_HERE) else Path(name)

    def laid_out(self, run_id: str, layout: str) -> Path:
        """Returns the folder of a run in another layout than its engine's own."""
        return inside(self.exports, f"{run_id}.{layout}")

    @property
    def study_storage(self) -> Path | str:
        """Returns the journal, or the database that LANELOCK_STUDY_STORAGE names."""
        return os.environ.get("LANELOCK_STUDY_STORAGE") or self.journal

    def _record(self, run_id: str) -> Path:
        return inside(self.run_records, f"{run_id}.json")

    def remember(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Stores the record of a run, published or not: its states, their inputs, and the run made before it."""
        others = [path for path in self.run_records.glob("*.json") if path.stem != run_id]
        # By the files' times, which a copy of the workspace may lose: `explain` compares with it, and no proof does.
        newest = max(others, key=lambda path: path.lstat().st_mtime_ns, default=None)
        write_document(self._record(run_id), {**document, "before": None if newest is None else newest.stem})

    def recalls(self, run_id: str) -> bool:
        return is_name(run_id) and os.path.lexists(self._record(run_id))  # what is no file is refused, not absent

    def remembered(self, run_id: str) -> dict[str, Any]:
        """Returns the record of a run. Raises PolicyError naming the known runs."""
        if not self.recalls(run_id):
            known = ", ".join(sorted(other.stem for other in self.run_records.glob("*.json"))) or "none"
            raise PolicyError(f"{run_id}: no run of this name was made in {self.root} (known: {known})")
        record: dict[str, Any] = read_json(self._record(run_id))
        validate(record, shipped_schema("run_record"), str(self._record(run_id)))
        return record

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Locks `what` and writes this process's id to the lock file. Raises LaneError where another process has it."""
        lock = FileLock(self._lock(what), timeout=_GLANCE)
        try:
            lock.acquire()
        except Timeout:
            raise LaneError(f"{self.root}: {what} is being played by another process; wait for it to end") from None
        except OSError as error:
            raise _cannot_write(self.root, error) from None
        try:
            with suppress(OSError):  # on a full disk the lock works, but `holder` does not see it
                self._lock(what).write_text(str(os.getpid()))
            yield
        finally:
            with suppress(OSError):
                os.truncate(self._lock(what), 0)
            lock.release()

    def holder(self, what: str) -> int | None:
        """Returns the process on this machine that has locked `what`; otherwise None."""
        try:
            process = int(read_bytes(self._lock(what), 64))
            with suppress(PermissionError):  # the process exists, and belongs to another user
                os.kill(process, 0)  # signal 0 only checks that the process exists
            with open_file(self._lock(what)) as file:  # the id of a killed process may have been reused
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for an instant, which `alone` outwaits
        except BlockingIOError:
            return process
        except (OSError, ValueError, OverflowError):
            pass
        return None

    def held(self, kind: str) -> Iterator[tuple[str, int]]:
        """Yields (name, process) of each lock of a kind that is in use: of "sweep", each lane that is being played."""
        for path in sorted(self.root.glob(f".{kind}-*.lock")):
            what = path.stem.removeprefix(".")
            if is_name(what) and (process := self.holder(what)) is not None:
                yield what.removeprefix(f"{kind}-"), process

    def _lock(self, what: str) -> Path:
        return self.root / f".{check_name(what, 'a lock')}.lock"


def usual(folder: Path | str | None) -> Workspace:
    """Returns the workspace in a folder as it stands; else the one that LANELOCK_WORKSPACE names, else the default."""
    return Workspace(real(Path(folder or os.environ.get("LANELOCK_WORKSPACE") or default_folder())))


def default_folder(start: Path | None = None) -> Path:
    """Returns the default workspace, seen from `start` (the current folder).

    That is the nearest `.lanelock/` at or above `start`, or `mlruns/` of a checkout of Lanelock; without either,
    `.lanelock/` in `start`, which need not exist.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if _is_checkout(folder):
            return folder / "mlruns"
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    return start / FOLDER


def _is_checkout(folder: Path) -> bool:
    """Returns whether `folder` is the root of Lanelock's own source, by its pyproject.toml."""
    try:
        project = tomllib.loads(read_bytes(folder / "pyproject.toml", 1 << 20).decode()).get("project", {})
    except (OSError, ValueError, RecursionError):  # missing, or not valid TOML
        return False
    return isinstance(project, dict) and project.get("name") == "lanelock"


@contextmanager
def folder_locked(folder: Path, *, shared: bool = False) -> Iterator[int]:
    """Waits for the lock on a folder, and yields the open folder. Readers share it; a writer has it alone."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns an OSError below `place` into a WorkspaceError of one line."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(place, error) from None


def write_document(path: Path, document: Any) -> None:
    """Writes JSON atomically, and creates the folders above it."""
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{text}\n")


def phase_files(run: Path) -> list[Path]:
    """Returns the records of a campaign's run in the order of its phases, from the run's folder."""
    return sorted(run.glob("[0-9]*.json"), key=lambda path: (len(path.name.partition(".")[0]), path.name))


def glance(path: Path, *fields: str) -> tuple[str, ...] | None:
    """Returns texts of a document from a few lines of its file; None unless it is one that `write_document` wrote.

    Whole documents take ten times as long to parse, and there may be thousands. A field is a name, or `NAME/FIRST` for
    the first field of an object. In such a file, only the document's own fields begin a line after two spaces.
    """
    try:
        text = read_bytes(path, LARGEST)
        return tuple(_value_of(field, text) for field in fields) if text.endswith(b"\n}\n") else None
    except (OSError, ValueError):
        return None


def _value_of(field: str, text: bytes) -> str:
    """Returns the text that the rest of a field's line holds. Raises ValueError where there is no such line."""
    begins = b'\n  "' + field.replace("/", '": {\n    "').encode() + b'": '
    at = text.index(begins) + len(begins)
    value = json.loads(text[at : text.index(b"\n", at)].removesuffix(b","))
    if not isinstance(value, str):
        raise ValueError(f"/{field}: not a text")
    return value


def write_whole(path: Path, content: str | bytes, *, synced: bool = True) -> None:
    """Writes a file atomically: to a temporary file beside it, with fsync if `synced`, then rename."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)  # left by a killed process, or a link, which is not followed
    try:
        with staged.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def write_new(path: Path, text: str) -> bool:
    """Writes a file whole and durably; returns False if it exists."""
    staged = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(staged, path)  # atomic, and fails if the name is taken
    except FileExistsError:
        return False
    finally:
        staged.unlink(missing_ok=True)
    return True


def unlinked(path: Path, folder: Path) -> bool:
    """Returns whether a path leads to a place below a folder, and no link or `..` is on the way from there."""
    if not path.is_relative_to(folder) or ".." in path.parts:
        return False
    below = path.relative_to(folder)
    return not any((folder / step).is_symlink() for step in (below, *below.parents) if step != Path())


def erase(path: Path) -> None:
    """Removes a file, a folder with all below it, or a link; never what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)  # which does not follow links either
    else:
        path.unlink(missing_ok=True)


def size_of(folder: Path) -> int:
    """Returns the bytes of the files below a folder; of a link, 0. Ignores a file that is deleted meanwhile."""
    size, folders = 0, [] if folder.is_symlink() else [str(folder)]
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


def _unusable(root: Path, own_database: bool) -> str | None:
    """Returns why a path cannot be a workspace's; None where it can. A database of its own asks for more."""
    address = root.as_uri()
    if url2pathname(urlsplit(address).path) != str(root):
        return "its name is not UTF-8, as MLflow needs it"
    if not all(character.isprintable() or character == " " for character in str(root)):
        return "its name holds a character that cannot be printed"
    if own_database and (found := _MISREAD.search(str(root))) is not None:
        return f"its name holds {found[0]!r}, which MLflow takes for a part of an address"
    size, limit = len(os.fsencode(root)), _LONGEST - len("/.mlflow.db.new")
    if own_database and size > limit:
        return f"its path has {size} bytes; SQLite, which keeps MLflow's database there, takes {limit}"
    if len(address) > _LONGEST_ADDRESS:
        return f"its path has {len(address)} characters as an address, file://…; MLflow takes {_LONGEST_ADDRESS}"
    return None


def _cannot_write(place: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(f"workspace {place}: {why_unwritten(error)}")


def why_unwritten(error: OSError) -> str:
    """Returns why something could not be written, and what to do: the one wording of it, a full disk's above all."""
    room = "make room and repeat the command (a sweep with --resume), or " if error.errno in _ROOM else ""
    return f"{cause(error)}; {room}name another with --workspace DIR or LANELOCK_WORKSPACE"


def cause(error: OSError) -> str:
    """Returns why something could not be written."""
    return {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the quota is spent",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "it may not be written by this user",
        errno.EPERM: "it may not be written by this user",
        errno.ENOTDIR: "it is not a folder",
        errno.EEXIST: "it is not a folder",
    }.get(error.errno or 0, error.strerror or str(error))
