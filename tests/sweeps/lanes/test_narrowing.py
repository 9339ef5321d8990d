"""A lane that is played after a candidate: no knob that narrows goes past the value of that candidate."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from lanes import QUEUE, lane_with, refused

from lanelock.policies import LaneError
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

SERVERS, SERVICE = "queue_policy_v1#/servers", "queue_policy_v1#/service"


def narrowing(tmp_path, servers="down", service="up", **changed):
    knobs = {
        "servers": {"at": SERVERS, "low": 6, "high": 16, **({"narrows": servers} if servers else {})},
        "service": {
            "at": SERVICE,
            "low": 0.6,
            "high": 1.8,
            "scale": "log",
            **({"narrows": service} if service else {}),
        },
    }
    return lane_with(tmp_path, **{"knobs": knobs, "sampler__name": "random", "budget__trials": 8, **changed})


def candidate(lane, servers, service):
    return lane.authority.with_knobs({SERVERS: servers, SERVICE: service})


@pytest.mark.plan("P2.R1.1")
def test_the_box_ends_at_the_candidate(tmp_path):
    lane = narrowing(tmp_path)
    cut = lane.narrowed(candidate(lane, 12, 1.25))
    assert {knob.name: knob.extent for knob in cut.knobs} == {"servers": (6, 12), "service": (1.25, 1.8)}
    assert cut.document["after"] == {"servers": 12, "service": 1.25} and cut.identity != lane.identity
    assert cut.document["knobs"] == lane.document["knobs"], "what the lane's file says stands"
    wide = lane.narrowed(candidate(lane, 20, 0.5))
    assert wide.space.knobs == lane.space.knobs, "a candidate beyond the far end cuts nothing"
    assert cut.narrowed(candidate(lane, 15, 1.0)).space.by_name["servers"].extent == (6, 15), "the last one counts"


def test_one_value_that_is_left_is_the_only_choice(tmp_path):
    lane = narrowing(tmp_path)
    cut = lane.narrowed(candidate(lane, 6, 1.8))
    assert {knob.name: knob.choices for knob in cut.knobs} == {"servers": (6,), "service": (1.8,)}
    closed = play(cut, Workspace.at(tmp_path / "w"), track=False)
    assert [dict(trial.values) for trial in closed.trials] == [{"servers": 6, "service": 1.8}]


def test_nothing_left_names_knob_and_value(tmp_path):
    lane = narrowing(tmp_path)
    with pytest.raises(
        LaneError, match=r"/knobs/servers/narrows: the candidate.s value is 5: no value of 6 … 16 is at most that"
    ):
        lane.narrowed(candidate(lane, 5, 1.0))
    with pytest.raises(
        LaneError, match=r"/knobs/service/narrows: the candidate.s value is 2: no value of 0.6 … 1.8 is at least that"
    ):
        lane.narrowed(candidate(lane, 12, 2.0))


def test_what_cannot_narrow_says_so(tmp_path):
    with pytest.raises(LaneError, match="none of them narrows"):
        (lane := narrowing(tmp_path, None, None)).narrowed(lane.authority)
    with pytest.raises(LaneError, match="/after/service: not the name of a knob that narrows"):
        narrowing(tmp_path, service=None, after={"service": 1.0})
    with pytest.raises(LaneError, match="/narrows: only a knob of numbers has it"):
        Knob.of("law", {"at": "p#/law", "choices": ["a", 2], "narrows": "down"}, "/knobs/law")
    with pytest.raises(LaneError, match="/narrows: only a knob of numbers has it"):
        Knob.of("law", {"at": "p#/law", "options": {"a": [], "b": [1]}, "narrows": "up"}, "/knobs/law")


def test_what_the_lane_enqueues_is_placed_in_what_is_left(tmp_path):
    row = {"servers": 16, "service": 0.75}
    lane = narrowing(tmp_path, enqueue=[row])
    assert lane.enqueued() == (row,)
    assert lane.narrowed(candidate(lane, 12, 1.25)).enqueued() == ({"servers": 12, "service": 1.25},)


def test_the_lock_of_a_narrowed_lane_verifies_alone_and_its_sweep_goes_on(tmp_path):
    lane, workspace = narrowing(tmp_path), Workspace.at(tmp_path / "w")
    cut = lane.narrowed(candidate(lane, 12, 1.25))
    closed = play(cut, workspace, track=False)
    assert all(trial.values["servers"] <= 12 and trial.values["service"] >= 1.25 for trial in closed.trials)
    lock = Lock.read(closed.lock)
    assert lock.lane_document["after"] == {"servers": 12, "service": 1.25}
    assert lock.lane().space.knobs == cut.space.knobs
    for place in (None, workspace):
        assert verify_lock(closed.lock, workspace=place).ok
    again = play(lane.with_search(trials=10), workspace, resume=True, track=False)  # the study says after what
    assert again.sweep == closed.sweep and again.ground.lane.document["after"] == cut.document["after"]
    with pytest.raises(LaneError, match="--after: queue-1 began otherwise"):
        play(lane.narrowed(candidate(lane, 13, 1.25)), workspace, resume=True, track=False)


def test_another_authority_keeps_what_was_cut(tmp_path):
    lane = narrowing(tmp_path)
    moved = lane.narrowed(candidate(lane, 12, 1.25)).with_authority(candidate(lane, 20, 0.5))
    assert moved.space.start == {"servers": 12, "service": 1.25}


def test_after_at_the_command_line(tmp_path, here):
    lane, root = tmp_path / "lane.json", tmp_path / "w"
    first = ("sweep", lane, "--quiet")
    play(narrowing(tmp_path, budget__trials=4), Workspace.at(root), track=False)
    assert here(*first, "--after", "queue-1", workspace=root)[0] in (0, 1)
    before, after = (Lock.read(next((root / "locks").glob(f"queue-{n}.*.json"))) for n in (1, 2))
    assert after.lane_document["after"] == dict(before.knobs)
    assert after.knobs["servers"] <= before.knobs["servers"] and after.knobs["service"] >= before.knobs["service"]
    refused(here(*first, "--after", "nothing", workspace=root), "nothing")
    refused(here(*first, "--after", "p1", workspace=root), "a pack of engine segment_2b, not of queue")
    lane_with(tmp_path)
    refused(here(*first, "--after", str(QUEUE / "pack"), workspace=root), "none of them narrows")


KNOBS = {
    "continuous": {"low": 0.07, "high": 0.83},
    "log": {"low": 0.5, "high": 8.0, "scale": "log"},
    "stepped": {"low": 0.1, "high": 0.9, "step": 0.05},
    "whole": {"low": -3, "high": 12},
    "whole, stepped": {"low": 2, "high": 20, "step": 3},
    "choices": {"choices": [0.5, 3, -1, 2.25]},
}


@given(some.sampled_from(sorted(KNOBS)), some.sampled_from(["down", "up"]), some.floats(-30, 30), some.floats(0, 1))
def test_a_cut_knob_lies_within_the_knob_and_admits_the_candidate_only_if_the_knob_does(kind, narrows, far, unit):
    knob = Knob.of("k", {"at": "p#/k", **KNOBS[kind], "narrows": narrows}, "/knobs/k", kind.startswith("whole"))

    def within(value):
        return value <= at if narrows == "down" else value >= at

    for at in (far, knob.along(unit), *knob.extent):
        admitted = [value for value in knob.points(9) if within(value)]
        try:
            cut = knob.cut(at, narrows == "down", "it")
        except LaneError as error:
            assert not admitted and f"{at:g}" in str(error)
            continue
        assert all(within(value) and knob.value_of(value) is not None for value in (*cut.extent, *cut.points(9)))
        if knob.size is not None:
            assert [value for value in knob.points(9) if cut.given(value) == value] == admitted
        if knob.given(at) == at:
            assert cut.given(at) == at, "the candidate's value stays where it was allowed"
        assert [cut.nearest(value) for value in cut.points(9)] == list(cut.points(9))
        assert cut.at == knob.at and cut.when == knob.when


def test_around_the_authority(tmp_path):
    knobs = {
        "servers": {"at": SERVERS, "low": 6, "high": 16, "around": 2.5, "narrows": "down"},
        "service": {"at": SERVICE, "low": 0.6, "high": 1.8, "scale": "log", "around": 0.25},
    }
    lane = lane_with(tmp_path, knobs=knobs)

    def box(lane):
        return {knob.name: knob.extent for knob in lane.knobs}

    assert lane.space.start == {"servers": 8, "service": 1.0} and box(lane) == {
        "servers": (6, 10),
        "service": (0.75, 1.25),
    }
    moved = lane.with_authority(candidate(lane, 16, 1.75))
    assert box(moved) == {"servers": (14, 16), "service": (1.5, 1.8)}, "the box follows, within low and high"
    assert box(moved.narrowed(candidate(lane, 15, 1.0)))["servers"] == (14, 15)
    with pytest.raises(
        LaneError, match=r"/knobs/servers/around: its upper limit is 5.5: no value of 6 … 16 is at most"
    ):
        lane.with_authority(candidate(lane, 3, 1.0))
    with pytest.raises(LaneError, match="/around: only a knob of numbers has it"):
        Knob.of("law", {"at": "p#/law", "choices": ["a", "b"], "around": 1}, "/knobs/law")
