"""Every document and table that a user or a workspace gives, and what reads it.

A reader has a law: what it may answer where a document states something else than before. "held": the document carries
its digest, so it is refused. "free": another valid document is another valid input. "loose": the reader may pass over
it, as `status` does, so that it only never fails, hangs or writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lanes import QUEUE

from lanelock.engine.keep.cache import Cache
from lanelock.engine.keep.published import RECEIPT
from lanelock.engine.keep.receipts import read_receipt
from lanelock.engine.segment_2b.roster_import import open_roster
from lanelock.engine.segment_2b.run import KINDS, SEGMENT_2B
from lanelock.engine.surface import table_digest
from lanelock.policies import load_pack
from lanelock.scoring.gates import load_gates
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.records import begun_with, records_in
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.lane import Lane, load_lane
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.evidence import check_files
from lanelock.sweeps.proof.freezes import freezes_in, standing
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import moves
from lanelock.sweeps.proof.signatures import signed_by
from lanelock.sweeps.proof.trust import trust_of
from lanelock.sweeps.proof.unpack import unpacking
from lanelock.sweeps.record.outbox import Box
from lanelock.sweeps.record.registered import read_left
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.trail import notes
from lanelock.sweeps.workspace import default_folder

from .ground import DAYS, REGISTRY, Ground, policies, world_in

Where = Callable[[Ground], Sequence[Path]]


@dataclass(frozen=True)
class Reader:
    """A function that reads a document, or a command: then `call` gives its words."""

    name: str
    law: str
    call: Callable[[Ground], Any]
    command: bool = False


@dataclass(frozen=True)
class Subject:
    """A kind of document: its files, one of which an input changes."""

    name: str
    where: Where
    form: str
    readers: tuple[Reader, ...]
    named: Callable[[Ground], Sequence[str]] = lambda ground: ()  # what else a message may call it


def _command(law: str, *words: str, **at: Callable[[Ground], object]) -> Reader:
    """A command whose words in capitals are paths of the ground."""

    def call(ground: Ground) -> list[str]:
        return [str(at[word](ground)) if word in at else word for word in words]

    return Reader(" ".join(words), law, call, command=True)


STATUS = _command("loose", "status")
PRUNE = _command("loose", "prune")


def _one(path: Callable[[Ground], Path]) -> Where:
    return lambda ground: [path(ground)]


def _every(folder: Callable[[Ground], Path], pattern: str) -> Where:
    return lambda ground: [path for path in sorted(folder(ground).rglob(pattern)) if path.is_file()]


def _queue(name: str) -> Callable[[Ground], Path]:
    return lambda ground: ground.files / "queue" / name


def _schemas(engine: str) -> Mapping[str, Any]:
    return engine_named(engine).policy_schemas


def _digest(pack: Any) -> str:
    return str(pack.digest)


def _world(folder: str) -> Reader:
    return Reader("open_world", "held" if folder == "world" else "free", lambda g: world_in(g.files / folder).digest)


def _roster(ending: str) -> Subject:
    def read(ground: Ground) -> str:
        law = policies()["route_rng_policy_v1"]
        return table_digest(open_roster(ground.files / f"roster.{ending}", ground.world, DAYS, law, "t").table())

    return Subject(
        f"roster_{ending}", _one(lambda g: g.files / f"roster.{ending}"), ending, (Reader("open_roster", "free", read),)
    )


def _tables(ending: str) -> Subject:
    folder = f"{ending}_world"
    show = _command("free", "world", "show", "--world", "DIR", DIR=lambda g: g.files / folder)
    return Subject(
        f"world_{ending}", _every(lambda g: g.files / folder, f"*.{ending}"), ending, (_world(folder), show),
        lambda ground: (folder,),
    )  # fmt: skip


@cache
def _shipped_lane() -> Lane:
    return load_lane(str(QUEUE / "lane.json"))


def _candidates(ending: str) -> Subject:
    def read(ground: Ground) -> Any:
        return _shipped_lane().enqueued(ground.files / f"candidates.{ending}")

    return Subject(
        f"candidates_{ending}", _one(lambda g: g.files / f"candidates.{ending}"), ending,
        (Reader("enqueued", "free", read),),
    )  # fmt: skip


def _cached(ground: Ground) -> Any:
    """Returns what the cache holds under the key of its folder; None is an entry that is not there."""
    value = Cache(ground.workspace.cache, 1 << 30, KINDS).get(ground.entry.name)
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _letters(ground: Ground) -> Any:
    box = Box(ground.box)
    return [asdict(letter) for letter in box.letters()], len([*box.waiting()]), box.waits(), box.trials()


def _sweep(ground: Ground) -> Any:
    found = recorded("queue-1", ground.workspace)
    return [(row.number, dict(row.values), row.objectives) for row in found.transcript.trials]


def _left(ground: Ground) -> str:
    return repr(read_left(replace(ground.workspace, tracking_uri=REGISTRY), REGISTRY))


def _records(ground: Ground) -> Any:
    return [row.document for row in records_in(ground.campaign)], begun_with(ground.campaign)


def _unpacked(ground: Ground) -> Any:
    return [change.after for change in unpacking(Lock.read(ground.lock), ground.files / "unpacked")]


def _signers(of: Callable[[Ground], Path]) -> Reader:
    return Reader("signed_by", "free", lambda g: [key.name for key in signed_by(of(g), trust_of(g.workspace))])


def _run(ground: Ground) -> Path:
    return ground.run


def _unpacked_to(ground: Ground) -> Path:
    return ground.files / "unpacked"


def _lock(ground: Ground) -> Path:
    return ground.lock


SUBJECTS = (
    Subject(
        "policy", _every(_queue("pack"), "*.json"), "json",
        (
            Reader("load_pack", "free", lambda g: _digest(load_pack(_queue("pack")(g), _schemas("queue")))),
            _command("free", "policy", "digest", "PACK", PACK=_queue("pack")),
            _command("free", "policy", "diff", "PACK", "OTHER", PACK=_queue("pack"), OTHER=_unpacked_to),
            _command("free", "policy", "validate", "PACK", PACK=_queue("pack")),
        ),
        lambda ground: ("pack",),
    ),
    Subject(
        "policy_2b", _every(lambda g: g.files / "p3_recorded", "*.json"), "json",
        (Reader("load_pack", "free",
                lambda g: _digest(load_pack(g.files / "p3_recorded", SEGMENT_2B.policy_schemas))),),
        lambda ground: ("p3_recorded",),
    ),
    Subject(
        "lane", _one(_queue("lane.json")), "json",
        (
            Reader("load_lane", "free", lambda g: load_lane(str(_queue("lane.json")(g))).document),
            _command("free", "feasibility", "LANE", LANE=_queue("lane.json")),
        ),
    ),
    Subject(
        "lane_2b", _one(lambda g: g.files / "lanes" / "p3.json"), "json",
        (Reader("load_lane", "free", lambda g: load_lane(str(g.files / "lanes" / "p3.json")).document),),
    ),
    Subject(
        "gates", _one(_queue("gates.json")), "json",
        (Reader("load_gates", "free", lambda g: repr(load_gates(str(_queue("gates.json")(g))))),),
    ),
    Subject(
        "campaign", _one(_queue("campaign.json")), "json",
        (Reader("load_campaign", "free", lambda g: load_campaign(str(_queue("campaign.json")(g))).document),),
    ),
    Subject(
        "lock", _one(_lock), "json",
        (
            Reader("Lock.read", "held", lambda g: Lock.read(g.lock).document),
            _command("held", "lock", "show", "LOCK", LOCK=_lock),
            _command("held", "verify", "LOCK", LOCK=_lock),
            _command("loose", "lock", "show", "queue-1"),
            _command("loose", "compare", "queue-1", "counter-1.short"),
            STATUS, PRUNE,
        ),
        lambda ground: ("queue-1",),
    ),
    Subject(
        "evidence", lambda g: [path for path in sorted(g.evidence.rglob("*")) if path.is_file()], "bytes",
        (
            Reader("check_files", "held", lambda g: check_files(g.evidence)),
            _command("held", "verify", "PACK", PACK=lambda g: g.evidence),
            PRUNE,
        ),
        lambda ground: (ground.evidence.name,),
    ),
    Subject(
        "evidence_json", lambda g: sorted(g.evidence.rglob("*.json")), "json",
        (
            Reader("check_files", "held", lambda g: check_files(g.evidence)),
            _command("held", "verify", "PACK", PACK=lambda g: g.evidence),
            PRUNE,
        ),
        lambda ground: (ground.evidence.name,),
    ),
    Subject(
        "moves", _every(lambda g: g.workspace.promotions, "*.json"), "json",
        (
            Reader("moves", "held", lambda g: [row.as_document() for row in moves(g.workspace)]),
            _command("loose", "lock", "show", "candidate"), STATUS, PRUNE,
        ),
        lambda ground: ("promotions",),
    ),
    Subject(
        "trust", _one(lambda g: g.workspace.trust), "json",
        (
            Reader("trust_of", "free", lambda g: repr(trust_of(g.workspace))),
            _command("loose", "lock", "show", "queue-1"), STATUS,
        ),
    ),
    Subject(
        "envelope", _one(lambda g: g.lock.with_name(f"{g.lock.name}.dsse")), "json",
        (_signers(_lock), _command("free", "lock", "show", "LOCK", LOCK=_lock)),
    ),
    Subject(
        "envelope_evidence", _one(lambda g: g.evidence.with_name(f"{g.evidence.name}.dsse")), "json",
        (_signers(lambda g: g.evidence),),
    ),
    Subject("key", _one(lambda g: g.files / "ada.pem"), "bytes",
            (Reader("SigningKey.read", "free", lambda g: SigningKey.read(g.files / "ada.pem").public),)),
    Subject(
        "receipt", _one(lambda g: g.run / RECEIPT), "json",
        (
            Reader("read_receipt", "held", lambda g: read_receipt(g.run / RECEIPT)),
            _command("held", "verify", "RUN", RUN=_run), PRUNE,
        ),
        lambda ground: (ground.run.name,),
    ),
    Subject(
        "run_files", lambda g: [path for path in sorted(g.run.rglob("*")) if path.is_file()], "bytes",
        (_command("held", "verify", "RUN", RUN=_run), _command("loose", "score", "RUN", RUN=_run)),
        lambda ground: (ground.run.name,),
    ),
    Subject(
        "run_record", _every(lambda g: g.workspace.run_records, "*.json"), "json",
        (
            Reader("remembered", "free", lambda g: g.workspace.remembered(g.run.name)),
            _command("free", "explain", "RUN", RUN=lambda g: g.run.name), STATUS, PRUNE,
        ),
    ),
    Subject(
        "tally", _one(lambda g: g.workspace.tallies / "queue-1.json"), "json",
        (Reader("sweeps_in", "loose", lambda g: repr(sweeps_in(g.workspace))), STATUS, PRUNE),
    ),
    Subject(
        "journal", _one(lambda g: g.workspace.journal), "lines",
        (
            Reader("recorded", "loose", _sweep), _command("loose", "audit", "queue-1", "--sample", "1%"),
            _command("loose", "verify", "LOCK", LOCK=_lock), _command("loose", "report", "queue-1"),
            _command("loose", "export", "queue-1", "--csv", "OUT", OUT=lambda g: g.root / "trials.csv"), PRUNE,
        ),
        lambda ground: ("study", "queue-1"),
    ),
    Subject(
        "letters", _one(lambda g: g.box), "lines", (Reader("letters", "loose", _letters), STATUS),
    ),
    Subject(
        "mark", _one(lambda g: g.box.with_suffix(".delivered")), "bytes",
        (Reader("letters", "loose", _letters), STATUS),
    ),
    Subject(
        "registry", _one(lambda g: g.workspace.registry), "json",
        (
            Reader("read_left", "free", _left),
            STATUS,
        ),
    ),
    Subject(
        "campaign_records", _every(lambda g: g.campaign, "*.json"), "json",
        (Reader("records_in", "free", _records), STATUS, PRUNE),
    ),
    Subject(
        "freeze", _every(lambda g: g.workspace.freezes, "*.json"), "json",
        (Reader("freezes_in", "held", lambda g: [row.document for row in freezes_in(g.workspace)]), STATUS, PRUNE),
    ),
    Subject(
        "reopen", _every(lambda g: g.workspace.reopens, "*.json"), "json",
        (Reader("standing", "free", lambda g: [*standing(g.workspace)]), STATUS),
    ),
    Subject(
        "note", _every(lambda g: g.workspace.notes, "*.json"), "json",
        (Reader("notes", "free", lambda g: [row.document for row in notes(g.workspace)]),),
    ),
    _candidates("json"), _candidates("csv"), _tables("csv"), _tables("parquet"), _roster("csv"), _roster("parquet"),
    Subject(
        "world_written", lambda g: sorted((g.files / "world").iterdir()), "bytes",
        (_world("world"), _command("held", "world", "show", "--world", "DIR", DIR=lambda g: g.files / "world")),
        lambda ground: ("files/world",),
    ),
    Subject(
        "world_receipt", _one(lambda g: g.files / "world" / "world_receipt.json"), "json", (_world("world"),),
        lambda ground: ("files/world",),
    ),
    Subject(
        "pyproject", _one(lambda g: g.files / "checkout" / "pyproject.toml"), "bytes",
        (Reader("default_folder", "loose", lambda g: default_folder(g.files / "checkout")),),
    ),
    Subject(
        "unpacked", _every(lambda g: g.files / "unpacked", "*.json"), "json",
        (
            Reader("unpacking", "free", _unpacked),
            _command("free", "lock", "unpack", "LOCK", "--diff", "--to", "DIR", LOCK=_lock, DIR=_unpacked_to),
        ),
        lambda ground: ("unpacked",),
    ),
    Subject(
        "cache", lambda g: [path for path in sorted(g.entry.iterdir()) if path.is_file()], "bytes",
        (Reader("Cache.get", "held", _cached),),
        lambda ground: (ground.entry.name[:16],),
    ),
)  # fmt: skip


@cache
def paths_of(kind: str, ground: Ground) -> Sequence[Path]:
    """Returns the files of a subject, which are the same as long as the ground is."""
    return BY_NAME[kind].where(ground)


BY_NAME = {subject.name: subject for subject in SUBJECTS}
