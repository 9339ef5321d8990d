"""Webhooks: real HTTP servers that take, refuse, hang, drop and redirect; senders that are killed or many."""

import hashlib
import hmac
import http.server
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import child_environment
from hypothesis import given
from hypothesis import strategies as st
from lanes import lane_with, leaky_lane, refused

from lanelock.policies import PolicyError
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.record import posting, webhooks
from lanelock.sweeps.record.posting import attempt, send
from lanelock.sweeps.record.webhooks import Notice, box_of, hooks_of, put, tell, waiting
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

SECRET = "T0/B0/hush-hush"


class Server:
    """Answers each POST as the next of `plan` says, then with 200. `seen`: what came, in order."""

    def __init__(self):
        self.plan, self.seen, self.released = [], [], threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((self.path, dict(self.headers), data))
                how = outer.plan.pop(0) if outer.plan else 200
                if how == "hang":
                    outer.released.wait(60)
                if how in ("hang", "drop"):
                    self.close_connection = True
                    return
                if how == "drip":
                    while not outer.released.wait(0.05):
                        self.wfile.write(b"H")
                        self.wfile.flush()
                    return
                if how == "nonsense":
                    self.wfile.write(b"\x00\xff no http\r\n\r\n")
                    return
                self.send_response(how)
                if how == 302:
                    self.send_header("Location", f"http://127.0.0.1:{outer.port}/elsewhere")
                if how == 429:
                    self.send_header("Retry-After", "1234")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/{SECRET}"

    @property
    def bodies(self):
        return [json.loads(data) for _, _, data in self.seen]

    @property
    def ids(self):
        return [headers["Idempotency-Key"] for _, headers, _ in self.seen]


