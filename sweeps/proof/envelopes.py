"""Envelopes: Ed25519 signatures in DSSE envelopes over in-toto statements, made and checked by securesystemslib.

A statement says which document is signed (by its digest) and repeats what the document states. It is derived from the
document, so an envelope over anything else, such as one copied from another document, does not fit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # it has no __all__

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import digest, parse_json, shipped_schema, validate
from lanelock.policies.files import read_bytes
from lanelock.sweeps.proof.trust import Key, Trust

_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
KINDS = {
    kind: f"urn:lanelock:{kind}:v1" for kind in ("lock", "evidence", "move", "head", "freeze", "reopen", "ruling")
}  # predicate types


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, in memory."""

    signer: CryptoSigner

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Returns the key in a PEM file (PKCS #8, without a password). Raises PolicyError for anything else."""
        try:
            private = load_pem_private_key(read_bytes(path, 1 << 20), password=None)
        except OSError as error:
            raise PolicyError(f"{path}: the key cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):  # their messages may quote the file
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise PolicyError(
                f"{path}: not an Ed25519 private key without a password; make one with: lanelock key make"
            )
        return cls(CryptoSigner(private))

    @classmethod
    def make(cls, path: Path) -> SigningKey:
        """Writes a new key that only its owner may read. Raises PolicyError if the file exists."""
        key = cls(CryptoSigner.generate_ed25519())
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise PolicyError(f"{path}: there is a key already; it is never overwritten: give another name") from None
        with os.fdopen(handle, "wb") as file:
            file.write(key.signer.private_bytes)
        return key

    @property
    def public(self) -> str:
        return str(self.signer.public_key.keyval["public"])


def statement(kind: str, name: str, sha256: str, predicate: Mapping[str, Any]) -> bytes:
    """Returns an in-toto statement in canonical form (RFC 8785). `kind` is a key of `KINDS`."""
    subject = {"name": name, "digest": {"sha256": sha256}}
    body: Any = {"_type": _STATEMENT, "subject": [subject], "predicateType": KINDS[kind], "predicate": dict(predicate)}
    return rfc8785.dumps(body)


def signed(payload: bytes, key: SigningKey, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the envelope `document` with one more signature, or a new envelope."""
    envelope = Envelope(payload, _PAYLOAD, {}) if document is None else Envelope.from_dict(deepcopy(dict(document)))
    envelope.sign(key.signer)
    return dict(envelope.to_dict())


def signers(document: Any, payload: bytes, keys: Iterable[Key], where: str) -> tuple[Key, ...]:
    """Returns those of `keys` that signed. Raises IntegrityError if the envelope is not over `payload`.

    Also raises it if one of these keys' signatures does not hold. Signatures by other keys say nothing.
    """
    envelope = _opened(document, where)
    if envelope.payload != payload:
        raise IntegrityError(f"{where}: the signatures are over something else than the document beside them states")
    return tuple(key for key in keys if _signed_by(envelope, key, where))


def key_ids(document: Any, where: str) -> tuple[str, ...]:
    """Returns the ids of all keys in an envelope, known or not; nothing says that their signatures hold."""
    return tuple(_opened(document, where).signatures)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one envelope with the signatures of two over the same statement."""
    rows = {row["keyid"]: row for row in (*second["signatures"], *first["signatures"])}
    return {**first, "signatures": list(rows.values())}


def approvers(envelopes: Iterable[Any], lock_id: str, trust: Trust, where: str) -> list[Key]:
    """Returns the trusted keys that signed a lock or evidence of it. Raises IntegrityError for any other envelope."""
    found = list[Key]()
    for document in envelopes:
        payload = _opened(document, where).payload
        if not _approves(payload, lock_id):
            raise IntegrityError(f"{where}: /approvals: not over the lock {lock_id[:12]} or its evidence")
        found += signers(document, payload, trust.keys, where)
    return found


def sealed(body: Mapping[str, Any], kind: str, name: str, key: SigningKey, signer: str) -> dict[str, Any]:
    """Returns a record that carries who signed it (`signer` is the key's name) and the signature."""
    body = {**body, "signed_by": {"name": signer, "public": key.public}}
    return {**body, "envelope": signed(statement(kind, name, digest(body), {}), key)}


def sealed_by(document: Mapping[str, Any], kind: str, name: str, where: str) -> Key | None:
    """Returns the key that signed a record; None if it is not signed. Raises IntegrityError if it does not hold."""
    if "signed_by" not in document and "envelope" not in document:
        return None
    body = {field: value for field, value in document.items() if field != "envelope"}
    try:
        key = Key(document["signed_by"]["name"], document["signed_by"]["public"])
        stated, payload = document["envelope"], statement(kind, name, digest(body), {})
    except KeyError as error:
        missing = error.args[0]
        raise IntegrityError(f"{where}: /{missing}: missing, though the other part of a signature is there") from None
    except PolicyError as error:
        raise IntegrityError(f"{where}: {error}") from None
    if signers(stated, payload, [key], where) != (key,):
        raise IntegrityError(f"{where}: /envelope: not signed by the key in /signed_by")
    return key


def _approves(payload: bytes, lock_id: str) -> bool:
    """Returns whether a statement is one about a lock or its evidence; a move's, signed by the same key, is not."""
    try:
        stated = parse_json(payload, "statement")
        return stated["predicateType"] in (KINDS["lock"], KINDS["evidence"]) and stated["predicate"]["lock"] == lock_id
    except (PolicyError, KeyError, TypeError, ValueError):
        return False


def _opened(document: Any, where: str) -> Envelope:
    """Returns an envelope in its one form. Raises IntegrityError for anything else."""
    try:
        validate(document, shipped_schema("envelope"), where)
        envelope = Envelope.from_dict(deepcopy(document))
    except (PolicyError, ValueError) as error:  # ValueError: not base64, or a key twice
        raise IntegrityError(f"not a whole envelope: {where}: {str(error).removeprefix(f'{where}: ')}") from None
    if envelope.to_dict() != document:
        raise IntegrityError(f"not a whole envelope: {where}: not in the one form of base64")
    return envelope


def _signed_by(envelope: Envelope, key: Key, where: str) -> bool:
    signature = envelope.signatures.get(key.key_id)
    if signature is None:
        return False
    try:
        SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.public}).verify_signature(signature, envelope.pae())
    except UnverifiedSignatureError:
        raise IntegrityError(f"{where}: the signature of {key} does not hold") from None
    return True
