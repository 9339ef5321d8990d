"""The files of a published run: written, read back as a run, held to their inputs, executed again.

`engine.keep.published` makes a run whole or not at all; here stands what lies in it: every file written and digested,
S8 over them, the receipt over all. Nothing published carries a clock, a path, a host or an order of work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from lanelock.engine.keep.published import RECEIPT, compare_again, differences, file_faults, publish_whole, receipt_in
from lanelock.engine.keep.receipts import bundle, flag_text, index_of, text_of, write_receipt
from lanelock.engine.keep.staging import place, staging, write_file
from lanelock.engine.protocol import Replayed, Run, StateReport
from lanelock.engine.segment_2b import layout
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.reports import state_reports
from lanelock.engine.segment_2b.states.s0_gate import Asset, SealedInputs, run_id_of, seal
from lanelock.engine.segment_2b.states.s7_audit import Audit, Check
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_import import files_of, open_world, write_world
from lanelock.engine.segment_2b.world_receipt import UPSTREAM
from lanelock.engine.surface import Surface, table_digest
from lanelock.engine.workers import in_order
from lanelock.policies import DataError, IntegrityError, Pack, Schemas, pack_of
from lanelock.policies.documents import digest, read_json
from lanelock.policies.files import read_bytes
from lanelock.policies.pack import policies_in


def publish(run: Run, runs: Path) -> Path:
    """Publishes a whole run below `runs`; its folder. Raises IntegrityError where other bytes were published before."""
    return publish_whole(run, runs, write_run)


def bundled(run: Run, folder: Path, seconds: float, processor_s: float = 0.0) -> StateReport:
    """S8's report: rows are the files that the index of a published run lists."""
    index, _ = Address.of(run).bundle()
    inputs = {state.name: state.key for state in run.states}
    address = {"state": "S8", "inputs": inputs, "code": run.code_version}
    rows = len(read_json(folder / index)["files"])
    return StateReport("S8", digest(address), rows, seconds, False, address, processor_s)


def keep_world(world: World, folder: Path) -> None:
    """Writes a world's folder whole or not at all. Raises DataError where something else stands there."""
    with staging(folder.parent, folder.name) as staged:
        write_world(world, staged)
        if not place(staged, folder) and differences(staged, folder):
            raise DataError(f"{folder}: not empty, and not this world; name another folder")


def open_run(folder: Path, schemas: Schemas) -> Run:
    """A published run from its files alone, its receipt checked; each surface is read when it is asked for."""
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
        surfaces, states, upstream, _sealed(folder, address), _audit(folder, address), receipt.get("fingerprint", ""),
    )  # fmt: skip


def check_run(folder: Path, missing: type[Exception] = IntegrityError) -> Mapping[str, Any]:
    """The receipt of a run whose files all digest to what it states.

    Raises IntegrityError at the first that does not, and `missing` where one is not there.
    """
    receipt = receipt_in(folder)
    for name, said in faults(folder, receipt):
        raise (IntegrityError if (folder / name).exists() else missing)(f"{folder / name}: {said}")
    return receipt


def faults(folder: Path, receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) of every file that is not as the receipt states, and of a flag that passes other bytes."""
    damaged = False
    for fault in file_faults(folder, receipt):
        damaged = True
        yield fault
    stated, flag = receipt["files"], Address.stated(receipt).bundle()[1].as_posix()
    if flag in stated and not damaged:
        _, expected = bundle(_evidence(stated), lambda name: read_bytes(folder / name))
        if read_bytes(folder / flag) != expected.encode():
            yield flag, "it does not pass the evidence that the index lists"


def seals(folder: Path, receipt: Mapping[str, Any], schemas: Schemas) -> Iterator[tuple[str, str]]:
    """(file, what is wrong) where S0's documents or the receipt do not follow from the inputs beside them.

    Digests say that files are as they were published; this, that what they were published with is what is here.
    """
    address = Address.stated(receipt)
    pack = _pack(folder, schemas)
    world = replace(open_world(folder / UPSTREAM, pack["world_v1"]), source=_source(folder, receipt, "world"))
    roster = None
    if _source(folder, receipt, "roster") == "imported":
        roster = table_digest(layout.read_surface(folder, "s5_arrival_roster", address).table())
    sealed = seal(world, pack, address.seed, roster)
    for name, document in _gate(sealed).items():
        if read_json(folder / address.document(name)) != document:
            yield address.document(name).as_posix(), "it does not seal the policies and the world of this run"
    if address != Address(address.seed, world.digest, pack.digest, run_id_of(pack, address.seed, sealed)):
        yield RECEIPT, "its run_id, parameter_hash or manifest_fingerprint is not that of the inputs"


def replay(folder: Path, scratch: Path, schemas: Schemas, evaluate: Callable[..., Run]) -> Replayed:
    """Executes a run again from its sealed inputs below `scratch`, and compares the bytes of every file.

    `evaluate` is that of an engine that remembers nothing. Raises IntegrityError where the receipt or an input is not
    as it was published: there is then no run to execute.
    """
    receipt = receipt_in(folder)
    for name, said in faults(folder, receipt):
        if name.startswith(_inputs(receipt)):
            raise IntegrityError(f"{folder / name}: {said}")
    address = Address.stated(receipt)
    drawn = _source(folder, receipt, "world") == "drawn"
    arrivals = folder / address.folder("s5_arrival_roster", TABLES["s5_arrival_roster"].partitions) / layout.PART
    again = evaluate(
        _pack(folder, schemas), address.seed, world=None if drawn else folder / UPSTREAM,
        roster=arrivals if _source(folder, receipt, "roster") == "imported" else None,
    )  # fmt: skip
    return compare_again(again, folder, scratch, write_run)


def write_run(run: Run, folder: Path) -> None:
    """Writes every file of a run below `folder`, the receipt last.

    Every core makes and writes files. They are digested from memory in the order of their paths, because S8's flag
    is the digest of all files, end to end.
    """
    address, contents = Address.of(run), _contents(run, Address.of(run))
    files, whole = dict[str, str](), hashlib.sha256()

    def write(path: str) -> tuple[str, Any]:
        data = contents[path]()
        write_file(folder / path, data)
        return hashlib.sha256(data).hexdigest(), data

    paths = sorted(contents)
    for path, (sha256, data) in zip(paths, in_order(write, paths), strict=True):
        files[path] = sha256
        whole.update(data)
    receipt = {**_receipt(run, address), "files": files | _bundle(run, address, files, whole.hexdigest(), folder)}
    write_receipt(folder / RECEIPT, receipt)


class _Published(Mapping[str, Surface]):
    """A run's surfaces, each read at the first asking."""

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


