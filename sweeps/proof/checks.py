"""Checks: what a document states, beside what was found when it was computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


Watch = Callable[[Check], None]


def same(name: str, stated: Any, found: Any) -> Check:
    """Returns the check that two values are equal."""
    return Check(name, stated == found, stated, found)


def collected(checks: Iterable[Check], watch: Watch) -> list[Check]:
    """Returns every check in order, each shown to `watch`; a failed check does not stop the others."""
    done = []
    for check in checks:
        watch(check)
        done.append(check)
    return done


def hold(place: Path, what: str, checks: Sequence[Check]) -> None:
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
