"""The command line: reads arguments, calls one function, prints a table or one JSON object.

Heavy modules are imported by the command that needs them, so that `policy` answers at once.
Exit codes: 0 ok or GO; 1 NO_GO or a failing verdict; 2 bad input or usage; 3 integrity; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from policies import Pack, ProofmarkError, diff, load_pack
from sweeps import terminal

if TYPE_CHECKING:
    from sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Session:
    """What the options in front of a command say."""

    root: Path
    as_json: bool
    quiet: bool

    def workspace(self) -> Workspace:
        from sweeps.workspace import Workspace

        return Workspace.at(self.root)

    def show(self, document: Mapping[str, Any], text: str) -> None:
        """The one place that writes to stdout."""
        if self.as_json:
            click.echo(json.dumps(document, allow_nan=False))
        elif not self.quiet:
            click.echo(text)


def _common(command: Any) -> Any:
    """`--workspace`, `--json` and `--quiet`, on every command."""
    command = click.option("--quiet", is_flag=True, help="Say nothing but errors.")(command)
    command = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")(command)
    return click.option(
        "--workspace",
        type=click.Path(path_type=Path),
        envvar="PROOFMARK_WORKSPACE",
        default=lambda: _project() / "mlruns",
        help="Where everything is recorded [default: mlruns/ of the project].",
    )(command)


def _session(options: dict[str, Any]) -> Session:
    return Session(options.pop("workspace"), options.pop("as_json"), options.pop("quiet"))


def _project() -> Path:
    """The checkout this package runs from, or the current folder where it was installed without one."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


_WORLD = click.option("--world", "world", metavar="DIR", help="A world brought in from outside.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="proofmark")
def cli() -> None:
    """Tunes a deterministic, policy-driven data engine inside declared bounds, and locks what holds."""


# --- policies and worlds ----------------------------------------------------------------------------


@cli.group()
def policy() -> None:
    """Check, digest and compare packs."""


@policy.command("validate")
@click.argument("pack")
@_common
def policy_validate(pack: str, **options: Any) -> int:
    """Hold every policy of PACK to its schema."""
    session, (held, engine) = _session(options), _open_pack(pack)
    document = {"pack": held.name, "engine": engine, "valid": True, "policies": list(held.policies)}
    session.show(document, f"{held.name}: {len(held.policies)} policies, valid for engine {engine}")
    return 0


@policy.command("digest")
@click.argument("pack")
@_common
def policy_digest(pack: str, **options: Any) -> int:
    """SHA-256 of PACK's canonical JSON, and of each policy's."""
    session, (held, _) = _session(options), _open_pack(pack)
    digests = {name: policy.digest for name, policy in held.policies.items()}
    lines = [f"{found}  {name}" for name, found in [*digests.items(), (f"pack {held.name}", held.digest)]]
    session.show({"pack": held.name, "digest": held.digest, "policies": digests}, "\n".join(lines))
    return 0


@policy.command("diff")
@click.argument("before")
@click.argument("after")
@_common
def policy_diff(before: str, after: str, **options: Any) -> int:
    """Each field that differs between two packs, and the first state it touches."""
    session, (old, _) = _session(options), _open_pack(before)
    new = load_pack(_pack_folder(after), old.schemas)
    changes = diff(old, new)
    rows = [(change.policy, change.pointer, change.before, change.after, change.state) for change in changes]
    document = {"before": old.name, "after": new.name, "changes": [asdict(change) for change in changes]}
    session.show(
        document,
        terminal.table(("policy", "field", old.name, new.name, "first state"), rows) if rows else "no difference",
    )
    return 0


@cli.group()
def world() -> None:
    """Build, import or describe a world."""


def _world_options(command: Any) -> Any:
    command = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True)(command)
    return click.option("--pack", default="baseline", show_default=True, help="Whose world policy.")(
        _WORLD(_common(command))
    )


@world.command("show")
@_world_options
def world_show(pack: str, seed: int, world: str | None, **options: Any) -> int:
    """Describe the world of a pack and seed, or one in a folder."""
    session = _session(options)
    document = _describe_world(pack, seed, world)[1]
    session.show(document, terminal.fields(document))
    return 0


@world.command("build")
@_world_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write it to [default: worlds/<digest> in the workspace]."
)
def world_build(pack: str, seed: int, world: str | None, out: Path | None, **options: Any) -> int:
    """Draw or import a world and write it, with its receipt, where other commands can read it."""
    from engine.world_import import write_world
    from sweeps.workspace import writing

    session = _session(options)
    drawn, document = _describe_world(pack, seed, world)
    folder = out or session.workspace().root / "worlds" / str(document["digest"])[:16]
    with writing(folder):
        write_world(drawn, folder)
    document = {**document, "folder": str(folder)}
    session.show(document, terminal.fields(document))
    return 0


