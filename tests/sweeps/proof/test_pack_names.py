"""Wherever a pack is asked for, a lock, an alias or a trial will do: the next lane starts from `certified`."""

import json
import shutil

import pytest
from lanes import QUEUE, refused

from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.packs import find_pack, finder
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LANE = QUEUE / "lane.json"


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed sweep of the queue, whose lock has an alias."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    done = play(load_lane(str(LANE)), place, track=False)
    promote(done.lock, "authority", place)
    return place, done


def lane_from(folder, authority, **references):
    """The queue's lane with another authority."""
    path = folder / "lane.json"
    document = {**read_json(LANE), "authority": str(authority), "references": references}
    path.write_text(json.dumps(document))
    return path


def test_every_name_of_a_lock_and_its_trial_gives_its_pack(closed):
    place, done = closed
    lock = Lock.read(done.lock)
    names = (
        "authority",
        done.sweep,
        lock.lock_id,
        lock.short_id,
        lock.name,
        str(done.lock),
        f"{done.sweep}/{lock.trial}",
    )
    for name in names:
        pack, engine = find_pack(name, place)
        assert (pack.digest, engine.name) == (lock.candidate_pack.digest, "queue"), name
    assert find_pack("authority", place)[0].name == lock.name, "the lock's own name outlives the alias"
    assert find_pack("queue-1/0", place)[0].name == "queue-1/0"


def test_the_commands_take_them(here, closed, tmp_path):
    place, done = closed
    digest = Lock.read(done.lock).candidate_pack.digest
    for call in (
        ("policy", "validate", "authority"), ("policy", "diff", "queue-1/0", "authority"),
        ("policy", "diff", QUEUE / "pack", "authority"), ("compare", "authority", "queue-1/0"),
        ("feasibility", lane_from(tmp_path, "authority", rival="queue-1/1")),
    ):  # fmt: skip
        assert here(*call, "--quiet", workspace=place.root) == (0, "", ""), call
    assert json.loads(here("policy", "digest", "authority", "--json", workspace=place.root)[1])["digest"] == digest
    code, out, _ = here("run", "--pack", "queue-1/0", "--seed", "1", "--json", workspace=place.root)
    assert code == 0 and json.loads(out)["pack"] == "queue-1/0"


def test_a_lane_starts_from_an_alias_and_is_the_lane_that_starts_from_its_pack(closed, tmp_path):
    place, done = closed
    of = recorded(done.sweep, place)
    lane = load_lane(str(lane_from(tmp_path, "authority", rival="queue-1/1")), finder(place))
    assert lane.authority.digest == Lock.read(done.lock).candidate_pack.digest
    assert lane.references["rival"].digest == of.trials[1].record.pack
    with pytest.raises(Exception, match="authority: neither a path nor one of the shipped packs"):
        load_lane(str(tmp_path / "lane.json"))


def test_a_name_that_is_both_is_the_shipped_pack(closed, tmp_path):
    place, done = closed
    shutil.copy(done.lock, place.locks / "p3.json")
    try:
        assert find_pack("p3_recorded", place)[1].name == "segment_2b"
    finally:
        (place.locks / "p3.json").unlink()


def test_resuming_from_an_alias_that_moved_is_refused(here, tmp_path):
    place = Workspace.at(tmp_path / "ws")
    queue = load_lane(str(LANE))
    first, other = (play(queue.with_search(trials=trials), place, track=False).lock for trials in (8, 1))
    assert Lock.read(first).candidate_pack.digest != Lock.read(other).candidate_pack.digest
    promote(first, "candidate", place)
    path = lane_from(tmp_path, "candidate")
    path.write_text(path.read_text().replace('"id": "queue"', '"id": "next"'))

    def sweep(trials, *options):
        return here("sweep", path, "--trials", trials, *options, "--quiet", workspace=place.root)

    assert sweep(4)[0] in (0, 1) and sweep(8, "--resume")[0] in (0, 1)
    promote(other, "candidate", place, force=True, why="another to start from")
    refused(sweep(12, "--resume"), "lane next: --resume:", "its authority", "changed since next-1 began")


def test_a_name_that_nothing_has_lists_what_was_tried(here, closed, tmp_path):
    place, _ = closed
    tried = ("neither a path nor one of the shipped packs", "nor is it a trial (SWEEP/NUMBER), an alias or a lock")
    for name, why in (
        ("nothing", "no lock has this name"),
        ("queue-9/0", "no sweep queue-9"),
        ("queue-1/99", "/number"),
    ):
        refused(here("run", "--pack", name, "--seed", "1", workspace=place.root), f"{name}: neither", *tried, why)
    refused(here("run", "--pack", LANE, "--seed", "1", workspace=place.root), "a pack is a folder")
    refused(
        here("sweep", lane_from(tmp_path, "p3_recorded"), workspace=place.root),
        "p3_recorded: /engine: a pack of engine segment_2b",
    )


def test_a_campaign_names_them_too(closed, tmp_path):
    from lanelock.sweeps.campaign.plan import load_campaign

    place, done = closed
    document = read_json(QUEUE / "campaign.json")
    for phase in document["phases"].values():
        if "pack" in phase:
            phase["pack"] = "authority"
        if "lane" in phase:
            phase["lane"] = str(QUEUE / phase["lane"])
    for row in document["record"]["rows"]:
        row["pack"] = "queue-1/0"
    (tmp_path / "campaign.json").write_text(json.dumps(document))
    campaign = load_campaign(str(tmp_path / "campaign.json"), finder(place))
    first = campaign.phases[campaign.document["first"]]
    assert first.pack.digest == Lock.read(done.lock).candidate_pack.digest
    assert {pack.name for pack in campaign.recorded.values()} == {"queue-1/0"}
