"""`promote` and `rollback`: moving a name onto a lock, on record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lanelock.policies import WorkspaceError
from lanelock.sweeps.terminal.completion import ALIAS, LOCK
from lanelock.sweeps.terminal.session import WORLD, common_options, session_of

if TYPE_CHECKING:
    from lanelock.sweeps.proof.promotion import Promotion
    from lanelock.sweeps.terminal.session import Session
    from lanelock.sweeps.workspace import Workspace

DRY = click.option("--dry-run", is_flag=True, help="Check everything, move nothing.")


@click.command()
@click.argument("lock", shell_complete=LOCK)
@click.option(
    "--to",
    "alias",
    required=True,
    metavar="ALIAS",
    shell_complete=ALIAS,
    help="candidate, authority, last-good or certified.",
)
@click.option("--force", is_flag=True, help="Although its parent is not what the name stands on; needs --why.")
@click.option("--why", default="", metavar="TEXT", help="The reason, kept in the record.")
@DRY
@WORLD
@common_options
def promote(lock: str, alias: str, force: bool, why: str, dry_run: bool, world: str | None, **options: Any) -> int:
    """Move the name ALIAS onto LOCK, where its verdict, its proof and its parent allow."""
    from lanelock.sweeps.engines import world_folder
    from lanelock.sweeps.proof.lock_files import find_lock
    from lanelock.sweeps.proof.promotion import promote as move

    if force and not why.strip():
        raise click.UsageError("--force: give the reason with --why TEXT; it is kept in the record")
    session = session_of(options)
    workspace = session.workspace()
    path = find_lock(lock, workspace)
    found = move(path, alias, workspace, force=force, why=why, dry_run=dry_run, world=world_folder(world))
    return _show(session, workspace, found)


@click.command()
@click.argument("alias", shell_complete=ALIAS)
@click.option("--why", default="", metavar="TEXT", help="The reason, kept in the record.")
@DRY
@common_options
def rollback(alias: str, why: str, dry_run: bool, **options: Any) -> int:
    """Move the name ALIAS back onto what it stood on before."""
    from lanelock.sweeps.proof.promotion import rollback as move

    session = session_of(options)
    workspace = session.workspace()
    return _show(session, workspace, move(alias, workspace, why=why, dry_run=dry_run))


def _show(session: Session, workspace: Workspace, found: Promotion) -> int:
    """What came of it; the registry follows where a record was written."""
    from lanelock.sweeps.proof.moves import as_line
    from lanelock.sweeps.record.outbox import record_uri
    from lanelock.sweeps.record.registry import follow, model_name
    from lanelock.sweeps.workspace import shown

    move, version = found.move, None
    if found.written:
        try:
            version = follow(workspace)[move.alias]
        except WorkspaceError as error:
            said = " ".join(str(error).split())
            click.echo(f"the move stands; the registry follows with: lanelock sync ({said})", err=True)
    document = {
        "moved": found.written,
        "refusals": list(found.refusals),
        "move": asdict(move),
        "model": None if version is None else f"models:/{model_name(move.to.engine)}@{move.alias}",
        "version": version,
    }
    if found.refusals:
        text = [f"REFUSED  {move.alias} is not moved to {move.to.sweep}", *(f"  {why}" for why in found.refusals)]
    elif found.written:
        text = [as_line(move)]
        if version is not None:
            text.append(f"serve it with mlflow.pyfunc.load_model({document['model']!r}), version {version},")
            text.append(f"where MLFLOW_TRACKING_URI={shown(record_uri(workspace))}")
    else:
        text = [f"would move  {as_line(move)}"]
    session.show(document, "\n".join(text))
    return 1 if found.refusals else 0
