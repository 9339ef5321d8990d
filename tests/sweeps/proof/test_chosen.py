"""A lock of a trial that a person chose: it states the trial's own verdict, that it was chosen by hand, and why."""

import json

import click
import pytest
from conftest import forged
from lanes import lane_with, refused

from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal.commands.locks import lock as group
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed sweep of the queue, and its trials: those that pass, those that miss every band, and the vetoed."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    done = play(lane_with(place.root, racing=False), place, track=False)
    ledger, kinds = Ledger(recorded(done.sweep, place).ground()), {"pass": [], "below": [], "vetoed": []}
    for trial in done.trials:
        kinds["vetoed" if ledger.vetoed(trial) else "pass" if ledger.band(trial) else "below"].append(trial.number)
    assert all(kinds.values()), kinds
    return place, done, kinds


def test_another_trial_is_locked_with_its_own_verdict_and_the_reason(here, closed):
    place, done, kinds = closed
    number = next(number for number in kinds["pass"] if number != done.decision.best.number)
    code, out, _ = here("lock", f"queue-1/{number}", "--why", "fewer servers", "--json", workspace=place.root)
    stated = json.loads(out)
    lock = Lock.read(find_lock(stated["lock_id"], place))
    assert code == 0 and (lock.decision, lock.candidate, lock.trial) == ("GO", "accepted", number)
    assert lock.chosen_by_hand == "fewer servers"
    assert lock.because.startswith("chosen by hand: fewer servers; trial ") and lock.because == stated["because"]
    assert lock.reason == stated["reason"] == "every gate of band B+ holds on seeds 1, 2, 3"
    assert lock.verdict == str(lock.card(lock.lane()).verdict) and Lock.of(lock.document, "") == lock
    assert all(check.ok for check in verify_lock(find_lock(lock.lock_id, place)))
    assert find_lock("queue-1", place) == done.lock, "the sweep's name still means what its decision locked"
    assert find_lock(f"queue-1.{number}", place).name == f"{lock.name}.json"
    shown = here("lock", "show", lock.short_id, workspace=place.root)[1]
    assert "by hand" in shown and "fewer servers" in shown


def test_a_trial_below_every_band_is_locked_as_what_it_is(here, closed):
    place, _, kinds = closed
    name = f"queue-1/{kinds['below'][0]}"
    code, out, _ = here("lock", "--json", "--why", "to look at it", name, workspace=place.root)
    lock = Lock.read(find_lock(json.loads(out)["lock_id"], place))
    assert code == 0, "options may stand first"
    assert (lock.decision, lock.candidate) == ("NO_GO", "terminal") and lock.blockers
    assert lock.because.startswith("chosen by hand: to look at it; ") and lock.blockers[0].gate in lock.reason


def test_a_vetoed_trial_is_refused_by_rule_and_its_veto_is_named(here, closed):
    place, _, kinds = closed
    before = sorted(place.locks.iterdir())
    code, out, err = here("lock", f"queue-1/{kinds['vetoed'][0]}", "--why", "hm", "--json", workspace=place.root)
    assert (code, err) == (1, "") and json.loads(out)["lock"] is None
    assert json.loads(out)["refusals"][0].startswith("vetoed by crowd")
    assert here("lock", f"queue-1/{kinds['vetoed'][0]}", "--why", "hm", workspace=place.root)[1].startswith("REFUSED  ")
    assert sorted(place.locks.iterdir()) == before


def test_what_is_no_trial_of_a_closed_sweep_is_bad_input(here, closed, tmp_path):
    place, done, _ = closed
    refused(here("lock", "queue-1/99", "--why", "x", workspace=place.root), "queue-1/99: /number: 99 is not among")
    refused(here("lock", "queue-7/0", "--why", "x", workspace=place.root), "no sweep queue-7", "known: queue-1")
    refused(here("lock", "shwo", "--why", "x", workspace=place.root), "shwo: neither a trial", "show, verify")
    refused(here("lock", "queue-1/0", "--why", " ", workspace=place.root), "--why: give the reason")
    refused(here("lock", "queue-1/0", workspace=place.root), "--why")
    (place.locks / "aside").mkdir()
    moved = done.lock.rename(place.locks / "aside" / done.lock.name)
    try:
        refused(here("lock", "queue-1/0", "--why", "x", workspace=place.root), "queue-1: it has not closed")
    finally:
        moved.rename(done.lock)


def test_a_person_who_chose_nothing_is_found_where_the_sweep_is(closed, tmp_path):
    place, done, _ = closed
    path = forged(done.lock, tmp_path, chosen_by_hand="it is mine")
    assert [check.name for check in verify_lock(path, workspace=place) if not check.ok] == ["transcript: because"]
    assert any(row == "a person chose it, because: it is mine" for row in verify_lock(path).not_proved)


def test_the_words_show_and_verify_stay_commands_and_are_offered():
    context = click.Context(group, info_name="lock")
    assert {item.value for item in group.shell_complete(context, "")} >= {"show", "unpack", "verify"}
    assert group.resolve_command(context, ["show", "x"])[0] == "show"
