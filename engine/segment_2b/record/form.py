"""A run in the record's form: everything that the record's own readers open, written from the run alone.

The form is a view of a published run for other tools; it is never read back as a run, though its upstream is read as a
world (`record.given`). Nothing in it depends on the clock, the host or a path: writing it twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lanelock.engine.keep.published import differences
from lanelock.engine.keep.receipts import text_of
from lanelock.engine.keep.staging import place as put
from lanelock.engine.keep.staging import staging, write_file
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.layout import Address
from lanelock.engine.segment_2b.record import bundle, gate
from lanelock.engine.segment_2b.record.logs import Logs
from lanelock.engine.segment_2b.record.places import place
from lanelock.engine.segment_2b.record.policies import write_policies
from lanelock.engine.segment_2b.record.reports import STATES, record_reports
from lanelock.engine.segment_2b.record.tables import state_tables, upstream_files
from lanelock.engine.workers import mapped
from lanelock.policies import IntegrityError

_EVIDENCE = ("s0_gate_receipt_2B", "sealed_inputs_2B", "s7_audit_report")


def write_record(run: Run, folder: Path) -> None:
    """Writes a whole run in the record's form, whole or not at all.

    Raises IntegrityError if `folder` exists with other bytes.
    """
    with staging(folder.parent, folder.name) as staged:
        _write(run, staged)
        if not put(staged, folder) and (differing := differences(staged, folder)):
            raise IntegrityError(f"{folder / differing[0]}: written before with other bytes ({len(differing)} files)")


def _write(run: Run, folder: Path) -> None:
    address, files, policies = Address.of(run), _Files(folder), write_policies(run.pack)
    streams = {use: stream["rng_stream_id"] for use, stream in policies[gate.ROUTING_POLICY]["streams"].items()}
    files.add_logs(Logs(run, address, streams))
    for path, data in state_tables(run, address, policies[gate.EFFECTS_POLICY]["rng_stream_id"]):
        files.add(path, data)
    files.add(place("s2_alias_blob", address), np.asarray(run.surfaces["s2_alias_blob"]["blob"])[0])
    inputs = upstream_files(run.upstream, address)
    inputs |= {f"{place('policy', address)}{name}.json": _json(policy) for name, policy in policies.items()}
    for path, data in inputs.items():
        files.add(path, data)
    sealed = gate.sealed_inputs(run, address, inputs, policies, files.digests[place(gate.ROSTER, address)])
    documents = _documents(run, address, sealed, policies)
    for name, document in documents.items():
        files.add(place(name, address), _json(document))
    written = {path: (folder / path).stat().st_size for path in files.digests}
    reports = {state: place("run_report", address, state=state, report=state.lower()) for state in STATES}
    as_long = {**files.digests, **dict.fromkeys(reports.values(), "0" * 64)}  # S8's report states the bundle's bytes
    written |= {path: len(data) for path, data in _bundle(run, address, documents, as_long).items()}
    for state, report in record_reports(run, written=written).items():
        files.add(reports[state], _json(report))
    for path, data in _bundle(run, address, documents, files.digests).items():
        files.add(path, data)


def _bundle(run: Run, address: Address, documents: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, bytes]:
    """Returns the bundle of S8 by path. `digests`: of every other file, by path."""
    evidence = {f"{name}.json": _json(documents[name]) for name in _EVIDENCE}
    evidence[bundle.FILES] = _json(bundle.rows(digests))
    files = bundle.bundled(evidence, passed=run.audit.passed)
    return {place("validation_bundle_2B", address) + name: data for name, data in files.items()}


def _documents(run: Run, address: Address, sealed: list[gate.Row], policies: Mapping[str, gate.Row]) -> dict[str, Any]:
    """Returns the documents of S0, S2 and S7 by data set."""
    digests = {asset["asset_id"]: asset["sha256_hex"] for asset in sealed}
    return {
        "sealed_inputs_2B": sealed,
        "s0_gate_receipt_2B": gate.gate_receipt(run, address, sealed, sorted(policies)),
        "s2_alias_index": gate.alias_index(run, policies[gate.ALIAS_POLICY], digests[gate.ALIAS_POLICY]),
        "s7_audit_report": gate.audit_report(run, address, sealed),
    }


class _Files:
    """The files of a tree while it is written, and the SHA-256 of each."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.digests = folder, dict[str, str]()

    def add(self, path: str, data: Any) -> None:
        write_file(self._folder / path, data)
        self.digests[path] = bundle.sha256(data)

    def add_logs(self, logs: Logs) -> None:
        """Writes the logs part by part: threads make parts ahead of the one that writes, a few at a time."""
        sums: dict[str, Any] = {}
        for parts in mapped(lambda make: make(), logs.parts(), os.cpu_count() or 1):
            for path, data in parts:
                target = self._folder / path
                if path not in sums:
                    sums[path] = hashlib.sha256()
                    target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("ab") as file:
                    file.write(data)
                sums[path].update(data)
        self.digests |= {path: each.hexdigest() for path, each in sums.items()}


def _json(document: Any) -> bytes:
    return text_of(document).encode()
