"""What is written to the tracking server, as values: entries, and the letters that carry them.

Nothing here knows MLflow. A letter is one line of JSON; `Letter.read(letter.line()) == letter`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from lanelock.policies import PolicyError
from lanelock.policies.documents import parse_json, shipped_schema, validate
from lanelock.sweeps.lanes.trial import Input

MEASURED = "-performance"  # ends the name of an experiment that holds measurements, which have no study
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs: an engine's error may quote a file name that is no text


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written about one trial, or about a sweep as a whole.

    In tags, `$EXPERIMENT`, `$RUN`, `$PARENT` and, when a sweep closes, `$BEST` are placeholders for the server's ids.
    """

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    files: Mapping[str, str | bytes]  # artifact path -> text, or the bytes of a picture
    at_ms: int  # when it finished: the timestamp of every metric
    inputs: tuple[Input, ...] = ()
    seconds: float = 0.0  # of computing
    failed: bool = False  # a trial without a result


@dataclass(frozen=True, slots=True)
class Heading:
    """The sweep that letters belong to: enough to find its run, or to make it."""

    record: str  # the address of the tracking server, without its secrets
    experiment: str
    shown: Mapping[str, str]  # the experiment's tags
    sweep: str
    study: str  # its id, since other workspaces may have sweeps of the same name


@dataclass(frozen=True, slots=True)
class Letter:
    """One thing to write. Delivering it twice has the effect of delivering it once."""

    kind: Literal[
        "sweep", "trial", "more", "ranks", "close"
    ]  # a sweep begins; a trial; more about a written trial; the order of its trials; the sweep closes
    entry: Entry
    trial: int | None = None  # the trial written, or the best of a sweep that closes
    heading: Heading | None = None  # of "sweep" and "close"

    def line(self) -> bytes:
        texts = {name: text for name, text in self.entry.files.items() if isinstance(text, str)}
        pictures = {
            name: base64.b64encode(data).decode() for name, data in self.entry.files.items() if isinstance(data, bytes)
        }
        document = {**asdict(replace(self, entry=replace(self.entry, files=texts))), "pictures": pictures}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return _HALVES.sub("\N{REPLACEMENT CHARACTER}", text).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Letter:
        """Returns the letter in a line. Raises ValueError, naming the field, for anything else."""
        try:
            document = parse_json(line, "")
            validate(document, shipped_schema("letter"), "")
        except PolicyError as error:
            raise ValueError(str(error).removeprefix(": ")) from None
        entry, heading = document["entry"], document["heading"]
        entry["inputs"] = tuple(Input(**data) for data in entry["inputs"])
        entry["files"] |= {name: base64.b64decode(data) for name, data in document["pictures"].items()}
        return cls(document["kind"], Entry(**entry), document["trial"], None if heading is None else Heading(**heading))


def as_text(document: object) -> str:
    """Returns indented JSON, the form of artifacts."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
