"""Signatures on locks, freezes and evidence packs: an envelope beside the document, its name with `.dsse` at the end.

What is signed is a statement that follows from the document (`statement_of`): which document it is, what it was made
from and what it concludes. Neither the document nor its id changes. An evidence pack is signed by its index, beside its
folder, which is a closed list of files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.proof.envelopes import SigningKey, key_ids, merged, signed, signers, statement
from lanelock.sweeps.proof.evidence import GATES, INDEX, check_files
from lanelock.sweeps.proof.freezes import Freeze, is_freeze
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.trust import Key, Trust
from lanelock.sweeps.workspace import folder_locked, write_whole


def beside(document: Path) -> Path:
    """Returns the file that holds the signatures on a lock's file or an evidence folder."""
    return document.with_name(f"{document.name}.dsse")


def statement_of(document: Path) -> bytes:
    """Returns the statement about a lock, a freeze or an evidence folder. Raises IntegrityError if it was changed."""
    if document.is_dir():
        return _of_evidence(document)
    return _of_freeze(Freeze.read(document)) if is_freeze(document) else _of_lock(Lock.read(document))


def _of_freeze(freeze: Freeze) -> bytes:
    materials = [_material(f"pack/{freeze.pack.name}", freeze.pack.digest), _material("gates", freeze.gates["digest"])]
    if freeze.lock is not None:
        materials.append(_material("lock", freeze.lock["lock_id"]))
    if freeze.evidence is not None:
        materials.append(_material("evidence", freeze.evidence["index"]))
    return statement(
        "freeze",
        f"{freeze.run}.json",
        freeze.freeze_id,
        {
            "freeze": freeze.freeze_id,
            "engine": {"name": freeze.engine, "code": freeze.code_version},
            "materials": materials,
            "result": {"status": freeze.status, "reason": freeze.reason},
        },
    )


def _of_lock(lock: Lock) -> bytes:
    materials = [
        _material(f"pack/{lock.candidate_pack.name}", lock.candidate_pack.digest),
        _material(f"authority/{lock.authority.name}", lock.authority.digest),
        _material("gates", digest(lock.gates)),
    ]
    return statement(
        "lock",
        f"{lock.name}.json",
        lock.lock_id,
        {
            "lock": lock.lock_id,
            "lane": {"id": lock.lane_document["id"], "sha256": digest(lock.lane_document)},
            "engine": {"name": lock.engine, "code": lock.code_version},
            "materials": materials,
            "result": {"decision": lock.decision, "verdict": lock.verdict, "reason": lock.reason},
        },
    )


def _of_evidence(folder: Path) -> bytes:
    stated = check_files(folder)
    materials = [
        _material("lock", stated["lock_id"]),
        _material("pack", stated["pack"]),
        _material("gates", digest(read_json(folder / GATES))),
    ]
    result = {name: stated[name] for name in ("verdict", "reason", "claim") if name in stated}
    return statement(
        "evidence",
        INDEX,
        file_digest(folder / INDEX),
        {
            "lock": Lock.read(folder / FILE).lock_id,
            "engine": {"name": stated["engine"], "code": stated["code_version"]},
            "materials": materials,
            "result": result,
        },
    )


def _material(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def signed_by(document: Path, trust: Trust) -> tuple[Key, ...]:
    """Returns the trusted keys that signed a lock's file or an evidence folder.

    Raises IntegrityError if the envelope is over something else, or if a trusted key's signature does not hold.
    """
    if (envelope := _read(document)) is None:
        return ()
    return signers(envelope, statement_of(document), trust.keys, str(beside(document)))


def signatures_text(document: Path, trust: Trust) -> str:
    """Returns who signed a lock's file or an evidence folder, for a person. Raises as `signed_by` does."""
    known = signed_by(document, trust)
    ids = {key.key_id for key in known}
    strangers = [
        f"key {other[:12]} ({trust.where} does not name it)" for other in _key_ids(document) if other not in ids
    ]
    return f"signed by {', '.join([*map(str, known), *strangers])}" if known or strangers else "unsigned"


def _key_ids(document: Path) -> tuple[str, ...]:
    envelope = _read(document)
    return () if envelope is None else key_ids(envelope, str(beside(document)))


def sign(document: Path, key: SigningKey) -> bool:
    """Adds a signature on a lock's file or an evidence folder; returns False if the key has signed it already.

    Whoever calls this has verified the document. Raises IntegrityError if it, or its envelope, was changed.
    """
    payload, path, own = statement_of(document), beside(document), Key("", key.public)
    with folder_locked(path.parent):
        envelope = _read(document)
        if envelope is not None and signers(envelope, payload, [own], str(path)):
            return False
        write_whole(path, text_of(signed(payload, key, envelope)))
    return True


def approvals_of(*documents: Path) -> tuple[dict[str, Any], ...]:
    """Returns the envelopes beside these documents, one per statement. Raises IntegrityError for any other envelope."""
    found: dict[bytes, dict[str, Any]] = {}
    for document in documents:
        if (envelope := _read(document)) is not None:
            payload = statement_of(document)
            signers(envelope, payload, (), str(beside(document)))
            found[payload] = merged(found.get(payload, envelope), envelope)
    return tuple(found.values())


def carry_signatures(envelopes: tuple[Mapping[str, Any], ...], document: Path) -> None:
    """Writes beside a copy of a lock the signatures on it that are among `envelopes`."""
    payload = statement_of(document)
    for envelope in envelopes:
        if _is_over(envelope, payload):
            write_whole(beside(document), text_of(dict(envelope)))


def _is_over(envelope: Mapping[str, Any], payload: bytes) -> bool:
    try:
        signers(envelope, payload, (), "")
    except IntegrityError:
        return False
    return True


def _read(document: Path) -> Any:
    """Returns the envelope beside a document, or None. Raises IntegrityError if it is not JSON."""
    path = beside(document)
    if not os.path.lexists(path):
        return None
    try:
        return read_json(path)
    except PolicyError as error:
        raise IntegrityError(f"not a whole envelope: {error}") from None
