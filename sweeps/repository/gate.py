"""The gate: reads a change, holds it to the rules, and proves what it impacts.

What runs is the installed package and the installed engines. Of the repository only documents are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, LanelockError, pack_of
from lanelock.policies.errors import cause
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.page import Block
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.checks import Findings
from lanelock.sweeps.proof.evidence import verify_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import world_beside
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.repository.approval import Signed, invalid_trust, signatures, trust_in, unapproved
from lanelock.sweeps.repository.differences import Difference, differences, scorecard_difference
from lanelock.sweeps.repository.documents import LOCK, TRUST, Documents, documents_in, folder_of, text_at
from lanelock.sweeps.repository.git import Change, read_change
from lanelock.sweeps.repository.impact import Impact, impacted
from lanelock.sweeps.repository.rules import Refusal, Sides, refusals


@dataclass(frozen=True, slots=True)
class Proof:
    """An impacted document after it was proved again."""

    impact: Impact
    checks: int
    refused: Refusal | None
    not_proved: tuple[str, ...] = ()
    card: tuple[Block, ...] = ()  # its scorecard beside that of the lock that was there


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate says of a change."""

    base: str  # commit
    proofs: tuple[Proof, ...]
    refused: tuple[Refusal, ...]
    differs: tuple[Difference, ...]
    signed: tuple[Signed, ...]  # the documents that the change brings, and their copies

    @property
    def ok(self) -> bool:
        return not self.refused

    @property
    def exit_code(self) -> int:
        return 3 if any(row.integrity for row in self.refused) else 0 if self.ok else 1

    @property
    def not_proved(self) -> Iterator[Difference]:
        """Yields what the proved documents state and nobody can prove here."""
        return (Difference(proof.impact.path, text) for proof in self.proofs for text in proof.not_proved)

    def as_document(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "base": self.base,
            "impacted": [
                {**asdict(proof.impact), "checks": proof.checks, "ok": proof.refused is None} for proof in self.proofs
            ],
            "refused": [asdict(row) for row in self.refused],
            "differs": [asdict(row) for row in self.differs],
            "signatures": [{"path": row.path, "by": row.said} for row in self.signed],
            "not_proved": [{"path": row.path, "statement": row.what} for row in self.not_proved],
        }


Watch = Callable[[Impact], None]


def gate(folder: Path, ref: str | None = None, watch: Watch = lambda impact: None) -> Gated:
    """Returns what the rules and the proofs say of the change from `ref` to the working tree of a repository.

    `watch` is shown each document before it is proved. Raises PolicyError for an unknown `ref`.
    """
    change = read_change(folder, ref)
    before, after = documents_in(change.before), documents_in(change.after)
    trusted = TRUST in change.touched
    impacts = impacted(before, after, change.touched, _code(after), trusted)
    sides = Sides(before, after, change.touched, frozenset(change.after), _merged(change))
    verified = dict[tuple[str, Path | None], Findings]()  # copies of a lock are proved once
    proofs = [_proved(impact, change, before, verified, watch) for impact in impacts]
    trust, brought = trust_in(change), _brought(impacts, after)
    held = [*signatures(change, after, brought, trust)]
    signed = [row for row in held if isinstance(row, Signed)]
    found = (
        *_links(change), *_converted(change), *refusals(sides, impacts), *_invalid_packs(change, after),
        *invalid_trust(change),
        *(proof.refused for proof in proofs if proof.refused),
        *(row for row in held if isinstance(row, Refusal)), *unapproved(brought, after, signed, trust),
    )  # fmt: skip
    differs = (*differences(before, after), *((Difference(TRUST, "changed; it holds once merged"),) if trusted else ()))
    return Gated(change.base, tuple(proofs), tuple(dict.fromkeys(found)), differs, tuple(signed))


