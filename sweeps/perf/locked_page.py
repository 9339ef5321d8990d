"""A runtime lock as a page: what is frozen, what each state took before and after, and how it is proved."""

from __future__ import annotations

from collections.abc import Iterator

from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, table
from lanelock.sweeps.pages.text import one_line
from lanelock.sweeps.perf.code_lane import Comparison
from lanelock.sweeps.perf.comparison_page import HEAD, rows
from lanelock.sweeps.proof.runtime_locks import STATUS, RuntimeLock


def locked_page(lock: RuntimeLock) -> Iterator[Block]:
    """Yields the page of a runtime lock."""
    comparison = Comparison.of(lock.comparison)
    side, machine = comparison.candidate, comparison.machine
    yield Heading(1, f"{STATUS}: {lock.name}")
    yield Paragraph(f"{one_line(lock.why)} ({one_line(comparison.derived.reason)}.)")
    yield Paragraph(
        f"Engine {lock.engine}, code {side.code_version[:12]}, locked at {lock.at} by {one_line(lock.who)}; measured "
        f"on {machine['processor']} with {machine['cores']} cores. The code below is frozen: `lanelock status` and "
        "every sweep of the engine say where it has changed."
    )
    yield Heading(2, "What each state takes")
    yield table(HEAD, rows(comparison))
    yield Heading(2, "What it gives")
    yield table(
        ("what", "which", "digest"),
        (
            ("pack", lock.pack.name, lock.pack.digest),
            ("run", side.run_id, side.code_version),
            *((f"surface {name}", side.states.get(name, ""), sha256) for name, sha256 in sorted(side.digests.items())),
        ),
    )
    yield Points(tuple(f"{rail.rail}: {rail.witness}" for rail in comparison.derived.rails))
    yield Heading(2, "The frozen code")
    yield table(("file", "SHA-256"), sorted(lock.code.items()))
    yield Heading(2, "Proof")
    yield Points((f"lanelock verify {lock.name}",))
