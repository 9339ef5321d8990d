"""What is written into the record, as values: entries, and the letters that carry them there.

Nothing here knows MLflow. A letter is one line of JSON; `Letter.read(letter.line()) == letter`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lanelock.sweeps.lanes.trial import Input

if TYPE_CHECKING:
    from lanelock.sweeps.proof.lock import Lock  # what delivers letters imports no engine


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written of one trial, or of a sweep as a whole.

    In a tag `$EXPERIMENT`, `$RUN`, `$PARENT` and, where a sweep closes, `$BEST` stand for ids that the record gives.
    """

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    files: Mapping[str, str | bytes]  # artifact path -> text, or the bytes of a picture
    at_ms: int  # when it was told: the timestamp of every metric
    inputs: tuple[Input, ...] = ()
    seconds: float = 0.0  # of computing before it was told


@dataclass(frozen=True, slots=True)
class Version:
    """What the registry is told of a lock."""

    model: str
    lock: Lock
    folder: Path  # the lock, and the world it carries
    tags: Mapping[str, str]
    note: str
    evidence: Path | None  # the pack of its certification
    inputs: tuple[Input, ...]  # what it was certified on


@dataclass(frozen=True, slots=True)
class Heading:
    """Which sweep letters belong to: enough to find its run again, or to make it."""

    record: str  # where it is written: a URI without its password
    experiment: str
    shown: Mapping[str, str]  # the experiment's tags
    sweep: str
    study: str  # tells sweeps of one name in different workspaces apart


@dataclass(frozen=True, slots=True)
class Letter:
    """One thing to be written. Delivering it twice writes what delivering it once does."""

    kind: Literal["sweep", "trial", "more", "close"]  # a sweep begins; a trial; more of a written trial; it closes
    entry: Entry
    trial: int | None = None  # the trial written, or the best of a sweep that closes
    heading: Heading | None = None  # of "sweep" and "close"

    def line(self) -> bytes:
        texts = {name: text for name, text in self.entry.files.items() if isinstance(text, str)}
        pictures = {
            name: base64.b64encode(data).decode() for name, data in self.entry.files.items() if isinstance(data, bytes)
        }
        document = {**asdict(replace(self, entry=replace(self.entry, files=texts))), "pictures": pictures}
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Letter:
        document: dict[str, Any] = json.loads(line)
        entry, heading = document["entry"], document["heading"]
        entry["inputs"] = tuple(Input(**one) for one in entry["inputs"])
        entry["files"] |= {name: base64.b64decode(data) for name, data in document["pictures"].items()}
        return cls(document["kind"], Entry(**entry), document["trial"], None if heading is None else Heading(**heading))


def as_text(document: object) -> str:
    """JSON for people: the form in which artifacts are kept."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
