"""Published runs of any engine: folders `<runs>/<run_id>`, each written whole or not at all, with a receipt.

The receipt `run_receipt.json` states `engine`, `run_id`, `seed`, `parameter_hash` (the pack's digest),
`manifest_fingerprint` (the world's digest), `code_version`, `fingerprint` (of the computing machine's arithmetic; empty
if the engine gives none), `states`, `surfaces`, `files` (SHA-256 by path), and what the engine adds. It does not depend
on the clock, the host, a path or the order of work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import digests, read_receipt, write_receipt
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Replayed, Run
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.names import inside, is_name, path_named

RECEIPT = "run_receipt.json"
Write = Callable[[Run, Path], None]  # writes every file of a run to a folder, the receipt last


def published(name: str, runs: Path) -> Path | None:
    """Returns the folder of a published run by its id or its path; None if there is none."""
    if is_name(name) and (by_id := inside(runs, name)).is_dir():
        return by_id  # even if files are missing: `verify` reports that
    path = path_named(name)
    return path if path is not None and (path / RECEIPT).is_file() else None


def run_folder(name: str, runs: Path) -> Path:
    """Returns the folder of a published run. Raises PolicyError listing the published runs."""
    folder = published(name, runs)
    if folder is None:
        known = sorted(path.name for path in runs.glob("[0-9a-f]*"))
        raise PolicyError(f"{name}: no such run in {runs} (published: {', '.join(known) or 'none'})")
    return folder


def receipt_in(folder: Path) -> dict[str, Any]:
    """Returns the receipt of a published run. Raises IntegrityError if it is missing or was changed."""
    return read_receipt(folder / RECEIPT, "run_receipt")


def engine_of(folder: Path) -> str:
    """Returns the name of the engine that published a run. Raises IntegrityError if the receipt was changed."""
    return str(receipt_in(folder)["engine"])


def computed_otherwise(folder: Path, fingerprint: str) -> str:
    """Returns how the machine that computed a run differs from this one; empty if it does not, or one is unknown."""
    stated = str(receipt_in(folder).get("fingerprint", ""))
    if not stated or not fingerprint or stated == fingerprint:
        return ""
    return (
        f"this machine computes otherwise: the fingerprint of its arithmetic is {fingerprint[:16]}, that of the "
        f"machine that computed the run {stated[:16]}; its numbers may differ in the last bits"
    )


def seal(run: Run, folder: Path) -> None:
    """Writes the receipt of a run, over the files that are in `folder`."""
    body = {
        "engine": run.engine,
        "run_id": run.run_id,
        "seed": run.seed,
        "parameter_hash": run.pack.digest,
        "manifest_fingerprint": run.world_digest,
        "code_version": run.code_version,
        "fingerprint": run.fingerprint,
        "states": [
            {"name": state.name, "key": state.key, "rows": state.rows, "address": state.address} for state in run.states
        ],
        "surfaces": list(run.surfaces),
    }
    write_receipt(folder / RECEIPT, {**body, "files": digests(folder, (RECEIPT,))})


def publish_whole(run: Run, runs: Path, write: Write) -> Path:
    """Publishes a run below `runs` and returns its folder. Raises IntegrityError if other bytes are there."""
    target = inside(runs, run.run_id)
    with staging(runs, run.run_id) as staged:
        write(run, staged)
        differing = differences(staged, target) if target.exists() or not place(staged, target) else []
        if differing:
            count = len(differing)
            raise IntegrityError(f"{target / differing[0]}: published before with other bytes ({count} files differ)")
    return target


def file_faults(folder: Path, receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (file, fault) for every file that differs from the receipt."""
    try:
        stated, actual = receipt["files"], digests(folder, (RECEIPT,))
    except OSError as error:  # what was published are files
        raise IntegrityError(f"{error.filename}: {error.strerror}") from None
    for name in sorted(stated.keys() | actual.keys()):
        if name not in actual:
            yield name, f"missing, the receipt states sha256 {stated[name]}"
        elif stated.get(name) != actual[name]:
            yield name, f"sha256 {actual[name]}, the receipt states {stated.get(name, 'nothing')}"


def compare_again(again: Run, folder: Path, scratch: Path, write: Write) -> Replayed:
    """Writes a repeated run below `scratch`, and compares every file with those in `folder`."""
    with staging(scratch, again.run_id) as staged:
        write(again, staged)
        return Replayed(len(digests(staged)), tuple(differences(staged, folder)))


def differences(ours: Path, theirs: Path) -> list[str]:
    """Returns the files that are missing from either folder or differ, in ASCII order."""
    new, old = digests(ours), digests(theirs)
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
