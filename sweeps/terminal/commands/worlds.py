"""`world`: build, import or describe a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lanelock.engine.protocol import Worlds
from lanelock.policies import PolicyError
from lanelock.policies.names import inside
from lanelock.sweeps.engines import PackFinder, engine_with, world_folder
from lanelock.sweeps.pages.text import fields
from lanelock.sweeps.proof.packs import finder
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import ENGINE, WORLD, Session, common_options
from lanelock.sweeps.workspace import writing


@click.group()
def world() -> None:
    """Build, import or describe a world."""


def _world_options(command: Any) -> Any:
    seed = click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        default=42,
        show_default=True,
        help="Every seed draws a world of its own.",
    )
    whose = "The pack whose world policy to draw from [default: the engine's baseline]."
    pack = click.option("--pack", help=whose, shell_complete=PACK)
    return pack(ENGINE(WORLD(seed(common_options(command)))))


@world.command("show")
@_world_options
def world_show(session: Session, pack: str | None, engine: str | None, seed: int, world: str | None) -> int:
    """Describe the world of a pack and seed, or one in a folder."""
    _, _, document = _open(finder(session.as_it_stands()), pack, engine, seed, world)
    session.show(document, fields(document))
    return 0


@world.command("build")
@_world_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write it to [default: worlds/<digest> in the workspace]."
)
def world_build(
    session: Session, pack: str | None, engine: str | None, seed: int, world: str | None, out: Path | None
) -> int:
    """Draw or import a world and write it, with its receipt, where other commands can read it."""
    owner, opened, document = _open(finder(session.as_it_stands()), pack, engine, seed, world)
    folder = out or inside(session.workspace().worlds, str(document["digest"])[:16])
    with writing(folder):
        owner.keep_world(opened, folder)
    document["folder"] = str(folder)
    session.show(document, fields(document))
    return 0


def _open(
    find: PackFinder, name: str | None, engine: str | None, seed: int, folder: str | None
) -> tuple[Worlds, Any, dict[str, Any]]:
    """Returns the engine that draws or reads the world, the world, and its description."""
    if name is None:
        chosen = engine_with(Worlds, engine)
        if chosen.baseline is None:
            raise PolicyError(f"--pack: required, because engine {chosen.name} names no baseline")
        name = chosen.baseline
    pack, owner = find(name)
    if engine not in (None, owner.name):
        raise PolicyError(f"--engine: {engine}: pack {pack.name} is of engine {owner.name}")
    worlds = owner.part(Worlds)
    opened = worlds.open_world(pack, seed, world_folder(folder))
    return worlds, opened, dict(worlds.describe_world(opened, pack))
