"""An engine that is a command, in any language: it reads a configuration, computes, and leaves its results.

    CommandEngine("heater", "./heater {config} {out}", schema, folder=here, config="toml", output="out.csv")

`commands.template` says what a command may ask for, `commands.outputs` what it may leave, and `commands.server` how a
program answers that stays. A program runs in a folder of its own, which is removed, and sees this environment and no
other: HOME and TMPDIR (that folder), PATH, LANG=C.UTF-8, TZ=UTC, and `env`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lanelock.engine.commands import configuration
from lanelock.engine.commands.once import Left, Once, output_of, reaching
from lanelock.engine.commands.processes import Limits, Program
from lanelock.engine.commands.server import Servers
from lanelock.engine.commands.template import FOLDER, OUT, Template, template_of
from lanelock.engine.keep.receipts import file_digest
from lanelock.engine.protocol import Run
from lanelock.engine.resolved import run_of
from lanelock.engine.tables import TableRuns, surfaces_of
from lanelock.policies import IntegrityError, Pack, PolicyError
from lanelock.policies.documents import digest

_ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC"}
_LEAST_MEMORY = 32  # MiB: what a start takes
_NOTHING: Mapping[str, str] = MappingProxyType({})


class CommandEngine(TableRuns):
    """A command as an engine with one policy and one state.

    A published run keeps what the program was given and what it left, which a replay must give again, and its logs.
    """

    def __init__(
        self,
        name: str,
        command: str | Sequence[str],
        schema: Mapping[str, Any],
        *,
        folder: Path,
        policy: str = "params",
        config: configuration.Form = "json",
        output: str | None = None,
        timeout_s: float | None = None,
        memory_mb: int | None = None,
        output_mb: int = 256,
        env: Mapping[str, str] = _NOTHING,
        code: Sequence[str] = (),
        seed_as: str = "seed",
        server: bool = False,
    ) -> None:
        """Finds the program, and checks that every parameter reaches it. Raises PolicyError naming the option.

        `folder`: of the file that names the command; programs and `code` are seen from it.
        `output`: the file or folder that holds the results; default: stdout, or `out.json` if the command has {out}.
        `timeout_s`: seconds of a run, or of an answer of a server, whose start is part of the first.
        `memory_mb`: MiB of all its processes together. `output_mb`: MiB of the results, and of each file it writes.
        `code`: further files that its results depend on. `seed_as`: the seed's name in a configuration; "": no seed.
        """
        self.name, self.policy_schemas = name, {policy: schema}
        self._policy, self._where, folder = policy, f"engine {name}", folder.absolute()
        _check(self._where, config, timeout_s, memory_mb, output_mb, env)
        limits = Limits(timeout_s, None if memory_mb is None else memory_mb << 20, output_mb << 20)
        environment = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **env}
        at, parameters = f"{self._where}: command", [*schema.get("properties", {})]
        template = template_of(command, parameters, folder, environment["PATH"], at)
        program = Program(str(template.program), (), environment, limits)
        self._way: Once | Servers
        if server:
            self._way, output = _served(template, program, self._where), ""
        else:
            if seed_as in parameters:
                raise PolicyError(f"{self._where}: seed_as: {seed_as!r} is a parameter; give the seed another name")
            template = reaching(template, config, seed_as, parameters, at)
            output = output or ("out.json" if OUT in template.used else "")
            output = output and output_of(output, self._where)
            self._way = Once(template, program, config, seed_as, output, self._where)
        self._files = _Files(folder, (*template.files, *_code(code, folder, f"{self._where}: code")))
        self.code_version = digest(
            {
                "command": list(template.texts), "config": config, "output": output, "env": dict(env),
                "seed_as": seed_as, "server": server, "files": self._files.digests(),
            }
        )  # fmt: skip

    @property
    def code_files(self) -> Mapping[str, str]:
        """Digests of the files that the code version covers, by path."""
        return self._files.digests()

    def evaluate(self, pack: Pack, seed: int, *, upstream: Run | None = None) -> Run:
        """Returns one run, on the tables of an upstream's. Raises EngineError, with the program's log as `details`."""
        began = time.perf_counter()
        params = configuration.exact(pack[self._policy], self.policy_schemas[self._policy])
        with self._files.unchanged(self._where):
            result, left = self._way.answer(params, seed, None if upstream is None else _files_of(upstream))
        surfaces = surfaces_of(result, self._where)
        return replace(run_of(self, pack, seed, surfaces, time.perf_counter() - began), sealed=left)

    def files(self, run: Run) -> Mapping[str, bytes]:
        """Returns the configuration and the results of a run, as the program read and wrote them."""
        left: Left = run.sealed
        return left.compared

    def logs(self, run: Run) -> Mapping[str, bytes]:
        """Returns what the program printed besides its results."""
        left: Left = run.sealed
        return left.printed


def _files_of(run: Run) -> dict[str, bytes]:
    """Returns the tables of a run as Parquet files, by name."""
    files = dict[str, bytes]()
    for name, surface in run.surfaces.items():
        sink = pa.BufferOutputStream()
        pq.write_table(surface.table(), sink)
        files[f"{name}.parquet"] = sink.getvalue().to_pybytes()
    return files


class _Files:
    """The files on which results depend."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self._paths = {os.path.relpath(path, folder): path for path in paths}
        self._seen, self._digests = self._look(), self.digests()

    def digests(self) -> dict[str, str]:
        """Returns the SHA-256 (hex64) of each file as it is now, by its path from the folder."""
        return {name: file_digest(path) for name, path in sorted(self._paths.items())}

    @contextmanager
    def unchanged(self, where: str) -> Iterator[None]:
        """Raises IntegrityError, whatever the block raises, if a file is not what it was before it or after it."""
        self._hold(where)
        try:
            yield
        finally:
            self._hold(where)

    def _hold(self, where: str) -> None:
        if (seen := self._look()) == self._seen:
            return
        changed = next((name for name, known in self._digests.items() if _digest(self._paths[name]) != known), None)
        if changed is not None:
            raise IntegrityError(
                f"{where}: {changed} was changed while it was in use; begin again with it as it is now"
            )
        self._seen = seen

    def _look(self) -> list[tuple[int, ...]]:
        """Returns what the file system says of each file: enough to see that none was written."""
        return [_state(path) for path in self._paths.values()]


