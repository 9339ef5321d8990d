"""Which certification of a lock counts, where there are several: a rule, so that nobody can pick.

Of the evidence in a workspace that is graded by the gates of the installed engine:

1. Whatever falls short of the verdict that is asked for stands against the candidate, whatever else was certified: by
   the same code against every lock of the same pack, since a lock with another word in it has another id.
2. Otherwise the lock's most demanding certification counts: of the strongest profile; then one that leaves out no seed
   of the lock; then the most held-out seeds; then the greatest coverage claimed; then the most seeds asked for.

Evidence on seeds that meet no profile is invalid, which says nothing of the candidate: its grades are weighed instead,
so that a failure stands against the candidate and a pass counts for nothing.

Runs are deterministic, so a certification that fell short falls short again: it is never outvoted by other seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import file_digest
from lanelock.policies import IntegrityError
from lanelock.scoring.gates import GateSet, Verdict
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.proof.evidence import (
    CERTIFICATION,
    MADE_BY,
    check_files,
    claim_in,
    evidence_in,
    evidence_name,
    gates_of,
)
from lanelock.sweeps.proof.grading import BUNDLE, FORMAT, REQUIRED, SPEC
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an evidence pack states of a lock; not yet proved."""

    folder: Path
    verdict: Verdict  # of its grades alone, where no required seeds were asked for
    left_out: tuple[int, ...]  # seeds of the lock that it was not asked for
    holdout_seeds: int
    coverage: float  # percent, of its claim; 0 without one
    seeds: int  # asked for
    own: bool = True  # of this lock; False: of another lock of the same candidate
    profile: str | None = None
    strength: int = 0  # of the profile among those of the gates, from 1; 0: it meets none

    @property
    def demand(self) -> tuple[int, bool, int, float, int, str]:
        """Ascends with what was asked of the candidate."""
        return self.strength, not self.left_out, self.holdout_seeds, self.coverage, self.seeds, self.folder.name


def counting(evidence: Sequence[Evidence], asked: Verdict) -> Evidence | None:
    """Returns the certification that counts for a name that asks for a verdict; None without any."""
    short = [row for row in evidence if row.verdict.rank < asked.rank]
    own = [row for row in evidence if row.own]
    return max(short or own, key=lambda row: row.demand, default=None)


def evidence_of(lock: Lock, workspace: Workspace, gates: GateSet) -> tuple[Evidence, ...]:
    """Returns the evidence here for a lock that is graded by these gates.

    Raises IntegrityError for evidence of it that was edited or renamed: what failed does not go away like that.
    """
    return tuple(_of(lock, workspace, gates))


def _of(lock: Lock, workspace: Workspace, gates: GateSet) -> Iterator[Evidence]:
    for folder, document in evidence_in(workspace):
        name = evidence_name(lock, file_digest(folder / CERTIFICATION))
        own = _concerns(lock, folder, document["lock_id"])
        if not (own or _of_its_candidate(lock, document)):
            continue
        named, earlier = folder.name == name or not own, document["format"] != FORMAT
        if earlier and named and not (folder / MADE_BY).exists():
            continue  # of an earlier version, which wrote no such file
        check_files(folder)
        if earlier:
            raise IntegrityError(f"{folder}: states {document['format']}, and was not written by that version")
        if own and (document["lock_id"] != lock.lock_id or folder.name != name):
            raise IntegrityError(f"{folder}: the certification of lock {document['lock_id']} is not named {name}")
        if gates.grades_as(gates_of(folder).document):
            left_out = tuple(seed for seed in lock.seeds if seed not in document["seeds"])
            claim, fresh = claim_in(document), document["holdout_seeds"]
            coverage = 0.0 if claim is None else claim.coverage
            profile: str | None = document.get("profile")
            strength = 0 if profile is None else 1 + [*gates.profiles].index(profile)
            yield Evidence(
                folder, _graded(document, gates), left_out, len(fresh), coverage, len(document["seeds"]), own, profile,
                strength,
            )  # fmt: skip


def _concerns(lock: Lock, folder: Path, lock_id: str) -> bool:
    """Whether a pack states that it is of this lock, or is named as if it were."""
    return lock_id == lock.lock_id or folder.name.startswith(f"{lock.name}.")


def _of_its_candidate(lock: Lock, document: Mapping[str, Any]) -> bool:
    """Whether a certification of another lock grades the same candidate by the same code, as that lock states it."""
    engine = engine_named(lock.engine)
    graded = document["engine"], document["pack"], document["code_version"]
    same = graded == (engine.name, lock.candidate_pack.digest, engine.code_version)
    return same and all(row["ok"] for row in document["preconditions"] if row["name"] not in (REQUIRED, SPEC, BUNDLE))


def _graded(document: Mapping[str, Any], gates: GateSet) -> Verdict:
    """Returns the verdict of a certification; of its grades, if only the seeds that it asked for make it invalid."""
    unmet = [row["name"] for row in document["preconditions"] if not row["ok"]]
    if unmet != [REQUIRED]:
        return gates.verdict(document["verdict"])
    grades = (grade for grade in (document["graded"], document["holdout"]) if grade is not None)
    return min((gates.verdict(grade["verdict"]) for grade in grades), key=lambda verdict: verdict.rank)
