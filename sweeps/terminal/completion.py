"""What a shell may offer for an argument: what is shipped, and what the workspace holds. Reads, never writes.

A path is always possible as well: where it is, the shell is told to fall back on files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from lanelock.policies import LanelockError
from lanelock.policies.documents import shipped
from lanelock.sweeps.lanes.tally import sweeps_in
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.workspace import Workspace, default_folder

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def offering(*kinds: str, path: str | None = "file") -> Complete:
    """Names of these kinds, and paths ("file", "dir" or None)."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        workspace = _workspace(context)
        names = dict.fromkeys(name for kind in kinds for name in _known(kind, workspace, begun))
        found = [CompletionItem(name) for name in names if name.startswith(begun)]
        # First, because Bash's script forgets what it was offered before a path.
        return [CompletionItem(begun, type=path), *found] if path is not None else found

    return complete


def _workspace(context: click.Context) -> Workspace:
    named = context.params.get("workspace") or os.environ.get("LANELOCK_WORKSPACE") or default_folder()
    return Workspace(Path(named).resolve())


def _known(kind: str, workspace: Workspace, begun: str) -> Iterator[str]:
    """Names of one kind; none where what would name them cannot be read: a shell has no place for an error."""
    try:
        yield from _NAMES[kind](workspace, begun)
    except (LanelockError, OSError):
        return


def _sweeps(workspace: Workspace) -> Mapping[str, int]:

    return {name: sweep.trials for name, sweep in sweeps_in(workspace).items()}


def _trials(workspace: Workspace, begun: str) -> Iterable[str]:
    """SWEEP/NUMBER, once the sweep is typed: there may be thousands."""
    sweep, slash, _ = begun.rpartition("/")
    return (f"{sweep}/{number}" for number in range(_sweeps(workspace).get(sweep, 0) if slash else 0))


def _runs(workspace: Workspace) -> Iterator[str]:
    yield from (path.name for path in sorted(workspace.runs.glob("[0-9a-f]*")))
    yield from (path.stem for path in sorted(workspace.run_records.glob("*.json")))


def _locks(workspace: Workspace) -> Iterator[str]:
    yield from holders(workspace)
    yield from shipped("locks", ".json")
    yield from (path.stem for path in sorted(workspace.locks.glob("[!.]*.json")))


def _aliases() -> Iterable[str]:
    from lanelock.sweeps.proof.promotion import ALIASES  # brings NumPy and Arrow, which no other name needs

    return ALIASES


_NAMES: Mapping[str, Callable[[Workspace, str], Iterable[str]]] = {
    "pack": lambda workspace, begun: shipped("packs"),
    "lane": lambda workspace, begun: shipped("lanes", ".json"),
    "campaign": lambda workspace, begun: shipped("campaigns", ".json"),
    "lock": lambda workspace, begun: _locks(workspace),
    "run": lambda workspace, begun: _runs(workspace),
    "sweep": lambda workspace, begun: _sweeps(workspace),
    "trial": _trials,
    "evidence": lambda workspace, begun: (path.name for path in sorted(workspace.evidence.glob("[!.]*"))),
    "alias": lambda workspace, begun: _aliases(),
}
PACK = offering("pack", path="dir")
LANE = offering("lane")
CAMPAIGN = offering("campaign")
LOCK = offering("lock")
RUN = offering("run", path=None)
SWEEP = offering("sweep", path=None)
ALIAS = offering("alias", path=None)
PROVABLE = offering("run", "lock", "evidence")
COMPARABLE = offering("lock", "run", "pack", "evidence", "trial")
REPORTABLE = offering("run", "lock", "sweep")
FOLDER = offering(path="dir")
