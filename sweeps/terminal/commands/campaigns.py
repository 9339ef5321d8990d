"""`campaign`: lanes in causal order, to the freeze."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import Standing, play_campaign
from lanelock.sweeps.campaign.records import PhaseRecord
from lanelock.sweeps.campaign.report import HEAD, line, write_report
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.terminal.completion import CAMPAIGN
from lanelock.sweeps.terminal.progress import in_words, say_what_waits
from lanelock.sweeps.terminal.session import JOBS, common_options, session_of


@click.command()
@click.argument("name", shell_complete=CAMPAIGN)
@click.option("--resume", is_flag=True, help="Go on with the campaign's newest run.")
@JOBS
@common_options
def campaign(name: str, resume: bool, jobs: int, **options: Any) -> int:
    """Play campaign NAME from its authority (baseline) to freeze."""
    session = session_of(options)
    held, workspace = load_campaign(name), session.workspace()
    with watching(live=not (session.as_json or session.quiet)) as watch:
        try:
            standing = play_campaign(held, workspace, resume=resume, jobs=jobs, watch=watch)
        except KeyboardInterrupt:
            click.echo(
                f"interrupted; every phase and trial so far is kept. Go on with: lanelock campaign {name} --resume",
                err=True,
            )
            say_what_waits(workspace)
            return 130
    say_what_waits(workspace)
    page, web = write_report(standing, workspace.campaigns / standing.run)
    last = standing.records[-1]
    document = {
        "campaign": held.id,
        "run": standing.run,
        "status": last.ending,
        "reason": last.reason,
        "lock": None if last.holder is None else last.holder.lock,
        "seconds": sum(record.seconds for record in standing.records),
        "report": str(page),
        "html": str(web),
        "phases": [_document(record) for record in standing.records],
    }
    text = [f"{last.ending}  {held.title}", f"  {last.reason}", ""]
    text += [columns(HEAD, map(line, standing.records)), "", f"report {page}", f"page   {web}"]
    session.show(document, "\n".join(text))
    return 0 if last.end is not None and last.end.certified else 1


def _document(record: PhaseRecord) -> dict[str, Any]:
    """A phase for machines: its record, less the policies it carries."""
    document = record.document
    if document["holder"] is not None:
        del document["holder"]["policies"]
    return document


@contextmanager
def watching(*, live: bool) -> Iterator[Callable[[Standing], None]]:
    """A table of the phases on a terminal, a line as each begins and ends elsewhere, nothing where not live."""
    if not live:
        yield lambda standing: None
    elif sys.stderr.isatty():
        with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as screen:
            yield lambda standing: screen.update(_table(standing))
    else:
        yield _line


def _line(standing: Standing) -> None:
    if standing.progress is not None:
        return
    if standing.playing is not None:
        click.echo(f"{standing.run}: {standing.playing.title}: playing", err=True)
    elif standing.records:
        last = standing.records[-1]
        click.echo(
            f"{standing.run}: {last.title}: {last.ending} in {last.seconds:.1f} s; {short(last.reason, 160)}", err=True
        )


def _table(standing: Standing) -> Table:
    drawn = Table(title=f"{standing.run}: {standing.campaign.title}", title_justify="left")
    for column in ("phase", "", "seconds", "what"):
        drawn.add_column(column)
    for record in standing.records:
        drawn.add_row(record.title, record.ending, f"{record.seconds:.1f}", short(record.reason, 90))
    done = {record.phase for record in standing.records}
    for phase in standing.campaign.phases.values():
        if phase == standing.playing:
            seen = standing.progress
            drawn.add_row(
                phase.title,
                "playing",
                "" if seen is None else f"{seen.seconds:.1f}",
                "" if seen is None or phase.lane is None else "\n".join(in_words(phase.lane, seen)),
            )
        elif phase.id not in done:
            drawn.add_row(phase.title, "", "", "")
    return drawn
