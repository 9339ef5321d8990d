"""The chain of moves: every record is held by the next and by the head, so nothing is edited or removed unseen."""

import json
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import child_environment
from lanes import refused

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError
from lanelock.policies.documents import read_json
from lanelock.sweeps.proof import moves as chain
from lanelock.sweeps.proof.moves import PROMOTE, ROLLBACK, Standing, append, head, holders, moves, new_move
from lanelock.sweeps.proof.trust import Head, Trust
from lanelock.sweeps.workspace import Workspace


def standing(number):
    return Standing(f"{number:064x}", f"sweep-{number}", "queue", f"{number + 100:064x}", "PASS_B", None)


def move(workspace, number, alias="candidate", kind=PROMOTE):
    """Appends a move of an alias to lock `number`, whoever else appends meanwhile."""
    while True:
        made = new_move(moves(workspace), workspace, kind, alias, standing(number), forced=False, why="")
        if append(workspace, made):
            return made


@pytest.fixture
def place(tmp_path):
    """A workspace with four moves: three promotions of an alias and a rollback."""
    workspace = Workspace.at(tmp_path / "ws")
    for number in (1, 2, 3):
        move(workspace, number)
    move(workspace, 2, kind=ROLLBACK)
    return workspace


def record(place, number):
    return place.promotions / f"{number:06d}.json"


def rewritten(path, **fields):
    path.write_text(text_of({**read_json(path), **fields}))


def headed(place, count):
    """Writes the head of the first `count` records, as who may write everything would."""
    newest = file_digest(record(place, count))
    rewritten(place.promotions / "head.json", count=count, newest=newest)


def test_the_head_states_how_many_there_are_and_the_newest(place):
    assert head(place) == Head(4, file_digest(record(place, 4)))
    assert read_json(place.promotions / "head.json") == {
        "format": "lanelock.head/1",
        "count": 4,
        "newest": head(place).newest,
    }
    assert not (place.promotions / "head.next.json").exists()
    assert holders(place)["candidate"].to == standing(2)
    assert head(Workspace(place.root / "elsewhere")) is None


