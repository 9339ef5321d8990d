"""Locks rewritten by someone with our source: what `verify` says of each, and which names they get.

A lock that states other than its numbers give is found. A lane is a permission that its author writes, so a lock may
carry any: it is held to the sweep that it names where that is, to the engine's gates, and to held-out seeds where a
name asks for them.
"""

import json
import re
from dataclasses import replace

import pytest
from conftest import forged
from lanes import lane_with
from lanes import refused as refused_with

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.lanes.lane import lane_of
from lanelock.sweeps.lanes.survey import survey
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock, make_lock, standing
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

FEW_SERVERS = {
    "id": "few", "metric": "q1/servers", "severity": "gate", "comparison": "<=", "thresholds": {"B": 5}, "why": "Cost.",
}  # fmt: skip
EDGE = {
    "knobs": {"service": {"at": "queue_policy_v1#/service", "choices": [0.92]}},
    "fixed": {"queue_policy_v1#/arrivals": 9.0, "queue_policy_v1#/servers": 12},
}  # holds B on its lane's seeds and fails it on fresh ones
SLOW = {"knobs": {"service": {"at": "queue_policy_v1#/service", "choices": [0.5, 0.4]}}}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """A workspace with three locks that closed NO_GO: by a rail, on fresh seeds, and by every gate."""
    place = Workspace.at(tmp_path_factory.mktemp("refused"))
    lanes = {
        "few": {"gates__rails": [FEW_SERVERS]}, "edge": {**EDGE, "decision__confirm_seeds": 8}, "slow": SLOW,
    }  # fmt: skip
    locks = {
        name: play(lane_with(place.root, id=name, **changed).with_search(trials=6), place, track=False).lock
        for name, changed in lanes.items()
    }
    assert {Lock.read(path).decision for path in locks.values()} == {"NO_GO"}
    return place, locks


def failing(path, workspace):
    return [check.name for check in verify_lock(path, workspace=workspace) if not check.ok]


GO = {"decision": "GO", "candidate": "accepted"}
WHOLE = {
    **GO, "verdict": "PASS_BPLUS", "blockers": [], "reason": "every gate of band B+ holds on seeds 1, 2, 3",
}  # fmt: skip
TO_GO = {
    "the decision alone": GO,
    "with verdict, blockers and reason": WHOLE,
    "as chosen by hand": {**WHOLE, "chosen_by_hand": "it is good"},
    "on fresh seeds that hold": {**WHOLE, "confirmation": {"band": "B+", "metrics": {}}},
    "with other knobs": {**WHOLE, "knobs": {}},
    "with the name of a veto for a blocker": {**GO, "blockers": [{
        "gate": "runtime", "metric": "seconds/ratio", "band": "B", "value": 1.0, "threshold": 2.0, "seed": 0,
        "bound": None, "proof": "", "movable_by": "",
    }]},
}  # fmt: skip


@pytest.mark.parametrize("kind", TO_GO)
@pytest.mark.parametrize("name", ["few", "edge", "slow"])
def test_a_lock_that_closed_no_go_cannot_be_written_as_go(refused, tmp_path, name, kind):
    place, locks = refused
    path = forged(locks[name], tmp_path, **TO_GO[kind])
    assert "decision" in failing(path, place) and "decision" in failing(path, None)
    for alias in ("candidate", "authority"):
        with pytest.raises(IntegrityError, match="the lock does not verify: "):
            promote(path, alias, place, force=True, why="hurry", dry_run=True)


def test_fresh_seeds_cannot_be_taken_out_of_a_lock(refused, tmp_path):
    document = read_json(refused[1]["edge"])
    body = {key: row for key, row in (document | WHOLE).items() if key not in ("lock_id", "confirmation")}
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({**body, "lock_id": digest(body)}))
    assert {"fresh seeds", "decision"} <= {*failing(path, None)}


# A lane forged in a lock, and all that follows made again


def remade(path, tmp_path, change, **search):
    """Returns the file of a lock whose lane `change` edited, made again whole under the name of the same sweep."""
    lock, document = Lock.read(path), json.loads(json.dumps(read_json(path)["lane"]))
    change(document)
    lane = lane_of(document, lock.authority, lock.references, lock.gates, "forged")
    ground, pack = survey(lane, None), lock.pack()
    measures = {seed: lane.measure(lane.engine.evaluate(pack, seed, until=lane.until)) for seed in lane.seeds}
    decision = standing(ground, pack, lock.knobs, measures)
    decision = replace(decision, best=replace(decision.best, number=lock.trial))
    made = make_lock(ground, decision, lock.sweep, replace(lock.search, **search))
    target = tmp_path / "remade.json"
    target.write_text(json.dumps(made.document))
    return target


