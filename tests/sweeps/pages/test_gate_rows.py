"""Every table of gates says the same of the same gate: the highest band that holds, by one law."""

import pytest

from lanelock.scoring.certification import certify
from lanelock.scoring.gates import parse_gates
from lanelock.scoring.scorecard import combine, score
from lanelock.sweeps.pages import scorecard as page
from lanelock.sweeps.pages.gates import gate_row, gate_table, scorecard_text
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.proof.certificate import certificate

LOW_ONLY = {"id": "low_only", "thresholds": {"B": 1.0}}
HIGH_ONLY = {"id": "high_only", "thresholds": {"B+": 1.0}}
BOTH = {"id": "both", "thresholds": {"B": 1.0, "B+": 2.0}}


def gates_of(*rows):
    usual = {"metric": "m/a", "severity": "gate", "comparison": ">=", "why": "w"}
    metric = {"unit": "u", "state": "S1", "worst": "lowest", "what": "w"}
    return parse_gates(
        {"id": "mine", "title": "t", "bands": ["B", "B+"], "metrics": {"m/a": metric},
         "gates": [{**usual, **row} for row in rows]},
        "mine.json",
    )  # fmt: skip


def cell(table, gate, head):
    """What a Markdown table, or one of aligned columns, says under a head of a gate."""
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    heads = next(line for line in lines if "gate" in line)
    return next(line for line in lines if gate in line[heads.index("gate")])[heads.index(head)]


def certified(cards, gates):
    graded = certify(cards, gates)
    named = dict.fromkeys(("lock_id", "sweep", "pack", "engine", "code_version"), "x")
    return {**named, "verdict": str(graded.verdict), "reason": graded.reason, "preconditions": [],
            "graded": graded.as_document(), "holdout": None}  # fmt: skip


def report_of(cards, gates):
    return page.Report("run", "r", cards, gates, {}, "nothing", {}, (), (), (), ())


@pytest.mark.parametrize(
    ("gate", "value", "holds", "chip"),
    [
        (LOW_ONLY, 0.5, "no", "✗ no"),
        (LOW_ONLY, 1.5, "B+", "✓ B+"),
        (HIGH_ONLY, 0.5, "B", "✓ B only"),
        (HIGH_ONLY, 1.5, "B+", "✓ B+"),
        (BOTH, 1.5, "B", "✓ B only"),
        (BOTH, 0.5, "no", "✗ no"),
    ],
)
def test_terminal_markdown_page_and_certificate_agree_on_what_holds(gate, value, holds, chip):
    gates = gates_of(gate)
    cards = (score({"m/a": value}, gates, seed=1, authority=None), score({"m/a": 9.0}, gates, seed=2, authority=None))
    overall, report = combine(cards, gates), report_of(cards, gates)
    assert (overall.gates[0].holds or "no") == gate_row([card.gates[0] for card in cards]).holds == holds
    assert overall.verdict == gates.of_band(None if holds == "no" else holds)
    assert scorecard_text(overall).splitlines()[-1].split()[-1] == holds
    assert cell(page.scorecard_markdown(overall), gate["id"], "holds") == holds
    assert cell(page.markdown(report), gate["id"], "holds") == holds
    assert f">{chip}</span>" in page.html(report)
    assert cell(as_markdown(certificate(certified(cards, gates), gates.bands)), gate["id"], "holds") == holds


def test_a_table_lays_out_the_parts_that_are_asked_for():
    gates = gates_of(BOTH, LOW_ONLY)
    cards = [score({"m/a": value}, gates, seed=seed, authority=None).gates for seed, value in ((7, 1.5), (8, 0.5))]
    head, rows = gate_table(cards, ("gate", "kind", "", "bands", "margins", "seeds", "seed", "holds"))
    assert head == ("gate", "kind", "", "B", "B+", "margin B", "margin B+", "seed 7", "seed 8", "seed", "holds")
    assert rows == [
        ("both", "gate", ">=", "1", "2", "-0.5", "-1.5", "1.5", "0.5", "8", "no"),
        ("low_only", "gate", ">=", "1", "–", "-0.5", "–", "1.5", "0.5", "8", "no"),
    ]
    assert columns(head, rows).splitlines()[0].split()[:2] == ["gate", "kind"]


def test_a_number_that_is_missing_holds_nothing_and_says_so():
    gates = gates_of(BOTH)
    card = score({}, gates, seed=1, authority=None)
    _, ((*_, value, holds),) = gate_table([card.gates], ("gate", "value", "holds"))
    assert (value, holds, card.verdict.name) == ("missing", "no", "INVALID")


def test_a_corridor_is_written_with_both_ends():
    row = {"id": "share", "comparison": "within", "corridors": {"B": [0.25, 0.55], "B+": [0.35, 0.45]}}
    gates = gates_of(row)
    cards = (score({"m/a": 0.5}, gates, seed=1, authority=None), score({"m/a": 0.4}, gates, seed=2, authority=None))
    report = report_of(cards, gates)
    text, html = page.markdown(report), page.html(report)
    assert cell(text, "share", "B") == "0.25 … 0.55" and cell(text, "share", "B+") == "0.35 … 0.45"
    assert "0.5 against within 0.35 … 0.45 (B+) on seed 1" in text
    assert '<span class="muted">B+</span> within 0.35 … 0.45' in html and "✓ B only" in html
    assert html.count("v20") == 4, "a mark at each end of each corridor"
    certificate_text = as_markdown(certificate(certified(cards, gates), gates.bands))
    assert cell(certificate_text, "share", "holds") == "B" and cell(certificate_text, "share", "B") == "0.25 … 0.55"
