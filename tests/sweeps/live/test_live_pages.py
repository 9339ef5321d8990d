"""The live page over real workspaces: what each address shows, what is refused, and how it follows what changes."""

import json
import re
import shutil

import pytest
from lanes import lane_with, leaky_lane
from serving import serving

from lanelock.sweeps.decision.decision import ranking
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.live.shelf import Shelf
from lanelock.sweeps.live.sight import Sights
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import PROMOTE, Standing, append, new_move
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

OUTSIDE = re.compile(r"""(?:src|href|action)=["'](?:https?:)?//|@import|url\((?!#)""")


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed sweep of the queue."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    return place, play(lane_with(place.root), place, track=False)


@pytest.fixture(scope="module")
def ask(closed):
    with serving(closed[0]) as asking:
        yield asking


def numbers(page):
    """The trials on a sweep's page in the order in which they stand."""
    return [int(number) for number in re.findall(r'name="trial" value="(\d+)"', page.body)]


def looked_at(closed):
    done = closed[1]
    best, other = (
        done.decision.best.number,
        next(row.number for row in done.trials if row.number != done.decision.best.number),
    )
    lock = done.lock.stem
    return {
        "/": "queue-1", "/?all=1": "queue-1", "/sweeps/queue-1": "ranked as the decision ranks",
        f"/sweeps/queue-1/trials/{best}": "Scorecard",
        f"/sweeps/queue-1/compare?trial={other}&trial={best}": "preferred",
        "/sweeps/queue-1/study": "What its trials reached", "/campaigns": "No campaign", "/locks": lock,
        f"/locks/{lock}": "State of proof", f"/locks/{lock}/scorecard": "Scorecard", "/locks/queue-1": "State of proof",
        f"/sweeps/queue-1/trials/{other}/lock": "Why this trial?",
    }  # fmt: skip


def test_every_page_is_whole_has_its_landmarks_and_asks_nothing_of_anybody_else(closed, ask):
    for address, words in looked_at(closed).items():
        page = ask(address)
        assert page.status == 200 and words in page.text, address
        assert page.body.count("<main") == page.body.count("<nav") == page.body.count("<h1") == 1, address
        assert '<html lang="en">' in page.body and "<title>" in page.body and 'href="#main"' in page.body
        assert not OUTSIDE.search(page.body), address
        for table in re.findall(r"<table.*?</table>", page.body, re.DOTALL):
            assert "<th" in table, address


def test_candidates_stand_in_the_decisions_order_with_the_locked_one_marked(closed, ask):
    _, done = closed
    page = ask("/sweeps/queue-1?all=1")
    assert numbers(page) == [trial.number for trial in ranking(done.trials, done.ledger)]
    best = done.decision.best.number
    (locked,) = re.findall(r'<tr class="locked">.*?</tr>', page.body, re.DOTALL)
    assert f">trial {best}</a>" in locked and "Locked" in locked and "lock…" not in locked
    assert f"{len(done.trials)} of {done.ground.lane.document['budget']['trials']} trials" in page.text
    assert done.decision.reason in page.text and "GO" in page.text
    assert "vetoed by crowd" in page.text and "at least 6 servers are open" in page.text


def test_all_trials_are_one_table(closed, ask):
    answer = ask("/sweeps/queue-1/trials.csv")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv")
    assert len(answer.body.splitlines()) == 1 + len(closed[1].trials)


def test_what_did_not_change_is_not_sent_again(ask):
    page = ask("/sweeps/queue-1")
    again = ask("/sweeps/queue-1", If_None_Match=page.headers["etag"])
    assert again.status == 304 and again.body == ""


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.7", "", "a@127.0.0.1", "[::1"],
)
def test_another_host_is_refused_whatever_is_asked(ask, host):
    for address in ("/", "/sweeps/queue-1", "/health", "/nothing"):
        assert ask(address, Host=host).status == 403
    assert ask("/locks/queue-1/verify", "POST", {"token": ask.pages.token.value}, Host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:8080", "[::1]:5000"])
def test_this_machine_by_any_of_its_names_is_answered(ask, host):
    assert ask("/", Host=host).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "file://"]
)
def test_a_form_from_another_origin_changes_nothing(closed, ask, origin):
    place, done = closed
    before = sorted(place.locks.iterdir())
    token = {"token": ask.pages.token.value, "why": "x"}
    for address in ("/sweeps/queue-1/trials/1/lock", "/locks/queue-1/verify"):
        assert ask(address, "POST", token, Origin=origin).status == 403
    assert sorted(place.locks.iterdir()) == before and ask.pages.verifying.of(done.lock) is None


@pytest.mark.parametrize("token", [None, "", "x" * 43])
def test_a_form_without_this_servers_token_changes_nothing(closed, ask, token):
    form = {"why": "x"} if token is None else {"why": "x", "token": token}
    before = sorted(closed[0].locks.iterdir())
    assert ask.post("/sweeps/queue-1/trials/1/lock", own=False, **form).status == 403
    long = {"why": "x" * 30_000}
    assert ask.post("/sweeps/queue-1/trials/1/lock", **long).status == 403, "longer than any form"
    many = {f"field{number}": "x" for number in range(30)}
    assert ask.post("/sweeps/queue-1/trials/1/lock", **many).status == 403, "more fields than any form"
    assert sorted(closed[0].locks.iterdir()) == before


