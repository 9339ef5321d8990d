"""The files of a published run: writes them, reads them back as a run, checks them against their inputs, replays.

`engine.keep.published` publishes a run whole or not at all; this module defines its contents: every file with its
digest, the index and flag of S8, and the receipt over all. No file depends on clock, path, host or order of work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lanelock.engine.keep.published import RECEIPT, compare_again, differences, file_faults, publish_whole
from lanelock.engine.keep.receipts import bundle, digests, file_digest, read_receipt, write_json, write_receipt
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Replayed, Run, StateReport
from lanelock.engine.segment_2b import layout
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.reports import state_reports
from lanelock.engine.segment_2b.states.s0_gate import SealedInputs, run_id_of, seal
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_import import open_world, write_world
from lanelock.engine.segment_2b.world_receipt import UPSTREAM
from lanelock.engine.surface import Surface, table_digest
from lanelock.engine.workers import spread
from lanelock.policies import DataError, IntegrityError, Pack, Schemas, pack_of
from lanelock.policies.documents import digest, read_json
from lanelock.policies.pack import policies_in


def publish(run: Run, runs: Path) -> Path:
    """Publishes a run below `runs`; returns its folder. Raises IntegrityError if it was published with other bytes."""
    return publish_whole(run, runs, write_run)


def bundled(run: Run, folder: Path, seconds: float) -> StateReport:
    """Returns S8's report; its rows are the files listed in the index of the published run."""
    index, _ = Address.of(run).bundle()
    inputs = {state.name: state.key for state in run.states}
    address = {"state": "S8", "inputs": inputs, "code": run.code_version}
    return StateReport("S8", digest(address), len(read_json(folder / index)["files"]), seconds, False, address)


def keep_world(world: World, folder: Path) -> None:
    """Writes a world's folder whole or not at all. Raises DataError if the folder holds something else."""
    with staging(folder.parent, folder.name) as staged:
        write_world(world, staged)
        if not place(staged, folder) and differences(staged, folder):
            raise DataError(f"{folder}: not empty, and not this world; name another folder")


def open_run(folder: Path, schemas: Schemas) -> Run:
    """Returns a published run from its files alone; checks the receipt, and reads each surface on first use."""
    receipt = check_run(folder, missing=DataError)
    address = Address.stated(receipt)
    pack = _pack(folder, schemas)
    upstream = open_world(folder / UPSTREAM, pack["world_v1"])
    if upstream.digest != receipt["manifest_fingerprint"]:
        raise IntegrityError(f"{folder}/upstream: the tables give another world than the receipt states")
    surfaces = _Published(folder, address, tuple(receipt["surfaces"]))
    states = tuple(StateReport(**row, seconds=0.0, reused=True) for row in receipt["states"])
    return Run(
        address.run_id, receipt["engine"], address.seed, pack, address.manifest_fingerprint, receipt["code_version"],
        surfaces, states, upstream,
    )  # fmt: skip


def check_run(folder: Path, missing: type[Exception] = IntegrityError) -> Mapping[str, Any]:
    """Returns the receipt of a run after checking every file's digest against it.

    Raises IntegrityError at the first file that differs, and `missing` for one that does not exist.
    """
    receipt = read_receipt(folder / RECEIPT)
    for name, fault in faults(folder, receipt):
        raise (IntegrityError if (folder / name).exists() else missing)(f"{folder / name}: {fault}")
    return receipt


