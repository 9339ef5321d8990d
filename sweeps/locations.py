"""Where artifacts lie, whatever the workspace's own MLflow database says: a workspace may be moved or copied.

MLflow stores whole paths. So each path that it gives is read as one below this workspace's `artifacts/`, and a path
that leads out of it, by a link or otherwise, is never written to nor removed. `relocate` rewrites what the database
holds, for those who open it without Lanelock. Imports no MLflow.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from lanelock.policies import WorkspaceError
from lanelock.sweeps.workspace import Workspace, unlinked

_COLUMNS = (  # of MLflow's tables, as far as this version of it has them
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_OURS = """
select name, artifact_location from experiments e where artifact_location is not null and (
    exists (select 1 from experiment_tags t where t.experiment_id = e.experiment_id and t.key like 'lanelock.%')
    or exists (select 1 from runs r join tags t on t.run_uuid = r.run_uuid
               where r.experiment_id = e.experiment_id and t.key = 'lanelock.kind'))
"""  # an experiment that somebody else made may lie where they like


@dataclass(frozen=True, slots=True)
class Locations:
    """The artifacts of a workspace, and where its database still looks for them."""

    here: Path
    before: tuple[str, ...]  # addresses of `artifacts/` in the places that the workspace was moved or copied from

    def now(self, address: str) -> str:
        """Returns the present address of what lies at an address in the database."""
        for before in self.before:
            if address == before or address.startswith(f"{before}/"):
                return self.here.as_uri() + address.removeprefix(before)
        return address

    def path(self, address: str) -> Path | None:
        """Returns the present path of what lies at an address; None where that is no local file."""
        return local_path(self.now(address))

    def check(self, path: Path, *, removing: bool = False) -> Path:
        """Returns a path at which a file of an artifact may be written, or with `removing`, removed.

        Raises WorkspaceError where it is not below `artifacts/`, or only by way of a link. `artifacts/` itself may be a
        link to another disk: then files are written there, and none is removed.
        """
        top = self.here.parent if removing else self.here
        if path == self.here or not path.is_relative_to(self.here) or not unlinked(path, top):
            raise WorkspaceError(
                f"{path}: MLflow's database names this place for artifacts, but it is not in {self.here}, or a link "
                f"leads there; nothing is {'removed' if removing else 'written'} there"
            )
        return path


def local_path(address: str) -> Path | None:
    """Returns the path that an address of MLflow names; None where it is elsewhere."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(os.fsdecode(unquote_to_bytes(parts.path)))  # whatever encoding this process has for names
    return Path(address) if address.startswith("/") else None


def locations(workspace: Workspace) -> Locations:
    """Returns where a workspace's artifacts lie, read from its own database; a database that cannot be read says so."""
    found = set[str]()
    if workspace.tracking_database.is_file():
        try:
            with closing(sqlite3.connect(f"{workspace.tracking_database.as_uri()}?mode=ro", uri=True)) as base:
                found = {*_foreign(base, workspace.artifacts.as_uri())}
        except sqlite3.Error:
            pass  # whoever opens it says what is wrong with it
    return Locations(workspace.artifacts, tuple(sorted(found, key=lambda before: (-len(before), before))))


def moved_from(workspace: Workspace) -> tuple[Path, ...]:
    """Returns the workspaces in which the database still looks for artifacts: from where this one was moved."""
    return tuple(path.parent for before in locations(workspace).before if (path := local_path(before)) is not None)


def relocate(workspace: Workspace) -> tuple[Path, ...]:
    """Makes a workspace's own database name its present place, and returns the former ones. Changes all or nothing.

    Raises WorkspaceError where the database cannot be written.
    """
    moved = moved_from(workspace)
    if not moved:
        return ()
    try:
        with closing(sqlite3.connect(workspace.tracking_database, timeout=60, isolation_level=None)) as base:
            base.execute("begin immediate")
            for before in [*_foreign(base, workspace.artifacts.as_uri())]:
                _rewrite(base, before, workspace.artifacts.as_uri())
            base.execute("commit")
    except sqlite3.Error as error:
        raise WorkspaceError(
            f"{workspace.tracking_database}: still names {moved[0]}, and cannot be set right: {error}"
        ) from None
    return moved


def as_notice(moved: tuple[Path, ...]) -> str:
    """Returns what is to be said of a workspace that was moved; empty where it was not."""
    if not moved:
        return ""
    places = ", ".join(map(str, moved))
    return f"moved from {places}, where MLflow alone still looks for artifacts; set it right with: lanelock sync"


def _foreign(base: sqlite3.Connection, here: str) -> Iterator[str]:
    """Yields each address, other than `here`, below which experiments of ours lie, each in a folder of its name."""
    seen = {here}
    for name, location in base.execute(_OURS).fetchall():
        for ending in {f"/artifacts/{quote(name)}", f"/artifacts/{name}"}:
            before = location.removesuffix(ending) + "/artifacts"
            if location.endswith(ending) and before not in seen:
                seen.add(before)
                yield before


def _rewrite(base: sqlite3.Connection, before: str, here: str) -> None:
    for table, column in _COLUMNS:
        if column in {row[1] for row in base.execute(f"pragma table_info({table})")}:
            base.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                [here, len(before) + 1, len(before) + 1, f"{before}/"],
            )
