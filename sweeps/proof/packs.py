"""Finds a pack by the name of whatever holds it: a shipped pack, a folder, a lock, an alias or a trial."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError
from lanelock.policies.documents import read_json, resolve
from lanelock.sweeps.engines import PackFinder, engine_named, is_start, open_pack, project_here
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.workspace import Workspace


def finder(workspace: Workspace) -> PackFinder:
    """Returns the pack finder of a workspace, as `load_lane` and `load_campaign` take it."""
    return partial(find_pack, workspace=workspace)


def find_pack(name: str, workspace: Workspace) -> tuple[Pack, Resolved]:
    """Returns the pack of that name and its engine. Raises PolicyError listing what was tried.

    A name means the first of these that has it: a shipped pack, a path (of a pack's folder or of a lock), a trial
    (SWEEP/NUMBER), a lock (its alias, id, sweep or shipped name). A pack from a lock or a trial is named after it, so
    that it still says whose it is when an alias has moved on.
    """
    if (project := project_here()) is not None and is_start(name, project):
        return open_pack(name)
    try:
        path = resolve(name, "packs")
    except PolicyError as error:
        return _held(name, workspace, str(error))
    document = read_json(path) if path.is_file() else None
    return _of_lock(path) if isinstance(document, dict) and "lock_id" in document else open_pack(name)


def trial_named(name: str) -> tuple[str, int] | None:
    """Returns the sweep and the number that SWEEP/NUMBER names; None for any other name."""
    named = re.fullmatch(r"(.+)/(\d+)", name)
    return None if named is None or Path(name).exists() else (named[1], int(named[2]))


def _held(name: str, workspace: Workspace, no_pack: str) -> tuple[Pack, Resolved]:
    """Returns the pack of a trial or a lock. `no_pack` says why the name is not a pack's."""
    try:
        return _of_lock(find_lock(name, workspace)) if (trial := trial_named(name)) is None else _of(*trial, workspace)
    except PolicyError as error:
        raise PolicyError(f"{no_pack}; nor is it a trial (SWEEP/NUMBER), an alias or a lock: {error}") from None


def _of(sweep: str, number: int, workspace: Workspace) -> tuple[Pack, Resolved]:
    from lanelock.sweeps.search.recorded import recorded  # Optuna costs a second, which no other name needs

    of = recorded(sweep, workspace)
    return replace(of.pack(of.trial(number)), name=f"{sweep}/{number}"), of.lane.engine


def _of_lock(path: Path) -> tuple[Pack, Resolved]:
    lock = Lock.read(path)
    return replace(lock.pack(str(path)), name=lock.name), engine_named(lock.engine)
