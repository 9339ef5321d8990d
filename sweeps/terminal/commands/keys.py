"""`key` and `sign`: make a key, and sign with it what it has verified."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click

from lanelock.engine.keep.receipts import text_of
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.names import check_name
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.proof import signatures
from lanelock.sweeps.proof.checks import Findings, Watch, hold
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.evidence import find_evidence, verify_evidence
from lanelock.sweeps.proof.freezes import find_freeze
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.trust import FORMAT, Key, trust_for
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.provenance import user
from lanelock.sweeps.terminal.completion import FOLDER, SIGNABLE
from lanelock.sweeps.terminal.progress import checking
from lanelock.sweeps.terminal.session import KEY, WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace, write_whole


@click.group("key")
def key() -> None:
    """Make a key to sign locks, evidence packs and moves with: lanelock key make NAME."""


@key.command("make")
@click.argument("name", default=user)
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    default=lambda: Path(click.get_app_dir("lanelock")),
    metavar="FOLDER",
    shell_complete=FOLDER,
    help="Where the two files go [default: your folder of settings].",
)
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="A role for trust.json; may be repeated.")
@common_options
def key_make(session: Session, name: str, folder: Path, roles: tuple[str, ...]) -> int:
    """Write a private key, NAME.pem, and the entry of its public half for trust.json, NAME.pub.json."""
    check_name(name, "a key")
    row = {"name": name, "public": "0" * 64, "roles": list(roles)}
    validate({"format": FORMAT, "keys": [row], "aliases": {}}, shipped_schema("trust"), "lanelock key make")
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.json"
    folder.mkdir(parents=True, exist_ok=True)
    made = SigningKey.make(private)
    row["public"] = made.public
    write_whole(public, text_of(row))
    key_id = Key(name, made.public).key_id
    document = {"key": key_id, "private": str(private), "public": str(public), "entry": row}
    text = f"key {key_id}\n  {private}  keep it to yourself\n  {public}  goes into trust.json: {json.dumps(row)}"
    if _would_be_committed(private):
        say(f"{private}: lies in a git repository that does not ignore it; never commit it")
    session.show(document, text)
    return 0


def _would_be_committed(path: Path) -> bool:
    """Returns whether a file lies in a git repository that does not ignore it. Without git the answer is no."""
    try:
        asked = subprocess.run(["git", "-C", path.parent, "check-ignore", "-q", path.name], capture_output=True)
    except OSError:
        return False
    return asked.returncode == 1  # 0: ignored, 128: not in a repository


@click.command()
@click.argument("what", metavar="LOCK|EVIDENCE|FREEZE", shell_complete=SIGNABLE)
@KEY
@WORLD
@common_options
def sign(session: Session, what: str, key: Path | None, world: str | None) -> int:
    """Verify LOCK, EVIDENCE or FREEZE here and, if nothing differs, add a signature beside it.

    The signature states that whoever holds the key recomputed it. The document and its id stay as they are.
    """
    if key is None:
        raise click.UsageError("--key FILE or LANELOCK_KEY is needed; make a key with: lanelock key make")
    workspace, signing = session.as_it_stands(), SigningKey.read(key)
    with checking(f"sign {what}", live=session.live) as watch:
        path, kind, checks = _verified(what, workspace, world, watch)
    hold(path, kind, checks)
    added, trust = signatures.sign(path, signing), trust_for(path, workspace)
    signer = trust.known(signing.public)
    document = {
        "signed": added,
        kind: str(path),
        "checked": len(checks),
        "envelope": str(signatures.beside(path)),
        "key": signer.key_id,
        "signed_by": [one.as_document() for one in signatures.signed_by(path, trust)],
    }
    did = f"signed by {signer}" if added else f"{signer} has signed it already"
    session.show(document, f"{path}: {len(checks)} checks, 0 differ; {did}\nsignatures  {signatures.beside(path)}")
    return 0


def _verified(what: str, workspace: Workspace, world: str | None, watch: Watch) -> tuple[Path, str, Findings]:
    if (folder := find_evidence(what, workspace)) is not None:
        return folder, "evidence", verify_evidence(folder, watch)
    if (freeze := find_freeze(what, workspace)) is not None:
        from lanelock.sweeps.campaign.frozen_proof import verify_freeze  # Optuna, which other proofs need not pay for

        return freeze, "freeze", verify_freeze(freeze, workspace, watch)
    path = find_lock(what, workspace)
    return path, "lock", verify_lock(path, world_folder(world), watch, workspace)
