"""Small programs as engines: what they are written to, run with, and how one sees that they are gone."""

import time
from pathlib import Path

from lanelock.engine.command import CommandEngine
from lanelock.policies import pack_of

SCHEMA = {
    "$id": "params",
    "type": "object",
    "additionalProperties": False,
    "required": ["level", "count"],
    "properties": {
        "level": {"type": "number", "minimum": -1e9, "maximum": 1e9, "description": "metres"},
        "count": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "description": "rows"},
        "law": {"type": "string", "maxLength": 1000, "description": "a name"},
    },
}
PATIENCE = 30.0  # seconds for what has to happen; nothing is measured by it


def program(folder, text, name="program"):
    """Writes an executable script."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def shell(folder, text, command="./program {config}", **options):
    """An engine whose program is a shell script."""
    program(folder, f"#!/bin/sh\n{text}\n")
    return CommandEngine("heater", command, SCHEMA, folder=folder, **options)


def pack(level=1.5, count=3, **others):
    return pack_of("one", {"params": {"level": level, "count": count, **others}}, {"params": SCHEMA})


def tables(run):
    """The content of a run's surfaces."""
    return {name: surface.table().to_pydict() for name, surface in run.surfaces.items()}


def until(holds):
    """Waits until something holds; returns whether it came to that."""
    end = time.monotonic() + PATIENCE
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return held


def lives(pid):
    """Whether a process runs: one that is dead and not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pids(folder, count):
    """The ids that programs wrote into `folder`, one a file, once there are so many."""
    place = folder / "pids"
    place.mkdir(exist_ok=True)
    assert until(lambda: len([*place.glob("[!.]*")]) >= count)
    return [int(path.read_text()) for path in place.glob("[!.]*")]