def _state(path: Path) -> tuple[int, ...]:
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""


def _served(template: Template, program: Program, where: str) -> Servers:
    """Returns the servers of a command. Raises PolicyError for a placeholder, which no request could fill."""
    if unfit := sorted(template.used):
        raise PolicyError(
            f"{where}: command: {{{unfit[0]}}} in the command of a server, which reads parameters and seed from its "
            f"stdin; only {{{FOLDER}}} may stand there"
        )
    return Servers(replace(program, arguments=template.filled({}, ())), where)


def _code(names: Sequence[str], folder: Path, where: str) -> list[Path]:
    """Returns the files named, and those in the folders named. Raises PolicyError for a name of neither."""
    files = list[Path]()
    for name in names:
        place = folder / name
        if not place.exists():
            raise PolicyError(f"{where}: {place}: no such file or folder")
        files += sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    return files


def _check(
    where: str, config: str, timeout_s: float | None, memory_mb: int | None, output_mb: int, env: Mapping[str, str]
) -> None:
    if config not in configuration.FORMS:
        raise PolicyError(f"{where}: config: {config!r} is none of {', '.join(configuration.FORMS)}")
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise PolicyError(f"{where}: timeout_s: {timeout_s!r} is not a number of seconds above 0")
    if memory_mb is not None and memory_mb < _LEAST_MEMORY:
        raise PolicyError(f"{where}: memory_mb: {memory_mb!r} is below {_LEAST_MEMORY}, which a start takes")
    if not 1 <= output_mb <= 2048:
        raise PolicyError(f"{where}: output_mb: {output_mb!r} is not from 1 to 2048")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise PolicyError(f"{where}: env: {name!r}: not a variable that a program can have")
