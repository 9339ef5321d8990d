"""The transcript of a search: what its chain holds, and what an audit finds in a study that was written anew.

The forger here has our source: every study below is one whole chain from its first trial to its last.
"""

import json
import shutil
from dataclasses import replace

import optuna
import pytest
from conftest import forged
from lanes import lane_with

from lanelock.policies import IntegrityError
from lanelock.policies.documents import read_json
from lanelock.sweeps.audit import audit
from lanelock.sweeps.lanes.trial import RECORD, Trial, TrialRecord
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.study import Studies, _open
from lanelock.sweeps.search.transcript import link, origin_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

TRIALS = 24


@pytest.fixture(scope="module")
def lane(tmp_path_factory):
    return lane_with(tmp_path_factory.mktemp("lane"), racing=True).with_search(trials=TRIALS)


@pytest.fixture(scope="module")
def closed(tmp_path_factory, lane):
    workspace = Workspace.at(tmp_path_factory.mktemp("audited"))
    return workspace, play(lane, workspace, track=False)


def retold(closed, tmp_path, change):
    """Returns a copy of the workspace whose study has the trials that `change` makes of the stored ones."""
    workspace, done = closed
    copy = tmp_path / "copy"
    shutil.copytree(workspace.root, copy, ignore=shutil.ignore_patterns("optuna.journal*", "sweeps"))
    here, there = Studies(workspace.study_storage)._load(done.sweep), Workspace.at(copy)
    study = optuna.create_study(
        storage=_open(there.study_storage, reading=False, study=0), study_name=done.sweep, directions=here.directions
    )
    for name, value in here.user_attrs.items():
        study.set_user_attr(name, value)
    head = origin_of(here.user_attrs)
    for number, (frozen, record) in enumerate(change([(row, stored(row)) for row in here.get_trials()])):
        objectives = tuple(frozen.values) if frozen.values else None
        trial = Trial(number, frozen.params, objectives, frozen.constraints, record)
        head = link(head, trial, frozen.system_attrs)
        frozen.set_user_attr(RECORD, replace(record, chain=head).document)
        study.add_trial(frozen)
    return there, Lock.read(done.lock)


def stored(frozen):
    return TrialRecord.of(frozen.user_attrs[RECORD])


def failed(done):
    return [check.name for check in done.findings if not check.ok]


def measuring_other(rows):
    """The fifth trial claims a little other than it measures."""
    frozen, record = rows[5]
    seed, metrics = next(iter(record.measures.items()))
    better = {**metrics, "q1/served_at_once": metrics["q1/served_at_once"] * (1 - 1e-12)}
    rows[5] = frozen, replace(record, measures={**record.measures, seed: better})
    return rows


def other_objectives(rows):
    rows[5][0].values = [value + 1 for value in rows[5][0].values]
    return rows


def other_knobs(rows):
    """A trial that no sampler proposed; its measurements are true to what it was."""
    rows[7][0].params = {**rows[7][0].params, **rows[6][0].params}
    return rows


def fewer_seeds(rows):
    """A complete trial is cut to its first seed, as if it had been behind."""
    place, (frozen, record) = next((at, row) for at, row in enumerate(rows) if len(row[1].measures) == 3 and at > 3)
    first = dict([next(iter(record.measures.items()))])
    rows[place] = frozen, replace(record, measures=first, worlds={}, stopped="seed 1: behind")
    return rows


def dropped(rows):
    del rows[9]
    return rows


def reordered(rows):
    rows[8], rows[9] = rows[9], rows[8]
    return rows


def cut(rows):
    return rows[:-4]


def test_a_sweep_and_its_lock_are_proved_from_an_audit_of_everything(closed):
    workspace, done = closed
    lock = Lock.read(done.lock)
    found = audit(done.sweep, workspace, 1.0, lock)
    assert not failed(found) and found.sampled == tuple(range(TRIALS)) and len(found.findings) > 3 * TRIALS
    assert lock.search.trials == TRIALS and lock.search.because == done.decision.reason
    assert f"trial {lock.trial} is the best of {TRIALS} by the lane's rule" in found.findings.proved
    some = audit(done.sweep, workspace, 0.1)
    assert len(some.sampled) == 3 and not failed(some)
    assert any("21 trials were not run again" in row for row in some.findings.not_proved)


def test_the_chain_is_the_same_for_any_number_of_workers_and_after_an_interruption(closed, lane, tmp_path):
    head = Lock.read(closed[1].lock).search.head
    several = Workspace.at(tmp_path / "several")
    assert Lock.read(play(lane, several, jobs=3, track=False).lock).search.head == head
    resumed = Workspace.at(tmp_path / "resumed")
    play(lane.with_search(trials=12), resumed, track=False)
    again = Lock.read(play(lane, resumed, track=False, resume=True).lock)
    assert again.search.head == head and again.search.origin == Lock.read(closed[1].lock).search.origin


@pytest.mark.parametrize(
    "change", [measuring_other, other_objectives, other_knobs, fewer_seeds, dropped, reordered, cut]
)
def test_a_study_that_was_written_anew_is_found_by_its_lock_and_by_running_it_again(closed, tmp_path, change):
    workspace, lock = retold(closed, tmp_path, change)
    failing = [check.name for check in verify_lock(closed[1].lock, workspace=workspace) if not check.ok]
    assert failing == [f"transcript: head after {TRIALS} trials"]
    assert failed(audit(lock.sweep, workspace, 0.05, lock))[0] == f"transcript: head after {TRIALS} trials"
    alone = failed(audit(lock.sweep, workspace, 1.0))
    assert bool(alone) == (change is not cut), "a shorter search is a search; only what was longer can tell"