# --- the engine once --------------------------------------------------------------------------------


@cli.command()
@click.option("--pack", required=True, help="A shipped pack or a folder.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True)
@_WORLD
@click.option("--score", "scored", is_flag=True, help="Measure and grade the run.")
@click.option("--publish", is_flag=True, help="Keep its surfaces in the workspace.")
@_common
def run(pack: str, seed: int, world: str | None, scored: bool, publish: bool, **options: Any) -> int:
    """Run the engine once: states, rows, seconds, digests."""
    from sweeps.seam import world_folder

    session, (held, name) = _session(options), _open_pack(pack)
    engine = _engine(name)
    made = engine.evaluate(held, seed, world=world_folder(world))
    digests = made.digests()
    document: dict[str, Any] = {
        "run_id": made.run_id,
        "engine": name,
        "pack": held.name,
        "pack_digest": held.digest,
        "seed": seed,
        "world_digest": made.world_digest,
        "states": [asdict(state) for state in made.states],
        "digests": digests,
        "metrics": None,
        "verdict": None,
        "gates": None,
    }
    rows = [
        (s.name, f"{s.rows:,}", f"{s.seconds:.3f}", "reused" if s.reused else "computed", s.key[:16])
        for s in made.states
    ]
    text = [f"run {made.run_id}  pack {held.name}  seed {seed}  world {made.world_digest[:16]}", ""]
    text.append(terminal.table(("state", "rows", "seconds", "", "key"), rows))
    text.append("\n".join(["", *(f"{found}  {surface}" for surface, found in digests.items())]))
    if publish:
        from engine.store import publish as publish_run

        folder = publish_run(made, session.workspace().runs)
        document["published"] = str(folder)
        text.append(f"\npublished to {folder}")
    code = 0
    if scored:
        card = _score(made)
        document |= {key: card.as_document()[key] for key in ("verdict", "metrics", "gates")}
        text.append("\n" + terminal.scorecard(card))
        code = _verdict_code(str(card.verdict))
    session.show(document, "\n".join(text))
    return code


@cli.command()
@click.argument("run_id", metavar="RUN")
@_common
def score(run_id: str, **options: Any) -> int:
    """Score a published run again, from its files."""
    from engine.store import open_run

    session = _session(options)
    card = _score(open_run(session.workspace().runs, run_id))
    session.show(card.as_document(), terminal.scorecard(card))
    return _verdict_code(str(card.verdict))


# --- lanes, sweeps, locks ---------------------------------------------------------------------------


@cli.command()
@click.argument("lane")
@_WORLD
@_common
def feasibility(lane: str, world: str | None, **options: Any) -> int:
    """The best each gate can reach in LANE, from the frozen upstream alone."""
    from sweeps.lane import load_lane
    from sweeps.seam import world_folder
    from sweeps.sweep import survey

    session, held = _session(options), load_lane(lane)
    ground = survey(held, world_folder(world))
    gates = [asdict(row) for row in ground.reach]
    session.show({"lane": held.id, "gates": gates}, terminal.reach_table(ground.reach, held.gates.bands))
    accept = held.document["decision"]["accept_band"]
    return 1 if ground.unreachable[accept] else 0


@cli.command()
@click.argument("lane")
@click.option("--trials", type=click.IntRange(1, 100_000), help="Budget in trials [default: the lane's].")
@click.option(
    "--seconds", type=click.FloatRange(0, 604_800, min_open=True), help="Budget in seconds [default: the lane's]."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    show_default=True,
    help="Trials computed at once; never changes a result.",
)
@click.option("--batch", type=click.IntRange(1, 256), help="Trials proposed together [default: the lane's].")
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "gp", "nsga2", "random", "grid"]),
    help="Optuna sampler [default: the lane's].",
)
@click.option("--resume", is_flag=True, help="Go on with the lane's newest sweep.")
@click.option("--anyway", is_flag=True, help="Play a lane even though a gate is out of its reach.")
@_WORLD
@_common
def sweep(lane: str, jobs: int, resume: bool, anyway: bool, world: str | None, **options: Any) -> int:
    """Spend LANE's budget: search, record, decide, lock."""
    from sweeps.lane import load_lane
    from sweeps.seam import world_folder
    from sweeps.sweep import play

    session = _session(options)
    held = load_lane(lane).with_search(**options)
    workspace = session.workspace()
    with terminal.watching(held.id, live=not (session.as_json or session.quiet)) as watch:
        try:
            closed = play(held, workspace, world=world_folder(world), jobs=jobs, resume=resume, watch=watch)
        except KeyboardInterrupt:
            again = f"proofmark sweep {lane} --resume"
            click.echo(f"interrupted; every trial told so far is kept. Go on with: {again}", err=True)
            return 130
    document = {
        **closed.decision.as_document(),
        "sweep": closed.sweep,
        "best": terminal.best_document(closed),
        "lock": str(closed.lock),
        "trials": len(closed.trials),
        "seconds": dict(closed.seconds),
    }
    session.show(document, terminal.closing(closed))
    return 0 if closed.decision.outcome == "GO" else 1