@pytest.fixture
def server():
    held = Server()
    thread = threading.Thread(target=held.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield held
    held.released.set()
    held.server.shutdown()
    held.server.server_close()


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("LANELOCK_WEBHOOKS", raising=False)
    monkeypatch.setattr(webhooks, "_start_posting", lambda workspace: None)  # each test says who posts
    return Workspace.at(tmp_path / "ws")


def declare(workspace, *rows):
    held = [{"name": "chat", "events": ["go", "no_go", "sweep_failed", "refused", "promoted"], **row} for row in rows]
    workspace.hooks.write_text(json.dumps({"format": "lanelock.webhooks/1", "hooks": held}))
    return hooks_of(workspace)


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    assert true()


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


DETAILS = st.dictionaries(
    TEXT, st.integers(1 - 2**53, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)


@given(at=st.integers(0, 2**53 - 1), text=TEXT, details=DETAILS)
def test_a_notice_is_one_line_and_reads_as_it_was(at, text, details):
    notice = Notice("0" * 32, "go", at, text, text, details)
    line = notice.line()
    assert Notice.read(line) == notice and line.count(b"\n") == 1 and line.endswith(b"\n")


def test_a_sweep_tells_its_decision_once_whatever_the_hook_answers(workspace, tmp_path, server):
    declare(workspace, {"url": server.url}, {"name": "team", "url": server.url, "form": "slack"})
    lane = lane_with(tmp_path, budget__trials=12)
    closed = play(lane, workspace, track=False)
    assert [row.pending for row in waiting(workspace)] == [1, 1] and server.seen == [] and closed.untold == ""
    server.plan = [500, 200, 503]
    while send(workspace, at_once=True):
        pass
    first = [body for body in server.bodies if "text" in body and "event" in body]
    assert len(server.seen) == 4 and len(set(server.ids)) == 2, "each was posted again with its own id"
    stated = json.loads(closed.lock.read_text())
    assert closed.decision.outcome == "GO"
    for body in first:
        assert (body["event"], body["subject"]) == ("go", closed.sweep)
        details = body["details"]
        assert details["reason"] == closed.decision.reason and details["lock"] == stated["lock_id"]
        assert details["lane"] == lane.id and details["objectives"] == closed.ledger.named(closed.decision.best)
    (said,) = {body["text"] for body in server.bodies if "event" not in body}
    assert closed.sweep in said and set(server.bodies[-1]) <= {"text", *first[0]}
    play(lane, workspace, track=False, resume=True)
    assert not send(workspace, at_once=True) and len(server.seen) == 4, "the same lock again is no news"


def test_nothing_declared_is_nothing_written_and_nothing_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from lanelock.sweeps.workspace import Workspace\n"
        "from lanelock.sweeps.record.webhooks import tell\n"
        f"place = Workspace(Path({str(tmp_path)!r})); assert tell(place, 'go', 'x', 'y') == ''\n"
        "assert 'lanelock.sweeps.record.posting' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_an_error_ends_is_told_and_still_raises(workspace, tmp_path, server, monkeypatch):
    declare(workspace, {"url": server.url})
    monkeypatch.setattr("lanelock.sweeps.sweep.sensitivity", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        play(lane_with(tmp_path, budget__trials=4), workspace, track=False)
    assert not send(workspace)
    assert [body["event"] for body in server.bodies] == ["sweep_failed"] and "queue-1" in server.bodies[0]["text"]


def test_trials_that_fail_do_not_fail_a_sweep_and_a_hook_that_is_away_does_not_either(workspace, tmp_path):
    declare(workspace, {"url": "http://127.0.0.1:9/x"})
    lane = load_lane(str(leaky_lane(tmp_path, budget__trials=8)))
    closed = play(lane, workspace, track=False)
    assert send(workspace) and closed.untold == ""
    (row,) = waiting(workspace)
    assert (row.pending, row.given_up) == (1, 0) and "Connection refused" in row.why


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (500, "answers 500"),
        ("drop", "closed the connection"),
        ("hang", "answer within"),
        ("drip", "answer within"),
        ("nonsense", ""),
        (302, "a redirect, which is not followed"),
        (429, "answers 429"),
    ],
)
def test_what_may_pass_is_tried_again_with_the_same_id(workspace, server, monkeypatch, how, why):
    monkeypatch.setattr(posting, "_ANSWER", 0.3)
    declare(workspace, {"url": server.url})
    for number in range(3):
        assert tell(workspace, "go", f"lane-{number}", "it is decided") == ""
    server.plan = [how]
    assert send(workspace, at_once=True) and why in waiting(workspace)[0].why
    until(lambda: len(server.seen) == 1)  # those behind it wait, in order
    assert send(workspace), "too soon for another attempt"
    assert len(server.seen) == 1
    monkeypatch.setattr(posting, "_ANSWER", 15.0)
    assert not send(workspace, at_once=True) and waiting(workspace) == ()
    assert server.ids[0] == server.ids[1] and len(set(server.ids)) == 3
    assert [body["subject"] for body in server.bodies[1:]] == ["lane-0", "lane-1", "lane-2"]
    assert all(path == f"/{SECRET}" for path, _, _ in server.seen), "no redirect was followed"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_what_a_hook_refuses_is_given_up_and_the_next_is_posted(workspace, server, status, here):
    declare(workspace, {"url": server.url})
    tell(workspace, "go", "lane-1", "one")
    tell(workspace, "go", "lane-2", "two")
    server.plan = [status]
    assert not send(workspace)
    (row,) = waiting(workspace)
    assert (row.pending, row.given_up) == (0, 1)
    assert row.why == f"go of lane-1 given up after 1 attempt: 127.0.0.1 answers {status}"
    for command in ("status", "sync"):
        code, out, err = here(command, workspace=workspace.root)
        assert "given up" in out and "lanelock webhook retry chat" in out and SECRET not in out + err
        assert code == (1 if command == "sync" else 0)
    assert here("webhook", "retry", "chat", workspace=workspace.root)[:2] == (0, "nothing waits\n")
    assert [body["subject"] for body in server.bodies[:3]] == ["lane-1", "lane-2", "lane-1"]
    assert len(set(server.ids)) == 2


def test_it_is_given_up_after_so_many_attempts_or_days(workspace, server, monkeypatch):
    declare(workspace, {"url": server.url})
    tell(workspace, "go", "lane-1", "one")
    server.plan = [500] * 99
    monkeypatch.setattr(posting, "_TRIES", 3)
    assert [send(workspace, at_once=True) for _ in range(3)] == [True, True, False]
    tell(workspace, "go", "lane-2", "two")
    now = time.time()
    monkeypatch.setattr(posting.time, "time", lambda: now + 8 * 86400)
    assert not send(workspace) and waiting(workspace)[0].given_up == 2


@pytest.mark.parametrize("shift", [-30 * 86400, 2 * 3600])
def test_a_clock_that_is_set_neither_stops_nor_drops_anything(workspace, server, monkeypatch, shift):
    declare(workspace, {"url": server.url})
    tell(workspace, "go", "lane-1", "one")
    server.plan = [500]
    assert send(workspace)
    now = time.time()
    monkeypatch.setattr(posting.time, "time", lambda: now + shift)
    assert not send(workspace) and len(server.seen) == 2 and waiting(workspace) == ()


def test_a_killed_sender_posts_again_with_the_same_id(workspace, server):
    declare(workspace, {"url": server.url})
    tell(workspace, "go", "lane-1", "one")
    server.plan = ["hang"]
    code = f"from lanelock.sweeps.record.posting import main; main({str(workspace.root)!r})"
    with subprocess.Popen([sys.executable, "-c", code], env=child_environment()) as sender:
        until(lambda: len(server.seen) == 1)
        sender.send_signal(signal.SIGKILL)
    assert waiting(workspace)[0].pending == 1
    assert not send(workspace) and len(server.seen) == 2 and len(set(server.ids)) == 1
    assert not send(workspace) and len(server.seen) == 2, "an ordinary restart posts nothing twice"


def test_many_senders_post_each_notice_once(workspace, server):
    declare(workspace, {"url": server.url}, {"name": "other", "url": server.url})
    for number in range(40):
        tell(workspace, "go", f"lane-{number}", "one of many")
    code = f"from lanelock.sweeps.record.posting import main; main({str(workspace.root)!r})"
    senders = [subprocess.Popen([sys.executable, "-c", code], env=child_environment()) for _ in range(4)]
    assert [sender.wait(120) for sender in senders] == [0] * 4
    assert len(server.ids) == len(set(server.ids)) == 80


def test_the_process_that_posts_outlives_the_command_and_the_command_does_not_wait(tmp_path, server):
    workspace = Workspace.at(tmp_path / "ws")
    declare(workspace, {"url": server.url, "events": ["refused"]})
    server.plan = ["hang"]
    code = (
        "from pathlib import Path; from lanelock.sweeps.workspace import Workspace\n"
        "from lanelock.sweeps.record.webhooks import tell\n"
        f"assert tell(Workspace(Path({str(workspace.root)!r})), 'refused', 'certified', 'no') == ''"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment(), timeout=60)
    until(lambda: len(server.seen) == 1)
    assert waiting(workspace)[0].pending == 1, "the command has ended, and the hook has not answered"
    server.released.set()
    until(lambda: waiting(workspace) == ())
    assert len(set(server.ids)) == 1


def test_ten_thousand_notices_wait_and_are_posted_in_order(workspace, server, monkeypatch):
    (hook,) = declare(workspace, {"url": server.url})
    put(workspace, hook, Notice("f" * 32, "go", 0, "first", "first"))
    lines = [Notice(f"{number:032x}", "go", 0, str(number), "one of many") for number in range(10_000)]
    box_of(workspace, "chat").put(lines)
    assert waiting(workspace)[0].pending == 10_001
    posted = []
    monkeypatch.setattr(posting, "attempt", lambda hook, notice: posted.append(notice.id) or posting.Answer())
    while send(workspace):
        pass
    assert posted == ["f" * 32, *(notice.id for notice in lines)] and waiting(workspace) == ()
    assert not box_of(workspace, "chat").path.exists(), "a large box that was posted is removed"


def test_torn_lines_and_torn_notes_lose_nothing_but_themselves(workspace, server):
    declare(workspace, {"url": server.url})
    tell(workspace, "go", "lane-1", "one")
    box = box_of(workspace, "chat")
    with box.path.open("ab") as file:
        file.write(b'{"id": 3}\n[]\nnot json\n{"torn')
    tell(workspace, "go", "lane-2", "two")
    box.path.with_suffix(".tries").write_text("{")
    assert not send(workspace)
    assert [body["subject"] for body in server.bodies] == ["lane-1", "lane-2"] and waiting(workspace)[0].given_up == 3


def test_headers_and_signature_come_from_the_environment(workspace, server, monkeypatch):
    monkeypatch.setenv("HOOK_URL", server.url)
    monkeypatch.setenv("HOOK_TOKEN", "Bearer of-news")
    monkeypatch.setenv("HOOK_SECRET", "hush")
    row = {"url_env": "HOOK_URL", "headers_env": {"Authorization": "HOOK_TOKEN"}, "secret_env": "HOOK_SECRET"}
    (hook,) = declare(workspace, row)
    notice = Notice("a" * 32, "go", 5, "lane-1", "Größe <5> & mehr", {"x": [1, None]})
    assert attempt(hook, notice).why == ""
    ((_, headers, data),) = server.seen
    assert headers["X-Lanelock-Signature"] == "sha256=" + hmac.new(b"hush", data, hashlib.sha256).hexdigest()
    assert headers["Authorization"] == "Bearer of-news" and headers["X-Lanelock-Event"] == "go"
    assert Notice.read(data) == notice
    (plain,) = declare(workspace, {"url": server.url, "form": "slack"})
    attempt(plain, notice)
    assert server.bodies[-1] == {"text": "Lanelock · Größe &lt;5&gt; &amp; mehr"}


def test_no_secret_is_printed_stored_or_logged(workspace, server, monkeypatch, here, tmp_path):
    (tmp_path / "url.txt").write_text(f"http://127.0.0.1:9/{SECRET}\n")
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hush-hush")
    monkeypatch.setenv("BAD_URL", f"ftp://hush-hush@x/{SECRET}")
    rows = [
        {"name": "file", "url_file": str(tmp_path / "url.txt"), "headers_env": {"Authorization": "HOOK_TOKEN"}},
        {"name": "bad", "url_env": "BAD_URL"},
        {"name": "none", "url_env": "NO_SUCH_VARIABLE"},
        {"name": "tls", "url": f"https://127.0.0.1:{server.port}/{SECRET}"},
        {"name": "unknown", "url": f"https://no-such-host.invalid/{SECRET}"},
    ]
    declare(workspace, *rows)
    tell(workspace, "go", "lane-1", "one")
    send(workspace)
    said = [here(*words, workspace=workspace.root) for words in (("status",), ("sync",), ("webhook", "list"))]
    said += [here("webhook", "test", row["name"], workspace=workspace.root) for row in rows]
    assert [code for code, _, _ in said[3:]] == [1] * 5, said
    printed = "".join(out + err for _, out, err in said)
    assert "NO_SUCH_VARIABLE is not set" in printed and "not an address of a web server" in printed
    written = "".join(path.read_text() for path in workspace.webhooks.iterdir() if path.is_file())
    assert "hush-hush" not in printed + written and SECRET not in printed + written


GOOD = {"name": "x", "events": ["go"], "url": "http://x"}
BAD = {  # the hooks, or the whole text -> why they are refused
    '{"format": "lanelock.webhooks/1"}': "missing field hooks",
    "{": "not JSON",
    '{"format": "lanelock.webhooks/2", "hooks": []}': "/format",
    json.dumps([{**GOOD, "events": ["party"]}]): "/hooks/0/events/0",
    json.dumps([{"name": "x", "events": ["go"]}]): "give one of url, url_env, url_file",
    json.dumps([{**GOOD, "url_env": "X"}]): "has url and url_env",
    json.dumps([{**GOOD, "name": "../x"}]): "/hooks/0/name",
    json.dumps(
        [{"name": "x", "events": ["go"], "url_env": "http://x/hush-hush"}]
    ): "/hooks/0/url_env: … does not match",
    json.dumps([GOOD, GOOD]): "is the name of two hooks",
    json.dumps([{**GOOD, "secret": "hush-hush"}]): "unknown field secret",
}


@pytest.mark.parametrize(("text", "why"), BAD.items(), ids=BAD.values())
def test_a_bad_document_is_refused_before_a_budget_is_spent(workspace, tmp_path, here, text, why):
    workspace.hooks.write_text(f'{{"format": "lanelock.webhooks/1", "hooks": {text}}}' if text[0] == "[" else text)
    lane_with(tmp_path)
    refused(here("sweep", str(tmp_path / "lane.json"), "--quiet", workspace=workspace.root), "webhooks.json", why)
    assert "hush-hush" not in here("webhook", "list", workspace=workspace.root)[2]
    assert not workspace.journal.exists()
    assert "was not noted" in tell(workspace, "go", "x", "y"), "what a running sweep says of it"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://x/y", "gopher://x", "javascript:alert(1)", "http://", "http:///x", "//x/y", "x",
        "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/x", "http://user:hush-hush@host/x", "http://x:y/",
        "http://a b/", "http://x/\r\nHost: y", "http://ä.example/",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_web_server_is_refused_and_not_quoted(workspace, url):
    with pytest.raises(PolicyError, match=r"webhooks\.json: /hooks/0/url: ") as raised:
        declare(workspace, {"url": url})
    assert "hush-hush" not in str(raised.value)


def test_the_document_may_lie_elsewhere(workspace, tmp_path, server, monkeypatch):
    declare(workspace, {"url": server.url})
    moved = workspace.hooks.rename(tmp_path / "hooks.json")
    assert hooks_of(workspace) == ()
    monkeypatch.setenv("LANELOCK_WEBHOOKS", str(moved))
    assert [hook.name for hook in hooks_of(workspace)] == ["chat"]
    monkeypatch.setenv("LANELOCK_WEBHOOKS", str(tmp_path / "none.json"))
    with pytest.raises(PolicyError, match="no such file"):
        hooks_of(workspace)


def test_commands_tell_of_verdicts_moves_and_refusals(workspace, tmp_path, server, here):
    events = ["refused", "certified", "not_certified", "promoted", "rolled_back"]
    declare(workspace, {"url": server.url, "events": events})
    root, lock = workspace.root, play(lane_with(tmp_path, budget__trials=12), workspace, track=False).lock.stem
    graded = here("certify", lock, "--seeds", "1", "--quiet", workspace=root)[0]
    assert here("promote", lock, "--to", "candidate", "--dry-run", "--quiet", workspace=root)[0] == 0
    assert here("promote", lock, "--to", "candidate", "--quiet", workspace=root)[0] == 0
    assert here("promote", lock, "--to", "certified", "--quiet", workspace=root)[0] == 1
    assert here("rollback", "candidate", "--quiet", workspace=root)[0] == 1
    assert not send(workspace)
    told = [body["event"] for body in server.bodies]
    assert told == ["not_certified" if graded else "certified", "promoted", "refused", "refused"]
    said = f"chat: taken by http://127.0.0.1:{server.port}\n"
    assert here("webhook", "test", "chat", workspace=root) == (0, said, "")
