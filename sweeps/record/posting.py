"""Posts the notices that wait for hooks: in order per hook, each until the hook takes it or it is given up.

`webhooks.tell` starts a process of its own for it, which outlives the command, tries for two minutes and ends; what
waits then is tried by the next event, by `lanelock sync` or by `lanelock webhook retry`. One process at a time posts to
a hook. A hook that does not answer, or answers that it may later, is tried again after 2, 4, 8, … seconds, at most an
hour apart; a notice is given up after `_TRIES` attempts or `_DAYS`, or at once where the hook refuses it. Redirects are
not followed, TLS certificates are verified, proxies are those of the environment.

No message quotes an address, a header or a library: any of them may hold a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from lanelock.policies import PolicyError
from lanelock.policies.files import read_bytes
from lanelock.sweeps.record.outbox import Box
from lanelock.sweeps.record.webhooks import Hook, Notice, box_of, environment, hooks_of
from lanelock.sweeps.record.webhooks import body as body_of
from lanelock.sweeps.workspace import Workspace, write_whole

_PAUSE, _LONGEST_PAUSE = 2.0, 3600.0  # seconds before the second attempt, and between any two
_TRIES, _DAYS = 30, 7.0
_ANSWER = 15.0  # seconds that a hook has for its whole answer
_LIFE = 120.0  # seconds that the process goes on trying
_AT_ONCE = 200  # notices that one hook is posted before the next hook's turn
_KEPT = 1 << 20  # bytes of a box that is kept when all of it was posted, so that nothing is announced twice
_LATER = (408, 409, 421, 425, 429)  # statuses below 500 that may be gone later


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt."""

    why: str = ""  # why the hook has not taken it; empty: it has
    final: bool = False  # whether it never will
    after: float = 0.0  # seconds that it asks to wait


@dataclass(frozen=True, slots=True)
class _Tried:
    """The attempts at the notice that begins at `at` of a box."""

    at: int
    tries: int = 0
    next: float = 0.0  # when it is due, in seconds since 1970

    def due(self, now: float) -> bool:
        """Whether it is time. A time further away than any pause was written by a clock that has been set since."""
        return not now < self.next <= now + _LONGEST_PAUSE

    def again(self, now: float, after: float) -> _Tried:
        pause = min(max(_PAUSE * 2.0 ** min(self.tries, 20), after), _LONGEST_PAUSE)
        return replace(self, tries=self.tries + 1, next=now + pause)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: object) -> None:
        """Follows none: the notice and its headers are for the address that was declared."""


def main(root: str) -> None:
    workspace, until = Workspace(Path(root)), time.monotonic() + _LIFE
    while time.monotonic() < until and send(workspace):
        time.sleep(0.5)


def send(workspace: Workspace, *, at_once: bool = False) -> bool:
    """Posts what is due; `at_once`, all that waits. Returns whether something is left to be tried again."""
    left = [_sent(hook, box_of(workspace, hook.name), at_once) for hook in hooks_of(workspace)]
    return any(left)


def attempt(hook: Hook, notice: Notice) -> Answer:
    """Posts one notice."""
    data = body_of(notice, hook.form)
    try:
        url, headers = hook.address(), _headers(hook, notice, data)
    except PolicyError as error:  # it may be mended
        return Answer(str(error))
    return _within(_ANSWER, partial(_post, url, data, headers))


def _sent(hook: Hook, box: Box, at_once: bool) -> bool:
    with box.delivering(0) as alone:
        if not alone:
            return True
        for count, (at, mark, line) in enumerate(box.lines_to_deliver()):
            if count >= _AT_ONCE and not at_once:
                return True
            tried = _read(box, at)
            if not (at_once or tried.due(time.time())):
                return True
            if not _tried(hook, box, tried, mark, line):
                return True
        if box.path.is_file() and (size := box.path.stat().st_size) > _KEPT:
            box.remove(size)
    return False


def _tried(hook: Hook, box: Box, tried: _Tried, mark: int, line: bytes) -> bool:
    """Tries one notice. Returns whether the next one may be tried: this one was taken, or given up."""
    try:
        notice = Notice.read(line)
    except ValueError:
        box.set_aside(tried.at, mark, "the line was changed by hand")
        return True
    answer, now = attempt(hook, notice), time.time()
    if not answer.why:
        box.delivered(mark)
        if tried.tries:
            box.explain("")
            _tries(box).unlink(missing_ok=True)
        return True
    tried = tried.again(now, answer.after)
    if answer.final or tried.tries >= _TRIES or now - notice.at_ms / 1000 > _DAYS * 86400:
        times = f"{tried.tries} attempt{'s' * (tried.tries != 1)}"
        box.set_aside(tried.at, mark, f"{notice.event} of {notice.subject} given up after {times}: {answer.why}")
        return True
    write_whole(_tries(box), json.dumps(asdict(tried)), synced=False)
    box.explain(answer.why)
    return False


def _read(box: Box, at: int) -> _Tried:
    """Returns the attempts at a notice so far; none where the file is missing, torn or about another notice."""
    with suppress(Exception):
        tried = _Tried(**json.loads(read_bytes(_tries(box), 1000)))
        if tried.at == at and type(tried.tries) is int and isinstance(tried.next, int | float):
            return tried
    return _Tried(at)


def _tries(box: Box) -> Path:
    return box.path.with_suffix(".tries")


def _headers(hook: Hook, notice: Notice, data: bytes) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"lanelock/{version('lanelock')}",
        "Idempotency-Key": notice.id,
        "X-Lanelock-Event": notice.event,
        **{name: environment(variable, hook.name) for name, variable in hook.headers_env.items()},
    }
    if hook.secret_env is not None:
        secret = environment(hook.secret_env, hook.name).encode()
        headers["X-Lanelock-Signature"] = f"sha256={hmac.new(secret, data, hashlib.sha256).hexdigest()}"
    return headers


def _within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """Returns the answer, or that there was none in time: a server may send a byte now and then for ever."""
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(call()), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return Answer(f"gave no whole answer within {seconds:g} s")


def _post(url: str, data: bytes, headers: dict[str, str]) -> Answer:
    request, after = urllib.request.Request(url, data, headers, method="POST"), ""
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_ANSWER) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        status, after = error.code, error.headers.get("Retry-After", "")
        error.close()
    except Exception as error:  # of the network, of TLS, of a proxy, of what is no HTTP
        return Answer(f"{urlsplit(url).hostname}: {_in_words(error)}")
    if 200 <= status < 300:
        return Answer()
    redirected = ", a redirect, which is not followed; give the address it leads to" if 300 <= status < 400 else ""
    wait = float(after) if after.isascii() and after.isdigit() else 0.0
    final = 400 <= status < 500 and status not in _LATER
    return Answer(f"{urlsplit(url).hostname} answers {status}{redirected}", final, wait)


def _in_words(error: Exception) -> str:
    """Returns what happened, in words of our own."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    match reason:
        case ssl.SSLCertVerificationError():
            return "its TLS certificate is not accepted"
        case ssl.SSLError():
            return "TLS failed"
        case TimeoutError():
            return f"no answer within {_ANSWER:g} s"
        case socket.gaierror():
            return "its name is not known"
        case OSError() if reason.strerror:
            return reason.strerror
        case http.client.HTTPException() | ConnectionError():
            return "closed the connection without an answer"
    return f"not reached ({type(reason).__name__})"
