"""What the live page refuses, whoever asks: the guards of MLflow's server, and a token for what changes something.

Every page that a browser shows may send requests to this machine. So a request must name this machine as its host (a
foreign name that was made to lead here is refused), what changes something must come from a page of this server with
its token, no page of another origin may frame or read these, and these load nothing from anywhere else.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lanelock.sweeps.live.frame import ALLOWED

HOSTS = ("localhost", "127.0.0.1", "::1")
LONGEST = 20_000  # bytes of a form
HEADERS: Mapping[str, str] = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'sha256-{ALLOWED}'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
    ),
}


class Guarded:
    """An application behind the guards that need no look at a request's body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        request = Request(scope)
        refused = refusal(request.method, request.headers)
        answer = self._app if refused is None else PlainTextResponse(refused, 403)
        await answer(scope, receive, guarded)


def refusal(method: str, headers: Mapping[str, str]) -> str | None:
    """Returns why a request is refused, from its method and its headers (lower case); None where it may pass."""
    host = headers.get("host", "")
    if _name_of(host) not in HOSTS:
        return "Invalid Host header: open this page by 127.0.0.1 or localhost"
    if method in ("GET", "HEAD"):
        return None
    origin = headers.get("origin")
    return None if origin in (None, f"http://{host}") else "Cross-origin request blocked"


def _name_of(host: str) -> str | None:
    """Returns the name in a Host header, without its port; None where it is none."""
    try:
        split = urlsplit(f"//{host}")
        known = split.port is None or split.port > 0
    except ValueError:
        return None
    return split.hostname if known and split.netloc == host and "@" not in host else None


class Token:
    """The secret that the forms of this process's pages carry."""

    def __init__(self) -> None:
        self.value = secrets.token_urlsafe(32)

    def field(self) -> str:
        return f'<input type="hidden" name="token" value="{self.value}">'

    def holds(self, form: Mapping[str, str]) -> bool:
        return secrets.compare_digest(form.get("token", "").encode(), self.value.encode())


async def form_of(request: Request) -> dict[str, str]:
    """Returns the fields of a form, each once. What is longer than any form of these pages is refused."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:  # more fields than any form of these pages
        return {}
    return {name: values[-1] for name, values in fields.items()}
