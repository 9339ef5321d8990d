"""What a workspace holds and what goes on in it, read without changing anything and without opening the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import PolicyError, WorkspaceError
from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.tally import Sweep, sweeps_in
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.workspace import Workspace, size_of


@dataclass(frozen=True, slots=True)
class Closed:
    """A lock, as far as a list of locks says it."""

    name: str
    decision: str  # "GO", "NO_GO", or "unreadable"
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Played:
    """A campaign's run."""

    run: str
    phases: int
    done: int
    status: str | None  # None: not at its freeze


@dataclass(frozen=True, slots=True)
class Running:
    """Something a living process plays here."""

    kind: str  # "sweep" or "campaign"
    name: str
    process: int
    done: int  # trials or phases
    of: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """All of it."""

    root: Path
    exists: bool
    bytes: Mapping[str, int]  # by part, "all" last
    sweeps: tuple[Sweep, ...]  # oldest first
    locks: tuple[Closed, ...]  # newest first
    published: int
    remembered: int
    campaigns: tuple[Played, ...]
    evidence: int
    holders: Mapping[str, str]  # alias -> what it stands on
    running: tuple[Running, ...]
    waiting: int  # entries of the record in the outbox

    @property
    def trials(self) -> int:
        return sum(sweep.trials for sweep in self.sweeps)

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        document = asdict(self)
        return document | {"root": str(self.root), "trials": self.trials}


def status(workspace: Workspace) -> Status:
    """How things stand. A workspace that is not there holds nothing; WorkspaceError where it is no folder."""
    root = workspace.root
    if root.exists() and not root.is_dir():
        raise WorkspaceError(f"{root}: --workspace: is a file; name a folder")
    sweeps, campaigns = sweeps_in(workspace), tuple(_campaigns(workspace.campaigns))
    return Status(
        root,
        root.is_dir(),
        _bytes(workspace),
        tuple(sweeps.values()),
        tuple(_locks(workspace.locks)),
        sum(1 for path in workspace.runs.glob("[0-9a-f]*") if path.is_dir()),
        sum(1 for _ in workspace.run_records.glob("*.json")),
        campaigns,
        sum(1 for path in workspace.evidence.glob("*") if path.is_dir()),
        _holders(workspace),
        tuple(_running(workspace, sweeps, campaigns)),
        _waiting(workspace),
    )


def _bytes(workspace: Workspace) -> dict[str, int]:
    parts = {"cache": workspace.cache, "runs": workspace.runs, "artifacts": workspace.artifacts}
    found = {name: size_of(folder) for name, folder in parts.items()}
    return found | {"all": size_of(workspace.root)}


def _locks(folder: Path) -> Iterator[Closed]:
    """Locks as they state themselves, newest first: proving their ids would read the whole of each."""
    for path in sorted(folder.glob("[!.]*.json"), key=lambda path: -path.stat().st_mtime_ns):
        try:
            lock = read_json(path)
            yield Closed(path.stem, lock["decision"], lock["verdict"], lock["reason"])
        except (PolicyError, KeyError, TypeError) as error:
            yield Closed(path.stem, "unreadable", "", str(error))


def _campaigns(folder: Path) -> Iterator[Played]:
    """Runs of campaigns, oldest first. Their records are typed where the search is imported, which costs a second."""
    for began in sorted(folder.glob("*/campaign.json"), key=lambda path: path.stat().st_mtime_ns):
        records = sorted(began.parent.glob("[0-9][0-9].*.json"))
        try:
            phases = len(read_json(began)["campaign"]["phases"])
            ended = read_json(records[-1]).get("status") if records else None
        except (PolicyError, KeyError, TypeError, AttributeError):
            phases, ended = 0, "unreadable"
        yield Played(began.parent.name, phases, len(records), ended)


def _running(workspace: Workspace, sweeps: Mapping[str, Sweep], campaigns: tuple[Played, ...]) -> Iterator[Running]:
    for name, process in workspace.held("campaign"):
        run = next((played for played in reversed(campaigns) if played.run.rpartition("-")[0] == name), None)
        seen = Played(name, 0, 0, None) if run is None else run
        yield Running("campaign", seen.run, process, seen.done, seen.phases or None)
    for lane, process in workspace.held("sweep"):
        newest = next((sweep for sweep in reversed([*sweeps.values()]) if sweep.lane == lane), Sweep(lane, 0))
        yield Running("sweep", newest.name, process, newest.trials, newest.budget)


def _holders(workspace: Workspace) -> dict[str, str]:
    """Alias -> the lock that it stands on."""
    return {alias: f"{move.to} since {move.at}" for alias, move in sorted(holders(workspace).items())}


def _waiting(workspace: Workspace) -> int:
    """Entries that the record has not taken yet."""
    return sum(box.waits() for box in Outbox(workspace).boxes())
