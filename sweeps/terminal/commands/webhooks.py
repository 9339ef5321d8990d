"""`webhook`: who is told of what happens here, tried out and tried again."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import click

from lanelock.policies import PolicyError
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.record.webhooks import TEST, Hook, Notice, Waiting, box_of, hooks_of, waiting
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.workspace import Workspace


@click.group()
def webhook() -> None:
    """List, try and retry the hooks that webhooks.json declares."""


@webhook.command("list")
@common_options
def webhook_list(session: Session) -> int:
    """Who is told of what, and what they have not taken."""
    workspace = session.as_it_stands()
    hooks, left = hooks_of(workspace), {row.hook: row for row in waiting(workspace)}
    rows: list[dict[str, Any]] = [
        {"name": hook.name, "host": hook.host(), "form": hook.form, "events": [*hook.events], **_left(hook.name, left)}
        for hook in hooks
    ]
    gone = [asdict(row) for name, row in left.items() if name not in [hook.name for hook in hooks]]
    shown = [{**row, "events": " ".join(row["events"])} for row in rows]
    cells = [tuple(row.values()) for row in shown]
    text = columns(("hook", "host", "form", "events", "pending", "given up", ""), cells) if cells else "no hooks"
    lines = [text, *(f"{row['hook']}: no longer declared, {row['pending'] + row['given_up']} pending" for row in gone)]
    session.show({"hooks": rows, "undeclared": gone}, "\n".join(lines))
    return 0


@webhook.command("test")
@click.argument("name")
@common_options
def webhook_test(session: Session, name: str) -> int:
    """Post a test event to hook NAME now; exit 1 if it is not taken."""
    from lanelock.sweeps.record.posting import attempt  # what posts is imported where there is something to post

    workspace = session.as_it_stands()
    hook = _hook(workspace, name)
    text = f"a test of hook {name}"
    answer = attempt(hook, Notice(uuid4().hex, TEST, int(time.time() * 1000), name, text, {}))
    document = {"name": name, "taken": not answer.why, "why": answer.why}
    session.show(document, f"{name}: {answer.why or f'taken by {hook.host()}'}")
    return 1 if answer.why else 0


@webhook.command("retry")
@click.argument("name", required=False)
@common_options
def webhook_retry(session: Session, name: str | None) -> int:
    """Post again what was given up, of hook NAME or of all, and what is pending; exit 1 if something is left."""
    from lanelock.sweeps.record.posting import send  # as above

    workspace = session.workspace()
    chosen = hooks_of(workspace) if name is None else (_hook(workspace, name),)
    for hook in chosen:
        box = box_of(workspace, hook.name)
        with box.delivering() as alone:
            if alone:
                box.again()
    send(workspace, at_once=True)
    left = [row for row in waiting(workspace) if name in (None, row.hook)]
    session.show({"waiting": [asdict(row) for row in left]}, "\n".join(map(str, left)) or "nothing waits")
    return 1 if left else 0


def _left(name: str, left: dict[str, Waiting]) -> dict[str, object]:
    row = left.get(name, Waiting(name, 0, 0, ""))
    return {"pending": row.pending, "given_up": row.given_up, "why": row.why}


def _hook(workspace: Workspace, name: str) -> Hook:
    hooks = {hook.name: hook for hook in hooks_of(workspace)}
    if name not in hooks:
        known = ", ".join(hooks) or f"none; declare them in {workspace.hooks}"
        raise PolicyError(f"{name}: no hook of this name (known: {known})")
    return hooks[name]
