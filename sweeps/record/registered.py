"""What the model registry holds, compared with the moves and with how this workspace left it. Imports no MLflow.

A version is recognised by its bytes (`proof.model_files.fingerprint`), never by a tag: whoever writes to MLflow can
copy a tag. After each update the workspace notes where its aliases point and what its versions are. So a registry that
is only behind, because its server was away, is told from one that somebody else has changed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lanelock.policies import IntegrityError
from lanelock.sweeps.locations import Locations, locations
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.proof.model_files import fingerprint
from lanelock.sweeps.proof.moves import Move, moves
from lanelock.sweeps.record.outbox import meant_for, own_record, record_uri
from lanelock.sweeps.workspace import Workspace, write_document

NAMES = ("candidate", "authority", "last-good", "certified")  # the aliases that are ours
LOCK_TAG = "lanelock.lock"


@dataclass(frozen=True, slots=True)
class Written:
    """A version as this workspace left it."""

    lock_id: str
    fingerprint: str
    folder: str  # fingerprint of the promoted folder that it was made from: signatures may be added there
    tags: Mapping[str, str]
    next_tags: Mapping[str, str] = field(default_factory=dict)  # being written: a kill leaves some of either

    def foreign(self, tag: str, now: str | None) -> bool:
        """Whether somebody else gave a tag its present value."""
        return now not in (self.tags[tag], self.next_tags.get(tag, self.tags[tag]))


@dataclass(frozen=True, slots=True)
class Left:
    """A registered model as this workspace left it."""

    aliases: Mapping[str, str] = field(default_factory=dict)  # alias -> version
    versions: Mapping[str, Written] = field(default_factory=dict)
    next_aliases: Mapping[str, str] = field(default_factory=dict)  # being pointed: a kill leaves some of either

    def pointed(self, alias: str, at: str | None) -> bool:
        """Whether this workspace may have left an alias at a version."""
        return at in (self.aliases.get(alias), self.next_aliases.get(alias, self.aliases.get(alias)))

    def locks(self) -> dict[str, str]:
        """Returns fingerprint -> the lock that it is of."""
        return {written.fingerprint: written.lock_id for written in self.versions.values()}


@dataclass(frozen=True, slots=True)
class Seen:
    """A registered model as the registry holds it."""

    aliases: Mapping[str, str]  # alias -> version
    tags: Mapping[str, Mapping[str, str]]  # version -> its tags
    fingerprint: Callable[[str], str | None]  # of a version; None where its files cannot be read from here


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in the registry that is not what the moves say."""

    text: str
    kind: Literal["behind", "model", "alias", "files", "tag", "claim"]  # "behind", or what somebody has changed
    alias: str | None = None
    version: str | None = None

    @property
    def changed(self) -> bool:
        """Whether somebody else has changed it; otherwise the registry is only behind the moves."""
        return self.kind != "behind"


def model_name(engine: str) -> str:
    """Returns the name of the registered model of an engine's locks."""
    return engine.replace("_", "-")


def targets(history: Sequence[Move], model: str) -> dict[str, list[str]]:
    """Returns alias -> the locks that moves pointed it to in a model, the present one last.

    An alias that points to a lock of another engine by now has an empty text last.
    """
    named: dict[str, list[str]] = {}
    for move in history:
        here = model_name(move.to.engine) == model
        if here or move.alias in named:
            named.setdefault(move.alias, []).append(move.to.lock_id if here else "")
    return named


def differences(
    model: str, wanted: Mapping[str, Sequence[str]], left: Left | None, seen: Seen | None, locks: Mapping[str, str]
) -> Iterator[Difference]:
    """Yields what a registered model holds that is not what the moves say.

    `wanted` is what `targets` returns, `locks` says of a fingerprint which lock's model it is. Without `left` nothing
    is known of how the registry was left: what an earlier move said is then taken as behind.
    """
    if seen is None:
        if left is not None and left.versions:
            yield Difference(f"{model}: the registered model was deleted", "model")
        elif any(lock_ids[-1] for lock_ids in wanted.values()):
            yield Difference(f"{model}: is not registered yet", "behind")
        return
    yield from _versions(model, {lock_ids[-1] for lock_ids in wanted.values()}, left, seen, locks)
    for alias in NAMES:
        yield from _alias(f"{model}@{alias}", alias, wanted.get(alias, [""]), left, seen, locks)


def _alias(
    name: str, alias: str, wanted: Sequence[str], left: Left | None, seen: Seen, locks: Mapping[str, str]
) -> Iterator[Difference]:
    at, want = seen.aliases.get(alias), wanted[-1]
    holds = None if at is None else held(at, left, seen, locks)
    if (at is None and not want) or (holds is not None and holds == want):
        return
    says = f"the moves say lock {want[:12]}" if want else "no move says so"
    what = "nothing" if at is None else f"version {at}, {_of(holds)}"
    was = None if left is None else left.aliases.get(alias)
    if left is None:
        behind = at is None or holds in wanted
        if not want:
            return  # of another workspace, as far as anybody here can tell
    else:
        behind = left.pointed(alias, at) and (at is None or holds == left.versions[at].lock_id)
    left_at = f"; it was left at {'nothing' if was is None else f'version {was}'}" if not behind and left else ""
    yield Difference(f"{name}: points to {what}; {says}{left_at}", "behind" if behind else "alias", alias)


