"""The server of the live page, on 127.0.0.1 only, and MLflow's beside it: both end with the command that began them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Thread

import uvicorn

from lanelock.policies import WorkspaceError
from lanelock.sweeps.live.app import Pages, application
from lanelock.sweeps.live.frame import path
from lanelock.sweeps.live.mlflow_server import MlflowServer
from lanelock.sweeps.live.ports import HOST, listening
from lanelock.sweeps.record.delivery import sync
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Page:
    """The address that leads to a lane's trials in MLflow."""

    lane: str
    title: str
    url: str


Say = Callable[[str, str, Sequence[Page]], None]


def serve(workspace: Workspace, port: int, say: Say, *, read_only: bool = False) -> int:
    """Serves until a signal ends it, and returns the exit code.

    Calls `say` with the address of the live page, the address that leads to MLflow, and each lane's in MLflow, when the
    server answers. Raises WorkspaceError if the port is taken.
    """
    with closing(listening(port)) as listener:
        url = f"http://{HOST}:{port}"
        mlflow = MlflowServer(workspace)
        pages = Pages(workspace, mlflow, read_only=read_only)
        server = uvicorn.Server(uvicorn.Config(
            application(pages), log_level="error", access_log=False, lifespan="off", server_header=False,
            timeout_graceful_shutdown=2,
        ))  # fmt: skip
        served = Thread(target=server.run, kwargs={"sockets": [listener]}, name="pages")
        served.start()
        Thread(target=pages.warm, daemon=True).start()
        try:
            sync(workspace, record_uri(workspace))  # so that MLflow shows it; what cannot be delivered stays pending
            lanes = [Page(name, title, f"{url}{path('mlflow', 'lanes', name)}") for name, title in mlflow.lanes()]
            say(url, f"{url}/mlflow", lanes)
            served.join()
        except KeyboardInterrupt:
            return 0
        finally:
            server.should_exit = True
            pages.verifying.end()
            mlflow.end()
            served.join(5)
    raise WorkspaceError(f"{url}: the server of the live page ended by itself")
