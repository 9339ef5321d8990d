"""The live page's server in this process, and requests to it with any header."""

import http.client
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from urllib.parse import urlencode

import uvicorn

from lanelock.sweeps.live.app import Pages, application
from lanelock.sweeps.live.mlflow_server import MlflowServer
from lanelock.sweeps.live.ports import HOST, listening


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: str

    @property
    def text(self):
        """The words on the page, without its style and script."""
        bare = re.sub(r"<(style|script)>.*?</\1>", " ", self.body, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", bare)).split())


class Asking:
    """Asks the server at a port, by default as a browser on this machine does."""

    def __init__(self, port, pages):
        self.port, self.pages, self.host = port, pages, f"{HOST}:{port}"

    def __call__(self, address, method="GET", form=None, **headers):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        body = None if form is None else urlencode(form)
        kind = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            connection.request(method, address, body, {"Host": self.host, **kind, **named})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read().decode())
        finally:
            connection.close()

    def post(self, address, own=True, **form):
        """Sends a form as the page itself does, with its token unless it is not the page's own."""
        form = {"token": self.pages.token.value, **form} if own else form
        return self(address, "POST", form, Origin=f"http://{self.host}")


@contextmanager
def serving(workspace, *, read_only=False):
    """Serves the live page over a workspace."""
    with listening(0) as listener:
        pages = Pages(workspace, MlflowServer(workspace), read_only=read_only)
        settings = uvicorn.Config(application(pages), log_level="error", lifespan="off")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Asking(listener.getsockname()[1], pages)
        finally:
            server.should_exit = True
            thread.join(20)
