"""What stands in front of every command: where it works, how it answers, and the options that say so."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lanelock.policies import PolicyError
from lanelock.sweeps.terminal.completion import FOLDER
from lanelock.sweeps.workspace import Workspace, default_folder


@dataclass(frozen=True, slots=True)
class Session:
    """What the options in front of a command say."""

    root: Path
    as_json: bool
    quiet: bool

    def workspace(self) -> Workspace:
        """Returns the workspace to write to, created where it is missing."""
        return Workspace.at(self.root)

    def as_it_stands(self) -> Workspace:
        """Returns the workspace to read from, whether or not it exists: nothing is created and nothing written."""
        return Workspace(self.root.resolve())

    def show(self, document: Mapping[str, Any], text: str) -> None:
        """The one place that writes to stdout."""
        if self.as_json:
            click.echo(json.dumps(document, allow_nan=False))
        elif not self.quiet:
            click.echo(text)


def common_options(command: Any) -> Any:
    """`--workspace`, `--json` and `--quiet`, on every command."""
    command = click.option("--quiet", is_flag=True, help="Say nothing but errors.")(command)
    command = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")(command)
    return click.option(
        "--workspace",
        type=click.Path(path_type=Path),
        envvar="LANELOCK_WORKSPACE",
        default=default_folder,
        help="Where everything is recorded [default: .lanelock/, found upwards; in Lanelock's checkout mlruns/].",
    )(command)


def session_of(options: dict[str, Any]) -> Session:
    return Session(options.pop("workspace"), options.pop("as_json"), options.pop("quiet"))


def writable(page: Path) -> None:
    """Refused before anything is run, where a page cannot be written there."""
    if page.is_dir() or not page.parent.is_dir():
        why = "is a folder" if page.is_dir() else "its folder does not exist"
        raise PolicyError(f"{page}: --html: {why}; name a file in a folder that exists")


JOBS = click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default=True,
    help="Trials computed at once; never changes a result.",
)
ENGINE = click.option(
    "--engine", metavar="NAME", help="Entry-point name [default: the only installed engine that can answer]."
)
WORLD = click.option("--world", "world", metavar="DIR", help="A world brought in from outside.", shell_complete=FOLDER)
