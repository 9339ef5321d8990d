"""`status`: what the workspace holds, which lock each alias points to, and what is running."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from lanelock.sweeps.pages.text import one_line, short, size
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.upkeep import status as upkeep

SHOWN = 2  # sweeps, campaigns and decisions that are named


@click.command()
@common_options
def status(session: Session) -> int:
    """What the workspace holds, which lock is authority, and what is running, in ten lines."""
    now = upkeep.status(session.as_it_stands())
    rows = [*_lines(now)]
    width = max(len(name) for name, _ in rows)
    session.show(
        now.as_document() if session.as_json else {}, "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
    )
    for line in now.registry:
        say(f"not as the moves say: {line}; set it right with: lanelock sync")
    return 3 if now.registry else 0


def _lines(now: upkeep.Status) -> Iterator[tuple[str, str]]:
    parts = ", ".join(f"{name} {size(count)}" for name, count in now.bytes.items() if name != "all" and count)
    contents = f"{size(now.bytes['all'])}{f' ({parts})' if parts else ''}" if now.exists else "not there yet"
    yield "workspace", f"{now.root}  {contents}"
    newest = [f"{sweep.name} {sweep.trials}" for sweep in now.sweeps[: -SHOWN - 1 : -1]]
    if now.moved:
        yield "", now.moved
    yield "sweeps", _newest(f"{len(now.sweeps)}, {now.trials} trials", newest)
    go = sum(lock.decision == "GO" for lock in now.locks)
    yield "locks", f"{len(now.locks)}, {go} of them GO; {now.evidence} evidence pack{'s' * (now.evidence != 1)}"
    yield "runs", f"{now.published} published, {now.remembered} remembered"
    newest = [f"{run.run} {run.status or f'{run.done} of {run.phases} phases'}" for run in reversed(now.campaigns)]
    yield "campaigns", _newest(str(len(now.campaigns)), newest[:SHOWN])
    yield "aliases", _aliases(now.holders) or "none"
    if now.frozen:
        yield "frozen", "; ".join(f"{engine} {short(one_line(text), 160)}" for engine, text in now.frozen.items())
    if now.runtime:
        yield "run time", "; ".join(short(one_line(text), 240) for text in now.runtime.values())
    yield "running", "; ".join(map(_running, now.running)) or "none"
    decided = [f"{lock.name} {lock.decision}: {short(lock.reason, 100)}" for lock in now.locks[:SHOWN]]
    for index, line in enumerate(decided or ["none"]):
        yield "decided" if index == 0 else "", line
    why = f" ({now.waits_for})" if now.waits_for else ""
    for line in now.webhooks:
        yield "webhook", line
    yield "pending uploads", f"{now.waiting}{why}; deliver them with: lanelock sync" if now.waiting else "none"


def _aliases(holders: Mapping[str, str]) -> str:
    """Returns each lock with the aliases that point to it. Since when is in the JSON."""
    aliases: dict[str, list[str]] = {}
    for alias, lock in holders.items():
        aliases.setdefault(lock.partition(" since ")[0], []).append(alias)
    return "; ".join(f"{', '.join(names)}: {lock}" for lock, names in aliases.items())


def _newest(count: str, newest: list[str]) -> str:
    return f"{count}; newest {', '.join(newest)}" if newest else count


def _running(running: upkeep.Running) -> str:
    unit = "phases" if running.kind == "campaign" else "trials"
    far = f"{running.done} {unit}" if running.of is None else f"{running.done} of {running.of} {unit}"
    return f"{running.kind} {running.name}, {far}" + (f" (process {running.process})" if running.process else "")
