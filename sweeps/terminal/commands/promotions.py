"""`promote` and `rollback`: pointing an alias to a lock, on record."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from lanelock.engine.protocol import Serving
from lanelock.policies import LanelockError, WorkspaceError
from lanelock.sweeps.engines import engine_named, world_folder
from lanelock.sweeps.proof import promotion
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import as_line
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.terminal.completion import ALIAS, LOCK
from lanelock.sweeps.terminal.progress import checking
from lanelock.sweeps.terminal.session import KEY, WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace

DRY = click.option("--dry-run", is_flag=True, help="Check everything, move nothing.")
WHY = click.option("--why", default="", metavar="TEXT", help="The reason, which is recorded.")


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
@click.option("--force", is_flag=True, help="Override the parent rule; needs --why TEXT, which is recorded.")
@WHY
@DRY
@WORLD
@KEY
@common_options
def promote(
    session: Session, lock: str, alias: str, force: bool, why: str, dry_run: bool, world: str | None, key: Path | None
) -> int:
    """Point ALIAS to LOCK, if its verdict, its proof and its parent allow."""
    if force and not why.strip():
        raise click.UsageError("--force: give the reason with --why TEXT; it is recorded")
    workspace = session.as_it_stands() if dry_run else session.workspace()
    path, tables, signing = find_lock(lock, workspace), world_folder(world), _read(key)
    with checking(f"promote {path.stem}", live=session.live) as watch:
        moved = promotion.promote(
            path, alias, workspace, force=force, why=why, dry_run=dry_run, world=tables, key=signing, watch=watch
        )
    return _show(session, workspace, moved)


@click.command()
@click.argument("alias", shell_complete=ALIAS)
@WHY
@DRY
@KEY
@common_options
def rollback(session: Session, alias: str, why: str, dry_run: bool, key: Path | None) -> int:
    """Point ALIAS back to its previous lock."""
    workspace = session.as_it_stands() if dry_run else session.workspace()
    return _show(session, workspace, promotion.rollback(alias, workspace, why=why, dry_run=dry_run, key=_read(key)))


def _read(key: Path | None) -> SigningKey | None:
    return None if key is None else SigningKey.read(key)


def _registered(engine: str, model: str, version: str, workspace: Workspace) -> list[str]:
    """Returns how to use a registered model; of an engine that serves no rows, its lock is what can be read."""
    where = f"where MLFLOW_TRACKING_URI={shown(record_uri(workspace))}"
    if _serves(engine):
        return [f"serve it with mlflow.pyfunc.load_model({model!r}), version {version},", where]
    return [f"registered with its lock as {model}, version {version},", where]


def _serves(engine: str) -> bool:
    """Whether an engine answers single rows; yes where it is not here, since a rollback works without it."""
    with suppress(LanelockError):
        return isinstance(engine_named(engine).own, Serving)
    return True


def _show(session: Session, workspace: Workspace, outcome: promotion.Promotion) -> int:
    """Shows a move and, where it was recorded, brings the model registry up to date. Returns the exit code."""
    move, version, model, changed = outcome.move, None, None, list[str]()
    if outcome.written:
        # Imported here: MLflow costs a second, which a dry run need not pay.
        from lanelock.sweeps.record.registered import model_name
        from lanelock.sweeps.record.registry import follow

        try:
            version = follow(workspace, changed.append)[move.alias]
            model = f"models:/{model_name(move.to.engine)}@{move.alias}"
        except WorkspaceError as error:
            why = " ".join(str(error).split())
            say(f"the move is recorded; update the model registry with: lanelock sync ({why})")
    document = {
        "moved": outcome.written,
        "refusals": list(outcome.refusals),
        "move": move.as_document(),
        "signed_by": [] if move.signed_by is None else [move.signed_by.as_document()],
        "model": model,
        "version": version,
        "changed": changed,
    }
    if outcome.refusals:
        text = [f"REFUSED  {move.alias} is not moved to {move.to.sweep}", *(f"  {why}" for why in outcome.refusals)]
    elif outcome.written:
        text = [as_line(move)]
        if version is not None:
            text += _registered(move.to.engine, str(model), version, workspace)
    else:
        text = [f"would move  {as_line(move)}"]
    session.show(document, "\n".join(text))
    for line in changed:
        say(f"not as the moves said in the registry, and set right: {line}")
    return 3 if changed else 1 if outcome.refusals else 0
