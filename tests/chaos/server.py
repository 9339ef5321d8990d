"""A tracking server that comes and goes while a sweep writes to it: requests lost, refused, cut; the server killed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from servers import MlflowServer, Wire

LANE = Path(__file__).resolve().parent.parent / "queue_engine" / "lane.json"
_TRIALS = 16
_SYNCS = 20  # calls of `sync`, each of which meets faults too, and one that meets none


def sweep_and_sync(place: Path, draw: random.Random) -> tuple[list[str], list[str], list[str]]:
    """Plays a sweep and `sync` to a server with faults, then one `sync` without. Returns (lost, doubled, wrong)."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "server").mkdir(parents=True)
    with (
        MlflowServer(f"sqlite:///{place / 'server' / 'store.db'}", place / "server") as server,
        Wire(server.url) as wire,
    ):
        wire.fault = lambda method, path, nth: _fault(draw, nth)
        going = threading.Thread(target=_come_and_go, args=(server, draw.random() * 6, draw.random() * 4))
        going.start()
        codes = [_call(place, wire.url, "sweep", str(LANE), "--trials", str(_TRIALS), "--sampler", "random")]
        codes += [_call(place, wire.url, "sync") for _ in range(draw.randrange(_SYNCS // 4))]
        going.join()
        wire.fault = lambda method, path, nth: None
        codes.append(_call(place, wire.url, "sync"))
    wrong = [f"exit code {code}: {err[-300:]}" for code, err in codes if code not in (0, 1, 2) or "Traceback" in err]
    if codes[-1][0] != 0:
        wrong.append(f"with the server back, sync ends with {codes[-1][0]}: {codes[-1][1][-300:]}")
    there = _tracked(place / "server" / "store.db")
    lost = [f"{number} in MLflow" for number in range(_TRIALS) if number not in there]
    doubled = [f"{number} in MLflow" for number in sorted(set(there)) if there.count(number) > 1]
    return lost, doubled, wrong


def _fault(draw: random.Random, nth: int) -> str | int | None:
    if nth < 3 or draw.random() > 0.15:  # a server that refuses at the very start is refused by the sweep as well
        return None
    return draw.choice(("cut", "lose", 503, 500, 429))


def _come_and_go(server: MlflowServer, after: float, away: float) -> None:
    time.sleep(after)
    server.kill()
    time.sleep(away)
    server.start()


def _call(place: Path, url: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "lanelock", *arguments, "--workspace", str(place / "workspace")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "MLFLOW_TRACKING_URI": url}
    )
    return done.returncode, done.stderr


def _tracked(store: Path) -> list[int]:
    with sqlite3.connect(store) as connection:
        rows = connection.execute("select value from tags where key = 'lanelock.trial'").fetchall()
    return [int(number) for (number,) in rows]
