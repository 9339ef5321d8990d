"""`lock` and `verify`: read and prove what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sweeps import terminal
from sweeps.session import WORLD, common_options, session_of


@click.group("lock")
def lock_group() -> None:
    """Read and prove locks."""


@lock_group.command("show")
@click.argument("lock")
@common_options
def lock_show(lock: str, **options: Any) -> int:
    """What LOCK says."""
    from sweeps.lock import find_lock, read_lock

    session = session_of(options)
    document = read_lock(find_lock(lock, session.workspace()))
    session.show(document, terminal.lock_text(document))
    return 0


def _verify(lock: str, world: str | None, options: dict[str, Any]) -> int:
    from sweeps.lock import find_lock, verify_lock
    from sweeps.seam import world_folder

    session = session_of(options)
    path = find_lock(lock, session.workspace())
    checks = verify_lock(path, world_folder(world))
    failed = [check for check in checks if not check.ok]
    document = {
        "ok": not failed,
        "checked": len(checks),
        "lock": str(path),
        "failed": [asdict(check) for check in failed],
    }
    session.show(document, f"{path}: {len(checks)} checks, {len(failed)} differ")
    for check in failed:
        click.echo(
            f"{path}: {check.name}: stated {terminal.short(check.stated)}, found {terminal.short(check.found)}",
            err=True,
        )
    return 3 if failed else 0


@lock_group.command("verify")
@click.argument("lock")
@WORLD
@common_options
def lock_verify(lock: str, world: str | None, **options: Any) -> int:
    """Recompute every digest of LOCK, run it again on every seed, score it again."""
    return _verify(lock, world, options)


@click.command()
@click.argument("what", metavar="RUN|LOCK")
@WORLD
@common_options
def verify(what: str, world: str | None, **options: Any) -> int:
    """Recompute every digest of a published run or of a lock; exit 3 on any difference."""
    from engine.receipts import read_receipt
    from engine.store import RECEIPT, faults, published, seals

    folder = published(what, options["workspace"] / "runs")
    if folder is None:
        return _verify(what, world, options)
    session, receipt = session_of(options), read_receipt(folder / RECEIPT)
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
