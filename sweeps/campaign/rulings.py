"""Rulings: what a person decided while a run of a campaign waited, an answer to a question or a waiver of a check.

A ruling is a file of its own in the run's folder, written once and never changed. It states the place and the question
or check that it is about, so that it counts nowhere else. Where a key is given, the file is signed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.policies import IntegrityError, LaneError, RefusedError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.names import inside
from lanelock.sweeps.campaign.records import Ruling
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.proof.moves import signer_of
from lanelock.sweeps.proof.trust import Trust
from lanelock.sweeps.workspace import write_document

if TYPE_CHECKING:
    from lanelock.sweeps.proof.envelopes import SigningKey

FORMAT = "lanelock.ruling/1"
_SIGNED = "ruling"  # what the signature is over


@dataclass(frozen=True, slots=True)
class Matter:
    """What a ruling is about: the question of a phase, or one of its checks."""

    run: str
    place: int  # the phase's number in the run, from 0
    phase: str
    check: str | None = None  # None: its question

    @property
    def name(self) -> str:
        """The name of the ruling's file."""
        return ".".join(["ruling", f"{self.place:02d}", self.phase, *([self.check] if self.check else []), "json"])

    @property
    def about(self) -> dict[str, Any]:
        """The fields of the file that say so."""
        return {"run": self.run, "place": self.place, "phase": self.phase} | (
            {"check": self.check} if self.check else {}
        )


def write_ruling(
    folder: Path,
    matter: Matter,
    stated: Mapping[str, str],
    who: str,
    why: str,
    key: SigningKey | None,
    trust: Trust,
) -> None:
    """Writes a ruling, signed if there is a key. `stated`: the question and its answer, or what the check showed.

    Raises LaneError if there is one already: what was decided stays decided. Raises RefusedError if the trust asks for
    another signature.
    """
    path = inside(folder, matter.name)
    if (lacking := trust.unmet_by_ruling(None if key is None else trust.known(key.public))) is not None:
        raise RefusedError(f"{matter.run}: {matter.phase}: {lacking}")
    if (before := read_ruling(folder, matter, trust)) is not None:
        raise LaneError(f"{matter.run}: {matter.phase}: decided already by {before[1]}; a ruling is never changed")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    body: dict[str, Any] = {"format": FORMAT, **matter.about, **stated, "who": who, "why": why, "at": at}
    if key is not None:
        from lanelock.sweeps.proof import envelopes  # Ed25519 takes a while, which unsigned rulings need not pay

        body = envelopes.sealed(body, _SIGNED, matter.name, key, trust.known(key.public).name)
    validate(body, shipped_schema("campaign_ruling"), str(path))
    write_document(path, body)


def read_ruling(folder: Path, matter: Matter, trust: Trust) -> tuple[Mapping[str, Any], Ruling] | None:
    """Returns the document of a ruling and who made it; None if nobody did.

    Raises IntegrityError if it was changed, if it is about something else, or if it lacks a signature that holds and
    that the trust asks for.
    """
    path = inside(folder, matter.name)
    if not os.path.lexists(path):
        return None
    document = whole(path, "campaign_ruling", "ruling")
    for field, value in matter.about.items():
        if document.get(field) != value:
            raise IntegrityError(f"{path}: /{field}: states {document.get(field)!r}, it lies beside {value!r}")
    key = signer_of(document, _SIGNED, matter.name, str(path))
    if (lacking := trust.unmet_by_ruling(key)) is not None:
        raise IntegrityError(f"{path}: the ruling was not allowed: {lacking}")
    public = None if key is None else key.public
    return document, Ruling(document["who"], document["why"], document["at"], public)