ATTACKS = {
    "newest edited": lambda place: rewritten(record(place, 4), why="it was I"),
    "newest removed": lambda place: record(place, 4).unlink(),
    "tail removed": lambda place: [record(place, number).unlink() for number in (3, 4)],
    "all removed": lambda place: [record(place, number).unlink() for number in (1, 2, 3, 4)],
    "first removed": lambda place: record(place, 1).unlink(),
    "first edited": lambda place: rewritten(record(place, 1), who="nobody"),
    "white space": lambda place: record(place, 4).write_text(record(place, 4).read_text() + "\n"),
    "head removed": lambda place: (place.promotions / "head.json").unlink(),
    "head of fewer": lambda place: headed(place, 3),
    "head of nothing": lambda place: (place.promotions / "head.json").write_text("{}"),
    "head no JSON": lambda place: (place.promotions / "head.json").write_text("{"),
    "one inserted": lambda place: rewritten(
        record(place, 4).rename(record(place, 5)), number=5, before=file_digest(record(place, 3))
    ),
    "a record twice": lambda place: record(place, 5).write_bytes(record(place, 4).read_bytes()),
    "a field that no record has": lambda place: rewritten(record(place, 4), approved=True),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_edited_removed_or_truncated_is_found(place, attack):
    ATTACKS[attack](place)
    for read in (moves, holders, head):
        with pytest.raises(IntegrityError) as error:
            read(place)
        assert "\n" not in str(error.value) and str(place.promotions) in str(error.value)


def test_every_command_that_reads_moves_says_it_in_one_line(place, here):
    record(place, 4).unlink()
    for command in (("status",), ("verify", "candidate"), ("rollback", "candidate"), ("prune",)):
        refused(here(*command, workspace=place.root), "head.json: states 4 moves", "a record was changed", code=3)


def rechained(place, edited, **fields):
    """Edits a record and makes every digest good again, as who may write everything would."""
    rewritten(record(place, edited), **fields)
    for later in range(edited + 1, 5):
        rewritten(record(place, later), before=file_digest(record(place, later - 1)))
    headed(place, 4)


@pytest.mark.parametrize(
    ("number", "fields", "said"),
    [
        (4, {"to": "sweep-9"}, "/to"),
        (4, {"held": standing(9).lock_id}, "/held: states"),
        (2, {"held": None}, "/held: states None"),
        (3, {"kind": "rollback"}, "a rollback leads to the lock before"),
        (2, {"number": 3}, "numbered without gaps"),
    ],
)
def test_what_does_not_follow_from_the_records_before_is_found_under_good_digests(place, number, fields, said):
    rechained(place, number, **fields)
    with pytest.raises(IntegrityError, match=said):
        moves(place)


def test_a_rollback_cannot_be_made_to_lead_elsewhere(place):
    target = json.loads(text_of({"to": read_json(record(place, 4))["to"] | {"lock_id": "f" * 64}}))
    rechained(place, 4, **target)
    with pytest.raises(IntegrityError, match="a rollback leads to the lock before"):
        moves(place)


def test_a_head_kept_outside_finds_that_an_older_state_was_put_back(place):
    """Within the workspace nothing can tell: every file is as it once was."""
    anchor = Trust("trust.json", moves=head(place))
    record(place, 4).unlink()
    headed(place, 3)
    assert len(moves(place)) == 3
    with pytest.raises(IntegrityError, match=r"000004\.json: trust\.json states, at /moves, .* it is missing"):
        moves(place, anchor)
    move(place, 7)
    with pytest.raises(IntegrityError, match=r"at /moves, that it digests to"):
        moves(place, anchor)
    with pytest.raises(IntegrityError, match="it is missing"):
        moves(Workspace(place.root / "elsewhere"), anchor)


def test_a_random_byte_never_passes_and_never_ends_in_a_traceback(place):
    chance, files = random.Random(7), sorted(place.promotions.glob("*.json"))
    for _ in range(300):
        path = chance.choice(files)
        whole = path.read_bytes()
        at, byte = chance.randrange(len(whole)), bytes([chance.randrange(256)])
        path.write_bytes(whole[:at] + byte + whole[at + 1 :])
        if path.read_bytes() != whole:
            if path.name == "head.json" and _same(path, whole):
                moves(place)
            else:
                with pytest.raises(IntegrityError):
                    moves(place)
        path.write_bytes(whole)
    assert len(moves(place)) == 4


def _same(path, whole):
    """Whether a file states what it did: other white space in a head is no other statement."""
    try:
        return json.loads(path.read_bytes()) == json.loads(whole)
    except ValueError:
        return False


class Killed(BaseException):
    """Stands for SIGKILL between two steps."""


def dies(*given, **named):
    raise Killed


def killed_at(monkeypatch, place, step):
    """Appends, and dies at one step: before the head is staged, before the record, after it."""
    with monkeypatch.context() as patch:
        if step == "staging":
            patch.setattr(chain, "write_whole", dies)
        elif step == "record":
            patch.setattr(chain.os, "link", dies)
        else:
            patch.setattr(Path, "replace", lambda path, to: dies() if Path(to).name == "head.json" else path.rename(to))
        with pytest.raises(Killed):
            move(place, 5)


@pytest.mark.parametrize(("step", "count"), [("staging", 4), ("record", 4), ("head", 5)])
def test_killed_between_two_steps_it_reads_and_goes_on(place, monkeypatch, step, count):
    for _ in range(2):  # the second time "head" dies while it makes up for the first
        killed_at(monkeypatch, place, step)
        assert len(moves(place)) == count == head(place).count
    move(place, 6)
    assert len(moves(place)) == count + 1 and read_json(place.promotions / "head.json")["count"] == count + 1


def test_killed_at_the_first_move_of_all(tmp_path, monkeypatch):
    for step, count in (("staging", 0), ("record", 0), ("head", 1)):
        place = Workspace.at(tmp_path / step)
        killed_at(monkeypatch, place, step)
        assert len(moves(place)) == count
        move(place, 6)
        assert len(moves(place)) == count + 1


MOVER = """
import sys
from pathlib import Path
from lanelock.sweeps.proof.moves import PROMOTE, Standing, append, moves, new_move
from lanelock.sweeps.workspace import Workspace

place = Workspace(Path(sys.argv[1]))
to = Standing("1" * 64, "sweep", "queue", "2" * 64, "PASS_B", None)
while True:
    if append(place, new_move(moves(place), place, PROMOTE, sys.argv[2], to, forced=False, why="")):
        print(flush=True)
"""


def test_killed_at_any_moment_while_another_process_moves_too(place):
    command = [sys.executable, "-c", MOVER, place.root]
    for round_ in range(2):
        children = [
            subprocess.Popen([*command, alias], stdout=subprocess.PIPE, env=child_environment())
            for alias in ("authority", "certified")
        ]
        for child in children:
            for _ in range(5 + round_):
                child.stdout.readline()
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
        before = len(moves(place))
        assert before >= 4 + 10 * (round_ + 1)
        move(place, 9)
        assert len(moves(place)) == before + 1


def test_readers_and_writers_at_once_see_whole_chains(place):
    failures = []

    def write(alias):
        for number in range(8):
            move(place, number, alias)

    def read():
        while any(thread.is_alive() for thread in writers):
            try:
                moves(place)
            except IntegrityError as error:
                failures.append(error)

    writers = [threading.Thread(target=write, args=[alias]) for alias in ("authority", "certified")]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in (*writers, reader):
        thread.join()
    assert not failures and len(moves(place)) == 4 + 16


@pytest.fixture
def old(place):
    """The same moves, as they were written before there was a head."""
    (place.promotions / "head.json").unlink()
    for number in (1, 2, 3, 4):
        document = read_json(record(place, number))
        fields = {name: value for name, value in document.items() if name not in ("format", "approvals")}
        before = file_digest(record(place, number - 1)) if number > 1 else None
        record(place, number).write_text(text_of({**fields, "before": before}))
    return place


def test_moves_from_before_there_was_a_head_are_read_and_get_one(old):
    assert len(moves(old)) == 4 and moves(old)[3].format is None and head(old).count == 4
    move(old, 5)
    assert len(moves(old)) == 5 and read_json(old.promotions / "head.json")["count"] == 5
    record(old, 5).unlink()
    with pytest.raises(IntegrityError, match="states 5 moves"):
        moves(old)


def test_a_newer_move_without_a_head_is_not_taken_for_an_old_one(old):
    move(old, 5)
    (old.promotions / "head.json").unlink()
    with pytest.raises(IntegrityError, match="no such file; there are 5 moves here"):
        moves(old)


def test_a_number_that_is_taken_is_not_written_twice(place):
    made = new_move(moves(place), place, PROMOTE, "candidate", standing(8), forced=False, why="")
    assert append(place, made) and not append(place, replace(made, why="again"))
    assert len(moves(place)) == 5 and moves(place)[-1].why == ""
