"""Freezes: what a campaign closed with, and the rule that an engine stays as it was frozen until it is reopened.

A freeze is a lock of its own, `freezes/<run>.json`: its id is the SHA-256 of everything else in it, and it names by
digest what it stands on. A reopen, `reopens/<run>.json`, states the id of the freeze that it opens, with who and why;
where `trust.json` asks for it, it is signed. An engine is frozen as long as a freeze of it has no reopen.

Whoever takes a freeze away leaves the record of its phase, which states the id, so that it is missed.
`sweeps.campaign.freezing` makes and proves freezes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.engine.keep.receipts import text_of
from lanelock.policies import IntegrityError, LaneError, PolicyError, RefusedError
from lanelock.policies.documents import LARGEST, digest, read_json
from lanelock.policies.files import read_bytes
from lanelock.policies.names import ALIASES, inside, is_name, path_named
from lanelock.policies.pack import CarriedPack
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.proof.moves import signer_of
from lanelock.sweeps.proof.trust import Key, Trust, trust_of
from lanelock.sweeps.provenance import user
from lanelock.sweeps.workspace import Workspace, phase_files, write_new, writing

if TYPE_CHECKING:
    from lanelock.sweeps.proof.envelopes import SigningKey

FORMAT, REOPEN_FORMAT = "lanelock.freeze/1", "lanelock.reopen/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A freeze. Law: `Freeze.of(freeze.document) == freeze`, and the id follows from the other fields."""

    run: str  # of the campaign
    campaign: str
    identity: str  # digest of what decided how it was played
    engine: str
    code_version: str
    at: str  # UTC, ISO 8601
    who: str
    status: str
    certified: bool
    reason: str
    pack: CarriedPack
    lock: Mapping[str, str] | None  # file and lock_id; None: no lane left a lock
    evidence: Mapping[str, str] | None  # folder, SHA-256 of its index, and verdict
    gates: Mapping[str, str]  # id and digest of the gate file
    upstream: tuple[str, ...]  # states that the campaign kept frozen
    moves: Mapping[str, Any] | None  # count and digest of the newest: the aliases at that moment
    aliases: Mapping[str, str]  # alias -> the lock it pointed to
    asked: tuple[Mapping[str, str], ...]  # alias, and why it was not moved to the lock; "" if it points there
    phases: tuple[Mapping[str, str], ...]  # file and SHA-256 of each record before the freeze
    waivers: tuple[Mapping[str, Any], ...]
    answers: tuple[Mapping[str, Any], ...]
    risks: tuple[Mapping[str, str], ...]  # kind and text
    handoff: str
    freeze_id: str = field(init=False)  # SHA-256 of everything else

    def __post_init__(self) -> None:
        object.__setattr__(self, "freeze_id", digest(self._body))

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> Freeze:
        """Returns the freeze in a document that is valid under its schema. Raises IntegrityError if its id is wrong."""
        fields = {name: value for name, value in document.items() if name not in ("format", "freeze_id")}
        fields |= {name: tuple(fields[name]) for name in _LISTS}
        freeze = cls(**{**fields, "pack": CarriedPack.of(document["pack"])})
        if freeze.freeze_id != document["freeze_id"]:
            raise IntegrityError(
                f"{where}: /freeze_id: states {document['freeze_id']}, its content digests to {freeze.freeze_id}"
            )
        return freeze

    @classmethod
    def read(cls, path: Path) -> Freeze:
        """Returns the freeze in a file. Raises IntegrityError if it was changed."""
        return cls.of(whole(path, "freeze", "freeze"), str(path))

    @property
    def document(self) -> dict[str, Any]:
        """JSON under `freeze.schema.json`."""
        return {**self._body, "freeze_id": self.freeze_id}

    @property
    def _body(self) -> dict[str, Any]:
        names = (name for name in self.__dataclass_fields__ if name not in ("freeze_id", "pack", *_LISTS))
        lists = {name: [*map(_plain, getattr(self, name))] for name in _LISTS}
        return {"format": FORMAT, **{name: getattr(self, name) for name in names}, **lists, "pack": asdict(self.pack)}

    def __str__(self) -> str:
        return f"{self.run} ({self.status}, {self.at})"


