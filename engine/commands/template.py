"""The command of an engine: its words, their placeholders, and the files of the user's folder that it names.

    {config}   the path of the written configuration      {seed}     the seed
    {out}      the path of the output file or folder      {NAME}     one parameter
    {args}     --name value for every parameter           {folder}   the folder of the user's file
    {params}   every parameter, as one JSON text          {world}    the folder of the world's tables, as Parquet

`{{` and `}}` are braces. A word is one argument whatever is put in, since no shell ever sees it. A program with a `/`
is seen from the user's folder, any other is found on PATH. An argument without placeholders that names a file below
the user's folder (and has a `.` or `/`) is that file: a program runs elsewhere, where the name alone means nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter

from lanelock.policies import EngineError, PolicyError

CONFIG, OUT, SEED, ARGS, PARAMS = "config", "out", "seed", "args", "params"
WORLD, FOLDER = "world", "folder"
PLACEHOLDERS = (CONFIG, OUT, SEED, ARGS, PARAMS, WORLD, FOLDER)
EVERYTHING = {CONFIG, ARGS, PARAMS}  # each carries all parameters
_Word = tuple[tuple[str, str | None], ...]  # a text, and the placeholder after it


@dataclass(frozen=True, slots=True)
class Template:
    """A command with its program found and its placeholders known."""

    texts: tuple[str, ...]  # as the user wrote them
    program: Path
    words: tuple[_Word, ...]
    files: tuple[Path, ...]  # of the user's folder: the program and the files that arguments name

    @property
    def used(self) -> frozenset[str]:
        """The placeholders in it."""
        return frozenset(field for word in self.words for _, field in word if field is not None)

    def filled(self, values: Mapping[str, str], args: Sequence[str]) -> tuple[str, ...]:
        """Returns the arguments. Raises EngineError for a parameter without a value, or a value that is no argument."""
        arguments = list[str]()
        for word in self.words:
            arguments += (
                args if word == (("", ARGS),) else ["".join(text + _value(values, name) for text, name in word)]
            )
        for argument in arguments:
            if "\0" in argument:
                raise EngineError(self.program.name, f"{argument[:50]!r}: an argument cannot hold a null character")
        return tuple(arguments)

    def with_args(self) -> Template:
        """Returns the same command with {args} at its end."""
        return replace(self, words=(*self.words, (("", ARGS),)))


def template_of(
    command: str | Sequence[str], parameters: Iterable[str], folder: Path, path: str, where: str
) -> Template:
    """Returns a command as a template. Raises PolicyError naming the word, and what is known or allowed.

    `path`: PATH, on which a program without a `/` is found.
    """
    texts, known = _texts(command, where), (*PLACEHOLDERS, *parameters)
    program, *words = (_parsed(text, known, folder, where) for text in texts)
    for word in words:
        if any(field == ARGS for _, field in word) and word != (("", ARGS),):
            raise PolicyError(f"{where}: {{args}} must be an argument of its own: it stands for several")
    found = _program(program, texts[0], folder, path, where)
    words = [_file_named(word, folder) for word in words]
    files = [Path(word[0][0]) for word in words if _is_literal(word)]
    inside = [file for file in (found, *files) if file.is_file() and is_below(file, folder)]
    return Template(tuple(texts), found, tuple(words), tuple(dict.fromkeys(inside)))


def is_below(file: Path, folder: Path) -> bool:
    """Returns whether a file, or what it links to, lies below a folder."""
    return file.is_relative_to(folder) or file.resolve().is_relative_to(folder.resolve())


def _texts(command: str | Sequence[str], where: str) -> list[str]:
    try:
        texts = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise PolicyError(f"{where}: {command!r}: {str(error).lower()}") from None
    if not texts or not all(isinstance(text, str) and "\0" not in text for text in texts) or not texts[0]:
        raise PolicyError(f"{where}: {command!r} is not a program and its arguments, as a text or a list of texts")
    return texts


def _parsed(text: str, known: Sequence[str], folder: Path, where: str) -> _Word:
    """Returns a word in parts, the folder filled in."""
    try:
        parts = [*Formatter().parse(text)]
    except ValueError:
        raise PolicyError(f"{where}: {text!r}: a brace without its other; write {{{{ or }}}} for a brace") from None
    word: list[tuple[str, str | None]] = [("", None)]
    for before, field, spec, conversion in parts:
        if field is not None and (field not in known or spec or conversion):
            shown = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise PolicyError(
                f"{where}: {text!r}: no placeholder {{{shown}}}; known: "
                f"{', '.join(f'{{{name}}}' for name in known)}; write {{{{ for a brace"
            )
        if known.count(field or "") > 1:
            raise PolicyError(f"{where}: {text!r}: {{{field}}} is both a parameter and a placeholder; rename the first")
        last = word.pop()[0] + before
        word += (
            [(last + str(folder), None)]
            if field == FOLDER
            else [(last, field), ("", None)]
            if field
            else [(last, None)]
        )
    if word[-1] == ("", None) and len(word) > 1:
        word.pop()
    return tuple(word)


def _is_literal(word: _Word) -> bool:
    return len(word) == 1 and word[0][1] is None


def _program(word: _Word, text: str, folder: Path, path: str, where: str) -> Path:
    """Returns the program's file. Raises PolicyError where it cannot be started."""
    if not _is_literal(word):
        raise PolicyError(f"{where}: {text!r}: the program may have no placeholder but {{folder}}")
    name = word[0][0]
    if "/" not in name:
        if (found := shutil.which(name, path=path)) is None:
            beside = f"; write ./{name} for the file in {folder}" if (folder / name).is_file() else ""
            raise PolicyError(f"{where}: {name}: no such program on PATH{beside}")
        return Path(found).absolute()
    program = folder / name
    if not program.is_file():
        raise PolicyError(f"{where}: {program}: no such program")
    if not os.access(program, os.X_OK):
        raise PolicyError(f"{where}: {program}: not executable; chmod +x it, or name its interpreter before it")
    if why := _no_program(program):
        raise PolicyError(f"{where}: {program}: {why}")
    return Path(os.path.normpath(program))


def _no_program(program: Path) -> str:
    """Returns why the system would not start a file; empty where it may."""
    try:
        with program.open("rb") as file:
            line = file.readline(256)
    except OSError:  # it may be run and not read
        return ""
    if line.startswith(b"#!"):
        interpreter = os.fsdecode(line[2:].split()[0]) if line[2:].split() else ""
        return "" if os.access(interpreter, os.X_OK) else f"its first line names no interpreter: {interpreter!r}"
    is_text = all(byte >= 0x20 or byte in b"\t\r\n" for byte in line)
    return "a text without a first line such as #!/bin/sh" if is_text else ""


def _file_named(word: _Word, folder: Path) -> _Word:
    """Returns a word that names a file below the folder as the file's path, any other as it is."""
    name = word[0][0]
    if not _is_literal(word) or not ("." in name or "/" in name):
        return word
    place = Path(os.path.normpath(folder / name))
    return ((str(place), None),) if place.is_relative_to(folder) and place.is_file() else word


def _value(values: Mapping[str, str], name: str | None) -> str:
    if name is None:
        return ""
    if name not in values:
        raise EngineError(f"{{{name}}}", f"parameter {name} has no value, and the command asks for it")
    return values[name]
