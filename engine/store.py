"""Published runs: written whole or not at all, read back as runs.

Publishing is: staging folder beside the target, every file fsynced, digests into `run_receipt.json`,
rename. The same run published again is a no-op where byte-identical and an IntegrityError where not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.run import SEGMENT_2B
from engine.states.s0_gate import seal
from engine.tables import TABLES
from engine.types import Categories, Column, Run, StateReport, Surface
from engine.world_import import open_world, write_world
from policies import DataError, IntegrityError, PolicyError, load_pack
from policies.documents import read_json

RECEIPT = "run_receipt.json"
_DATA = Path("data/layer1/2B")


def publish(run: Run, runs: Path) -> Path:
    """Publishes a run below `runs`; its folder."""
    target, staging = runs / run.run_id, runs / f".staging-{run.run_id}-{os.getpid()}"
    runs.mkdir(parents=True, exist_ok=True)
    for abandoned in runs.glob(f".staging-{run.run_id}-*"):
        if not _alive(int(abandoned.name.rpartition("-")[2])):
            shutil.rmtree(abandoned, ignore_errors=True)
    try:
        _write(run, staging)
        if target.exists():
            _same(staging, target)
        else:
            staging.rename(target)
            _sync(runs)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def open_run(runs: Path, run_id: str) -> Run:
    """A published run from its files alone, every digest checked first."""
    folder = runs / run_id
    if not folder.is_dir():
        known = sorted(path.name for path in runs.glob("[0-9a-f]*"))
        raise PolicyError(f"{run_id}: no such run in {runs} (published: {', '.join(known) or 'none'})")
    receipt = check_run(folder)
    pack = load_pack(folder / "policies", SEGMENT_2B.policy_schemas)
    partition = _partition(receipt["seed"], receipt["manifest_fingerprint"])
    surfaces = {name: _read_surface(folder, name, partition) for name in receipt["surfaces"]}
    upstream = open_world(folder / "upstream", pack["world_v1"])
    if upstream.digest != receipt["upstream_digest"]:
        raise IntegrityError(f"{folder}/upstream: the tables give another world than the receipt states")
    states = tuple(StateReport(**row, seconds=0.0, reused=True) for row in receipt["states"])
    return Run(
        receipt["run_id"], receipt["engine"], receipt["seed"], pack, receipt["manifest_fingerprint"],
        receipt["code_version"], surfaces, states, upstream,
    )  # fmt: skip


def check_run(folder: Path) -> Mapping[str, Any]:
    """The receipt of a published run whose files all digest to what it states. Raises IntegrityError."""
    path = folder / RECEIPT
    if not path.exists():
        raise IntegrityError(f"{path}: the receipt is missing")
    try:
        receipt: dict[str, Any] = read_json(path)
        stated = dict(receipt["files"])
    except (PolicyError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not a receipt: {error}") from None
    body = {key: value for key, value in receipt.items() if key != "receipt_sha256"}
    if _text_digest(body) != receipt.get("receipt_sha256"):
        raise IntegrityError(f"{path}: the receipt was changed")
    found = _digests(folder)
    for name in sorted(stated.keys() | found.keys()):
        if stated.get(name) != found.get(name):
            raise IntegrityError(
                f"{folder / name}: sha256 {found.get(name, 'missing')}, the receipt: {stated.get(name, 'nothing')}"
            )
    return receipt


def _write(run: Run, folder: Path) -> None:
    partition = _partition(run.seed, run.world_digest)
    sealed = seal(run.upstream, run.pack, run.seed)
    for name, surface in run.surfaces.items():
        place = folder / _DATA / name / partition
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(surface.table(), place / "part-00000.parquet", compression="zstd", store_schema=True)
    _json(folder / _DATA / "s0_gate_receipt" / partition / "s0_gate_receipt.json", {
        "manifest_fingerprint": sealed.manifest_fingerprint, "parameter_hash": sealed.parameter_hash,
        "seed": sealed.seed, "created_utc": sealed.created_utc,
    })  # fmt: skip
    _json(
        folder / _DATA / "sealed_inputs" / partition / "sealed_inputs.json", [asdict(asset) for asset in sealed.assets]
    )
    for name, document in run.pack.documents().items():
        _json(folder / "policies" / f"{name}.json", document)
    write_world(run.upstream, folder / "upstream")
    receipt = {
        "run_id": run.run_id,
        "engine": run.engine,
        "seed": run.seed,
        "manifest_fingerprint": run.world_digest,
        "parameter_hash": run.pack.digest,
        "code_version": run.code_version,
        "created_utc": sealed.created_utc,
        "upstream_digest": run.upstream.digest,
        "states": [{"name": state.name, "key": state.key, "rows": state.rows} for state in run.states],
        "surfaces": list(run.surfaces),
        "files": _digests(folder),
    }
    _json(folder / RECEIPT, {**receipt, "receipt_sha256": _text_digest(receipt)})
    for path in sorted(folder.rglob("*")):
        _sync(path)


def _read_surface(folder: Path, name: str, partition: Path) -> Surface:
    path = folder / _DATA / name / partition / "part-00000.parquet"
    schema = TABLES[name].schema
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if table.schema.names != schema.names or table.schema.types != schema.types:
        raise DataError(f"{path}: columns {table.schema.names} are not those of {name}")
    return Surface(name, schema, {field.name: _column(table[field.name]) for field in schema})


def _column(values: Any) -> Column:
    if pa.types.is_string(values.type):
        coded = values.combine_chunks().dictionary_encode()
        order = np.argsort(np.asarray(coded.dictionary.to_pylist(), object))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order))
        names = coded.dictionary.to_pylist()
        return Categories(place[coded.indices.to_numpy()], tuple(names[i] for i in order))
    found: Column = values.to_numpy()
    return found


def _partition(seed: int, fingerprint: str) -> Path:
    return Path(f"seed={seed}") / f"manifest_fingerprint={fingerprint}"


def _same(staging: Path, target: Path) -> None:
    new, old = _digests(staging, everything=True), _digests(target, everything=True)
    if odd := sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name)):
        raise IntegrityError(
            f"{target / odd[0]}: this run was published before with other bytes ({len(odd)} files differ)"
        )


def _digests(folder: Path, *, everything: bool = False) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and (everything or path != folder / RECEIPT))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _text_digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # not every file system syncs folders
            os.fsync(handle)
    finally:
        os.close(handle)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
