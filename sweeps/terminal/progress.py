"""What is seen of a sweep while it is played: how far, how fast, the best so far, which veto ended how many."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.sweep import Progress
from lanelock.sweeps.workspace import Workspace

LINES = 10  # printed of a whole sweep where there is no screen
Watch = Callable[[Progress], None]


@contextmanager
def watching(lane: Lane, *, live: bool) -> Iterator[Watch]:
    """A bar with its lines on a terminal, plain lines (about ten in all) elsewhere, nothing where not live."""
    if not live:
        yield lambda told: None
    elif sys.stderr.isatty():
        with _screen(lane) as watch:
            yield watch
    else:
        yield _lines(lane)


def in_words(lane: Lane, told: Progress, since: Progress | None = None) -> tuple[str, str, str]:
    """How far and how fast, the best so far, the vetoes. `since`: the first that was told: a resumed sweep needs it."""
    rate = _rate(told, since)
    pace = f"{told.done}/{told.budget} trials in {told.seconds:.1f} s"
    if told.done >= told.budget:
        pace += f", {rate:.1f}/s; closing: what moved what, proof, record"
    elif rate > 0:
        left = min((told.budget - told.done) / rate, max(0.0, told.budget_seconds - told.seconds))
        pace += f", {rate:.1f}/s, {_clock(left)} left"
    best = "no trial is graded yet"
    if told.best is not None and told.best.objectives is not None:
        named = zip(lane.objectives, told.best.objectives, strict=True)
        best = f"best trial {told.best.number}: {', '.join(f'{one.name} {value:.4f}' for one, value in named)}"
    ended = ", ".join(f"{name} {count}" for name, count in sorted(told.vetoed.items(), key=lambda row: -row[1]))
    return pace, best, f"vetoed: {ended or 'none'}"


def _rate(told: Progress, since: Progress | None) -> float:
    """Trials a second, of those that were run now."""
    if since is None or told.seconds <= since.seconds:
        return told.done / told.seconds if told.seconds > 0 else 0.0
    return (told.done - since.done) / (told.seconds - since.seconds)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _lines(lane: Lane) -> Watch:
    seen: list[Progress] = []
    printed = 0

    def watch(told: Progress) -> None:
        nonlocal printed
        seen[1:] = [told]
        part = told.done * LINES // told.budget
        if part > printed:
            printed = part
            click.echo(f"sweep {lane.id}: {'; '.join(in_words(lane, told, seen[0]))}", err=True)

    return watch


@contextmanager
def _screen(lane: Lane) -> Iterator[Watch]:
    bars = Bars(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    task, seen = bars.add_task(f"sweep {lane.id}", total=None), list[Progress]()
    with Live(Group(bars, "  surveying the authority"), console=Console(stderr=True), transient=True) as screen:

        def watch(told: Progress) -> None:
            seen[1:] = [told]
            bars.update(task, completed=told.done, total=told.budget)
            rows = (Text(f"  {row}", no_wrap=True, overflow="ellipsis") for row in in_words(lane, told, seen[0]))
            screen.update(Group(bars, *rows))

        yield watch


def say_what_waits(workspace: Workspace) -> None:
    """One line on stderr where letters wait."""
    waits = sum(box.waits() for box in Outbox(workspace).boxes())
    if waits:
        click.echo(
            f"{waits} entries wait for the record in {workspace.outbox}; deliver them with: lanelock sync",
            err=True,
        )
