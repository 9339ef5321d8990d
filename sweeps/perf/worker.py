"""Measures one run of an engine in this process: a script with which any release of Lanelock can be measured.

    python -P worker.py '{"pack": "baseline", "seed": 42, "publish": true, "folder": "scratch"}'

It reads one JSON document (`measure.Request`) from its argument or stdin and writes one to stdout; whatever the engine
prints goes to stderr. It imports nothing of this release but what it measures, and looks for each part before it uses
it, since the interpreter of an older release runs it as well. The process has run nothing before, so no state is
remembered.

Wall seconds are those that the engine reports for its states. Where states are steps (`engine.steps`), each step is
wrapped, which gives what an older release does not report: processor seconds, the peak memory (Linux: the kernel's
high-water mark, set back before the step; elsewhere null) and the profile. A step that no state is named after prepares
the input of a state, and counts for the state that follows. A state without steps is measured from outside if it is
the only one, with the processes below it. Processor seconds are of all threads, and of the processes below too.

A profiled run does the work of its threads in one thread, since only that is profiled.
"""

from __future__ import annotations

import cProfile
import ctypes
import hashlib
import json
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

_PDEATHSIG = 1  # of prctl(2)
_SHOWN = 25  # functions per state in a profile
_TABLES = {".parquet", ".arrow", ".feather", ".csv", ".npy", ".npz", ".bin"}  # of published files; all others are logs
_LOOK = 0.02  # seconds between two looks at the processes below
_PROJECT = "lanelock.toml"  # of an engine without a package: its folder is where it runs
_PUBLISHING = "publishing"  # stands for a state where an engine reports none for it