def faults(folder: Path, receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (file, fault) for every file that differs from the receipt, and for a flag over other evidence."""
    damaged = False
    for fault in file_faults(folder, receipt):
        damaged = True
        yield fault
    stated, flag = receipt["files"], Address.stated(receipt).bundle()[1].as_posix()
    if flag in stated and not damaged:
        _, expected = bundle(_evidence(stated), lambda name: (folder / name).read_bytes())
        if (folder / flag).read_text(encoding="utf-8") != expected:
            yield flag, "it does not pass the evidence that the index lists"


def seals(folder: Path, receipt: Mapping[str, Any], schemas: Schemas) -> Iterator[tuple[str, str]]:
    """Yields (file, fault) where S0's documents or the receipt do not follow from the inputs in the folder.

    Digests prove that files are unchanged; this proves that the sealed inputs are the policies and tables beside them.
    """
    address = Address.stated(receipt)
    pack = _pack(folder, schemas)
    world = replace(open_world(folder / UPSTREAM, pack["world_v1"]), source=receipt["sources"]["world"])
    roster = None
    if receipt["sources"]["roster"] == "imported":
        roster = table_digest(layout.read_surface(folder, "s5_arrival_roster", address).table())
    sealed = seal(world, pack, address.seed, roster)
    for name, document in _gate(sealed).items():
        if read_json(folder / address.document(name)) != document:
            yield address.document(name).as_posix(), "it does not seal the policies and the world of this run"
    if address != Address(address.seed, world.digest, pack.digest, run_id_of(pack, address.seed, sealed)):
        yield RECEIPT, "its run_id, parameter_hash or manifest_fingerprint is not that of the inputs"


def replay(folder: Path, scratch: Path, schemas: Schemas, evaluate: Callable[..., Run]) -> Replayed:
    """Executes a run again from its sealed inputs, below `scratch`, and compares the bytes of every file.

    `evaluate` must belong to an engine with an empty memory. Raises IntegrityError if the receipt or an input changed,
    since then there is no run to execute.
    """
    receipt = read_receipt(folder / RECEIPT)
    for name, fault in faults(folder, receipt):
        if name.startswith(_inputs(receipt)):
            raise IntegrityError(f"{folder / name}: {fault}")
    address = Address.stated(receipt)
    drawn = receipt["sources"]["world"] == "drawn"
    arrivals = folder / address.folder("s5_arrival_roster", TABLES["s5_arrival_roster"].partitions) / layout.PART
    again = evaluate(
        _pack(folder, schemas), address.seed, world=None if drawn else folder / UPSTREAM,
        roster=arrivals if receipt["sources"]["roster"] == "imported" else None,
    )  # fmt: skip
    return compare_again(again, folder, scratch, write_run)


def write_run(run: Run, folder: Path) -> None:
    """Writes every file of a run below `folder`, the receipt last."""
    address = Address.of(run)
    work: list[tuple[Surface, slice, Path]] = []
    for name, surface in run.surfaces.items():
        if TABLES[name].state != "S2":
            work += [(surface, rows, folder / path) for path, rows in layout.files_of(surface, address)]
    spread(lambda part: layout.write_parquet(*part), work)
    layout.write_alias(run.surfaces["s2_alias_index"], run.surfaces["s2_alias_blob"], folder, address)
    for name, document in _gate(run.sealed).items():
        write_json(folder / address.document(name), document)
    write_json(folder / address.document("s7_audit_report"), run.audit.as_document())
    for name, document in run.pack.documents().items():
        write_json(folder / "policies" / f"{name}.json", document)
    write_world(run.upstream, folder / UPSTREAM)
    for state, report in state_reports(run).items():
        write_json(folder / address.report(state), {**asdict(address), "state": state, **report})
    files = digests(folder)
    receipt = {
        **asdict(address),
        "engine": run.engine,
        "code_version": run.code_version,
        "created_utc": run.sealed.created_utc,
        "sources": {
            "world": run.upstream.source,
            "roster": "imported" if "arrival_roster" in run.sealed.digests() else "drawn",
        },
        "states": [
            {"name": state.name, "key": state.key, "rows": state.rows, "address": state.address} for state in run.states
        ],
        "surfaces": list(run.surfaces),
    }
    index, flag = address.bundle()
    status = {"overall_status": "PASS" if run.audit.passed else "FAIL", "fail_count": int(not run.audit.passed)}
    bundled = {**asdict(address), "state": "S8", "summary": status, "rows": {"index": len(files)}}
    write_json(folder / address.report("S8"), bundled)
    document, passed = bundle(_evidence(files), lambda name: (folder / name).read_bytes())
    write_json(folder / index, document)
    if run.audit.passed:  # no pass, no flag
        (folder / flag).write_text(passed, encoding="utf-8")
    files |= {
        str(name): file_digest(folder / name)
        for name in (index, flag, address.report("S8"))
        if (folder / name).exists()
    }
    write_receipt(folder / RECEIPT, {**receipt, "files": files})


class _Published(Mapping[str, Surface]):
    """A run's surfaces, each read on first use."""

    def __init__(self, folder: Path, address: Address, names: tuple[str, ...]) -> None:
        self._folder, self._address, self._names = folder, address, names
        self._read: dict[str, Surface] = {}

    def __getitem__(self, name: str) -> Surface:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = layout.read_surface(self._folder, name, self._address)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _pack(folder: Path, schemas: Schemas) -> Pack:
    """Returns the pack that a run was published with."""
    where = folder / "policies"
    return pack_of(where.name, policies_in(where, schemas), schemas, str(where))


def _gate(sealed: SealedInputs) -> dict[str, Any]:
    """Returns S0's two documents by dataset."""
    receipt = asdict(sealed)
    return {"sealed_inputs": list(receipt.pop("assets")), "s0_gate_receipt": receipt}


def _inputs(receipt: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the folders of the run's inputs, relative to the run."""
    imported = receipt["sources"]["roster"] == "imported"
    return ("policies/", "upstream/", *([f"{layout.DATA.as_posix()}/s5_arrival_roster/"] if imported else []))


def _evidence(files: Mapping[str, str]) -> dict[str, str]:
    """Returns the files that S8 indexes: the run's inputs and all results but S8's own."""
    own = (f"{layout.VALIDATION}/", f"{layout.REPORTS}/state=S8/")
    return {name: sha256 for name, sha256 in files.items() if not name.startswith(own)}
