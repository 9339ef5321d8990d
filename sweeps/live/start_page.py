"""The first page: the sweeps of a workspace, running and past, its campaigns, and what else it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from html import escape

from lanelock.sweeps.live.frame import chip, decided, heading, link, live, meter, note, path, rows
from lanelock.sweeps.live.shelf import FINISHED, RUNNING, Now, Row
from lanelock.sweeps.pages.page import Block, Paragraph, facts
from lanelock.sweeps.pages.text import one_line, short
from lanelock.sweeps.upkeep.status import Played

SHOWN = 30  # sweeps, unless all are asked for
_AGES = ((60, "s", 1), (3600, "min", 60), (86_400, "h", 3600), (float("inf"), "d", 86_400))
TONES = {RUNNING: "going", FINISHED: "still"}


def start_page(now: Now, best: Callable[[str], str], holds: Mapping[str, str], *, every: bool) -> Iterator[Block]:
    """Yields the page. `best`: what is said of a running sweep's best trial; `holds`: what else lies here, in words."""
    yield heading(1, "Sweeps")
    yield from live("sweeps", _sweeps(now, best, every=every))
    yield from live("campaigns", _campaigns(now))
    yield from live("holds", _holds(holds))


def _sweeps(now: Now, best: Callable[[str], str], *, every: bool) -> Iterator[Block]:
    if not now.rows:
        yield Paragraph("No sweep has begun here. Begin one with `lanelock sweep LANE`; it appears on this page.")
        return
    shown = now.rows if every else now.rows[:SHOWN]
    head = {"sweep": "", "lane": "", "state": "", "trials": "num", "decision": "wide", "began": "num"}
    yield rows(head, ((row.state, _cells(row, best)) for row in shown), "Sweeps, running ones first, then the newest")
    total = sum(row.sweep.trials for row in now.rows)
    more = "" if len(shown) == len(now.rows) else f"; {link('/?all=1', f'all {len(now.rows)}')}"
    yield note(f"{len(shown)} of {len(now.rows)} sweeps, with {total:,} trials in all{more}.")


def _cells(row: Row, best: Callable[[str], str]) -> Iterator[str]:
    sweep = row.sweep
    yield link(path("sweeps", sweep.name), sweep.name)
    yield escape(sweep.lane)
    yield chip(row.state, TONES.get(row.state, "unsure"))
    of = "" if sweep.budget is None else f" of {sweep.budget:,}"
    yield f"{sweep.trials:,}{of}{meter(sweep.trials / sweep.budget) if sweep.budget else ''}"
    yield _decision(row, best)
    yield f'<span title="{escape(_moment(sweep.at_ms))}">{age(sweep.at_ms)}</span>' if sweep.at_ms else ""


def _decision(row: Row, best: Callable[[str], str]) -> str:
    if row.state == RUNNING:
        return f'<span class="muted">best so far</span> {escape(best(row.sweep.name))}'
    if row.lock is None:
        return f'<span class="muted">none; go on with lanelock sweep {escape(row.sweep.lane)} --resume</span>'
    return f"{decided(row.lock.decision)} {escape(short(one_line(row.lock.reason), 200))}"


def age(at_ms: int) -> str:
    """Returns how long ago a moment was, in one number."""
    seconds = max(0.0, time.time() - at_ms / 1000)
    unit, size = next((unit, size) for limit, unit, size in _AGES if seconds < limit)
    return f"{seconds // size:.0f} {unit} ago"


def _moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def _campaigns(now: Now) -> Iterator[Block]:
    if now.campaigns:
        yield heading(2, "Campaigns")
        yield campaigns_table(now, now.campaigns[:5])


def campaigns_table(now: Now, campaigns: tuple[Played, ...]) -> Block:
    """Returns a table of runs of campaigns."""
    playing = {row.name for row in now.running if row.kind == "campaign"}
    body = ((("", _campaign(run, run.run in playing))) for run in campaigns)
    return rows({"campaign": "", "state": "", "phases": "num"}, body, "Campaigns, the newest first")


def _campaign(run: Played, playing: bool) -> Iterator[str]:
    yield link(path("campaigns", run.run), run.run)
    if playing:
        yield chip(RUNNING, "going")
    else:
        yield chip("waits, or was interrupted", "unsure") if run.status is None else ended(run.status)
    yield f"{run.done} of {run.phases}{meter(run.done / max(1, run.phases))}"


def ended(status: str) -> str:
    """Returns the status of a campaign's end as a chip."""
    return chip(status, "good" if status.startswith("FROZEN_CERTIFIED") else "still")


def _holds(holds: Mapping[str, str]) -> Iterator[Block]:
    yield heading(2, "In this workspace")
    yield facts(holds)
