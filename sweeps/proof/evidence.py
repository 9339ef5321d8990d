"""Certification of a lock, and the evidence pack with which a third party proves it again, offline.

A pack is one folder and a closed list of files:

    lock.json             the candidate as it was locked
    gates.json            the gates of the engine, by which it is graded
    certification.json    preconditions, cards on the seeds asked for and on seeds held out, cross-seed limits, verdict
                          and claim
    seeds/<seed>.json     per seed: run id, world, digests of all surfaces, metrics
    world/                the tables of the world, if it was imported
    report.md, .html      the certification as a page
    made_by.json          by which package, machine and user; no part of what is proved, nor of the pack's name
    index.json            every file above with its SHA-256
    _passed.flag          SHA-256 over the indexed bytes in ASCII order of paths; only if the verdict is a pass

Nothing else in it depends on the clock, the host or the workspace: certifying again writes the same bytes, and `verify`
writes them again to compare. A file more or less, a link or anything that is no file is refused.

`sweeps.proof.grading` runs and grades; `sweeps.proof.weighing` says which of several packs counts for a lock.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lanelock.engine.keep.receipts import bundle, digests, file_digest, text_of, write_json
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Feeding
from lanelock.policies import EngineError, IntegrityError, LanelockError, PolicyError, WorkspaceError
from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.policies.errors import cause
from lanelock.policies.names import ALIASES, inside, is_name, path_named
from lanelock.scoring.certification import CONFIDENCE, Claim, seeds_for
from lanelock.scoring.gates import GateSet, Verdict, parse_gates
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.pages.page import as_html, as_markdown
from lanelock.sweeps.proof.certificate import certificate
from lanelock.sweeps.proof.checks import Check, Findings, Proved, Unproved, Watch, collected, hold, same, whole
from lanelock.sweeps.proof.freezes import hold_gates
from lanelock.sweeps.proof.grading import FORMAT, Examination, Finding, Proof
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, WORLD, carry_world, world_beside
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.proof.whole import other_files
from lanelock.sweeps.provenance import Provenance, here
from lanelock.sweeps.workspace import Workspace, writing

GATES, CERTIFICATION, MADE_BY = "gates.json", "certification.json", "made_by.json"
INDEX, FLAG = "index.json", "_passed.flag"
REPORT = "report.md"
_SEEDS, _PAGE = "seeds", "report.html"
_ALWAYS = (FILE, GATES, CERTIFICATION, MADE_BY, REPORT, _PAGE, INDEX)
_BY_MAKER = (MADE_BY, INDEX, FLAG)  # the files that may differ where another certified the same
_FILE, _FOLDER, _LINK, _OTHER = "a file", "a folder", "a link", "neither file nor folder"
_JOBS = min(os.cpu_count() or 1, 4)  # runs at once where nobody says how many: each may take gigabytes


@dataclass(frozen=True, slots=True)
class Certified(Finding):
    """A finding with its written evidence."""

    document: Mapping[str, Any] = field(kw_only=True)
    folder: Path = field(kw_only=True)


def certify_lock(
    path: Path,
    workspace: Workspace,
    *,
    seeds: Sequence[int] | None = None,
    profile: str | None = None,
    holdout: int = 0,
    confidence: float = CONFIDENCE,
    coverage: float | None = None,
    world: Path | None = None,
    jobs: int = 1,
    watch: Callable[[Scorecard], None] = lambda card: None,
) -> Certified:
    """Grades a lock's candidate by every gate of its engine, and writes the evidence.

    `seeds` default to those of `profile`; without one, to those of the engine's strongest profile and of the lock.
    With `coverage` (percent) as many held-out seeds are run as a claim of it needs, and none after the first that
    fails. Raises PolicyError for a lock that cannot be run here and for fewer seeds than a grade needs; RefusedError if
    the engine is frozen under another gate file; IntegrityError for a lock that was changed, or if other evidence of
    the same name exists.
    """
    lock = Lock.read(path)
    examined = Examination.of(lock, world, str(path))
    hold_gates(workspace, examined.engine.name, examined.gates.document)
    asked = _asked(lock, examined.gates, seeds, profile)
    count = holdout if coverage is None else max(holdout, seeds_for(confidence, coverage))
    _enough(examined.gates, "--seeds", len(asked), str(path))
    if count:
        _enough(examined.gates, "--holdout-seeds", count, str(path))
    proofs = dict[int, Proof]()
    try:
        for seed, proof in examined.runs(asked, examined.holdout_seeds(asked, count), jobs):
            proofs[seed] = proof
            watch(proof.card)
            if coverage is not None and not _may_hold(examined, proofs, asked):
                break
    except (LanelockError, MemoryError) as error:
        if not isinstance(error, EngineError):
            raise
        raise PolicyError(f"{path}: its candidate cannot be run on every seed: {error}") from error
    except Exception as error:  # whatever else the engine raises
        raise PolicyError(f"{path}: its candidate cannot be run on every seed: {cause(error)}") from error
    finding = examined.conclude(proofs, asked, confidence)
    document = finding.as_document(lock, examined.engine.code_version)
    folder = _write(workspace, examined, document, proofs)
    return Certified(
        finding.verdict, finding.reason, finding.graded, finding.holdout, finding.preconditions, finding.claim,
        finding.profile, document=document, folder=folder,
    )  # fmt: skip


def _asked(lock: Lock, gates: GateSet, seeds: Sequence[int] | None, profile: str | None) -> tuple[int, ...]:
    """Returns the seeds to grade on: the given ones, a profile's, or the strongest profile's with the lock's."""
    if seeds is not None:
        return tuple(seeds)
    if profile is not None:
        return gates.profile(profile).seeds
    required = () if gates.strongest is None else gates.strongest.seeds
    return tuple(dict.fromkeys((*required, *lock.seeds)))


