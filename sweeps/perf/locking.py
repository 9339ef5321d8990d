"""Makes a runtime lock of a comparison that holds, and proves one: what it states follows, or is said to be open.

`verify` recomputes the id, derives everything from the rounds again, runs the pack again on this machine as a round
does, publishes and replays it, and compares all that it gives with what was locked, and the code file by file. Seconds
of that moment nobody can compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, RefusedError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.names import inside
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.page import as_html, as_markdown
from lanelock.sweeps.perf.budgets import budgets_of
from lanelock.sweeps.perf.code_lane import METRICS, Comparison, Measured, Terms, measured_of
from lanelock.sweeps.perf.environments import HERE, this_tree
from lanelock.sweeps.perf.locked_page import locked_page
from lanelock.sweeps.perf.measure import Request, one_round, write_pack
from lanelock.sweeps.perf.tracked import record_measurement
from lanelock.sweeps.proof.checks import Check, Findings, Proved, Unproved, Watch, collected, same
from lanelock.sweeps.proof.runtime_locks import STATUS, RuntimeLock
from lanelock.sweeps.provenance import here, user
from lanelock.sweeps.record.letters import as_text
from lanelock.sweeps.workspace import Workspace, write_document, write_whole, writing

_GIVEN = {  # what is compared of a side, beside its surfaces -> its field
    "run": "run_id", "audit": "audit", "code": "code_version", "replay": "replay", "rows": "rows", "inputs": "inputs",
    "states of surfaces": "states", "metrics": "metrics",
}  # fmt: skip


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
    if comparison.pack.opened(engine.policy_schemas, comparison.name).digest != comparison.candidate.pack:
        return f"it ran another pack than it carries, {comparison.candidate.pack[:12]}"
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
    found = _measured(pack, engine, Terms.of(lock.comparison["terms"]))
    yield same("surfaces", sorted(stated.digests), sorted(found.digests))
    yield from (same(f"surface {name}", sha256, found.digests.get(name)) for name, sha256 in stated.digests.items())
    yield from (same(name, getattr(stated, part), getattr(found, part)) for name, part in _GIVEN.items())
    yield same("states that are timed", sorted(stated.cpu_s), sorted(found.cpu_s))
    yield same("files published", _files(stated), _files(found))
    now = engine.code_files
    yield from (same(f"code {name}", lock.code.get(name), now.get(name)) for name in lock.changed(engine))
    yield Proved(
        f"this code gives {len(found.digests) - 1} surfaces of pack {lock.pack.name} as they were locked"
        f"{', and replays them' * (found.replay == '')}"
    )
    machine = lock.comparison["machine"]
    yield Unproved(
        f"the seconds of every round, which were measured on {machine['processor']} at {lock.comparison['at']}"
    )
    yield Unproved(f"that {lock.comparison['reference']['name']} gave and took what is stated: its code is not run")
    yield Unproved("the budgets, and what it was made with, which were noted when it was locked")
    yield Unproved(f"locked at {lock.at} by {lock.who}: {lock.why}")


def _measured(pack: Pack, engine: Resolved, terms: Terms) -> Measured:
    """Returns what one round of the code that is here gives, in a process of its own."""
    with TemporaryDirectory(prefix="lanelock-verify-") as folder:
        write_pack(pack, engine.name, Path(folder))
        asked = Request(folder, terms.seed, replay=True, metrics=terms.surfaces == METRICS)
        row = one_round(this_tree(), asked)
    return measured_of(HERE, row, [row])


def _files(side: Measured) -> int | None:
    return None if side.published is None else side.published["files"]
