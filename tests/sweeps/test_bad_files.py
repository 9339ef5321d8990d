"""A bad file in any place of a workspace: no command hangs or shows a traceback, each says one line that names a file.

Every kind of bad file is put into every place, once where a good one was and once beside it, and the commands that
read the place are called.
"""

import json
import os
import shutil
import signal
from contextlib import contextmanager

import pytest
from lanes import QUEUE, TESTS, lane_with, refused

from lanelock.engine.keep.receipts import with_digest, write_json
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.record.letters import Entry, Heading, Letter
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace, write_document

LOCK = "queue-1"
SEEN = ("status",), ("prune",), ("lock", "show", LOCK)
PLACES = {  # of a workspace -> the commands that read it
    "locks/queue-1.*.json": (
        *SEEN,
        ("verify", LOCK),
        ("compare", LOCK, "few-1"),
        ("promote", LOCK, "--to", "candidate"),
    ),
    "promoted/*/lock.json": (*SEEN, ("lock", "show", "candidate")),
    "promotions/000001.json": (*SEEN, ("promote", LOCK, "--to", "candidate"), ("lock", "show", "candidate")),
    "promotions/head.json": (("status",), ("rollback", "candidate")),
    "trust.json": (("status",), ("lock", "show", LOCK)),
    "evidence/*/certification.json": (("status",), ("prune",), ("verify", "EVIDENCE"), ("report", LOCK)),
    "evidence/*/seeds/1.json": (("prune",), ("verify", "EVIDENCE")),
    "evidence/*/index.json": (("verify", "EVIDENCE"),),
    "run_records/*.json": (("status",), ("explain", "RUN"), ("explain", "OTHER")),
    "runs/*/run_receipt.json": (("status",), ("prune",), ("explain", "PUBLISHED"), ("verify", "PUBLISHED")),
    "runs/*/heights.parquet": (("verify", "PUBLISHED"), ("score", "PUBLISHED")),
    "sweeps/queue-1.json": (("status",), ("report", LOCK)),
    "optuna.journal": (("status",), ("report", LOCK), ("audit", LOCK)),
    "campaigns/counter-1/campaign.json": (("status",), ("prune",)),
    "campaigns/counter-1/00.start.json": (("status",), ("prune",)),
    "outbox/*.jsonl": (("status",),),
    "outbox/*.delivered": (("status",),),
    "registry.json": (("status",),),
    ".sweep-queue.lock": (("status",),),
}


def text(content):
    return lambda path: path.write_bytes(content)


def changed(change):
    def write(path):
        write_document(path, change(read_json(path)))

    return write


BAD = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a file of a tebibyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "nothing": text(b""),
    "bytes": text(bytes(range(256)) * 8),
    "UTF-16": text('{"lock_id": "x"}\n'.encode("utf-16")),
    "half a document": text(b'{"lock_id": "'),
    "two lines": text(b"{}\n{}\n"),
    "an array": text(b"[]\n"),
    "a number": text(b"5\n"),
    "an object": text(b"{}\n"),
    "depth": text(b'{"a":' * 100_000),
    "NaN": text(b'{"lock_id": NaN}\n'),
    "a large number": text(b'{"trials": 36893488147419103232, "lock_id": "x"}\n'),
    "half a character": text(b'{"lock_id": "\\ud800"}\n'),
    "a field twice": text(b'{"lock_id": 1, "lock_id": 2}\n'),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a document in every place."""
    place = Workspace.at(tmp_path_factory.mktemp("bad"))
    locks = [
        play(lane_with(place.root, id=name).with_search(trials=3), place, track=False).lock for name in ("queue", "few")
    ]
    certify_lock(locks[0], place, holdout=3)
    assert promote(locks[0], "candidate", place).written
    document = read_json(QUEUE / "campaign.json")
    for phase in document["phases"].values():
        phase.update({key: str(QUEUE / phase[key]) for key in ("pack", "lane") if key in phase})
    for row in document["record"]["rows"]:
        row.update({"pack": str(QUEUE / row["pack"])} if "pack" in row else {})
    (place.root / "campaign-of-the-queue.json").write_text(json.dumps(document))
    play_campaign(load_campaign(str(place.root / "campaign-of-the-queue.json")), place, track=False)
    heading = Heading("workspace", "queue", {}, "queue-1", "a0")
    entry = Entry("begun", {"m": 1.5}, {}, {}, {}, 1_000)
    box = Outbox(place).box(heading)
    box.put([Letter("sweep", entry, heading=heading), Letter("trial", entry, 0)])
    box.delivered(0)
    write_document(place.registry, {"workspace": {"queue": {"aliases": {}, "versions": {}}}})
    shutil.copy(TESTS.parent / "policies" / "segment_2b" / "trust.json", place.trust)
    (place.root / ".sweep-queue.lock").write_text("")
    return place


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The same with runs, one of them published; it is made by commands, which need the other engine on the path."""
    from lanelock.sweeps.terminal.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS / "tides_engine"))
        for seed in (1, 2):
            arguments = ["run", "--pack", str(TESTS / "tides_engine" / "pack"), "--seed", str(seed), "--quiet"]
            with pytest.raises(SystemExit) as left:
                main([*arguments, *(["--publish"] if seed == 1 else []), "--workspace", str(made.root)])
            assert left.value.code == 0
        yield made


