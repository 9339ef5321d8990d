"""`campaign`: lanes in causal order, from a baseline to a freeze; answers and waivers where one waits for a person."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lanelock.policies import LaneError
from lanelock.policies.names import inside
from lanelock.sweeps.campaign.plan import Campaign, load_campaign
from lanelock.sweeps.campaign.play import Standing, answer, play_campaign, waive
from lanelock.sweeps.campaign.records import PhaseRecord, begun_from
from lanelock.sweeps.campaign.report import HEAD, line, notes_on, write_report
from lanelock.sweeps.pages.text import columns, printable, short
from lanelock.sweeps.proof.packs import finder
from lanelock.sweeps.provenance import user
from lanelock.sweeps.terminal.completion import CAMPAIGN
from lanelock.sweeps.terminal.progress import in_words, resumable
from lanelock.sweeps.terminal.session import JOBS, KEY, Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace

PERSON = click.option("--who", metavar="NAME", help="The person who decided it [default: you].")
WHY = click.option("--why", required=True, metavar="TEXT", help="The reason, which is recorded.")
RUN = click.argument("run", metavar="RUN")


class CampaignGroup(click.Group):
    """A group whose first word may also be a campaign: `campaign NAME` beside `campaign answer RUN yes|no`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["play", *args])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [*super().shell_complete(ctx, incomplete), *CAMPAIGN(ctx, click.Argument(["name"]), incomplete)]


# Options before the name belong to `play`.
@click.group("campaign", cls=CampaignGroup, context_settings={"ignore_unknown_options": True})
def campaign() -> None:
    """Play lanes in causal order from the authority (baseline) to a freeze: lanelock campaign NAME [--resume]."""


@campaign.command("play")
@click.argument("name", shell_complete=CAMPAIGN)
@click.option("--resume", is_flag=True, help="Resume the campaign's newest run.")
@JOBS
@common_options
def campaign_play(session: Session, name: str, resume: bool, jobs: int) -> int:
    """Play campaign NAME to its freeze, or to where a person is needed; `lanelock campaign NAME` means the same."""
    return _play(session, load_campaign(name, finder(session.as_it_stands())), name, resume, jobs)


@campaign.command("answer")
@RUN
@click.argument("word", metavar="yes|no", type=click.Choice(["yes", "no"]))
@PERSON
@WHY
@KEY
@JOBS
@common_options
def campaign_answer(
    session: Session, run: str, word: str, who: str | None, why: str, key: Path | None, jobs: int
) -> int:
    """Answer the question at which RUN waits, on record, and go on."""
    plan, source = _begun(session, run)
    answer(plan, session.workspace(), run, yes=word == "yes", **_ruling(who, why, key))
    return _play(session, plan, source, True, jobs)


@campaign.command("waive")
@RUN
@click.argument("check", metavar="CHECK")
@PERSON
@WHY
@KEY
@JOBS
@common_options
def campaign_waive(
    session: Session, run: str, check: str, who: str | None, why: str, key: Path | None, jobs: int
) -> int:
    """Record that CHECK, at which RUN stopped, need not hold, and go on."""
    plan, source = _begun(session, run)
    waive(plan, session.workspace(), run, check=check, **_ruling(who, why, key))
    return _play(session, plan, source, True, jobs)


def _begun(session: Session, run: str) -> tuple[Campaign, str]:
    """Returns the campaign of a run, and the name or path that it is read from. Raises LaneError for an unknown run."""
    workspace = session.as_it_stands()
    runs = sorted(path.parent.name for path in workspace.campaigns.glob("*/campaign.json"))
    if run not in runs:
        raise LaneError(f"{run}: no run of a campaign in {workspace.root} (known: {', '.join(runs) or 'none'})")
    source = begun_from(inside(workspace.campaigns, run))
    return load_campaign(source, finder(workspace)), source


def _ruling(who: str | None, why: str, key: Path | None) -> dict[str, Any]:
    if not why.strip():
        raise click.UsageError("--why: give the reason; it is recorded")
    if key is None:
        return {"who": who or user(), "why": why.strip(), "key": None}
    from lanelock.sweeps.proof.envelopes import SigningKey  # Ed25519 takes a while, which other rulings need not pay

    return {"who": who or user(), "why": why.strip(), "key": SigningKey.read(key)}


def _play(session: Session, plan: Campaign, name: str, resume: bool, jobs: int) -> int:
    workspace = session.workspace()
    again = shlex.join(["lanelock", "campaign", name, "--resume", *session.named_workspace()])
    kept = f"finished phases and trials are kept; go on with: {again}"
    with resumable(workspace, lambda: kept), watching(live=session.live) as watch:
        standing = play_campaign(plan, workspace, resume=resume, jobs=jobs, watch=watch)
    return _show_end(session, standing, workspace) if standing.waiting is None else _show_waiting(session, standing)


def _show_end(session: Session, standing: Standing, workspace: Workspace) -> int:
    plan, last = standing.campaign, standing.records[-1]
    page, web = write_report(standing, workspace.campaigns / standing.run, notes_on(standing, workspace))
    document = {
        **_standing(standing),
        "status": last.ending,
        "reason": last.reason,
        "lock": None if last.holder is None else last.holder.lock,
        "report": str(page),
        "html": str(web),
    }
    text = [f"{last.ending}  {plan.title}", f"  {last.reason}", *(f"  waived: {waiver}" for waiver in last.waivers), ""]
    text += [columns(HEAD, map(line, standing.records)), "", f"report {page}", f"page   {web}"]
    session.show(document, "\n".join(text))
    return 0 if last.end is not None and last.end.certified else 1


def _show_waiting(session: Session, standing: Standing) -> int:
    """Shows the question or the check at which a campaign stopped, and the command that goes on."""
    waiting = standing.waiting
    assert waiting is not None
    document = {**_standing(standing), "status": "WAITING", "reason": waiting.line, "waiting": asdict(waiting)}
    text = [f"WAITING  {standing.campaign.title}", f"  {waiting.line}"]
    text += [f"  {row.phase}: {row.outcome}: {row.reason}" for row in waiting.findings]
    text += [f"  {word}: {follows}" for word, follows in (waiting.consequences or {}).items()]
    session.show(document, "\n".join([*text, "", columns(HEAD, map(line, standing.records))]))
    return 1


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "campaign": standing.campaign.id,
        "run": standing.run,
        "seconds": sum(record.seconds for record in standing.records),
        "phases": [_document(record) for record in standing.records],
    }


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