def measured(request: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what one run costs and gives."""
    loading = _Clock()
    engines = import_module("lanelock.sweeps.engines")
    pack, engine = engines.open_pack(request["pack"])
    str(engine.code_version)  # the engine digests its code once; no state is charged with it
    loaded, watch, working = loading.read(), _Watch(profiled=bool(request.get("profile"))), _Clock()
    world = {"world": Path(request["world"])} if request.get("world") else {}
    with watch.steps(), _Below() as below:
        run = watch.of("", lambda: engine.evaluate(pack, request["seed"], **world))
    states = watch.states(run.states, below.peak)
    answer = {
        "lanelock": _version(), "python": platform.python_version(), "engine": str(engine.name), "pack": pack.digest,
        "run_id": run.run_id, "world_digest": run.world_digest, "code_version": str(run.code_version),
        "fingerprint": str(getattr(run, "fingerprint", "")), "import": loaded, "evaluate": watch.whole,
        "digests": run.digests(), "audit": getattr(run.audit, "passed", None), "published": None, "replay": None,
        "inputs": _inputs(run.states), "surfaces": _surfaces(engine),
        "metrics": _metrics(run) if request.get("metrics") else None,
    }  # fmt: skip
    own, used, answer["work"] = getattr(engine, "own", engine), _processor(), working.read()
    if request.get("publish") and hasattr(own, "publish"):
        folder = Path(request["folder"])
        published = watch.of(_PUBLISHING, lambda: own.publish(run, folder / "kept"))
        within = getattr(published, "states", ())
        states += watch.states(within)
        used, answer["work"] = _processor(), working.read()
        made = Path(getattr(published, "folder", published))
        answer["published"] = {**watch.whole, **_written(made), "states": [report.name for report in within]}
        if request.get("replay"):
            answer["replay"] = _replayed(own, made, folder / "again")
    whole = {"cpu_s": used, "peak_mb": watch.highest}  # of the process, its start and imports included
    within = _within(request.get("root"))
    return {**answer, "states": states, "profiles": watch.profiles, "process": whole, "files_within": within}


class _Clock:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), _processor()

    def read(self) -> dict[str, Any]:
        return {"wall_s": time.perf_counter() - self._began, "cpu_s": _processor() - self._used}


def _processor() -> float:
    """Returns the processor seconds of all threads and of all processes below this one, ended or not."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system + sum(map(_spent, _below(os.getpid())))


def _spent(process: int) -> float:
    """Returns the processor seconds of another process and of its ended children; 0 if it is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _below(process: int) -> Iterator[int]:
    """Yields the processes below one, as far as the system says which they are."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                yield child
                yield from _below(child)


class _Below(threading.Thread):
    """Looks at the memory of the processes below this one while a block runs, since only their ends are reported."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0.0, threading.Event()  # MiB of all of them together

    def run(self) -> None:
        while not self._done.wait(_LOOK):
            self.peak = max(self.peak, sum(_peak(child) or 0.0 for child in _below(os.getpid())))

    def __enter__(self) -> _Below:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


class _Watch:
    """What was seen of the steps of a run."""

    def __init__(self, *, profiled: bool) -> None:
        self._profiled = profiled
        self._profile: cProfile.Profile | None = None
        if profiled and (workers := _module("workers")) is not None:
            workers.ThreadPoolExecutor = _Here
        self._steps = list[dict[str, Any]]()  # step, wall_s, cpu_s, peak_mb, profile; in the order in which they ended
        self.whole = dict[str, Any]()  # wall_s, cpu_s, peak_mb of the work that ended last
        self.profiles = dict[str, dict[str, Any]]()  # state -> seconds seen, and its costliest functions
        self.highest: float | None = None  # MiB

    def of(self, step: str, work: Callable[[], Any]) -> Any:
        """Returns the result of a piece of work, whose cost is noted under the name of a step."""
        profile = cProfile.Profile() if self._profiled else None
        self._reset()
        clock = _Clock()
        with self._profiling(profile):
            result = work()
        self.whole = {**clock.read(), "peak_mb": self._reset()}
        self._steps.append({"step": step, **self.whole, "profile": profile})
        return result

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Watches each step of `engine.steps` that the block computes."""
        if (steps := _module("steps")) is None:
            yield
            return
        usual = steps.Steps.__call__

        def watched(run: Any, name: str, *rest: Any, **named: Any) -> Any:
            return self.of(name, lambda: usual(run, name, *rest, **named))

        steps.Steps.__call__ = watched
        try:
            yield
        finally:
            steps.Steps.__call__ = usual

    def states(self, reports: Sequence[Any], below: float = 0.0) -> list[dict[str, Any]]:
        """Returns the cost of each reported state, from the steps seen since the last call.

        `below`: the memory of the processes below this one, which are those of a single state.
        """
        seen, self._steps = self._steps, []
        steps = _by_state(seen, [report.name for report in reports])
        for name, rows in steps.items() if self._profiled else ():
            self.profiles[name] = _costliest(row["profile"] for row in rows if row["profile"])
        rows = [_state(report, steps.get(report.name, [])) for report in reports]
        if len(rows) == 1:
            rows[0]["cpu_s"] = self.whole["cpu_s"]
            if rows[0]["peak_mb"] is not None:
                rows[0]["peak_mb"] += below
                self.highest = max(rows[0]["peak_mb"], self.highest or 0.0)
        return rows

    @contextmanager
    def _profiling(self, profile: cProfile.Profile | None) -> Iterator[None]:
        """Profiles a block, and leaves it out of the profile of what is around it."""
        around, self._profile = self._profile, profile
        for one, switch in ((around, "disable"), (profile, "enable")):
            getattr(one, switch, bool)()
        try:
            yield
        finally:
            for one, switch in ((profile, "disable"), (around, "enable")):
                getattr(one, switch, bool)()
            self._profile = around

    def _reset(self) -> float | None:
        """Returns the peak memory in MiB since it was set back, and sets it back."""
        peak = _peak()
        self.highest = max((one for one in (peak, self.highest) if one is not None), default=None)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return peak


def _module(name: str) -> Any:
    """Returns a module of `lanelock.engine`; null where this release has none of that name."""
    with suppress(ImportError):
        return import_module(f"lanelock.engine.{name}")
    return None


def _peak(process: int | str = "self") -> float | None:
    """Returns the peak memory (MiB) of a process since it was set back; null where the system does not say it."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return None


def _by_state(steps: Sequence[dict[str, Any]], states: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns the steps of each state. The whole of a run counts where it has one state; else its steps do."""
    if len(states) < 2:
        return {states[0] if states else _PUBLISHING: list(steps)}
    found, waiting = dict[str, list[dict[str, Any]]](), list[dict[str, Any]]()
    for row in steps:
        waiting.append(row)
        if row["step"] in states:
            found.setdefault(row["step"], []).extend(waiting)
            waiting = []
    return found


def _state(report: Any, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the cost of a state: as it is reported, and else as its steps were seen."""
    seen = sum(row["cpu_s"] for row in steps) if steps else None
    peaks = [row["peak_mb"] for row in steps if row["peak_mb"] is not None]
    return {
        "state": report.name,
        "wall_s": report.seconds or sum(row["wall_s"] for row in steps),  # an engine need not report any
        "cpu_s": seen if seen is not None else getattr(report, "processor_s", 0.0) or None,  # alike in every release
        "rows": report.rows,
        "peak_mb": max(peaks, default=None),
    }


class _Here(Executor):
    """An executor without threads: a part is done when it is handed over."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done = Future[Any]()
        try:
            done.set_result(work(*arguments, **named))
        except BaseException as error:
            done.set_exception(error)
        return done


def _costliest(profiles: Iterator[cProfile.Profile]) -> dict[str, Any]:
    """Returns the seconds profiled, and the functions in which most of them were spent, without what they called."""
    spent = dict[tuple[str, int, str], list[float]]()
    for profile in profiles:
        profile.create_stats()
        for place, (_, calls, own, within, _) in profile.stats.items():
            row = spent.setdefault(place, [0, 0.0, 0.0])
            row[:] = row[0] + calls, row[1] + own, row[2] + within
    ranked = sorted(spent.items(), key=lambda item: -item[1][1])[:_SHOWN]
    functions = [
        {"function": _named(*place), "calls": int(calls), "own_s": own, "within_s": within}
        for place, (calls, own, within) in ranked
    ]
    return {"own_s": sum(own for _, own, _ in spent.values()), "functions": functions}


def _named(file: str, line: int, function: str) -> str:
    """Returns where a function stands, without the folders above its package: paths differ by machine."""
    if file == "~":
        return re.sub(r" at 0x[0-9a-f]+", "", function)
    parts = Path(file).parts
    tops = [at for at, part in enumerate(parts) if part in ("lanelock", "site-packages")]
    tops += [at for at, part in enumerate(parts) if part.startswith("python3.")]
    return f"{'/'.join(parts[max(tops, default=len(parts) - 2) + 1 :])}:{line}({function})"


def _written(folder: Path) -> dict[str, Any]:
    """Returns the published files: how many, their bytes, those of logs and documents, size and digest of each."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path: path.stat().st_size for path in files}
    return {
        "files": len(files),
        "bytes": sum(sizes.values()),
        "log_bytes": sum(size for path, size in sizes.items() if path.suffix not in _TABLES),
        "sizes": {path.relative_to(folder).as_posix(): size for path, size in sizes.items()},
        "digests": {path.relative_to(folder).as_posix(): _digest(path) for path in files},
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replayed(engine: Any, published: Path, scratch: Path) -> dict[str, Any] | None:
    """Returns what executing a published run again gave; null where a release cannot."""
    if not hasattr(engine, "replay"):
        return None
    clock, again = _Clock(), engine.replay(published, scratch)
    return {**clock.read(), "identical": bool(again.identical), "differences": [*again.differences]}


def _version() -> str:
    try:
        return metadata.version("lanelock")
    except metadata.PackageNotFoundError:  # from a folder that is not installed
        return ""


def _within(root: str | None) -> bool:
    """Returns whether anything that was loaded lies below a folder; true without one."""
    if root is None:
        return True
    if Path(root, _PROJECT).is_file():
        return True
    files = [Path(file) for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))]
    resolved = Path(root).resolve()
    return any(file.is_relative_to(root) or file.resolve().is_relative_to(resolved) for file in files)


def _inputs(states: Sequence[Any]) -> dict[str, list[str]]:
    """Returns what each state reads, by name, for the states whose address says so."""
    addresses = {report.name: getattr(report, "address", {}) for report in states}
    return {name: sorted(address["inputs"]) for name, address in addresses.items() if address.get("inputs")}


def _surfaces(engine: Any) -> dict[str, str]:
    """Returns the state that gives each surface, of an engine that declares them."""
    own = getattr(engine, "own", engine)
    return {row["surface"]: row["state"] for row in own.contract()} if hasattr(own, "contract") else {}


def _metrics(run: Any) -> dict[str, float]:
    """Returns the metrics of a run."""
    source = import_module("lanelock.sweeps.engines").metrics_named(run.engine)
    return {
        name: float(value) for name, value in import_module("lanelock.scoring.scorecard").measured(source, run).items()
    }


def _end_with_parent() -> None:
    """Has the system kill this process when its parent is gone, also if that was killed (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Answers one request on stdout."""
    _end_with_parent()
    request = json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read())
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # what the engine prints is not part of the answer
        json.dump(measured(request), answer)


if __name__ == "__main__":
    main()
