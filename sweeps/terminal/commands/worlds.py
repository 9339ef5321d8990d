"""`world`: build, import or describe a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lanelock.engine.protocol import Worlds
from lanelock.policies import PolicyError
from lanelock.sweeps.engines import engine_with, open_pack, world_folder
from lanelock.sweeps.pages.text import fields
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import ENGINE, WORLD, common_options, session_of
from lanelock.sweeps.workspace import writing


@click.group()
def world() -> None:
    """Build, import or describe a world."""


SEED = "The world is drawn anew for every seed."


def _world_options(command: Any) -> Any:
    command = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help=SEED)(
        command
    )
    whose = "Whose world policy [default: the engine's baseline]."
    return click.option("--pack", help=whose, shell_complete=PACK)(ENGINE(WORLD(common_options(command))))


@world.command("show")
@_world_options
def world_show(pack: str | None, engine: str | None, seed: int, world: str | None, **options: Any) -> int:
    """Describe the world of a pack and seed, or one in a folder."""
    session = session_of(options)
    owner, opened = _open(pack, engine, seed, world)
    document = dict(owner.describe_world(opened))
    session.show(document, fields(document))
    return 0


@world.command("build")
@_world_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write it to [default: worlds/<digest> in the workspace]."
)
def world_build(
    pack: str | None, engine: str | None, seed: int, world: str | None, out: Path | None, **options: Any
) -> int:
    """Draw or import a world and write it, with its receipt, where other commands can read it."""
    session = session_of(options)
    owner, opened = _open(pack, engine, seed, world)
    document = dict(owner.describe_world(opened))
    folder = out or session.workspace().worlds / str(document["digest"])[:16]
    with writing(folder):
        owner.keep_world(opened, folder)
    document["folder"] = str(folder)
    session.show(document, fields(document))
    return 0


def _open(pack: str | None, engine: str | None, seed: int, folder: str | None) -> tuple[Worlds, Any]:
    """The engine that draws or reads the world, and the world."""
    if pack is None:
        able = engine_with(Worlds, engine)
        if able.baseline is None:
            raise PolicyError(f"--pack: needed, engine {able.name} names no baseline")
        pack = able.baseline
    held, found = open_pack(pack)
    if engine not in (None, found.name):
        raise PolicyError(f"--engine: {engine}: pack {held.name} is of engine {found.name}")
    owner = found.part(Worlds)
    return owner, owner.open_world(held, seed, world_folder(folder))
