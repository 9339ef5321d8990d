"""What a workspace holds and what runs in it, read without changing anything and without importing MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lanelock.policies import LanelockError, PolicyError, WorkspaceError
from lanelock.policies.documents import read_json
from lanelock.sweeps.locations import as_notice, moved_from
from lanelock.sweeps.proof.freezes import freezes_in, reopened
from lanelock.sweeps.proof.moves import Move, moves, signature_of
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.record.registered import at_a_glance
from lanelock.sweeps.record.webhooks import waiting as hooks_waiting
from lanelock.sweeps.search.tally import Sweep, sweeps_in
from lanelock.sweeps.workspace import Workspace, glance, phase_files, size_of


@dataclass(frozen=True, slots=True)
class Closed:
    """The summary of a lock, for a list of locks."""

    name: str
    decision: str  # "GO", "NO_GO", or "unreadable"
    verdict: str
    reason: str
    sweep: str = ""
    lock_id: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether a person chose its candidate: its name then has the trial in it."""
        return self.name != f"{self.sweep}.{self.lock_id[:12]}"


@dataclass(frozen=True, slots=True)
class Played:
    """A run of a campaign."""

    run: str
    phases: int
    done: int
    status: str | None  # None: not at its freeze


@dataclass(frozen=True, slots=True)
class Running:
    """A sweep or campaign that a living process plays here."""

    kind: str  # "sweep" or "campaign"
    name: str
    process: int
    done: int  # trials or phases
    of: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a workspace."""

    root: Path
    exists: bool
    bytes: Mapping[str, int]  # by part, "all" last
    sweeps: tuple[Sweep, ...]  # oldest first
    locks: tuple[Closed, ...]  # newest first
    published: int
    remembered: int
    campaigns: tuple[Played, ...]
    evidence: int
    holders: Mapping[str, str]  # alias -> the lock it points to
    frozen: Mapping[str, str]  # engine -> its last freeze, and whether it was reopened
    running: tuple[Running, ...]
    waiting: int  # pending uploads, in the outbox
    waits_for: str  # why they wait, or "" where that is not known
    registry: tuple[str, ...]  # what was changed in the workspace's own model registry
    webhooks: tuple[str, ...] = ()  # what hooks have not taken, a line each
    runtime: Mapping[str, str] = field(default_factory=dict)  # engine -> its newest runtime lock, and what drifted
    moved: str = ""  # from where, as long as MLflow's database still names that place

    @property
    def trials(self) -> int:
        return sum(sweep.trials for sweep in self.sweeps)

    def as_document(self) -> dict[str, Any]:
        locks = [
            {name: getattr(lock, name) for name in ("name", "decision", "verdict", "reason")} for lock in self.locks
        ]
        return asdict(replace(self, locks=())) | {"root": str(self.root), "trials": self.trials, "locks": locks}


def status(workspace: Workspace) -> Status:
    """Returns the state of a workspace; empty if there is none. Raises WorkspaceError if it is a file."""
    root = workspace.root
    if root.exists() and not root.is_dir():
        raise WorkspaceError(f"{root}: --workspace: is a file; name a folder")
    parts = {"cache": workspace.cache, "runs": workspace.runs, "artifacts": workspace.artifacts, "all": root}
    history = moves(workspace)
    pointing = {move.alias: move for move in history}
    sweeps, campaigns = sweeps_in(workspace), tuple(campaigns_in(workspace))
    return Status(
        root,
        root.is_dir(),
        {name: size_of(folder) for name, folder in parts.items()},
        tuple(sweeps.values()),
        tuple(locks_in(workspace)),
        sum(1 for path in workspace.runs.glob("[0-9a-f]*") if path.is_dir()),
        sum(1 for _ in workspace.run_records.glob("*.json")),
        campaigns,
        sum(1 for path in workspace.evidence.glob("*") if path.is_dir()),
        {alias: _pointed(move) for alias, move in sorted(pointing.items())},
        dict(frozen_in(workspace)),
        tuple(running_in(workspace, sweeps, campaigns)),
        *Outbox(workspace).pending(),
        tuple(difference.text for difference in at_a_glance(workspace, history) if difference.changed),
        tuple(map(str, hooks_waiting(workspace))),
        dict(runtime_in(workspace)),
        as_notice(moved_from(workspace)),
    )


def _pointed(move: Move) -> str:
    return f"{move.to}, {signature_of(move)} since {move.at}"


def runtime_in(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yields engine and newest runtime lock, with in what the engine's code differs from it."""
    if not any(workspace.runtime_locks.glob("[!.]*.json")):
        return
    from lanelock.sweeps.engines import engine_named  # NumPy and an engine, which no other line needs
    from lanelock.sweeps.proof.runtime_locks import runtime_locks

    for lock in {lock.engine: lock for lock in runtime_locks(workspace)}.values():
        try:
            drift = lock.drift(engine_named(lock.engine))
        except LanelockError as error:  # the engine is not here, say
            drift = f"{lock.name}, whose code cannot be looked at: {error}"
        yield lock.engine, drift or f"the code is as {lock.name} locked it at {lock.at}"


