"""`completion`: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from lanelock.sweeps.terminal.session import Session, common_options

PROGRAM, VARIABLE = "lanelock", "_LANELOCK_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(session: Session, shell: str) -> int:
    """Print the completion script of SHELL.

    \b
    bash   eval "$(lanelock completion bash)"           in ~/.bashrc
    zsh    eval "$(lanelock completion zsh)"            in ~/.zshrc
    fish   lanelock completion fish > ~/.config/fish/completions/lanelock.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    root = click.get_current_context().find_root().command
    script = ShellComplete.source(kind(root, {}, PROGRAM, VARIABLE))  # skips a subclass's check of the local Bash
    session.show({"shell": shell, "script": script}, script)
    return 0