_LISTS = ("upstream", "asked", "phases", "waivers", "answers", "risks")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class Reopen:
    """The approval to go on with an engine that was frozen."""

    run: str
    freeze: str  # id of the freeze that it opens
    engine: str
    at: str
    who: str
    why: str
    signed_by: Key | None = None

    @classmethod
    def of(cls, path: Path, trust: Trust) -> Reopen:
        """Returns the reopen in a file. Raises IntegrityError if it was changed, or lacks a signature it needs."""
        document = whole(path, "reopen", "reopen")
        key = signer_of(document, "reopen", path.name, str(path))
        known = None if key is None else trust.known(key.public)
        if (lacking := trust.unmet_by_reopen(known)) is not None:
            raise IntegrityError(f"{path}: the reopen was not allowed: {lacking}")
        fields = {name: document[name] for name in ("run", "freeze", "engine", "at", "who", "why")}
        return cls(**fields, signed_by=known)

    def as_document(self, key: SigningKey | None) -> dict[str, Any]:
        """Returns JSON under `reopen.schema.json`, signed if there is a key."""
        body = {name: value for name, value in asdict(self).items() if name != "signed_by"} | {"format": REOPEN_FORMAT}
        if key is None:
            return body
        from lanelock.sweeps.proof import envelopes  # Ed25519 takes a while, which unsigned reopens need not pay

        return envelopes.sealed(
            body, "reopen", f"{self.run}.json", key, "" if not self.signed_by else self.signed_by.name
        )


def freezes_in(workspace: Workspace) -> tuple[Freeze, ...]:
    """Returns every freeze of a workspace, oldest first.

    Raises IntegrityError if one was changed, bears the name of another run, or was removed though its phase is there.
    """
    found = {path.stem: Freeze.read(path) for path in sorted(workspace.freezes.glob("[!.]*.json"))}
    for name, freeze in found.items():
        if freeze.run != name:
            raise IntegrityError(
                f"{workspace.freezes / name}.json: /run: states {freeze.run}, not the name of its file"
            )
    for run, stated in _recorded(workspace):
        path = workspace.freezes / f"{run}.json"
        if run not in found:
            raise IntegrityError(f"{path}: missing, though campaign {run} was frozen as {stated}: it was removed")
        if found[run].freeze_id != stated:
            raise IntegrityError(f"{path}: /freeze_id: {found[run].freeze_id}, but campaign {run} states {stated}")
    return tuple(sorted(found.values(), key=lambda freeze: (freeze.at, freeze.run)))


