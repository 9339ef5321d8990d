"""Which locks and evidence packs a change impacts, and why. Pure; what they state is proved elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from lanelock.sweeps.repository.documents import EVIDENCE, LOCK, Documents, at, fields_at, text_at

SIGNED = ".dsse"  # behind the name of a document: its signatures
NEW, CHANGED, SIGNATURES = "new", "changed", "its signatures changed"
_CODE = (".py", ".pyx", ".toml", ".cfg", ".lock", ".txt", ".so", ".c", ".cc", ".cpp", ".h", ".rs", ".go", ".java")


@dataclass(frozen=True, slots=True)
class Impact:
    """A document that has to be proved again."""

    kind: str  # LOCK or EVIDENCE
    path: str
    why: tuple[str, ...]

    @property
    def brought(self) -> bool:
        """Whether the change holds it or its signatures; else the change only moves what it rests on."""
        return bool({NEW, CHANGED, SIGNATURES} & {*self.why})


def impacted(
    before: Documents, after: Documents, touched: Collection[str], code: Mapping[str, str], trust_changed: bool
) -> list[Impact]:
    """Returns what a change impacts, in the order of paths. `code`: the version of each installed engine, by name."""
    locks = (Impact(LOCK, path, (*_lock(path, before, after, touched, code, trust_changed),)) for path in after.locks)
    packs = (Impact(EVIDENCE, folder, (*_evidence(folder, before, touched),)) for folder in after.evidence)
    return sorted((row for row in (*locks, *packs) if row.why), key=lambda row: row.path)


def _lock(
    path: str,
    before: Documents,
    after: Documents,
    touched: Collection[str],
    code: Mapping[str, str],
    trust_changed: bool,
) -> Iterator[str]:
    lock = after.locks[path]
    if path in touched:
        yield CHANGED if path in before.locks else NEW
    if path + SIGNED in touched:
        yield SIGNATURES
    if trust_changed:
        yield "trust.json changed"
    yield from (f"gate file {other} changed" for other in _gates(lock, before, after))
    yield from (f"lane {other} changed" for other in _lanes(lock, before, after))
    yield from (f"campaign {other} changed" for other in _campaigns(lock, before, after))
    yield from (f"pack {folder} changed" for folder in _packs(lock, before, after))
    installed = code.get(str(lock.get("engine")))
    if installed != lock.get("code_version") and any(other.endswith(_CODE) for other in touched):
        yield f"made by other code of engine {lock.get('engine')}"


def _evidence(folder: str, before: Documents, touched: Collection[str]) -> Iterator[str]:
    if any(other.startswith(f"{folder}/") for other in touched):
        yield CHANGED if folder in before.evidence else NEW
    if folder + SIGNED in touched:
        yield SIGNATURES


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yields the paths at which two revisions hold different documents, or one holds none."""
    yield from (path for path in sorted({*before, *after}) if before.get(path) != after.get(path))


def pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields path, old and new document of each that changed; one that was moved is known by its id."""
    gone = {text_at(document, "id"): document for path, document in before.items() if path not in after}
    for path, new in after.items():
        old = before.get(path, gone.get(text_at(new, "id")) if text_at(new, "id") else None)
        if old is not None and old != new:
            yield path, old, new


def _gates(lock: Mapping[str, Any], before: Documents, after: Documents) -> Iterator[str]:
    """Yields the changed gate files that a lock rests on: by their id, or by their content before."""
    for path in changed(before.gates, after.gates):
        sides = [side for side in (before.gates.get(path), after.gates.get(path)) if side is not None]
        if any(side.get("id") == at(lock, "gates", "id") for side in sides) or at(lock, "gates") in sides:
            yield path


def _lanes(lock: Mapping[str, Any], before: Documents, after: Documents) -> Iterator[str]:
    for path in changed(before.lanes, after.lanes):
        if at(lock, "lane", "id") in (at(before.lanes.get(path), "id"), at(after.lanes.get(path), "id")):
            yield path


def _campaigns(lock: Mapping[str, Any], before: Documents, after: Documents) -> Iterator[str]:
    """Yields the changed campaigns that a lock's sweep is named after: `<campaign>-<n>.<phase>`."""
    played = str(lock.get("sweep")).partition(".")[0].rpartition("-")[0]
    for path in changed(before.campaigns, after.campaigns):
        if played in (at(before.campaigns.get(path), "id"), at(after.campaigns.get(path), "id")):
            yield path


def _packs(lock: Mapping[str, Any], before: Documents, after: Documents) -> Iterator[str]:
    """Yields the changed packs that are a lock's candidate, parent or reference: by name, or by their content."""
    carried = [lock.get("pack"), lock.get("authority"), *fields_at(lock, "references").values()]
    digests, names = {text_at(pack, "digest") for pack in carried}, {text_at(pack, "name") for pack in carried}
    for folder in changed(before.packs, after.packs):
        sides = [side for side in (before.packs.get(folder), after.packs.get(folder)) if side is not None]
        mine = any(side.engine == lock.get("engine") for side in sides)
        if mine and (PurePosixPath(folder).name in names or digests & {side.digest for side in sides}):
            yield folder
