"""What the README and the pages of docs/ tell a reader to type is typed here, page by page, each in a place of its own.

The pages' convention, which docs/README.md states, is the whole of it:

    ```console        a line that begins with "$ " is typed; "# exit N" behind it is its exit code, else 0;
                      "# serves" says that it answers until it is stopped. What follows is what was said, line by
                      line, "…" for what is left out. A block without an answer claims none.
    ```json NAME      is the file NAME, saved there
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from conftest import ROOT, child_environment
from servers import answers, free_port

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.steps import Memory
from lanelock.sweeps.terminal.cli import cli, main

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REMARK = re.compile(r"\s+#(?P<said>.*)$")
SHELL = set("|&;<>$(`*\\")


@dataclass(frozen=True)
class Typed:
    """A command, and what the page says of it."""

    command: str
    exit_code: int
    serves: bool
    quoted: tuple[str, ...]


@dataclass(frozen=True)
class Saved:
    """A file that the page gives."""

    name: str
    text: str


def steps(page):
    """What a reader does with a page, in order."""
    for kind, name, body in FENCE.findall(page.read_text()):
        if kind == "console":
            yield from _typed(body)
        elif name:
            yield Saved(name, body)
        else:
            assert kind not in ("sh", "bash", "shell"), f"{page}: commands stand in console blocks, where they are run"


def _typed(body):
    first, *parts = re.split(r"^\$ ", body, flags=re.MULTILINE)
    assert not first.strip(), f"a console block begins with a command: {first!r}"
    for part in parts:
        line, _, said = part.partition("\n")
        remark = REMARK.search(line)
        note = "" if remark is None else remark["said"].strip()
        code = re.match(r"exit (\d+)", note)
        quoted = tuple(row for row in said.splitlines() if row.strip())
        yield Typed(REMARK.sub("", line), int(code[1]) if code else 0, note.startswith("serves"), quoted)


def told(line):
    """A line with its spaces and rules evened out."""
    return " ".join(re.sub("[─━]{3,}", "", line).split())


def holds(quoted, said):
    """Whether what a page quotes is what was said, line by line, but for what it leaves out."""
    lines = [told(line) for line in said.splitlines() if told(line)]
    at, skipping = 0, False
    for row in filter(None, map(told, quoted)):
        if row == "…":
            skipping = True
            continue
        pattern = ".*".join(map(re.escape, row.split("…")))
        fits = (index for index in range(at, len(lines)) if re.fullmatch(pattern, lines[index]))
        found = next(fits, None)
        if found is None or (found > at and not skipping):
            return False, row
        at, skipping = found + 1, False
    return skipping or at == len(lines), "the page ends before what was said does"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where a page is typed: the shipped policies in reach, a workspace of its own, `lanelock` on the path."""
    (tmp_path / "policies").symlink_to(ROOT / "policies")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    programs = tmp_path.parent / f"{tmp_path.name}-bin"
    programs.mkdir()
    (programs / "lanelock").write_text(f"#!{sys.executable}\nfrom lanelock.sweeps.terminal.cli import main\nmain()\n")
    (programs / "lanelock").chmod(0o755)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("LANELOCK_WORKSPACE", str(tmp_path / "mlruns"))
    monkeypatch.setattr(SEGMENT_2B, "_memory", Memory(1 << 31))  # a reader's process has computed nothing before
    return tmp_path


def typed(command, capfd):
    """(exit code, stdout, stderr). A command of ours alone runs in this process, all else in a shell."""
    capfd.readouterr()
    words = shlex.split(command)
    if words[0] != "lanelock" or SHELL & set(command):
        code = subprocess.run(["bash", "-c", command], env=child_environment()).returncode
        return code, *capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        main(words[1:])
    return left.value.code, *capfd.readouterr()


def served(command):
    """Whether a command that serves answers, on a port of our own."""
    port = free_port()
    return answers([*shlex.split(command), "--port", str(port)], port, child_environment())


# Minutes each: they certify, promote and resume on whole runs of segment 2B.
LONG = ("promotion-and-rollback.md", "signatures.md", "operations.md", "how-a-sweep-searches.md")
WITH_A_WHEEL = ("first-hour.md",)  # typed by test_first_hour.py, where no workspace is named
TYPED = [
    pytest.param(page, marks=[pytest.mark.slow] * (page.name in LONG), id=page.name)
    for page in PAGES
    if page.name not in WITH_A_WHEEL
]


@pytest.mark.parametrize("page", TYPED)
def test_what_a_page_tells_to_type_answers_as_it_says(page, place, capfd):
    for step in steps(page):
        if isinstance(step, Saved):
            Path(step.name).parent.mkdir(parents=True, exist_ok=True)
            Path(step.name).write_text(step.text)
        elif step.serves:
            assert served(step.command), step.command
        else:
            code, out, err = typed(step.command, capfd)
            assert code == step.exit_code and "Traceback" not in err, (step.command, code, out[-2000:], err[-2000:])
            if step.quoted:
                fine, row = holds(step.quoted, out or err)
                assert fine, f"{step.command}\nis quoted with: {row}\nand said:\n{out or err}"


def test_quoting_is_held_to_what_was_said():
    said = "GO  a lane\n\nname   value\n──────\none    1.5\ntwo    2.5\n"
    assert holds(["GO  a lane", "name   value", "────", "one  1.5", "two  2.5"], said)[0]
    assert holds(["GO  a lane", "…", "two  …"], said)[0]
    assert holds(["…", "one  1.5", "…"], said)[0]
    assert not holds(["GO  a lane"], said)[0], "what is left out is marked"
    assert not holds(["GO  a lane", "two  2.5"], said)[0]
    assert not holds(["GO  a lane", "…", "two  2.6"], said)[0]
    assert not holds(["…", "two  2.5", "one  1.5"], said)[0], "in order"


def test_every_command_is_in_some_page():
    text = " ".join(page.read_text() for page in PAGES if page.parent.name == "docs")
    missing = [name for name in leaves(cli) if not re.search(rf"lanelock {name}\b", text)]
    assert not missing, missing


def leaves(group, above=()):
    """Every command that is not a group, as it is typed."""
    for name in group.commands:
        _, inner, _ = group.resolve_command(click.Context(group), [name])
        if isinstance(inner, click.Group):
            yield from leaves(inner, (*above, name))
        else:
            yield " ".join((*above, name))


def test_every_link_of_a_page_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"