def _versions(
    model: str, wanted: set[str], left: Left | None, seen: Seen, locks: Mapping[str, str]
) -> Iterator[Difference]:
    known = {} if left is None else left.versions
    for version, written in known.items():
        if written.lock_id not in wanted:
            continue  # `prune` may have deleted its files
        name = f"{model} version {version}"
        if version not in seen.tags:
            yield Difference(f"{name}: was deleted", "files", version=version)
            continue
        if seen.fingerprint(version) not in (None, written.fingerprint):
            text = f"{name}: its files are no longer the model of lock {written.lock_id[:12]}"
            yield Difference(text, "files", version=version)
        for tag, value in written.tags.items():
            if written.foreign(tag, now := seen.tags[version].get(tag)):
                text = f"{name}: tag {tag}: {now!r}, it was written as {value!r}"
                yield Difference(text, "tag", version=version)
        if written.next_tags:
            yield Difference(f"{name}: its tags were being written", "behind", version=version)
    for version, tags in seen.tags.items():
        claimed = tags.get(LOCK_TAG, "")
        if version not in known and claimed in wanted - {""} and held(version, left, seen, locks) != claimed:
            text = f"{model} version {version}: its tag says lock {claimed[:12]}, its files are not that lock's model"
            yield Difference(text, "claim", version=version)


def held(version: str, left: Left | None, seen: Seen, locks: Mapping[str, str]) -> str | None:
    """Returns the lock whose model a version is, by its bytes; None if it is no known lock's."""
    if version not in seen.tags:
        return None
    found = seen.fingerprint(version)
    if found is None:  # its files are elsewhere: only what the registry itself says can be compared
        return left.versions[version].lock_id if left is not None and version in left.versions else None
    return locks.get(found)


def _of(lock_id: str | None) -> str:
    return "which is the model of no lock of these moves" if lock_id is None else f"lock {lock_id[:12]}"


def read_left(workspace: Workspace, uri: str) -> dict[str, Left]:
    """Returns each registered model as this workspace left it in a store; none where it never wrote to it."""
    models = _stores(workspace).get(meant_for(workspace, uri), {})
    return {
        name: Left(
            model["aliases"],
            {number: Written(**row) for number, row in model["versions"].items()},
            model.get("next_aliases", {}),
        )
        for name, model in models.items()
    }


def _stores(workspace: Workspace) -> dict[str, Any]:
    """Returns the notes of all stores. Raises IntegrityError where they were changed."""
    return whole(workspace.registry, "registry", "note of the registry") if os.path.lexists(workspace.registry) else {}


def write_left(workspace: Workspace, uri: str, models: Mapping[str, Left]) -> None:
    """Notes how the registry of a store was left."""
    try:
        stores = _stores(workspace)
    except IntegrityError:  # whoever compares says so; what is noted from now on is right
        stores = {}
    stores[meant_for(workspace, uri)] = {name: asdict(left) for name, left in models.items()}
    write_document(workspace.registry, stores)


def at_a_glance(workspace: Workspace, history: Sequence[Move] | None = None) -> list[Difference]:
    """Returns what differs in the workspace's own registry from its moves, read from its database without MLflow.

    `history`: the moves, where they were read already. Empty where the registry is on a server, where this workspace
    never wrote to it, or where nothing was promoted.
    """
    uri = record_uri(workspace)
    history = moves(workspace) if history is None else history
    if uri != own_record(workspace) or not history:
        return []
    lefts = read_left(workspace, uri)
    rows = []
    try:
        for model, left in lefts.items():
            seen = _in_database(workspace, model)
            rows += [*differences(model, targets(history, model), left, seen, left.locks())]
    except sqlite3.Error as error:
        return [Difference(f"{workspace.tracking_database}: cannot be compared with the moves: {error}", "model")]
    return rows


def _in_database(workspace: Workspace, model: str) -> Seen | None:
    """Returns a registered model from MLflow's SQLite database; None if it is not there."""
    path, places = workspace.tracking_database, locations(workspace)
    if not path.is_file():
        return None
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as base:
        if base.execute("select 1 from registered_models where name = ?", [model]).fetchone() is None:
            return None
        aliases = base.execute("select alias, version from registered_model_aliases where name = ?", [model])
        rows = base.execute(
            "select version, coalesce(storage_location, source) from model_versions where name = ? "
            "and current_stage is not 'Deleted_Internal'", [model]
        )  # fmt: skip
        folders = {str(version): _folder(source, base, places) for version, source in rows}
        tags: dict[str, dict[str, str]] = {version: {} for version in folders}
        for version, key, value in base.execute(
            "select version, key, value from model_version_tags where name = ?", [model]
        ):
            if str(version) in tags:  # those of a deleted version stay
                tags[str(version)][key] = value
        return Seen(
            {alias: str(version) for alias, version in aliases}, tags, lambda version: _read(folders.get(version))
        )


def _folder(source: str, base: sqlite3.Connection, places: Locations) -> Path | None:
    """Returns the local folder that a version's source names; None if it is elsewhere."""
    if source.startswith("runs:/"):
        run, _, path = source.removeprefix("runs:/").partition("/")
        row = base.execute("select artifact_uri from runs where run_uuid = ?", [run]).fetchone()
        source = f"{row[0] if row else 'missing:'}/{path}"
    return places.path(source)


def _read(folder: Path | None) -> str | None:
    return None if folder is None else fingerprint(folder)