def _may_hold(examined: Examination, proofs: Mapping[int, Proof], asked: Sequence[int]) -> bool:
    """Whether something can still be claimed after these seeds, the last of which has just been run."""
    if len(proofs) < len(asked):
        return True
    if len(proofs) == len(asked):
        return examined.conclude(proofs, asked, CONFIDENCE).verdict.passed
    return list(proofs.values())[-1].holds


def _enough(gates: GateSet, option: str, count: int, where: str) -> None:
    """Raises PolicyError, before anything runs, for too few seeds to show how far a metric varies."""
    if count < gates.least_seeds:
        limited = ", ".join(gates.cross_seed_limits)
        raise PolicyError(
            f"{where}: {option}: {count} given, at least {gates.least_seeds} are needed: gates "
            f"{gates.document['id']} limit how far {limited} vary from seed to seed"
        )


def evidence_in(workspace: Workspace) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields (folder, certification) of all evidence here. Raises IntegrityError for an invalid certification."""
    for path in sorted(workspace.evidence.glob(f"[!.]*/{CERTIFICATION}")):  # a dot: being written, or removed
        yield path.parent, whole(path, "evidence", "certification")


def evidence_name(lock: Lock, sha256: str) -> str:
    """Returns the name of the folder of a lock's certification, whose file has this digest."""
    return f"{lock.name}.{sha256[:12]}"


def gates_of(folder: Path) -> GateSet:
    """Returns the gates in an evidence pack, by which it was graded."""
    return parse_gates(read_json(folder / GATES), str(folder / GATES))


def verdict_in(folder: Path) -> Verdict:
    """Returns the verdict that a pack states. Raises IntegrityError for a name that its own gates do not have."""
    document = whole(folder / CERTIFICATION, "evidence", "certification")
    try:
        return gates_of(folder).verdict(document["verdict"])
    except PolicyError as error:
        raise IntegrityError(f"not a whole certification: {folder / CERTIFICATION}: /verdict: {error}") from None


