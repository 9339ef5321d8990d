"""The model registry as a view of the moves: brought to what the records say, doing it again changes nothing."""

from __future__ import annotations

from filelock import FileLock

from lanelock.sweeps.proof.evidence import certified_on
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.moves import Standing, holders
from lanelock.sweeps.record import notes
from lanelock.sweeps.record.letters import Version
from lanelock.sweeps.record.tracking import Registry
from lanelock.sweeps.workspace import Workspace


def follow(workspace: Workspace) -> dict[str, str]:
    """Brings the model registry to where the records stand; alias -> the version it names.

    Registered models are named after engines. Doing it again changes nothing.
    """

    found = {}
    with FileLock(workspace.registry_lock):
        registry = Registry(workspace)
        for alias, move in sorted(holders(workspace).items()):
            folder = workspace.promoted / move.to.lock_id
            evidence = None if move.to.evidence is None else workspace.evidence / move.to.evidence
            if evidence is not None and not evidence.is_dir():
                evidence = None
            lock = Lock.read(folder / FILE)
            model, tags = model_name(move.to.engine), _tags(lock, move.to)
            inputs = () if evidence is None else tuple(certified_on(lock, evidence))
            told = Version(model, lock, folder, tags, notes.of_version(lock, tags), evidence, inputs)
            found[alias] = registry.version(told)
            registry.point(model, alias, found[alias])
    return found


def model_name(engine: str) -> str:
    """The registered model of an engine's locks: one a segment."""
    return engine.replace("_", "-")


def _tags(lock: Lock, to: Standing) -> dict[str, str]:
    """What a registered version says of its lock."""
    return {
        "lanelock.lock": lock.lock_id,
        "lanelock.sweep": lock.sweep,
        "lanelock.decision": lock.decision,
        "lanelock.verdict": to.verdict,
        "lanelock.evidence": to.evidence or "none",
        "lanelock.pack": lock.candidate_pack.digest,
        "lanelock.parent": lock.authority.digest,
        "lanelock.code": lock.code_version,
        **{f"lanelock.world.{seed}": proof.world for seed, proof in lock.proof.items()},
    }
