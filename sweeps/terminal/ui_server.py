"""The comparison page: MLflow's own server over the workspace, on 127.0.0.1 only, until it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lanelock.policies import WorkspaceError
from lanelock.sweeps.record.tracking import Tracking
from lanelock.sweeps.record.views import FIRST_VIEW, SWEEPS_VIEW, address
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.workspace import Workspace

_HOST = "127.0.0.1"
_WATCHED = """
import os, signal, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end():
    sys.stdin.read()
    os.killpg(0, signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
os._exit(server.wait() & 255)
"""  # runs a command, and ends its whole process group when its parent is gone: a killed parent closes nothing
_PATIENCE = 120.0  # seconds for a server to answer on a busy machine


@dataclass(frozen=True, slots=True)
class Page:
    """The page that compares a lane's trials."""

    lane: str
    title: str
    url: str


def serve(workspace: Workspace, port: int, say: Callable[[str, Sequence[Page]], None]) -> int:
    """Serves until a signal ends it, and returns the exit code.

    Calls `say` with the address and the pages when the server answers. Where MLflow has a server of its own, only its
    pages are shown. Raises WorkspaceError if the port is taken or the server does not start.
    """
    tracking = Tracking(workspace)
    if tracking.uri.startswith(("http://", "https://")):
        say(shown(tracking.uri), _pages(tracking, shown(tracking.uri).partition("?")[0]))
        return 0
    url, log = f"http://{_HOST}:{port}", workspace.server_log
    _must_be_free(port)
    with _server(tracking.uri, workspace, port, log) as server:
        try:
            _await(server, url, log)
            say(url, _pages(tracking, url))
            server.wait()
        except KeyboardInterrupt:
            return 0
    raise WorkspaceError(f"{log}: the server ended with code {server.returncode}; the reason is in this file")


def _pages(tracking: Tracking, url: str) -> tuple[Page, ...]:
    root = url.rstrip("/")
    return tuple(
        Page(name, title, f"{root}/{address(FIRST_VIEW if tracking.tried(experiment) else SWEEPS_VIEW, experiment)}")
        for experiment, name, title in tracking.lanes()
    )


def _must_be_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
            probe.listen(1)
        except OSError as error:
            raise WorkspaceError(f"--port {port}: {error.strerror}; name another with --port N") from None


@contextmanager
def _server(uri: str, workspace: Workspace, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Starts MLflow's server in a process group of its own, and ends that group on leaving."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST]
    command += ["--port", str(port), "--default-artifact-root", workspace.artifacts.as_uri(), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}  # fewer processes, faster start
    # Every user of the machine can read a command line, so that the address, with its password, is not part of it.
    environment |= {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_REGISTRY_STORE_URI": uri}
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [sys.executable, "-ISc", _WATCHED, *command],
            env=environment, stdin=subprocess.PIPE, stdout=sink, stderr=sink, start_new_session=True,
        )  # fmt: skip
        try:
            yield server
        finally:
            _end(server)
            server.stdin.close()  # type: ignore[union-attr]  # a pipe, as asked above


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _await(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while server.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise WorkspaceError(f"{log}: the server did not start; the reason is in this file")
