"""What a change may not do, by what the documents on both sides state. Pure; nothing is run.

A rule refuses where a change

    removes or hides   a lock, evidence of a lock that stays, or seeds that a lane, campaign, lock or evidence had
    mistakes           a lock for another: at the same path of another lane, or under the name of another lock
    leaves stale       gates, a parent, or the pack of a lock that are no longer what the repository holds
    oversteps          the lane of the repository that a lock names
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from lanelock.policies import LanelockError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.names import name_from
from lanelock.policies.pack import PACK, changes
from lanelock.scoring.gates import PROMOTION, parse_gates
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.repository.documents import LOCK, Documents, PackThere, at, fields_at, name_of, names_in, text_at
from lanelock.sweeps.repository.impact import Impact, changed, pairs

HOLDOUT, CONFIRM = "holdout_seeds", "confirm_seeds"
_STORED = re.compile(r".+\.[0-9a-f]{12}")  # how a workspace calls a lock's file
_PERMITS = (  # the fields of a lane that say what a lock may be; the others say how it is looked for
    "engine", "until", "fixed", "constants", "knobs", "constraints", "derived", "seeds", "witness",
    "gates", "objectives", "runtime", "decision",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a change is refused."""

    path: str
    why: str
    integrity: bool = False  # something states what it does not prove; else a rule refuses it


@dataclass(frozen=True, slots=True)
class Sides:
    """Both revisions, and what the change touches."""

    before: Documents
    after: Documents
    touched: Collection[str]
    present: Collection[str]  # the JSON files that are there now
    merged: Mapping[str, PackThere]  # the packs as they will be, with what the base's branch changed meanwhile


def refusals(sides: Sides, impacts: Iterable[Impact]) -> Iterator[Refusal]:
    """Yields every refusal that follows from the documents alone."""
    yield from _removed(sides)
    yield from _replaced(sides)
    yield from _fewer_seeds(sides)
    yield from _invalid(sides)
    yield from _moved_packs(sides)
    for impact in (row for row in impacts if row.kind == LOCK):
        yield from _stale_gates(impact.path, sides)
        yield from _stale_parent(impact.path, sides)
        if impact.path in sides.touched:
            yield from _overstepped(impact.path, sides)


def _removed(sides: Sides) -> Iterator[Refusal]:
    before, after = sides.before, sides.after
    ids = {text_at(lock, "lock_id") for lock in after.locks.values()}
    for path, lock in before.locks.items():
        if path in after.locks:
            continue
        if path in sides.present:
            yield Refusal(path, f"it was lock {_id(lock)}, and is no lock any more", integrity=True)
        elif text_at(lock, "lock_id") not in ids:
            yield Refusal(path, f"lock {_id(lock)} is removed: a lock is superseded, never deleted")
    for folder, stated in before.evidence.items():
        if folder not in after.evidence and stated not in after.evidence.values() and text_at(stated, "lock_id") in ids:
            yield Refusal(folder, f"evidence of lock {_id(stated)} is removed, and the lock stays")


def _replaced(sides: Sides) -> Iterator[Refusal]:
    for path, lock in sides.after.locks.items():
        old, name = sides.before.locks.get(path), name_of(path)
        if path not in sides.touched:
            continue
        if _STORED.fullmatch(name) and name != names_in(lock)[0]:
            yield Refusal(path, f"the file is named after another lock: it states {names_in(lock)[0]}", integrity=True)
        elif old is not None and name in names_in(old) and name not in names_in(lock):
            yield Refusal(path, f"it was {names_in(old)[1]}, and now states {names_in(lock)[1]}", integrity=True)
        elif old is not None and _lane_of(old) != _lane_of(lock):
            yield Refusal(path, f"it held a lock of {_lane_of(old)}, and now one of {_lane_of(lock)}")
        elif old is not None and at(old, "gates", "id") != at(lock, "gates", "id"):
            ids = [text_at(side, "gates", "id") for side in (old, lock)]
            yield Refusal(path, f"it held a lock graded by gates {ids[0]}, and now one graded by {ids[1]}")


