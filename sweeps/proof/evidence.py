"""Certification of a lock, and the evidence pack with which a third party proves it again, offline.

A pack is one folder:

    lock.json             the candidate as it was locked
    gates.json            the engine's whole gate file, by which it is graded
    certification.json    preconditions, cards on the seeds asked for and on seeds held out, cross-seed limits, verdict
    seeds/<seed>.json     per seed: run id, world, digests of all surfaces, metrics
    world/                the tables of the world, if it was imported
    report.md, .html      the certification as a page
    index.json            every file above with its SHA-256
    _passed.flag          SHA-256 over the indexed bytes in ASCII order of paths; only if the verdict is a pass

Nothing in it depends on the clock, the host or the workspace: certifying again writes the same bytes. The held-out
seeds follow from the candidate's digest, so nobody could have tuned to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import bundle, digests, text_of
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Feeding
from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, Pack, PolicyError
from lanelock.policies.documents import digest, read_json, shipped_schema, validate
from lanelock.scoring.certification import Certification, Precondition, certify, conclude
from lanelock.scoring.gates import GateSet, Verdict, load_gates, parse_gates
from lanelock.scoring.scorecard import MetricSource, Scorecard, score
from lanelock.sweeps.decision.confirmation import fresh_seeds
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.pages.page import as_html, as_markdown
from lanelock.sweeps.proof.certificate import certificate
from lanelock.sweeps.proof.checks import Check, Findings, Watch, collected, hold, same, whole
from lanelock.sweeps.proof.lock import Lock, SeedProof
from lanelock.sweeps.proof.lock_files import FILE, carry_world, world_beside
from lanelock.sweeps.workspace import Workspace, writing

FORMAT = "lanelock.evidence/1"
GATES, CERTIFICATION = "gates.json", "certification.json"
INDEX, FLAG = "index.json", "_passed.flag"


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of one seed."""

    card: Scorecard
    audited: bool  # the engine's own audit passed, or it has none
    document: Mapping[str, Any]  # run id, world, digests of surfaces, metrics


@dataclass(frozen=True, slots=True)
class Finding:
    """The conclusion from the proofs of a lock's seeds."""

    verdict: Verdict
    reason: str
    graded: Certification
    holdout: Certification | None
    preconditions: tuple[Precondition, ...]

    def as_document(self, lock: Lock, code_version: str) -> dict[str, Any]:
        """Returns JSON under `evidence.schema.json`."""
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
    """A finding with its written evidence."""

    document: Mapping[str, Any]
    folder: Path


def prove(engine: Resolved, metrics: MetricSource, gates: GateSet, pack: Pack, seed: int, world: Path | None) -> Proof:
    """Runs one seed to the last state, measures every row and scores it."""
    run = engine.evaluate(pack, seed, world=world)
    card = score(metrics.measure(run), gates, seed=seed, authority=None)
    document = {
        "seed": seed,
        "run_id": run.run_id,
        "world": run.world_digest,
        "surfaces": run.digests(),
        "metrics": dict(card.metrics),
    }
    return Proof(card, run.audit is None or bool(run.audit.passed), document)


