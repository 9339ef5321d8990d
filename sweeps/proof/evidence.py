"""Certification of a lock, and the evidence pack by which a third party proves it again, offline.

A pack is one folder:

    lock.json             the candidate as it was locked
    gates.json            what it is graded by: the engine's own gate file, whole
    certification.json    preconditions, cards on the seeds asked for and on seeds held out, cross-seed limits, verdict
    seeds/<seed>.json     per seed: run id, world, digests of all surfaces, metrics
    world/                the tables of the world, where it was brought in from outside
    report.md, .html      the same for people
    index.json            every file above with its SHA-256
    _passed.flag          SHA-256 over the indexed bytes in ASCII order of paths; only where the verdict is a pass

Nothing in it depends on the clock, the host or the workspace: certifying again writes the same bytes. Which seeds
are held out follows from the candidate's digest, so that nobody could have tuned to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import bundle, digests, text_of
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Feeding, Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, Pack, PolicyError
from lanelock.policies.documents import digest, read_json, shipped_schema, validate
from lanelock.scoring.certification import Certification, Precondition, certify, conclude
from lanelock.scoring.gates import GateSet, Verdict, load_gates, parse_gates
from lanelock.scoring.scorecard import MetricSource, Scorecard, score
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.pages.page import as_html, as_markdown
from lanelock.sweeps.proof.certificate import certificate
from lanelock.sweeps.proof.checks import Check, collected, hold, same
from lanelock.sweeps.proof.checks import Watch as Checking
from lanelock.sweeps.proof.lock import Lock, SeedProof
from lanelock.sweeps.proof.lock_files import FILE, carry_world, world_beside
from lanelock.sweeps.workspace import Workspace, writing

FORMAT = "lanelock.evidence/1"
GATES, CERTIFICATION = "gates.json", "certification.json"
INDEX, FLAG = "index.json", "_passed.flag"
_SEED_BITS = 31

Watch = Callable[[Scorecard], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What one seed gave."""

    card: Scorecard
    audited: bool  # no audit of the engine's own failed
    document: Mapping[str, Any]  # run id, world, digests of surfaces, metrics


@dataclass(frozen=True, slots=True)
class Finding:
    """What the proofs of a lock's seeds come to."""

    verdict: Verdict
    reason: str
    graded: Certification
    holdout: Certification | None
    preconditions: tuple[Precondition, ...]

    def as_document(self, lock: Lock, code_version: str) -> dict[str, Any]:
        """JSON under `evidence.schema.json`."""
        document = {
            "format": FORMAT,
            "lock_id": lock.lock_id,
            "sweep": lock.sweep,
            "engine": lock.engine,
            "code_version": code_version,
            "pack": lock.candidate_pack.digest,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "seeds": [card.seed for card in self.graded.cards],
            "holdout_seeds": [] if self.holdout is None else [card.seed for card in self.holdout.cards],
            "preconditions": [asdict(row) for row in self.preconditions],
            "graded": self.graded.as_document(),
            "holdout": None if self.holdout is None else self.holdout.as_document(),
        }
        validate(document, shipped_schema("evidence"), "certification")
        return document


@dataclass(frozen=True, slots=True)
class Certified(Finding):
    """A finding on record, and where the evidence stands."""

    document: Mapping[str, Any]
    folder: Path


def prove(engine: Resolved, metrics: MetricSource, gates: GateSet, pack: Pack, seed: int, world: Path | None) -> Proof:
    """One seed, run to its end, measured over every row, scored."""
    run = engine.evaluate(pack, seed, world=world)
    card = score(metrics.measure(run), gates, seed=seed, authority=None)
    document = {
        "seed": seed,
        "run_id": run.run_id,
        "world": run.world_digest,
        "surfaces": run.digests(),
        "metrics": dict(card.metrics),
    }
    return Proof(card, _audited(run), document)


