"""Which certification of a lock counts: any that falls short stands against it, else the most demanding one."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import forged
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE, edge_lock, lane_with, seal

from lanelock.engine.keep.receipts import digests, text_of
from lanelock.policies import IntegrityError
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import load_gates, parse_gates
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.weighing import Evidence, counting, evidence_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.retention import survey
from lanelock.sweeps.workspace import Workspace

GATES = load_gates(str(QUEUE / "gates.json"))
INVALID, FAIL, B, B_PLUS = GATES.verdicts


def stated(verdict, holdout=0, coverage=0.0, seeds=3, left_out=(), name="x"):
    return Evidence(Path(name), verdict, left_out, holdout, coverage, seeds)


def test_a_failure_on_many_seeds_is_not_forgotten_beside_a_pass_on_none():
    passed, failed = stated(B_PLUS), stated(FAIL, holdout=64)
    assert counting([passed, failed], B) is counting([failed, passed], B_PLUS) is failed


@pytest.mark.plan("0.9")
@pytest.mark.parametrize("short", [INVALID, FAIL])
def test_no_number_of_passes_outvotes_a_failure(short):
    failed = stated(short)
    passes = [stated(B_PLUS, holdout=count, coverage=99, seeds=64) for count in (4, 16, 300)]
    assert counting([*passes, failed], B) is failed


def test_a_lower_band_stands_against_a_name_that_asks_for_the_highest_and_no_other():
    lower, higher = stated(B, holdout=4), stated(B_PLUS, holdout=300, coverage=99)
    assert counting([lower, higher], B_PLUS) is lower and counting([lower, higher], B) is higher


def test_the_most_demanding_pass_counts():
    ascending = [
        stated(B_PLUS, holdout=300, coverage=99.0, seeds=9, left_out=(3,)),
        stated(B_PLUS),
        stated(B_PLUS, holdout=16, coverage=82.9, seeds=64),
        stated(B_PLUS, holdout=59, coverage=92.5),
        stated(B_PLUS, holdout=59, coverage=95.0),
        stated(B_PLUS, holdout=59, coverage=95.0, seeds=4),
    ]
    for number, row in enumerate(ascending, start=1):
        assert counting(ascending[:number][::-1], B_PLUS) is row
    assert counting([], B) is None


ROWS = st.builds(
    stated, st.sampled_from(GATES.verdicts), st.integers(0, 5), st.floats(0, 99), st.integers(1, 4),
    st.sampled_from([(), (1,)]), st.text("abc", min_size=1, max_size=3),
)  # fmt: skip


@pytest.mark.plan("0.9")
@given(rows=st.lists(ROWS, min_size=1, max_size=6), more=ROWS, asked=st.sampled_from([B, B_PLUS]))
def test_more_evidence_never_helps_a_lock_that_fell_short(rows, more, asked):
    found = counting(rows, asked)
    assert found in rows and found == counting(rows[::-1], asked)
    if found.verdict.rank < asked.rank:
        assert counting([*rows, more], asked).verdict.rank < asked.rank


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """(workspace, lock): a candidate on the edge, certified on six held-out seeds, where it holds, and on eight."""
    workspace = Workspace.at(tmp_path_factory.mktemp("weighing"))
    path = edge_lock(workspace)
    for holdout in (6, 8):
        certify_lock(path, workspace, holdout=holdout)
    return workspace, path


@pytest.fixture
def place(judged, tmp_path):
    """A workspace of its own, with the lock and its evidence."""
    workspace = Workspace.at(tmp_path / "ws")
    shutil.copytree(judged[0].locks, workspace.locks, dirs_exist_ok=True)
    shutil.copytree(judged[0].evidence, workspace.evidence)
    return workspace


def only(place):
    (path,) = place.locks.glob("*.json")
    return path


def with_verdict(place, verdict):
    return next(row for row in evidence_of(Lock.read(only(place)), place, GATES) if str(row.verdict) == verdict)


@pytest.mark.plan("0.9")
def test_a_lock_that_failed_once_is_refused_whatever_else_was_certified(place):
    for seeds, holdout in (((1, 2, 3), 0), ((1, 2, 3, 4, 5), 6), ((1, 2, 3), 5)):
        certify_lock(only(place), place, seeds=seeds, holdout=holdout)
    for alias in ("last-good", "certified"):
        (refusal,) = promote(only(place), alias, place, force=True, why="hurry").refusals
        assert (
            refusal.startswith("its certification edge-1.") and "says FAIL, which stands against this lock" in refusal
        )
    assert promote(only(place), "authority", place).written, "which asks for no certification"
    assert place.promotions.is_dir() and read_json(place.promotions / "000001.json")["to"]["evidence"] is None


def test_a_lock_with_another_word_is_held_to_what_its_candidate_failed(place, tmp_path, monkeypatch):
    made_by = read_json(only(place))["made_by"] | {"user": "somebody"}
    other = forged(only(place), tmp_path, made_by=made_by)
    certify_lock(other, place, holdout=6)
    (refusal,) = promote(other, "last-good", place, dry_run=True).refusals
    assert "says FAIL, which stands against this lock" in refusal
    assert only(place).stem in refusal, "the certification of the lock that it was copied from"
    monkeypatch.setattr("lanelock.sweeps.proof.weighing._of_its_candidate", lambda *_: False)
    assert promote(other, "last-good", place, dry_run=True).refusals == (), "nothing else stands against it"


def test_a_lock_of_another_candidate_is_not_held_to_what_this_one_failed(place, tmp_path):
    knobs = {"service": {"at": "queue_policy_v1#/service", "choices": [1.2]}}
    fixed = {"queue_policy_v1#/arrivals": 9.0, "queue_policy_v1#/servers": 16}
    path = play(lane_with(tmp_path, id="other", knobs=knobs, fixed=fixed), place, track=False).lock
    certify_lock(path, place, holdout=2)
    assert promote(path, "last-good", place, dry_run=True).refusals == ()


def _edited(folder):
    path = folder / "certification.json"
    path.write_text(path.read_text().replace('"verdict": "FAIL"', '"verdict": "PASS_B"'))


def _edited_and_sealed(folder):
    document = read_json(folder / "certification.json") | {"verdict": "PASS_B"}
    (folder / "certification.json").write_text(text_of(document))
    seal(folder)


def _of_an_earlier_version(folder):
    document = read_json(folder / "certification.json") | {"format": "lanelock.evidence/1"}
    (folder / "certification.json").write_text(text_of(document))
    seal(folder, passed=False)
    sha256 = digests(folder)["certification.json"]
    folder.rename(folder.with_name(f"{folder.name.rpartition('.')[0]}.{sha256[:12]}"))


def _of_another_lock(folder):
    document = read_json(folder / "certification.json") | {"lock_id": "0" * 64}
    (folder / "certification.json").write_text(text_of(document))
    seal(folder)


AWAY = {
    "edited": _edited,
    "edited, with digests made good": _edited_and_sealed,
    "given to an earlier version, which does not count": _of_an_earlier_version,
    "given to another lock": _of_another_lock,
    "renamed": lambda folder: folder.rename(folder.with_name("old")),
    "flagged": lambda folder: (folder / "_passed.flag").write_text("sha256_hex = 0"),
    "emptied of a seed": lambda folder: next(folder.glob("seeds/*")).unlink(),
    "given another file": lambda folder: (folder / "note").write_text("a mistake, see the other"),
    "given other gates": lambda folder: (folder / "gates.json").write_text("{}"),
}


@pytest.mark.parametrize("how", AWAY)
def test_a_failed_certification_cannot_be_edited_or_renamed_away(place, how, here):
    AWAY[how](with_verdict(place, "FAIL").folder)
    code, out, err = here("promote", only(place), "--to", "last-good", workspace=place.root)
    assert code == 3 and out == "" and err.count("\n") == 1, err


def test_evidence_of_another_lock_under_this_locks_name_is_found(place, tmp_path):
    shutil.rmtree(with_verdict(place, "FAIL").folder)
    passed = with_verdict(place, "PASS_B").folder
    document = read_json(passed / "certification.json") | {"lock_id": "1" * 64}
    (passed / "certification.json").write_text(text_of(document))
    seal(passed)
    with pytest.raises(IntegrityError, match="is not named"):
        promote(only(place), "last-good", place)


def test_a_passing_certification_made_up_whole_is_found_by_running_it(place):
    """Every digest and name made good: the failing seed left out of the list, the verdict and the cards with it."""
    failed, passed = with_verdict(place, "FAIL").folder, with_verdict(place, "PASS_B").folder
    document = read_json(failed / "certification.json")
    cards = document["holdout"]["cards"]
    keep = [at for at, card in enumerate(cards) if card["verdict"] != "FAIL"]
    document["holdout_seeds"] = [document["holdout_seeds"][at] for at in keep]
    good = read_json(passed / "certification.json")
    document["holdout"] = {
        **good["holdout"], "seeds": document["holdout_seeds"], "cards": [cards[at] for at in keep],
    }  # fmt: skip
    document |= {"verdict": "PASS_B", "reason": good["reason"], "claim": good["claim"] | {"seeds": len(keep)}}
    for path in failed.glob("seeds/*.json"):
        if int(path.stem) not in (*document["seeds"], *document["holdout_seeds"]):
            path.unlink()
    (failed / "certification.json").write_text(text_of(document))
    seal(failed)
    sha256 = digests(failed)["certification.json"]
    shutil.rmtree(passed)
    failed.rename(failed.with_name(f"{only(place).stem}.{sha256[:12]}"))
    with pytest.raises(IntegrityError, match="the evidence does not verify: holdout seeds"):
        promote(only(place), "last-good", place)


def test_evidence_by_gates_of_an_earlier_form_counts_for_nothing(place):
    """Of gates that are not the engine's now, nothing is believed: neither what passed nor what failed."""
    other = load_gates(str(QUEUE / "gates.json")).document
    other = {**other, "title": "Waiting, as it was graded last year"}
    assert evidence_of(Lock.read(only(place)), place, GATES)
    assert evidence_of(Lock.read(only(place)), place, parse_gates(other, "other")) == ()


def test_what_failed_is_never_pruned_while_its_lock_is_there(place):
    held = {item.name: (item.slot, item.why) for item in survey(place).keep if item.kind == "evidence"}
    assert held[with_verdict(place, "FAIL").folder.name] == ("stands against its lock", "it says FAIL")


def test_a_pack_that_is_being_written_or_removed_is_passed_over(place):
    for name in (".staging-x", ".pruned-x"):
        (place.evidence / name).mkdir()
        (place.evidence / name / "certification.json").write_text(json.dumps({}))
    assert len(evidence_of(Lock.read(only(place)), place, GATES)) == 2
