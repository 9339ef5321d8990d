"""What a sweep does with its budget: its beginning, the race, failures, its end, and why it takes its candidate."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from lanes import QUEUE, lane_with, leaky_lane
from queue_engine import ENGINE, LeakyEngine, QueueEngine

from lanelock.engine.resolved import Resolved
from lanelock.policies import LaneError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.sweeps.decision.aim import Aim
from lanelock.sweeps.decision.decision import decide, ranking
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.decision.stopping import distance
from lanelock.sweeps.lanes.lane import Objective, load_lane
from lanelock.sweeps.proof.chosen import lock_trial
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.reports.subject import find
from lanelock.sweeps.search.beginning import Beginning, first_of
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


FEW = {
    "id": "few", "metric": "q1/servers", "comparison": "<=", "severity": "gate",
    "thresholds": {"B": 12, "B+": 10}, "scale": 10, "why": "Servers cost.",
}  # fmt: skip


def played(lane, workspace, **more):
    return play(lane, workspace, track=False, **more)


def trials(closed):
    return [
        (row.number, dict(row.values), row.objectives, row.record.failure, row.record.stopped) for row in closed.trials
    ]


class Faulty(LeakyEngine):
    """Breaks down wherever its servers are slow."""

    fails = (0.0, 1.0)


class Silent(Faulty):
    def evaluate(self, pack, seed):
        return None if pack["queue_policy_v1"]["service"] < self.fails[1] else QueueEngine.evaluate(self, pack, seed)


class Leaving(Faulty):
    def evaluate(self, pack, seed):
        if pack["queue_policy_v1"]["service"] < self.fails[1]:
            raise SystemExit(3)
        return QueueEngine.evaluate(self, pack, seed)


def broken(lane, engine):
    return replace(lane, engine=Resolved(engine))


# --- the beginning ------------------------------------------------------------------------------------------


@pytest.mark.plan("P2.1.3")
def test_the_first_trial_is_the_authority_and_the_close_is_never_worse(tmp_path, workspace):
    closed = played(lane_with(tmp_path), workspace)
    start = closed.start
    assert start.number == 0 and dict(start.values) == closed.ground.lane.space.start
    ranked = [row.number for row in ranking(closed.trials, closed.ledger)]
    assert ranked.index(closed.decision.best.number) <= ranked.index(0)


def test_enqueued_candidates_follow_the_start(tmp_path, workspace):
    file = tmp_path / "first.csv"
    file.write_text("servers,service\n9,1.25\n18,0.75\n")
    lane = lane_with(tmp_path, enqueue=[{"servers": 11}])
    closed = played(lane, workspace, beginning=Beginning(enqueue=file))
    rest = lane.space.start["service"]
    assert [dict(row.values) for row in closed.trials[1:4]] == [
        {"servers": 11, "service": rest}, {"servers": 9, "service": 1.25}, {"servers": 18, "service": 0.75},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", f"servers\n{'9' * 400}\n", "row 1: servers: '999"),
        ("a.json", f'[{{"servers": {"9" * 400}}}]', "/0/servers: a whole number"),
    ],
)
def test_a_candidate_with_a_number_too_long_for_a_float_is_refused(tmp_path, name, text, why):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises((LaneError, PolicyError), match=f"{name}: {why}"):
        lane_with(tmp_path).enqueued(file)


def test_an_earlier_sweep_is_taken_over_without_running_it_again(tmp_path, workspace):
    first = played(lane_with(tmp_path, budget={"trials": 12, "seconds": 60}), workspace)
    lane = lane_with(tmp_path, id="again", decision__margin_reserve=0.1, budget={"trials": 8, "seconds": 60})
    closed = played(lane, workspace, beginning=Beginning(source=first.sweep))
    taken = [row for row in closed.trials if not row.paid]
    assert [row.record.source for row in taken] == [f"{first.sweep}/{row.number}" for row in first.trials]
    assert [dict(row.record.measures) for row in taken] == [dict(row.record.measures) for row in first.trials]
    assert len(closed.trials) == len(taken) + 8, "they are free of budget"
    complete = {tuple(row.values.items()) for row in taken if closed.ledger.complete(row)}
    assert complete and not complete & {tuple(row.values.items()) for row in closed.trials if row.paid}
    assert all(check.ok for check in verify_lock(closed.lock))


def test_a_sweep_of_other_code_gives_candidates_but_no_measurements(tmp_path, workspace):
    first = played(lane_with(tmp_path, budget={"trials": 12, "seconds": 60}), workspace)
    lane = lane_with(tmp_path)

    class Newer(QueueEngine):
        code_version = "f" * 64

    lane = broken(lane, Newer())
    with pytest.raises(LaneError, match=r"--resume: queue-1 was played by engine code .* installed is ffff"):
        played(lane, workspace, resume=True)
    with pytest.raises(LaneError, match="its measurements do not count here"):
        played(lane, workspace, beginning=Beginning(source=first.sweep))
    closed = played(lane, workspace, resume=True, beginning=Beginning(other_code=True))
    assert closed.sweep == "queue-2" and all(row.paid for row in closed.trials)
    best = dict(first.decision.best.values)
    assert best in [dict(row.values) for row in closed.trials[:10]], "its best candidates are run again first"
    assert Studies(workspace.study_storage).attributes("queue-2")["from"] == "queue-1"


def test_an_earlier_sweep_of_other_seeds_counts_on_those_in_common(tmp_path, workspace):
    few = {"trials": 8, "seconds": 60}
    first = played(lane_with(tmp_path, budget=few, racing=False), workspace)
    lane = lane_with(tmp_path, id="again", seeds=[2, 3, 9], budget=few)
    closed = play(lane, workspace, beginning=Beginning(source=first.sweep))  # tracked: its worlds are recorded
    taken = [row for row in closed.trials if not row.paid]
    assert taken and all({*row.record.measures} == {*row.record.worlds} <= {2, 3} for row in taken)
    assert all({*row.record.measures} == {2, 3, 9} for row in closed.trials if closed.ledger.complete(row))


def test_a_sweep_on_another_world_gives_no_measurements(tmp_path, workspace):
    first = played(lane_with(tmp_path, budget={"trials": 4, "seconds": 60}), workspace)
    lane = lane_with(tmp_path)
    ground = replace(first.ground, lane=lane, world=tmp_path)
    with pytest.raises(LaneError, match=r"queue-1: it was played on another world \(the engine's own, this lane"):
        first_of(ground, Beginning(source=first.sweep), Studies(workspace.study_storage), workspace)


def test_a_sweep_goes_on_from_what_it_began_with(tmp_path, workspace):
    few = {"trials": 4, "seconds": 60}
    first = played(lane_with(tmp_path, budget=few), workspace)
    lane = lane_with(tmp_path, id="again", budget=few)
    played(lane, workspace)
    with pytest.raises(LaneError, match="--from queue-1: again-1 began without it"):
        played(lane, workspace, resume=True, beginning=Beginning(source=first.sweep))


def test_a_smaller_budget_forgets_no_trial(tmp_path, workspace):
    whole = played(lane_with(tmp_path, budget={"trials": 12, "seconds": 60}), workspace)
    with pytest.raises(LaneError, match=r"/budget/trials: 2, but queue-1 has run 12 trials"):
        played(lane_with(tmp_path, budget={"trials": 2, "seconds": 60}), workspace, resume=True)
    again = played(lane_with(tmp_path, budget={"trials": 12, "seconds": 60}), workspace, resume=True)
    assert trials(again) == trials(whole)
    assert again.decision.best.number == whole.decision.best.number


def test_libraries_and_gates_are_part_of_what_a_sweep_was_played_by(tmp_path, workspace, monkeypatch):
    from lanelock.sweeps.search import played_by

    played(lane_with(tmp_path, budget={"trials": 4, "seconds": 60}), workspace)
    monkeypatch.setattr(played_by, "version", lambda name: "0.1")
    with pytest.raises(LaneError, match=r"played by numpy .*, installed is 0\.1"):
        played(lane_with(tmp_path), workspace, resume=True)


# --- racing -------------------------------------------------------------------------------------------------


def test_racing_saves_runs_and_takes_no_trial_that_lacks_a_seed(tmp_path, workspace):
    raced = played(lane_with(tmp_path), workspace)
    whole = played(lane_with(tmp_path, racing=False), Workspace.at(tmp_path / "whole"))
    runs = [sum(len(row.record.measures) for row in closed.trials) for closed in (raced, whole)]
    assert runs[0] < runs[1] and not any(row.record.stopped for row in whole.trials)
    behind = [row for row in raced.trials if row.record.stopped]
    assert behind and all(raced.ledger.state(row) == "behind" and len(row.record.measures) < 3 for row in behind)
    assert len(raced.decision.best.record.measures) == 3
    servers = [closed.decision.best.objectives[1] for closed in (raced, whole)]
    assert servers[0] == servers[1], "the decision is the same"


def test_a_stopped_trial_says_by_what_it_was_behind(tmp_path, workspace):
    closed = played(lane_with(tmp_path), workspace)
    by_number = {row.number: row for row in closed.trials}
    for row in (row for row in closed.trials if row.record.stopped):
        seed, best = int(row.record.stopped.split()[1].rstrip(":")), int(row.record.stopped.split()[-1])
        ours, theirs = (closed.ledger.cards(by_number[number])[seed] for number in (row.number, best))
        assert (
            ours.margin("B+") < max(0.05, theirs.margin("B+"))
            or ours.metrics["q1/servers"] > theirs.metrics["q1/servers"]
        )


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.plan("P1.2A.5")
@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Faulty(), "seed {}: RuntimeError: pump burst"),
        (Silent(), "seed {}: the engine returned NoneType instead of a run"),
        (Leaving(), "seed {}: SystemExit: 3"),
    ],
)
def test_a_failing_trial_has_its_reason_and_the_sweep_goes_on(tmp_path, workspace, engine, reason):
    closed = played(broken(lane_with(tmp_path), engine), workspace)
    failed = [row for row in closed.trials if row.failed]
    assert failed and closed.decision.outcome == "GO" and len(closed.trials) == 24
    for row in failed:
        assert row.values["service"] < 1.0 and row.objectives is None
        assert row.record.failure in {reason.format(seed) for seed in (1, 2, 3)}
    frozen = Studies(workspace.study_storage).transcript(closed.sweep).trials
    assert [row.failed for row in frozen] == [row.failed for row in closed.trials]


def test_the_search_learns_where_it_fails(tmp_path, workspace):
    lane = broken(lane_with(tmp_path, budget={"trials": 40, "seconds": 60}), Faulty())
    closed = played(lane, workspace)
    failed = [row.failed for row in closed.trials]
    assert sum(failed[20:]) < sum(failed[:20])


def test_a_lane_that_always_fails_ends_and_names_the_reason(tmp_path, workspace):
    lane = lane_with(
        tmp_path, knobs__service={"at": "queue_policy_v1#/service", "low": 0.6, "high": 0.9},
        budget={"trials": 24, "seconds": 60, "max_failures": 8},
    )  # fmt: skip

    class Later(Faulty):
        """Works for the authority, and fails for every candidate."""

        def evaluate(self, pack, seed):
            if 0.6 <= pack["queue_policy_v1"]["service"] <= 0.9:
                raise RuntimeError("pump burst")
            return QueueEngine.evaluate(self, pack, seed)

    closed = played(broken(lane, Later()), workspace)
    assert len(closed.trials) == 8 and closed.decision.outcome == "NO_GO"
    assert "the last 8 trials failed: seed 1: RuntimeError: pump burst" in closed.stopped_by
    assert "every trial failed" in closed.decision.reason and "pump burst" in closed.decision.reason
    lock = Lock.read(closed.lock)
    assert lock.trial is None and lock.candidate_pack.digest == lane.authority.digest, "nothing else ran"


def test_a_metric_that_is_not_a_number_fails_the_trial(tmp_path, workspace, monkeypatch):
    lane = lane_with(tmp_path)
    measure = lane.metrics.measure

    class Blind:
        name, gates_file = lane.metrics.name, lane.metrics.gates_file

        def measure(self, run):
            many = run.pack["queue_policy_v1"]["servers"] > 14
            return {**measure(run), **({"q1/wait_p90": math.nan} if many else {})}

    closed = played(replace(lane, metrics=Blind()), workspace)
    failed = {row.record.failure for row in closed.trials if row.failed}
    assert failed and failed <= {f"seed {seed}: q1/wait_p90 is missing or not finite" for seed in (1, 2, 3)}
    assert closed.decision.outcome == "GO"


class Wordless(Faulty):
    def evaluate(self, pack, seed):
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError

        if pack["queue_policy_v1"]["service"] < self.fails[1]:
            raise Mute
        return QueueEngine.evaluate(self, pack, seed)


def test_an_error_that_cannot_say_what_it_is_fails_its_trial_alone(tmp_path, workspace):
    closed = played(broken(lane_with(tmp_path), Wordless()), workspace)
    failed = [row.record.failure for row in closed.trials if row.failed]
    assert failed and all(reason.endswith(": Mute") for reason in failed) and closed.decision.outcome == "GO"


class Dead(QueueEngine):
    def evaluate(self, pack, seed):
        raise RuntimeError("no water\nat all")


def test_an_authority_that_cannot_be_run_is_one_line(tmp_path, workspace):
    with pytest.raises(
        LaneError, match=r"lane queue: the engine cannot run the authority pack: RuntimeError: no water$"
    ):
        played(broken(lane_with(tmp_path), Dead()), workspace)


def measuring(lane, change):
    class Changed:
        name, gates_file = lane.metrics.name, lane.metrics.gates_file

        def measure(self, run):
            return change(run, lane.metrics.measure(run))

    return replace(lane, metrics=Changed())


def test_numbers_of_numpy_are_recorded_as_numbers(tmp_path, workspace):
    lane = lane_with(tmp_path, budget={"trials": 4, "seconds": 60})
    narrow = measuring(lane, lambda run, found: {name: np.float32(value) for name, value in found.items()})
    cards = [card for row in played(narrow, workspace).trials for card in row.record.measures.values()]
    assert {type(value) for card in cards for value in card.values()} == {float}


@pytest.mark.parametrize(
    ("metric", "why"),
    [(math.nan, "is not measured, and does not hold B"), ("raise", "SystemExit: 4")],
)
def test_a_candidate_that_fails_on_a_fresh_seed_is_passed_over(tmp_path, workspace, metric, why):
    def fresh(run, found):
        if run.seed > 3 and metric == "raise":
            raise SystemExit(4)
        return {**found, **({"q1/wait_p90": metric} if run.seed > 3 else {})}

    lane = lane_with(tmp_path, decision__confirm_seeds=2, budget={"trials": 12, "seconds": 60})
    closed = played(measuring(lane, fresh), workspace)
    assert closed.decision.outcome == "NO_GO" and why in closed.decision.reason


def test_a_failed_trial_says_why_it_is_neither_compared_nor_locked(tmp_path, workspace):
    closed = played(load_lane(str(leaky_lane(tmp_path, budget={"trials": 8, "seconds": 60}))), workspace)
    row = next(row for row in closed.trials if row.failed)
    name, why = f"{closed.sweep}/{row.number}", "seed 1: RuntimeError: pump burst"
    with pytest.raises(PolicyError, match=f"{name}: the trial failed, so it has no result: {why}"):
        find(name, workspace, None)
    assert lock_trial(closed.sweep, row.number, "I like it", workspace).refusals == (f"it failed: {why}",)


# --- nothing twice, and the end -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["surrogate", "tpe", "nsga2", "cmaes", "random", "grid", "qmc"])
def test_no_candidate_is_paid_twice_and_a_spent_space_closes_the_sweep(tmp_path, workspace, sampler):
    knobs = {"servers": {"at": "queue_policy_v1#/servers", "low": 8, "high": 14}}
    closed = played(lane_with(tmp_path, knobs=knobs, sampler__name=sampler), workspace)
    tried = [row.values["servers"] for row in closed.trials]
    assert len(set(tried)) == len(tried), "each once"
    assert sampler == "grid" or sorted(tried) == list(range(8, 15))
    assert closed.stopped_by == f"the space is spent: all {len(tried)} candidates were tried"


def test_it_stops_at_a_target_without_patience_and_at_a_proven_optimum(tmp_path):
    def stop(name, **changed):
        return played(lane_with(tmp_path, **changed), Workspace.at(tmp_path / name))

    target = stop("target", stop={"target": 12})
    assert target.decision.best.objectives[1] <= 12 and "the target is reached: servers" in target.stopped_by
    assert len(target.trials) < 24
    idle = stop("idle", stop={"patience": 4})
    assert "no improvement of servers by more than 1 % in the last 4 trials" in idle.stopped_by
    assert len(idle.trials) < 24
    only_margin = [{"name": "margin", "direction": "maximize", "worst_margin": "B+"}]
    most = stop("optimum", objectives=only_margin, gates={"grade": ["crowd"], "rails": [FEW]})
    assert most.stopped_by == "the proven optimum is reached: margin 0.4 of at most 0.4: 0 % left"
    assert len(most.trials) < 24 and most.decision.best.values["servers"] == 6


def test_a_bound_of_nearly_nothing_is_given_without_a_percentage():
    cost = Objective("cost", False, None, "x/cost")
    assert distance(0.005, -1e-12, cost) == "cost 0.005 of at least -1e-12"
    assert distance(0.006, 0.004, cost) == "cost 0.006 of at least 0.004: 50 % left"
    assert distance(0.0, 0.0, cost).endswith(": 0 % left")


# --- the decision in words ------------------------------------------------------------------------------------


def test_the_decision_says_among_how_many_by_which_rule_and_what_comes_next(tmp_path, workspace):
    closed = played(lane_with(tmp_path), workspace)
    decision, ledger = closed.decision, closed.ledger
    rivals = [
        row for row in closed.trials
        if ledger.acceptable(row) and ledger.band(row) == "B+" and row.objectives[0] >= 0.05
    ]  # fmt: skip
    best, runner_up = decision.best, decision.runner_up
    assert f"of {len(rivals)} candidates that hold B+ with margin >= 0.05, the least servers" in decision.reason
    assert f"(trial {best.number})" in decision.reason and f"(trial {runner_up.trial})" in decision.reason
    assert min(row.objectives[1] for row in rivals) == best.objectives[1]
    assert Lock.read(closed.lock).because == decision.reason


def test_a_decision_without_the_runner_up_says_so_and_passing_over_gives_the_next(tmp_path, workspace):
    closed = played(lane_with(tmp_path), workspace)
    again = decide(closed.trials, closed.ledger, {closed.decision.best.number: "trial 3 was passed over: rain"})
    assert again.best.number == closed.decision.runner_up.trial
    assert again.reason.endswith("trial 3 was passed over: rain")
    alone = decide([closed.decision.best], closed.ledger)
    assert alone.runner_up is None and "the only candidate to hold B+ with margin >= 0.05" in alone.reason


# --- fresh seeds ------------------------------------------------------------------------------------------------


def test_a_candidate_is_confirmed_on_fresh_seeds_before_it_is_locked(tmp_path, workspace):
    closed = played(lane_with(tmp_path, decision__confirm_seeds=6), workspace)
    lock = Lock.read(closed.lock)
    assert closed.decision.outcome == "GO" and lock.confirmation.band is not None
    assert len(lock.confirmation.metrics) == 6 and not set(lock.confirmation.metrics) & set(lock.seeds)
    for seed, metrics in lock.confirmation.metrics.items():
        run = closed.ground.lane.engine.evaluate(lock.pack(), seed, until="Q1")
        assert closed.ground.lane.measure(run) == metrics
    assert all(check.ok for check in verify_lock(closed.lock))
    document = {**lock.document, "confirmation": {**lock.document["confirmation"], "band": "B"}}
    if lock.confirmation.band != "B":
        forged = tmp_path / "forged.json"
        body = {key: value for key, value in document.items() if key != "lock_id"}
        from lanelock.policies.documents import digest

        forged.write_text(json.dumps({**body, "lock_id": digest(body)}))
        assert [check.name for check in verify_lock(forged) if not check.ok] == ["band on fresh seeds"]


def test_one_that_holds_on_the_lanes_seeds_alone_is_passed_over(tmp_path, workspace):
    class Lucky(QueueEngine):
        """Serves worse on every seed but the lane's while it has few servers."""

        code_version = "1" * 64

        def evaluate(self, pack, seed):
            if seed > 3 and pack["queue_policy_v1"]["servers"] < 12:
                pack = pack.with_knobs({"queue_policy_v1#/servers": 5})
            run = QueueEngine.evaluate(self, pack, seed)
            return run

    lane = broken(lane_with(tmp_path, decision__confirm_seeds=3), Lucky())
    closed = played(lane, workspace)
    assert closed.decision.outcome == "GO" and closed.decision.best.values["servers"] >= 12
    assert "was passed over: fresh seed" in closed.decision.reason
    without = played(broken(lane_with(tmp_path), Lucky()), Workspace.at(tmp_path / "other"))
    assert without.decision.best.values["servers"] < 12


