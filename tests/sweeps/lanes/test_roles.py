"""Roles of seeds: those of the search, witnesses that it does not see, and profiles with limits of their own."""

import json

import pytest
import queue_engine
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE, edge_lock, lane_with

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import parse_gates
from lanelock.sweeps.decision.confirmation import confirm_seeds
from lanelock.sweeps.proof.evidence import certify_lock, verify_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

GATES = read_json(QUEUE / "gates.json")
WAIT = {"B": 1.0, "B+": 0.25}  # minutes, of the file


def profile(seeds, **more):
    return {"seeds": seeds, "minutes": 1, "what": "A test."} | more


def gates(**profiles):
    return parse_gates({**GATES, "profiles": profiles}, "gates.json")


def limits_of(gate_set, gate="wait"):
    return dict(next(row for row in gate_set.gates if row.id == gate).thresholds)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


# --- profiles -----------------------------------------------------------------------------------------------


def test_a_profile_states_limits_of_its_own_and_leaves_the_others():
    file = gates(smoke=profile([1], limits={"wait": {"B": 2.0, "B+": 1.5}}, cross_seed={"q1/wait_p90": {"B": 0.5}}))
    under = file.under(file.profile("smoke"))
    assert limits_of(file) == WAIT and limits_of(under) == {"B": 2.0, "B+": 1.5}
    assert limits_of(under, "at_once") == limits_of(file, "at_once")
    assert file.cross_seed_limits == {} and under.cross_seed_limits == {"q1/wait_p90": {"B": 0.5}}
    assert file.under(None) is file
    plain = gates(smoke=profile([1]))
    assert plain.under(plain.profile("smoke")) is plain


def test_a_selection_keeps_the_limits_of_its_gates_alone():
    file = gates(smoke=profile([1], limits={"wait": {"B": 2.0, "B+": 1.5}}))
    chosen, others = file.select(["wait"]), file.select(["at_once"])
    assert limits_of(chosen.under(chosen.profile("smoke"))) == {"B": 2.0, "B+": 1.5}
    assert others.under(others.profile("smoke")) is others


@given(st.floats(0.3, 3.0), st.floats(0.3, 3.0))
def test_a_stronger_profile_asks_at_least_as_much(weak, strong):
    rows = {
        "smoke": profile([1], limits={"wait": {"B": weak, "B+": 0.25}}),
        "certification": profile([1, 2], limits={"wait": {"B": strong, "B+": 0.25}}),
    }
    if strong <= weak:
        assert limits_of(gates(**rows).under(gates(**rows).profile("certification")))["B"] == strong
    else:
        with pytest.raises(PolicyError, match="/profiles/certification/limits/wait/B: asks less than smoke"):
            gates(**rows)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"limits": {"waits": {"B": 1.0}}}, "/profiles/smoke/limits/waits: 'waits' is not a gate of the file"),
        ({"limits": {"wait": {"A": 1.0}}}, "/profiles/smoke: /gates/wait: band 'A' is not one of B"),
        ({"limits": {"wait": {"B": 0.1, "B+": 0.2}}}, "/profiles/smoke: /gates/wait: band B\\+ asks"),
        ({"limits": {"wait": {"B": [0, 1]}}}, "/profiles/smoke"),
        ({"cross_seed": {"q1/nothing": {"B": 1.0}}}, "'q1/nothing' is neither a metric nor a band"),
    ],
)
def test_limits_that_cannot_be_are_refused(row, why):
    with pytest.raises(PolicyError, match=why):
        gates(smoke=profile([1], **row))


def test_a_profile_without_limits_may_follow_one_with_looser_ones_and_not_the_other_way_round():
    loose = {"limits": {"wait": {"B": 2.0, "B+": 0.25}}}
    assert gates(smoke=profile([1], **loose), certification=profile([1, 2]))
    with pytest.raises(PolicyError, match="/profiles/certification/limits/wait/B: asks less"):
        gates(smoke=profile([1]), certification=profile([1, 2], **loose))


def test_a_certification_is_graded_by_the_limits_of_its_profile(tmp_path, workspace, monkeypatch):
    lock = edge_lock(workspace)
    tight = {"B": 1e-6, "B+": 1e-6}
    for limits, passes in (({}, True), ({"limits": {"wait": tight}}, False)):
        document = {**GATES, "profiles": {"smoke": profile([1, 2, 3], **limits)}}
        monkeypatch.setattr(queue_engine.QueueMetrics, "gates_file", document)
        certified = certify_lock(lock, workspace, seeds=[1, 2, 3], holdout=0)
        assert certified.verdict.passed == passes
        assert verify_evidence(certified.folder, with_lock=False).ok


# --- witness seeds ------------------------------------------------------------------------------------------


def witnessed(tmp_path, workspace, witness, profiles=None, **changed):
    more = {"witness": witness} if witness else {}
    if profiles:
        (tmp_path / "own.json").write_text(json.dumps({**GATES, "profiles": profiles}))
        more["gates__file"] = str(tmp_path / "own.json")
    return play(lane_with(tmp_path, decision__confirm_seeds=0, **more, **changed), workspace, track=False)


def test_a_candidate_holds_on_the_witness_seeds_before_it_is_taken(tmp_path, workspace):
    closed = witnessed(tmp_path, workspace, [7, 101])
    lock = Lock.read(closed.lock)
    assert lock.decision == "GO" and {*lock.confirmation.metrics} == {7, 101}
    assert {seed for row in closed.trials for seed in row.record.measures} == {1, 2, 3}, "the search does not see them"
    assert lock.reason.endswith("on witness seeds 7, 101")
    assert verify_lock(closed.lock, workspace=workspace).ok


def test_one_that_does_not_is_passed_over(tmp_path, workspace):
    """With limits of the witness profile that nobody holds, no candidate is taken."""
    never = {"witness": profile([7], limits={"wait": {"B": -1.0, "B+": -1.0}})}
    closed = witnessed(tmp_path, workspace, [7], never)
    assert closed.decision.outcome == "NO_GO" and "witness seed 7" in closed.decision.reason
    assert verify_lock(closed.lock, workspace=workspace).ok
    easy = {"witness": profile([7], limits={"wait": {"B": 50.0, "B+": 50.0}, "at_once": {"B": 0.0, "B+": 0.0}})}
    closed = witnessed(tmp_path, workspace, [7], easy, id="easy")
    assert closed.decision.outcome == "GO" and "passed over" not in closed.decision.reason


def test_without_witnesses_nothing_is_other_than_before(tmp_path, workspace):
    lane = lane_with(tmp_path, decision__confirm_seeds=3)
    assert lane.witness == () and len(confirm_seeds(lane, None, lane.start)) == 3
    with_one = lane_with(tmp_path, decision__confirm_seeds=3, witness=[7])
    assert confirm_seeds(with_one, None, lane.start)[0] == 7


def test_a_witness_that_the_search_would_see_is_refused(tmp_path):
    with pytest.raises(LaneError, match="/witness: 2 is one of /seeds"):
        lane_with(tmp_path, witness=[2, 9])
