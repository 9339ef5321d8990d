"""Who is told of what happens in a workspace: hooks, declared in `webhooks.json`, and the notices that wait for them.

Every hook has a box of its own, as the outbox has one for every sweep: an append-only file with one notice per line,
and a mark that states how far it was posted. A notice is written before it is posted, and marked once the hook has
taken it. Over HTTP that is at least once: if a sender is killed between the answer and the mark, the notice is posted
again with the same id (header `Idempotency-Key`). An id follows from what happened, so that a sweep which is resumed
and closes with the same lock announces it once.

Without a `webhooks.json`, `tell` reads and writes nothing. Nothing here imports what posts (`record.posting`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from lanelock.policies import LanelockError, PolicyError
from lanelock.policies.documents import parse_json, read_json, shipped_schema, validate
from lanelock.policies.errors import cause
from lanelock.policies.files import read_bytes
from lanelock.policies.names import inside
from lanelock.sweeps.record.outbox import Box
from lanelock.sweeps.secrets import without_secrets
from lanelock.sweeps.workspace import Workspace, writing

# A value that an error quotes.
_SECRET = re.compile(r"(: /hooks/\d+/(?:url|secret|headers)[^:]*: )(?:'[^']*'|\"[^\"]*\")")
TEST = "test"  # the event of `lanelock webhook test`
_ADDRESSES = ("url", "url_env", "url_file")
_LONGEST = 2000  # characters of an address
if TYPE_CHECKING:
    from lanelock.sweeps.proof.lock import Lock  # NumPy and Arrow, which `status` does without

_START = (
    "import os, sys\nif os.fork():\n    os._exit(0)\nos.setsid()\n"  # nobody's child: its starter need not wait for it
    "from lanelock.sweeps.record.posting import main\nmain(sys.argv[1])\n"
)


@dataclass(frozen=True, slots=True)
class Hook:
    """Where notices are posted, and which."""

    name: str
    events: tuple[str, ...]
    form: str  # "json" or "slack"
    folder: Path  # of the document: a relative url_file is seen from here
    url: str | None = field(default=None, repr=False)
    url_env: str | None = None
    url_file: str | None = None
    headers_env: Mapping[str, str] = field(default_factory=dict)
    secret_env: str | None = None

    def address(self) -> str:
        """Returns where to post. Raises PolicyError for what is no address of a web server; never quotes it."""
        where, text = f"hook {self.name}: url", self.url
        if self.url_env is not None:
            where, text = f"hook {self.name}: url_env {self.url_env}", environment(self.url_env, self.name)
        if self.url_file is not None:
            where = f"hook {self.name}: url_file {self.url_file}"
            try:
                text = read_bytes(self.folder / self.url_file, 2 * _LONGEST).decode().strip()
            except (OSError, UnicodeDecodeError, LanelockError) as error:
                raise PolicyError(f"{where}: cannot be read: {type(error).__name__}") from None
        check_address(text or "", where)
        return text or ""

    def host(self) -> str:
        """Returns the server's name for people: the rest of an address may be a secret."""
        with suppress(PolicyError):
            parts = urlsplit(self.address())
            return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        return "no address"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened, for one hook. `Notice.read(notice.line()) == notice`."""

    id: str  # 32 hexadecimal digits; the same whenever it is posted
    event: str
    at_ms: int
    subject: str  # the sweep, lock, alias or campaign
    text: str  # in one sentence
    details: Mapping[str, Any] = field(default_factory=dict)  # plain JSON

    def line(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Notice:
        """Returns the notice in a line. Raises ValueError for anything else."""
        try:
            document = parse_json(line, "")
            notice = cls(**document)
        except (PolicyError, TypeError) as error:
            raise ValueError(f"not a notice: {error}") from None
        texts = all(isinstance(text, str) for text in (notice.id, notice.event, notice.subject, notice.text))
        if not (texts and type(notice.at_ms) is int and isinstance(notice.details, dict)):
            raise ValueError("not a notice: a field is of another type")
        return notice


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a hook has not taken."""

    hook: str
    pending: int  # that are tried again
    given_up: int  # that are not, until `lanelock webhook retry`
    why: str  # of the last attempt, or ""

    def __str__(self) -> str:
        why = f": {self.why}" if self.why else ""
        again = f"; try them again with: lanelock webhook retry {self.hook}" if self.given_up else ""
        return f"{self.hook}: {self.pending} pending, {self.given_up} given up{why}{again}"


def hooks_of(workspace: Workspace) -> tuple[Hook, ...]:
    """Returns the hooks of a workspace, or of the file that LANELOCK_WEBHOOKS names. Raises PolicyError off schema."""
    path = _document(workspace)
    if path is None:
        return ()
    document, where = read_json(path), str(path)
    try:
        validate(document, shipped_schema("webhooks"), where)
    except PolicyError as error:  # an address that was written where the name of its variable belongs is not quoted
        raise PolicyError(_SECRET.sub(r"\1…", str(error), count=1)) from None
    hooks = list[Hook]()
    for number, row in enumerate(document["hooks"]):
        at = f"{where}: /hooks/{number}"
        given = [name for name in _ADDRESSES if name in row]
        if len(given) != 1:
            raise PolicyError(f"{at}: has {' and '.join(given) or 'no address'}; give one of {', '.join(_ADDRESSES)}")
        if "url" in row:
            check_address(row["url"], f"{at}/url")
        if row["name"] in [hook.name for hook in hooks]:
            raise PolicyError(f"{at}/name: {row['name']} is the name of two hooks")
        fields = {name: value for name, value in row.items() if name not in ("events", "form")}
        hooks.append(Hook(events=tuple(row["events"]), form=row.get("form", "json"), folder=path.parent, **fields))
    return tuple(hooks)