def frozen_in(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yields engine and freeze, those that stand last."""
    found = [(freeze, reopened(freeze, workspace)) for freeze in freezes_in(workspace)]
    for freeze, by in sorted(found, key=lambda row: row[1] is None):
        yield (
            freeze.engine,
            f"by {freeze}" if by is None else f"reopened at {by.at} by {by.who}: {by.why}; was {freeze}",
        )


def locks_in(workspace: Workspace, known: dict[Path, tuple[int, Closed]] | None = None) -> Iterator[Closed]:
    """Yields locks as their files state them, newest first; checking their ids would take longer.

    `known`: what was read before, by file, with the file's time; it is brought up to date.
    """
    known = {} if known is None else known
    files = {path: path.stat().st_mtime_ns for path in workspace.locks.glob("[!.]*.json")}
    for gone in known.keys() - files.keys():
        del known[gone]
    for path, at in sorted(files.items(), key=lambda row: (-row[1], row[0])):
        if path not in known or known[path][0] != at:
            known[path] = at, _closed(path)
        yield known[path][1]


def _closed(path: Path) -> Closed:
    stated = glance(path, "decision", "verdict", "search/because", "sweep", "lock_id")
    return _read(path) if stated is None else Closed(path.stem, *stated)


def _read(path: Path) -> Closed:
    try:
        lock = read_json(path)
        stated = lock["decision"], lock["verdict"], lock["search"]["because"], lock["sweep"], lock["lock_id"]
        return Closed(path.stem, *map(str, stated))
    except (PolicyError, KeyError, TypeError) as error:
        return Closed(path.stem, "unreadable", "", str(error))


def campaigns_in(workspace: Workspace) -> Iterator[Played]:
    """Yields runs of campaigns, oldest first. Reads plain JSON: importing the records' types takes a second."""
    for began in sorted(workspace.campaigns.glob("*/campaign.json"), key=lambda path: path.stat().st_mtime_ns):
        records = phase_files(began.parent)
        try:
            phases = len(read_json(began)["campaign"]["phases"])
            ended = read_json(records[-1]).get("status") if records else None
        except (PolicyError, KeyError, TypeError, AttributeError):
            phases, ended = 0, "unreadable"
        yield Played(began.parent.name, phases, len(records), ended)


def running_in(workspace: Workspace, sweeps: Mapping[str, Sweep], campaigns: tuple[Played, ...]) -> Iterator[Running]:
    """Yields what living processes play here."""
    for name, process in workspace.held("campaign"):
        run = next((played for played in reversed(campaigns) if played.run.rpartition("-")[0] == name), None)
        run = run or Played(name, 0, 0, None)
        yield Running("campaign", run.run, process, run.done, run.phases or None)
    for lane, process in workspace.held("sweep"):
        newest = next((sweep for sweep in reversed([*sweeps.values()]) if sweep.lane == lane), Sweep(lane, 0))
        yield Running("sweep", newest.name, process, newest.trials, newest.budget)