@cli.group("lock")
def lock_group() -> None:
    """Read and prove locks."""


@lock_group.command("show")
@click.argument("lock")
@_common
def lock_show(lock: str, **options: Any) -> int:
    """What LOCK says."""
    from sweeps.lock import find_lock, read_lock

    session = _session(options)
    document = read_lock(find_lock(lock, session.workspace()))
    session.show(document, terminal.lock_text(document))
    return 0


def _verify(lock: str, world: str | None, options: dict[str, Any]) -> int:
    from sweeps.lock import find_lock, verify_lock
    from sweeps.seam import world_folder

    session = _session(options)
    path = find_lock(lock, session.workspace())
    checks = verify_lock(path, world_folder(world))
    failed = [check for check in checks if not check.ok]
    document = {
        "ok": not failed,
        "checked": len(checks),
        "lock": str(path),
        "failed": [asdict(check) for check in failed],
    }
    session.show(document, f"{path}: {len(checks)} checks, {len(failed)} differ")
    for check in failed:
        click.echo(
            f"{path}: {check.name}: stated {terminal.short(check.stated)}, found {terminal.short(check.found)}",
            err=True,
        )
    return 3 if failed else 0


@lock_group.command("verify")
@click.argument("lock")
@_WORLD
@_common
def lock_verify(lock: str, world: str | None, **options: Any) -> int:
    """Recompute every digest of LOCK, run it again on every seed, score it again."""
    return _verify(lock, world, options)


@cli.command()
@click.argument("lock", metavar="LOCK")
@_WORLD
@_common
def verify(lock: str, world: str | None, **options: Any) -> int:
    """Recompute every digest; exit 3 on any difference."""
    return _verify(lock, world, options)


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@_common
def ui(port: int, **options: Any) -> int:
    """Open the MLflow comparison UI on 127.0.0.1."""
    from sweeps.tracking import serve

    session = _session(options)
    return serve(session.workspace(), port)


# --- shared by the commands -------------------------------------------------------------------------


def _open_pack(name: str) -> tuple[Pack, str]:
    from sweeps.seam import open_pack

    pack, engine = open_pack(name)
    return pack, engine.name


def _pack_folder(name: str) -> Path:
    from policies.documents import resolve

    return resolve(name, "packs")


def _engine(name: str) -> Any:
    from sweeps.seam import engine_named

    return engine_named(name)


def _score(made: Any) -> Any:
    from scoring.gates import load_gates
    from scoring.scorecard import score
    from sweeps.seam import metrics_named

    source = metrics_named(made.engine)
    return score(source.measure(made), load_gates(str(source.gates_file)), seed=made.seed, authority=None)


def _describe_world(pack: str, seed: int, folder: str | None) -> tuple[Any, dict[str, Any]]:
    from engine.world import describe, draw_world
    from engine.world_import import open_world
    from sweeps.seam import world_folder

    held, _ = _open_pack(pack)
    outside = world_folder(folder)
    drawn = draw_world(held["world_v1"], seed) if outside is None else open_world(outside, held["world_v1"])
    return drawn, describe(drawn)


def _verdict_code(verdict: str) -> int:
    return 0 if verdict.startswith("PASS") else 1


def main(arguments: list[str] | None = None) -> None:
    """The console entry point. Whatever is expected to go wrong is told in one line."""
    try:
        code = cli.main(arguments, standalone_mode=False)
    except ProofmarkError as error:
        click.echo(f"proofmark: {' '.join(str(error).split())}", err=True)
        code = error.exit_code
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        see = f" (see {context.command_path} --help)" if context is not None else ""
        click.echo(f"proofmark: {' '.join(error.format_message().split())}{see}", err=True)
        code = error.exit_code
    except OSError as error:
        click.echo(f"proofmark: {error.filename or 'input/output'}: {error.strerror or error}", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
