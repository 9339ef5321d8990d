"""One try: a command, a fault, the command again, and what was lost, doubled, half-written or led astray."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos import faults
from tests.chaos.commands import Command, as_json, commands, environment, facts, restored, template, whole
from tests.chaos.faults import EXACT, KILLS, TIMED, Ended
from tests.chaos.server import sweep_and_sync

SERVER = "server comes and goes"
FAULTS = (*EXACT, *TIMED, *faults.WHOLE, SERVER)
_SERVER_TRIES = 25  # one try in so many: it starts a server, which takes ten times as long as any other try
_ROUNDS = 3  # accidents in a row, at most, before the command is left in peace
_HELD = ("aliases", "registry", "locks", "runs", "frozen", "evidence", "waiting")
_CODES = {0, 1, 2, 130, 143, -2, -9, -15}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one try showed. All lists are empty where all is well."""

    number: int
    command: str
    fault: str
    hits: int  # accidents that happened: the command may have ended before
    lost: Sequence[str] = ()
    doubled: Sequence[str] = ()
    half: Sequence[str] = ()  # half-written
    astray: Sequence[str] = ()  # aliases
    other: Sequence[str] = ()  # another result, an undocumented exit code, a traceback, a hang

    @property
    def faults(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.half, *self.astray, *self.other]


@dataclass(slots=True)
class Bench:
    """A folder to play in: the template, the workspace, and how each command ends undisturbed."""

    place: Path
    ends: dict[str, tuple[Ended, Mapping[str, Any]]] = field(default_factory=dict)
    mounts: bool = False

    @classmethod
    def at(cls, place: Path) -> Bench:
        """Makes the template below a folder that is empty or missing."""
        bench = cls(place)
        for folder in (bench.root, bench.outside):
            folder.mkdir(parents=True)
        environment(bench.root)
        template(bench.root, bench.outside)
        restored(bench.root, place / "kept" / "root")
        restored(bench.outside, place / "kept" / "outside")
        return cls(place, mounts=faults.may_mount(_made(place / "mount")))

    @property
    def root(self) -> Path:
        return self.place / "workspace"

    @property
    def outside(self) -> Path:
        return self.place / "outside"

    def restore(self) -> None:
        restored(self.place / "kept" / "root", self.root)
        restored(self.place / "kept" / "outside", self.outside)

    def undisturbed(self, command: Command) -> tuple[Ended, Mapping[str, Any]]:
        """Returns how a command ends and what the workspace then holds, where nothing happens to it."""
        if command.name not in self.ends:
            self.restore()
            ended = faults.run(command.arguments, arm=faults.exact("", 0, self.place))
            if ended.code not in (0, 1):
                raise AssertionError(f"{command.name}: {ended}")
            self.ends[command.name] = ended, self.facts()
        return self.ends[command.name]

    def facts(self) -> Mapping[str, Any]:
        return _apart(partial(facts, self.root))

    def half_written(self) -> list[str]:
        return list(_apart(partial(whole, self.root, self.outside)))


def play(bench: Bench, seed: int, number: int, only: str = "", fault: str = "") -> Outcome:
    """Plays one try, which follows from its seed and number alone."""
    draw = random.Random(f"{seed}:{number}")
    if fault == SERVER or (not fault and not only and number % _SERVER_TRIES == _SERVER_TRIES - 1):
        lost, doubled, wrong = sweep_and_sync(bench.place / "remote", draw)
        return Outcome(number, "sweep", SERVER, 1, lost=lost, doubled=doubled, other=wrong)
    command = draw.choice([row for row in commands(bench.outside) if only in ("", row.name)])
    wanted = [row for row in FAULTS[:-1] if bench.mounts or "disk" not in row or row in EXACT]
    chosen = fault or draw.choice(wanted)
    ended, expected = bench.undisturbed(command)
    bench.restore()
    try:
        accidents, said = _disturbed(bench, command, chosen, ended, draw)
        half = bench.half_written()
        at_peace, aside = _in_peace(command, bench.root)
        actual = bench.facts()
    except TimeoutError as error:
        return Outcome(number, command.name, chosen, 1, other=[str(error)])
    rows = compared(expected, actual)
    other = [*said, *aside, *rows.pop("other")]
    if at_peace.code != ended.code and not _done_already(command, at_peace):
        other.append(f"repeated, it ended with {at_peace.code} instead of {ended.code}: {at_peace.err[-300:]}")
    return Outcome(number, command.name, chosen, accidents, half=half, other=other, **rows)


