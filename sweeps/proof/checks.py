"""Checks: what a document states, beside what was found when it was computed again, and what nobody can compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json, shipped_schema, validate


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of a document, and whether computing it again gave the same."""

    name: str
    ok: bool
    stated: Any
    found: Any


@dataclass(frozen=True, slots=True)
class Proved:
    """What the checks before it show together, where all are ok."""

    statement: str


@dataclass(frozen=True, slots=True)
class Unproved:
    """A statement of a document that these checks cannot prove."""

    statement: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What was checked of a document, in order, and what it states without proof. Iterates over the checks."""

    checks: tuple[Check, ...]
    proved: tuple[str, ...] = ()  # where all checks are ok
    not_proved: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def __add__(self, others: Findings) -> Findings:
        return Findings(self.checks + others.checks, self.proved + others.proved, self.not_proved + others.not_proved)


Watch = Callable[[Check], None]


def same(name: str, stated: Any, found: Any) -> Check:
    """Returns the check that two values are the same JSON."""
    return Check(name, _alike(stated, found), stated, found)


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 4 and 4.0 are; 1 and true, which are equal in Python, are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def collected(rows: Iterable[Check | Proved | Unproved], watch: Watch) -> Findings:
    """Returns every check in order, each shown to `watch`; a failed check does not stop the others."""
    checks, proved, not_proved = list[Check](), list[str](), list[str]()
    for row in rows:
        if isinstance(row, Check):
            watch(row)
            checks.append(row)
        else:
            (proved if isinstance(row, Proved) else not_proved).append(row.statement)
    return Findings(tuple(checks), tuple(proved), tuple(not_proved))


def hold(place: Path, what: str, checks: Findings | Sequence[Check]) -> None:
    """Raises IntegrityError that names the first failed check, if any failed."""
    if failed := [check for check in checks if not check.ok]:
        first = failed[0]
        raise IntegrityError(
            f"{place}: the {what} does not verify: {first.name}: stated {first.stated}, found {first.found}"
            f" ({len(failed)} of {len(checks)} checks differ)"
        )


def whole(path: Path, schema: str, what: str) -> dict[str, Any]:
    """Returns the document in a file. Raises IntegrityError where it is not valid under its schema."""
    try:
        document: dict[str, Any] = read_json(path)
        validate(document, shipped_schema(schema), str(path))
    except PolicyError as error:
        raise IntegrityError(f"not a whole {what}: {error}") from None
    return document
