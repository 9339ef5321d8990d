"""`compare` ends with the side that is preferred, and why: for trials of one lane, as the lane itself ranks them."""

import itertools
import json

import pytest
from lanes import lane_with

from lanelock.scoring.scorecard import score
from lanelock.sweeps.decision.decision import ranking
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.reports.difference import compare
from lanelock.sweeps.reports.preference import _by_verdict, prefer
from lanelock.sweeps.reports.subject import find, settled
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    return place, play(lane_with(place.root, racing=False), place, track=False)


def preference(a, b, place):
    old, new = (find(str(name), place, None) for name in (a, b))
    old = settled(old, new, ())
    return compare(old, settled(new, old, ())).preference


def test_of_any_two_trials_the_lanes_own_ranking_says_which(closed):
    place, done = closed
    of = recorded("queue-1", place)
    ranked = ranking(done.trials, Ledger(of.ground()))
    sides = {trial.number: find(f"queue-1/{trial.number}", place, None) for trial in ranked}
    for ahead, behind in itertools.combinations(ranked, 2):
        pair = [sides[trial.number] for trial in (ahead, behind)]
        said = prefer(*pair, (), of.lane.gates.bands)
        assert said == prefer(*pair[::-1], (), of.lane.gates.bands), "in either order"
        tie = said.preferred is None
        assert tie or said.preferred == pair[0].name, said
        assert not tie or ahead.objectives == behind.objectives
        assert "it comes first" not in said.because, "there is always a fact"


def test_why_is_what_separates_them(closed):
    place, done = closed
    of = recorded("queue-1", place)
    ledger = Ledger(of.ground())
    best = done.decision.best.number
    vetoed = next(trial.number for trial in done.trials if ledger.vetoed(trial))
    below = next(t.number for t in done.trials if not ledger.vetoed(t) and ledger.band(t) is None)
    said = preference(f"queue-1/{vetoed}", f"queue-1/{below}", place)
    assert said.preferred == f"queue-1/{below}" and said.because.endswith("crowd ended the other")
    met = preference(f"queue-1/{below}", f"queue-1/{best}", place)
    assert met.preferred == f"queue-1/{best}" and "it meets band" in met.because
    rival = next(t for t in ranking(done.trials, ledger)[1:] if t.objectives[1] > done.decision.best.objectives[1])
    assert " servers " in preference(f"queue-1/{best}", f"queue-1/{rival.number}", place).because


def test_a_lock_and_its_own_trial_are_equal(closed):
    place, done = closed
    said = preference("queue-1", f"queue-1/{done.decision.best.number}", place)
    assert said.preferred is None and said.because.startswith("by the order of lane queue they are equal: margin ")


def test_without_one_rule_it_is_the_verdict_then_a_veto_then_the_margin(closed, tmp_path):
    place, done = closed
    play(lane_with(tmp_path, id="steady", decision__margin_reserve=0.1), place, track=False)
    said = preference("queue-1", "steady-1", place)
    assert not said.because.startswith("by the order"), "the two lanes reserve differently"
    gates, best = done.ledger.ground.lane.gates, done.decision.best
    good = done.ledger.overall(best)
    bad = next(card for t in done.trials if (card := done.ledger.overall(t)).vetoed)
    plain = next(card for t in done.trials if not (card := done.ledger.overall(t)).vetoed and not card.verdict.passed)
    assert str(_by_verdict(("a", "b"), (bad, good), "B+")) == f"b: {good.verdict} against FAIL"
    assert str(_by_verdict(("a", "b"), (plain, bad), "B+")) == "a: both are FAIL, and the other is vetoed by crowd"
    assert str(_by_verdict(("a", "b"), (good, good), "B+")).startswith(f"neither: both are {good.verdict}, with the")
    slower = {**plain.metrics, "q1/served_at_once": 0.9 * plain.metrics["q1/served_at_once"]}
    slower["q1/wait_p90"] *= 1.01
    far = score(slower, gates, seed=None, authority=None)
    assert str(_by_verdict(("a", "b"), (far, plain), "B+")).startswith("b: both are FAIL; least margin to B+ ")


def test_it_stands_last_in_the_text_and_first_on_the_page(here, closed, tmp_path):
    place, _ = closed
    call = ("compare", "queue-1/0", "queue-1/1")
    stated = json.loads(here(*call, "--json", workspace=place.root)[1])
    assert stated["preferred"] in ("queue-1/0", "queue-1/1") and stated["because"].startswith("by the order of lane")
    text = here(*call, "--html", tmp_path / "page.html", workspace=place.root)[1]
    line = f"{stated['preferred']}: {stated['because']}"
    assert text.split("\n\npage ")[0].endswith(f"\npreferred  {line}")
    page = (tmp_path / "page.html").read_text()
    first = page.index(f"preferred: {stated['preferred']}")
    assert first < page.index(stated["because"]) < page.index("Gates, side by side"), "a reader looks for it first"
