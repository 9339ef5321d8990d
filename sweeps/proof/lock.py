"""A lock: an immutable, self-contained record of an accepted (or terminal) candidate.

It carries the candidate's pack, the authority's pack, the lane, the gates, and per seed the digests of
world and surfaces and the whole scorecard. Its id is the SHA-256 of everything else in it. Proving a
lock needs the lock and the installed package, nothing more (and the world folder, where one was brought
in from outside): every digest is computed again, every seed run and scored again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, LanelockError, Pack, PolicyError, pack_of
from lanelock.policies.documents import digest, read_json, shipped, shipped_schema, validate
from lanelock.scoring.scorecard import Scorecard, combine, score
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.decision import Decision
from lanelock.sweeps.lanes.lane import Lane, lane_of
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.workspace import Workspace, write_document

FORMAT = "lanelock.lock/1"
FILE, WORLD = "lock.json", "world"  # a lock that is carried in a folder, and the tables of its world beside it


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a lock states, and whether it was found again."""

    name: str
    ok: bool
    stated: Any
    found: Any


def make_lock(ground: Ground, decision: Decision, sweep: str, runs: Mapping[str, str | None]) -> dict[str, Any]:
    """The lock of a closed sweep.

    The candidate is run again on every seed, with digests; its metrics must be what the sweep recorded.
    Raises IntegrityError where they are not.
    """
    lane, best = ground.lane, decision.best
    pack = lane.start if best is None else lane.candidate(best.values)
    proof = {str(seed): _prove(lane, pack, seed, ground.world) for seed in lane.seeds}
    for seed, recorded in (best.record.measures if best is not None else {}).items():
        if proof[str(seed)]["metrics"] != recorded:
            raise IntegrityError(f"{sweep}: the candidate on seed {seed} does not measure again what was recorded")
    body = {
        "format": FORMAT,
        **decision.as_document(),
        "candidate": "accepted" if decision.outcome == "GO" else "terminal",
        "sweep": sweep,
        "trial": None if best is None else best.number,
        "runs": dict(runs),
        "engine": lane.engine.name,
        "code_version": lane.engine.code_version,
        "lane": dict(lane.document),
        "knobs": {} if best is None else dict(best.values),
        "seeds": list(lane.seeds),
        "pack": carried(pack),
        "authority": {
            **carried(lane.authority),
            "metrics": {str(seed): ground.authority[seed] for seed in lane.seeds},
        },
        "references": {name: carried(pack) for name, pack in lane.references.items()},
        "gates": lane.gates_file,
        "world_source": "drawn" if ground.world is None else "imported",
        "proof": proof,
    }
    lock = {**body, "lock_id": digest(body)}
    validate(lock, shipped_schema("lock"), sweep)
    return lock


def store_lock(lock: Mapping[str, Any], folder: Path) -> Path:
    """Writes a lock under its id, whole or not at all."""
    path = folder / f"{lock['sweep']}.{lock['lock_id'][:12]}.json"
    write_document(path, lock)
    return path


def find_lock(name: str, workspace: Workspace) -> Path:
    """A lock by path, by id (or its beginning), by sweep, by the name of a shipped one, or by a name moved onto one.

    A sweep that was resumed with a larger budget leaves a lock each time; its name stands for the newest.
    """
    if (move := holders(workspace).get(name)) is not None:
        return workspace.promoted / move.to.lock_id / FILE
    path = Path(name)
    if path.is_file():
        return path
    if not re.fullmatch(r"[\w.-]+", name):
        raise PolicyError(f"{name!r}: no lock is named so, and no file is there")
    known = shipped("locks", ".json")
    if name in known:
        return known[name]
    stored = sorted(workspace.locks.glob("*.json"))
    promoted = workspace.promoted.glob(f"*/{FILE}")  # a name is compared, never a pattern of paths
    found = [path for path in stored if _named(path, name)] or [path for path in promoted if path.parent.name == name]
    if len(found) == 1 or (found and all(path.stem.rpartition(".")[0] == name for path in found)):
        return max(found, key=lambda path: path.stat().st_mtime_ns)
    what = "more than one lock is" if found else "no lock is"
    raise PolicyError(f"{name}: {what} named so; known here: {', '.join(path.stem for path in stored) or 'none'}")


def read_lock(path: Path) -> dict[str, Any]:
    """A lock as it stands, held to its schema and its own id. Raises IntegrityError where a byte was changed."""
    try:
        lock: dict[str, Any] = read_json(path)
        validate(lock, shipped_schema("lock"), str(path))
    except PolicyError as error:
        if not path.is_file():
            raise
        raise IntegrityError(f"not a whole lock: {error}") from None
    body = {key: value for key, value in lock.items() if key != "lock_id"}
    if digest(body) != lock["lock_id"]:
        raise IntegrityError(
            f"{path}: /lock_id: the lock states {lock['lock_id']}, its content digests to {digest(body)}"
        )
    return lock