def check_address(url: str, where: str) -> None:
    """Raises PolicyError for what is no address of a web server. The message does not quote it: it may be a secret."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise PolicyError(f"{where}: not an address; give https://HOST/… or http://HOST/…") from None
    if parts.scheme not in ("https", "http") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise PolicyError(f"{where}: not an address of a web server; give https://HOST/… or http://HOST/…")
    if parts.username is not None or parts.password is not None:
        raise PolicyError(f"{where}: has a user or a password; give the header Authorization with headers_env")
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_link_local:
            raise PolicyError(f"{where}: {host} is link-local, where clouds keep credentials; nothing is posted there")


def environment(name: str, hook: str) -> str:
    """Returns the value of a variable. Raises PolicyError where it is not set, or would not fit into a header."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise PolicyError(f"hook {hook}: environment variable {name} is not set")
    if not value.isprintable() or not value.isascii():
        raise PolicyError(f"hook {hook}: environment variable {name} holds a character that no header takes")
    return value


def tell(workspace: Workspace, event: str, subject: str, text: str, *, once: str = "", **details: Any) -> str:
    """Writes a notice for every hook that asked for the event, and starts what posts it.

    `once`: what happened, such as the id of a lock; by default nothing else is the same. Never raises: returns why
    something could not be written, or "".
    """
    try:
        hooks = [hook for hook in hooks_of(workspace) if event in hook.events]
        if not hooks:
            return ""
        now = int(time.time() * 1000)
        for hook in hooks:
            known = f"{hook.name} {event} {subject} {once or uuid4().hex}"
            name = hashlib.sha256(known.encode("utf-8", "replace")).hexdigest()[:32]
            put(workspace, hook, Notice(name, event, now, subject, text, details))
        _start_posting(workspace)
    except Exception as error:  # a sweep is not failed by who wanted to hear of it
        return f"webhooks: {event} of {subject} was not noted: {error}"
    return ""


def _start_posting(workspace: Workspace) -> None:
    """Starts a process that posts what waits, and does not wait for it."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    command, nothing = [sys.executable, "-c", _START, str(workspace.root)], subprocess.DEVNULL
    subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, stdin=nothing, stdout=nothing, stderr=nothing,
        check=False, timeout=60,
    )  # fmt: skip


@contextmanager
def telling_failure(workspace: Workspace, sweep: str, title: str) -> Iterator[None]:
    """Announces an error that ends a sweep, and raises it on. A signal is no error."""
    try:
        yield
    except Exception as error:
        said = f"sweep_failed: {sweep} ({title}): {without_secrets(cause(error))[:_LONGEST]}"
        tell(workspace, "sweep_failed", sweep, said, kind=type(error).__name__)
        raise


def put(workspace: Workspace, hook: Hook, notice: Notice) -> None:
    """Appends a notice to a hook's box, unless it is there already, posted or not."""
    with writing(workspace.webhooks):
        workspace.webhooks.mkdir(parents=True, exist_ok=True)
    box = box_of(workspace, hook.name)
    if not any(notice.id.encode() in line for _, _, line in box.lines()):
        box.put([notice], synced=True)


def box_of(workspace: Workspace, name: str) -> Box:
    """Returns the box of a hook's notices."""
    return Box(inside(workspace.webhooks, f"{name}.jsonl"))


def waiting(workspace: Workspace) -> tuple[Waiting, ...]:
    """Returns the hooks that have not taken everything, by name; those that are no longer declared among them."""
    boxes = {path.stem: Box(path) for path in sorted(workspace.webhooks.glob("*.jsonl")) if path.is_file()}
    rows = []
    for name, box in boxes.items():
        given_up, told = len(box.notes().aside), box.notes()
        if count := box.waits():
            rows.append(Waiting(name, count - given_up, given_up, told.reason))
    return tuple(rows)


def tell_decision(workspace: Workspace, lock: Lock, objectives: Mapping[str, float]) -> str:
    """Announces the decision of a sweep that has closed. Returns why it could not be noted, or ""."""
    lane, event = lock.lane_document, "go" if lock.decision == "GO" else "no_go"
    reached = {name: value if math.isfinite(value) else None for name, value in objectives.items()}  # JSON has no NaN
    text = f"{lock.decision}: {lock.sweep} ({lane['title']}): {lock.because}"
    return tell(
        workspace, event, lock.sweep, text, once=lock.lock_id, lane=lane["id"], verdict=lock.verdict,
        reason=lock.because, trial=lock.trial, knobs=dict(lock.knobs), objectives=reached, lock=lock.lock_id,
    )  # fmt: skip


def body(notice: Notice, form: str) -> bytes:
    """Returns what is posted of a notice: the same bytes each time."""
    if form == "slack":
        text = notice.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return json.dumps({"text": f"Lanelock · {text}"[:3000]}).encode()
    return notice.line().strip()


def _document(workspace: Workspace) -> Path | None:
    named = os.environ.get("LANELOCK_WEBHOOKS")
    path = Path(named) if named else workspace.hooks
    return path if named or os.path.lexists(path) else None