def _source(folder: Path, receipt: Mapping[str, Any], name: str) -> str:
    """Whether an input was drawn or imported, as a run's receipt states it."""
    try:
        return str(receipt["sources"][name])
    except KeyError:
        raise IntegrityError(f"{folder / RECEIPT}: /sources/{name}: missing field {name}") from None


def _pack(folder: Path, schemas: Schemas) -> Pack:
    """The pack that a run was published with."""
    where = folder / "policies"
    return pack_of(where.name, policies_in(where, schemas), schemas, str(where))


def _contents(run: Run, address: Address) -> dict[str, Callable[[], Any]]:
    """Returns how the bytes of each file that S8 indexes are made, by path."""
    tables = {
        path.as_posix(): partial(layout.parquet, surface, rows)
        for name, surface in run.surfaces.items()
        if TABLES[name].state != "S2"
        for path, rows in layout.files_of(surface, address)
    }
    alias = layout.alias_files(run.surfaces["s2_alias_index"], run.surfaces["s2_alias_blob"], address)
    made = {path.as_posix(): data for path, data in alias.items()}
    made |= {f"{UPSTREAM}/{name}": data for name, data in files_of(run.upstream).items()}
    documents = {address.document(name): document for name, document in _gate(run.sealed).items()}
    documents[address.document("s7_audit_report")] = run.audit.as_document()
    documents |= {Path("policies", f"{name}.json"): document for name, document in run.pack.documents().items()}
    for state, report in state_reports(run).items():
        documents[address.report(state)] = {**asdict(address), "state": state, **report}
    made |= {path.as_posix(): text_of(document).encode() for path, document in documents.items()}
    return {**tables, **{path: partial(bytes, data) for path, data in made.items()}}


def _bundle(run: Run, address: Address, files: Mapping[str, str], whole: str, folder: Path) -> dict[str, str]:
    """Writes S8 over the files of a run: index, report and, where the audit passed, the flag; their digests."""
    status = {"overall_status": "PASS" if run.audit.passed else "FAIL", "fail_count": int(not run.audit.passed)}
    report = {**asdict(address), "state": "S8", "summary": status, "rows": {"index": len(files)}}
    index, flag = address.bundle()
    texts = {index: text_of(index_of(files)), address.report("S8"): text_of(report)}
    if run.audit.passed:  # no pass, no flag
        texts[flag] = flag_text(whole)
    for path, text in texts.items():
        write_file(folder / path, text.encode())
    return {path.as_posix(): hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}


def _receipt(run: Run, address: Address) -> dict[str, Any]:
    """Returns what a run's receipt states beside its files."""
    return {
        **asdict(address),
        "engine": run.engine,
        "code_version": run.code_version,
        "fingerprint": run.fingerprint,
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


def _gate(sealed: SealedInputs) -> dict[str, Any]:
    """S0's two documents by dataset."""
    receipt = asdict(sealed)
    return {"sealed_inputs": list(receipt.pop("assets")), "s0_gate_receipt": receipt}


def _sealed(folder: Path, address: Address) -> SealedInputs:
    """Returns what S0 sealed, from a published run's two documents."""
    receipt, assets = (
        read_json(folder / address.document(name), ids=True) for name in ("s0_gate_receipt", "sealed_inputs")
    )
    return SealedInputs(**receipt, assets=tuple(Asset(**asset) for asset in assets))


def _audit(folder: Path, address: Address) -> Audit:
    """Returns S7's audit, from a published run's report."""
    report = read_json(folder / address.document("s7_audit_report"), ids=True)
    return Audit(tuple(Check(**check) for check in report["checks"]))


def _inputs(receipt: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the files lie, relative to the run, that it is executed from."""
    brought = ("s5_arrival_roster",) if receipt["sources"]["roster"] == "imported" else ()
    return ("policies/", "upstream/", *(f"{layout.DATA.as_posix()}/{name}/" for name in brought))


def _evidence(files: Mapping[str, str]) -> dict[str, str]:
    """What S8 indexes: all that the run computed and was computed from."""
    own = (f"{layout.VALIDATION}/", f"{layout.REPORTS}/state=S8/")
    return {name: found for name, found in files.items() if not name.startswith(own)}