def seed_in(path: Path) -> dict[str, Any]:
    """Returns what a pack states of one seed. Raises IntegrityError where its file is not whole."""
    return whole(path, "evidence_seed", "seed of a certification")


def claim_in(document: Mapping[str, Any]) -> Claim | None:
    """Returns the claim that a certification states."""
    return None if document.get("claim") is None else Claim(**document["claim"])


def certified_on(lock: Lock, folder: Path) -> Iterator[Input]:
    """Yields the data sets behind an evidence pack: for every seed its world, and the surfaces that fed it."""
    engine, kind = engine_named(lock.engine), lock.world_source
    feeds = engine.own.feeds if isinstance(engine.own, Feeding) else {}
    stated = whole(folder / CERTIFICATION, "evidence", "certification")
    for seed in (*stated["seeds"], *stated["holdout_seeds"]):
        proof = seed_in(folder / _seed_file(seed))
        what = f"certified, {'held-out ' if seed in stated['holdout_seeds'] else ''}seed {seed}"
        source = {"seed": seed, "run": proof["run_id"]}
        yield Input(f"seed_{seed}/world", proof["world"], kind, what, source, {})
        for name, surface in feeds.items():
            yield Input(f"seed_{seed}/{name}", proof["surfaces"][surface], "drawn", what, source, {})


def find_evidence(name: str, workspace: Workspace) -> Path | None:
    """Returns the evidence pack with this path or folder name, or None."""
    stored = inside(workspace.evidence, name) if is_name(name) and name not in ALIASES else None
    for folder in filter(None, (path_named(name), stored)):
        if (folder / INDEX).is_file() or (folder / CERTIFICATION).is_file():
            return folder
    return None


def verify_evidence(
    folder: Path, watch: Watch = lambda check: None, *, with_lock: bool = True, jobs: int = _JOBS
) -> Findings:
    """Checks every file and number of an evidence pack, from the pack and the package alone.

    Compares the files with the closed list, the index and the flag; then runs, measures and scores each seed again,
    derives verdict and claim, and writes every file again to compare its bytes; then verifies the lock in it. Nothing
    is run if the files are not as listed. `with_lock` is false where the same lock is verified beside it.
    """
    found = collected(_filed(folder), watch)
    if found.ok:
        found += collected(_proved(folder, jobs), watch)
    if found.ok and with_lock:
        found += _of_lock(verify_lock(folder / FILE, world_beside(folder), watch))
    return found


def _of_lock(found: Findings) -> Findings:
    """Returns what was found of the lock in a pack, told apart from what was found of the pack."""
    checks = tuple(replace(check, name=f"lock: {check.name}") for check in found)
    proved, not_proved = ([f"lock: {row}" for row in rows] for rows in (found.proved, found.not_proved))
    return Findings(checks, tuple(proved), tuple(not_proved))


def check_files(folder: Path) -> dict[str, Any]:
    """Returns the certification of a pack. Raises IntegrityError if a file differs from the index."""
    hold(folder, "evidence", list(_filed(folder)))
    document: dict[str, Any] = read_json(folder / CERTIFICATION)
    return document