@pytest.mark.parametrize(
    "address",
    [
        "/locks/..%2f..%2fetc%2fpasswd", "/locks/../../etc/passwd", "/locks/%2e%2e", "/locks/.hidden",
        "/sweeps/%2e%2e", "/sweeps/queue-1%00", "/campaigns/..", "/campaigns/%2e%2e/report", "/sweeps/nope",
        "/sweeps/queue-1/trials/999", "/sweeps/queue-1/trials/-1", "/campaigns/nope", "/locks/nope", "/etc/passwd",
        "/sweeps/..%2f..%2fetc/trials.csv", "/locks/conftest.py",
    ],
)  # fmt: skip
def test_what_is_no_name_here_is_not_found(ask, address):
    answer = ask(address)
    assert answer.status == 404 and "root:" not in answer.body and "Traceback" not in answer.body


def test_two_candidates_are_compared_and_neither_one_nor_three(ask):
    for query in ("", "trial=1", "trial=1&trial=2&trial=3", "trial=1&trial=x", "trial=1&trial=-2"):
        assert ask(f"/sweeps/queue-1/compare?{query}").status == 400


def test_every_answer_carries_the_guards_for_the_browser(ask):
    for address in ("/", "/nothing", "/health", "/sweeps/queue-1/trials.csv"):
        headers = ask(address).headers
        assert headers["x-frame-options"] == "SAMEORIGIN" and headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "frame-ancestors 'self'" in policy
        assert "access-control-allow-origin" not in headers and headers["cache-control"] == "no-store"
    assert ask("/", Host="evil.example").headers["x-frame-options"] == "SAMEORIGIN"


# --- locking another candidate ------------------------------------------------------------------------------


def test_another_candidate_is_locked_as_the_command_does(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    shutil.copytree(closed[0].root, place.root, dirs_exist_ok=True)
    done = closed[1]
    ranked = [trial.number for trial in ranking(done.trials, done.ledger) if done.ledger.acceptable(trial)]
    vetoed = next(trial.number for trial in done.trials if done.ledger.vetoed(trial))
    with serving(place) as ask:
        address = f"/sweeps/queue-1/trials/{ranked[1]}/lock"
        assert ask.post(address, why="  ").status == 400
        made = ask.post(address, why="fewer servers")
        assert made.status == 303
        lock = Lock.read(find_lock(f"queue-1.{ranked[1]}", place))
        assert lock.chosen_by_hand == "fewer servers" and made.headers["location"] == f"/locks/{lock.name}"
        assert "chosen by hand: fewer servers" in ask(made.headers["location"]).text
        assert f"chosen by hand: {lock.name}" in ask("/sweeps/queue-1").text
        refused = ask.post(f"/sweeps/queue-1/trials/{vetoed}/lock", why="I like it")
        assert refused.status == 409 and "what a veto ended is never locked" in refused.text
        assert find_lock("queue-1", place).name == done.lock.name, "its sweep's name still means the decision's"


def test_read_only_offers_nothing_and_does_nothing(closed):
    place, done = closed
    before = sorted(place.locks.iterdir())
    with serving(place, read_only=True) as ask:
        for address in looked_at(closed):
            page = ask(address)
            assert 'method="post"' not in page.body and "lock…" not in page.body
        assert ask("/sweeps/queue-1/trials/1/lock").status == 403
        assert ask.post("/sweeps/queue-1/trials/1/lock", why="x").status == 403
        assert ask.post(f"/locks/{done.lock.stem}/verify").status == 403
    assert sorted(place.locks.iterdir()) == before


# --- following what changes ---------------------------------------------------------------------------------


def journal_of(place, trials):
    """The journal of a sweep as it was after so many trials, and the rest of its lines."""
    lines = place.journal.read_bytes().splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if b'"op_code":4' in line]
    return b"".join(lines[: at[trials]]), lines[at[trials] :]


