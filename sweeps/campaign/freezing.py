"""The freeze of a campaign: moves the aliases that its lock may have, and writes what the campaign closed with.

All but the time, the person and the reasons of refused moves follows from the phase records, the campaign's document in
its run's folder, the lock, the evidence and the moves: `derived` gives it, and `sweeps.campaign.frozen_proof` derives
it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import file_digest
from lanelock.policies import IntegrityError, LanelockError, WorkspaceError
from lanelock.policies.documents import digest, shipped_schema, validate
from lanelock.policies.names import inside
from lanelock.scoring.certification import Claim
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import GateResult
from lanelock.sweeps.campaign.plan import Campaign, Phase
from lanelock.sweeps.campaign.records import End, Graded, Holder, PhaseRecord
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.proof.evidence import INDEX
from lanelock.sweeps.proof.freeze_page import freeze_page
from lanelock.sweeps.proof.freezes import Freeze
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import Move, holders, moves
from lanelock.sweeps.proof.promotion import ALIASES, promote
from lanelock.sweeps.provenance import user
from lanelock.sweeps.workspace import Workspace, phase_files, write_document, write_whole, writing

_THINNEST = 3  # gates whose margins are named as a risk


def close(
    campaign: Campaign,
    workspace: Workspace,
    folder: Path,
    done: Sequence[PhaseRecord],
    holder: Holder,
    end: tuple[End, str],
    phase: Phase,
    *,
    track: bool = True,
    proved: set[str],
) -> Freeze:
    """Freezes the engine with what a campaign's run closed with; a second call returns what the first has written.

    `done` are the records before the freeze, `end` is its result with the reason, `holder` what stands. `proved` are
    the digests of evidence that need not be proved again.
    """
    path = inside(workspace.freezes, f"{folder.name}.json")
    if path.is_file():  # the process was killed before it wrote the record of the phase
        return Freeze.read(path)
    status, reason = end
    asked = tuple(_asked(holder, workspace, f"frozen by {folder.name}: {status.status}", proved))
    if track and not all(row["refused"] for row in asked):
        _follow(workspace)
    freeze = Freeze(
        run=folder.name,
        campaign=campaign.id,
        identity=campaign.identity,
        engine=campaign.engine.name,
        code_version=campaign.engine.code_version,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        who=user(),
        status=status.status,
        certified=status.certified,
        reason=reason,
        pack=holder.pack,
        gates={"id": str(campaign.gates.document["id"]), "digest": digest(dict(campaign.gates.document))},
        asked=asked,
        **pointed(moves(workspace), workspace),
        **derived(campaign.document, workspace, folder, done, holder, phase.document, asked, campaign.gates.bands),
    )
    validate(freeze.document, shipped_schema("freeze"), str(path))
    with writing(workspace.root):
        workspace.freezes.mkdir(parents=True, exist_ok=True)
        write_whole(path.with_suffix(".md"), as_markdown(freeze_page(freeze)))
    write_document(path, freeze.document)
    return freeze


def _asked(holder: Holder, workspace: Workspace, why: str, proved: set[str]) -> Iterator[dict[str, str]]:
    """Asks for every alias by the rules of promotion. Yields alias, and why it does not point to the lock."""
    if holder.lock is None:
        return
    path = inside(workspace.locks, holder.lock)
    for alias in ALIASES:
        try:
            refusals = promote(path, alias, workspace, why=why, proved=proved).refusals
        except (IntegrityError, WorkspaceError):
            raise
        except LanelockError as error:  # such as a world that is not here
            refusals = (str(error),)
        yield {"alias": alias, "refused": "; ".join(() if _points(alias, path, workspace) else refusals)}


def _points(alias: str, path: Path, workspace: Workspace) -> bool:
    lock_id = Lock.read(path).lock_id
    return any(move.alias == alias and move.to.lock_id == lock_id for move in holders(workspace).values())


def _follow(workspace: Workspace) -> None:
    """Brings the model registry up to date. Where it is away, `lanelock sync` does it later."""
    from lanelock.sweeps.record.registry import follow  # MLflow: a second that a campaign without it is spared

    with suppress(WorkspaceError):
        follow(workspace)


def pointed(history: Sequence[Move], workspace: Workspace) -> dict[str, Any]:
    """Returns the moves so far as a freeze states them: their count and the newest, and where each alias points."""
    if not history:
        return {"moves": None, "aliases": {}}
    newest = history[-1]
    head = {"count": newest.number, "newest": file_digest(workspace.promotions / newest.name)}
    return {"moves": head, "aliases": {move.alias: move.to.lock_id for move in history}}


def derived(
    campaign: Mapping[str, Any],
    workspace: Workspace,
    folder: Path,
    done: Sequence[PhaseRecord],
    holder: Holder,
    phase: Mapping[str, Any],
    asked: Sequence[Mapping[str, str]],
    bands: Sequence[str],
) -> dict[str, Any]:
    """Returns the fields of a freeze that follow from the records and documents of its run."""
    lock = None if holder.lock is None else Lock.read(inside(workspace.locks, holder.lock))
    graded = _graded(done, lock)
    waivers, answers = tuple(_waivers(done)), tuple(_answers(done))
    risks = [*_margins(graded, bands), *(("floor", text) for text in out_of_reach(done)), *_preconditions(graded)]
    risks += [("waiver", f"{row['phase']}: {row['check']}, waived by {row['who']}: {row['why']}") for row in waivers]
    risks += [("alias", f"{row['alias']} was not moved: {row['refused']}") for row in asked if row["refused"]]
    risks += [*_unproved(graded, lock), *(("noted", text) for text in phase.get("risks", ()))]
    return {
        "lock": None if lock is None else {"file": holder.lock, "lock_id": lock.lock_id},
        "evidence": None if graded is None else _evidence(graded, workspace),
        "upstream": tuple(campaign["frozen"]),
        "phases": tuple({"file": path.name, "sha256": file_digest(path)} for path in phase_files(folder)[: len(done)]),
        "waivers": waivers,
        "answers": answers,
        "risks": tuple({"kind": kind, "text": text} for kind, text in risks),
        "handoff": str(phase.get("handoff", "")),
    }


def _graded(done: Sequence[PhaseRecord], lock: Lock | None) -> Graded | None:
    """Returns the last certification, if it is of the lock that stands."""
    last = next((record.graded for record in reversed(done) if record.graded is not None), None)
    of_lock = last is not None and lock is not None and last.certification["lock_id"] == lock.lock_id
    return last if of_lock else None


def _evidence(graded: Graded, workspace: Workspace) -> dict[str, str]:
    folder = inside(workspace.evidence, graded.evidence)
    return {"folder": folder.name, "index": file_digest(folder / INDEX), "verdict": graded.certification["verdict"]}


def _waivers(done: Sequence[PhaseRecord]) -> Iterator[dict[str, Any]]:
    """Yields what a phase closed without, by whom and why."""
    for record in done:
        document = record.document
        for row in document.get("checks", ()):
            if not row["ok"] and row["waiver"] is not None:
                yield {"phase": record.phase, "check": row["check"], **row["waiver"]}
        if (skipped := document.get("skipped")) is not None:
            yield {"phase": record.phase, "check": "the phase as a whole", **skipped}


def _answers(done: Sequence[PhaseRecord]) -> Iterator[dict[str, Any]]:
    """Yields what people answered."""
    for record in done:
        if (row := record.document.get("answered")) is not None:
            yield {"phase": record.phase, "asks": row["asks"], "answer": row["answer"], **row["ruling"]}


def _margins(graded: Graded | None, bands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the gates that are nearest to failing, or fail, on any seed of the certification."""
    if graded is None:
        return
    band, least = graded.band or bands[0], dict[str, tuple[float, int]]()
    parts = (graded.certification["graded"], graded.certification["holdout"])
    for card in (card for part in parts if part is not None for card in part["cards"]):
        for row in (GateResult.read(row, bands) for row in card["gates"]):
            margin = row.margins.get(band)
            if row.severity is Severity.GATE and margin is not None:
                least[row.id] = min(least.get(row.id, (margin, card["seed"])), (margin, card["seed"]))
    for name, (margin, seed) in sorted(least.items(), key=lambda item: (item[1], item[0]))[:_THINNEST]:
        yield "margin", f"{name}: margin {margin:.4g} to {band} at the least, on seed {seed}"


