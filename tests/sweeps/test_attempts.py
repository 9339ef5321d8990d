"""How often a lane may be played, who may allow one more, and what a sweep that goes on may not be asked."""

from dataclasses import replace

import pytest
from lanes import lane_with, refused

from lanelock.policies import LaneError, RefusedError
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.attempts import spent
from lanelock.sweeps.search.beginning import Beginning
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sweep import _check_beginning, play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "w")


def counted(tmp_path, **changed):
    return lane_with(tmp_path, **{"attempts": 1, "budget__trials": 2, "sampler__name": "random", **changed})


def played(lane, workspace, **more):
    return play(lane, workspace, track=False, **more)


@pytest.mark.plan("P2.R1.2")
def test_one_more_than_the_attempts_is_refused_and_a_waiver_allows_it(tmp_path, workspace):
    lane = counted(tmp_path)
    assert played(lane, workspace).sweep == "queue-1"
    with pytest.raises(RefusedError) as spent_:
        played(lane, workspace)
    for part in ("/attempts: one attempt from pack", "queue-1 stands", "--resume", "--waive WHO --why TEXT"):
        assert part in str(spent_.value), part
    assert "\n" not in str(spent_.value) and spent_.value.exit_code == 1
    assert Studies(workspace.study_storage).names() == ("queue-1",), "a refusal leaves nothing"
    waiver = {"who": "Ada", "why": "the first met a broken disk"}
    closed = played(lane.waived(**waiver), workspace)
    assert closed.sweep == "queue-2" and Lock.read(closed.lock).lane_document["waiver"] == waiver
    assert Studies(workspace.study_storage).attributes("queue-2")["lane"]["waiver"] == waiver
    with pytest.raises(RefusedError, match="queue-1, queue-2 stands"):
        played(lane, workspace)


def test_a_waiver_is_said_and_not_proved(tmp_path, workspace):
    lock = played(counted(tmp_path).waived("Ada", "once more"), workspace).lock
    found = verify_lock(lock, workspace=workspace)
    assert found.ok and any("Ada allowed" in what and "once more" in what for what in found.not_proved), found


def test_attempts_are_counted_from_an_authority(tmp_path, workspace):
    lane = counted(tmp_path, attempts=2)
    other = lane.with_authority(lane.authority.with_knobs({"queue_policy_v1#/servers": 9}))
    for each in (lane, other, lane, other):
        played(each, workspace)
    for each in (lane, other):
        with pytest.raises(RefusedError, match="2 attempts from"):
            played(each, workspace)
    played(replace(lane, document={**lane.document, "id": "namesake"}), workspace)


def test_a_campaign_counts_its_own_run_and_by_hand_everything_counts(tmp_path, workspace):
    lane = counted(tmp_path)
    played(lane, workspace, name="cycle-1.p2")
    played(lane, workspace, name="cycle-1.p2")  # the same phase goes on
    studies = Studies(workspace.study_storage)
    assert spent(lane, studies, "cycle-1.p2") is None and spent(lane, studies, "cycle-2.p2") is None
    assert "cycle-1.p2 stands" in str(spent(lane, studies, "cycle-1.p2_again"))
    with pytest.raises(RefusedError, match=r"cycle-1\.p2 stands; one more needs a waiver"):
        played(lane, workspace, name="cycle-1.p2_again")
    with pytest.raises(RefusedError, match=r"cycle-1\.p2 stands; --resume"):
        played(lane, workspace)
    assert played(lane, workspace, name="cycle-2.p2").sweep == "cycle-2.p2"


