"""Command lines: every command with its options, as click itself lists them, and values that do not belong there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from lanelock.sweeps.terminal.cli import COMMANDS

from .ground import Ground
from .judge import Answer, unclean

KIND = "line"
# Commands that would take minutes, call MLflow or serve for ever where their line is right: it never is.
HEAVY = ("sweep", "campaign", "certify", "ui", "sync")
ALWAYS = {"promote": ["--dry-run"], "rollback": ["--dry-run"], "sync": ["--check"], "audit": ["--sample", "1%"]}
LEFT_OUT = ("--apply", "--jobs", "--redirect", "--html", "--help", "--accept-other-code")
GOOD = {
    "lock": "@lock", "pack": "@pack", "name": "@pack", "lane": "@lane", "run_id": "@run", "what": "@lock",
    "before": "@lock", "after": "@lock", "alias": "candidate", "trial": "queue-1/1", "sweep": "queue-1",
    "shell": "bash", "world": "@world", "seed": "1", "seeds": "1", "why": "because", "csv": "out.csv",
    "parquet": "out.parquet", "key": "@key", "folder": "new", "out": "new", "base": "HEAD", "summary": "out.md",
    "engine": "queue", "holdout": "1", "feeds": "customers=file.txt", "against": "@run", "sample": "1%", "trials": "2",
    "port": "5000", "role": "maker",
}  # fmt: skip
# No absolute path that a command could write to, and nothing that no process can be given.
WORDS = (
    "", " ", "-", "--", "-1", "--x", "-x", "=", "0", "1.5", "1e9", "1e400", "nan", "inf", "-inf", "4294967296",
    "9" * 400, "0x10", "1_000", "٣", "true", "null", "x", "x" * 300, "x" * 70_000, "é", "\udcff", "\u202ex",
    "\x1b[2Jx", "a\nb", "a\tb", "../../x", "./x", ".", "..", "folder", "folder/", "file.txt",
    "file.txt/x", "fifo", "loop", "nowhere", "/dev/null/x", "/proc/x", "queue-1", "queue-1/0", "queue-1/-1",
    "queue-1/9999999999999999999", "queue-1/x", "/1", "queue-1/", "candidate", "certified", "CANDIDATE", "p3",
    "segment_2b/p3", "a" * 6, "0" * 64, "deadbeef", "1,2,3", "1,1", ",", "1,", "a,b", "5%", "0%", "101%", "%", "%s",
    "{}", "NAME=FILE", "=x", "x=", "https://x", "file:///x", "~", "$HOME", "*", "'", '"', "\\", "a b", "@lock",
    "@pack", "@lane", "@run", "@world", "@key", "@evidence",
)  # fmt: skip


@cache
def commands() -> tuple[tuple[tuple[str, ...], click.Command], ...]:
    """Returns every command with the words that call it, groups among them."""

    def below(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield words, command
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                yield from below((*words, name), command.commands[name])

    rows = []
    for name, (module, _) in sorted(COMMANDS.items()):
        rows += below((name,), getattr(import_module(f"lanelock.sweeps.terminal.commands.{module}"), name))
    return tuple(rows)


def drawn(chance: Any) -> list[str]:
    """Returns the words of one line; those that begin with @ stand for a path of the ground."""
    words, command = chance.choice(commands())
    line, heavy = [*words], words[0] in HEAVY
    parts = [*_parts(chance, command, heavy), *([ALWAYS[words[0]]] if words[0] in ALWAYS else [])]
    chance.shuffle(parts)
    line += [word for part in parts for word in part]
    how = chance.random()
    if how < 0.05:
        line.append(chance.choice(WORDS))
    elif how < 0.08 and len(line) > 1:
        line.insert(chance.randrange(1, len(line)), chance.choice(WORDS))
    elif how < 0.11:
        line[0] = chance.choice((line[0].upper(), line[0][:-1], f"{line[0]} ", *WORDS))
    if heavy and "--check" not in line:
        line.append("--no-such-option" if chance.random() < 0.3 else "one-word-too-many")
    return line


def _parts(chance: Any, command: click.Command, heavy: bool) -> Iterator[list[str]]:
    for parameter in command.params:
        name, most = parameter.opts[0], 0.15 if isinstance(parameter, click.Option) and not parameter.required else 0.97
        if name in LEFT_OUT or chance.random() > most:
            continue
        if isinstance(parameter, click.Argument):
            yield [_value(chance, parameter, heavy)]
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            yield [name] if chance.random() < 0.95 else [f"{name}={chance.choice(WORDS)}"]
        else:
            value = _value(chance, parameter, False)
            part = [name, value] if chance.random() < 0.8 else [f"{name}={value}"]
            yield part * (2 if chance.random() < 0.05 else 1)
            if chance.random() < 0.03:
                yield [name]


def _value(chance: Any, parameter: click.Parameter, heavy: bool) -> str:
    good = GOOD.get(parameter.name or "")
    return good if good is not None and not heavy and chance.random() < 0.6 else chance.choice(WORDS)


@contextmanager
def standing(ground: Ground) -> Iterator[Callable[[Sequence[str]], list[str]]]:
    """Goes to a folder with odd files, from which relative paths lead nowhere else; yields what resolves a line."""
    usual, top = Path.cwd(), ground.root / "scratch"
    place = top / "a" / "b" / "c"
    place.mkdir(parents=True)
    (place / "folder").mkdir()
    (place / "file.txt").write_text("x\n")
    (place / "loop").symlink_to("loop")
    (place / "nowhere").symlink_to("gone")
    os.mkfifo(place / "fifo")
    paths = {
        "@lock": ground.lock, "@pack": ground.files / "queue" / "pack",
        "@lane": ground.files / "queue" / "lane_few.json", "@run": ground.run, "@world": ground.files / "csv_world",
        "@key": ground.files / "ada.pem", "@evidence": ground.evidence,
    }  # fmt: skip

    def resolved(words: Sequence[str]) -> list[str]:
        line = [str(paths.get(word, word)) for word in words]
        own = any(word.startswith("--workspace") for word in line)
        return line if own or "--" in line else [*line, "--workspace", str(ground.workspace.root)]

    os.environ["LANELOCK_WORKSPACE"] = str(ground.workspace.root)  # where a line has no place for the option
    os.chdir(place)
    try:
        yield resolved
    finally:
        os.chdir(usual)
        os.environ.pop("LANELOCK_WORKSPACE", None)
        shutil.rmtree(top)


def fault(words: Sequence[str], after: Answer) -> str | None:
    """Returns what is wrong with the answer to a line; None if nothing is."""
    if after.kind in ("crash", "hang"):
        return f"{after.kind}: {after.where}"
    if after.message.startswith("Usage: "):
        return None  # a group without a command shows its help
    return next(unclean(after), None)
