"""`completion`: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import ShellComplete, get_completion_class

from sweeps.session import common_options, session_of

PROGRAM, VARIABLE = "proofmark", "_PROOFMARK_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(shell: str, **options: Any) -> int:
    """Print the completion script of SHELL.

    \b
    bash   eval "$(proofmark completion bash)"           in ~/.bashrc
    zsh    eval "$(proofmark completion zsh)"            in ~/.zshrc
    fish   proofmark completion fish > ~/.config/fish/completions/proofmark.fish
    """
    session, kind = session_of(options), get_completion_class(shell)
    assert kind is not None  # click's own three
    root = click.get_current_context().find_root().command
    script = ShellComplete.source(kind(root, {}, PROGRAM, VARIABLE))  # less a check of the local Bash
    session.show({"shell": shell, "script": script}, script)
    return 0
