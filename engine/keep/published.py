"""Published runs of any engine: a folder `<runs>/<run_id>`, written whole or not at all, that a receipt answers for.

Every engine's receipt is `run_receipt.json` and states, beside what the engine adds: `engine`, `run_id`, `seed`,
`parameter_hash` (the pack's digest), `manifest_fingerprint` (the world's), `code_version`, `states`, `surfaces` and
`files` (each file's SHA-256 by its path). Nothing of it depends on the clock, the host, a path or an order of work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import digests, read_receipt, write_receipt
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Replayed, Run
from lanelock.policies import IntegrityError, PolicyError

RECEIPT = "run_receipt.json"
Write = Callable[[Run, Path], None]  # every file of a run below a folder, the receipt last


def published(name: str, runs: Path) -> Path | None:
    """Returns the folder of a published run by its id or its path; None where there is none."""
    by_id = runs / name
    if Path(name).name == name and not name.startswith(".") and by_id.is_dir():
        return by_id  # whatever it still holds: what is missing is for `verify` to say
    return Path(name) if (Path(name) / RECEIPT).is_file() else None


def run_folder(name: str, runs: Path) -> Path:
    """Returns the folder of a published run. Raises PolicyError naming those that are there."""
    folder = published(name, runs)
    if folder is None:
        known = sorted(path.name for path in runs.glob("[0-9a-f]*"))
        raise PolicyError(f"{name}: no such run in {runs} (published: {', '.join(known) or 'none'})")
    return folder


def engine_of(folder: Path) -> str:
    """Returns the name of the engine that published a run. Raises IntegrityError where its receipt does not hold."""
    return str(read_receipt(folder / RECEIPT).get("engine"))


def seal(run: Run, folder: Path) -> None:
    """Writes the receipt of a run over the files that stand in `folder`."""
    body = {
        "engine": run.engine,
        "run_id": run.run_id,
        "seed": run.seed,
        "parameter_hash": run.pack.digest,
        "manifest_fingerprint": run.world_digest,
        "code_version": run.code_version,
        "states": [
            {"name": state.name, "key": state.key, "rows": state.rows, "address": state.address} for state in run.states
        ],
        "surfaces": list(run.surfaces),
    }
    write_receipt(folder / RECEIPT, {**body, "files": digests(folder, (RECEIPT,))})


def publish_whole(run: Run, runs: Path, write: Write) -> Path:
    """Publishes a run below `runs`; its folder. Raises IntegrityError where other bytes were published before."""
    target = runs / run.run_id
    with staging(runs, run.run_id) as staged:
        write(run, staged)
        differing = differences(staged, target) if target.exists() or not place(staged, target) else []
        if differing:
            count = len(differing)
            raise IntegrityError(f"{target / differing[0]}: published before with other bytes ({count} files differ)")
    return target


def file_faults(folder: Path, receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (file, what is wrong) of every file that is not as the receipt states."""
    stated, there = receipt["files"], digests(folder, (RECEIPT,))
    for name in sorted(stated.keys() | there.keys()):
        if name not in there:
            yield name, f"missing, the receipt states sha256 {stated[name]}"
        elif stated.get(name) != there[name]:
            yield name, f"sha256 {there[name]}, the receipt states {stated.get(name, 'nothing')}"


def compare_again(again: Run, folder: Path, scratch: Path, write: Write) -> Replayed:
    """Writes a run that was executed again below `scratch`, and compares every file with those in `folder`."""
    with staging(scratch, again.run_id) as staged:
        write(again, staged)
        return Replayed(len(digests(staged)), tuple(differences(staged, folder)))


def differences(ours: Path, theirs: Path) -> list[str]:
    """Returns the files below either folder that are not the same below both, in ASCII order."""
    new, old = digests(ours), digests(theirs)
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