def certify_lock(
    path: Path,
    workspace: Workspace,
    *,
    seeds: Sequence[int] | None = None,
    holdout: int = 0,
    world: Path | None = None,
    jobs: int = 1,
    watch: Callable[[Scorecard], None] = lambda card: None,
) -> Certified:
    """Grades a lock's candidate by every gate of its engine, and writes the evidence.

    `seeds` default to the lock's. Raises PolicyError for a lock that cannot be run here and for fewer seeds than a
    grade needs; IntegrityError for a lock that was changed, or if other evidence of the same name exists.
    """
    lock = Lock.read(path)
    lock.needs_its_world(world, str(path))
    engine, metrics = engine_named(lock.engine), metrics_named(lock.engine)
    gates = load_gates(str(metrics.gates_file))
    pack = lock.pack(str(path))
    asked = tuple(lock.seeds if seeds is None else seeds)
    fresh = fresh_seeds(pack.digest, holdout, (*asked, *lock.seeds))
    _enough(gates, "--seeds", len(asked), str(path))
    if holdout:
        _enough(gates, "--holdout-seeds", holdout, str(path))

    def prove_seed(seed: int) -> Proof:
        proof = prove(engine, metrics, gates, pack, seed, world)
        watch(proof.card)
        return proof

    with ThreadPoolExecutor(jobs, thread_name_prefix="seed") as workers:
        proofs = dict(zip((*asked, *fresh), workers.map(prove_seed, (*asked, *fresh)), strict=True))
    finding = _find(lock, pack, gates, proofs, asked, fresh)
    document = finding.as_document(lock, engine.code_version)
    folder = _write(workspace, lock, gates, document, proofs, world)
    return Certified(
        finding.verdict, finding.reason, finding.graded, finding.holdout, finding.preconditions, document, folder
    )


def _enough(gates: GateSet, option: str, count: int, where: str) -> None:
    """Raises PolicyError, before anything runs, for too few seeds to show how far a metric varies."""
    if count < gates.least_seeds:
        limited = ", ".join(gates.cross_seed_metrics)
        raise PolicyError(
            f"{where}: {option}: {count} given, at least {gates.least_seeds} are needed: gates "
            f"{gates.document['id']} limit how far {limited} vary from seed to seed"
        )


