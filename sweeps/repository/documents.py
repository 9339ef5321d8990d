"""The documents of Lanelock among the files of a repository. What a file is follows from its content, not its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from lanelock.policies import PolicyError
from lanelock.policies.documents import digest, parse_json
from lanelock.policies.pack import PACK

TRUST = "trust.json"
LOCK, EVIDENCE, GATES, LANE, CAMPAIGN = "lock", "evidence", "gates", "lane", "campaign"
_FORMATS = {"lanelock.lock/": LOCK, "lanelock.evidence/": EVIDENCE}
_FIELDS = {  # a document without a format of its own, by fields that only its kind has
    LANE: {"knobs", "authority", "budget", "decision"},
    CAMPAIGN: {"phases", "first", "engine"},
    GATES: {"bands", "metrics", "gates"},
}


@dataclass(frozen=True, slots=True)
class PackThere:
    """A pack in a folder of the repository, not yet validated."""

    document: Mapping[str, Any]  # pack.json
    policies: Mapping[str, Any]

    @property
    def engine(self) -> str:
        return text_at(self.document, "engine")

    @property
    def digest(self) -> str:
        """The pack's digest; empty where a number in it has no canonical form."""
        try:
            return digest(dict(self.policies))
        except PolicyError:
            return ""


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of one revision, by path; packs and evidence by folder."""

    locks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    packs: Mapping[str, PackThere] = field(default_factory=dict)
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lanes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    campaigns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the certification


def documents_in(files: Mapping[str, bytes]) -> Documents:
    """Returns the documents among files. A file that is not strict JSON is not one."""
    read = {path: document for path, data in files.items() if isinstance(document := _read(data), dict)}
    kinds = {path: kind_of(document) for path, document in read.items()}
    evidence = {folder_of(path): read[path] for path, kind in kinds.items() if kind == EVIDENCE}

    def of(kind: str) -> dict[str, Any]:
        own = (path for path, found in kinds.items() if found == kind)
        return {path: read[path] for path in own if kind == LOCK or folder_of(path) not in evidence}

    named = (path for path, document in read.items() if PurePosixPath(path).name == PACK and document.get("engine"))
    packs = {folder_of(path): _pack(path, read) for path in named}
    return Documents(of(LOCK), packs, of(GATES), of(LANE), of(CAMPAIGN), evidence)


def kind_of(document: Mapping[str, Any]) -> str | None:
    """Returns what kind of document this is; None for any other JSON."""
    stated = str(document.get("format", ""))
    by_format = [kind for start, kind in _FORMATS.items() if stated.startswith(start)]
    return next(iter([*by_format, *(kind for kind, fields in _FIELDS.items() if fields <= document.keys())]), None)


def folder_of(path: str) -> str:
    return str(PurePosixPath(path).parent)


def name_of(path: str) -> str:
    """Returns the last part of a path, without `.json`."""
    return PurePosixPath(path).name.removesuffix(".json")


def at(document: Any, *fields: str) -> Any:
    """Returns a field of a document that nobody has validated; None where it is missing."""
    for name in fields:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def text_at(document: Any, *fields: str) -> str:
    """Returns a text in a document that nobody has validated; empty where there is none."""
    found = at(document, *fields)
    return found if isinstance(found, str) else ""


def fields_at(document: Any, *fields: str) -> Mapping[str, Any]:
    """Returns an object in a document that nobody has validated; empty where there is none."""
    found = at(document, *fields)
    return found if isinstance(found, Mapping) else {}


def names_in(lock: Mapping[str, Any]) -> tuple[str, str]:
    """Returns what a lock's file is called by `store_lock`, and the sweep; by hand, the sweep with the trial."""
    by_hand = f".{lock.get('trial')}" if "chosen_by_hand" in lock else ""
    sweep = f"{lock.get('sweep')}{by_hand}"
    return f"{sweep}.{str(lock.get('lock_id'))[:12]}", sweep


def _read(data: bytes) -> Any:
    try:
        return parse_json(data, "")
    except PolicyError:
        return None


def _pack(path: str, read: Mapping[str, Any]) -> PackThere:
    folder = folder_of(path)
    policies = {name_of(other): read[other] for other in read if folder_of(other) == folder and other != path}
    return PackThere(read[path], policies)
