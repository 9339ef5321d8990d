"""The progress of a sweep while it runs: how far, how fast, the best trial so far, and the trials each veto ended."""

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
from lanelock.sweeps.pages.text import printable
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.sweep import Progress
from lanelock.sweeps.workspace import Workspace

LINES = 10  # lines printed over a whole sweep where there is no screen
Watch = Callable[[Progress], None]


@contextmanager
def watching(lane: Lane, *, live: bool) -> Iterator[Watch]:
    """Shows a bar with its lines on a terminal, about ten plain lines elsewhere, and nothing if not `live`."""
    if not live:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _screen(lane) as watch:
            yield watch
    else:
        yield _lines(lane)


def in_words(lane: Lane, progress: Progress, since: Progress | None = None) -> tuple[str, str, str]:
    """Returns three lines: how far and how fast, the best trial, the vetoes.

    `since` is the first progress of this process: a resumed sweep did not run the trials before it.
    """
    rate = _rate(progress, since)
    pace = f"{progress.done}/{progress.budget} trials in {progress.seconds:.1f} s"
    if progress.done >= progress.budget:
        pace += f", {rate:.1f}/s; closing: sensitivity, proof, tracking"
    elif rate > 0:
        left = min((progress.budget - progress.done) / rate, max(0.0, progress.budget_seconds - progress.seconds))
        minutes, seconds = divmod(round(left), 60)
        pace += f", {rate:.1f}/s, {f'{minutes} min {seconds:02d} s' if minutes else f'{seconds} s'} left"
    best = "no trial is graded yet"
    if progress.best is not None and progress.best.objectives is not None:
        values = zip(lane.objectives, progress.best.objectives, strict=True)
        best = f"best trial {progress.best.number}: {', '.join(f'{each.name} {value:.4f}' for each, value in values)}"
    vetoes = sorted(progress.vetoed.items(), key=lambda row: -row[1])
    ended = f"vetoed: {', '.join(f'{name} {count}' for name, count in vetoes) or 'none'}"
    if progress.failed:
        ended += f"; failed {len(progress.failed)}: {progress.failed[-1].record.failure}"
    if progress.trouble:
        ended += f"; tracking waits: {progress.trouble}"
    return pace, best, ended


def _rate(progress: Progress, since: Progress | None) -> float:
    """Trials per second, over the trials run by this process."""
    if since is None or progress.seconds <= since.seconds:
        return progress.done / progress.seconds if progress.seconds > 0 else 0.0
    return (progress.done - since.done) / (progress.seconds - since.seconds)


def _lines(lane: Lane) -> Watch:
    first: Progress | None = None
    printed = 0

    def watch(progress: Progress) -> None:
        nonlocal first, printed
        first = first or progress
        part = progress.done * LINES // progress.budget
        if part > printed:
            printed = part
            click.echo(f"sweep {lane.id}: {'; '.join(in_words(lane, progress, first))}", err=True)

    return watch


@contextmanager
def _screen(lane: Lane) -> Iterator[Watch]:
    bars = Bars(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    task = bars.add_task(f"sweep {lane.id}", total=None)
    first: Progress | None = None
    with Live(Group(bars, "  surveying the authority"), console=Console(stderr=True), transient=True) as screen:

        def watch(progress: Progress) -> None:
            nonlocal first
            first = first or progress
            bars.update(task, completed=progress.done, total=progress.budget)
            lines = in_words(lane, progress, first)
            screen.update(Group(bars, *(Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in lines)))

        yield watch


@contextmanager
def resumable(workspace: Workspace, command: str) -> Iterator[None]:
    """Wraps a search: Ctrl-C ends it with exit code 130 and the command that resumes it; then says what is pending."""
    interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        interrupted = True
        click.echo(f"interrupted; every finished trial is kept. Resume with: {command}", err=True)
    pending, why = Outbox(workspace).pending()
    if pending:
        because = f" ({printable(why)})" if why else ""
        text = f"{pending} uploads pending in {workspace.outbox}{because}; deliver them with: lanelock sync"
        click.echo(text, err=True)
    if interrupted:
        raise click.Abort