# --- an aim without a margin --------------------------------------------------------------------------------------


SERVERS = {"name": "servers", "direction": "minimize", "metric": "q1/servers"}
WAIT = {"name": "wait", "direction": "minimize", "metric": "q1/wait_p90"}


@pytest.mark.parametrize("sampler", ["surrogate", "tpe", "nsga2", "cmaes"])
def test_the_band_comes_before_an_objective_that_is_no_margin(tmp_path, workspace, sampler):
    """Fewest servers are 6, which no service makes hold a band: neither race nor stop nor sampler may end there."""
    closed = played(lane_with(tmp_path, objectives=[SERVERS], sampler__name=sampler), workspace)
    assert closed.decision.outcome == "GO" and closed.ledger.band(closed.decision.best) == "B+"
    assert closed.stopped_by == "the budget of 24 trials is spent"
    if sampler == "surrogate":
        assert closed.decision.best.values["servers"] <= 9


def test_the_reserve_of_a_first_objective_to_be_minimised_is_an_upper_end(tmp_path, workspace):
    closed = played(lane_with(tmp_path, objectives=[WAIT, SERVERS], decision__margin_reserve=0.2), workspace)
    assert reserve_of(closed.trials, closed.ledger).value == -0.2
    assert "with wait <= 0.2, the least servers" in closed.decision.reason
    assert closed.decision.best.objectives[0] <= 0.2