def _brought(impacts: Sequence[Impact], after: Documents) -> dict[str, str]:
    """Returns the id of each lock that a change brings, or brings evidence or signatures of -> its first path."""
    stated = {**after.evidence, **after.locks}
    rows = sorted((row for row in impacts if row.brought), key=lambda row: (row.kind != LOCK, row.path), reverse=True)
    return {text_at(stated[row.path], "lock_id"): row.path for row in rows}


def _code(after: Documents) -> dict[str, str]:
    """Returns the code version of each installed engine that a lock names."""
    versions = {}
    for name in {str(lock.get("engine")) for lock in after.locks.values()}:
        try:
            versions[name] = engine_named(name).code_version
        except LanelockError:  # not installed, which proving the lock says
            continue
    return versions


def _merged(change: Change) -> Mapping[str, Any]:
    """Returns the packs as they will be once the change is merged."""
    files = {**change.after, **change.meanwhile}
    return documents_in({path: data for path, data in files.items() if data is not None}).packs


def _invalid_packs(change: Change, after: Documents) -> Iterator[Refusal]:
    """Yields the touched packs that their engine's schemas do not allow, or whose engine is not installed."""
    for folder, pack in after.packs.items():
        if any(folder_of(path) == folder for path in change.touched):
            try:
                pack_of(folder, pack.policies, engine_named(pack.engine).policy_schemas)
            except LanelockError as error:
                yield Refusal(folder, str(error).removeprefix(f"{folder}: "))


def _links(change: Change) -> Iterator[Refusal]:
    for path in sorted(change.links):
        if path.endswith(".json") or path in change.before:
            yield Refusal(path, "it is a link: a document is a file of the repository", integrity=True)


def _converted(change: Change) -> Iterator[Refusal]:
    """Yields the files whose text git keeps and does not lay here: what is proved must be what is merged."""
    for path in sorted(change.converted):
        yield Refusal(path, "git keeps another text of it than it lays here, by .gitattributes", integrity=True)


def _proved(
    impact: Impact, change: Change, before: Documents, verified: dict[tuple[str, Path | None], Findings], watch: Watch
) -> Proof:
    """Proves a document again. An engine that fails on it refuses it, and never ends the gate."""
    watch(impact)
    path = change.root / impact.path
    try:
        if impact.kind != LOCK:
            return _concluded(impact, verify_evidence(path))
        lock = Lock.read(path)
        engine_named(lock.engine)  # raises if it is not installed, which is no fault of the lock
        world = world_beside(path.parent) if lock.world_source == "imported" else None
        if (lock.lock_id, world) not in verified:
            verified[lock.lock_id, world] = verify_lock(path, world)
        card = tuple(scorecard_difference(impact.path, before.locks.get(impact.path), lock))
        return _concluded(impact, verified[lock.lock_id, world], card if impact.path in change.touched else ())
    except IntegrityError as error:
        return Proof(impact, 0, Refusal(impact.path, _short(error, impact, change), integrity=True))
    except LanelockError as error:
        return Proof(impact, 0, Refusal(impact.path, f"it cannot be proved here: {_short(error, impact, change)}"))
    except Exception as error:  # whatever the engine raises
        return Proof(impact, 0, Refusal(impact.path, f"it cannot be proved: {cause(error)}", integrity=True))


def _concluded(impact: Impact, findings: Findings, card: tuple[Block, ...] = ()) -> Proof:
    failed = [check for check in findings if not check.ok]
    if not failed:
        return Proof(impact, len(findings), None, findings.not_proved, card)
    first = failed[0]
    why = f"{first.name}: stated {short(first.stated)}, found {short(first.found)}"
    more = f" ({len(failed)} of {len(findings)} checks differ)"
    return Proof(impact, len(findings), Refusal(impact.path, why + more, integrity=True), (), card)


def _short(error: LanelockError, impact: Impact, change: Change) -> str:
    """Returns an error's message with paths relative to the repository, and without the document's own."""
    return str(error).replace(f"{change.root}/", "").removeprefix(f"{impact.path}: ")
