"""`policy`: check, digest and compare packs, and take their policies from and to other forms."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lanelock.engine.protocol import PolicyForms
from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError, diff, pack_of
from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.sweeps.engines import engine_with
from lanelock.sweeps.lanes.lane import pack_for
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.project.copies import write_documents
from lanelock.sweeps.proof.packs import find_pack, finder
from lanelock.sweeps.terminal.completion import FOLDER, PACK
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace


@click.group()
def policy() -> None:
    """Check, digest and compare packs; read and write their policies in other forms."""


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


_FORM = click.option("--form", metavar="NAME", help="The form of the policies [default: the engine's only one].")
_TO = click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where to write.", shell_complete=FOLDER
)


@policy.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@_TO
@click.option("--base", metavar="PACK", shell_complete=PACK, help="What the files leave out [default: the baseline].")
@_FORM
@common_options
def policy_import(session: Session, files: tuple[Path, ...], to: Path, base: str | None, form: str | None) -> int:
    """Read policies of another form, and write the pack that they are here.

    A line on stderr lists the fields of a file that have no meaning here.
    """
    before, engine = _base(base, session.as_it_stands())
    forms, named = _forms(engine, form)
    documents, unused = forms.import_policies({str(file): read_json(file) for file in files}, named, before)
    made = pack_of(to.resolve().name, documents, engine.policy_schemas, str(to))
    written = write_documents(made.files(engine.name), to)
    for file, fields in unused.items():
        if fields:
            say(f"{file}: no meaning here: {', '.join(fields)}")
    changed = sorted({change.policy for change in diff(before, made)})
    text = f"{to}: a pack of engine {engine.name}; differs from {before.name} in {', '.join(changed) or 'nothing'}"
    named_here = {"pack": str(to), "engine": engine.name, "form": named, "base": before.name, "digest": made.digest}
    session.show({**named_here, "changed": changed, "unused": unused, "files": list(map(str, written))}, text)
    return 0


@policy.command("export")
@click.argument("pack", shell_complete=PACK)
@_TO
@_FORM
@common_options
def policy_export(session: Session, pack: str, to: Path, form: str | None) -> int:
    """Write the policies of PACK in another form."""
    opened, engine = find_pack(pack, session.as_it_stands())
    forms, named = _forms(engine, form)
    documents = forms.export_policies(opened, named)
    files = list(map(str, write_documents({f"{name}.json": document for name, document in documents.items()}, to)))
    session.show({"pack": opened.name, "engine": engine.name, "form": named, "files": files}, "\n".join(files))
    return 0


def _base(name: str | None, workspace: Workspace) -> tuple[Pack, Resolved]:
    """Returns the pack of that name and its engine; without a name, the baseline of the engine that knows a form."""
    if name is not None:
        return find_pack(name, workspace)
    engine = engine_with(PolicyForms, None)
    if engine.baseline is None:
        raise PolicyError(f"--base: name a pack; engine {engine.name} has no baseline")
    return find_pack(engine.baseline, workspace)


def _forms(engine: Resolved, form: str | None) -> tuple[PolicyForms, str]:
    """Returns the engine as one that knows forms, and the name of the one asked for."""
    forms = engine.part(PolicyForms)
    known = list(forms.policy_forms)
    if form not in known and (form is not None or len(known) > 1):
        raise PolicyError(f"--form: {form}: engine {engine.name} knows {', '.join(known)}")
    return forms, form or known[0]
