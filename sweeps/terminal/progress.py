"""The progress of what takes long: of a sweep how far, how fast, the best trial and the vetoes; of a proof its checks.

Also how an interrupted sweep goes on.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.status import Status
from rich.text import Text

from lanelock.policies import LanelockError
from lanelock.sweeps.interrupts import Interrupted
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.pages.text import printable
from lanelock.sweeps.proof.checks import Check
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace

if TYPE_CHECKING:
    from lanelock.sweeps.sweep import Progress  # a proof never pays for importing the search

_PAUSE = 10.0  # seconds between lines of a proof
LINES = 10  # lines printed over a whole sweep where there is no screen
Watch = Callable[["Progress"], None]


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
            say(f"sweep {lane.id}: {'; '.join(in_words(lane, progress, first))}")

    return watch


@contextmanager
def _screen(lane: Lane) -> Iterator[Watch]:
    bars = Bars(TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    task = bars.add_task(f"sweep {lane.id}", total=None)
    first: Progress | None = None
    with Live(Group(bars, "  surveying the authority"), console=Console(stderr=True), transient=True) as screen:

        def watch(progress: Progress) -> None:
            nonlocal first
            first = first or progress
            bars.update(task, completed=progress.done, total=progress.budget)
            lines = in_words(lane, progress, first)
            screen.update(
                Group(bars, *(Text(f"  {printable(line)}", no_wrap=True, overflow="ellipsis") for line in lines))
            )

        yield watch


@contextmanager
def checking(what: str, *, live: bool) -> Iterator[Callable[[Check], None]]:
    """Shows how far a proof is: the last check on a terminal, a line every ten seconds elsewhere."""
    count, said = 0, time.monotonic()
    with ExitStack() as stack:
        screen = stack.enter_context(_status(what)) if live and sys.stderr.isatty() else None

        def watch(check: Check) -> None:
            nonlocal count, said
            count += 1
            line = f"{what}: {count} checks; {check.name}"
            if screen is not None:
                screen.update(Text(printable(line), no_wrap=True, overflow="ellipsis"))
            elif live and time.monotonic() - said > _PAUSE:
                said = time.monotonic()
                say(line)

        yield watch


@contextmanager
def counting(what: str, *, live: bool) -> Iterator[Callable[[int, int, float], None]]:
    """Shows how many runs are done and how long the rest takes: on a terminal one line, elsewhere about ten."""
    printed = 0
    with ExitStack() as stack:
        screen = stack.enter_context(_status(what)) if live and sys.stderr.isatty() else None

        def watch(done: int, of: int, seconds: float) -> None:
            nonlocal printed
            line = f"{what}: {done}/{of} runs in {seconds:.1f} s, about {seconds / done * (of - done):.0f} s left"
            if screen is not None:
                screen.update(Text(printable(line), no_wrap=True, overflow="ellipsis"))
            elif live and (done == 1 or done * LINES // of > printed):
                say(line)
            printed = max(printed, done * LINES // of)

        yield watch


def _status(what: str) -> Status:
    return Console(stderr=True).status(Text(printable(what)))


@contextmanager
def resumable(workspace: Workspace, kept: Callable[[], str]) -> Iterator[None]:
    """Wraps a search: an interrupt says what is `kept` and how to go on. In any case says which uploads are pending."""
    try:
        yield
    except KeyboardInterrupt as error:
        _say_pending(workspace)
        said = "every finished trial is kept"
        with suppress(LanelockError, OSError):
            said = kept()
        raise Interrupted(error.number if isinstance(error, Interrupted) else signal.SIGINT, said) from None
    _say_pending(workspace)


def _say_pending(workspace: Workspace) -> None:
    pending, why = Outbox(workspace).pending()
    if pending:
        because = f" ({why})" if why else ""
        say(f"{pending} uploads pending in {workspace.outbox}{because}; deliver them with: lanelock sync")
