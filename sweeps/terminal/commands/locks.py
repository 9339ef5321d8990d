"""`lock` and `verify`: read, prove and use what was recorded, and lock a trial by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from lanelock.engine.keep.published import computed_otherwise, engine_of, published, receipt_in
from lanelock.policies import LanelockError, PolicyError
from lanelock.policies.names import ALIASES
from lanelock.sweeps.engines import engine_named, publisher_of, world_folder
from lanelock.sweeps.locations import as_notice, moved_from
from lanelock.sweeps.pages.text import one_line, short
from lanelock.sweeps.proof.checks import Check, Findings, same
from lanelock.sweeps.proof.evidence import find_evidence, verify_evidence
from lanelock.sweeps.proof.freezes import find_freeze
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, find_lock
from lanelock.sweeps.proof.moves import Move, as_line, holders
from lanelock.sweeps.proof.packs import trial_named
from lanelock.sweeps.proof.runtime_locks import find_runtime_lock
from lanelock.sweeps.proof.signatures import signatures_text, signed_by
from lanelock.sweeps.proof.trust import trust_for
from lanelock.sweeps.proof.unpack import unpack, unpacking
from lanelock.sweeps.proof.verification import otherwise, verify_lock
from lanelock.sweeps.terminal.completion import FOLDER, LOCK, PROVABLE, TRIAL
from lanelock.sweeps.terminal.progress import checking
from lanelock.sweeps.terminal.session import WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.terminal.words import lock_text
from lanelock.sweeps.workspace import Workspace


class LockGroup(click.Group):
    """A group whose first word may also be a trial: `lock SWEEP/N` beside `lock show LOCK`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "SWEEP/N", lock_made, args

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [*super().shell_complete(ctx, incomplete), *TRIAL(ctx, click.Argument(["trial"]), incomplete)]


# Options before the trial belong to `lock_made`.
@click.group("lock", cls=LockGroup, context_settings={"ignore_unknown_options": True})
def lock() -> None:
    """Read, prove and unpack locks, or lock a trial by hand: lanelock lock SWEEP/N --why TEXT."""


@click.command("lock")
@click.argument("trial", metavar="SWEEP/N", shell_complete=TRIAL)
@click.option("--why", required=True, metavar="TEXT", help="Why this trial; the lock records it.")
@common_options
def lock_made(session: Session, trial: str, why: str) -> int:
    """Lock trial N of a closed sweep instead of the one that its decision took."""
    if not why.strip():
        raise click.UsageError("--why: give the reason; the lock records it")
    if (named := trial_named(trial)) is None:
        raise PolicyError(f"{trial}: neither a trial (SWEEP/NUMBER) nor one of {', '.join(lock.commands)}")
    from lanelock.sweeps.proof.chosen import lock_trial  # Optuna costs a second, which reading a lock need not pay

    chosen = lock_trial(*named, why.strip(), session.workspace())
    if chosen.lock is None:
        refused = [f"REFUSED  {trial} is not locked", *(f"  {refusal}" for refusal in chosen.refusals)]
        session.show({"lock": None, "refusals": list(chosen.refusals)}, "\n".join(refused))
        return 1
    made, path = chosen.lock, str(chosen.path)
    stated = {name: made.document[name] for name in ("lock_id", "decision", "verdict", "reason")}
    stated["because"] = made.because
    text = [f"{made.decision}  {trial}: {made.verdict}", f"  {made.because}", f"lock   {path}"]
    session.show({"lock": path, "refusals": [], **stated}, "\n".join(text))
    return 0


@lock.command("show")
@click.argument("lock", shell_complete=LOCK)
@common_options
def lock_show(session: Session, lock: str) -> int:
    """What LOCK states."""
    workspace = session.as_it_stands()
    path = find_lock(lock, workspace)
    opened, trust = Lock.read(path), trust_for(path, workspace)
    document = {
        **opened.document,
        "profile": opened.profile,
        "signed_by": [key.as_document() for key in signed_by(path, trust)],
    }
    session.show(document, f"{lock_text(opened)}\n\n{signatures_text(path, trust)}")
    return 0


@lock.command("verify")
@click.argument("lock", shell_complete=LOCK)
@WORLD
@common_options
def lock_verify(session: Session, lock: str, world: str | None) -> int:
    """Recompute every digest of LOCK, run it again on every seed, score it again."""
    workspace = session.as_it_stands()
    path = find_lock(lock, workspace)
    return _show_checks("lock", path, verify_lock(path, world_folder(world), workspace=workspace), session)


@lock.command("unpack")
@click.argument("lock", shell_complete=LOCK)
@click.option(
    "--to", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR", shell_complete=FOLDER,
    help="A new folder, or one whose policy files are to take the pack's values.",
)  # fmt: skip
@click.option("--diff", "dry", is_flag=True, help="Show what would change, and write nothing.")
@common_options
def lock_unpack(session: Session, lock: str, folder: Path, dry: bool) -> int:
    """Write the pack of LOCK as policy files; in files that are there, change only the values that differ."""
    opened = Lock.read(find_lock(lock, session.as_it_stands()))
    changes = unpacking(opened, folder)
    diff = "\n".join(change.diff() for change in changes)
    files = [str(change.path) for change in changes]
    document = {"lock_id": opened.lock_id, "pack": opened.candidate_pack.digest, "folder": str(folder), "files": files}
    if dry:
        session.show({**document, "written": False, "diff": diff}, diff or f"{folder} holds the pack of {lock} already")
        return 0
    unpack(changes, folder)
    text = f"{folder}: pack {opened.candidate_pack.digest[:12]} of {opened.name}"
    changed = ", ".join(Path(file).name for file in files) or "nothing: it holds the pack already"
    session.show({**document, "written": bool(changes), "diff": diff}, f"{text}\nwritten: {changed}")
    return 0