@pytest.mark.parametrize(
    ("objectives", "why"),
    [
        ([SERVERS, {**WAIT, "name": "servers"}], "/objectives: two of them are named servers"),
        ([{**SERVERS, "metric": "q1/none"}], "'q1/none' is not one of the gate file's metrics"),
        ([{"name": "m", "direction": "minimize", "worst_margin": "B"}], "/objectives/m: a margin is to be maximized"),
    ],
)
def test_objectives_that_cannot_be_meant_are_refused(tmp_path, objectives, why):
    with pytest.raises(LaneError, match=why):
        lane_with(tmp_path, objectives=objectives)


def test_a_veto_may_have_any_name(tmp_path, workspace):
    rail = {**FEW, "id": "reserve", "severity": "veto", "thresholds": {"B": 16, "B+": 16}}
    lane = lane_with(tmp_path, gates__rails=[rail])
    closed = played(lane, workspace)
    aim = Aim.of(closed.trials, closed.ledger, 0.05)
    vetoed = next(row for row in closed.trials if row.constraints["reserve"] > 0)
    assert aim.constraints(vetoed, closed.ledger).items() > vetoed.constraints.items()


# --- the reserve ------------------------------------------------------------------------------------------------


def test_a_reserve_beyond_the_proven_ceiling_is_cut_to_it(tmp_path, workspace):
    lane = lane_with(tmp_path, gates__rails=[FEW], decision__margin_reserve=0.9)
    closed = played(lane, workspace)
    reserve = reserve_of(closed.trials, closed.ledger)
    assert reserve.asked == 0.9 and reserve.capped and reserve.ceiling.gate == "few"
    assert reserve.value == pytest.approx((10 - 6) / 10) and reserve.value < reserve.ceiling.value