def _disturbed(bench: Bench, command: Command, fault: str, ended: Ended, draw: random.Random) -> tuple[int, list[str]]:
    """Runs the command under one to three accidents. Returns how many happened, and what it should not have said."""
    accidents, wrong = 0, []
    for _ in range(draw.randint(1, _ROUNDS) if fault in KILLS else 1):
        arguments = command.again(bench.root) if accidents else command.arguments
        if fault == "small disk":
            room = _bytes(bench.root) + draw.randrange(4, 400) * 1024
            with _elsewhere(bench.root, f"size={room}"):
                hit = faults.run(arguments)
        elif fault == "read-only disk":
            with _elsewhere(bench.root, "size=200m", "ro"):
                hit = faults.run(arguments)
        elif fault == "clock":
            hit = faults.run(arguments, arm=faults.backwards)
        elif fault in TIMED:
            hit = faults.run(arguments, outside=faults.timed(fault, draw.random() * ended.seconds))
        else:
            hit = faults.run(arguments, arm=faults.exact(fault, draw.randint(1, max(1, ended.operations)), bench.place))
        accidents += fault in ("clock", "tracking killed") or hit.code not in (0, 1)
        wrong += _misspoken(hit)
    return accidents, wrong


def _misspoken(ended: Ended) -> list[str]:
    """Returns what a disturbed command did that is documented nowhere."""
    faults_found = []
    if ended.code not in _CODES:
        faults_found.append(f"exit code {ended.code}: {ended.err[-300:]}")
    if "Traceback" in ended.err + ended.out:
        faults_found.append(f"a traceback: {ended.err[-300:]}")
    if ended.code == 2 and len(ended.err.strip().splitlines()) == 0:
        faults_found.append("exit code 2 in silence")
    return faults_found


def _in_peace(command: Command, root: Path) -> tuple[Ended, list[str]]:
    """Repeats a command as its user would, and then `sync`. Returns how it ended, and what was wrong with that."""
    ended = faults.run(command.again(root))
    synced = faults.run(("sync",))
    return ended, [] if synced.code == 0 else [f"sync ended with {synced.code}: {synced.err[-300:]}"]


def _done_already(command: Command, ended: Ended) -> bool:
    """Tells a command that says that an accident came after its work was done: nothing is left to roll back, say."""
    return command.name in ("rollback", "promote", "unpack", "lock", "reopen") and ended.code in (0, 1, 2)


def compared(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns what the workspace lost, holds twice, or holds otherwise than after an undisturbed command."""
    expected, actual = as_json(expected), as_json(actual)
    lost, doubled = [], []
    for name, trials in expected["trials"].items():
        there = actual["trials"].get(name, [])
        lost += [f"{name}/{row[0]}" for row in trials if row[:2] not in [row[:2] for row in there]]
        doubled += [
            f"{name}/{row[0]} in the study" for row in there if [number for number, *_ in there].count(row[0]) > 1
        ]
    for name, numbers in expected["tracked"].items():
        there = actual["tracked"].get(name, [])
        lost += [f"{name}/{number} in MLflow" for number in numbers if number not in there]
        doubled += [f"{name}/{number} in MLflow" for number in set(there) if there.count(number) > 1]
    differing = {
        kind: f"{kind}: {actual[kind]} instead of {expected[kind]}" for kind in _HELD if expected[kind] != actual[kind]
    }
    astray = [text for kind, text in differing.items() if kind in ("aliases", "registry")]
    other = [text for kind, text in differing.items() if kind not in ("aliases", "registry")]
    return {"lost": lost, "doubled": doubled, "astray": astray, "other": other}


@contextmanager
def _elsewhere(root: Path, options: str, then: str = "") -> Iterator[None]:
    """Plays with the workspace on a file system of its own, and brings back what the command left there."""
    kept = root.with_name("moved")
    restored(root, kept)
    with faults.disk(root, options):
        replaced(kept, root)
        if then:
            subprocess.run(["mount", "-o", f"remount,{then}", root], check=True)
        yield
        restored(root, kept)
    replaced(kept, root)


def replaced(kept: Path, root: Path) -> None:
    """Replaces the content of a folder, which itself stays."""
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(kept, root, symlinks=True, dirs_exist_ok=True)


def _bytes(root: Path) -> int:
    return sum((path.stat().st_size + 4095) // 4096 * 4096 + 4096 for path in root.rglob("*") if not path.is_symlink())


def _apart(question: Callable[[], Any]) -> Any:
    """Returns the answer of a forked process, which leaves nothing open in this one. Raises what it raised, as text."""
    with tempfile.TemporaryFile("w+") as file:
        process = os.fork()
        if process == 0:
            code = 1
            try:
                json.dump(question(), file)
                file.flush()
                code = 0
            except BaseException as error:
                json.dump(f"{type(error).__name__}: {error}", file)
                file.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        file.seek(0)
        answer = json.load(file)
        if status:
            raise AssertionError(answer)
        return answer


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tries(place: Path, seed: int, numbers: Sequence[int], until: float, only: str, fault: str) -> list[Outcome]:
    """Plays tries on a bench of its own, until a time of the monotonic clock."""
    bench, outcomes = Bench.at(place), []
    for number in numbers:
        if time.monotonic() > until:
            break
        outcomes.append(play(bench, seed, number, only, fault))
        print(".!"[bool(outcomes[-1].faults)], end="", flush=True)
        if outcomes[-1].faults:
            print(f"\n{outcomes[-1]}", flush=True)
    return outcomes
