"""The commands that write, each on one template workspace, and what a workspace holds afterwards."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.faults import run

TESTS = Path(__file__).resolve().parent.parent
QUEUE, TIDES = TESTS / "queue_engine", TESTS / "tides_engine"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and how a user repeats it after an accident."""

    name: str
    arguments: tuple[str, ...]
    resumed: str | None = None  # the option to repeat it with, once `begun` says that it is under way
    begun: Callable[[Path], bool] = lambda root: False

    def again(self, root: Path) -> tuple[str, ...]:
        """Returns the arguments to repeat it with."""
        return (*self.arguments, self.resumed) if self.resumed and self.begun(root) else self.arguments


def commands(outside: Path) -> tuple[Command, ...]:
    """Returns the commands that write. `outside` is a folder for pages and keys."""
    lane = str(QUEUE / "lane.json")
    return (
        Command("sweep", ("sweep", lane, "--trials", "12"), "--resume", lambda root: _sweeps(root, "queue") > 1),
        Command("campaign", ("campaign", str(QUEUE / "campaign.json")), "--resume", _campaign_begun),
        Command("certify", ("certify", "counter-1.short", "--holdout-seeds", "3")),
        Command("promote", ("promote", "counter-1.short", "--to", "authority", "--force", "--why", "the short one")),
        Command("rollback", ("rollback", "candidate")),
        Command("lock", ("lock", "queue-1/3", "--why", "it is the middle one")),
        Command("sign", ("sign", "counter-1.short", "--key", str(outside / "k.pem"))),
        Command("run", ("run", "--pack", str(TIDES / "pack"), "--seed", "6", "--publish")),
        Command("prune", ("prune", "--apply")),
        Command("sync", ("sync",)),
        Command("report", ("report", "counter-1.short", "--html", str(outside / "page.html"))),
        Command("export", ("export", "queue-1", "--csv", str(outside / "trials.csv"))),
        Command("note", ("note", "the middle one looks better", "--on", "queue-1")),
        Command("reopen", ("reopen", "tides", "--why", "another shore")),
        Command("unpack", ("lock", "unpack", "counter-1.short", "--to", str(outside / "pack"))),
    )


def template(root: Path, outside: Path) -> None:
    """Makes the workspace that each command starts from: campaigns, moves, a sweep, published runs, a key.

    The queue was frozen and reopened; the tides are frozen.
    """
    lane, pack = str(QUEUE / "lane.json"), str(TIDES / "pack")
    for call in (
        ("campaign", str(QUEUE / "campaign.json")),
        ("reopen", "queue", "--why", "it is tuned further"),
        ("campaign", str(TIDES / "campaign.json")),
        ("sweep", lane, "--trials", "8"),
        ("sweep", str(QUEUE / "lane_few.json"), "--trials", "6", "--anyway"),
        ("run", "--pack", pack, "--seed", "5", "--publish"),
        ("promote", "counter-1.short", "--to", "candidate", "--force", "--why", "a rehearsal"),
        ("key", "make", "k", "--out", str(outside), "--role", "maker"),
    ):
        ended = run([*call, *(() if call[0] == "key" else ("--workspace", str(root)))])
        assert ended.code in (0, 1), (call, ended)