def _filed(folder: Path) -> Iterator[Check]:
    """Compares the folder with the list of files that its documents ask for, with its index and its flag."""
    entries = dict(_entries(folder))
    if strange := {name: kind for name, kind in entries.items() if kind in (_LINK, _OTHER)}:
        yield from (Check(name, False, "a file or a folder", kind) for name, kind in strange.items())
        return
    try:
        listed, passed = _closed(folder, entries)
    except LanelockError as error:
        yield Check(CERTIFICATION, False, "a certification with its lock and gates", str(error))
        return
    if others := sorted(name for name in listed | entries if listed.get(name) != entries.get(name)):
        for name in others:
            yield Check(name, False, listed.get(name, "nothing: a pack is a closed list"), entries.get(name, "nothing"))
        return
    files, stated = digests(folder, (INDEX, FLAG)), _indexed(folder)
    for name in sorted(files | stated):
        yield same(name, stated.get(name, "nothing"), files.get(name, "nothing"))
    index, flag = bundle(files, lambda name: (folder / name).read_bytes())
    yield Check(INDEX, _bytes(folder / INDEX) == text_of(index).encode(), "its one form", "another")
    wanted = flag.encode() if passed else None
    yield Check(FLAG, _bytes(folder / FLAG) == wanted, "as its verdict asks", "another, or where there is none to be")


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields (relative path, what it is) of everything below a folder. Follows no link and opens nothing."""
    left = [folder]
    while left:
        for entry in os.scandir(left.pop()):
            path = Path(entry.path)
            name = os.fsencode(path.relative_to(folder)).decode(errors="backslashreplace")
            if entry.is_symlink():
                yield name, _LINK
            elif entry.is_dir():
                yield name, _FOLDER
                left.append(path)
            else:
                yield name, _FILE if entry.is_file() else _OTHER


def _closed(folder: Path, entries: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """Returns what must lie in a pack by its documents, as `_entries` says it, and whether its verdict is a pass.

    The names of an imported world's tables are the engine's to say: `_proved` compares them.
    """
    document, lock = whole(folder / CERTIFICATION, "evidence", "certification"), Lock.read(folder / FILE)
    validate(read_json(folder / MADE_BY), shipped_schema("lock")["properties"]["made_by"], str(folder / MADE_BY))
    passed, imported = verdict_in(folder).passed, lock.world_source == "imported"
    seeds = (_seed_file(seed) for seed in (*document["seeds"], *document["holdout_seeds"]))
    tables = (name for name in entries if imported and re.fullmatch(rf"{WORLD}/[\w.-]+", name, re.ASCII))
    files = dict.fromkeys((*_ALWAYS, *seeds, *tables, *((FLAG,) if passed else ())), _FILE)
    return files | dict.fromkeys((_SEEDS, WORLD) if imported else (_SEEDS,), _FOLDER), passed


def _indexed(folder: Path) -> dict[str, str]:
    """Returns the index as it is stated, to name what differs; empty where it is not an index."""
    try:
        return {str(row["path"]): str(row["sha256"]) for row in read_json(folder / INDEX)["files"]}
    except (PolicyError, KeyError, TypeError):
        return {}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _proved(folder: Path, jobs: int) -> Iterator[Check | Proved | Unproved]:
    """Proves a pack again, whose files are as the index states."""
    document, lock = read_json(folder / CERTIFICATION), Lock.read(folder / FILE)
    yield same("format", document["format"], FORMAT)
    if document["format"] != FORMAT:  # of an earlier version: certify the lock again
        return
    try:
        examined = Examination.of(lock, world_beside(folder), str(folder / FILE))
    except LanelockError as error:
        yield Check("lock", False, "a lock that can be run under this package", str(error))
        return
    yield same("lock", document["lock_id"], lock.lock_id)
    own = gates_of(folder).document == examined.gates.grading
    yield Check("gates", own, "those of the installed engine", "those of the engine" if own else "others")
    asked, fresh = document["seeds"], document["holdout_seeds"]
    expected = list(examined.holdout_seeds(asked, len(fresh)))
    yield same("holdout seeds", fresh, expected)
    if fresh != expected:
        return
    proofs = dict[int, Proof]()
    try:
        other = other_files(read_json(folder / MADE_BY))
        for seed, proof in examined.runs(asked, fresh, jobs):
            stated = read_json(folder / _seed_file(seed))
            if other and isinstance(stated, dict) and "bundle" in stated.keys() & proof.document.keys():
                proof = replace(proof, document={**proof.document, "bundle": stated["bundle"]})
                yield Unproved(f"the files that it publishes on seed {seed}: {other}")
            proofs[seed] = proof
            for part, computed in proof.document.items():
                yield same(f"seed {seed}: {part}", stated.get(part) if isinstance(stated, dict) else None, computed)
    except (IntegrityError, WorkspaceError, MemoryError):
        raise
    except Exception as error:  # whatever the engine raises
        yield Check("runs", False, "a run on every seed", cause(error))
        return
    claim = document.get("claim")
    finding = examined.conclude(proofs, asked, CONFIDENCE if claim is None else claim["confidence"])
    again = finding.as_document(lock, document["code_version"])
    for name, computed in again.items():
        yield same(name, document.get(name), computed)
    for name, text in _texts(examined, again, proofs).items():
        yield same(f"{name}, written again", file_digest(folder / name), hashlib.sha256(text.encode()).hexdigest())
    if examined.world is not None:
        stated = sorted(path.name for path in examined.world.iterdir())
        yield same("tables of its world", stated, _tables(examined, examined.world))
    claimed = "" if finding.claim is None else f"; {finding.claim}"
    yield Proved(f"numbers recomputed on {len(asked)} seeds and {len(fresh)} held out; verdict derived{claimed}")
    yield from _unproved(folder, document, examined)


def _unproved(folder: Path, document: Mapping[str, Any], examined: Examination) -> Iterator[Unproved]:
    """Yields what a pack states and nobody can prove from it."""
    yield Unproved(f"made by {Provenance(**read_json(folder / MADE_BY))}")
    if (code := document["code_version"]) != examined.engine.code_version:
        yield Unproved(f"made by engine code {code[:12]}: {examined.engine.code_version[:12]} is installed")
    yield Unproved("that no other certification of this lock fell short: promote weighs those of its workspace")
    if examined.world is not None:
        yield Unproved("where the tables of its world came from")


def _tables(examined: Examination, world: Path) -> list[str]:
    """Returns the names of the files that the engine writes for the imported world."""
    with TemporaryDirectory() as scratch:
        carry_world(examined.lock, world, Path(scratch))
        return sorted(path.name for path in Path(scratch, WORLD).iterdir())


def _texts(examined: Examination, document: Mapping[str, Any], proofs: Mapping[int, Proof]) -> dict[str, str]:
    """Returns every file of a pack except the index, the flag and an imported world."""
    blocks = tuple(certificate(document, examined.gates.bands))
    return {
        FILE: text_of(examined.lock.document),
        GATES: text_of(examined.gates.grading),
        CERTIFICATION: text_of(document),
        **{_seed_file(seed): text_of(proof.document) for seed, proof in proofs.items()},
        REPORT: as_markdown(blocks),
        _PAGE: as_html(f"{document['sweep']}: {document['verdict']}", blocks),
    }


def _write(
    workspace: Workspace, examined: Examination, document: Mapping[str, Any], proofs: Mapping[int, Proof]
) -> Path:
    """Writes the pack, whole or not at all. The same evidence, if already there, is left alone."""
    texts = _texts(examined, document, proofs)
    name = evidence_name(examined.lock, hashlib.sha256(texts[CERTIFICATION].encode()).hexdigest())
    target = inside(workspace.evidence, name)
    with writing(workspace.root), staging(workspace.evidence, name) as folder:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
        write_json(folder / MADE_BY, here().document)
        if examined.world is not None:
            carry_world(examined.lock, examined.world, folder)
        index, flag = bundle(digests(folder), lambda path: (folder / path).read_bytes())
        (folder / INDEX).write_text(text_of(index), encoding="utf-8")
        if examined.gates.verdict(document["verdict"]).passed:  # no pass, no flag
            (folder / FLAG).write_text(flag, encoding="utf-8")
        if not place(folder, target) and digests(folder, _BY_MAKER) != digests(target, _BY_MAKER):
            raise IntegrityError(f"{target}: holds other bytes than this certification gives; it was changed")
    return target


def _seed_file(seed: int) -> str:
    return f"{_SEEDS}/{seed}.json"
