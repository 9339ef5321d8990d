"""`promote` and `rollback`: moving a name onto a lock, on record."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from lanelock.policies import WorkspaceError
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.proof import promotion
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import as_line
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.terminal.completion import ALIAS, LOCK
from lanelock.sweeps.terminal.session import WORLD, Session, common_options, session_of
from lanelock.sweeps.workspace import Workspace, shown

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
    if force and not why.strip():
        raise click.UsageError("--force: give the reason with --why TEXT; it is kept in the record")
    session = session_of(options)
    workspace = session.as_it_stands() if dry_run else session.workspace()
    path, tables = find_lock(lock, workspace), world_folder(world)
    moved = promotion.promote(path, alias, workspace, force=force, why=why, dry_run=dry_run, world=tables)
    return _show(session, workspace, moved)


@click.command()
@click.argument("alias", shell_complete=ALIAS)
@click.option("--why", default="", metavar="TEXT", help="The reason, kept in the record.")
@DRY
@common_options
def rollback(alias: str, why: str, dry_run: bool, **options: Any) -> int:
    """Move the name ALIAS back onto what it stood on before."""
    session = session_of(options)
    workspace = session.as_it_stands() if dry_run else session.workspace()
    return _show(session, workspace, promotion.rollback(alias, workspace, why=why, dry_run=dry_run))


def _show(session: Session, workspace: Workspace, found: promotion.Promotion) -> int:
    """What came of it; the registry follows where a record was written."""
    move, version, model = found.move, None, None
    if found.written:
        from lanelock.sweeps.record.registry import follow, model_name  # MLflow, a second of imports: not on a dry run

        try:
            version = follow(workspace)[move.alias]
            model = f"models:/{model_name(move.to.engine)}@{move.alias}"
        except WorkspaceError as error:
            said = " ".join(str(error).split())
            click.echo(f"the move stands; the registry follows with: lanelock sync ({said})", err=True)
    document = {
        "moved": found.written,
        "refusals": list(found.refusals),
        "move": asdict(move),
        "model": model,
        "version": version,
    }
    if found.refusals:
        text = [f"REFUSED  {move.alias} is not moved to {move.to.sweep}", *(f"  {why}" for why in found.refusals)]
    elif found.written:
        text = [as_line(move)]
        if version is not None:
            text.append(f"serve it with mlflow.pyfunc.load_model({model!r}), version {version},")
            text.append(f"where MLFLOW_TRACKING_URI={shown(record_uri(workspace))}")
    else:
        text = [f"would move  {as_line(move)}"]
    session.show(document, "\n".join(text))
    return 1 if found.refusals else 0
