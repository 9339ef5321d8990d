"""A command that is run once for every run of its engine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lanelock.engine.commands import configuration
from lanelock.engine.commands.outputs import READERS, collected, read_json, result_of
from lanelock.engine.commands.processes import STDERR, STDOUT, Program, Ran, in_short, ran
from lanelock.engine.commands.template import ARGS, CONFIG, EVERYTHING, OUT, PARAMS, SEED, WORLD, Template
from lanelock.policies import DataError, EngineError, PolicyError


@dataclass(frozen=True, slots=True)
class Left:
    """What a program was given and what it left, as files by path: kept where its run is published."""

    compared: Mapping[str, bytes]  # the same in every run: the configuration and the results
    printed: Mapping[str, bytes]  # the last MiB of its logs, which may say when and where it ran


@dataclass(frozen=True, slots=True)
class Once:
    """A command, and how parameters, seed and results pass between it and its engine."""

    template: Template
    program: Program
    config: configuration.Form
    seed_as: str  # the seed's name in a configuration; empty: the program takes no seed but by {seed}
    output: str  # a file, or a folder with a `/` at its end; empty: stdout
    where: str

    def answer(self, params: Mapping[str, Any], seed: int, world: Mapping[str, bytes] | None) -> tuple[Any, Left]:
        """Runs the command once, and returns its result. Raises EngineError, with its log, if there is none.

        `world`: files of the world that it stands on, by name.
        """
        if (world is None) is (WORLD in self.template.used):
            why = "it has no world" if world is None else "it has a world, which does not reach it"
            raise EngineError(self.where, f"{why}: {{world}} in its command, and world in [engine], go together")
        whole = params if SEED in self.template.used or not self.seed_as else {**params, self.seed_as: seed}
        file, is_folder = f"config.{self.config}", self.output.endswith("/")
        values = {name: configuration.as_text(value) for name, value in params.items()}
        values |= {CONFIG: file, OUT: self.output.rstrip("/"), SEED: str(seed), PARAMS: configuration.as_json(whole)}
        values[WORLD] = WORLD
        folder = self.output if is_folder else str(Path(self.output).parent)
        arguments = self.template.filled(values, configuration.as_arguments(whole))
        given = {file: configuration.written(whole, self.config)} if CONFIG in self.template.used else {}
        files = {**given, **{f"{WORLD}/{name}": data for name, data in (world or {}).items()}}
        with ran(replace(self.program, arguments=arguments), files, folder) as run:
            run.hold(self.where)
            try:
                return self._results(run, given)
            except DataError as error:
                log = run.said()
                raise EngineError(self.where, ": ".join(filter(None, (str(error), in_short(log)))), log) from None

    def _results(self, run: Ran, given: Mapping[str, bytes]) -> tuple[Any, Left]:
        logs = {name: run.log(name).encode() for name in ((STDERR, STDOUT) if self.output else (STDERR,))}
        if self.output:
            files = collected(run.work, self.output, self.program.limits.file)
            return result_of(files, self.output.endswith("/")), Left({**given, **files}, logs)
        files = collected(run.folder, STDOUT, self.program.limits.file)
        return read_json(files[STDOUT], STDOUT), Left({**given, **files}, logs)


def reaching(template: Template, config: str, seed_as: str, parameters: Sequence[str], where: str) -> Template:
    """Returns a command that hands over every parameter and the seed. Raises PolicyError naming one it does not.

    With `config` "args" and no placeholder for parameters, all of them follow as arguments.
    """
    used = template.used
    if config == "args" and CONFIG in used:
        raise PolicyError(
            f'{where}: {{config}} with config = "args": no file is written; use {{args}}, or another form'
        )
    if config == "args" and not used & {ARGS, PARAMS, *parameters}:
        template, used = template.with_args(), used | {ARGS}
    if used & EVERYTHING:
        return template
    for name, way in (*((name, f"{{{name}}}") for name in parameters), *([(SEED, "{seed}")] if seed_as else [])):
        if name not in used:
            none = 'or seed_as = "" if it takes none' if way == "{seed}" else "or {config}, {args} or {params} for all"
            raise PolicyError(f"{where}: {name} does not reach the program; add {way}, {none}")
    return template


def output_of(output: str, where: str) -> str:
    """Returns the output's path in its one form. Raises PolicyError for a path that is none of the program's folder."""
    place = os.path.normpath(output)
    if place.startswith("/") or place.split("/")[0] in ("..", ".") or "\0" in output:
        raise PolicyError(
            f"{where}: output: {output!r} must be a file or folder in the folder that the program runs in"
        )
    suffix = Path(place).suffix.lower()
    if output.endswith("/") or not suffix:
        return f"{place}/"
    if suffix not in READERS:
        raise PolicyError(f"{where}: output: {output!r}: none of {', '.join(READERS)}, nor a folder (no suffix)")
    if place in {f"config.{form}" for form in configuration.FORMS}:
        raise PolicyError(f"{where}: output: {output!r} is the name of the configuration")
    return place
