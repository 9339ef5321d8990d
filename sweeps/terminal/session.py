"""What every command shares: its workspace, its form of output, and the options that set them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from lanelock.policies import PolicyError, RefusedError, WorkspaceError
from lanelock.policies.files import real
from lanelock.sweeps.pages.text import printable
from lanelock.sweeps.terminal.completion import FOLDER
from lanelock.sweeps.terminal.net import in_workspace
from lanelock.sweeps.terminal.streams import answer
from lanelock.sweeps.workspace import Workspace, default_folder, write_whole


@dataclass(frozen=True, slots=True)
class Session:
    """The values of `--workspace`, `--json` and `--quiet`."""

    root: Path
    as_json: bool
    quiet: bool

    @property
    def live(self) -> bool:
        """Whether to show progress on stderr."""
        return not (self.as_json or self.quiet)

    def workspace(self) -> Workspace:
        """Returns the workspace for writing, created if it is missing.

        Raises WorkspaceError for a name that is no text in this locale, since databases and pages state it.
        """
        if any("\ud800" <= one <= "\udfff" for one in str(real(self.root))):
            raise WorkspaceError(
                f"{self.root}: this name is no text in the present locale; use another, or a UTF-8 locale"
            )
        return Workspace.at(self.root)

    def named_workspace(self) -> tuple[str, ...]:
        """Returns the option that names this workspace in another call; nothing where that would find it itself."""
        usual = os.environ.get("LANELOCK_WORKSPACE") or default_folder()
        return () if self.root == Path(usual) else ("--workspace", str(self.root))

    def as_it_stands(self) -> Workspace:
        """Returns the workspace for reading, whether or not it exists: creates and writes nothing."""
        return Workspace(real(self.root))

    def show(self, document: Mapping[str, Any], text: str) -> None:
        """Prints the answer. Nothing else writes to stdout."""
        if self.as_json:
            answer(json.dumps(document, allow_nan=False))
        elif not self.quiet:
            answer(printable(text))

    def show_page(self, document: Mapping[str, Any], text: str, page: Path | None, html: Callable[[], str]) -> None:
        """Prints the answer, after writing it as a page where `--html` names one."""
        if page is not None:
            write_whole(page, html())
            document, text = {**document, "html": str(page)}, f"{text}\n\npage   {page}"
        self.show(document, text)


def common_options(command: Callable[..., int]) -> Any:
    """Adds `--workspace`, `--json` and `--quiet` to a command, and passes it the session they describe.

    What a freeze refuses is shown here, whichever command asked for it: it is an answer, not an error.
    """

    @wraps(command)
    def with_session(workspace: Path, as_json: bool, quiet: bool, **options: Any) -> int:
        in_workspace(workspace)
        session = Session(workspace, as_json, quiet)
        try:
            return command(session, **options)
        except RefusedError as refused:
            session.show({"refused": True, "reason": str(refused)}, f"REFUSED  {refused}")
            return refused.exit_code

    decorated = click.option("--quiet", is_flag=True, help="Print nothing but errors.")(with_session)
    decorated = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")(
        decorated
    )
    return click.option(
        "--workspace",
        type=click.Path(path_type=Path),
        envvar="LANELOCK_WORKSPACE",
        default=default_folder,
        help="Where everything is recorded [default: .lanelock/, found upwards; in Lanelock's checkout mlruns/].",
    )(decorated)


def writable(context: click.Context, parameter: click.Parameter, file: Path | None) -> Path | None:
    """Refuses a file that cannot be written, before anything is run."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        why = "is a folder" if file.is_dir() else "its folder does not exist"
        raise PolicyError(f"{file}: {parameter.opts[0]}: {why}; name a file in a folder that exists")
    return file


HTML = click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=writable,
    help="Also write the answer as one self-contained page.",
)
JOBS = click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default=True,
    help="Trials evaluated in parallel; never changes a result.",
)
ENGINE = click.option(
    "--engine", metavar="NAME", help="Entry-point name [default: the only installed engine that can answer]."
)
KEY = click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar="LANELOCK_KEY",
    metavar="FILE",
    help="The private key to sign with; LANELOCK_KEY names one for all calls.",
)
WORLD = click.option("--world", "world", metavar="DIR", help="A world brought in from outside.", shell_complete=FOLDER)