@click.command()
@click.argument("what", metavar="RUN|LOCK|EVIDENCE|FREEZE", shell_complete=PROVABLE)
@WORLD
@common_options
def verify(session: Session, what: str, world: str | None) -> int:
    """Recompute all digests of a run, a lock, evidence, a freeze or a runtime lock; exit 3 on any difference.

    A freeze is named by the campaign's run that it closed, such as NAME-1.
    """
    workspace = session.as_it_stands()
    if (folder := published(what, workspace.runs)) is not None:
        return _verify_run(folder, session)
    if (folder := find_evidence(what, workspace)) is not None:
        with checking(f"verify {folder.name}", live=session.live) as watch:
            findings = verify_evidence(folder, watch) + _moved(workspace)
        return _show_checks("evidence", folder, findings, session)
    if (freeze := find_freeze(what, workspace)) is not None:
        from lanelock.sweeps.campaign.frozen_proof import verify_freeze  # Optuna, which other proofs need not pay for

        with checking(f"verify {freeze.stem}", live=session.live) as watch:
            findings = verify_freeze(freeze, workspace, watch) + _moved(workspace)
        return _show_checks("freeze", freeze, findings, session)
    if (frozen := find_runtime_lock(what, workspace)) is not None:
        from lanelock.sweeps.perf.locking import verify_runtime  # the outbox, which other proofs need not pay for

        with checking(f"verify {frozen.stem}", live=session.live) as watch:
            findings = verify_runtime(frozen, watch)
        return _show_checks("runtime lock", frozen, findings, session)
    path = find_lock(what, workspace)
    with checking(f"verify {path.stem}", live=session.live) as watch:
        findings = verify_lock(path, world_folder(world), watch, workspace) + _moved(workspace)
    if what in ALIASES and (move := holders(workspace).get(what)) is not None:
        findings = _with_registry(findings + _as_moved(move, path), what, workspace)
    return _show_checks("lock", path, findings, session)


def _moved(workspace: Workspace) -> Findings:
    """Returns what is not proved of a workspace that was moved: MLflow without Lanelock looks in the former place."""
    notice = as_notice(moved_from(workspace))
    return Findings((), not_proved=(f"what MLflow alone loads: this workspace was {notice}",) if notice else ())


def _as_moved(move: Move, path: Path) -> Findings:
    """Returns whether the move of an alias states its lock as that is; who moved it, and why, nobody can compute."""
    to, lock = move.to, Lock.read(path)
    stated, found = (to.sweep, to.engine, to.pack), (lock.sweep, lock.engine, lock.candidate_pack.digest)
    return Findings(
        (same(f"move {move.number}: sweep, engine and pack", stated, found),), (), (f"move {as_line(move)}",)
    )


def _with_registry(findings: Findings, what: str, workspace: Workspace) -> Findings:
    """Returns the findings with a check of the model registry for an alias."""
    from lanelock.sweeps.record.mlflow_store import Away  # MLflow: a second that no other proof needs
    from lanelock.sweeps.record.registry import compare

    try:
        changed = [row.text for row in compare(workspace, what) if row.changed]
    except Away as error:
        return findings + Findings((), not_proved=(f"what the model registry serves: {error}",))
    check = Check(f"registry, {what}", not changed, "as the moves say", "; ".join(changed) or "as the moves say")
    return findings + Findings((check,), () if changed else (f"what the model registry serves as {what}",))


def _verify_run(folder: Path, session: Session) -> int:
    failed = [{"name": name, "reason": reason} for name, reason in publisher_of(folder).faults(folder)]
    count = len(receipt_in(folder)["files"]) + 1
    state = f"{len(failed)} not as published" if failed else "as published"
    otherwise = computed_otherwise(folder, engine_named(engine_of(folder)).fingerprint)
    document = {"ok": not failed, "checked": count, "run": str(folder), "failed": failed, "machine": otherwise}
    session.show(document, f"{folder}: {count} files, {state}")
    if otherwise:
        say(f"lanelock: note: {folder}: {otherwise}")
    for row in failed:
        say(f"{folder / row['name']}: {row['reason']}")
    return 3 if failed else 0


def _made_elsewhere(path: Path) -> list[str]:
    """Returns in what this machine is other than the one that made a lock, or the lock of an evidence pack."""
    try:
        return [*otherwise(Lock.read(path / FILE if path.is_dir() else path))]
    except LanelockError:  # a changed lock says nothing
        return []


def _show_checks(kind: str, path: Path, found: Findings, session: Session) -> int:
    failed = [check for check in found if not check.ok]
    rows = [asdict(check) for check in failed]
    document = {"ok": not failed, "checked": len(found), kind: str(path), "failed": rows}
    proved = list(found.proved if found.ok else ())
    differing = _made_elsewhere(path) if failed else []
    document |= {"proved": proved, "not_proved": list(found.not_proved), "made_elsewhere": differing}
    lines = [f"{path}: {len(found)} checks, {len(failed)} differ", *(f"proved: {row}" for row in proved)]
    lines += [f"not proved: {one_line(row)}" for row in found.not_proved]
    if found.ok:
        trust = trust_for(path, session.as_it_stands())
        document["signed_by"] = [key.as_document() for key in signed_by(path, trust)]
        lines.append(signatures_text(path, trust))
    session.show(document, "\n".join(lines))
    for row in differing:
        say(f"{path}: made elsewhere: {row}")
    for check in failed:
        said = f"{path}: {check.name}: stated {short(check.stated)}, found {short(check.found)}"
        say(said)
    return 3 if failed else 0
