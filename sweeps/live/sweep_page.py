"""A sweep as it is now: its progress, front and history, its candidates in the decision's order, what ended trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape

from lanelock.scoring.figures.drawing import Figure
from lanelock.sweeps.decision.decision import best_found
from lanelock.sweeps.lanes.ledger import STATES
from lanelock.sweeps.lanes.trial import engine_runs
from lanelock.sweeps.live.candidates import best_text, candidates
from lanelock.sweeps.live.frame import heading, link, live, markup, note, path
from lanelock.sweeps.live.shelf import FINISHED, RUNNING, Row
from lanelock.sweeps.live.sight import DRAWN, View
from lanelock.sweeps.pages.page import Block, Paragraph, banner, drawn, facts
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.reports.study import bounds_table, failures_table, limits_fact, order_text, vetoes_table

_WORDS = {"behind": "stopped early, behind the best"}


def sweep_page(
    view: View, row: Row, figures: tuple[Figure, ...], locks: tuple[str, ...], *, every: bool, read_only: bool
) -> Iterator[Block]:
    """Yields the page. `locks`: links to the locks that people made of its trials."""
    yield from live("state", _state(view, row))
    yield from live("figures", _figures(view, figures))
    yield heading(2, "Candidates, ranked as the decision ranks")
    yield from live("candidates", _candidates(view, row, every=every, may_lock=row.state == FINISHED and not read_only))
    yield from live("ended", _ended(view))
    yield from live("bounds", _bounds(view))
    yield from live("more", _more(view, row, locks))


def _state(view: View, row: Row) -> Iterator[Block]:
    yield _banner(view, row)
    yield _progress(view, row)
    count = engine_runs(view.trials)
    yield facts({
        "lane": f"{view.lane.id}: {view.lane.title}",
        "best": best_text(view),
        "spent": f"{count} engine run{'s' * (count != 1)}",
        "seeds": ", ".join(map(str, view.lane.seeds)),
        **limits_fact(view.lane, view.trials),
    })  # fmt: skip


def _banner(view: View, row: Row) -> Block:
    about, lock = f"sweep {view.sweep} of lane {view.lane.id}", view.lock
    if row.state == RUNNING:
        return banner("running", "going", about, view.lane.title, f"best so far: {best_text(view)}")
    if lock is None:
        words = f"no lock: it was interrupted; go on with lanelock sweep {view.lane.id} --resume"
        return banner("stopped", "unsure", about, view.lane.title, words)
    invalid = lock.verdict == str(view.lane.gates.invalid)
    tone = "good" if lock.decision == "GO" else "unsure" if invalid else "bad"
    title = lock.decision if lock.trial is None else f"{lock.decision}: trial {lock.trial}"
    return banner(lock.verdict, tone, about, title, f"for the {lock.candidate} candidate: {lock.because}")


def _progress(view: View, row: Row) -> Block:
    """Returns how many trials ended in which way, as a bar of the budget and in words."""
    count = Counter(map(view.ledger.state, view.trials))
    done, budget = len(view.trials), row.sweep.budget or len(view.trials)
    whole = max(done, budget, 1)
    parts = [state for state in ("complete", "vetoed", "behind", "failed") if count[state]]
    bar = "".join(f'<i class="{state}" style="width:{100 * count[state] / whole:.2f}%"></i>' for state in parts)
    words = "".join(
        f'<li><span class="progress key" aria-hidden="true"><i class="{state}"></i></span>'
        f"{count[state]} {escape(_WORDS.get(state, state))}</li>"
        for state in parts
    )
    assert set(count) <= set(STATES)
    return markup(
        f'<div class="progress" role="progressbar" aria-label="Trials" aria-valuemin="0" aria-valuemax="{whole}" '
        f'aria-valuenow="{done}">{bar}</div><ul class="legend"><li><b>{done} of {budget} trials</b></li>{words}</ul>'
    )


def _figures(view: View, figures: tuple[Figure, ...]) -> Iterator[Block]:
    yield heading(2, "What its trials reached")
    if figures:
        yield drawn(figures)
    elif len(view.trials) > DRAWN:
        study = link(path("sweeps", view.sweep, "study"), "study page")
        yield note(f"More than {DRAWN:,} trials: the figures are on the {study} of the closed sweep.")
    else:
        yield Paragraph("No trial has finished yet.")


def _candidates(view: View, row: Row, *, every: bool, may_lock: bool) -> Iterator[Block]:
    if not view.trials:
        yield Paragraph("No trial has finished yet.")
        return
    yield note(escape(f"In this order: trials without a veto first, then {order_text(view.arrays)}. "
               "The margin is that of the gate nearest to failing, on its worst seed."))  # fmt: skip
    yield from candidates(view, every=every, may_lock=may_lock)


def _ended(view: View) -> Iterator[Block]:
    yield heading(2, "Vetoes")
    yield vetoes_table(view.trials, view.ledger)
    if (failures := failures_table(view.trials)) is not None:
        yield heading(2, "Failed trials")
        yield failures


def _bounds(view: View) -> Iterator[Block]:
    yield heading(2, "Gap to the proven bounds")
    chosen = view.locked or next(iter(view.ranked), None)
    found = {} if chosen is None else best_found(view.ledger.overall(chosen), view.trials, view.ledger)
    table = bounds_table(view.ledger, found, chosen)
    yield Paragraph("No bound was proved for this lane; only trials can tell.") if table is None else table


def _more(view: View, row: Row, locks: tuple[str, ...]) -> Iterator[Block]:
    yield heading(2, "More of it")
    place = path("sweeps", view.sweep)
    links = [link(f"{place}/trials.csv", "all trials as CSV"), link(path("mlflow", "sweeps", view.sweep), "in MLflow")]
    if row.lock is not None:
        links.insert(0, link(f"{place}/study", "study page: what moved what"))
        links.append(link(path("locks", row.lock.name), f"its lock {short(row.lock.lock_id, 13)}"))
    yield markup(f'<p class="links">{"".join([*links, *locks])}</p>')
