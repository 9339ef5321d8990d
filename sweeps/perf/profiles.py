"""Where the time of each state goes: its costliest functions, as text and as a picture.

A profile is of a round of its own, which it slows down: its shares are evidence, its seconds are not. Compiled loops
are shown as the functions that they were compiled from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT, SHARES

_NAMED, _DRAWN = 3, 8  # functions named per state, states drawn
_ROW, _MARGIN = 46, 46  # pixels


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a state's profile."""

    function: str  # file:line(name), the file from its package on; a builtin's own name
    calls: int
    own_s: float  # in it, without what it calls
    within_s: float  # with what it calls

    @property
    def name(self) -> str:
        """Its name alone."""
        found = re.search(r"\(([^()]+)\)$|method '?([\w.]+)", self.function)
        return self.function if found is None else next(filter(None, found.groups())).rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one state."""

    state: str
    own_s: float  # of all its functions
    functions: tuple[Function, ...]  # the costliest, in order of own_s

    @classmethod
    def of(cls, state: str, answer: Mapping[str, Any]) -> Profile:
        """Returns a state's profile from the document of `worker`."""
        return cls(state, answer["own_s"], tuple(Function(**row) for row in answer["functions"]))

    def share(self, function: Function) -> float:
        return function.own_s / self.own_s if self.own_s > 0 else 0.0

    def top(self, whole: bool = True) -> str:
        """Returns its first functions with their shares. `whole`: with their files."""
        named = ((row.function if whole else row.name, self.share(row)) for row in self.functions[:_NAMED])
        return ", ".join(f"{name} {100 * share:.0f} %" for name, share in named)


def figure(id: str, states: Sequence[tuple[str, float, float]], profiles: Mapping[str, Profile]) -> Figure:
    """Returns the states' wall seconds as bars, each divided by its functions' shares.

    `states`: (state, seconds, share of all), the longest first.
    """
    shown = [row for row in states if row[1] > 0][:_DRAWN]

    def draw(canvas: Any) -> None:
        axis = canvas.add_subplot()
        for place, (state, took, share) in enumerate(shown):
            _bar(axis, place, took, profiles.get(state))
            axis.text(took, place, f" {100 * share:.0f} %", va="center", color=LIGHT["ink"])
            words = profiles[state].top(whole=False) if state in profiles else ""
            axis.text(0, place + 0.44, words, va="center", fontsize=9.5, color=LIGHT["muted"])
        axis.set_yticks(range(len(shown)), [state for state, _, _ in shown])
        axis.set(xlabel="wall seconds (median)", xlim=(0, 1.15 * max(took for _, took, _ in shown)))
        axis.set_ylim(len(shown) - 0.3, -0.5)
        axis.grid(visible=False, axis="y")

    says = "; ".join(
        f"{state} {took:.4g} s" + (f" ({profiles[state].top(whole=False)})" if state in profiles else "")
        for state, took, _ in shown
    )
    return Figure(
        id, "Seconds of each state, and the functions that they go to", says, _MARGIN + _ROW * len(shown), draw
    )


def _bar(axis: Any, place: int, took: float, profile: Profile | None) -> None:
    """Draws a bar, darkest the costliest function; what is not named is the lightest part."""
    shares = [] if profile is None else [profile.share(row) for row in profile.functions[:_NAMED]]
    left = 0.0
    for share, token in zip((*shares, 1.0 - sum(shares)), (*reversed(SHARES[-len(shares) :]), SHARES[0]), strict=False):
        axis.barh(place, share * took, left=left, height=0.5, color=LIGHT[token], edgecolor=LIGHT["surface"])
        left += share * took
