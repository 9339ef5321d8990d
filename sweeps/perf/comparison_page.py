"""A comparison of code as a page: the decision, the rails, and what each state took before and after."""

from __future__ import annotations

from collections.abc import Iterator

from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, table
from lanelock.sweeps.pages.text import one_line
from lanelock.sweeps.perf.code_lane import METRICS, Comparison
from lanelock.sweeps.perf.gains import LOADING, Gain
from lanelock.sweeps.perf.medians import Median

SAME_CODE = "Both sides ran the same code."
RAILS = ("rail", "", "witness")
HEAD = ("state", "before, s", "after, s", "saved, s", "times", "wall, s", "times, wall", "")


def comparison_page(comparison: Comparison) -> Iterator[Block]:
    """Yields the page of a comparison."""
    found, terms, sides = comparison.derived, comparison.terms, (comparison.candidate, comparison.reference)
    yield Heading(1, f"{found.outcome}: {sides[0].name} against {sides[1].name}")
    yield Paragraph(f"{one_line(found.reason)}.")
    machine = comparison.machine
    order = "one side after the other" if comparison.alone else "turn by turn"
    yield Paragraph(
        f"Engine {comparison.engine}, pack {sides[0].pack[:12]}, seed {terms.seed}: {terms.rounds} rounds after one "
        f"that warmed up, {order}, each run in a process of its own, on {machine['processor']} with "
        f"{machine['cores']} cores, {comparison.at}. Seconds are of the processor; medians, with their intervals."
    )
    yield Heading(2, "What must hold")
    yield table(RAILS, rails(comparison))
    asked = f"every metric within {terms.tolerance:g}" if terms.surfaces == METRICS else "the same bytes"
    yield Paragraph(f"Asked of what both give: {asked}.")
    if found.changed:
        follows = ", ".join(found.following) or "none"
        yield Points((f"differ: {', '.join(found.changed)}", f"differ since they follow from those: {follows}"))
    if sides[0].pack != sides[1].pack:
        yield Paragraph(f"{sides[1].name} ran the pack of that name that it ships, {sides[1].pack[:12]}.")
    if terms.allowed:
        yield Paragraph(f"Allowed to differ, with what follows from them: {', '.join(terms.allowed)}.")
    yield Heading(2, "What each state takes")
    yield table(HEAD, rows(comparison))
    if found.slower:
        yield Points(tuple(f"{state}: {terms.explained.get(state, 'not explained')}" for state in found.slower))
    yield Heading(2, "The two sides")
    yield table(
        ("", "Lanelock", "code", "run", "published"),
        (
            (side.name, side.lanelock, side.code_version[:16], side.run_id[:16], _published(side.published))
            for side in sides
        ),
    )  # fmt: skip
    if comparison.same_code:
        yield Paragraph(SAME_CODE)


def rails(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Yields each rail as a row under RAILS."""
    yield from ((row.rail, "holds" if row.ok else "BROKEN", row.witness) for row in comparison.derived.rails)


def rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Yields each state as a row under HEAD, the one that changed most first, then loading, and all states last."""
    *states, whole = comparison.derived.gains
    for gain in (*sorted(states, key=lambda row: (row.state == LOADING, -row.weight)), whole):
        yield _row(gain, may_gain=not comparison.alone)


def _row(gain: Gain, may_gain: bool) -> tuple[str, ...]:
    said = "SLOWER" if gain.slower else "faster" if gain.faster and may_gain else ""
    wall = f"{gain.wall_before.value:.3f} → {gain.wall_after.value:.3f}"
    numbers = map(_median, (gain.before, gain.after, gain.saved, gain.ratio))
    return gain.state, *numbers, wall, _median(gain.wall_ratio), said


def _median(median: Median) -> str:
    return f"{median.value:.3f} ({median.low:.3f} to {median.high:.3f})"


def _published(published: object) -> str:
    return "nothing" if not isinstance(published, dict) else f"{published['files']} files, {published['bytes']:,} bytes"
