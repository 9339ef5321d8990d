"""Runtime locks: which code of an engine is frozen, what it gave on a pack, and what that took.

A runtime lock is a lock of its own, `locks/runtime/<name>.json`: its id is the SHA-256 of everything else in it. It
carries the comparison of code that it was made from, with every round, so that all it states of seconds can be derived
again. From then on the code is meant to stay: who changes it compares it with what was locked, and locks anew.

`sweeps.perf.locking` makes and proves runtime locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, LaneError, Pack, PolicyError, RefusedError
from lanelock.policies.documents import LARGEST, digest, shipped_schema, validate
from lanelock.policies.files import read_bytes
from lanelock.policies.names import inside, is_name, path_named
from lanelock.policies.pack import CarriedPack
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.workspace import Workspace

FORMAT, STATUS = "lanelock.runtime_lock/1", "FROZEN_OPTIMIZATION_LOCKED"
NEWEST, _NAMED = "lock", "lock:"  # of a lane's `against`: the engine's newest, or one by its name
_SHOWN = 3  # files that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLock:
    """A runtime lock. Law: `RuntimeLock.of(lock.document) == lock`, and the id follows from the other fields."""

    name: str
    engine: str
    at: str  # UTC, ISO 8601
    who: str
    why: str
    code: Mapping[str, str]  # file -> SHA-256
    budgets: Mapping[str, Any] | None  # by state: target_s and limit_s; None: none is pinned
    made_by: Mapping[str, Any]
    comparison: Mapping[str, Any]  # its document, whole
    runtime_id: str = field(init=False)  # SHA-256 of everything else

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime_id", digest(self._body))

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> RuntimeLock:
        """Returns the lock in a document that is valid under its schema. Raises IntegrityError if its id is wrong."""
        fields = {name: value for name, value in document.items() if name not in ("format", "status", "runtime_id")}
        lock = cls(**fields)
        if lock.runtime_id != document["runtime_id"]:
            raise IntegrityError(
                f"{where}: /runtime_id: states {document['runtime_id']}, its content digests to {lock.runtime_id}"
            )
        return lock

    @classmethod
    def read(cls, path: Path) -> RuntimeLock:
        """Returns the lock in a file. Raises IntegrityError if it was changed."""
        document = whole(path, "runtime_lock", "runtime lock")
        try:
            validate(document["comparison"], shipped_schema("comparison"), f"{path}: /comparison")
        except PolicyError as error:
            raise IntegrityError(f"not a whole runtime lock: {error}") from None
        return cls.of(document, str(path))

    @property
    def document(self) -> dict[str, Any]:
        """JSON under `runtime_lock.schema.json`."""
        return {**self._body, "runtime_id": self.runtime_id}

    @property
    def _body(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "runtime_id"}
        return {"format": FORMAT, "status": STATUS, **fields}

    @property
    def pack(self) -> CarriedPack:
        """The pack that was run."""
        return CarriedPack.of(self.comparison["pack"])

    def changed(self, engine: Resolved) -> tuple[str, ...]:
        """Returns the files of an engine's code that are not as they were locked."""
        now = engine.code_files
        return tuple(name for name in sorted({*now, *self.code}) if now.get(name) != self.code.get(name))

    def drift(self, engine: Resolved) -> str:
        """Returns, in a line, in what an engine's code differs from what is locked; empty where it does not."""
        if not (changed := self.changed(engine)):
            return ""
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        files = f"{', '.join(changed[:_SHOWN])}{more}"
        return (
            f"the code of {self.engine} is not what runtime lock {self.name} froze: {files}; compare it with "
            "lanelock perf compare, and lock it anew with lanelock perf lock"
        )


def runtime_locks(workspace: Workspace) -> tuple[RuntimeLock, ...]:
    """Returns the runtime locks of a workspace, oldest first. Raises IntegrityError if one was changed."""
    paths = sorted(workspace.runtime_locks.glob("[!.]*.json"))
    found = [(RuntimeLock.read(path), path) for path in paths]
    for lock, path in found:
        if lock.name != path.stem:
            raise IntegrityError(f"{path}: /name: states {lock.name}, not the name of its file")
    return tuple(sorted((lock for lock, _ in found), key=lambda lock: (lock.at, lock.name)))


def newest(workspace: Workspace, engine: str) -> RuntimeLock | None:
    """Returns the newest runtime lock of an engine, under which its code stands; None without one."""
    return next((lock for lock in reversed(runtime_locks(workspace)) if lock.engine == engine), None)


def reference_of(lane: Lane, workspace: Workspace) -> Pack | None:
    """Returns the locked pack that a lane's runtime is measured against; None where that is its authority.

    Raises LaneError where no such lock is here, RefusedError where the lane asks for frozen code that has changed.
    """
    limit = lane.document.get("runtime", {})
    named = limit.get("against")
    if named is None:
        return None
    lock = _locked(named, lane, workspace)
    if limit.get("frozen_code") and (drift := lock.drift(lane.engine)):
        raise RefusedError(f"lane {lane.id}: /runtime/frozen_code: {drift}")
    return lock.pack.opened(lane.engine.policy_schemas, lock.name)


def _locked(named: str, lane: Lane, workspace: Workspace) -> RuntimeLock:
    name = named.removeprefix(_NAMED)
    known = {lock.name: lock for lock in runtime_locks(workspace) if lock.engine == lane.engine.name}
    lock = newest(workspace, lane.engine.name) if named == NEWEST else known.get(name)
    if lock is None:
        raise LaneError(
            f"lane {lane.id}: /runtime/against: no runtime lock {'' if named == NEWEST else name + ' '}of "
            f"{lane.engine.name} in {workspace.root} (known: {', '.join(known) or 'none'})"
        )
    return lock


def find_runtime_lock(name: str, workspace: Workspace) -> Path | None:
    """Returns the file of a runtime lock: a path, or its name in the workspace; None for anything else."""
    path = path_named(name)
    if path is not None and path.is_file():
        return path if _is_one(path) else None
    if not is_name(name):
        return None
    path = inside(workspace.runtime_locks, f"{name}.json")
    return path if path.is_file() else None


def _is_one(path: Path) -> bool:
    """Returns whether a file is meant to be a runtime lock; whoever reads it says whether it is whole."""
    try:
        return b'"runtime_id"' in read_bytes(path, LARGEST)
    except OSError:
        return False