def held_out(pack_digest: str, count: int, used: Sequence[int]) -> tuple[int, ...]:
    """`count` seeds that follow from a candidate's digest, none of them `used`."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        drawn = hashlib.sha256(f"{pack_digest}/{number}".encode()).digest()
        seed = int.from_bytes(drawn[:4], "big") >> (32 - _SEED_BITS)
        number += 1
        if seed not in found and seed not in used:
            found.append(seed)
    return tuple(found)


def certify_lock(
    path: Path,
    workspace: Workspace,
    *,
    seeds: Sequence[int] | None = None,
    holdout: int = 0,
    world: Path | None = None,
    jobs: int = 1,
    watch: Watch = lambda card: None,
) -> Certified:
    """Grades a lock's candidate by every gate of its engine, and writes the evidence.

    `seeds` default to the lock's. Raises PolicyError on a lock that cannot be run here and on fewer seeds than a grade
    takes, IntegrityError on a lock that was changed or where other evidence stands under the same name.
    """
    lock = Lock.read(path)
    lock.needs_its_world(world, str(path))
    engine, metrics = engine_named(lock.engine), metrics_named(lock.engine)
    gates = load_gates(str(metrics.gates_file))
    pack = lock.pack(str(path))
    asked = tuple(lock.seeds if seeds is None else seeds)
    fresh = held_out(pack.digest, holdout, (*asked, *lock.seeds))
    _enough(gates, "--seeds", len(asked), str(path))
    if holdout:
        _enough(gates, "--holdout-seeds", holdout, str(path))

    def one(seed: int) -> Proof:
        proof = prove(engine, metrics, gates, pack, seed, world)
        watch(proof.card)
        return proof

    with ThreadPoolExecutor(jobs, thread_name_prefix="seed") as workers:
        proofs = dict(zip((*asked, *fresh), workers.map(one, (*asked, *fresh)), strict=True))
    found = _find(lock, pack, gates, proofs, asked, fresh)
    document = found.as_document(lock, engine.code_version)
    folder = _write(workspace, lock, gates, document, proofs, world)
    return Certified(found.verdict, found.reason, found.graded, found.holdout, found.preconditions, document, folder)


def _enough(gates: GateSet, option: str, count: int, where: str) -> None:
    """Refused before anything is run: a seed alone shows no spread, and would fail for that alone."""
    if count < gates.least_seeds:
        limited = ", ".join(gates.cross_seed_metrics)
        raise PolicyError(
            f"{where}: {option}: {count} given, at least {gates.least_seeds} are needed: gates "
            f"{gates.document['id']} limit how far {limited} vary from seed to seed"
        )


def evidence_in(workspace: Workspace) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(folder, certification) of all evidence in the workspace. Raises IntegrityError where one is none."""
    for path in sorted(workspace.evidence.glob(f"*/{CERTIFICATION}")):
        try:
            document: dict[str, Any] = read_json(path)
            validate(document, shipped_schema("evidence"), str(path))
        except PolicyError as error:
            raise IntegrityError(f"not a whole certification: {error}") from None
        yield path.parent, document


