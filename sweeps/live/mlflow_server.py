"""MLflow's own server over the workspace, on 127.0.0.1 only: begun when somebody first opens it, until ours ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from threading import Lock

from lanelock.policies import WorkspaceError
from lanelock.sweeps.live.ports import HOST, free_port
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.record.tracking import Tracking
from lanelock.sweeps.record.views import FIRST_VIEW, SWEEPS_VIEW, address
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.workspace import Workspace

_WATCHED = """
import os, signal, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end():
    sys.stdin.read()
    os.killpg(0, signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
os._exit(server.wait() & 255)
"""  # runs a command, and ends its whole process group when its parent is gone: a killed parent closes nothing


class MlflowServer:
    """MLflow's pages: those of its own server, which the first call of `root` begins, or those of a remote one."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._uri, self._guard = workspace, record_uri(workspace), Lock()
        self._remote = shown(self._uri) if self._uri.startswith(("http://", "https://")) else None
        self._server: subprocess.Popen[bytes] | None = None
        self._address = ""
        self._tracking: Tracking | None = None

    def root(self) -> str | None:
        """Returns the address of its pages; None while its server begins. Raises WorkspaceError where it ended."""
        if self._remote is not None:
            return self._remote.partition("?")[0].rstrip("/")
        with self._guard:
            if self._server is None:
                self._address, self._server = self._begun()
            code = self._server.poll()
        if code is not None:
            log = self._workspace.server_log
            raise WorkspaceError(f"{log}: MLflow's server ended with code {code}; the reason is in this file")
        return self._address if _answers(self._address) else None

    def lanes(self) -> tuple[tuple[str, str], ...]:
        """Returns name and title of every lane that MLflow holds, the newest first."""
        return tuple((name, title) for _, name, title in self._store().lanes())

    def lane(self, name: str) -> str | None:
        """Returns the address, below the root, of a lane's trials; None where MLflow has no such lane."""
        found = next((row for row, lane, _ in self._store().lanes() if lane == name), None)
        if found is None:
            return None
        return address(FIRST_VIEW if self._store().tried(found) else SWEEPS_VIEW, found)

    def run(self, lane: str, sweep: str, number: int | None) -> str | None:
        """Returns the address, below the root, of the run of a sweep or of its trial; None where there is none."""
        found = self._store().found(lane, sweep, number)
        return None if found is None else f"#/experiments/{found[0]}/runs/{found[1]}"

    def end(self) -> None:
        if self._server is not None:
            _end(self._server)
            self._server.stdin.close()  # type: ignore[union-attr]  # a pipe, as asked below

    def _store(self) -> Tracking:
        with self._guard:
            if self._tracking is None:
                self._tracking = Tracking(self._workspace)
            return self._tracking

    def _begun(self) -> tuple[str, subprocess.Popen[bytes]]:
        """Starts MLflow's server in a process group of its own."""
        port, uri = free_port(), self._uri
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
        command += ["--default-artifact-root", self._workspace.artifacts.as_uri(), "--workers", "1"]
        command += ["--uvicorn-opts", "--log-level warning"]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}  # fewer processes, faster start
        # Every user of the machine can read a command line, so that the address, with its password, is not part of it.
        environment |= {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_REGISTRY_STORE_URI": uri}
        with self._workspace.server_log.open("wb") as sink:
            server = subprocess.Popen(
                [sys.executable, "-ISc", _WATCHED, *command],
                env=environment, stdin=subprocess.PIPE, stdout=sink, stderr=sink, start_new_session=True,
            )  # fmt: skip
        return f"http://{HOST}:{port}", server


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/health", timeout=2).close()
    except OSError:
        return False
    return True


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
