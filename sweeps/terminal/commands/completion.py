"""`completion`: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import ShellComplete, get_completion_class

from lanelock.sweeps.terminal.session import common_options, session_of

PROGRAM, VARIABLE = "lanelock", "_LANELOCK_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(shell: str, **options: Any) -> int:
    """Print the completion script of SHELL.

    \b
    bash   eval "$(lanelock completion bash)"           in ~/.bashrc
    zsh    eval "$(lanelock completion zsh)"            in ~/.zshrc
    fish   lanelock completion fish > ~/.config/fish/completions/lanelock.fish
    """
    session, kind = session_of(options), get_completion_class(shell)
    assert kind is not None  # click's own three
    root = click.get_current_context().find_root().command
    script = ShellComplete.source(kind(root, {}, PROGRAM, VARIABLE))  # less a check of the local Bash
    session.show({"shell": shell, "script": script}, script)
    return 0