def test_an_unfinished_attempt_goes_on(tmp_path, workspace):
    lane = counted(tmp_path, budget__trials=8, batch=2)

    def ended(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        played(lane.waived("Ada", "once"), workspace, watch=ended)
    with pytest.raises(RefusedError):
        played(lane, workspace)
    with pytest.raises(LaneError, match="--waive: queue-1 began otherwise"):
        played(lane.waived("Ada", "twice"), workspace, resume=True)
    closed = played(lane, workspace, resume=True)
    assert closed.sweep == "queue-1" and len(closed.trials) == 8
    assert Lock.read(closed.lock).lane_document["waiver"] == {"who": "Ada", "why": "once"}


def test_an_attempt_has_no_more_trials_than_its_budget(tmp_path):
    lane = counted(tmp_path)
    assert lane.with_search(trials=1).document["budget"]["trials"] == 1
    with pytest.raises(LaneError, match="3 trials: it states /attempts, and an attempt has at most 2"):
        lane.with_search(trials=3)
    assert lane.waived("Ada", "wider").with_search(trials=3).document["budget"]["trials"] == 3


def test_a_waiver_is_never_a_lanes_own(tmp_path):
    with pytest.raises(LaneError, match="/waiver: a waiver is given to one sweep"):
        counted(tmp_path, waiver={"who": "me", "why": "always"})
    with pytest.raises(LaneError, match="states no /attempts"):
        lane_with(tmp_path).waived("me", "whatever")


def test_a_single_trial_is_the_enqueued_candidate(tmp_path, workspace):
    row = {"servers": 13, "service": 1.25}
    closed = played(counted(tmp_path, budget__trials=1, enqueue=[row]), workspace)
    assert [dict(trial.values) for trial in closed.trials] == [row] and closed.start is None
    closed = played(counted(tmp_path, id="two", budget__trials=2, enqueue=[row]), workspace)
    assert [dict(trial.values) for trial in closed.trials] == [closed.ground.lane.space.start, row]
    closed = played(counted(tmp_path, id="bare", budget__trials=1), workspace)
    assert [dict(trial.values) for trial in closed.trials] == [closed.ground.lane.space.start]


def test_at_the_command_line(tmp_path, here):
    lane, root = tmp_path / "lane.json", tmp_path / "w"
    played(counted(tmp_path), Workspace.at(root))
    code, out, err = here("sweep", lane, workspace=root)
    assert code == 1 and out.startswith("REFUSED  ") and "Traceback" not in err
    assert "queue-1" in out and "--waive WHO --why TEXT" in out
    refused(here("sweep", lane, "--trials", 9, "--quiet", workspace=root), "9 trials", "--waive WHO --why TEXT")
    for half in (("--waive", "Ada"), ("--why", "because")):
        refused(here("sweep", lane, *half, workspace=root), "--waive WHO and --why TEXT belong together")
    whole = ("--waive", "Ada", "--why", "because", "--trials", 3)
    assert here("sweep", lane, *whole, "--quiet", workspace=root)[0] in (0, 1)
    code, out, _ = here("lock", "show", "queue-2", workspace=root)
    assert code == 0 and "Ada: because" in out
    assert tracked(root) == ["Ada: because"]


def tracked(root):
    """Returns the waivers that tracking holds, oldest first."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    runs = client.search_runs([row.experiment_id for row in client.search_experiments()])
    return [run.data.tags["lanelock.waiver"] for run in runs if "lanelock.waiver" in run.data.tags]


def test_what_a_sweep_began_with_is_not_replaced(tmp_path, workspace):
    lane = lane_with(tmp_path, budget__trials=2, batch=2)
    played(lane.with_search(sampler="random"), workspace)
    for option, asked in (("--sampler", {"sampler": "grid"}), ("--batch", {"batch": 1})):
        with pytest.raises(LaneError, match=f"{option} .*: queue-1 began with .*; {option} belongs to a new sweep"):
            played(lane, workspace, resume=True, beginning=Beginning(**asked))
    with pytest.raises(LaneError, match=r"--world .*: queue-1 began with the engine.s own"):
        played(lane, workspace, resume=True, beginning=Beginning(world=tmp_path))
    same = Beginning(sampler="random", batch=2)
    assert played(lane.with_search(trials=4), workspace, resume=True, beginning=same).sweep == "queue-1"


def test_a_sweep_goes_on_with_its_own_world(tmp_path, workspace):
    class Begun:
        def attributes(self, name):
            return {"lane": lane.document, "world": workspace.as_kept(workspace.root / "world")}

    lane, own = lane_with(tmp_path), workspace.root / "world"
    _check_beginning(Begun(), lane, "queue-1", Beginning(world=own / ".." / "world"), workspace)
    with pytest.raises(LaneError, match=r"--world .*: queue-1 began with .*world and is continued so"):
        _check_beginning(Begun(), lane, "queue-1", Beginning(world=tmp_path), workspace)


def test_an_option_beside_resume_is_refused_at_the_command_line(tmp_path, here):
    lane, root = tmp_path / "lane.json", tmp_path / "w"
    played(lane_with(tmp_path, budget__trials=2), Workspace.at(root))
    (tmp_path / "list.json").write_text("[]")
    for option, value in (
        ("--sampler", "grid"), ("--batch", 2), ("--world", tmp_path), ("--sobol", 4),
        ("--enqueue", tmp_path / "list.json"), ("--from", "queue-1"),
    ):  # fmt: skip
        refused(here("sweep", lane, "--resume", option, value, workspace=root), option, "belongs to a new sweep")
