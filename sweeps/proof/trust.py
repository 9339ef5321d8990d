"""Trust: whose signatures count, and what each alias asks of them. It is data, in `trust.json`.

The file lies in the root of the repository around the workspace; without a repository, or without the file there, in
the workspace. What is reviewed with the code therefore cannot be weakened by a file in the workspace, and a trust that
comes along with a document is never believed. Without the file nothing must be signed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanelock.policies import PolicyError
from lanelock.policies.documents import ROOT, digest, read_json, shipped_schema, validate
from lanelock.sweeps.workspace import Workspace

FORMAT = "lanelock.trust/1"


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, with the name and the roles that a trust gives it; none of either if the trust does not know it."""

    name: str
    public: str  # Ed25519, hexadecimal
    roles: tuple[str, ...] = ()

    @property
    def key_id(self) -> str:
        """The id that securesystemslib gives the key."""
        return digest({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": self.public}})

    @property
    def called(self) -> str:
        return self.name or f"key {self.key_id[:12]}"

    def __str__(self) -> str:
        return f"{self.called} ({', '.join(self.roles)})" if self.roles else self.called

    def as_document(self) -> dict[str, Any]:
        return {"key": self.key_id, "name": self.name, "roles": list(self.roles)}


@dataclass(frozen=True, slots=True)
class Demand:
    """What an alias asks of the signatures on a lock or its evidence. Every move of it must be signed as well."""

    roles: tuple[str, ...]  # those that may approve
    signatures: int  # of so many different people
    maker_may_approve: bool  # the maker is the person who signs the move


@dataclass(frozen=True, slots=True)
class Head:
    """The number of moves, and the SHA-256 of the newest record, which holds all before it."""

    count: int
    newest: str


@dataclass(frozen=True, slots=True)
class Trust:
    """The content of a trust file."""

    where: str
    keys: tuple[Key, ...] = ()
    aliases: Mapping[str, Demand] = field(default_factory=dict)
    moves: Head | None = None  # the moves up to here are held by this alone
    reopen: tuple[str, ...] = ()  # the roles that may sign a reopen; empty: it need not be signed
    rulings: tuple[str, ...] = ()  # likewise, of an answer or a waiver in a campaign

    def known(self, public: str) -> Key:
        """Returns a public key as the trust names it; without name and roles if it does not."""
        return next((key for key in self.keys if key.public == public), Key("", public))

    def unmet(self, alias: str, mover: Key | None, approvers: Collection[Key] | None) -> str | None:
        """Returns what is lacking for a move of `alias` that `mover` signs; None if nothing is.

        `approvers` signed the lock or its evidence; None for a rollback, which leads to an approved lock.
        """
        demand = self.aliases.get(alias)
        if demand is None:
            return None
        if mover is None:
            return f"{self.where} asks that every move of {alias} be signed"
        mover = self.known(mover.public)
        if not mover.roles:
            return f"{self.where} gives no role to {mover.called}, which signs the move"
        return None if approvers is None else self._unapproved(alias, demand, mover, approvers)

    def unmet_by_reopen(self, signer: Key | None) -> str | None:
        """Returns what is lacking for the reopen of a frozen engine that `signer` signs; None if nothing is."""
        return self._unsigned("a reopen", self.reopen, signer)

    def unmet_by_ruling(self, signer: Key | None) -> str | None:
        """Returns what is lacking for an answer or a waiver that `signer` signs; None if nothing is."""
        return self._unsigned("an answer or a waiver", self.rulings, signer)

    def _unsigned(self, what: str, roles: Collection[str], signer: Key | None) -> str | None:
        asked = f"{self.where} asks that {what} be signed by {' or '.join(roles)}"
        if not roles or (signer is not None and {*self.known(signer.public).roles} & {*roles}):
            return None
        return asked if signer is None else f"{asked}; {signer} is not"

    def _unapproved(self, alias: str, demand: Demand, mover: Key, approvers: Iterable[Key]) -> str | None:
        known = [self.known(key.public) for key in approvers]
        people = {key.name for key in known if set(key.roles) & set(demand.roles)}
        counted = people if demand.maker_may_approve else people - {mover.name}
        if len(counted) >= demand.signatures:
            return None
        asked = f"{demand.signatures} signature{'s' * (demand.signatures > 1)} by {' or '.join(demand.roles)}"
        other = "" if demand.maker_may_approve else f", other than {mover.name}, who signs the move,"
        signed = f"signed by {', '.join(sorted(people))}" if people else "signed by nobody of that role"
        return f"{alias} asks {asked}{other} on the lock or its evidence; it is {signed}"


NOBODY = Trust("trust.json")


def read_trust(path: Path) -> Trust:
    """Returns the trust in a file. Raises PolicyError off its schema, or if one key is named twice."""
    document, where = read_json(path), str(path)
    validate(document, shipped_schema("trust"), where)
    keys = tuple(Key(row["name"], row["public"], tuple(row["roles"])) for row in document["keys"])
    for number, key in enumerate(keys):
        if any(key.public == other.public for other in keys[:number]):
            raise PolicyError(f"{where}: /keys/{number}/public: the key of {key.name} is named twice")
    aliases = {
        alias: Demand(tuple(row["roles"]), row["signatures"], row["maker_may_approve"])
        for alias, row in document["aliases"].items()
    }
    moves = Head(**document["moves"]) if "moves" in document else None
    reopen, rulings = (tuple(document.get(name, {}).get("roles", ())) for name in ("reopen", "rulings"))
    return Trust(where, keys, aliases, moves, reopen, rulings)


def trust_of(workspace: Workspace) -> Trust:
    """Returns the trust that holds in a workspace: its repository's, else its own, else nobody's.

    The repository begins above the workspace: whoever may write in the workspace cannot declare it to be one.
    """
    above = next((folder for folder in workspace.root.parents if (folder / ".git").exists()), workspace.root)
    path = next((path for path in (above / workspace.trust.name, workspace.trust) if os.path.lexists(path)), None)
    return NOBODY if path is None else read_trust(path)


def trust_for(path: Path, workspace: Workspace) -> Trust:
    """Returns whose signatures count on a document: the package's own on what it ships, else the workspace's."""
    shipped, real = ROOT.resolve(), path.resolve()
    if not real.is_relative_to(shipped):
        return trust_of(workspace)
    own = shipped / real.relative_to(shipped).parts[0] / workspace.trust.name
    return read_trust(own) if own.is_file() else NOBODY
