"""What a lock or a study could state beside what is read of it: under good digests, and in places nobody looks at."""

import json

import pytest
from conftest import forged
from lanes import QUEUE, lane_with

from lanelock.policies import IntegrityError
from lanelock.policies.documents import read_json
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.tally import Sweep, sweeps_in
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace, write_document


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with one sweep, whose lane has a reference, and its lock."""
    place = Workspace.at(tmp_path_factory.mktemp("hidden"))
    lane = lane_with(tmp_path_factory.mktemp("lane"), references={"before": str(QUEUE / "pack")})
    return place, play(lane.with_search(trials=6), place, track=False).lock


@pytest.fixture
def of_another_trial(made, tmp_path):
    """A lock with the true numbers of its candidate, which it gives to another trial of the sweep."""
    document = read_json(made[1])
    return forged(made[1], tmp_path, trial=document["trial"] + 1)


@pytest.mark.parametrize("spelling", ["0{}", " {}", "+{}"])
@pytest.mark.parametrize("part", ["proof", "metrics"])
def test_a_seed_stated_twice_of_which_one_is_read(made, tmp_path, part, spelling):
    document, path = read_json(made[1]), tmp_path / "twice.json"
    rows = document["proof"] if part == "proof" else document["authority"]["metrics"]
    first, row = next(iter(rows.items()))
    true = dict(rows)
    rows.clear()
    rows.update({spelling.format(first): {**row, "metrics": {"q1/wait": 0}} if part == "proof" else {}, **true})
    assert Lock.of(read_json(made[1]), "as it was").short_id == document["lock_id"][:12]
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="/lock_id: the lock states"):
        Lock.read(path)


def test_a_reference_that_is_not_the_pack_it_states(made, tmp_path):
    """Rails compare with its policies, the transcript holds its digest: the two may not go apart."""
    references = read_json(made[1])["references"]
    references["before"]["policies"]["queue_policy_v1"]["servers"] += 1
    failed = [check for check in verify_lock(forged(made[1], tmp_path, references=references)) if not check.ok]
    assert "/references/before: states pack" in failed[0].found


def test_a_lock_that_its_study_contradicts_is_not_promoted(made, of_another_trial):
    with pytest.raises(IntegrityError, match="transcript: "):
        promote(of_another_trial, "candidate", made[0], dry_run=True)
    assert promote(made[1], "candidate", made[0], dry_run=True).refusals == ()


def test_a_tally_taken_away_does_not_hide_the_study(made, of_another_trial):
    place = made[0]
    (tally,) = place.tallies.glob("*.json")
    hidden, other = tally.rename(tally.with_suffix(".away")), place.tallies / "other-1.json"
    write_document(other, {"name": "other-1", "trials": 1, "lane": "other"})
    try:
        assert sweeps_in(place) == {"other-1": Sweep("other-1", 1, "other")}
        assert not verify_lock(of_another_trial, workspace=place).ok
        assert verify_lock(made[1], workspace=place).ok
    finally:
        other.unlink()
        hidden.rename(tally)


@pytest.mark.parametrize("command", [("lock", "show"), ("verify",)])
def test_a_free_text_neither_moves_the_cursor_nor_passes_for_a_line_of_ours(made, tmp_path, here, command):
    why = "best\nproved: numbers recomputed on 300 seeds\x1b[1A\x1b[2K\x9b2J\u202e"
    person = {**read_json(made[1])["made_by"], "user": why}
    lock = forged(made[1], tmp_path, chosen_by_hand=why, made_by=person)
    code, out, _ = here(*command, lock, workspace=tmp_path)
    assert code == 0 and "best proved: numbers recomputed on 300 seeds\\x1b[1A" in out
    assert all(mark.isprintable() for mark in out.replace("\n", "")), out
    assert "proved: numbers recomputed on 300 seeds" not in [line[:39] for line in out.splitlines()]
