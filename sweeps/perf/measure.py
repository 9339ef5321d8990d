"""Rounds: one run of an engine in a fresh process, measured there by `worker`, under this release or another.

A process of its own has no remembered state, no warm import and no other work beside it, so rounds can be compared. A
round that fails is an error that names its side: what did not run was not measured.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lanelock.policies import DataError, EngineError, Pack, PolicyError
from lanelock.policies.documents import resolve
from lanelock.policies.project import START
from lanelock.sweeps.perf import worker

_KIND = re.compile(r"^lanelock[\w.]+Error: ")  # how Python begins an error that is one of ours
_LONGEST = 3600.0  # seconds of one round


@dataclass(frozen=True, slots=True)
class Side:
    """A version of the code that is measured: which interpreter runs it, and where it finds the package."""

    name: str
    python: str = sys.executable
    path: tuple[str, ...] = ()  # folders of PYTHONPATH, in order; empty: what the interpreter has installed
    folder: str = "."  # where it runs: the folder of the project whose engine is measured
    environment: Mapping[str, str] = field(default_factory=dict)  # beside this process's own
    root: str | None = None  # folder that its code must come from; None: from wherever it is found

    @classmethod
    def here(cls, name: str = "here") -> Side:
        """Returns the code that this process runs, in the current folder."""
        return cls(name, sys.executable, tuple(path or str(Path.cwd()) for path in sys.path), str(Path.cwd()))

    def variables(self) -> dict[str, str]:
        """Returns the environment of its processes."""
        usual = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        given = {"PYTHONPATH": os.pathsep.join(self.path)} if self.path else {}
        return {**usual, **given, **self.environment}


@dataclass(frozen=True, slots=True)
class Request:
    """One run to measure."""

    pack: str  # a shipped name, `start`, or a folder
    seed: int = 42
    world: str | None = None  # folder of an imported world
    publish: bool = True  # also write the run as files, if the engine can; they are removed afterwards
    replay: bool = False  # also execute the published run again
    metrics: bool = False  # also measure what its gates are about
    profile: bool = False  # also profile it, which slows it down: its seconds are not to be compared


@dataclass(frozen=True, slots=True)
class StateCost:
    """The cost of a state in one round."""

    state: str
    wall_s: float
    cpu_s: float | None  # of all threads; None where a release reports none and the state is no step
    rows: int
    peak_mb: float | None  # MiB, highest while it was computed; None where the system does not say it


@dataclass(frozen=True, slots=True)
class Round:
    """One run of one side."""

    side: str
    wall_s: float  # of the whole process
    printed: int  # bytes that it wrote to stderr
    states: tuple[StateCost, ...]
    answer: Mapping[str, Any] = field(repr=False)  # the document of `worker`

    @property
    def seconds(self) -> float:
        """Wall seconds of all states."""
        return sum(state.wall_s for state in self.states)

    @property
    def processor_seconds(self) -> float | None:
        """Processor seconds of all states; None if one of them has none."""
        used = [state.cpu_s for state in self.states]
        return None if None in used else sum(one for one in used if one is not None)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 (hex64) of each surface."""
        return dict(self.answer["digests"])

    @property
    def log_bytes(self) -> int:
        """Bytes of logs and documents: what it printed, and all that it published beside tables."""
        return self.printed + int((self.answer["published"] or {}).get("log_bytes", 0))


@contextmanager
def reachable(name: str, pack: Pack, engine: str) -> Iterator[str]:
    """Yields how another process finds a pack: `start`, its folder, or the folder of a copy where it has none."""
    place = name if name == START else _folder(name)
    if place is not None:
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="lanelock-pack-") as folder:
        write_pack(pack, engine, Path(folder))
        yield folder


def write_pack(pack: Pack, engine: str, folder: Path) -> None:
    """Writes a pack where another process reads it, whatever is shipped there under its name."""
    for name, document in pack.files(engine).items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")


def _folder(name: str) -> str | None:
    try:
        found = resolve(name, "packs")
    except PolicyError:
        return None
    return str(found.absolute()) if found.is_dir() else None


def one_round(side: Side, request: Request, *, timeout_s: float = _LONGEST, below: Path | None = None) -> Round:
    """Returns one run, measured in a fresh process, whose files lie `below` a folder until it ends.

    Raises EngineError naming the side that did not run.
    """
    with tempfile.TemporaryDirectory(prefix="lanelock-perf-", dir=below) as scratch:
        asked = json.dumps({**asdict(request), "folder": scratch, "root": side.root})
        began = time.perf_counter()
        try:
            done = subprocess.run(
                [side.python, "-P", worker.__file__, asked],
                capture_output=True, cwd=side.folder, env=side.variables(), timeout=timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineError(f"{side.name}: pack {request.pack}", f"ran longer than {timeout_s:g} s, ended") from None
        except OSError as error:
            raise DataError(f"{side.name}: {side.python}: cannot be started: {error.strerror}") from None
        wall = time.perf_counter() - began
    return _round(side, wall, done)


def _round(side: Side, wall: float, done: subprocess.CompletedProcess[bytes]) -> Round:
    printed = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode:
        why = _KIND.sub("", printed[-1]) if printed else f"exit code {done.returncode}"
        raise EngineError(side.name, why, "\n".join(printed))
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise EngineError(side.name, "ended without an answer, and said that all is well", "\n".join(printed)) from None
    if not answer["files_within"]:
        raise DataError(f"{side.name}: nothing in it was run: it holds neither this engine nor Lanelock")
    states = tuple(StateCost(**state) for state in answer["states"])
    return Round(side.name, wall, len(done.stderr), states, answer)