def restored(kept: Path, root: Path) -> None:
    """Puts a folder back as it was kept."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(kept, root, symlinks=True, dirs_exist_ok=True)


def facts(root: Path) -> dict[str, Any]:
    """Returns what a workspace holds, less ids and times that no two calls share. For a process of its own."""
    from lanelock.sweeps.proof.freezes import freezes_in, reopened
    from lanelock.sweeps.proof.lock import Lock
    from lanelock.sweeps.proof.moves import holders
    from lanelock.sweeps.search.study import Studies
    from lanelock.sweeps.workspace import Workspace

    workspace = Workspace(root)
    studies = Studies(workspace.study_storage, reading=True)
    locks = [Lock.read(path) for path in sorted(workspace.locks.glob("*.json"))]
    return {
        "trials": {
            name: [(t.number, dict(t.values), t.record.chain) for t in _trials(studies, name)]
            for name in sorted(studies.names())
        },
        "tracked": _tracked(workspace.tracking_database),
        "locks": [(lock.sweep, lock.decision, lock.candidate_pack.digest) for lock in locks],
        "aliases": {alias: move.to.sweep for alias, move in holders(workspace).items()},
        "registry": _registered(workspace.tracking_database),
        "runs": sorted(path.name for path in workspace.runs.glob("[!.]*")),
        "frozen": {freeze.run: reopened(freeze, workspace) is None for freeze in freezes_in(workspace)},
        "evidence": sorted(path.name.rsplit(".", 2)[0] for path in workspace.evidence.glob("[!.]*")),
        "waiting": sorted(path.name for path in workspace.outbox.glob("*.jsonl")) if workspace.outbox.is_dir() else [],
    }


def _trials(studies: Any, name: str) -> Any:
    return studies.transcript(name).trials


def _tracked(database: Path) -> dict[str, list[int]]:
    """Returns the trials on the tracking server by sweep, each as often as it is there."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select s.value, t.value from tags t join tags s on s.run_uuid = t.run_uuid and s.key = 'lanelock.sweep' "
            "join runs r on r.run_uuid = t.run_uuid where t.key = 'lanelock.trial' and r.lifecycle_stage = 'active'"
        ).fetchall()
    by_sweep: dict[str, list[int]] = {}
    for sweep, number in rows:
        by_sweep.setdefault(sweep, []).append(int(number))
    return {sweep: sorted(numbers) for sweep, numbers in sorted(by_sweep.items())}


def _registered(database: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select a.name, a.alias, v.version from registered_model_aliases a join model_versions v "
            "on v.name = a.name and v.version = a.version"
        ).fetchall()
    return sorted((name, alias) for name, alias, _ in rows)


def _sweeps(root: Path, lane: str) -> int:
    from lanelock.sweeps.search.study import Studies
    from lanelock.sweeps.workspace import Workspace

    return sum(name.rpartition("-")[0] == lane for name in Studies(Workspace(root).study_storage, reading=True).names())


def _campaign_begun(root: Path) -> bool:
    return (root / "campaigns" / "counter-2" / "campaign.json").is_file()


def as_json(document: Mapping[str, Any]) -> Any:
    """Returns a document as it reads back from JSON."""
    return json.loads(json.dumps(document))


def whole(root: Path, outside: Path) -> list[str]:
    """Returns what is half-written in a workspace after an accident, before anything is repeated."""
    from lanelock.policies.errors import LanelockError
    from lanelock.sweeps.proof.evidence import check_files, evidence_in
    from lanelock.sweeps.proof.freezes import standing
    from lanelock.sweeps.proof.lock import Lock
    from lanelock.sweeps.proof.moves import moves
    from lanelock.sweeps.trail import notes
    from lanelock.sweeps.workspace import Workspace

    workspace, faults = Workspace(root), []
    checks: list[tuple[str, Callable[[], object]]] = [("moves", lambda: moves(workspace))]
    checks += [("freezes", lambda: standing(workspace)), ("notes", lambda: notes(workspace))]
    checks += [(path.name, lambda path=path: Lock.read(path)) for path in workspace.locks.glob("[!.]*.json")]  # type: ignore[misc]
    checks += [(folder.name, lambda folder=folder: check_files(folder)) for folder, _ in evidence_in(workspace)]  # type: ignore[misc]
    for name, check in checks:
        try:
            check()
        except LanelockError as error:
            faults.append(f"{name}: {error}")
    runs = [folder for folder in workspace.runs.glob("[!.]*") if not (folder / "run_receipt.json").is_file()]
    faults += [f"{folder.name}: a run without a receipt" for folder in runs]
    page = outside / "page.html"
    if page.exists() and not page.read_text().rstrip().endswith("</html>"):
        faults.append("a page that ends in the middle")
    return faults


def environment(root: Path) -> None:
    """Sets the variables that every command of this process sees."""
    os.environ["LANELOCK_WORKSPACE"] = str(root)
    os.environ.pop("LANELOCK_KEY", None)