def _fewer_seeds(sides: Sides) -> Iterator[Refusal]:
    before, after = sides.before, sides.after
    for path, old, new in (*pairs(before.lanes, after.lanes), *pairs(before.locks, after.locks)):
        yield from _without(path, "/seeds", old.get("seeds"), new.get("seeds"))
    for path, old, new in pairs(before.lanes, after.lanes):
        yield from _without(path, "/witness", old.get("witness"), new.get("witness"))
        fewer = at(new, "decision", CONFIRM)
        if fewer is not None and _number(fewer) < _number(at(old, "decision", CONFIRM)):
            yield Refusal(path, f"/decision/{CONFIRM}: {at(old, 'decision', CONFIRM)} became fewer")
    for path, old, new in pairs(before.campaigns, after.campaigns):
        yield from _without(path, "/seeds", old.get("seeds"), new.get("seeds"))
        for name, phase in fields_at(old, "phases").items():
            now = at(new, "phases", name)
            yield from _without(path, f"/phases/{name}/seeds", _asked(phase, before), _asked(now, after))
            if _number(at(now, "holdout")) < _number(at(phase, "holdout")):
                yield Refusal(path, f"/phases/{name}/holdout: {at(phase, 'holdout')} became fewer")
    for path, old, new in pairs(before.gates, after.gates):
        for name, profile in fields_at(old, "profiles").items():
            yield from _without(
                path, f"/profiles/{name}/seeds", at(profile, "seeds"), at(new, "profiles", name, "seeds")
            )
        for alias, asked in fields_at(old, PROMOTION).items():
            if _number(at(new, PROMOTION, alias, HOLDOUT)) < _number(at(asked, HOLDOUT)):
                yield Refusal(path, f"/{PROMOTION}/{alias}/{HOLDOUT}: {at(asked, HOLDOUT)} became fewer")
    for path, old, new in pairs(before.evidence, after.evidence):
        for part in ("seeds", "holdout_seeds"):
            yield from _without(path, f"/{part}", old.get(part), new.get(part))


def _asked(phase: Any, documents: Documents) -> Any:
    """Returns the seeds that a phase of a campaign asks for: its own, or those of the profile that it names."""
    named = at(phase, "profile")
    profiles = (at(gates, "profiles", named) for gates in documents.gates.values() if isinstance(named, str))
    return at(phase, "seeds") or next((seeds for row in profiles if (seeds := at(row, "seeds"))), None)


def _without(path: str, field: str, old: Any, new: Any) -> Iterator[Refusal]:
    new = new if isinstance(new, list) else []
    if gone := [seed for seed in (old if isinstance(old, list) else []) if seed not in new]:
        yield Refusal(path, f"{field}: seed {', '.join(map(str, gone))} is removed: what was asked stays asked")


def _invalid(sides: Sides) -> Iterator[Refusal]:
    """Yields the touched gate files, lanes, campaigns and packs that are not valid; policies need their engine."""
    after = sides.after
    for folder in (folder for folder in after.packs if f"{folder}/{PACK}" in sides.touched):
        try:
            validate(after.packs[folder].document, shipped_schema("pack"), PACK)
        except LanelockError as error:
            yield Refusal(folder, str(error))
    for schema, kind in (("gates", after.gates), ("lane", after.lanes), ("campaign", after.campaigns)):
        for path in (path for path in kind if path in sides.touched):
            try:
                validate(kind[path], shipped_schema(schema), path)
                if schema == "gates":
                    parse_gates(kind[path], path)
            except LanelockError as error:
                yield Refusal(path, str(error).removeprefix(f"{path}: "))


def _stale_gates(path: str, sides: Sides) -> Iterator[Refusal]:
    carried = at(sides.after.locks[path], "gates")
    files = {
        other: {field: value for field, value in gates.items() if field != PROMOTION}
        for other, gates in sides.after.gates.items()
        if gates.get("id") == at(carried, "id")
    }
    if files and carried not in files.values():
        other, gates = next(iter(files.items()))
        pointer, stated, found = next(changes(carried, gates))
        yield Refusal(path, f"its gates are not those of {other}: {pointer}: {short(stated)}, there {short(found)}")
    elif not files and any(gates.get("id") == at(carried, "id") for gates in sides.before.gates.values()):
        yield Refusal(path, f"the gate file {at(carried, 'id')} that it rests on is removed")


