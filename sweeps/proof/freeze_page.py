"""A freeze as a page: how it ended, what stands, what remains, and what comes next. Derived from the freeze alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, table
from lanelock.sweeps.pages.text import one_line
from lanelock.sweeps.proof.freezes import Freeze


def freeze_page(freeze: Freeze) -> Iterator[Block]:
    """Yields the page of a freeze."""
    yield Heading(1, f"{freeze.status}: {freeze.run}")
    yield Paragraph(f"{one_line(freeze.reason)}.")
    yield Paragraph(
        f"Engine {freeze.engine}, code {freeze.code_version[:12]}, frozen at {freeze.at} by {one_line(freeze.who)}. "
        f"Until a reopen is recorded (`lanelock reopen {freeze.engine} --why TEXT`), no sweep, campaign, lock by hand "
        "or promotion of it is made in this workspace, and nothing is graded by other gates."
    )
    yield Heading(2, "What stands")
    lock, evidence = freeze.lock, freeze.evidence
    yield table(
        ("what", "which", "digest"),
        (
            ("pack", freeze.pack.name, freeze.pack.digest),
            ("lock", *(("none", "") if lock is None else (lock["file"], lock["lock_id"]))),
            ("evidence", *(("none", "") if evidence is None else (evidence["folder"], evidence["index"]))),
            ("gates", freeze.gates["id"], freeze.gates["digest"]),
            ("campaign", freeze.campaign, freeze.identity),
        ),
    )
    yield Heading(2, "Where the aliases point")
    refused = {row["alias"]: row["refused"] for row in freeze.asked}
    yield table(
        ("alias", "lock", "not moved, because"),
        (
            (alias, freeze.aliases.get(alias, "none"), one_line(refused.get(alias, "")))
            for alias in dict.fromkeys([*refused, *freeze.aliases])
        ),
    )
    if freeze.upstream:
        yield Paragraph(f"The campaign kept these states frozen: {', '.join(freeze.upstream)}.")
    yield Heading(2, "Residual risks")
    yield Points(tuple(f"{row['kind']}: {one_line(row['text'])}" for row in freeze.risks) or ("none is known",))
    if freeze.waivers or freeze.answers:
        yield Heading(2, "What people decided")
        yield Points(tuple(_decided(row) for row in (*freeze.waivers, *freeze.answers)))
    yield Heading(2, "Hand-off")
    yield Paragraph(one_line(freeze.handoff) or "The campaign states nothing.")
    yield Heading(2, "Proof")
    yield Points((f"lanelock verify {freeze.run}",))


def _decided(row: Mapping[str, Any]) -> str:
    return one_line(", ".join(f"{name} {value}" for name, value in row.items() if value is not None))
