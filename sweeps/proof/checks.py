"""What a proof comes to: checks, each a statement and what was found of it when it was computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a document states, and whether it was found again."""

    name: str
    ok: bool
    stated: Any
    found: Any


Watch = Callable[[Check], None]


def same(name: str, stated: Any, found: Any) -> Check:
    """Returns the check that two values are equal."""
    return Check(name, stated == found, stated, found)


def collected(checks: Iterable[Check], watch: Watch) -> list[Check]:
    """Makes every check in order, shows it to `watch`, and goes on after one that fails."""
    done = []
    for check in checks:
        watch(check)
        done.append(check)
    return done


def hold(place: Path, what: str, checks: Sequence[Check]) -> None:
    """Raises IntegrityError naming the first check that failed, where one did."""
    failed = [check for check in checks if not check.ok]
    if failed:
        first = failed[0]
        raise IntegrityError(
            f"{place}: the {what} does not verify: {first.name}: stated {first.stated}, found {first.found}"
            f" ({len(failed)} of {len(checks)} checks differ)"
        )
