"""The bench of the search: its judge, its tables, that it goes on where it was, and that it runs."""

import math
import subprocess
import sys

import pytest
from bench_search import contestants, optima, report, tables
from bench_search.judge import compared, judge
from bench_search.problem import Point, open_problem
from bench_search.product import play_product
from bench_search.results import Result, newest, results, tasks
from conftest import ROOT, child_environment


def point(cost, violation=0.0, *more):
    return Point({}, (cost, *more), {"limit": violation})


def result(contestant, seed, last, problem="welded_beam"):
    return Result(problem, contestant, seed, "stamp", (math.inf, last), 2, 8, 0.01, 0.02, 1.0)


def test_the_judge_takes_the_least_cost_that_is_feasible_on_every_seed():
    history = [point(1.0, 0.1), point(9.0), None, point(7.0), point(8.0), point(math.nan), point(2.0, 1e-12)]
    judged = judge(open_problem("welded_beam"), history)
    assert judged.values == (math.inf, 9.0, 9.0, 7.0, 7.0, 7.0, 7.0) and judged.first_feasible == 2


def test_two_costs_are_judged_by_the_area_they_leave():
    problem = open_problem("c2dtlz2")
    judged = judge(problem, [point(0.1, 1.0, 0.1), point(0.6, 0.0, 0.6), point(0.1, 0.0, 1.0), point(2.0, 0.0, 0.1)])
    assert judged.values[0] == math.inf
    assert problem.optimum - judged.values[1] == pytest.approx(0.5 * 0.5)
    assert problem.optimum - judged.values[2] == pytest.approx(0.5 * 0.5 + 0.5 * 0.1)
    assert judged.values[3] == judged.values[2], "beyond the reference nothing counts"


def test_a_tie_is_a_thousandth_of_the_optimum():
    assert compared(1.0, 1.0009, 1.0) == 0 and compared(math.inf, math.inf, 1.0) == 0
    assert compared(1.0, 1.0011, 1.0) == 1 and compared(1.0011, 1.0, -1.0) == -1
    assert compared(5.0, math.inf, 1.0) == 1 and compared(math.inf, 5.0, 1.0) == -1


@pytest.mark.parametrize("name", ["welded_beam", "pressure_vessel", "speed_reducer", "tension_spring"])
def test_no_candidate_of_the_box_is_below_the_known_optimum(name):
    """The optima as published, from the literature, are feasible there, and too tight under the four seeds."""
    best = {
        "welded_beam": {"h": 0.205730, "l": 3.470489, "t": 9.036624, "b": 0.205730},
        "pressure_vessel": {"shell": 0.8125, "head": 0.4375, "radius": 42.098446, "length": 176.636596},
        "speed_reducer": {
            "face": 3.5, "module": 0.7, "teeth": 17, "first": 7.3, "second": 7.71532, "thin": 3.350215,
            "thick": 5.286655,
        },
        "tension_spring": {"wire": 0.051689, "coil": 0.356718, "turns": 11.288966},
    }[name]  # fmt: skip
    answers = optima.bench_problems.answers(name, best, 1, tightened=False)
    assert answers.pop("cost") == pytest.approx(optima.LITERATURE[name], rel=1e-4)
    assert max(answers.values()) == pytest.approx(1, abs=1e-4)
    found = open_problem(name).measured(best)
    assert not found.feasible and found.costs[0] < optima.UNDER_SEEDS[name]


def test_wins_ties_and_losses_are_paired_by_sampler_seed():
    lanelock, random = contestants.PRODUCT, "random"
    ours = [result(lanelock, 0, 1.8), result(lanelock, 1, math.inf), result(lanelock, 2, 2.5), result(lanelock, 3, 2.0)]
    theirs = [result(random, 2, 2.4), result(random, 1, math.inf), result(random, 0, 1.9)]
    (found,) = tables.fields([*ours, *theirs])
    assert found.against(random) == (1, 1, 1) and found.against("pymoo") == (0, 0, 0)
    assert found.best_peer == random and found.ahead(random) == 1, "medians over each one's own seeds: 2.0 and 2.4"
    assert "| random | 1–1–1 | 1–1–1 |" in tables.duel_table([found])
    assert "2 [1.8, 2.5]" in tables.problem_table(found)
    page = report.page_text([found])
    assert "not behind the best peer's (ahead on 1" in page
    assert "pymoo on welded_beam" in page and "anybody on joint" in page, "what was not played is said"


def test_results_are_read_back_and_what_is_there_is_not_played_again(tmp_path):
    kept = result("random", 0, math.inf)
    assert Result.of(kept.line()) == kept
    file = tmp_path / "results.jsonl"
    file.write_text(f"{kept.line()}\n{result('random', 1, 3.0).line()[:40]}")
    assert results(tmp_path) == (kept,), "a line that a kill cut off is none"
    known = [task.known for task in tasks(["welded_beam"], ["random"], 2, None, tmp_path)]
    assert known == [frozenset({"stamp"}), frozenset()]


def test_the_products_trials_are_judged_as_its_engine_ran_them():
    problem = open_problem("pressure_vessel", trials=6)
    history, asks, runs = play_product(problem, seed=1)
    assert len(history) == len(asks) == 6
    complete = [point for point in history if point is not None]
    assert complete and all(problem.measured(point.values) == point for point in complete)
    assert 4 * len(complete) <= runs <= 24


def test_it_runs_to_its_end_and_goes_on_where_it_was(tmp_path):
    def said():
        command = [sys.executable, "-m", "tests.bench_search", "--quick", "--jobs", "1", "--out", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), cwd=ROOT)
        assert done.returncode == 0 and "failed" not in done.stderr, done.stderr
        return done.stdout

    assert "welded_beam lanelock 1" in said()
    kept = tmp_path / "of_12_trials"
    assert len(results(kept)) == len(newest(kept)) == 8
    page = (kept / "benchmarks.md").read_text()
    assert "| hartmann6_noisy | 12 | -3.303 |" in page and "{" not in page
    for picture in ("progress", "duels"):
        assert (kept / "images" / f"bench_search_{picture}.png").read_bytes().startswith(b"\x89PNG")
    lines = (kept / "results.jsonl").read_text().splitlines()
    (kept / "results.jsonl").write_text("".join(f"{line}\n" for line in lines[:-1]))
    again = said()
    assert sum(again.count(f" {seed}  ") for seed in (0, 1)) == 1, "only the search that was missing is played"
    ours, theirs = results(kept)[-1], Result.of(lines[-1])
    assert (ours.key, ours.values, ours.engine_runs) == (theirs.key, theirs.values, theirs.engine_runs)
