"""The colours of a run's states: by the budget of each, of those that were computed, and of no others."""

import pytest

from lanelock.engine.protocol import StateReport
from lanelock.sweeps.perf.budgets import Budget, Budgets
from lanelock.sweeps.terminal.commands import state_rows
from lanelock.sweeps.terminal.commands.state_rows import state_documents, state_table

STATES = [
    StateReport("first", "a" * 64, 1, 0.5, False),
    StateReport("second", "b" * 64, 2, 1.5, False),
    StateReport("third", "c" * 64, 3, 2.5, False),
    StateReport("kept", "d" * 64, 4, 2.5, True),
    StateReport("free", "e" * 64, 5, 9.0, False),
]
COLOURS = ["GREEN", "AMBER", "RED", "", ""]


@pytest.fixture
def budgets(monkeypatch):
    known = Budgets("pump", {name: Budget(1.0, 2.0) for name in ("first", "second", "third", "kept")}, "a test")
    monkeypatch.setattr(state_rows, "budgets_of", lambda engine: known if engine == "pump" else None)


def test_each_computed_state_has_the_colour_of_its_budget(budgets):
    assert [row["budget"] for row in state_documents(STATES, "pump")] == COLOURS
    lines = state_table(STATES, "pump").splitlines()
    assert lines[0].split()[-1] == "budget"
    assert [line.split()[-1] for line in lines[2:5]] == COLOURS[:3]
    assert not any(colour in line for line in lines[5:] for colour in ("GREEN", "AMBER", "RED"))


def test_without_budgets_there_is_no_column(budgets):
    assert {row["budget"] for row in state_documents(STATES, "other")} == {""}
    for engine in ("other", None):
        assert "budget" not in state_table(STATES, engine)
