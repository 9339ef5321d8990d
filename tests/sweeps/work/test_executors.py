"""The places for work: the same history wherever trials are run, and what cannot be made again elsewhere."""

import json
from dataclasses import replace

import pytest
from lanes import lane_with, leaky_lane

from lanelock.policies import IntegrityError, LaneError, PolicyError, WorkspaceError
from lanelock.sweeps.audit import audit
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import survey
from lanelock.sweeps.notebook import lane_of_function
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sweep import play
from lanelock.sweeps.work.executor import Terms, Threads
from lanelock.sweeps.work.processes import Processes
from lanelock.sweeps.work.tasks import TASKS
from lanelock.sweeps.work.trials import document_of, ground_of, trial_task
from lanelock.sweeps.workspace import Workspace

STAGES = [{"name": "one_seed", "seeds": [1], "keep": 0.5}, {"name": "full"}]
PLACES = {"one": {}, "threads": {"jobs": 2}, "processes": {"jobs": 2, "processes": True}}
BUDGET = {"trials": 12, "seconds": 600}


def history(workspace, sweep):
    """Everything that a sweep's study states, but for clocks."""
    of = recorded(sweep, workspace)
    return (
        of.origin,
        of.head,
        [(row.number, row.values, row.objectives, row.record.failure) for row in of.trials.values()],
    )


@pytest.mark.parametrize("changed", [{}, {"racing": False}, {"stages": STAGES}], ids=["raced", "all_seeds", "staged"])
def test_a_history_is_the_same_to_the_last_bit_wherever_its_trials_are_run(tmp_path, changed):
    """The engine of this lane fails for some candidates, which is part of the history."""
    lane = load_lane(str(leaky_lane(tmp_path, sampler={"seed": 5}, budget=BUDGET, **changed)))
    found = {}
    for name, options in PLACES.items():
        workspace = Workspace.at(tmp_path / name)
        closed = play(lane, workspace, track=False, **options)
        found[name] = *history(workspace, closed.sweep), closed.lock.name
    assert found["threads"] == found["one"] == found["processes"]
    assert any("pump burst" in row[3] for row in found["processes"][2])


def test_a_sweep_that_was_begun_on_threads_goes_on_in_processes(tmp_path):
    lane, less = lane_with(tmp_path, budget=BUDGET), {"trials": 5, "seconds": 600}
    whole, parted = Workspace.at(tmp_path / "whole"), Workspace.at(tmp_path / "parted")
    play(lane, whole, track=False)
    play(lane_with(tmp_path, budget=less), parted, track=False)
    closed = play(lane, parted, resume=True, processes=True, track=False)
    assert [row.values for row in closed.trials] == [row.values for row in recorded("queue-1", whole).trials.values()]
    assert audit("queue-1", parted, 0.2).findings.ok


@pytest.mark.parametrize("sampler", [{"name": "random"}, {"seed": 3}, {"name": "random", "seed": 3}])
def test_a_sweep_goes_on_whatever_its_lane_leaves_out_of_its_sampler(tmp_path, sampler):
    workspace = Workspace.at(tmp_path / "w")
    for trials in (1, 2):
        lane = lane_with(tmp_path, sampler=sampler, batch=1, budget={"trials": trials, "seconds": 600})
        closed = play(lane, workspace, resume=trials > 1, track=False)
    assert len(closed.trials) == 2


@pytest.fixture
def ground(tmp_path):
    return survey(lane_with(tmp_path), None)


def test_a_ground_that_travelled_as_json_is_the_same_ground(ground):
    there = ground_of(json.loads(json.dumps(document_of(ground))))
    assert there.lane.identity == ground.lane.identity and there.lane.document == ground.lane.document
    assert (there.authority, there.reach, there.world) == (ground.authority, ground.reach, ground.world)
    assert document_of(there) == document_of(ground) and trial_task(there).proof == trial_task(ground).proof


def item(servers, seed=1):
    return {"stage": "", "values": {"servers": servers, "service": 1.25}, "seed": seed}


