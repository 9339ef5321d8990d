"""The states of a run as rows: rows, seconds, and how these stand to the engine's budget for each state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lanelock.engine.protocol import StateReport
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.perf.budgets import budgets_of


def state_documents(states: Sequence[StateReport], engine: str) -> list[dict[str, Any]]:
    """Returns the states as JSON, each with the colour of its seconds; "" where it was reused or has no budget."""
    return [asdict(state) | {"budget": colour} for state, colour in zip(states, _colours(states, engine), strict=True)]


def state_table(states: Sequence[StateReport], engine: str | None) -> str:
    """Returns the states as text, with a column of colours where the engine has budgets.

    `None`: without them, since the seconds are not those of a wall clock.
    """
    colours = [""] * len(states) if engine is None else _colours(states, engine)
    head: tuple[str, ...] = ("state", "rows", "seconds", "", "key")
    rows = [
        (s.name, f"{s.rows:,}", f"{s.seconds:.3f}", "reused" if s.reused else "computed", s.key[:16]) for s in states
    ]
    rows.append(("all", "", f"{sum(state.seconds for state in states):.3f}", "", ""))
    if any(colours):
        head = (*head, "budget")
        rows = [(*row, colour) for row, colour in zip(rows, [*colours, ""], strict=True)]  # type: ignore[misc]
    return columns(head, rows)


def _colours(states: Sequence[StateReport], engine: str) -> list[str]:
    """Returns the colour of each state that was computed: GREEN, AMBER or RED."""
    budgets = budgets_of(engine)
    if budgets is None:
        return [""] * len(states)
    return ["" if state.reused else budgets.colour(state.name, state.seconds) for state in states]
