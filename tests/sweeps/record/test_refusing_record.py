"""A record that refuses: the sweep goes on, what waits says why, `sync` names the mend, and nothing jams the outbox."""

import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import TESTS
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name
from servers import MlflowServer, Wire

from lanelock.policies import WorkspaceError
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.delivery import Delivery, sync
from lanelock.sweeps.record.letters import Entry, Heading, Letter
from lanelock.sweeps.record.limits import RENAMED, name_taken, taken
from lanelock.sweeps.record.mlflow_store import Barred, Store
from lanelock.sweeps.record.outbox import Outbox, own_record
from lanelock.sweeps.record.tracking import Tracking
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LANE = load_lane(str(TESTS / "queue_engine" / "lane.json")).with_search(sampler="random")
HEADING = Heading("workspace", "lane", {"lanelock.title": "a lane"}, "lane-1", "a0")


def entry(name, **changed):
    return replace(Entry(name, {"m": 1.5}, {"k": "0.25"}, {"t": "§"}, {"note.txt": "text"}, 1_000), **changed)


def letters(trials):
    yield Letter("sweep", entry("begun"), heading=HEADING)
    yield from (Letter("trial", entry(f"trial {number}"), number) for number in range(trials))
    yield from (Letter("more", entry("more", params={}, files={"card.json": "{}"}), number) for number in range(trials))
    yield Letter("close", entry("closed", params={}), 0, HEADING)


def at(done, action):
    """Returns a watcher that acts once, after so many trials."""
    left = [action]

    def watch(progress):
        if progress.done >= done and left:
            left.pop()()

    return watch


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty database of MLflow's, which takes seconds to make."""
    made = Workspace.at(tmp_path_factory.mktemp("made"))
    Store(made)
    return made.tracking_database


@pytest.fixture
def place(tmp_path, database):
    place = Workspace.at(tmp_path)
    shutil.copy(database, place.tracking_database)
    return place


def all_deliver(place, **options):
    done = sync(place, own_record(place), **options)
    assert not done.waiting and Outbox(place).boxes() == (), done
    assert compare(place).differences == ()
    return done


# --- what somebody deleted in MLflow -----------------------------------------------------------------------------


def test_a_deleted_experiment_does_not_end_a_sweep_and_sync_names_the_mend(place, here):
    play(LANE.with_search(trials=4), place)
    client = Store(place).client
    experiment = client.get_experiment_by_name("queue").experiment_id
    client.delete_experiment(experiment)
    closed = play(LANE.with_search(trials=4), place)
    assert closed.decision.outcome and closed.lock.exists() and len(closed.trials) == 4
    code, out, err = here("sync", "--json", workspace=place.root)
    said = json.loads(out)
    assert (code, err, said["delivered"]) == (1, "", 0) and said["waiting"] > 5
    assert "experiment queue" in said["why"]["queue-2"] and "lanelock sync --restore" in said["why"]["queue-2"]
    assert "sync --restore" in here("sync", workspace=place.root)[1]
    assert "sync --restore" in here("status", workspace=place.root)[1]
    code, out, err = here("sweep", TESTS / "queue_engine" / "lane.json", "--trials", "4", workspace=place.root)
    assert code in (0, 1) and "experiment queue" in err and "uploads pending" in err and "Traceback" not in err
    assert here("sync", "--restore", workspace=place.root)[0] == 0
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    all_deliver(place)