def evidence_of(lock_id: str, workspace: Workspace) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, certification) of all evidence on a lock in the workspace, the best verdict first."""
    rows = [row for row in evidence_in(workspace) if row[1]["lock_id"] == lock_id]
    return sorted(rows, key=lambda row: verdict_in(row[0]).rank, reverse=True)


def gates_of(folder: Path) -> GateSet:
    """The gates that a pack carries: those it was graded by."""
    return parse_gates(read_json(folder / GATES), str(folder / GATES))


def verdict_in(folder: Path) -> Verdict:
    """The verdict that a pack states, as its own gates name it. Raises IntegrityError where they have no such name."""
    try:
        return gates_of(folder).verdict(str(read_json(folder / CERTIFICATION).get("verdict")))
    except PolicyError as error:
        raise IntegrityError(f"not a whole certification: {folder / CERTIFICATION}: /verdict: {error}") from None


def certified_on(lock: Lock, folder: Path) -> Iterator[Input]:
    """The data sets that the runs behind an evidence pack stood on: of every seed its world, and what else fed it."""
    engine, kind = engine_named(lock.engine), lock.world_source
    feeds = engine.own.feeds if isinstance(engine.own, Feeding) else {}
    stated = read_json(folder / CERTIFICATION)
    for seed in (*stated["seeds"], *stated["holdout_seeds"]):
        proof = read_json(folder / _seed_file(seed))
        what = f"{'held-out ' if seed in stated['holdout_seeds'] else ''}seed {seed}"
        source = {"seed": seed, "run": proof["run_id"]}
        yield Input(f"seed_{seed}/world", proof["world"], kind, f"certified, {what}", source, {})
        for name, surface in feeds.items():
            yield Input(f"seed_{seed}/{name}", proof["surfaces"][surface], "drawn", f"certified, {what}", source, {})


def find_evidence(name: str, workspace: Workspace) -> Path | None:
    """An evidence pack by its path or its folder's name; None where there is none."""
    for folder in (Path(name), workspace.evidence / name):
        if (folder / INDEX).is_file() or (folder / CERTIFICATION).is_file():
            return folder
    return None


def verify_evidence(folder: Path, watch: Checking = lambda check: None) -> list[Check]:
    """Every digest and every number of an evidence pack, from the pack and the package alone.

    Files against the index and the flag; the lock against its own id; then each seed is run, measured and scored again,
    and the verdict derived again. Where a file is not what the index states, nothing that stands on it is run.
    """
    checks = collected(_filed(folder), watch)
    return checks + (collected(_proved(folder), watch) if all(check.ok for check in checks) else [])


def check_files(folder: Path) -> dict[str, Any]:
    """The certification of a pack whose files are as indexed. Raises IntegrityError where one is not."""
    hold(folder, "evidence", list(_filed(folder)))
    document: dict[str, Any] = read_json(folder / CERTIFICATION)
    return document


def _filed(folder: Path) -> Iterator[Check]:
    """The folder against its index and its flag."""
    try:
        stated = {row["path"]: row["sha256"] for row in read_json(folder / INDEX)["files"]}
    except (PolicyError, KeyError, TypeError) as error:
        yield Check(INDEX, False, "an index of files", str(error))
        return
    found = digests(folder, (INDEX, FLAG))
    for name in sorted(stated.keys() | found.keys()):
        yield Check(name, stated.get(name) == found.get(name), stated.get(name, "nothing"), found.get(name, "missing"))
    if stated != found or CERTIFICATION not in found:
        return
    try:
        passed = verdict_in(folder).passed
    except IntegrityError as error:
        yield Check(CERTIFICATION, False, "a verdict of its gates", str(error))
        return
    index, flag = bundle(stated, lambda name: (folder / name).read_bytes())
    yield Check(INDEX, (folder / INDEX).read_bytes() == text_of(index).encode(), "its one form", "another")
    there = (folder / FLAG).read_bytes().decode(errors="replace") if (folder / FLAG).exists() else None
    yield Check(FLAG, there == (flag if passed else None), there, flag if passed else None)


def _proved(folder: Path) -> Iterator[Check]:
    """The numbers of a pack whose files are as indexed."""
    document, lock = read_json(folder / CERTIFICATION), Lock.read(folder / FILE)
    validate(document, shipped_schema("evidence"), str(folder / CERTIFICATION))
    yield same("lock", document["lock_id"], lock.lock_id)
    engine, metrics = engine_named(lock.engine), metrics_named(lock.engine)
    gates = gates_of(folder)
    yield same("gates", digest(gates.document), digest(load_gates(str(metrics.gates_file)).document))
    pack, world = lock.pack(str(folder / FILE)), world_beside(folder)
    proofs = {}
    for seed in (*document["seeds"], *document["holdout_seeds"]):
        proofs[seed] = prove(engine, metrics, gates, pack, seed, world)
        stated = read_json(folder / _seed_file(seed))
        for part, found in proofs[seed].document.items():
            yield same(f"seed {seed}: {part}", stated.get(part), found)
    expected = held_out(pack.digest, len(document["holdout_seeds"]), (*document["seeds"], *lock.seeds))
    yield same("holdout seeds", document["holdout_seeds"], list(expected))
    again = _find(lock, pack, gates, proofs, document["seeds"], document["holdout_seeds"])
    # Which code found it is on record, not held: other code that finds the same to the last digest proves it as well.
    yield same("certification", digest(document), digest(again.as_document(lock, document["code_version"])))


