"""A run of a campaign as a timeline: its phases in the order in which they were played, each with its decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lanelock.scoring.figures.drawing import Figure
from lanelock.sweeps.campaign.records import PhaseRecord
from lanelock.sweeps.live.frame import chip, decided, heading, link, live, markup, meter, path
from lanelock.sweeps.live.start_page import ended
from lanelock.sweeps.pages.page import Block, banner, drawn
from lanelock.sweeps.pages.text import one_line, short

_GOOD, _BAD = ("GO", "YES", "PASS"), ("NO_GO", "REFUSED", "NO", "FAIL")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a campaign, as its folder holds it."""

    name: str
    document: Mapping[str, Any]  # the campaign's
    records: Sequence[PhaseRecord]
    playing: bool
    reported: bool  # whether its report is there

    @property
    def title(self) -> str:
        return str(self.document["title"])

    @property
    def next(self) -> str | None:
        """The phase that is played, or at which it stopped; None: its end was reached."""
        if not self.records:
            return next(iter(self.document["phases"]), None)
        last = self.records[-1]
        return last.phase if last.red is not None else last.next


def campaign_page(run: Run, figures: Callable[[str], tuple[Figure, ...]], sweep: str | None) -> Iterator[Block]:
    """Yields the page. `figures`: those of a sweep; `sweep`: the sweep of the phase that is played."""
    yield from live("state", [_banner(run), _links(run)])
    yield heading(2, "Phases")
    yield from live("phases", _timeline(run, figures, sweep))


def _banner(run: Run) -> Block:
    about, done = f"campaign {run.name}", f"{len(run.records)} of at least {len(run.document['phases'])} phases"
    if run.playing:
        return banner("running", "going", about, run.title, f"{done} are done")
    if run.next is None and run.records:
        end = run.records[-1]
        tone = "good" if end.end is not None and end.end.certified else "unsure"
        return banner(end.ending, tone, about, run.title, one_line(end.reason))
    words = f"{done} are done; it waits for a person, or was interrupted at {run.next}"
    return banner("stopped", "unsure", about, run.title, words)


def _links(run: Run) -> Block:
    report = link(path("campaigns", run.name, "report"), "its report") if run.reported else ""
    return markup(f'<p class="links row">{report}</p>')


def _timeline(run: Run, figures: Callable[[str], tuple[Figure, ...]], sweep: str | None) -> Iterator[Block]:
    longest = max((record.seconds for record in run.records), default=0.0) or 1.0
    yield markup('<ol class="timeline">')
    for record in run.records:
        yield from _phase(record, longest, figures)
    if run.next is not None:
        yield _ahead(run, run.next, sweep)
    yield markup("</ol>")


def _phase(record: PhaseRecord, longest: float, figures: Callable[[str], tuple[Figure, ...]]) -> Iterator[Block]:
    swept = None if record.tried is None else record.tried.swept
    trials = "" if record.trials is None else f", {record.trials} trials"
    more = [] if swept is None else [link(path("sweeps", swept.sweep), f"sweep {swept.sweep}")]
    if record.lock is not None:
        more.append(link(path("locks", record.lock.removesuffix(".json")), "lock"))
    evidence = "" if record.graded is None else f"<p>Evidence: <code>{escape(record.graded.evidence)}</code></p>"
    checks = ", ".join(f"{row.check} {row.state}" for row in record.checks)
    yield markup(
        f'<li class="{_tone(record)}"><h3>{escape(record.title)}</h3>{_ending(record)}'
        f'<p class="muted">{record.seconds:.1f} s{trials}{meter(record.seconds / longest)}</p>'
        f"<p>{escape(short(one_line(record.reason), 400))}</p>{evidence}"
        f"{f'<p class={chr(34)}muted{chr(34)}>{escape(checks)}</p>' if checks else ''}"
        f'<p class="links">{"".join(more)}</p>'
    )
    if swept is not None and (of := figures(swept.sweep)):
        yield drawn(of)
    yield markup("</li>")


def _tone(record: PhaseRecord) -> str:
    if record.end is not None:
        return "good" if record.end.certified else "unsure"
    return "good" if record.outcome in _GOOD else "bad" if record.outcome in _BAD else "unsure"


def _ending(record: PhaseRecord) -> str:
    if record.end is not None:
        return ended(record.ending)
    return decided(record.outcome) if record.outcome in ("GO", "NO_GO") else chip(record.outcome, _tone(record))


def _ahead(run: Run, phase: str, sweep: str | None) -> Block:
    row = run.document["phases"].get(phase, {})
    title = str(row.get("title", phase)) if isinstance(row, Mapping) else phase
    state = chip("playing", "going") if run.playing else chip("next", "unsure")
    more = "" if sweep is None else f'<p class="links">{link(path("sweeps", sweep), f"sweep {sweep}")}</p>'
    return markup(f'<li class="{"going" if run.playing else ""}"><h3>{escape(title)}</h3>{state}{more}</li>')