def _recorded(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yields run and freeze id of each campaign's run whose last record states one."""
    for folder in sorted(workspace.campaigns.glob("[!.]*")):
        records = phase_files(folder)
        try:
            stated = read_json(records[-1]).get("freeze") if records else None
        except (PolicyError, AttributeError):
            continue  # whoever reads the campaign says what is wrong with it
        if isinstance(stated, str):
            yield folder.name, stated


def reopened(freeze: Freeze, workspace: Workspace, trust: Trust | None = None) -> Reopen | None:
    """Returns the reopen of a freeze, or None. Raises IntegrityError for one of another freeze, or not allowed."""
    path = inside(workspace.reopens, f"{freeze.run}.json")
    if not os.path.lexists(path):
        return None
    found = Reopen.of(path, trust_of(workspace) if trust is None else trust)
    if (found.run, found.freeze, found.engine) != (freeze.run, freeze.freeze_id, freeze.engine):
        raise IntegrityError(
            f"{path}: /freeze: opens {found.freeze}, but {freeze.run} was frozen as {freeze.freeze_id}"
        )
    return found


def standing(workspace: Workspace) -> dict[str, tuple[Freeze, ...]]:
    """Returns engine -> its freezes that nobody reopened, oldest first; only engines that are frozen."""
    trust, found = trust_of(workspace), dict[str, tuple[Freeze, ...]]()
    for freeze in freezes_in(workspace):
        if reopened(freeze, workspace, trust) is None:
            found[freeze.engine] = (*found.get(freeze.engine, ()), freeze)
    return found


def frozen(workspace: Workspace, engine: str) -> Freeze | None:
    """Returns the newest freeze that an engine stands under, or None."""
    return standing(workspace).get(engine, (None,))[-1]


def refusal(workspace: Workspace, engine: str, what: str) -> str | None:
    """Returns why a frozen engine allows no `what`, and the way out; None if it is not frozen."""
    freeze = frozen(workspace, engine)
    return None if freeze is None else _refused(freeze, what)


def hold_open(workspace: Workspace, engine: str, what: str, *, but: str = "") -> None:
    """Raises RefusedError if an engine is frozen; `but`: a run whose own freeze does not count."""
    freeze = frozen(workspace, engine)
    if freeze is not None and freeze.run != but:
        raise RefusedError(_refused(freeze, what))


def hold_gates(workspace: Workspace, engine: str, gates: Mapping[str, Any]) -> None:
    """Raises RefusedError if a gate file differs from the one that its engine was frozen under."""
    freeze = frozen(workspace, engine)
    if freeze is not None and freeze.gates["digest"] != digest(dict(gates)):
        raise RefusedError(
            f"{engine} is frozen by {freeze}, and its gate file was changed since: nothing is graded by another until "
            f"it is reopened with: {_way_out(engine)}"
        )


def _refused(freeze: Freeze, what: str) -> str:
    return f"{freeze.engine} is frozen by {freeze}: no {what} until it is reopened with: {_way_out(freeze.engine)}"


def _way_out(engine: str) -> str:
    return f"lanelock reopen {engine} --why TEXT"


def reopen(
    engine: str, workspace: Workspace, why: str, *, who: str | None = None, key: SigningKey | None = None
) -> tuple[tuple[Reopen, ...], str | None]:
    """Records the reopen of every freeze that an engine stands under. Returns them, or none and why it is refused.

    Raises LaneError if the engine is not frozen.
    """
    trust = trust_of(workspace)
    freezes = standing(workspace).get(engine, ())
    if not freezes:
        raise LaneError(f"{engine}: it is not frozen in {workspace.root}: there is nothing to reopen")
    signing = None if key is None else trust.known(key.public)
    if (lacking := trust.unmet_by_reopen(signing)) is not None:
        return (), lacking
    at = datetime.now(UTC).isoformat(timespec="seconds")
    made = tuple(Reopen(freeze.run, freeze.freeze_id, engine, at, who or user(), why, signing) for freeze in freezes)
    with writing(workspace.root):
        workspace.reopens.mkdir(parents=True, exist_ok=True)
        for row in made:
            if not write_new(inside(workspace.reopens, f"{row.run}.json"), text_of(row.as_document(key))):
                raise LaneError(f"{engine}: another process reopened it meanwhile; look again with: lanelock status")
    return made, None


def find_freeze(name: str, workspace: Workspace) -> Path | None:
    """Returns the file of a freeze: a path, or the run of a campaign. A sweep of that name, with a lock, goes first."""
    path = path_named(name)
    if path is not None and path.is_file():
        return path if is_freeze(path) else None
    if not is_name(name) or name in ALIASES or any(workspace.locks.glob(f"{name}.{'[0-9a-f]' * 12}.json")):
        return None
    path = inside(workspace.freezes, f"{name}.json")
    return path if os.path.lexists(path) else None


def is_freeze(path: Path) -> bool:
    """Returns whether a file is meant to be a freeze; whoever reads it says whether it is whole."""
    try:
        return b'"freeze_id"' in read_bytes(path, LARGEST)
    except OSError:
        return False
