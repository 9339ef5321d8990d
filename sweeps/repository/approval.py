"""Whether the people whom the base branch's `trust.json` names have signed what a change brings.

A lock is asked what the trust asks of each alias that it could take by what the repository holds. Where the maker may
not approve, one of those who signed counts as the maker: a person alone never suffices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lanelock.policies import LanelockError
from lanelock.policies.names import ALIASES
from lanelock.sweeps.proof.evidence import verdict_in
from lanelock.sweeps.proof.signatures import signatures_text, signed_by
from lanelock.sweeps.proof.trust import NOBODY, Key, Trust, read_trust
from lanelock.sweeps.repository.documents import TRUST, Documents, text_at
from lanelock.sweeps.repository.git import Change
from lanelock.sweeps.repository.rules import Refusal


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed a lock's file or an evidence pack."""

    path: str
    lock_id: str
    keys: tuple[Key, ...]  # which the trust names, and which count: on a lock, or on evidence that passed
    said: str  # for a person


def trust_in(change: Change) -> Trust:
    """Returns the trust of the branch that a change goes to. Raises PolicyError if it is not valid."""
    if change.trust is None:
        return NOBODY
    with TemporaryDirectory() as folder:
        path = Path(folder, TRUST)
        path.write_bytes(change.trust)
        return replace(read_trust(path), where=f"{TRUST} of the base branch")


def invalid_trust(change: Change) -> Iterator[Refusal]:
    """Yields a refusal of a trust file that the change leaves in a form that no later gate could read."""
    if TRUST in change.touched and TRUST in change.after:
        try:
            read_trust(change.root / TRUST)
        except LanelockError as error:
            yield Refusal(TRUST, str(error).removeprefix(f"{change.root / TRUST}: "))


def signatures(change: Change, after: Documents, ids: Collection[str], trust: Trust) -> Iterator[Signed | Refusal]:
    """Yields who signed the locks of these ids, their copies and their evidence, or why a signature does not hold."""
    for path, stated in sorted({**after.locks, **after.evidence}.items()):
        if (lock_id := text_at(stated, "lock_id")) in ids:
            document = change.root / path
            try:
                keys = signed_by(document, trust)
                counted = keys if path in after.locks or verdict_in(document).passed else ()
                yield Signed(path, lock_id, counted, signatures_text(document, trust))
            except LanelockError as error:  # of a document that was changed, which its own proof says as well
                yield Refusal(path, str(error).replace(f"{change.root}/", ""), integrity=True)


def unapproved(
    brought: Mapping[str, str], after: Documents, signed: Sequence[Signed], trust: Trust
) -> Iterator[Refusal]:
    """Yields the locks without the signatures that the trust asks. `brought`: lock id -> the path to name."""
    certified = {text_at(stated, "lock_id") for stated in after.evidence.values()}
    accepted = {text_at(lock, "lock_id") for lock in after.locks.values() if lock.get("decision") == "GO"}
    for lock_id, path in brought.items():
        keys = [key for row in signed if row.lock_id == lock_id for key in row.keys]
        lacking = (_unmet(alias, keys, trust) for alias in _aliases(lock_id in accepted, lock_id in certified))
        if (why := next(filter(None, lacking), None)) is not None:
            yield Refusal(path, why)


def _aliases(accepted: bool, certified: bool) -> tuple[str, ...]:
    """Returns the aliases that a lock could take, the least first."""
    return ALIASES[:1] if not accepted else ALIASES if certified else ALIASES[:2]


def _unmet(alias: str, keys: Sequence[Key], trust: Trust) -> str | None:
    """Returns what is lacking for an alias; None if it is met with one of the signers as the maker."""
    if alias not in trust.aliases:
        return None
    if not keys:
        return f"{trust.where} asks signatures for {alias}, and nobody whom it names has signed"
    lacking = [trust.unmet(alias, maker, keys) for maker in keys]
    return None if None in lacking else lacking[0]
