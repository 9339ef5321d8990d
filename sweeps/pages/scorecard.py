"""A scorecard as a page: the verdict, what was graded, every gate with its margins and seeds, what lies behind.

One order for a run and for a lock, that of a reader's questions: does it hold, what is it, at which gate and by how
much, on every seed, what changed, and do the distributions look right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lanelock.policies import FieldChange
from lanelock.scoring.certification import certify
from lanelock.scoring.figures.sides import SIGNS
from lanelock.scoring.gates import GateSet, Severity
from lanelock.scoring.scorecard import GateResult, Scorecard, combine
from lanelock.sweeps.pages.figures_page import STYLE as FIGURE_STYLE
from lanelock.sweeps.pages.figures_page import drawn
from lanelock.sweeps.pages.head_page import banner, facts
from lanelock.sweeps.pages.page import Block, Heading, Markup, Paragraph, Points, as_html, as_markdown, table
from lanelock.sweeps.pages.scorecard_gates import gate_table, legend
from lanelock.sweeps.pages.scorecard_style import STYLE
from lanelock.sweeps.terminal.words import short

if TYPE_CHECKING:
    from lanelock.scoring.figures.drawing import Figure

_KINDS = {
    Severity.GATE: ("Gates", "What the bands ask. A margin is the distance to a threshold over the gate's scale."),
    Severity.VETO: ("Vetoes", "Detectors of artifacts: one that fails ends a candidate, whatever the gates say."),
    Severity.RAIL: ("Rails", "What was won before stays won: each follows the authority on the same seed."),
    Severity.PRECONDITION: ("Preconditions", "Without these there is no grade at all."),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What a page is about: one candidate, its cards, and what it is compared with."""

    kind: str  # "run" or "lock"
    name: str
    cards: tuple[Scorecard, ...]  # one a seed
    gates: GateSet
    authority: Mapping[int, Mapping[str, float]]  # seed -> metrics of what it is compared with
    beside: str  # what that is, in words
    facts: Mapping[str, str]
    notes: tuple[str, ...]  # further things a reader must know of the verdict
    changes: tuple[FieldChange, ...]  # from the authority's pack to the candidate's
    figures: tuple[Figure, ...]  # on the first seed
    proof: tuple[str, ...]  # commands by which all this is found again

    @property
    def overall(self) -> Scorecard:
        return combine(self.cards, self.gates)

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "verdict": str(self.overall.verdict),
            "beside": self.beside,
            "facts": dict(self.facts),
            "cards": [card.as_document() for card in self.cards],
            "authority": {str(seed): dict(metrics) for seed, metrics in self.authority.items()},
            "figures": [{"id": one.id, "title": one.title, "says": one.says} for one in self.figures],
        }


def html(report: Report) -> str:
    """The page as one file that needs nothing beside it."""
    return as_html(f"{report.kind} {report.name}: {report.overall.verdict}", _blocks(report), STYLE + FIGURE_STYLE)


def markdown(report: Report) -> str:
    """The same in words and tables."""
    return as_markdown(_blocks(report))


def _blocks(report: Report) -> Iterator[Block]:
    overall = report.overall
    yield _banner(report, overall)
    yield facts(report.facts)
    if report.notes:
        yield Heading(2, "Why it was decided so")
        yield Points(report.notes)
    yield Heading(2, "Scorecard")
    yield legend(report)
    for kind, (title, said) in _KINDS.items():
        rows = [at for at, row in enumerate(overall.gates) if row.severity is kind]
        if rows:
            yield Heading(3, title)
            yield Paragraph(said)
            yield gate_table(report, overall, rows)
    yield from _spreads(report)
    yield from _changes(report)
    if report.figures:
        yield Heading(2, "What lies behind the gates")
        yield Paragraph(
            f"Candidate beside {report.beside}, on seed {report.cards[0].seed}: every row of both is counted, "
            "none sampled."
        )
        yield drawn(report.figures)
    yield Heading(2, "Find it again")
    yield Points(report.proof)


# --- the verdict and what it is about -----------------------------------------------------------------------


def _banner(report: Report, overall: Scorecard) -> Markup:
    word, on = str(overall.verdict), ", ".join(str(card.seed) for card in report.cards)
    seeds = f"seed {on}" if len(report.cards) == 1 else f"the worst of seeds {on}"
    return banner(
        word,
        word.startswith("PASS"),
        f"{report.kind} {report.name}",
        _sentence(overall, report.gates),
        f"on {seeds}, beside {report.beside}",
        _reasons(overall, report.gates),
    )


def _sentence(overall: Scorecard, gates: GateSet) -> str:
    word = str(overall.verdict)
    if word.startswith("INVALID"):
        return "Cannot be graded"
    if not word.startswith("PASS"):
        return "Vetoed" if overall.vetoed else f"Does not meet band {gates.bands[0]}"
    return f"Meets band {_held(overall, gates)}"


def _held(overall: Scorecard, gates: GateSet) -> str:
    """The highest band that every gate meets, none below it unmet."""
    met = [band for band in gates.bands if all(row.passed[band] for row in overall.gates)]
    return met[-1]


def _reasons(overall: Scorecard, gates: GateSet) -> list[tuple[str, str]]:
    """(gate, what it says) of all that keep the candidate where it is; of a full pass, the gate nearest to failing."""
    failed = [row for row in overall.gates if not all(row.passed.values())]
    if str(overall.verdict).startswith("INVALID"):
        failed = [row for row in failed if not row.known or row.severity is Severity.PRECONDITION]
    if failed:
        return [(row.id, _against(row)) for row in failed]
    near = min((row for row in overall.gates if row.severity is Severity.GATE), key=lambda row: row.worst_margin)
    return [(near.id, f"comes closest to failing: {_against(near)}")]


def _against(row: GateResult) -> str:
    seen = "not measured" if row.value is None else f"{row.value:.6g}"
    band = next((band for band, passed in row.passed.items() if not passed), list(row.passed)[-1])
    limit, on = row.thresholds.get(band), "" if row.seed is None else f" on seed {row.seed}"
    asked = "an unknown threshold" if limit is None else f"{SIGNS[row.comparison]} {limit:g}"
    return f"{seen} against {asked} ({band if row.severity is Severity.GATE else row.severity}){on}"


# --- beside the gates ---------------------------------------------------------------------------------------


def _spreads(report: Report) -> Iterator[Block]:
    if len(report.cards) < 2 or not (spreads := certify(report.cards, report.gates).spreads):
        return
    yield Heading(3, "Across seeds")
    yield Paragraph("The coefficient of variation over seeds, at most what each band allows.")
    bands, seeds = list(report.gates.cross_seed_limits), [card.seed for card in report.cards]
    yield table(
        ("metric", "CV", *(f"{band} at most" for band in bands), *(f"seed {seed}" for seed in seeds)),
        (
            (row.metric, short(row.cv), *(short(row.limits.get(band)) for band in bands),
             *(short(row.values.get(seed)) for seed in seeds if seed is not None))
            for row in spreads
        ),
    )  # fmt: skip


def _changes(report: Report) -> Iterator[Block]:
    yield Heading(2, "What changed in the policies")
    if not report.changes:
        yield Paragraph(f"Nothing: the pack is that of {report.beside}.")
        return
    yield table(
        ("policy", "field", report.beside, "candidate", "first state"),
        ((row.policy, row.pointer, short(row.before), short(row.after), row.state) for row in report.changes),
    )
