"""Budgets of time: of each state, of all of them, and of the profiles on which a candidate is run.

An engine's budgets are data: `policies/<engine>/budgets.json`, or the table [budgets] of a project. What a profile may
take is stated in the gate file, in minutes. A colour is a verdict on seconds and nothing else: no gate reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lanelock.policies import PolicyError
from lanelock.policies.documents import read_json, shipped, shipped_schema, validate
from lanelock.scoring.gates import Profile
from lanelock.sweeps.engines import project_named

Colour = Literal["GREEN", "AMBER", "RED", ""]  # empty: no budget
WORST: tuple[Colour, ...] = ("RED", "AMBER", "GREEN", "")


@dataclass(frozen=True, slots=True)
class Budget:
    """What something may take."""

    target_s: float
    limit_s: float

    def colour(self, seconds: float) -> Colour:
        """Returns GREEN up to the target, AMBER up to the limit, RED beyond."""
        return "GREEN" if seconds <= self.target_s else "AMBER" if seconds <= self.limit_s else "RED"


@dataclass(frozen=True, slots=True)
class Beside:
    """Another system's seconds, to be shown beside ours."""

    id: str
    title: str
    kind: Literal["wall", "processor"]
    states: Mapping[str, float]
    pack: str | None = None  # of ours that asks for the same work; None: any
    process: float | None = None  # in all, starting and importing included
    budgets: Mapping[str, Budget] = field(default_factory=dict)  # its own; not applied to ours


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets of an engine's states."""

    engine: str
    states: Mapping[str, Budget]
    why: str
    total: Budget | None = None  # of all states together
    beside: tuple[Beside, ...] = ()
    where: str = ""  # the document, as errors name it

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> Budgets:
        """Returns the budgets that a document states. Raises PolicyError naming file, field and what is allowed."""
        validate(document, shipped_schema("budgets"), where)
        for name, row in _rows(document):
            if row["target_s"] > row["limit_s"]:
                raise PolicyError(f"{where}: {name}: target_s {row['target_s']:g} is above limit_s {row['limit_s']:g}")
        return cls(
            document["engine"],
            _budgets(document["states"]),
            document["why"],
            Budget(**document["total"]) if "total" in document else None,
            tuple(_beside(row) for row in document.get("beside", ())),
            where,
        )

    def colour(self, state: str, seconds: float) -> Colour:
        """Returns the colour of a state's wall seconds; empty if it has no budget."""
        return self.states[state].colour(seconds) if state in self.states else ""

    def beside_pack(self, pack: str) -> tuple[Beside, ...]:
        """Returns the measurements to be shown beside those of a pack."""
        return tuple(other for other in self.beside if other.pack in (None, pack.rpartition("/")[2]))

    def check(self, engine: str, states: Iterable[str]) -> None:
        """Raises PolicyError naming what is not this engine's: the engine, or a state that its runs do not report."""
        if self.engine != engine:
            raise PolicyError(f"{self.where}: /engine: {self.engine!r}; the engine that is measured is {engine}")
        known = [*states]
        for state in self.states:
            if state not in known:
                raise PolicyError(f"{self.where}: /states/{state}: no state of {engine} ({', '.join(known)})")


@dataclass(frozen=True, slots=True)
class ProfileBudget:
    """What a profile of the gate file may take, beside what it is estimated to take."""

    name: str
    seeds: int
    limit_s: float
    estimated_s: float

    @property
    def colour(self) -> Colour:
        return Budget(self.limit_s, self.limit_s).colour(self.estimated_s)


def read_budgets(file: Path) -> Budgets:
    """Returns the budgets in a file."""
    return Budgets.of(read_json(file), str(file))


def budgets_of(engine: str) -> Budgets | None:
    """Returns the budgets of an engine, shipped or of its project; None if it has none."""
    if (project := project_named(engine)) is not None:
        stated = project.budgets
        return None if stated is None else Budgets.of(stated, f"{project.where}: [budgets]")
    return read_budgets(file) if (file := shipped("budgets").get(engine)) is not None else None


def profile_budgets(profiles: Iterable[Profile], seconds: float) -> tuple[ProfileBudget, ...]:
    """Returns each profile's budget, estimated from the seconds of one seed: seeds are run one after another."""
    return tuple(
        ProfileBudget(row.name, len(row.seeds), 60.0 * row.minutes, len(row.seeds) * seconds) for row in profiles
    )


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yields the field and the numbers of every budget in a document."""
    yield from ((f"/states/{state}", row) for state, row in document["states"].items())
    if "total" in document:
        yield "/total", document["total"]
    for at, beside in enumerate(document.get("beside", ())):
        yield from ((f"/beside/{at}/budgets/{state}", row) for state, row in beside.get("budgets", {}).items())


def _budgets(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Budget]:
    return {state: Budget(**row) for state, row in rows.items()}


def _beside(row: Mapping[str, Any]) -> Beside:
    return Beside(**{**row, "budgets": _budgets(row.get("budgets", {}))})
