"""What the gate says of a change, as Markdown: for a terminal, and for the summary page of a hosted run."""

from __future__ import annotations

from collections.abc import Iterator

from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, as_markdown, table
from lanelock.sweeps.repository.differences import plain
from lanelock.sweeps.repository.gate import Gated, Proof


def markdown(gated: Gated) -> str:
    """Returns the page, without what a terminal could not print, such as half a character in a name."""
    return as_markdown(_blocks(gated)).encode("utf-8", "backslashreplace").decode()


def _blocks(gated: Gated) -> Iterator[Block]:
    yield Heading(2, f"Lanelock gate: {'passed' if gated.ok else 'REFUSED'}")
    yield Paragraph(f"Compared with {gated.base[:12]}. {_summary(gated)}")
    if gated.refused:
        yield Heading(3, "Refused")
        yield Points(tuple(f"`{plain(row.path)}`: {plain(row.why)}" for row in gated.refused))
    if gated.proofs:
        yield Heading(3, "Proved again")
        rows = [
            (f"`{plain(row.impact.path)}`", plain(", ".join(row.impact.why)), str(row.checks), _holds(row))
            for row in gated.proofs
        ]
        yield table(("document", "why", "checks", "holds"), rows)
    for proof in gated.proofs:
        yield from proof.card
    if gated.differs:
        yield Heading(3, "Differs")
        yield Points(tuple(f"`{plain(row.path)}`: {plain(row.what)}" for row in gated.differs))
    if gated.signed:
        yield Heading(3, "Signatures")
        yield Points(tuple(f"`{plain(row.path)}`: {plain(row.said)}" for row in gated.signed))
    if statements := [*gated.not_proved]:
        yield Heading(3, "Not proved")
        yield Points(tuple(f"`{plain(row.path)}`: {plain(row.what)}" for row in statements))


def _summary(gated: Gated) -> str:
    if not gated.proofs and not gated.refused and not gated.differs:
        return "The change touches no pack, gate, lane, campaign or lock."
    held = sum(row.refused is None for row in gated.proofs)
    return f"{held} of {len(gated.proofs)} impacted documents hold, {_count(gated)}."


def _holds(proof: Proof) -> str:
    return "no" if proof.refused else "yes"


def _count(gated: Gated) -> str:
    return "1 refusal" if len(gated.refused) == 1 else f"{len(gated.refused)} refusals"
