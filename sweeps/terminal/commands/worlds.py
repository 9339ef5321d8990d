"""`world`: build, import or describe a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lanelock.sweeps.pages.text import fields
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import WORLD, common_options, session_of


@click.group()
def world() -> None:
    """Build, import or describe a world."""


SEED = "Upstream is drawn anew for every seed."


def _world_options(command: Any) -> Any:
    command = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help=SEED)(
        command
    )
    return click.option(
        "--pack", default="baseline", show_default=True, help="Whose world policy.", shell_complete=PACK
    )(WORLD(common_options(command)))


@world.command("show")
@_world_options
def world_show(pack: str, seed: int, world: str | None, **options: Any) -> int:
    """Describe the world of a pack and seed, or one in a folder."""
    session = session_of(options)
    document = _describe_world(pack, seed, world)[1]
    session.show(document, fields(document))
    return 0


@world.command("build")
@_world_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write it to [default: worlds/<digest> in the workspace]."
)
def world_build(pack: str, seed: int, world: str | None, out: Path | None, **options: Any) -> int:
    """Draw or import a world and write it, with its receipt, where other commands can read it."""
    from lanelock.engine.segment_2b.store import keep_world
    from lanelock.sweeps.workspace import writing

    session = session_of(options)
    drawn, document = _describe_world(pack, seed, world)
    folder = out or session.workspace().worlds / str(document["digest"])[:16]
    with writing(folder):
        keep_world(drawn, folder)
    document = {**document, "folder": str(folder)}
    session.show(document, fields(document))
    return 0


def _describe_world(pack: str, seed: int, folder: str | None) -> tuple[Any, dict[str, Any]]:
    from lanelock.engine.segment_2b.draw_world import describe, draw_world
    from lanelock.engine.segment_2b.world_import import open_world
    from lanelock.sweeps.engines import open_pack, world_folder

    held, _ = open_pack(pack)
    outside = world_folder(folder)
    drawn = draw_world(held["world_v1"], seed) if outside is None else open_world(outside, held["world_v1"])
    return drawn, describe(drawn)
