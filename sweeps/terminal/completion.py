"""The names a shell offers for an argument: what is shipped and what the workspace holds. Reads, never writes.

Where a path is allowed as well, the shell is told to fall back on files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import click
from click.shell_completion import CompletionItem

from lanelock.policies import LanelockError
from lanelock.policies.documents import shipped
from lanelock.sweeps.proof.freezes import standing
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.workspace import Workspace, usual

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def offering(*kinds: str, path: str | None = "file") -> Complete:
    """Returns a completion of names of these kinds, and of paths: `path` is "file", "dir" or None."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        workspace = usual(context.params.get("workspace"))
        names = dict.fromkeys(name for kind in kinds for name in _known(kind, workspace, begun))
        items = [CompletionItem(name) for name in names if name.startswith(begun)]
        # The path goes first: Bash's script drops what it was offered before a path.
        return [CompletionItem(begun, type=path), *items] if path is not None else items

    return complete


def _known(kind: str, workspace: Workspace, begun: str) -> Iterator[str]:
    """Yields names of one kind, and no names if they cannot be read: a shell has no place for an error."""
    try:
        yield from _NAMES[kind](workspace, begun)
    except (LanelockError, OSError):
        return


def _trials(workspace: Workspace, begun: str) -> Iterable[str]:
    """SWEEP/NUMBER, offered only after the sweep is typed: there may be thousands."""
    name, slash, _ = begun.rpartition("/")
    sweep = sweeps_in(workspace).get(name) if slash else None
    return (f"{name}/{number}" for number in range(sweep.trials if sweep else 0))


def _runs(workspace: Workspace) -> Iterator[str]:
    yield from (path.name for path in sorted(workspace.runs.glob("[0-9a-f]*")))
    yield from (path.stem for path in sorted(workspace.run_records.glob("*.json")))


def _locks(workspace: Workspace) -> Iterator[str]:
    yield from holders(workspace)
    yield from shipped("locks", ".json")
    yield from (path.stem for path in sorted(workspace.locks.glob("[!.]*.json")))


def _aliases() -> Iterable[str]:
    from lanelock.sweeps.proof.promotion import ALIASES  # imports NumPy and Arrow, which no other name needs

    return ALIASES


_NAMES: Mapping[str, Callable[[Workspace, str], Iterable[str]]] = {
    "pack": lambda workspace, begun: shipped("packs"),
    "lane": lambda workspace, begun: shipped("lanes", ".json"),
    "campaign": lambda workspace, begun: shipped("campaigns", ".json"),
    "lock": lambda workspace, begun: _locks(workspace),
    "run": lambda workspace, begun: _runs(workspace),
    "sweep": lambda workspace, begun: sweeps_in(workspace),
    "trial": _trials,
    "evidence": lambda workspace, begun: (
        path.name for path in sorted(workspace.evidence.glob("[!.]*")) if path.is_dir()
    ),
    "freeze": lambda workspace, begun: (path.stem for path in sorted(workspace.freezes.glob("[!.]*.json"))),
    "runtime": lambda workspace, begun: (path.stem for path in sorted(workspace.runtime_locks.glob("[!.]*.json"))),
    "played": lambda workspace, begun: (path.name for path in sorted(workspace.campaigns.glob("[!.]*"))),
    "frozen": lambda workspace, begun: standing(workspace),
    "alias": lambda workspace, begun: _aliases(),
}
PACK = offering("pack", "lock", "trial")
LANE = offering("lane")
CAMPAIGN = offering("campaign")
LOCK = offering("lock")
RUN = offering("run", path=None)
TRIAL = offering("trial", path=None)
SWEEP = offering("sweep", path=None)
SWEEP_OR_RUN = offering("sweep", "run", path=None)
ALIAS = offering("alias", path=None)
NOTED = offering("sweep", "played", "lock")
FROZEN = offering("frozen", path=None)
SIGNABLE = offering("lock", "evidence", "freeze")
PROVABLE = offering("run", "lock", "evidence", "freeze", "runtime")
COMPARABLE = offering("lock", "run", "pack", "evidence", "trial")
REPORTABLE = offering("run", "lock", "sweep")
FOLDER = offering(path="dir")
