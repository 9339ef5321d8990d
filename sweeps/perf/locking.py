"""Makes a runtime lock of a comparison that holds, and proves one: what it states follows, or is said to be open.

`verify` recomputes the id, derives everything from the rounds again, runs the pack again on this machine, and compares
run, surfaces and audit with what was locked, and the code file by file. Seconds of that moment nobody can compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lanelock.engine.resolved import Resolved
from lanelock.policies import RefusedError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.names import inside
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.page import as_html, as_markdown
from lanelock.sweeps.perf.budgets import budgets_of
from lanelock.sweeps.perf.code_lane import WORLD, Comparison
from lanelock.sweeps.perf.locked_page import locked_page
from lanelock.sweeps.perf.tracked import record_measurement
from lanelock.sweeps.proof.checks import Check, Findings, Proved, Unproved, Watch, collected, same
from lanelock.sweeps.proof.runtime_locks import STATUS, RuntimeLock
from lanelock.sweeps.proof.whole import audit_of
from lanelock.sweeps.provenance import here, user
from lanelock.sweeps.record.letters import as_text
from lanelock.sweeps.workspace import Workspace, write_document, write_whole, writing


def lock_runtime(
    comparison: Comparison, engine: Resolved, workspace: Workspace, why: str, *, track: bool = True
) -> Path:
    """Writes the runtime lock of a comparison, with its pages, and returns its path.

    Raises RefusedError for a comparison that does not hold, or whose code is not what is here now.
    """
    if why_not := _refusal(comparison, engine):
        raise RefusedError(f"{comparison.name} is not locked: {why_not}")
    lock = RuntimeLock(
        name=comparison.name, engine=engine.name, at=datetime.now(UTC).isoformat(timespec="seconds"), who=user(),
        why=why, code=engine.code_files, budgets=_budgets(engine), made_by=here().document,
        comparison=comparison.document,
    )  # fmt: skip
    path = inside(workspace.runtime_locks, f"{lock.name}.json")
    if path.is_file():
        raise RefusedError(f"{lock.name} is locked already, in {path}")
    validate(lock.document, shipped_schema("runtime_lock"), str(path))
    blocks = tuple(locked_page(lock))
    with writing(workspace.root):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path.with_suffix(".md"), as_markdown(blocks), synced=False)
        write_whole(path.with_suffix(".html"), as_html(lock.name, blocks), synced=False)
    write_document(path, lock.document)
    if track:
        files = {"runtime_lock.json": as_text(lock.document), "runtime_lock.html": as_html(lock.name, blocks)}
        _track(lock, comparison, files, workspace)
    return path


def _refusal(comparison: Comparison, engine: Resolved) -> str:
    """Returns why a comparison may not be locked; empty if it may."""
    if not comparison.derived.holds:
        return comparison.derived.reason
    if comparison.candidate.code_version != engine.code_version:
        return f"it ran code {comparison.candidate.code_version[:12]}, here is {engine.code_version[:12]}"
    return ""


def _budgets(engine: Resolved) -> dict[str, Any] | None:
    """Returns target and limit of each state, in seconds, as they are pinned for an engine; None without any."""
    pinned = budgets_of(engine.name)
    return None if pinned is None else {state: asdict(budget) for state, budget in pinned.states.items()}


def _track(lock: RuntimeLock, comparison: Comparison, files: Mapping[str, str], workspace: Workspace) -> None:
    """Records a lock for MLflow: its seconds as metrics, its documents as artifacts."""
    found, side = comparison.derived, comparison.candidate
    metrics = {f"processor_seconds/{row.state}": row.after.value for row in found.gains}
    metrics |= {f"saved_seconds/{row.state}": row.saved.value for row in found.gains}
    tags = {
        "lanelock.kind": "runtime_lock", "lanelock.lock": lock.runtime_id, "lanelock.status": STATUS,
        "lanelock.decision": found.outcome, "lanelock.reason": found.reason[:5000], "lanelock.pack": side.pack,
        "lanelock.code": side.code_version,
    }  # fmt: skip
    note = f"**{STATUS}** {lock.name}: {found.reason}.\n"
    record_measurement(workspace, lock.engine, f"{lock.name}-locked", note, metrics, tags, files)


def verify_runtime(path: Path, watch: Watch = lambda check: None) -> Findings:
    """Returns every check of a runtime lock. Raises IntegrityError if its own id is wrong."""
    lock = RuntimeLock.read(path)
    found = collected(_stated(lock), watch)
    return found + collected(_again(lock, engine_named(lock.engine)), watch) if found.ok else found


def _stated(lock: RuntimeLock) -> Iterator[Check]:
    """Yields whether everything that it states of its rounds follows from them, and whether it holds."""
    again = Comparison.of(lock.comparison)
    for name, value in again.document.items():
        yield same(f"comparison: {name}", lock.comparison[name], value)
    yield same("comparison: holds", True, again.derived.holds)
    yield same("engine and name", (lock.engine, lock.name), (again.engine, again.name))
    yield same("pack", lock.pack.digest, again.candidate.pack)


def _again(lock: RuntimeLock, engine: Resolved) -> Iterator[Check | Proved | Unproved]:
    """Yields whether the pack, run again here, gives what was locked, and whether the code is as it was."""
    stated = Comparison.of(lock.comparison).candidate
    pack = lock.pack.opened(engine.policy_schemas, lock.name)
    yield same("pack digest", lock.pack.digest, pack.digest)
    run = engine.evaluate(pack, lock.comparison["terms"]["seed"])
    found = {**run.digests(), WORLD: run.world_digest}
    yield same("run", stated.run_id, run.run_id)
    yield same("surfaces", sorted(stated.digests), sorted(found))
    yield from (same(f"surface {name}", sha256, found.get(name)) for name, sha256 in stated.digests.items())
    yield same("audit", stated.audit, audit_of(run))
    yield same("code", stated.code_version, engine.code_version)
    now = engine.code_files
    yield from (same(f"code {name}", lock.code.get(name), now.get(name)) for name in lock.changed(engine))
    yield Proved(f"this code gives {len(found) - 1} surfaces of pack {lock.pack.name} as they were locked")
    machine = lock.comparison["machine"]
    yield Unproved(
        f"the seconds of every round, which were measured on {machine['processor']} at {lock.comparison['at']}"
    )
    if (before := lock.comparison["reference"])["code_version"] != stated.code_version:
        yield Unproved(f"that {before['name']} gave and took what is stated: its code is not here")
    yield Unproved(f"locked at {lock.at} by {lock.who}: {lock.why}")