def _stale_parent(path: str, sides: Sides) -> Iterator[Refusal]:
    """Yields a refusal where no pack of the parent's name is the parent, the candidate, or what was tuned from it."""
    lock = sides.after.locks[path]
    name, parent = at(lock, "authority", "name"), at(lock, "authority", "digest")
    engine, was = lock.get("engine"), sides.before.packs
    packs = {
        folder: pack
        for folder, pack in sides.merged.items()
        if pack.engine == engine
        and (_named(folder, name) or (folder in was and was[folder].digest == parent and pack.digest != parent))
    }
    line = _descent(text_at(lock, "authority", "digest"), text_at(lock, "pack", "digest"), sides.after.locks.values())
    if packs and not any(pack.digest in line for pack in packs.values()):
        folder, pack = next(iter(packs.items()))
        yield Refusal(
            path,
            f"stale parent: it was tuned from pack {name}, {str(parent)[:12]}, but {folder} is {pack.digest[:12]}; "
            "tune from that",
        )


def _named(folder: str, name: Any) -> bool:
    return bool(name_from(PurePosixPath(folder).name) == name)


def _descent(parent: str, candidate: str, locks: Iterable[Mapping[str, Any]]) -> set[str]:
    """Returns the digests of a lock's parent, its candidate, and every candidate that was tuned from that."""
    steps = [(text_at(lock, "authority", "digest"), text_at(lock, "pack", "digest")) for lock in locks]
    line, size = {candidate}, 0
    while len(line) > size:
        size = len(line)
        line |= {new for old, new in steps if old in line}
    return line | {parent}


def _moved_packs(sides: Sides) -> Iterator[Refusal]:
    """Yields the packs that held a lock's candidate and now hold what no lock states."""
    before, after = sides.before, sides.after
    candidates = {text_at(lock, "pack", "digest") for lock in after.locks.values()}
    for folder in changed(before.packs, after.packs):
        old, new = before.packs.get(folder), after.packs.get(folder)
        stated = [lock for lock in after.locks.values() if old is not None and at(lock, "pack", "digest") == old.digest]
        if stated and (new is None or new.digest not in candidates):
            now = "is gone" if new is None else f"is {new.digest[:12]} now, which no lock states"
            yield Refusal(folder, f"the pack of lock {names_in(stated[0])[0]} {now}")


def _overstepped(path: str, sides: Sides) -> Iterator[Refusal]:
    lane = at(sides.after.locks[path], "lane")
    files = {other: row for other, row in sides.after.lanes.items() if row.get("id") == at(lane, "id")}
    differs = {other: [*changes(_permits(_ranged(row, lane)), _permits(lane))] for other, row in files.items()}
    if differs and all(differs.values()):
        other, rows = next(iter(differs.items()))
        pointer, allowed, stated = rows[0]
        yield Refusal(path, f"its lane is not {other}: {pointer}: {short(stated)}, there {short(allowed)}")


def _ranged(lane: Mapping[str, Any], locked: Any) -> Mapping[str, Any]:
    """Returns a lane's file with the ranges that it leaves to the policy's schema, as the lock states them."""
    knobs, stated = lane.get("knobs"), at(locked, "knobs")
    if not isinstance(knobs, Mapping) or not isinstance(stated, Mapping):
        return lane
    rows = {name: {**_range_of(stated.get(name)), **row} for name, row in knobs.items() if isinstance(row, Mapping)}
    return {**lane, "knobs": {**knobs, **rows}}


def _range_of(knob: Any) -> dict[str, Any]:
    named = ("low", "high", "choices")
    return {key: knob[key] for key in named if key in knob} if isinstance(knob, Mapping) else {}


def _permits(lane: Any) -> dict[str, Any]:
    return {name: lane[name] for name in _PERMITS if name in lane} if isinstance(lane, Mapping) else {}


def _lane_of(lock: Mapping[str, Any]) -> str:
    return f"lane {at(lock, 'lane', 'id')} of engine {lock.get('engine')}"


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def _id(document: Mapping[str, Any]) -> str:
    return text_at(document, "lock_id")[:12]
