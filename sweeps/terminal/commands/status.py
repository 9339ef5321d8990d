"""`status`: what the workspace holds, who is authority, what is running."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from lanelock.sweeps.pages.text import short
from lanelock.sweeps.terminal.session import common_options, session_of
from lanelock.sweeps.upkeep.status import Running, Status
from lanelock.sweeps.upkeep.status import status as standing

SHOWN = 2  # sweeps, campaigns and decisions that are named
UNITS = ("B", "kB", "MB", "GB", "TB")


@click.command()
@common_options
def status(**options: Any) -> int:
    """What the workspace holds, who is authority, and what is running, in ten lines."""
    session = session_of(options)
    found = standing(session.as_it_stands())
    rows = [*_lines(found)]
    width = max(len(name) for name, _ in rows)
    session.show(found.as_document(), "\n".join(f"{name:<{width}}  {said}" for name, said in rows))
    return 0


def _lines(found: Status) -> Iterator[tuple[str, str]]:
    parts = ", ".join(f"{name} {size(count)}" for name, count in found.bytes.items() if name != "all" and count)
    held = f"{size(found.bytes['all'])}{f' ({parts})' if parts else ''}" if found.exists else "not there yet"
    yield "workspace", f"{found.root}  {held}"
    newest = [f"{sweep.name} {sweep.trials}" for sweep in found.sweeps[: -SHOWN - 1 : -1]]
    yield "sweeps", _newest(f"{len(found.sweeps)}, {found.trials} trials", newest)
    go = sum(lock.decision == "GO" for lock in found.locks)
    yield "locks", f"{len(found.locks)}, {go} of them GO; {found.evidence} evidence packs"
    yield "runs", f"{found.published} published, {found.remembered} remembered"
    newest = [f"{one.run} {one.status or f'{one.done} of {one.phases} phases'}" for one in reversed(found.campaigns)]
    yield "campaigns", _newest(str(len(found.campaigns)), newest[:SHOWN])
    yield "names", _names(found.holders) or "none stands on a lock"
    yield "running", "; ".join(map(_running, found.running)) or "nothing"
    decided = [f"{lock.name} {lock.decision}: {short(lock.reason, 100)}" for lock in found.locks[:SHOWN]]
    for index, line in enumerate(decided or ["nothing"]):
        yield "decided" if index == 0 else "", line
    yield "outbox", f"{found.waiting} entries wait: lanelock sync" if found.waiting else "nothing waits"


def size(count: int) -> str:
    """Bytes in a unit that a person reads."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{0 if unit == 0 else 1}f} {UNITS[unit]}"


def _names(holders: Mapping[str, str]) -> str:
    """Each lock with the names that stand on it; since when is in the JSON."""
    on: dict[str, list[str]] = {}
    for alias, what in holders.items():
        on.setdefault(what.partition(" since ")[0], []).append(alias)
    return "; ".join(f"{', '.join(aliases)}: {lock}" for lock, aliases in on.items())


def _newest(counted: str, newest: list[str]) -> str:
    return f"{counted}; newest {', '.join(newest)}" if newest else counted


def _running(one: Running) -> str:
    unit = "phases" if one.kind == "campaign" else "trials"
    far = f"{one.done} {unit}" if one.of is None else f"{one.done} of {one.of} {unit}"
    return f"{one.kind} {one.name}, {far}" + (f" (process {one.process})" if one.process else "")
