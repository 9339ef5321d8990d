"""`lock` and `verify`: read and prove what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lanelock.sweeps.pages.text import short
from lanelock.sweeps.terminal import words as terminal
from lanelock.sweeps.terminal.completion import LOCK, PROVABLE
from lanelock.sweeps.terminal.session import WORLD, common_options, session_of

if TYPE_CHECKING:
    from lanelock.sweeps.proof.checks import Check
    from lanelock.sweeps.terminal.session import Session


@click.group("lock")
def lock_group() -> None:
    """Read and prove locks."""


@lock_group.command("show")
@click.argument("lock", shell_complete=LOCK)
@common_options
def lock_show(lock: str, **options: Any) -> int:
    """What LOCK says."""
    from lanelock.sweeps.proof.lock import Lock
    from lanelock.sweeps.proof.lock_files import find_lock

    session = session_of(options)
    shown = Lock.read(find_lock(lock, session.workspace()))
    session.show(shown.document, terminal.lock_text(shown))
    return 0


def _verify(lock: str, world: str | None, session: Session) -> int:
    from lanelock.sweeps.engines import world_folder
    from lanelock.sweeps.proof.lock import verify_lock
    from lanelock.sweeps.proof.lock_files import find_lock

    path = find_lock(lock, session.workspace())
    return _show_checks("lock", path, verify_lock(path, world_folder(world)), session)


@lock_group.command("verify")
@click.argument("lock", shell_complete=LOCK)
@WORLD
@common_options
def lock_verify(lock: str, world: str | None, **options: Any) -> int:
    """Recompute every digest of LOCK, run it again on every seed, score it again."""
    return _verify(lock, world, session_of(options))


@click.command()
@click.argument("what", metavar="RUN|LOCK|EVIDENCE", shell_complete=PROVABLE)
@WORLD
@common_options
def verify(what: str, world: str | None, **options: Any) -> int:
    """Recompute every digest of a published run, a lock or an evidence pack; exit 3 on any difference."""
    from lanelock.engine.segment_2b.store import published
    from lanelock.sweeps.proof.evidence import find_evidence, verify_evidence
    from lanelock.sweeps.workspace import Workspace

    session = session_of(options)
    place = Workspace(session.root)
    if (folder := published(what, place.runs)) is not None:
        return _verify_run(folder, session)
    if (folder := find_evidence(what, place)) is not None:
        return _show_checks("evidence", folder, verify_evidence(folder), session)
    return _verify(what, world, session)


def _verify_run(folder: Path, session: Session) -> int:
    from lanelock.engine.keep.receipts import read_receipt
    from lanelock.engine.segment_2b.store import RECEIPT, faults, seals

    receipt = read_receipt(folder / RECEIPT)
    found = [*faults(folder, receipt)] or [*seals(folder, receipt)]
    failed = [{"name": name, "reason": said} for name, said in found]
    count = len(receipt["files"]) + 1
    text = (
        f"{folder}: {count} files, {len(failed)} not as published"
        if failed
        else f"{folder}: {count} files, as published"
    )
    session.show({"ok": not failed, "checked": count, "run": str(folder), "failed": failed}, text)
    for row in failed:
        click.echo(f"{folder / row['name']}: {row['reason']}", err=True)
    return 3 if failed else 0


def _show_checks(kind: str, path: Path, checks: list[Check], session: Session) -> int:
    failed = [check for check in checks if not check.ok]
    document = {
        "ok": not failed,
        "checked": len(checks),
        kind: str(path),
        "failed": [asdict(check) for check in failed],
    }
    session.show(document, f"{path}: {len(checks)} checks, {len(failed)} differ")
    for check in failed:
        click.echo(
            f"{path}: {check.name}: stated {short(check.stated)}, found {short(check.found)}",
            err=True,
        )
    return 3 if failed else 0
