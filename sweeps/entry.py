"""What is written into the record, as values. Nothing here knows MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Input:
    """A data set that a run stood on."""

    name: str
    digest: str  # whole; MLflow shows its beginning
    kind: str  # "drawn" or "imported"
    context: str  # what it was for
    source: Mapping[str, Any]  # where it comes from
    profile: Mapping[str, float]  # what was measured of it


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written of one trial, or of a sweep as a whole.

    In a tag `$EXPERIMENT`, `$RUN` and `$PARENT` stand for ids that the record gives.
    """

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    files: Mapping[str, str | bytes]  # artifact path -> text, or the bytes of a picture
    at_ms: int  # when it was told: the timestamp of every metric
    inputs: tuple[Input, ...] = ()
    seconds: float = 0.0  # of computing before it was told


def as_text(document: object) -> str:
    """JSON for people: the form in which artifacts are kept."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
