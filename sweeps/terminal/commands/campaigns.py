"""`campaign`: lanes in causal order, from a baseline to a freeze."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import Standing, play_campaign
from lanelock.sweeps.campaign.records import PhaseRecord
from lanelock.sweeps.campaign.report import HEAD, line, notes_on, write_report
from lanelock.sweeps.pages.text import columns, printable, short
from lanelock.sweeps.proof.packs import finder
from lanelock.sweeps.terminal.completion import CAMPAIGN
from lanelock.sweeps.terminal.progress import in_words, resumable
from lanelock.sweeps.terminal.session import JOBS, Session, common_options
from lanelock.sweeps.terminal.streams import say


@click.command()
@click.argument("name", shell_complete=CAMPAIGN)
@click.option("--resume", is_flag=True, help="Resume the campaign's newest run.")
@JOBS
@common_options
def campaign(session: Session, name: str, resume: bool, jobs: int) -> int:
    """Play campaign NAME from its authority (baseline) to freeze."""
    plan, workspace = load_campaign(name, finder(session.as_it_stands())), session.workspace()
    again = shlex.join(["lanelock", "campaign", name, "--resume", *session.named_workspace()])
    kept = f"finished phases and trials are kept; go on with: {again}"
    with resumable(workspace, lambda: kept), watching(live=session.live) as watch:
        standing = play_campaign(plan, workspace, resume=resume, jobs=jobs, watch=watch)
    page, web = write_report(standing, workspace.campaigns / standing.run, notes_on(standing, workspace))
    last = standing.records[-1]
    document = {
        "campaign": plan.id,
        "run": standing.run,
        "status": last.ending,
        "reason": last.reason,
        "lock": None if last.holder is None else last.holder.lock,
        "seconds": sum(record.seconds for record in standing.records),
        "report": str(page),
        "html": str(web),
        "phases": [_document(record) for record in standing.records],
    }
    text = [f"{last.ending}  {plan.title}", f"  {last.reason}", ""]
    text += [columns(HEAD, map(line, standing.records)), "", f"report {page}", f"page   {web}"]
    session.show(document, "\n".join(text))
    return 0 if last.end is not None and last.end.certified else 1


def _document(record: PhaseRecord) -> dict[str, Any]:
    """Returns a phase's record without the policies it carries."""
    document = record.document
    if document["holder"] is not None:
        del document["holder"]["policies"]
    return document


@contextmanager
def watching(*, live: bool) -> Iterator[Callable[[Standing], None]]:
    """Shows a table of the phases on a terminal, a line per begin and end elsewhere, and nothing if not `live`."""
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
        say(f"{standing.run}: {standing.playing.title}: playing")
    elif standing.records:
        last = standing.records[-1]
        say(f"{standing.run}: {last.title}: {last.ending} in {last.seconds:.1f} s; {short(last.reason, 160)}")


def _table(standing: Standing) -> Table:
    table = Table(title=_text(f"{standing.run}: {standing.campaign.title}"), title_justify="left")
    for column in ("phase", "", "seconds", "what"):
        table.add_column(column)
    for record in standing.records:
        table.add_row(*map(_text, (record.title, record.ending, f"{record.seconds:.1f}", short(record.reason, 90))))
    done = {record.phase for record in standing.records}
    for phase in standing.campaign.phases.values():
        progress = standing.progress
        if phase == standing.playing:
            seconds = "" if progress is None else f"{progress.seconds:.1f}"
            lines = () if progress is None or phase.lane is None else in_words(phase.lane, progress)
            table.add_row(*map(_text, (phase.title, "playing", seconds, "\n".join(lines))))
        elif phase.id not in done:
            table.add_row(_text(phase.title))
    return table


def _text(said: str) -> Text:
    """Returns what a document says as it stands: without markup, and without what a terminal would act on."""
    return Text(printable(said))