@contextmanager
def within(seconds):
    """Ends a block that hangs."""

    def hang(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def copy(whole, tmp_path):
    place = Workspace(tmp_path / "workspace")
    shutil.copytree(whole.root, place.root, symlinks=True)
    return place


def words(command, place):
    """Returns a command with the names of what the workspace holds."""
    (evidence, *_), (published, *_) = sorted(place.evidence.glob("queue-1*")), sorted(place.runs.glob("[0-9a-f]*"))
    run, other = sorted(path.stem for path in place.run_records.glob("*.json"))[:2]
    names = {"EVIDENCE": str(evidence), "PUBLISHED": published.name, "RUN": run, "OTHER": other}
    return [names.get(word, word) for word in command]


def put(bad, path):
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    BAD[bad](path)


STREAMS = ("optuna.journal", "runs/*/heights.parquet", "outbox/*.jsonl")  # as large as what they hold


def cases(pattern, path, everything):
    """Yields (kind, place, commands): all of them, or each kind once and the special files beside good ones."""
    first, *others = PLACES[pattern]
    for number, bad in enumerate(BAD):
        if bad == "a file of a tebibyte" and pattern in STREAMS:
            continue
        for at in (path, path.with_name(f"zz{path.suffix}")):
            if everything:
                yield bad, at, (first, *others)
            elif at == path:
                yield bad, at, [PLACES[pattern][number % len(PLACES[pattern])]]
            elif number % 5 == 0:
                yield bad, at, [first]


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pattern", PLACES)
def test_every_kind_of_bad_file_in_every_place(copy, here, pattern, everything):
    path = min(copy.root.glob(pattern))
    good, named = path.read_bytes(), {command: words(command, copy) for command in PLACES[pattern]}
    for bad, at, commands in cases(pattern, path, everything):
        put(bad, at)
        for command in commands:
            with within(60):
                code, _, err = here(*named[command], workspace=copy.root)
            assert code in (0, 1, 2, 3) and "Traceback" not in err, (bad, at, command, code, err)
            begins = ("lanelock: ", str(copy.root))  # a refusal, or the difference that `verify` found
            assert code < 2 or (err.count("\n") == 1 and err.startswith(begins)), (bad, at, command, err)
        shutil.rmtree(at) if at.is_dir() and not at.is_symlink() else at.unlink()
        path.write_bytes(good)


def receipt(**fields):
    """A receipt with fields replaced and its digest made good; of None, left out."""

    def change(document):
        body = {name: value for name, value in {**document, **fields}.items() if value is not None}
        return with_digest({name: value for name, value in body.items() if name != "receipt_sha256"})

    return lambda path: write_json(path, change(read_json(path)))


def lock(**fields):
    return changed(
        lambda document: (
            (body := {**document, **fields, "lock_id": None})
            and {**body, "lock_id": digest({name: value for name, value in body.items() if name != "lock_id"})}
        )
    )


@pytest.mark.parametrize(
    ("pattern", "change", "command", "code", "said"),
    [
        ("run_records/*.json", changed(lambda row: {"states": []}), ("explain", "RUN"), 2, "missing field run_id"),
        ("run_records/*.json", changed(lambda row: {**row, "states": [{}]}), ("explain", "RUN"), 2, "/states/0: "),
        ("runs/*/run_receipt.json", receipt(files=None), ("verify", "PUBLISHED"), 3, "/: missing field files"),
        ("runs/*/run_receipt.json", receipt(seed=1.0), ("score", "PUBLISHED"), 3, "/seed: 1.0 is not of type integer"),
        ("evidence/*/seeds/1.json", changed(lambda row: {"seed": 1}), ("prune",), 3, "missing field metrics"),
        ("registry.json", changed(lambda row: {"workspace": {"queue": {}}}), ("status",), 3, "/workspace/queue: "),
        ("campaigns/*/00.start.json", changed(lambda row: {**row, "seconds": "3"}), ("prune",), 3, "/seconds: "),
        ("campaigns/*/00.start.json", changed(lambda row: {"phase": "a"}), ("prune",), 3, "missing field"),
        ("promotions/*1.json", changed(lambda row: {**row, "number": 1.0}), ("status",), 3, "json: /number: 1.0 "),
        ("locks/queue-1.*.json", lock(seeds=[1.0, 2, 3]), ("lock", "show", LOCK), 3, "/seeds/0: 1.0 is not of type"),
        ("locks/queue-1.*.json", text(b'{"lock_id": 9007199254740992}'), ("prune",), 3, "/lock_id: a whole"),
    ],
)  # fmt: skip
def test_a_missing_or_wrongly_typed_field_is_named(copy, here, pattern, change, command, code, said):
    command, path = words(command, copy), min(copy.root.glob(pattern))
    change(path)
    refused(here(*command, workspace=copy.root), str(path), said, code=code)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seeds", [1.0], "/seeds/0: 1.0 is not of type integer"),
        ("batch", 4.0, "/batch: 4.0 is not of type integer"),
        ("budget", {"trials": 8.0, "seconds": 60}, "/budget/trials: 8.0 is not of type integer"),
        ("seeds", [2**60], "/seeds/0: a whole number may be at most"),
    ],
)
def test_a_lane_with_an_integer_that_is_none(copy, here, field, value, said):
    document = {**read_json(QUEUE / "lane.json"), "authority": str(QUEUE / "pack"), field: value}
    path = copy.root / "lane.json"
    path.write_text(json.dumps(document))
    for command in (("sweep", path), ("feasibility", path)):
        refused(here(*command, workspace=copy.root), f"{path}: ", said)