@pytest.mark.parametrize("gone", ["experiment", "sweep", "trials", "rows"])
def test_what_is_deleted_in_mid_sweep_is_there_again_in_the_end(place, gone):
    tracking, box, rows = Tracking(place, own_record(place)), Outbox(place).box(HEADING), [*letters(4)]
    delivery, client = Delivery(tracking, box), Store(place).client
    box.put(rows[:4])
    delivery.deliver()
    experiment = client.get_experiment_by_name("lane").experiment_id
    for run in client.search_runs([experiment]):
        if (run.data.tags["lanelock.kind"] == "sweep") == (gone == "sweep") and gone in ("sweep", "trials"):
            client.delete_run(run.info.run_id)
    if gone == "experiment":
        client.delete_experiment(experiment)
    if gone == "rows":  # as `mlflow gc` removes them
        with closing(sqlite3.connect(place.tracking_database)) as base, base:
            for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
                base.execute(f"delete from {table}")
    box.put(rows[4:])
    with suppress(Barred):  # of the experiment; the courier notes it
        delivery.deliver()
    if gone == "experiment":
        assert "sync --restore" in sync(place, own_record(place)).why["lane-1"]
    assert not sync(place, own_record(place), restore=True).waiting
    runs = client.search_runs([experiment])
    trials = sorted(run.data.tags["lanelock.trial"] for run in runs if "lanelock.trial" in run.data.tags)
    assert trials == ["0", "1", "2", "3"] and {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 5
    for run in runs:
        assert "note.txt" in {file.path for file in client.list_artifacts(run.info.run_id)}


# --- names, texts and single letters -----------------------------------------------------------------------------


@given(st.text(max_size=400), st.text(max_size=400))
def test_any_name_becomes_one_that_mlflow_takes_and_no_two_become_one(name, other):
    for given_name in (name, other):
        found = name_taken(given_name)
        _validate_metric_name(found)
        assert len(found) <= MAX_ENTITY_KEY_LENGTH and name_taken(found) == found
    assert (name_taken(name) == name_taken(other)) == (name == other)


def test_names_and_texts_that_mlflow_does_not_take_are_delivered_and_told(place):
    odd = {"p99 (%)": 1.0, "a//b": 2.0, "../up": 3.0, "x" * 400: 4.0, "": 5.0, "good/name": 6.0, "end\n": 7.0}
    long = {"p?": "v" * 9_000, "q": "\x00\udc80"}
    written = entry(
        "trial 0", metrics=odd, params=long, tags={"t?": "s" * 9_000, "u": "\udc80", "lanelock.kind2": "$RUN"}
    )
    box = Outbox(place).box(HEADING)
    begun, *_ = letters(0)
    box.put([begun, Letter("trial", written, 0)])
    assert not sync(place, own_record(place)).waiting
    client = Store(place).client
    (run,) = client.search_runs([client.get_experiment_by_name("lane").experiment_id], "tags.`lanelock.trial` = '0'")
    renamed = json.loads(run.data.tags[RENAMED])
    assert {renamed.get(name, name): value for name, value in run.data.metrics.items()} == odd
    assert "good/name" in run.data.metrics and run.data.params["q"] == "\N{REPLACEMENT CHARACTER}" * 2
    assert taken(taken(written)) == taken(written)


def test_more_than_a_batch_of_everything_is_delivered(place):
    many = {f"m{index}": float(index) for index in range(2_300)}
    texts = {f"p{index}": "1" for index in range(250)}
    box = Outbox(place).box(HEADING)
    begun, *_ = letters(0)
    box.put([begun, Letter("trial", entry("trial 0", metrics=many, params=texts, tags=texts), 0)])
    assert not sync(place, own_record(place)).waiting
    client = Store(place).client
    (run,) = client.search_runs([client.get_experiment_by_name("lane").experiment_id], "tags.`lanelock.trial` = '0'")
    assert (
        run.data.metrics == many and texts.items() <= run.data.params.items() and texts.items() <= run.data.tags.items()
    )


@pytest.mark.parametrize(
    "bad",
    [{"metrics": {"m": "many"}}, {"metrics": None}, {"files": {"../out": "x"}}, {"at_ms": "late"},
     {"params": {"k": "9"}}],
    ids=str,
)  # fmt: skip
def test_a_letter_that_is_refused_by_itself_is_set_aside_and_the_others_are_delivered(place, here, bad):
    box = Outbox(place).box(HEADING)
    rows = [*letters(3)]
    if "params" in bad:  # MLflow does not take another value of a param
        rows.insert(2, Letter("more", entry("more", **bad), 0))
    else:
        rows[2] = Letter("trial", entry("trial 1", **bad), 1)
    box.put(rows)
    done = sync(place, own_record(place))
    (sweep, count), *_ = done.waiting.items()
    assert sweep == "lane-1" and count in (1, 2) and done.why["lane-1"], "the letter, and what follows it"
    client = Store(place).client
    runs = client.search_runs([client.get_experiment_by_name("lane").experiment_id])
    assert {run.info.run_name for run in runs if run.info.status == "FINISHED"} >= {"begun", "trial 0", "trial 2"}
    code, out, _ = here("sync", "--json", workspace=place.root)
    said = json.loads(out)
    assert code == 1 and said["waiting"] == count and said["why"]["lane-1"]
    lines = b"".join(letter.line() for letter in letters(3))  # somebody mends it
    box.path.write_bytes(lines)
    assert not sync(place, own_record(place)).waiting and not box.path.exists()


def test_a_view_that_is_too_long_for_mlflow_is_left_out_and_the_rest_is_there(place):
    shown = {"lanelock.title": "a lane", "mlflow.view": "x" * 30_000}
    box = Outbox(place).box(HEADING)
    box.put([Letter("sweep", entry("begun"), heading=replace(HEADING, shown=shown))])
    assert not sync(place, own_record(place)).waiting
    tags = Store(place).client.get_experiment_by_name("lane").tags
    assert tags["lanelock.title"] == "a lane" and "mlflow.view" not in tags


class Refusing:
    """A record that takes nothing, and counts how often it is asked."""

    doubled, asked = 0, 0

    def open_sweep(self, heading, entry):
        return "sweep"

    def trials(self, parent):
        return {}

    def write_trial(self, *_):
        self.asked += 1
        raise Barred("403: no")


def test_a_record_that_takes_nothing_is_asked_once_and_not_for_every_letter(place):
    box, record = Outbox(place).box(HEADING), Refusing()
    box.put([*letters(9)])
    with pytest.raises(WorkspaceError, match="403"):
        Delivery(record, box).deliver()
    assert record.asked == 1 and box.waits() == 19 and not box.notes().aside


# --- files of the outbox -----------------------------------------------------------------------------------------


def other_box(place):
    box = Outbox(place).box(replace(HEADING, sweep="lane-2", study="b0"))
    box.put(
        [
            replace(letter, heading=letter.heading and replace(HEADING, sweep="lane-2", study="b0"))
            for letter in letters(2)
        ]
    )
    return box


@pytest.mark.parametrize(
    "line", [b"{\n", b"[]\n", b"\xff\xfe\n", b"null\n", b'{"kind": "sweep"}\n', b"[" * 5_000 + b"\n"]
)
def test_a_line_that_is_no_letter_holds_up_nothing_but_itself(place, here, line):
    box, other = Outbox(place).box(HEADING), other_box(place)
    begun, *rest = letters(2)
    box.path.write_bytes(begun.line() + line + b"".join(letter.line() for letter in rest))
    assert json.loads(here("status", "--json", workspace=place.root)[1])["waiting"] > 7
    done = sync(place, own_record(place))
    assert done.waiting == {"lane-1": 1} and "not a letter" in done.why["lane-1"] and not other.path.exists()
    code, out, err = here("sync", workspace=place.root)
    assert code == 1 and "lane-1: 1 pending: " in out and "Traceback" not in err


def test_a_box_that_opens_no_sweep_is_named_and_the_others_are_delivered(place, here):
    box, other = Outbox(place).box(HEADING), other_box(place)
    box.path.write_bytes(b"".join(letter.line() for letter in [*letters(2)][1:]))
    for reading in ("status", "sync"):
        code, out, err = here(reading, workspace=place.root)
        assert code == (3 if reading == "sync" else 0) and "Traceback" not in out + err, (out, err)
    assert "no letter of it opens a sweep" in err and str(box.path) in err and err.count("\n") == 1
    assert not other.path.exists()


MARKS = [b"x", b"", b"-7", b"1", b"99999999999999999999999", b"9" * 5_000, b"\xff", b"1.5"]
SHORT = {(".delivered", b"-7"), (".delivered", b"1"), (".delivered", b"9" * 5_000), (".why", b""), (".why", b"\xff")}


@pytest.mark.parametrize(
    ("suffix", "mark"),
    [
        pytest.param(suffix, mark, marks=[] if (suffix, mark) in SHORT else pytest.mark.slow)
        for suffix in (".delivered", ".why")
        for mark in MARKS
    ],
)
def test_a_mark_or_a_note_that_is_none_delivers_again_and_never_too_little(place, mark, suffix):
    box = Outbox(place).box(HEADING)
    box.put([*letters(2)][:-1])
    sync(place, own_record(place))
    assert box.waits() == 0
    box.path.with_suffix(suffix).write_bytes(mark)
    assert box.waits() == 5
    assert not sync(place, own_record(place)).waiting


@pytest.mark.parametrize(
    ("kind", "make"),
    {
        "a named pipe": os.mkfifo,
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "a folder": lambda path: path.mkdir(),
    }.items(),
)
def test_a_database_that_is_no_file_is_refused_at_once(tmp_path, kind, make):
    place = Workspace.at(tmp_path / "workspace", None)
    make(place.tracking_database)
    with pytest.raises(Barred, match=rf"mlflow\.db: .*{kind}, not a file"):
        Store(place)


def test_strange_files_in_the_outbox_block_nothing(place, here):
    other = other_box(place)
    folder = place.outbox
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to("/dev/zero")
    (folder / "away.jsonl").symlink_to(folder / "nowhere")
    (folder / "note.txt").write_text("mine")
    (folder / "empty.jsonl").write_text("")
    (folder / "half.jsonl").write_text('{"kind"')
    os.mkfifo(other.path.with_suffix(".delivered"))
    os.mkfifo(other.path.with_suffix(".why"))
    assert here("status", workspace=place.root)[0] == 0
    code, _, err = here("sync", workspace=place.root)
    assert code == 3 and all(f"{name}.jsonl" in err for name in ("pipe", "folder", "link", "away"))
    assert not other.path.exists() and (folder / "note.txt").read_text() == "mine"


# --- servers that say no -----------------------------------------------------------------------------------------


@contextmanager
def answering(status, kind, body):
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if status in (301, 302):
                self.send_header("location", "/login")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_refuses_at_the_start_is_an_error_before_anything_is_spent(tmp_path, status):
    with answering(status, "text/html", b"<html>no</html>") as url:
        place = Workspace.at(tmp_path, url)
        with pytest.raises(WorkspaceError, match=str(status)):
            play(LANE.with_search(trials=4), place)
        assert not place.locks.joinpath("x").exists() and not list(place.locks.glob("*.json"))


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [(200, "text/html", b"<html>log in</html>"), (200, "application/json", b'{"x": 1}'), (302, "text/html", b""),
     (200, "application/json", b"\xff\xfe"), (503, "text/plain", b"")],
)  # fmt: skip
def test_a_server_that_answers_rubbish_is_waited_for(tmp_path, status, kind, body):
    with answering(status, kind, body) as url:
        place = Workspace.at(tmp_path, url)
        closed = play(LANE.with_search(trials=4), place)
        assert closed.lock.exists()
        (box,) = Outbox(place).boxes()
        assert box.waits() > 5 and box.notes().reason and "\n" not in box.notes().reason
    all_deliver(Workspace.at(tmp_path), redirect=True)


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 507])
def test_a_server_that_begins_to_refuse_in_mid_sweep_costs_nothing_but_the_wait(tmp_path, status):
    with MlflowServer(f"sqlite:///{tmp_path / 'server.db'}", tmp_path) as server, Wire(server.url) as wire:
        place = Workspace.at(tmp_path / "ws", wire.url)

        def refuse():
            wire.fault = lambda method, path, nth: None if path.endswith("search") else status

        closed = play(LANE.with_search(trials=16), place, watch=at(8, refuse))
        assert len(closed.trials) == 16 and closed.lock.exists()
        (box,) = Outbox(place).boxes()
        assert box.notes().reason and box.waits() > 4
        wire.fault = lambda method, path, nth: None
        assert not sync(place, wire.url).waiting and compare(place).differences == ()
