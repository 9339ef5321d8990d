"""What a certification says to people: the page that lies in an evidence pack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, table
from lanelock.sweeps.pages.text import short


def certificate(document: Mapping[str, Any]) -> Iterator[Block]:
    """The page of a certification document."""
    yield Heading(1, f"{document['verdict']}: {document['sweep']}")
    yield Paragraph(f"{document['reason']}.")
    yield Points((
        f"lock {document['lock_id']}",
        f"pack {document['pack']}",
        f"engine {document['engine']}, code {document['code_version']}",
    ))  # fmt: skip
    yield Heading(2, "Preconditions")
    rows = ((row["name"], "holds" if row["ok"] else "fails", "" if row["ok"] else row["said"])
            for row in document["preconditions"])  # fmt: skip
    yield table(("what", "", "found"), rows)
    yield Heading(2, "Grades")
    yield from grade("On the seeds asked for", document["graded"])
    if document["holdout"] is not None:
        yield from beside(document["graded"], document["holdout"])
        yield from grade("On seeds held out of every sweep", document["holdout"])
    yield Heading(2, "Proof")
    yield Paragraph("Every number on this page can be proved again, offline, from this folder and the package:")
    yield Points(("lanelock verify FOLDER",))


def grade(title: str, found: Mapping[str, Any]) -> Iterator[Block]:
    """One grade: every gate on every seed, and how much the seeds vary."""
    yield Heading(3, f"{title}: {found['verdict']}")
    cards, bands = found["cards"], list(found["cards"][0]["gates"][0]["passed"])
    lines = []
    for index, gate in enumerate(cards[0]["gates"]):
        rows = [card["gates"][index] for card in cards]
        met = [band for band in bands if all(row["passed"][band] for row in rows)]
        limits = (short(gate["thresholds"].get(band)) for band in bands)
        values = (short(row["value"]) for row in rows)
        holds = "no" if not met else "yes" if met == bands else met[-1]
        lines.append((gate["id"], gate["severity"], gate["comparison"], *limits, holds, *values))
    yield table(("gate", "kind", "", *bands, "holds", *(f"seed {seed}" for seed in found["seeds"])), lines)
    if found["cv"]:
        spread = (
            (row["metric"], short(row["cv"]), *(short(row["limits"].get(band)) for band in bands),
             ", ".join(map(str, row["collapsed"])) or "none")
            for row in found["cv"]
        )  # fmt: skip
        yield table(("cross-seed", "CV", *(f"{band} at most" for band in bands), "collapsed seeds"), spread)


def beside(graded: Mapping[str, Any], holdout: Mapping[str, Any]) -> Iterator[Block]:
    """The least margin of every graded gate, on either set of seeds: a candidate tuned to its seeds shows here."""
    yield Heading(3, "Tuned to its seeds?")
    yield Paragraph(
        "The least margin of each graded gate over the seeds asked for, beside that over seeds held out. "
        "A margin is the distance to the threshold over the gate's scale; below 0 it fails."
    )
    bands = list(graded["cards"][0]["gates"][0]["passed"])
    lines = []
    for index, gate in enumerate(graded["cards"][0]["gates"]):
        if gate["severity"] == "gate":
            cells = (
                short(_least(found, index, band)) for band in bands for found in (graded, holdout)
            )  # fmt: skip
            lines.append((gate["id"], *cells))
    yield table(("gate", *(f"{band}, {what}" for band in bands for what in ("asked for", "held out"))), lines)


def _least(found: Mapping[str, Any], index: int, band: str) -> float | None:
    margins = [card["gates"][index]["margins"].get(band) for card in found["cards"]]
    return None if None in margins else min(margins)