def wider(rows):
    """The sampler of a resumed sweep would be told another range."""
    frozen = rows[3][0]
    name, kept = next(iter(frozen.distributions.items()))
    frozen.distributions = {**frozen.distributions, name: type(kept)(kept.low, kept.high + 1)}
    return rows


def pruned(rows):
    frozen = next(row for row, _ in rows if row.values)
    frozen.intermediate_values = {0: 1.0}
    return rows


def test_what_optuna_keeps_beside_a_record_is_held_as_well(closed, lane, tmp_path):
    ranges, states = (retold(closed, tmp_path / change.__name__, change)[0] for change in (wider, pruned))
    found = failed(audit(closed[1].sweep, ranges, 0.05))
    assert found[0] == "trials whose knobs have other ranges than the lane's", "and what is proposed under them"
    for workspace in (ranges, states):
        with pytest.raises(IntegrityError, match="study queue-1: trial"):
            play(lane.with_search(trials=TRIALS + 4), workspace, track=False, resume=True)


def test_a_trial_altered_in_its_place_breaks_the_chain(closed, lane, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(closed[0].root, copy)
    workspace, name = Workspace.at(copy), closed[1].sweep
    lines = (copy / "optuna.journal").read_text().splitlines()
    place, line = next((at, row) for at, row in enumerate(map(json.loads, lines)) if row["op_code"] == 4 and at > 20)
    line["user_attrs"][RECORD]["repeats"] = 7
    lines[place] = json.dumps(line)
    (copy / "optuna.journal").write_text("\n".join(lines) + "\n")
    for attempt in (
        lambda: play(lane.with_search(trials=TRIALS + 4), workspace, track=False, resume=True),
        lambda: audit(name, workspace, 0.1),
        lambda: verify_lock(closed[1].lock, workspace=workspace),
    ):
        with pytest.raises(IntegrityError, match=rf"study {name}: trial \d+ does not follow from"):
            attempt()


@pytest.mark.parametrize(
    ("change", "why"), [(cut, "it holds 20 trials, 24 had finished"), (reordered, "its transcript")]
)
@pytest.mark.parametrize("by", ["sweeps", "locks"])
def test_a_whole_chain_that_is_not_the_tallied_or_locked_one_is_not_resumed(closed, lane, tmp_path, change, why, by):
    workspace, _ = retold(closed, tmp_path, change)
    if by == "sweeps":
        shutil.copytree(closed[0].root / "sweeps", workspace.root / "sweeps")
        shutil.rmtree(workspace.locks)
    why = why if by == "sweeps" else r"its transcript after 24 trials is not the one that .*json states"
    with pytest.raises(IntegrityError, match=why):
        play(lane.with_search(trials=TRIALS + 4), workspace, track=False, resume=True)


def test_a_lock_that_names_another_trial_or_another_reason_is_found_where_its_sweep_is(closed, tmp_path):
    workspace, done = closed
    search = read_json(done.lock)["search"]
    for fields, name in (
        ({"trial": 0}, "transcript: knobs"),
        ({"search": {**search, "because": "it is the best of all"}}, "transcript: because"),
        ({"search": {**search, "trials": TRIALS + 1}}, f"transcript: head after {TRIALS + 1} trials"),
        ({"search": {**search, "head": "0" * 64}}, f"transcript: head after {TRIALS} trials"),
    ):
        path = forged(done.lock, tmp_path, **fields)
        failing = [check.name for check in verify_lock(path, workspace=workspace) if not check.ok]
        assert failing[0] == name, fields
        assert any("(no transcript here)" in row for row in verify_lock(path).not_proved)
    other = forged(done.lock, tmp_path, search={**search, "origin": "0" * 64})
    assert any("is another)" in row for row in verify_lock(other, workspace=workspace).not_proved)


def test_a_study_without_a_transcript_is_not_said_to_be_one_chain(closed, tmp_path, monkeypatch):
    """As older versions stored it, or whoever took every head away."""
    monkeypatch.setitem(globals(), "link", lambda *_: "")
    there, _ = retold(closed, tmp_path, lambda rows: rows)
    found = audit(closed[1].sweep, there, 0.01).findings
    assert found.ok and not any("chain" in row for row in found.proved)
    assert "that no trial was altered, dropped or moved: the study holds no transcript" in found.not_proved


def test_audit_is_a_command(closed, here):
    workspace, done = closed
    code, out, err = here("audit", done.sweep, "--sample", "10%", "--json", workspace=workspace.root)
    stated = json.loads(out)
    assert (code, err) == (0, "") and stated["ok"] and stated["of"] == TRIALS and len(stated["sampled"]) == 3
    assert stated["lock"] == Lock.read(done.lock).lock_id
    assert here("audit", "nothing-1", workspace=workspace.root)[0] == 2
    for share in ("0%", "101%", "x"):
        code, _, err = here("audit", done.sweep, "--sample", share, workspace=workspace.root)
        assert code == 2 and "--sample" in err