def test_a_reserve_by_coverage_follows_from_the_spread_over_seeds(tmp_path, workspace):
    decision = {"accept_band": "B", "reserve": {"coverage": 0.95, "confidence": 0.9}}
    closed = played(lane_with(tmp_path, decision=decision), workspace)
    reserve = reserve_of(closed.trials, closed.ledger)
    assert reserve.value > 0 and "0.95 of all seeds with confidence 0.9" in reserve.why
    assert closed.decision.best.objectives[0] >= reserve.value
    with pytest.raises(LaneError, match="has a single seed"):
        lane_with(tmp_path, decision=decision, seeds=[1])


# --- the shipped cases --------------------------------------------------------------------------------------------


CASES = {
    "strength": ({"low": 0, "high": 1}, None),
    "strength_step": ({"low": 0, "high": 1, "step": 0.25}, 5),
    "knee": ({"low": 3, "high": 12, "step": 1.5}, 7),
}


@pytest.mark.parametrize("name", CASES)
def test_a_knobs_type_comes_from_the_policy(tmp_path, name):
    row, size = CASES[name]
    field = {"strength": "regularization_strength", "knee": "knee"}[name.partition("_")[0]]
    document = read_json(QUEUE / "lane.json") | {
        "engine": "segment_2b", "authority": "p3_wide", "until": "S4", "seeds": [42], "fixed": {
            "group_mix_regularizer_v1#/enabled": True, "group_mix_regularizer_v1#/law": "smooth_soft_cap_v1",
        },
        "gates": {"grade": ["s4_max_p", "s4_tail"], "rails": []},
        "objectives": [{"name": "margin", "direction": "maximize", "worst_margin": "B+"}],
        "knobs": {"moved": {"at": f"group_mix_regularizer_v1#/{field}", **row}},
    }  # fmt: skip
    path = tmp_path / "lane.json"
    path.write_text(json.dumps(document))
    space = load_lane(str(path)).space
    assert space.size() == size
    drawn = [values["moved"] for values in space.design(8 if size is None else size, 1)]
    assert len(set(drawn)) == len(drawn) and all(len(repr(value)) < 12 for value in drawn)


