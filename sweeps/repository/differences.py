"""What a change alters, in words: thresholds, lanes, campaigns, packs and scorecards on both sides. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from lanelock.policies import LanelockError
from lanelock.policies.pack import changes
from lanelock.scoring.gates import Gate, GateSet, Threshold, parse_gates, span, threshold_text
from lanelock.scoring.scorecard import GateResult, Scorecard
from lanelock.sweeps.pages.page import Block, Heading, Paragraph, table
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.repository.documents import Documents, at, names_in
from lanelock.sweeps.repository.impact import changed, pairs

_SHOWN = 20  # fields of one document; a person reads the rest in the change itself


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a change alters."""

    path: str
    what: str


def differences(before: Documents, after: Documents) -> Iterator[Difference]:
    """Yields what is altered."""
    for kind, old_side, new_side in (
        ("gate file", before.gates, after.gates), ("lane", before.lanes, after.lanes),
        ("campaign", before.campaigns, after.campaigns), ("pack", before.packs, after.packs),
    ):  # fmt: skip
        for path in changed(old_side, new_side):
            if path not in old_side or path not in new_side:
                yield Difference(path, f"{kind} {'added' if path in new_side else 'removed'}")
    for path in changed(before.locks, after.locks):
        if path in before.locks and path in after.locks:
            yield Difference(path, f"lock {_stated(before.locks[path])} → {_stated(after.locks[path])}")
    for path, old, new in pairs(before.gates, after.gates):
        yield from _of_gates(path, old, new)
    for path, old, new in (*pairs(before.lanes, after.lanes), *pairs(before.campaigns, after.campaigns)):
        yield from _fields(path, old, new)
    for path, pack, now in pairs(before.packs, after.packs):
        yield from _fields(path, pack.policies, now.policies)


def _stated(lock: Mapping[str, Any]) -> str:
    """Returns which lock a file is, and what it states of itself."""
    trials = at(lock, "search", "trials")
    return f"{names_in(lock)[0]} ({at(lock, 'decision')}, {at(lock, 'verdict')}, of {trials} trials)"


def _fields(path: str, old: Any, new: Any) -> Iterator[Difference]:
    rows = [*changes(old, new)]
    for pointer, was, now in rows[:_SHOWN]:
        yield Difference(path, f"{pointer.removeprefix('/')}: {short(was)} → {short(now)}")
    if len(rows) > _SHOWN:
        yield Difference(path, f"{len(rows) - _SHOWN} further fields")


def _of_gates(path: str, old: Any, new: Any) -> Iterator[Difference]:
    """Yields the gates that were added, removed or moved, and every other field that differs."""
    try:
        was, now = parse_gates(old, path), parse_gates(new, path)
    except LanelockError:  # which a rule refuses
        yield from _fields(path, old, new)
        return
    yield from (Difference(path, text) for text in _gates(was, now))
    rest = ({key: value for key, value in document.items() if key != "gates"} for document in (old, new))
    yield from _fields(path, *rest)


def _gates(was: GateSet, now: GateSet) -> Iterator[str]:
    old, new = ({gate.id: gate for gate in gates.gates} for gates in (was, now))
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"gate {name} removed: laxer"
        elif name not in old:
            yield f"gate {name} added"
        elif old[name] != new[name]:
            yield from _gate(old[name], new[name])


def _gate(old: Gate, new: Gate) -> Iterator[str]:
    rest = ("metric", "severity", "comparison", "relative", "scale")
    if moved := [part for part in rest if getattr(old, part) != getattr(new, part)]:
        yield f"gate {new.id}: {', '.join(moved)} changed"
    for band in sorted({*old.thresholds, *new.thresholds}):
        was, now = old.thresholds.get(band), new.thresholds.get(band)
        if was != now:
            yield f"gate {new.id}, {band}: {threshold_text(was)} → {threshold_text(now)}: {_way(old, was, now)}"


def _way(gate: Gate, old: Threshold | None, new: Threshold | None) -> str:
    """Returns whether a threshold became laxer or stricter: by the values that pass it."""
    (low, high), (least, most) = ((-inf, inf) if side is None else span(gate.comparison, side) for side in (old, new))
    return "laxer" if least <= low and most >= high else "stricter" if least >= low and most <= high else "other"


def scorecard_difference(path: str, old: Mapping[str, Any] | None, new: Lock) -> Iterator[Block]:
    """Yields a lock's gates beside those of the lock that was at its path, as they state them."""
    lane = new.lane(path)
    card = new.card(lane)
    before = _card(old)
    was = {row.id: row for row in before.gates} if before is not None else {}
    verdict = str(card.verdict) if before is None else f"{before.verdict} → {card.verdict}"
    yield Heading(3, plain(path))
    yield Paragraph(f"{new.decision}, {verdict}, seeds {', '.join(map(str, lane.seeds))}. {plain(new.reason)}")
    rows = [(row.id, f"`{row.metric}`", *_both(was.get(row.id), row)) for row in card.gates]
    yield table(("gate", "metric", "before", "after", "band before", "band after"), rows)


def _both(old: GateResult | None, new: GateResult) -> tuple[str, str, str, str]:
    values = ["–" if row is None else short(row.value) for row in (old, new)]
    bands = ["–" if row is None else row.holds or "no" for row in (old, new)]
    return values[0], values[1], bands[0], bands[1]


def _card(document: Mapping[str, Any] | None) -> Scorecard | None:
    """Returns the scorecard of an earlier lock; None where there was none, or an older version made it."""
    try:
        lock = None if document is None else Lock.of(document, str(at(document, "sweep")))
        return None if lock is None else lock.card(lock.lane())
    except LanelockError:
        return None


def plain(text: str) -> str:
    """Returns a text of a document on one line, without what Markdown or a page would act on."""
    return " ".join(text.split()).replace("<", "&lt;").replace("`", "'")
