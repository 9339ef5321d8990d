"""Tries inputs one after the other, counts what came of them, and keeps those that failed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import FOLDER, ROOT
from .ground import Ground, build
from .trial import KINDS, PATIENCE, Bench, Input

Note = Callable[[str], None]  # told the name of each input before it is tried
CORPUS = FOLDER / "corpus"


@dataclass(frozen=True)
class Failure:
    """An input that was answered wrongly."""

    name: str
    fault: str
    recipe: str
    message: str

    @property
    def group(self) -> tuple[str, str]:
        """Failures of one group most likely have one cause."""
        return json.loads(self.recipe)["kind"], self.fault


@dataclass
class Tally:
    """What came of inputs, by kind; and the failures."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def add(self, kind: str, how: str, count: int = 1) -> None:
        self.outcomes.setdefault(kind, Counter())[how] += count

    @property
    def inputs(self) -> int:
        return sum(sum(row.values()) for row in self.outcomes.values())

    def table(self) -> str:
        """Returns the table: kind, inputs, how they were answered, failures."""
        hows = ("exit 2", "exit 3", "equal", "another valid input", "crash", "hang")
        failed = Counter(failure.group[0] for failure in self.failures)
        rows = [("kind", "inputs", *hows, "failures")]
        for kind, row in [*self.outcomes.items(), ("all", sum(self.outcomes.values(), Counter()))]:
            count = failed.total() if kind == "all" else failed[kind]
            rows.append((kind, str(sum(row.values())), *(str(row[how]) for how in hows), str(count)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join([f"{row[0]:<{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]) for row in rows)


def recipes() -> Iterator[tuple[str, str]]:
    """Yields (where, recipe) of every line of the corpus: inputs that failed once, and small ones of every kind."""
    for path in sorted(CORPUS.glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                yield f"{path.name}:{number}", line


def play(
    bench: Bench, inputs: Iterator[Input], tally: Tally, seconds: float = math.inf, note: Note = lambda name: None
) -> None:
    """Tries inputs until they or the seconds are spent."""
    end = time.monotonic() + seconds
    seen: Counter[tuple[str, str]] = Counter()
    for one in inputs:
        note(one.name)
        outcome = bench.tried(one)
        tally.add(one.kind, outcome.how)
        if outcome.fault is not None:
            failure = Failure(one.name, outcome.fault, one.recipe, outcome.message[:4_000])
            seen[failure.group] += 1
            if seen[failure.group] == 1:
                failure = Failure(one.name, outcome.fault, bench.shrunk(one, outcome).recipe, failure.message)
            tally.failures.append(failure)
        if time.monotonic() > end:
            return


def drawn(ground: Ground, kinds: Sequence[str], seed: int, first: int, step: int, last: int) -> Iterator[Input]:
    for number in range(first, last, step):
        for kind in kinds:
            yield Input.drawn(kind, seed, number, ground)


# Several processes


@dataclass(frozen=True)
class Order:
    """What one process is to try."""

    kept: str
    kinds: Sequence[str]
    seed: int
    first: int
    step: int
    last: int
    seconds: float
    out: str


def obey(order: Order) -> None:
    """Tries the inputs of an order, and writes what came of them, ever again, for whoever watches."""
    kept, out, tally = Ground(Path(order.kept)), Path(order.out), Tally()
    written = time.monotonic()

    def note(name: str) -> None:
        nonlocal written
        (out.with_suffix(".at")).write_text(name)
        if time.monotonic() - written > 5:
            written = time.monotonic()
            _write(out, tally)

    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        bench = Bench.at(kept, Path(folder) / "ground")
        inputs = drawn(bench.ground, order.kinds, order.seed, order.first, order.step, order.last)
        play(bench, inputs, tally, order.seconds, note)
    _write(out, tally)
    out.with_suffix(".done").touch()


def _write(out: Path, tally: Tally) -> None:
    row = {"outcomes": tally.outcomes, "failures": [asdict(failure) for failure in tally.failures]}
    staged = out.with_suffix(".new")
    staged.write_text(json.dumps(row))
    staged.replace(out)


def _read(out: Path, tally: Tally) -> None:
    if not out.exists():
        return
    row = json.loads(out.read_text())
    for kind, outcomes in row["outcomes"].items():
        for how, count in outcomes.items():
            tally.add(kind, how, count)
    tally.failures += [Failure(**failure) for failure in row["failures"]]


def spread(kinds: Sequence[str], seed: int, first: int, inputs: int, seconds: float, processes: int) -> Tally:
    """Tries inputs in several processes. One that dies or hangs is a failure, and another goes on after its input."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        kept = Path(os.environ.get("FUZZ_GROUND") or Path(folder) / "kept")
        if not kept.exists():
            build(kept)
        last = first + -(-inputs // len(kinds))
        return Crew(kept, Path(folder), kinds, seed, processes, last, time.monotonic() + seconds).played(first)


@dataclass
class Crew:
    """The processes that share the inputs: each has every `processes`-th number."""

    kept: Path
    folder: Path
    kinds: Sequence[str]
    seed: int
    processes: int
    last: int
    end: float
    running: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def played(self, first: int) -> Tally:
        try:
            for begin in range(first, first + self.processes):
                self._start(begin)
            while self.running:
                time.sleep(0.5)
                for out in [*self.running]:
                    self._look(out)
        finally:
            for process in self.running.values():
                process.kill()
                process.wait()
        return self.tally

    def _start(self, begin: int) -> None:
        out, left = self.folder / f"{begin}.json", max(1.0, self.end - time.monotonic())
        order = Order(str(self.kept), self.kinds, self.seed, begin, self.processes, self.last, left, str(out))
        words = [sys.executable, "-m", "tests.fuzz", "--obey", json.dumps(asdict(order))]
        self.running[out] = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL)

    def _look(self, out: Path) -> None:
        """Takes in what a process has done, if it has ended, or ends it."""
        process, at = self.running[out], out.with_suffix(".at")
        stuck = at.exists() and time.time() - at.stat().st_mtime > 2 * PATIENCE + 30
        if process.poll() is None and not stuck:
            return
        process.kill()
        process.wait()
        del self.running[out]
        _read(out, self.tally)
        if not out.with_suffix(".done").exists():
            name = at.read_text() if at.exists() else ""
            if not name or (process.returncode > 0 and not stuck):  # on stderr it says what is wrong with the fuzzer
                raise RuntimeError(f"the fuzzer itself failed at {name or 'its start'}")
            self._died(name, "hang: it had to be killed" if stuck else f"crash: it died of {process.returncode}")

    def _died(self, name: str, fault: str) -> None:
        kind, _, number = name.partition(":")
        one = Input.drawn(kind, self.seed, int(number), Ground(self.kept))
        self.tally.add(kind, fault.partition(":")[0])
        self.tally.failures.append(Failure(name, fault, one.recipe, ""))
        self._start(int(number) + self.processes)


def default_processes() -> int:
    return min(os.cpu_count() or 1, 16)


__all__ = ["KINDS", "Failure", "Order", "Tally", "drawn", "obey", "play", "recipes", "spread"]