def test_random_kills_leave_the_same_trials_where_trials_fail(tmp_path):
    """In one process: a sweep that is cut at random moments and resumed, against one that is not."""
    whole = played(broken(lane_with(tmp_path), Faulty()), Workspace.at(tmp_path / "whole"))
    draw = random.Random(3)
    workspace = Workspace.at(tmp_path / "cut")

    class Cut(Faulty):
        left = 0

        def evaluate(self, pack, seed):
            Cut.left -= 1
            if Cut.left < 0:
                raise KeyboardInterrupt
            return super().evaluate(pack, seed)

    for attempt in range(60):
        Cut.left = draw.randrange(4, 16)
        try:
            closed = played(broken(lane_with(tmp_path), Cut()), workspace, resume=attempt > 0)
            break
        except KeyboardInterrupt:
            continue
        except LaneError:
            continue  # cut before the study began
    assert trials(closed) == trials(whole) and any(row.failed for row in whole.trials)


def test_a_sampler_of_ones_own_is_an_entry_point(tmp_path, workspace):
    own = played(lane_with(tmp_path, sampler__name="evenly"), workspace)
    usual = played(lane_with(tmp_path, sampler__name="random"), Workspace.at(tmp_path / "usual"))
    assert trials(own) == trials(usual)


def test_the_engine_of_these_tests_is_the_installed_one():
    assert ENGINE.evaluate.__func__ is QueueEngine.evaluate