def no_rails(lane):
    lane["gates"]["rails"] = []


def one_gate(lane):
    lane["gates"]["grade"] = ["crowd"]
    lane["gates"]["rails"] = []


def no_fresh_seeds(lane):
    lane["decision"]["confirm_seeds"] = 0


def one_seed(lane):
    lane["seeds"] = [1]


def other_objectives(lane):
    lane["objectives"] = lane["objectives"][::-1]


def wider_bounds(lane):
    lane["knobs"]["servers"]["high"] = 19


def other_words(lane):
    lane["why"] = "It was asked for."


LANES = {  # kind -> (lock, change, decision, why `certified` refuses it)
    "rails taken out": ("few", no_rails, "GO", ""),
    "the one gate that holds": ("slow", one_gate, "NO_GO", "its lane closed NO_GO"),
    "no fresh seeds": ("edge", no_fresh_seeds, "GO", "stands against this lock|B\\+ is needed|PASS_BPLUS is needed"),
    "one seed": ("few", one_seed, "NO_GO", "its lane closed NO_GO"),
    "objectives in another order": ("few", other_objectives, "NO_GO", "its lane closed NO_GO"),
    "other bounds": ("few", wider_bounds, "NO_GO", "its lane closed NO_GO"),
    "other words": ("few", other_words, "NO_GO", "its lane closed NO_GO"),
}


@pytest.mark.parametrize("kind", LANES)
def test_a_lock_under_a_lane_that_its_sweep_was_not_played_by(refused, tmp_path, kind):
    """Where the sweep is, the lane is found to be another's; elsewhere the lock says that nobody can tell."""
    (place, locks), (name, change, decision, refusal) = refused, LANES[kind]
    path = remade(locks[name], tmp_path, change)
    assert failing(path, place) == ["transcript: lane, packs and gates"]
    with pytest.raises(IntegrityError, match="the lock does not verify: transcript: lane, packs and gates"):
        promote(path, "candidate", place)
    elsewhere = Workspace.at(tmp_path / "elsewhere")
    found = verify_lock(path, workspace=elsewhere)
    assert found.ok and any(row.endswith("under the lane in the lock (no transcript here)") for row in found.not_proved)
    assert Lock.read(path).decision == decision
    authority = promote(path, "authority", elsewhere, dry_run=True)
    assert bool(authority.refusals) == (decision != "GO")
    certify_lock(path, elsewhere, holdout=8)
    certified = promote(path, "certified", elsewhere, dry_run=True)
    assert bool(certified.refusals) == bool(refusal)
    assert not refusal or re.search(refusal, "; ".join(certified.refusals)), certified.refusals


# What an alias points to


@pytest.fixture
def named(tmp_path):
    """A workspace in which `candidate` points to one lock after another, and both locks."""
    place = Workspace.at(tmp_path / "named")
    locks = [
        play(lane_with(tmp_path, id=name).with_search(trials=trials), place, track=False).lock
        for name, trials in (("first", 2), ("second", 6))
    ]
    for path in locks:
        assert promote(path, "candidate", place, force=True, why="it is newer").written
    return place, [Lock.read(path) for path in locks]


def copied(place, lock):
    return place.promoted / lock.lock_id / "lock.json"


def test_a_promoted_lock_that_was_exchanged_for_another_whole_one_is_found(named, here):
    place, (first, second) = named
    copied(place, second).write_bytes(copied(place, first).read_bytes())
    for command in (("verify", "candidate"), ("lock", "show", "candidate")):
        refused_with(here(*command, workspace=place.root), "holds lock", "it was exchanged", code=3)
    copied(place, first).write_bytes(json.dumps(second.document).encode())
    refused_with(here("rollback", "candidate", "--dry-run", workspace=place.root), "it was exchanged", code=3)


@pytest.mark.slow
def test_a_promoted_lock_that_was_exchanged_is_not_registered(named, here):
    """Starts a tracking database of its own."""
    place, (first, second) = named
    copied(place, second).write_bytes(copied(place, first).read_bytes())
    refused_with(here("sync", workspace=place.root), "it was exchanged", code=3)


@pytest.mark.parametrize("field", ["sweep", "pack"])
def test_a_move_that_states_another_lock_than_it_names_is_found(named, here, field):
    place, _ = named
    newest, head = place.promotions / "000002.json", place.promotions / "head.json"
    record = read_json(newest)
    record["to"][field] = {"sweep": "another", "pack": "0" * 64}[field]
    newest.write_text(text_of(record))
    head.write_text(text_of({**read_json(head), "newest": file_digest(newest)}))
    code, _, err = here("verify", "candidate", workspace=place.root)
    assert code == 3 and "move 2: sweep, engine and pack" in err