def test_a_file_that_is_no_lock_is_bad_input(copy, here):
    for name in ("README.md", "pyproject.toml"):
        for command in (("verify",), ("lock", "show")):
            refused(here(*command, TESTS.parent / name, workspace=copy.root), name, "not a lock", code=2)
    path = min(copy.locks.glob("queue-1.*.json"))
    path.write_bytes(path.read_bytes()[:-20])
    refused(here("lock", "show", path, workspace=copy.root), path.name, "not a whole lock", code=3)


LINES = {
    "not JSON": b"{",
    "bytes": bytes(range(10, 32)) + b"\xff\xfe",
    "a number": b"7",
    "an array": b"[]",
    "nothing": b"",
    "an empty object": b"{}",
    "an unknown operation": b'{"op_code": 99, "worker_id": "a"}',
    "an operation that is text": b'{"op_code": "4", "worker_id": "a"}',
    "missing fields": b'{"op_code": 4, "worker_id": "a"}',
    "a study that is text": b'{"op_code": 4, "worker_id": "a", "study_id": "x"}',
    "a trial without a study": b'{"op_code": 4, "worker_id": "a", "study_id": 77}',
    "depth": b"[" * 50_000,
    "a byte-order mark in the middle": b'\xef\xbb\xbf{"op_code": 1, "worker_id": "a", "study_id": 0}',
    "half a character": b'{"op_code": 0, "worker_id": "a", "study_name": "\\ud800", "directions": [1]}',
    "a direction that is none": b'{"op_code": 0, "worker_id": "a", "study_name": "x", "directions": [9]}',
}


@pytest.mark.parametrize("kind", LINES)
def test_a_line_of_the_journal_that_is_none_is_one_line(copy, here, kind):
    lines = copy.journal.read_bytes().splitlines()
    for at in (0, len(lines) // 2, len(lines)):
        copy.journal.write_bytes(b"\n".join([*lines[:at], LINES[kind], *lines[at:]]) + b"\n")
        for command in (("status",), ("audit", LOCK), ("report", LOCK)):
            with within(60):
                code, _, err = here(*command, workspace=copy.root)
            assert code in (0, 2, 3) and "Traceback" not in err, (at, command, code, err)
            assert code == 0 or err.count("\n") == 1, (at, command, err)


def test_a_line_of_the_journal_is_named_by_its_number(copy, here):
    lines = copy.journal.read_bytes().splitlines()
    copy.journal.write_bytes(b"\n".join([*lines[:4], b"not JSON", *lines[4:]]) + b"\n")
    refused(here("audit", LOCK, workspace=copy.root), f"{copy.journal}: line 5: not a study journal")


def test_a_last_line_that_a_killed_writer_left_is_no_fault(copy):
    names = Studies(copy.journal, reading=True).names()
    copy.journal.write_bytes(copy.journal.read_bytes() + b'{"op_code": 4, "worker')
    assert Studies(copy.journal, reading=True).names() == names == Studies(copy.journal).names()
    assert copy.journal.read_bytes().endswith(b"}\n")
