"""`policy`: check, digest and compare packs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from lanelock.policies import diff, load_pack
from lanelock.policies.documents import shipped_schema, validate
from lanelock.sweeps.engines import open_pack
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import common_options, session_of


@click.group()
def policy() -> None:
    """Check, digest and compare packs."""


@policy.command("validate")
@click.argument("pack", shell_complete=PACK)
@common_options
def policy_validate(pack: str, **options: Any) -> int:
    """Hold every policy of PACK to its schema, and each schema to what an engine may write in one."""
    session, (held, engine) = session_of(options), open_pack(pack)
    for name, schema in held.schemas.items():
        validate(schema, shipped_schema("policy"), f"engine {engine.name}: schema of {name}")
    document = {"pack": held.name, "engine": engine.name, "valid": True, "policies": list(held.policies)}
    session.show(document, f"{held.name}: {len(held.policies)} policies, valid for engine {engine.name}")
    return 0


@policy.command("digest")
@click.argument("pack", shell_complete=PACK)
@common_options
def policy_digest(pack: str, **options: Any) -> int:
    """SHA-256 of PACK's canonical JSON, and of each policy's."""
    session, (held, _) = session_of(options), open_pack(pack)
    digests = {name: policy.digest for name, policy in held.policies.items()}
    lines = [f"{found}  {name}" for name, found in [*digests.items(), (f"pack {held.name}", held.digest)]]
    session.show({"pack": held.name, "digest": held.digest, "policies": digests}, "\n".join(lines))
    return 0


@policy.command("diff")
@click.argument("before", shell_complete=PACK)
@click.argument("after", shell_complete=PACK)
@common_options
def policy_diff(before: str, after: str, **options: Any) -> int:
    """Each field that differs between two packs, and the first state it touches."""
    session, (old, engine) = session_of(options), open_pack(before)
    new = load_pack(after, old.schemas, engine.name)
    changes = diff(old, new)
    rows = [(change.policy, change.pointer, change.before, change.after, change.state) for change in changes]
    document = {"before": old.name, "after": new.name, "changes": [asdict(change) for change in changes]}
    session.show(
        document,
        columns(("policy", "field", old.name, new.name, "first state"), rows) if rows else "no difference",
    )
    return 0
