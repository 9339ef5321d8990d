"""No name of a document, a command line, a study or a record leads out of the workspace, or to another lock."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from conftest import forged
from lanes import QUEUE, refused

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.campaign.records import Holder, records_in
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.evidence import certify_lock, find_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock, order_of, store_lock
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.record.letters import Heading
from lanelock.sweeps.record.mlflow_store import tagged
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

UP = "../../outside"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with one sweep of the queue, played twice: the locks of 4 and of 6 trials."""
    place = Workspace.at(tmp_path_factory.mktemp("made"))
    lane = load_lane(str(QUEUE / "lane.json"))
    less = play(lane.with_search(trials=4), place, track=False).lock
    more = play(lane.with_search(trials=6), place, track=False, resume=True).lock
    return place, less, more


@pytest.fixture
def place(made, tmp_path):
    """A copy of it, below a folder that nothing may write to but through the workspace."""
    shutil.copytree(made[0].root, tmp_path / "deep" / "ws")
    return Workspace.at(tmp_path / "deep" / "ws")


def changed(path, **fields):
    """Rewrites a lock's file with fields replaced and its id digested anew; returns the lock's id."""
    body = {key: value for key, value in read_json(path).items() if key != "lock_id"} | fields
    path.write_text(json.dumps({**body, "lock_id": digest(body)}))
    return digest(body)


# --- out of the workspace ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sweep", [UP, "/tmp/outside", "..", "a/b", "queue-1\n", "queue-1\0"])
def test_a_lock_of_a_sweep_that_is_no_name_is_not_read(here, place, tmp_path, sweep):
    path = forged(find_lock("queue-1", place), tmp_path, sweep=sweep)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError, match=r"/sweep: .* does not match"):
        certify_lock(path, place)
    refused(here("certify", path, workspace=place.root), "forged.json: /sweep", code=3)
    assert sorted(tmp_path.rglob("*")) == before, "certify wrote nothing"
    with pytest.raises(PolicyError, match="is not a name"):
        store_lock(replace(Lock.read(find_lock("queue-1", place)), sweep=sweep), place.locks)


def test_a_move_to_evidence_that_is_no_name_is_not_followed(place):
    promote(find_lock("queue-1", place), "candidate", place)
    (record,) = place.promotions.glob("[0-9]*.json")
    document = read_json(record)
    document["to"]["evidence"] = UP
    record.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=r"/to/evidence: .* does not match"):
        holders(place)


def test_a_campaign_record_names_a_lock_of_the_workspace_or_nothing(tmp_path):
    pack = {"name": "p", "digest": "0" * 64, "policies": {}}
    assert Holder.of({**pack, "lock": "queue-1.0123456789ab.json"}).document["lock"] == "queue-1.0123456789ab.json"
    row = dict.fromkeys(("phase", "kind", "title", "outcome", "reason", "next"), "x") | {"seconds": 1.0}
    (tmp_path / "00.x.json").write_text(json.dumps({**row, "holder": {**pack, "lock": UP}}))
    with pytest.raises(IntegrityError, match=r"not a whole record: .*is not a name for a lock's file"):
        list(records_in(tmp_path))


def test_a_tally_of_another_sweep_leads_nowhere(place):
    (place.root.parent / "precious.json").write_text("{}")
    for name, stated in (("one.json", "../../precious"), ("two.json", "queue-9"), ("three.json", "three")):
        tally = {"name": stated, "trials": 1, "lane": UP if stated == "three" else "queue", "left": True}
        (place.tallies / name).write_text(json.dumps(tally))
    assert set(sweeps_in(place)) == {"queue-1"}
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=1), place, track=False)  # deletes tallies without study
    assert (place.root.parent / "precious.json").exists()


def test_sweeps_letters_and_records_of_runs_are_names(here, place):
    with pytest.raises(PolicyError, match="is not a name for a sweep"):
        play(load_lane(str(QUEUE / "lane.json")), place, track=False, name=UP)
    with pytest.raises(PolicyError, match="is not a name"):
        Outbox(place).box(Heading("workspace", "queue", {}, UP, "study"))
    (place.root.parent / "outside.json").write_text("{}")
    assert not place.recalls("../../outside") and not place.recalls("..")
    for name in ("../../outside", "..", "", "queue-1\n"):
        refused(here("explain", name, workspace=place.root))
        refused(here("lock", "show", name, workspace=place.root))
        refused(here("verify", name, workspace=place.root))
    with pytest.raises(PolicyError, match="is not a name"), place.alone(UP):
        pass


