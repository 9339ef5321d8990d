"""`lock` and `verify`: read and prove what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lanelock.engine.keep.published import RECEIPT, published
from lanelock.engine.keep.receipts import read_receipt
from lanelock.sweeps.engines import publisher_of, world_folder
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.checks import Check
from lanelock.sweeps.proof.evidence import find_evidence, verify_evidence
from lanelock.sweeps.proof.lock import Lock, verify_lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.terminal import words as terminal
from lanelock.sweeps.terminal.completion import LOCK, PROVABLE
from lanelock.sweeps.terminal.session import WORLD, Session, common_options, session_of


@click.group("lock")
def lock() -> None:
    """Read and prove locks."""


@lock.command("show")
@click.argument("lock", shell_complete=LOCK)
@common_options
def lock_show(lock: str, **options: Any) -> int:
    """What LOCK says."""

    session = session_of(options)
    shown = Lock.read(find_lock(lock, session.as_it_stands()))
    session.show(shown.document, terminal.lock_text(shown))
    return 0


def _verify(lock: str, world: str | None, session: Session) -> int:

    path = find_lock(lock, session.as_it_stands())
    return _show_checks("lock", path, verify_lock(path, world_folder(world)), session)


@lock.command("verify")
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
    session = session_of(options)
    place = session.as_it_stands()
    if (folder := published(what, place.runs)) is not None:
        return _verify_run(folder, session)
    if (folder := find_evidence(what, place)) is not None:
        return _show_checks("evidence", folder, verify_evidence(folder), session)
    return _verify(what, world, session)


def _verify_run(folder: Path, session: Session) -> int:
    failed = [{"name": name, "reason": reason} for name, reason in publisher_of(folder).faults(folder)]
    count = len(read_receipt(folder / RECEIPT)["files"]) + 1
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
