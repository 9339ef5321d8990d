"""Ways back: earned by a material movement, bounded, resumable, and never without an end."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import QUEUE
from small import campaign, everywhere, lane, lane_file, played, question, start

from lanelock.policies import LaneError
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import load_gates
from lanelock.sweeps.campaign.movement import Material
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.workspace import Workspace

GATES = load_gates(str(QUEUE / "gates.json"))
HARD = {"gates__rails": [
    {"id": "few", "metric": "q1/servers", "severity": "gate", "comparison": "<=", "thresholds": {"B": 5}, "why": "No."}
]}  # fmt: skip
SERVERS = {"metric": "q1/servers", "by": 1, "toward": 6}


@pytest.fixture
def place(tmp_path):
    return Workspace.at(tmp_path / "ws")


def reopening(folder, *, by=0.001, at_most=1, **more):
    """A lane that cannot be accepted, and shortens the wait: it may lead back to the lane before it."""
    back = everywhere("end", RETRY={"next": "first", "at_most": at_most, "decision": "GO_FIRST_RETRY"})
    return lane(
        lane_file(folder, "hard", **HARD), then=back, anyway=True,
        material={"metric": "q1/wait_p90", "by": by, "toward": "wait"}, **more,
    )  # fmt: skip


def looping(folder, **more):
    return campaign(
        folder,
        start=start("first"),
        first=lane(lane_file(folder, "few", **HARD), "again", anyway=True, trials=1),
        again=reopening(folder, **more),
    )


@pytest.mark.plan("P1.RO.6", "P1.2A.4")
@pytest.mark.parametrize(
    ("material", "authority", "candidate", "moved", "enough"),
    [
        ({"metric": "q1/servers", "by": 2, "toward": 5}, (9, 8), (7, 7), 2.0, True),
        ({"metric": "q1/servers", "by": 2, "toward": 5}, (9, 8), (7.5, 6), 1.5, False),  # the worst seed counts
        ({"metric": "q1/servers", "by": 2, "toward": 5}, (9, 8), (11, 6), -2.0, False),
        ({"metric": "q1/servers", "by": 2, "toward": 5}, (6, 6), (1, 1), 1.0, False),  # what is past it earns nothing
        ({"metric": "q1/servers", "by": 1, "toward": 5}, (4, 4), (1, 1), 0.0, False),
        ({"metric": "q1/served_at_once", "by": 0.1, "toward": "at_once"}, (0.2, 0.3), (0.3, 0.3), 0.1, True),
        ({"metric": "q1/served_at_once", "by": 0.1, "toward": 0.5}, (0.2, 0.3), (0.1, 0.9), -0.1, False),
        ({"metric": "q1/servers", "by": 1, "toward": 5}, (9, None), (5, 5), None, False),
        ({"metric": "q1/servers", "by": 1, "toward": 5}, (9, 9), (5, None), None, False),
    ],
)
def test_a_movement_counts_the_worst_seed_of_each_side(material, authority, candidate, moved, enough):
    rule = Material.of(material, GATES)
    sides = [
        {seed: {} if value is None else {rule.metric: value} for seed, value in enumerate(side)}
        for side in (authority, candidate)
    ]
    movement = rule.moved(*sides)
    assert movement.moved == (None if moved is None else pytest.approx(moved)) and movement.enough == enough
    assert ("immaterial" in str(movement)) == (not enough and moved is not None)


@pytest.mark.plan("P1.RO.6")
def test_a_material_movement_goes_back_with_its_candidate_until_it_was_taken_as_often_as_it_may(tmp_path, place):
    records = played(looping(tmp_path), place).records
    assert [row.phase for row in records] == ["start", "first", "again", "first", "again", "end"]
    first, second = records[2], records[4]
    assert (first.outcome, first.decision, first.carried) == ("RETRY", "GO_FIRST_RETRY", "candidate")
    assert first.movement.enough and "material (at least 0.001)" in first.reason
    assert records[3].authority["digest"] == first.holder.pack.digest, "the way back starts from what was reopened"
    assert second.outcome == "NO_GO" and second.decision == "NO_GO_END"
    if second.movement.enough:
        assert "RETRY was taken 1 times, as often as it may: NO_GO instead" in second.reason
    names = [row.tried.swept.sweep for row in records if row.tried]
    assert names == ["small-1.first", "small-1.again", "small-1.first+2", "small-1.again+2"]
    floor = first.floors[0]
    assert floor.metric == "q1/servers" and set(floor.authority) == set(floor.candidate) == {1}


@pytest.mark.plan("P1.RO.6", "P1.RO.7", "P1.R2.3")
@pytest.mark.parametrize("by", [1e6, 40])
def test_an_immaterial_movement_closes_and_the_amounts_are_recorded(tmp_path, place, by):
    records = played(looping(tmp_path, by=by), place).records
    again = records[2]
    assert [row.phase for row in records] == ["start", "first", "again", "end"] and again.outcome == "NO_GO"
    assert again.movement.by == by and again.movement.moved < by and "immaterial" in again.reason


def test_a_candidate_that_a_rail_ended_earns_no_way_back(tmp_path, place):
    rail = {"id": "same", "metric": "q1/servers", "severity": "rail", "comparison": "<=", "threshold": 1, "why": "No."}
    plan = campaign(
        tmp_path,
        start=start("first"),
        first=lane(lane_file(tmp_path, "few", **HARD), "again", anyway=True, trials=1),
        again=reopening(tmp_path)
        | {"lane": lane_file(tmp_path, "railed", gates__rails=[rail], knobs__servers__low=12)},
    )
    again = played(plan, place).records[2]
    assert again.outcome == "NO_GO" and again.movement.enough and "though same ended it" in again.reason


def test_killed_within_a_loop_it_goes_on_there(tmp_path, place):
    whole = played(looping(tmp_path), place).records
    folder = place.campaigns / "small-1"
    for path in place.freezes.iterdir():
        path.unlink()
    for path in list(folder.glob("0[3-9].*.json")):
        path.unlink()  # as it was when the second time around had begun
    again = played(looping(tmp_path), place, resume=True).records
    assert [row.phase for row in again] == [row.phase for row in whole]
    assert [row.holder.pack for row in again] == [row.holder.pack for row in whole]


@pytest.mark.parametrize(
    ("phases", "refusal"),
    [
        ({"again": {"then": everywhere("end", RETRY={"next": "first"})}}, "comes back to it: first -> again -> first"),
        ({"again": {"then": everywhere("end", NO_GO={"next": "end", "at_most": 1})}}, "NO_GO/at_most: another branch"),
        ({"start": {"then": {"GO": {"next": "first", "at_most": 1}}}}, "GO/at_most: another branch must be left"),
        ({"again": {"then": everywhere("end")}}, "/phases/again/material: needs then/RETRY beside it"),
        ({"again": {"material": None}}, "/phases/again/then/RETRY: needs material beside it"),
        ({"again": {"material": SERVERS | {"toward": "nobody"}}}, "'nobody' is not a gate with a threshold"),
        ({"again": {"material": SERVERS | {"metric": "q9/x"}}}, "'q9/x' is not a metric"),
        ({"first": {"trials": 9}}, "/trials: 9 is more than the 4 of its lane's budget"),
        ({"first": {"after": "start"}}, "/after: 'start' is not a phase of kind lane"),
        ({"first": {"done_when": ["decidd"]}}, "'decidd' is not a check: decided, pinned"),
        ({"first": {"done_when": ["answered"]}}, "answered is a check of question alone"),
        ({"first": {"waived": [{"check": "locked", "who": "I", "why": "so"}]}}, "'locked' is not one of its done_when"),
        ({"first": {"hold": ["tail"]}}, "/hold: 'tail' is not graded by its lane"),
    ],
)
def test_what_could_go_round_for_ever_or_does_not_fit_is_refused(tmp_path, phases, refusal):
    document = looping(tmp_path).document
    for name, changed in phases.items():
        document["phases"][name] |= changed
        document["phases"][name] = {key: value for key, value in document["phases"][name].items() if value is not None}
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(LaneError) as refused:
        load_campaign(str(tmp_path / "other.json"))
    assert refusal in str(refused.value) and str(refused.value).count("\n") == 0


NAMES = [f"p{number}" for number in range(5)]


@st.composite
def documents(draw):
    """Campaigns of a few phases that lead anywhere, with bounds here and there."""
    phases = {"start": start(draw(st.sampled_from(NAMES))), "end": {"kind": "freeze", "title": "End"}}
    anywhere = st.sampled_from([*NAMES, "end", "end"])
    for name in NAMES:
        kind = draw(st.sampled_from(["certify", "question", "lane"]))
        outcomes = {"certify": ("GO", "NO_GO"), "question": ("YES", "NO"), "lane": ("GO", "NO_GO", "REFUSED")}[kind]
        then = {outcome: {"next": draw(anywhere)} for outcome in outcomes}
        for outcome in outcomes:
            if draw(st.booleans()):
                then[outcome]["at_most"] = draw(st.integers(1, 3))
        phases[name] = {
            "certify": {"kind": kind, "title": "C", "seeds": [1, 2], "accept_band": "B", "then": then},
            "question": question() | {"then": then},
            "lane": lane(str(QUEUE / "lane.json"), then=then),
        }[kind]
    for _ in NAMES:  # without the phases that nothing leads to
        led = {branch["next"] for row in phases.values() for branch in row.get("then", {}).values()}
        phases = {name: row for name, row in phases.items() if name in led or name == "start"}
    return phases


@pytest.mark.plan("P5.9")
@settings(max_examples=60)
@given(documents(), st.data())
def test_whatever_passes_the_check_ends_in_a_freeze(tmp_path_factory, phases, data):
    folder = tmp_path_factory.mktemp("any", numbered=True)
    document = read_json(QUEUE / "campaign.json") | {"phases": phases, "first": "start"}
    document.pop("record")
    (folder / "any.json").write_text(json.dumps(document))
    try:
        plan = load_campaign(str(folder / "any.json"))
    except LaneError as error:
        assert any(
            why in str(error) for why in ("comes back to it", "at_most: another branch", "no branch leads there")
        )
        return
    taken, name, most = {}, "start", sum(b.at_most or 0 for p in plan.phases.values() for b in p.then.values())
    steps = 0
    while plan.phases[name].kind != "freeze":
        phase = plan.phases[name]
        wanted = data.draw(st.sampled_from([*phase.then]))
        outcome, branch = phase.follows(wanted, taken.get((name, wanted), 0))
        taken[name, outcome] = taken.get((name, outcome), 0) + 1
        name, steps = branch.next, steps + 1
        assert steps <= (1 + most) * len(plan.phases)
    assert all(count <= (plan.phases[p].then[o].at_most or count) for (p, o), count in taken.items())