def test_what_is_searched_for_in_mlflow_cannot_end_its_quotes():
    assert tagged("lanelock.sweep", "queue-1") == "tags.`lanelock.sweep` = 'queue-1'"
    for text in ("x' or tags.a = 'b", "x\\", "x`", ""):
        with pytest.raises(PolicyError, match="is not a name for a search in MLflow"):
            tagged("lanelock.sweep", text)


# --- to another lock --------------------------------------------------------------------------------------


def test_which_lock_a_sweep_means_follows_from_what_the_locks_state(made, place):
    _, less, more = made
    for newest in (less, more):
        for path in (less, more):
            os.utime(place.locks / path.name, (2e9, 2e9) if path == newest else (1e9, 1e9))
        assert find_lock("queue-1", place).name == more.name, "the longest search, whenever the file was written"
    documents = [read_json(path) for path in (less, more)]
    assert order_of(documents[0]) < order_of(documents[1])
    assert order_of({**documents[0], "search": {"trials": 7}}) > order_of(documents[1]), "the trials decide first"


def test_two_locks_of_the_same_length_are_named_by_their_ids(made, place):
    _, _, more = made
    other = place.locks / "other.json"
    shutil.copy(more, other)
    assert Lock.read(find_lock("queue-1", place)).lock_id == Lock.read(more).lock_id, "a copy is the same lock"
    again = changed(other, made_by={**read_json(more)["made_by"], "user": "another"})
    assert Lock.read(find_lock("queue-1", place)).lock_id == min(again, Lock.read(more).lock_id), "the same statements"
    other_id = changed(other, reason="another")
    with pytest.raises(PolicyError, match="more than one lock has this name") as raised:
        find_lock("queue-1", place)
    assert other_id in str(raised.value) and Lock.read(more).lock_id in str(raised.value)
    assert find_lock(other_id, place) == other and find_lock(Lock.read(more).lock_id, place).name == more.name


def test_an_id_is_what_the_content_states(made, place):
    _, _, more = made
    lock_id = Lock.read(more).lock_id
    for name in (lock_id, lock_id[:12], lock_id[:6]):
        assert find_lock(name, place).name == more.name
    wrong = lock_id[:12] + lock_id[12:].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    for name in (wrong, lock_id + "0", lock_id[:5], lock_id.upper()):
        with pytest.raises(PolicyError, match="no lock has this name"):
            find_lock(name, place)


def test_a_file_called_like_another_lock_is_not_that_lock(made, place):
    _, less, more = made
    (place.locks / more.name).unlink()
    shutil.copy(less, place.locks / more.name)
    with pytest.raises(PolicyError, match="no lock has this name"):
        find_lock(Lock.read(more).lock_id, place)
    assert Lock.read(find_lock("queue-1", place)).lock_id == Lock.read(less).lock_id
    stranger = place.locks / "queue-2.0123456789ab.json"
    shutil.copy(less, stranger)
    with pytest.raises(PolicyError, match="no lock has this name"):
        find_lock("queue-2", place)


def test_a_broken_lock_is_not_passed_over_for_an_older_one(made, place):
    path = place.locks / made[2].name
    path.write_text(path.read_text()[:-40])
    assert find_lock("queue-1", place) == path
    with pytest.raises(IntegrityError, match="not a whole lock"):
        Lock.read(find_lock("queue-1", place))


def test_an_alias_means_its_lock_and_a_file_of_that_name_has_its_folder(here, made, place, tmp_path, monkeypatch):
    _, less, more = made
    monkeypatch.chdir(tmp_path)
    shutil.copy(less, tmp_path / "candidate")
    (tmp_path / "certified").mkdir()
    (tmp_path / "certified" / "index.json").write_text("{}")
    refused(here("lock", "show", "candidate", workspace=place.root), "candidate: the alias points to no lock")
    refused(here("verify", "certified", workspace=place.root), "certified: the alias points to no lock")
    assert find_evidence("certified", place) is None
    promote(place.locks / more.name, "candidate", place)
    assert Lock.read(find_lock("candidate", place)).lock_id == Lock.read(more).lock_id
    assert Lock.read(find_lock("./candidate", place)).lock_id == Lock.read(less).lock_id
