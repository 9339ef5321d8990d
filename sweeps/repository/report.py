"""What the gate says of a change, as Markdown: for a terminal, and for the summary page of a hosted run."""

from __future__ import annotations

from collections.abc import Iterator

from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, as_markdown, table
from lanelock.sweeps.repository.gate import Gated


def markdown(gated: Gated) -> str:
    return as_markdown(_blocks(gated))


def _blocks(gated: Gated) -> Iterator[Block]:
    yield Heading(2, f"Lanelock gate: {'passed' if gated.ok else 'REFUSED'}")
    yield Paragraph(f"Compared with {gated.base[:12]}. {_summary(gated)}")
    if gated.refused:
        yield Heading(3, "Refused")
        yield Points(tuple(f"`{row.path}`: {_plain(row.why)}" for row in gated.refused))
    if gated.proofs:
        yield Heading(3, "Proved again")
        rows = [
            (f"`{row.impact.path}`", ", ".join(row.impact.why), str(row.checks), "no" if row.refused else "yes")
            for row in gated.proofs
        ]
        yield table(("document", "why", "checks", "holds"), rows)
    for proof in gated.proofs:
        yield from proof.card
    if gated.differs:
        yield Heading(3, "Differs")
        yield Points(tuple(f"`{row.path}`: {_plain(row.what)}" for row in gated.differs))
    if statements := [*gated.not_proved]:
        yield Heading(3, "Not proved")
        yield Points(tuple(f"`{row.path}`: {_plain(row.what)}" for row in statements))


def _summary(gated: Gated) -> str:
    if not gated.proofs and not gated.refused and not gated.differs:
        return "The change touches no pack, gate, lane, campaign or lock."
    held = sum(row.refused is None for row in gated.proofs)
    return f"{held} of {len(gated.proofs)} impacted documents hold, {_count(gated)}."


def _count(gated: Gated) -> str:
    return "1 refusal" if len(gated.refused) == 1 else f"{len(gated.refused)} refusals"


def _plain(text: str) -> str:
    """Returns a text of a document on one line, without what Markdown or a page would act on."""
    return " ".join(text.split()).replace("<", "&lt;").replace("`", "'")