def out_of_reach(done: Sequence[PhaseRecord]) -> tuple[str, ...]:
    """Returns the gates that lanes proved to be out of reach, each proof once, in the order of the lanes."""
    tried = [record.tried for record in done if record.tried is not None]
    blockers = [row for lane in tried for row in lane.blockers or () if row.bound is not None]
    texts = (f"{row.gate} is out of reach, {row.proof}; movable by {row.movable_by}" for row in blockers)
    return tuple(dict.fromkeys(texts))


def _preconditions(graded: Graded | None) -> Iterator[tuple[str, str]]:
    for row in () if graded is None else graded.certification["preconditions"]:
        if not row["ok"]:
            yield "precondition", f"{row['name']}: {row['said']}"


def _unproved(graded: Graded | None, lock: Lock | None) -> Iterator[tuple[str, str]]:
    """Yields what the lock and its evidence leave open."""
    if lock is None:
        yield "not proved", "no lane left a lock: the pack is only measured"
    elif graded is None:
        yield "not proved", "the lock that stands was not certified by this campaign"
    elif (claim := graded.certification.get("claim")) is None:
        yield "not proved", "nothing is claimed of seeds beyond those that were graded"
    else:
        yield "not proved", f"beyond what is claimed of other seeds: {Claim(**claim)}"