def _find(
    lock: Lock, pack: Pack, gates: GateSet, proofs: Mapping[int, Proof], asked: Sequence[int],
    fresh: Sequence[int],
) -> Finding:  # fmt: skip
    """Grades the proofs of the seeds asked for and of those held out, where there are any."""
    graded = certify([proofs[seed].card for seed in asked], gates)
    holdout = certify([proofs[seed].card for seed in fresh], gates) if fresh else None
    preconditions = tuple(_preconditions(lock, pack, proofs))
    return Finding(*conclude(graded, holdout, preconditions, gates), graded, holdout, preconditions)


def _preconditions(lock: Lock, pack: Pack, proofs: Mapping[int, Proof]) -> Iterator[Precondition]:
    """What must be so before there is a grade; a failed one leaves none."""
    stated = lock.candidate_pack.digest
    yield Precondition(
        "policies", pack.digest == stated, f"the pack digests to {pack.digest}, the lock states {stated}"
    )
    for seed, proof in proofs.items():
        if seed in lock.proof:
            moved = [*_moved(lock.proof[seed], proof.document)]
            yield Precondition(
                f"lock on seed {seed}", not moved, f"{', '.join(moved) or 'nothing'} is other than the lock states"
            )
    failed = [str(seed) for seed, proof in proofs.items() if not proof.audited]
    yield Precondition("audit", not failed, f"the engine's own audit fails on seeds {', '.join(failed) or 'none'}")


def _moved(stated: SeedProof, found: Mapping[str, Any]) -> Iterator[str]:
    """What a lock states of a seed and is not found again; a lock's lane may have gone less far."""
    if stated.world != found["world"]:
        yield "the world"
    yield from (name for name, sha256 in stated.surfaces.items() if found["surfaces"].get(name) != sha256)
    yield from (name for name, value in stated.metrics.items() if found["metrics"].get(name) != value)


def _write(
    workspace: Workspace, lock: Lock, gates: GateSet, document: Mapping[str, Any],
    proofs: Mapping[int, Proof], world: Path | None,
) -> Path:  # fmt: skip
    """The pack, whole or not at all; the same evidence again is left as it stands."""
    name = f"{lock.name}.{digest(document)[:12]}"
    target, blocks = workspace.evidence / name, tuple(certificate(document, gates.bands))
    texts = {
        FILE: text_of(lock.document),
        GATES: text_of(gates.document),
        CERTIFICATION: text_of(document),
        **{_seed_file(seed): text_of(proof.document) for seed, proof in proofs.items()},
        "report.md": as_markdown(blocks),
        "report.html": as_html(f"{lock.sweep}: {document['verdict']}", blocks),
    }
    with writing(workspace.root), staging(workspace.evidence, name) as folder:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        if world is not None:
            carry_world(world, folder)
        index, flag = bundle(digests(folder), lambda path: (folder / path).read_bytes())
        (folder / INDEX).write_text(text_of(index), encoding="utf-8")
        if gates.verdict(document["verdict"]).passed:  # no pass, no flag
            (folder / FLAG).write_text(flag, encoding="utf-8")
        if not place(folder, target) and digests(folder) != digests(target):
            raise IntegrityError(f"{target}: holds other bytes than this certification gives; it was changed")
    return target


def _seed_file(seed: int) -> str:
    return f"seeds/{seed}.json"


def _audited(run: Run) -> bool:
    """An engine that audits itself must have passed; one that does not has nothing to fail."""
    return run.audit is None or bool(run.audit.passed)
