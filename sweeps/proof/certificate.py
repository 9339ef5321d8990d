"""The readable page of a certification, which lies in its evidence pack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lanelock.scoring.certification import Claim
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import GateResult
from lanelock.sweeps.pages.gates import gate_table
from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, table
from lanelock.sweeps.pages.text import short


def certificate(document: Mapping[str, Any], bands: Sequence[str]) -> Iterator[Block]:
    """Yields the page of a certification document. `bands` are those of its gates, lowest first."""
    yield Heading(1, f"{document['verdict']}: {document['sweep']}")
    yield Paragraph(f"{document['reason']}.")
    yield Points((
        f"lock {document['lock_id']}",
        f"pack {document['pack']}",
        f"engine {document['engine']}, code {document['code_version']}",
        *((f"profile {document['profile'] or 'none: required seeds are missing'}",) if "profile" in document else ()),
    ))  # fmt: skip
    yield Heading(2, "Preconditions")
    rows = (
        (row["name"], *(("holds", "") if row["ok"] else ("fails", row["said"]))) for row in document["preconditions"]
    )
    yield table(("what", "", "found"), rows)
    yield Heading(2, "Grades")
    yield from grades(document, bands)
    yield Heading(2, "Proof")
    yield Paragraph("Every number on this page can be proved again, offline, from this folder and the package:")
    yield Points(("lanelock verify FOLDER",))


def grades(document: Mapping[str, Any], bands: Sequence[str]) -> Iterator[Block]:
    """Yields a certification document's claim, and its grades on the seeds asked for and on the held-out seeds."""
    if document.get("claim") is not None:
        yield Paragraph(f"{Claim(**document['claim'])}.")
    yield from _grade("On the seeds asked for", document["graded"], bands)
    if document["holdout"] is not None:
        yield from _beside(document["graded"], document["holdout"], bands)
        yield from _grade("On seeds held out of every sweep", document["holdout"], bands)


def _grade(title: str, graded: Mapping[str, Any], bands: Sequence[str]) -> Iterator[Block]:
    """Yields one grade: every gate on every seed, and how much the metrics vary between seeds."""
    yield Heading(3, f"{title}: {graded['verdict']}")
    yield table(*gate_table(_results(graded, bands), ("gate", "kind", "", "bands", "holds", "seeds")))
    if graded["cv"]:
        head = ("cross-seed", "CV", *(f"{band} at most" for band in bands), "collapsed seeds")
        yield table(head, (_spread(row, bands) for row in graded["cv"]))


def _beside(graded: Mapping[str, Any], holdout: Mapping[str, Any], bands: Sequence[str]) -> Iterator[Block]:
    """Yields the least margin of every graded gate on both sets of seeds, to show a candidate tuned to its seeds."""
    yield Heading(3, "Tuned to its seeds?")
    yield Paragraph(
        "The least margin of each graded gate over the seeds asked for, beside that over seeds held out. "
        "A margin is the distance to the threshold over the gate's scale; below 0 it fails."
    )
    sides = [list(zip(*_results(part, bands), strict=True)) for part in (graded, holdout)]
    lines = [
        (asked[0].id, *(short(_least(results, band)) for band in bands for results in (asked, fresh)))
        for asked, fresh in zip(*sides, strict=True)
        if asked[0].severity is Severity.GATE
    ]
    yield table(("gate", *(f"{band}, {what}" for band in bands for what in ("asked for", "held out"))), lines)


def _results(graded: Mapping[str, Any], bands: Sequence[str]) -> list[list[GateResult]]:
    """Returns every gate's result, by seed."""
    return [[GateResult.read(row, bands) for row in card["gates"]] for card in graded["cards"]]


def _spread(row: Mapping[str, Any], bands: Sequence[str]) -> tuple[str, ...]:
    limits = (short(row["limits"].get(band)) for band in bands)
    return row["metric"], short(row["cv"]), *limits, ", ".join(map(str, row["collapsed"])) or "none"


def _least(results: Sequence[GateResult], band: str) -> float | None:
    known = [margin for row in results if (margin := row.margins.get(band)) is not None]
    return min(known) if len(known) == len(results) else None
