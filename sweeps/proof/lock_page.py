"""A lock as a page: its decision, its candidate, and its scorecard on every seed. Derived from the lock alone.

`store_lock` writes it beside the lock, for those who read a folder without Lanelock. Nothing reads it back: `verify`
proves the lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from lanelock.policies import diff
from lanelock.sweeps.pages.gates import gate_table
from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, facts, table
from lanelock.sweeps.pages.text import one_line, short
from lanelock.sweeps.proof.lock import Lock

_GATES = ("gate", "kind", "", "bands", "margins", "holds", "seeds")


def lock_page(lock: Lock) -> Iterator[Block]:
    """Yields the page of a lock. Raises PolicyError where the installed engine cannot read its packs."""
    lane, pack = lock.lane(), lock.pack()
    yield Heading(1, f"{lock.decision}: {lock.name}")
    yield Paragraph(f"{lock.verdict}, {lock.candidate} candidate. {one_line(lock.because)}.")
    yield facts({
        "lock": lock.lock_id,
        "lane": f"{lock.lane_document['id']}: {one_line(str(lock.lane_document['title']))}",
        "sweep": lock.sweep + ("" if lock.trial is None else f", trial {lock.trial}"),
        "pack": lock.candidate_pack.digest,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
        "engine": f"{lock.engine}, code {lock.code_version}",
        "reason": one_line(lock.reason),
    })  # fmt: skip
    if lock.blockers:
        yield Heading(2, "What it fails")
        yield Points(tuple(map(str, lock.blockers)))
    yield Heading(2, "Scorecard")
    yield table(*gate_table([(*card.gates, *card.observed) for card in lock.cards(lane)], _GATES))
    yield Heading(2, "Metrics")
    measures = [lock.proof[seed].metrics for seed in lock.seeds]
    rows = ((name, *(short(metrics.get(name)) for metrics in measures)) for name in sorted(measures[0]))
    yield table(("metric", *(f"seed {seed}" for seed in lock.seeds)), rows)
    if changes := diff(lane.authority, pack):
        yield Heading(2, "What differs from the authority")
        cells = ((f"{row.policy}#{row.pointer}", short(row.before), short(row.after)) for row in changes)
        yield table(("field", "authority", "candidate"), cells)
    yield Heading(2, "Proof")
    yield Points((f"lanelock verify {lock.name}",))