def evidence_in(workspace: Workspace) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields (folder, certification) of all evidence here. Raises IntegrityError for an invalid certification."""
    for path in sorted(workspace.evidence.glob(f"*/{CERTIFICATION}")):
        yield path.parent, whole(path, "evidence", "certification")


def evidence_of(lock_id: str, workspace: Workspace) -> list[tuple[Path, dict[str, Any]]]:
    """Returns (folder, certification) of all evidence here for a lock, the best verdict first."""
    rows = [row for row in evidence_in(workspace) if row[1]["lock_id"] == lock_id]
    return sorted(rows, key=lambda row: verdict_in(row[0]).rank, reverse=True)


def gates_of(folder: Path) -> GateSet:
    """Returns the gates in an evidence pack, by which it was graded."""
    return parse_gates(read_json(folder / GATES), str(folder / GATES))


def verdict_in(folder: Path) -> Verdict:
    """Returns the verdict that a pack states. Raises IntegrityError for a name that its own gates do not have."""
    try:
        return gates_of(folder).verdict(str(read_json(folder / CERTIFICATION).get("verdict")))
    except PolicyError as error:
        raise IntegrityError(f"not a whole certification: {folder / CERTIFICATION}: /verdict: {error}") from None


def certified_on(lock: Lock, folder: Path) -> Iterator[Input]:
    """Yields the data sets behind an evidence pack: for every seed its world, and the surfaces that fed it."""
    engine, kind = engine_named(lock.engine), lock.world_source
    feeds = engine.own.feeds if isinstance(engine.own, Feeding) else {}
    stated = read_json(folder / CERTIFICATION)
    for seed in (*stated["seeds"], *stated["holdout_seeds"]):
        proof = read_json(folder / _seed_file(seed))
        what = f"certified, {'held-out ' if seed in stated['holdout_seeds'] else ''}seed {seed}"
        source = {"seed": seed, "run": proof["run_id"]}
        yield Input(f"seed_{seed}/world", proof["world"], kind, what, source, {})
        for name, surface in feeds.items():
            yield Input(f"seed_{seed}/{name}", proof["surfaces"][surface], "drawn", what, source, {})


def find_evidence(name: str, workspace: Workspace) -> Path | None:
    """Returns the evidence pack with this path or folder name, or None."""
    for folder in (Path(name), workspace.evidence / name):
        if (folder / INDEX).is_file() or (folder / CERTIFICATION).is_file():
            return folder
    return None


def verify_evidence(folder: Path, watch: Watch = lambda check: None) -> Findings:
    """Checks every digest and number of an evidence pack, from the pack and the package alone.

    Compares files with the index and the flag, and the lock with its own id; then runs, measures and scores each seed
    again and derives the verdict again. If a file differs from the index, nothing is run.
    """
    files = collected(_filed(folder), watch)
    return files + collected(_proved(folder), watch) if files.ok else files


def check_files(folder: Path) -> dict[str, Any]:
    """Returns the certification of a pack. Raises IntegrityError if a file differs from the index."""
    hold(folder, "evidence", list(_filed(folder)))
    document: dict[str, Any] = read_json(folder / CERTIFICATION)
    return document


def _filed(folder: Path) -> Iterator[Check]:
    """Compares the folder with its index and its flag."""
    try:
        stated = {row["path"]: row["sha256"] for row in read_json(folder / INDEX)["files"]}
    except (PolicyError, KeyError, TypeError) as error:
        yield Check(INDEX, False, "an index of files", str(error))
        return
    present = digests(folder, (INDEX, FLAG))
    for name in sorted(stated.keys() | present.keys()):
        yield Check(
            name, stated.get(name) == present.get(name), stated.get(name, "nothing"), present.get(name, "missing")
        )
    if stated != present or CERTIFICATION not in present:
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
    """Proves the numbers of a pack again; its files are as the index states."""
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
        for part, computed in proofs[seed].document.items():
            yield same(f"seed {seed}: {part}", stated.get(part), computed)
    expected = fresh_seeds(pack.digest, len(document["holdout_seeds"]), (*document["seeds"], *lock.seeds))
    yield same("holdout seeds", document["holdout_seeds"], list(expected))
    again = _find(lock, pack, gates, proofs, document["seeds"], document["holdout_seeds"])
    # The code version is stated, not checked: other code that gives the same digests proves the pack as well.
    yield same("certification", digest(document), digest(again.as_document(lock, document["code_version"])))


def _find(
    lock: Lock, pack: Pack, gates: GateSet, proofs: Mapping[int, Proof], asked: Sequence[int], fresh: Sequence[int]
) -> Finding:
    """Grades the proofs of the seeds asked for, and of the held-out seeds if there are any."""
    graded = certify([proofs[seed].card for seed in asked], gates)
    holdout = certify([proofs[seed].card for seed in fresh], gates) if fresh else None
    preconditions = tuple(_preconditions(lock, pack, proofs))
    return Finding(*conclude(graded, holdout, preconditions, gates), graded, holdout, preconditions)


def _preconditions(lock: Lock, pack: Pack, proofs: Mapping[int, Proof]) -> Iterator[Precondition]:
    """Yields the preconditions; if one fails, there is no grade."""
    stated = lock.candidate_pack.digest
    same_pack = f"the pack digests to {pack.digest}, the lock states {stated}"
    yield Precondition("policies", pack.digest == stated, same_pack)
    for seed, proof in proofs.items():
        if seed in lock.proof:
            moved = [*_moved(lock.proof[seed], proof.document)]
            differs = f"{', '.join(moved) or 'nothing'} is other than the lock states"
            yield Precondition(f"lock on seed {seed}", not moved, differs)
    failed = [str(seed) for seed, proof in proofs.items() if not proof.audited]
    yield Precondition("audit", not failed, f"the engine's own audit fails on seeds {', '.join(failed) or 'none'}")


def _moved(stated: SeedProof, computed: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs from a lock's statements about a seed; its lane may have stopped at an earlier state."""
    if stated.world != computed["world"]:
        yield "the world"
    yield from (name for name, sha256 in stated.surfaces.items() if computed["surfaces"].get(name) != sha256)
    yield from (name for name, value in stated.metrics.items() if computed["metrics"].get(name) != value)


def _write(
    workspace: Workspace,
    lock: Lock,
    gates: GateSet,
    document: Mapping[str, Any],
    proofs: Mapping[int, Proof],
    world: Path | None,
) -> Path:
    """Writes the pack, whole or not at all. The same evidence, if already there, is left alone."""
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