def without_clocks(answers):
    return [{name: value for name, value in answer.result.items() if name != "seconds"} for answer in answers]


def test_every_place_gives_the_same_answers_in_order(ground):
    task, items = trial_task(ground), [item(servers, seed) for servers in range(6, 12) for seed in (1, 2)]
    with Threads(3) as threads, Processes(2) as processes:
        here = without_clocks(threads.map(task, items))
        there = without_clocks(processes.map(task, items))
        # another task, opened in turn
        again = without_clocks(processes.map(TASKS[task.name](task.document), items[:2]))
    assert here == there and again == here[:2]
    assert [row["measures"]["q1/servers"] for row in here] == [row["values"]["servers"] for row in items]


def test_what_a_task_raises_there_is_raised_here_and_ends_no_worker(ground):
    task = trial_task(ground)
    with Processes(1) as place:
        with pytest.raises(RuntimeError, match="KeyError"):
            list(place.map(task, [{"stage": "", "values": {"servers": 8}, "seed": 1}]))
        assert [answer.ended_by for answer in place.map(task, [item(8)])] == [""]
        broken = {**task.document, "authority": {**task.document["authority"], "digest": "0" * 64}}
        with pytest.raises(IntegrityError, match=r"states pack 000"):
            list(place.map(replace(task, document=broken), [item(8)]))


def test_a_worker_with_other_code_is_refused_by_name(ground):
    task = trial_task(ground)
    other = replace(task, proof={**task.proof, "engine": "f" * 64})
    with Processes(1) as place, pytest.raises(WorkspaceError, match=r"another engine: .* there, ffffffffffff… here"):
        list(place.map(other, [item(8)]))


def test_threads_hold_no_limits(ground):
    with Threads(1) as place, pytest.raises(ValueError, match="need processes"):
        place.map(trial_task(ground), [item(8)], Terms(seconds=1))


def simulate(params, seed):
    return {"level": params["level"] + seed}


@pytest.mark.parametrize("field", ["limits", "processes"])
def test_a_function_of_this_program_cannot_be_made_again_elsewhere_and_says_so(tmp_path, field):
    given = {"params": {"level": {"value": 1.0, "low": 0.0, "high": 2.0}}, "gates": {"low": "level <= 9"}, "trials": 2}
    limits = {"limits": {"seconds": 9}} if field == "limits" else {}
    lane = lane_of_function(simulate, id="only_here", **given, **limits)
    with pytest.raises(LaneError, match=r"engine only_here is a function of this program, .* put it into a file"):
        play(lane, Workspace.at(tmp_path), processes=field == "processes", track=False)


def test_limits_are_part_of_a_lanes_identity_and_their_absence_changes_nothing(tmp_path):
    plain, bounded = lane_with(tmp_path), lane_with(tmp_path, limits={"seconds": 60, "memory_mb": 4096})
    assert plain.identity != bounded.identity
    assert "limits" not in plain.document
    assert lane_with(tmp_path, budget=BUDGET, limits={"seconds": 60, "memory_mb": 4096}).identity == bounded.identity


@pytest.mark.parametrize(
    ("limits", "said"),
    [({}, "limits"), ({"seconds": 0}, "/limits/seconds"), ({"memory_mb": 0}, "/limits/memory_mb"), ({"cpu": 1}, "cpu")],
)
def test_limits_that_are_none_are_refused_by_name(tmp_path, limits, said):
    with pytest.raises(PolicyError, match=said):
        lane_with(tmp_path, limits=limits)


def test_a_limit_below_what_a_process_needs_at_all_is_refused_before_a_study_is_begun(tmp_path):
    lane, workspace = lane_with(tmp_path, limits={"memory_mb": 8}), Workspace.at(tmp_path / "w")
    with pytest.raises(LaneError, match=r"/limits/memory_mb: 8: a process needs \d+ MiB before it runs anything"):
        play(lane, workspace, track=False)
    assert Studies(workspace.study_storage).names() == ()