def test_a_growing_study_is_read_from_where_it_was_read_last(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    begun, rest = journal_of(closed[0], 5)
    place.journal.write_bytes(begun)
    with place.alone("sweep-queue"), serving(place) as ask:
        assert "5 of 24 trials" in ask("/sweeps/queue-1").text and "running" in ask("/").text
        first = ask.pages.shelf.look("queue-1", ask.pages.shelf.now())[1]
        with place.journal.open("ab") as file:
            file.write(rest[0] + rest[1][:40])  # the second line is half written
        assert "6 of 24 trials" in ask("/sweeps/queue-1").text
        view = ask.pages.shelf.look("queue-1", ask.pages.shelf.now())[1]
        assert all(before is after for before, after in zip(first.trials, view.trials, strict=False))
        assert view.ledger is first.ledger, "nothing is graded again"
        with place.journal.open("ab") as file:
            file.write(rest[1][40:] + b"".join(rest[2:]))
        text = ask("/sweeps/queue-1").text
        assert f"{len(closed[1].trials)} of 24 trials" in text and "best so far" in text


def test_a_sweep_that_was_killed_says_how_to_go_on(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    place.journal.write_bytes(journal_of(closed[0], 5)[0])
    with serving(place) as ask:
        for address in ("/", "/sweeps/queue-1"):
            text = ask(address).text
            assert "stopped" in text and "lanelock sweep queue --resume" in text
        assert ask("/sweeps/queue-1/trials/1/lock").status == 403, "it has not closed"


def test_a_journal_in_place_of_another_is_read_from_its_beginning(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    place.journal.write_bytes(closed[0].journal.read_bytes())
    sights = Sights(place)
    assert len(sights.sight("queue-1", lambda: None).view(None).trials) == len(closed[1].trials)
    other = tmp_path / "other"
    other.write_bytes(journal_of(closed[0], 3)[0])
    other.replace(place.journal)
    assert len(sights.sight("queue-1", lambda: None).view(None).trials) == 3


def test_a_changed_study_is_said_on_its_page_and_on_no_other(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    begun, rest = journal_of(closed[0], 3)
    place.journal.write_bytes(begun + rest[0].replace(b'"servers"', b'"service"', 1) + b"".join(rest[1:]))
    with serving(place) as ask:
        assert ask("/").status == 200
        broken = ask("/sweeps/queue-1")
        assert broken.status == 500 and "it was changed" in broken.text and "Traceback" not in broken.body


def test_a_workspace_that_is_removed_is_said_and_may_come_back(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    shutil.copytree(closed[0].root, place.root, dirs_exist_ok=True)
    with serving(place) as ask:
        assert ask("/sweeps/queue-1").status == 200
        place.root.rename(tmp_path / "away")
        assert ask("/sweeps/queue-1").status == 404 and ask("/locks").status == 200
        assert "No sweep has begun here" in ask("/").text
        (tmp_path / "away").rename(place.root)
        assert ask("/sweeps/queue-1").status == 200 and "queue-1" in ask("/").text


def test_half_written_and_foreign_files_hide_nothing(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    shutil.copytree(closed[0].root, place.root, dirs_exist_ok=True)
    (place.locks / "torn-1.000000000000.json").write_text('{"lock_id": "')
    (place.locks / ".queue-9.json.123").write_text("")
    (place.campaigns / "torn-1").mkdir(parents=True)
    (place.campaigns / "torn-1" / "campaign.json").write_text("{")
    with serving(place) as ask:
        assert "queue-1" in ask("/").text and "unreadable" in ask("/locks").text
        assert ask("/locks/torn-1.000000000000").status == 500
        assert "torn-1" in ask("/campaigns").text and ask("/campaigns/torn-1").status in (404, 500)


def test_failures_are_counted_by_reason_with_the_last_of_them(tmp_path):
    place = Workspace.at(tmp_path / "ws")
    done = play(load_lane(str(leaky_lane(tmp_path))), place, track=False)
    failed = [trial.number for trial in done.trials if trial.failed]
    with serving(place) as ask:
        page = ask("/sweeps/leaky-1?all=1")
        assert failed and f"{len(failed)} failed" in page.text and "pump burst" in page.text
        (row,) = (row for row in re.findall(r"<tr>.*?</tr>", page.body, re.DOTALL) if "pump burst" in row)
        assert f"<td>{len(failed)}</td><td>{failed[-1]}" in row
        assert "The trial failed" in ask(f"/sweeps/leaky-1/trials/{failed[0]}").text


def test_aliases_stand_with_their_lock_and_who_moved_them(tmp_path, closed):
    place = Workspace.at(tmp_path / "ws")
    shutil.copytree(closed[0].root, place.root, dirs_exist_ok=True)
    lock = Lock.read(closed[1].lock)
    to = Standing(lock.lock_id, lock.sweep, lock.engine, lock.candidate_pack.digest, lock.verdict, None)
    append(place, new_move((), place, PROMOTE, "candidate", to, forced=False, why="a try"))
    with serving(place) as ask:
        page = ask("/locks")
        assert "candidate" in page.text and "a try" in page.text and "unsigned" in page.text
        assert "candidate" in ask(f"/locks/{lock.name}").text and lock.short_id in ask("/").text
        record = next(place.promotions.glob("0*.json"))
        record.write_text(json.dumps({**json.loads(record.read_text()), "why": "another"}))
        changed = ask("/locks")
        assert changed.status == 500 and "changed" in changed.text, (
            "an alias that was tampered with is never shown as good"
        )


def test_locks_are_read_once(closed, monkeypatch):
    place, done = closed
    shelf, read = Shelf(place), []
    whole = Lock.read
    monkeypatch.setattr(Lock, "read", lambda path: (read.append(path), whole(path))[1])
    for _ in range(3):
        shelf.look("queue-1", shelf.now())
    assert read == [done.lock]
