"""`policy`: check, digest and compare packs."""

from __future__ import annotations

from dataclasses import asdict

import click

from lanelock.policies import diff
from lanelock.policies.documents import shipped_schema, validate
from lanelock.sweeps.lanes.lane import pack_for
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.proof.packs import find_pack, finder
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import Session, common_options


@click.group()
def policy() -> None:
    """Check, digest and compare packs."""


@policy.command("validate")
@click.argument("pack", shell_complete=PACK)
@common_options
def policy_validate(session: Session, pack: str) -> int:
    """Check every policy of PACK against its schema, and each schema against what an engine may write in it."""
    opened, engine = find_pack(pack, session.as_it_stands())
    for name, schema in opened.schemas.items():
        validate(schema, shipped_schema("policy"), f"engine {engine.name}: schema of {name}")
    document = {"pack": opened.name, "engine": engine.name, "valid": True, "policies": list(opened.policies)}
    session.show(document, f"{opened.name}: {len(opened.policies)} policies, valid for engine {engine.name}")
    return 0


@policy.command("digest")
@click.argument("pack", shell_complete=PACK)
@common_options
def policy_digest(session: Session, pack: str) -> int:
    """SHA-256 of PACK's canonical JSON, and of each policy's."""
    opened, _ = find_pack(pack, session.as_it_stands())
    digests = {name: policy.digest for name, policy in opened.policies.items()}
    lines = [f"{sha256}  {name}" for name, sha256 in (*digests.items(), (f"pack {opened.name}", opened.digest))]
    session.show({"pack": opened.name, "digest": opened.digest, "policies": digests}, "\n".join(lines))
    return 0


@policy.command("diff")
@click.argument("before", shell_complete=PACK)
@click.argument("after", shell_complete=PACK)
@common_options
def policy_diff(session: Session, before: str, after: str) -> int:
    """Each field that differs between two packs, and the first state it touches."""
    find = finder(session.as_it_stands())
    old, engine = find(before)
    new = pack_for(engine, after, find)
    changes = diff(old, new)
    rows = [(change.policy, change.pointer, change.before, change.after, change.state) for change in changes]
    table = columns(("policy", "field", old.name, new.name, "first state"), rows) if rows else "no difference"
    document = {"before": old.name, "after": new.name, "changes": [asdict(change) for change in changes]}
    session.show(document, table)
    return 0