def lane_in(lock: Mapping[str, Any], where: str) -> Lane:
    """The lane a lock was played in, rebuilt from what it carries."""
    return lane_of(lock["lane"], lock["authority"], lock["references"], lock["gates"], where)


def pack_in(lock: Mapping[str, Any], where: str) -> Pack:
    """A lock's candidate. Raises PolicyError where it is not valid under the engine that is installed."""
    return pack_of(lock["pack"]["name"], lock["pack"]["policies"], engine_named(lock["engine"]).policy_schemas, where)


def stated_cards(lock: Mapping[str, Any], lane: Lane) -> tuple[Scorecard, ...]:
    """One a seed of the lane, in its order: what the lane's gates say of the metrics that the lock states."""
    authority = lock["authority"]["metrics"]
    return tuple(
        score(lock["proof"][str(seed)]["metrics"], lane.gates, seed=seed, authority=authority[str(seed)])
        for seed in lane.seeds
    )


def needs_its_world(lock: Mapping[str, Any], world: Path | None, where: str) -> None:
    """Raises PolicyError where a lock stands on a world brought in from outside and none is named."""
    if lock["world_source"] == "imported" and world is None:
        raise PolicyError(f"{where}: the lock stands on a world brought in from outside: name it with --world DIR")


def carry_world(world: Path, folder: Path) -> None:
    """Copies the tables of a world beside a lock in `folder`, so that whoever holds the copy needs nothing else."""
    (folder / WORLD).mkdir()
    for path in sorted(world.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / WORLD / path.name)


def world_beside(folder: Path) -> Path | None:
    """The world that is carried with a lock in `folder`; None where it is drawn."""
    return folder / WORLD if (folder / WORLD).is_dir() else None


def verify_lock(
    path: Path, world: Path | None = None, watch: Callable[[Check], None] = lambda check: None
) -> list[Check]:
    """Every check, in order; the lock holds if all are ok. Never stops at the first difference."""
    lock = read_lock(path)
    checks = []
    for check in _checks(lock, str(path), world):
        watch(check)
        checks.append(check)
    return checks


def _checks(lock: Mapping[str, Any], where: str, world: Path | None) -> Iterator[Check]:
    yield Check("lock_id", True, lock["lock_id"], lock["lock_id"])
    needs_its_world(lock, world, where)
    try:
        lane, pack = lane_in(lock, where), pack_in(lock, where)
        admitted = lane.admit(pack) if lock["knobs"] else {}
    except LanelockError as error:
        yield Check("content", False, "a lane and packs valid under this package", str(error))
        return
    yield _same("pack digest", lock["pack"]["digest"], pack.digest)
    yield _same("authority digest", lock["authority"]["digest"], lane.authority.digest)
    yield _same("pack = authority + fixed fields + knobs", lock["knobs"], admitted)
    if not admitted:
        yield _same("pack = authority + fixed fields", pack.digest, lane.start.digest)
    for seed, stated_card in zip(lane.seeds, stated_cards(lock, lane), strict=True):
        measured = lane.yardstick(seed, world)
        yield _same(f"seed {seed}: authority metrics", lock["authority"]["metrics"][str(seed)], measured)
        stated, found = lock["proof"][str(seed)], _prove(lane, pack, seed, world)
        yield _same(f"seed {seed}: world", stated["world"], found["world"])
        for surface in stated["surfaces"] | found["surfaces"]:
            was, now = stated["surfaces"].get(surface), found["surfaces"].get(surface)
            yield _same(f"seed {seed}: {surface}", was, now)
        yield _same(f"seed {seed}: metrics", stated["metrics"], found["metrics"])
        card = score(found["metrics"], lane.gates, seed=seed, authority=measured).as_document()
        yield _same(f"seed {seed}: scorecard", stated["card"], card)
        yield _same(f"seed {seed}: scorecard of the stated metrics", stated["card"], stated_card.as_document())


def _prove(lane: Lane, pack: Pack, seed: int, world: Path | None) -> dict[str, Any]:
    run = lane.engine.evaluate(pack, seed, world=world, until=lane.until)
    metrics = lane.measure(run)
    card = score(metrics, lane.gates, seed=seed, authority=lane.yardstick(seed, world))
    return {
        "run_id": run.run_id,
        "world": run.world_digest,
        "surfaces": run.digests(),
        "metrics": metrics,
        "card": card.as_document(),
    }


def carried(pack: Pack) -> dict[str, Any]:
    """A pack as a lock or a study carries it, to be read back by `lane_of`."""
    return {"name": pack.name, "digest": pack.digest, "policies": pack.documents()}


def _same(name: str, stated: Any, found: Any) -> Check:
    return Check(name, stated == found, stated, found)


def _named(path: Path, name: str) -> bool:
    sweep, _, short = path.stem.rpartition(".")
    return name in (path.stem, sweep) or (len(name) >= 6 and (name.startswith(short) or short.startswith(name)))


def locked_card(lock: Mapping[str, Any], lane: Lane) -> Scorecard:
    """The worst over the lock's seeds of what it states."""
    return combine(stated_cards(lock, lane), lane.gates)
