"""Triggers: branches that a metric chooses, and lanes that are not needed and close as a no-op, on record."""

from dataclasses import replace

import pytest
from small import END, campaign, everywhere, lane, lane_file, played, start

from lanelock.policies import LaneError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.sweeps.campaign import play as playing
from lanelock.sweeps.campaign.floors import floors
from lanelock.sweeps.campaign.frozen_proof import _conditions, verify_freeze
from lanelock.sweeps.campaign.records import PhaseRecord, write_phase
from lanelock.sweeps.campaign.report import write_report
from lanelock.sweeps.workspace import Workspace

# The queue's start has eight servers for nine customers a minute, and its waits grow without end.


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


def unless(tmp_path, rule, **more):
    """A campaign whose one lane is needed only under a rule."""
    then = everywhere("end", NO_OP={"next": "end"})
    phase = lane(lane_file(tmp_path, "short"), then=then, when=rule, **more)
    return campaign(tmp_path, start=start("short"), short=phase)


def branching(tmp_path, *branches):
    then = everywhere("end", GO=[*branches, {"next": "end"}], NO_GO=[*branches, {"next": "end"}])
    again = lane(lane_file(tmp_path, "again"), next_="end")
    first = lane(lane_file(tmp_path, "short"), then=then)
    return campaign(tmp_path, start=start("short"), short=first, again=again)


def outcomes(standing):
    return [(row.phase, row.outcome) for row in standing.records]


def freeze_of(workspace, standing):
    return verify_freeze(workspace.freezes / f"{standing.run}.json", workspace)


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ("q1/wait_p90 > 1", True),
        ("q1/wait_p90 <= 1", False),
        ("start == 'GO' and q1/servers < 8", False),
        ("short == 'NOT_PLAYED'", True),
        ("not (q1/servers in [7, 8])", False),
    ],
)
def test_a_lane_that_is_not_needed_closes_as_a_no_op(tmp_path, workspace, rule, needed):
    standing = played(unless(tmp_path, rule, done_when=["decided", "locked"]), workspace)
    record = standing.records[1]
    assert (record.outcome != "NO_OP") == needed == record.triggers[0].holds and record.triggers[0].rule == rule
    if not needed:
        assert record.reason.startswith(f"not needed: {rule} does not hold (") and record.decision == "SHORT_NO_OP"
        assert record.carried == "authority" and record.lock is None and record.checks == ()
        assert not [*workspace.locks.glob("*")], "nothing was played"
    assert PhaseRecord.of(record.document) == record
    found = freeze_of(workspace, standing)
    assert found.ok and "record short: conditions" in [check.name for check in found]
    page, _ = write_report(standing, workspace.campaigns / standing.run)
    assert "Conditions" in page.read_text() and rule in page.read_text()
    assert floors(standing.run, standing.campaign.document, standing.records)["phases"]


def test_the_first_branch_whose_condition_holds_is_taken(tmp_path, workspace):
    few, many = {"when": "q1/servers < 1", "next": "end"}, {"when": "q1/servers >= 1", "next": "again"}
    standing = played(branching(tmp_path, few, many), workspace)
    assert [name for name, _ in outcomes(standing)] == ["start", "short", "again", "end"]
    record = standing.records[1]
    assert [row.holds for row in record.triggers] == [False, True]
    worst = max(row["q1/servers"] for row in record.metrics.values())
    assert record.triggers[0].values == {"q1/servers": worst}
    assert freeze_of(workspace, standing).ok


def test_where_no_condition_holds_the_last_branch_is_taken(tmp_path, workspace):
    standing = played(branching(tmp_path, {"when": "q1/servers < 1", "next": "again"}), workspace)
    assert [name for name, _ in outcomes(standing)] == ["start", "short", "end"]
    assert freeze_of(workspace, standing).ok


def test_a_branch_back_is_taken_as_often_as_it_may(tmp_path, workspace):
    back = {"when": "q1/servers >= 1", "next": "short", "at_most": 2}
    then = everywhere("end", GO=[back, {"next": "end"}], NO_GO=[back, {"next": "end"}])
    looping = campaign(tmp_path, start=start("short"), short=lane(lane_file(tmp_path, "short"), then=then))
    standing = played(looping, workspace)
    assert [name for name, _ in outcomes(standing)] in (
        ["start", *["short"] * 3, "end"],
        ["start", *["short"] * 4, "end"],
    )
    assert freeze_of(workspace, standing).ok


def test_a_run_that_is_killed_before_its_record_decides_the_same(tmp_path, workspace, monkeypatch):
    plan, write = unless(tmp_path, "q1/wait_p90 <= 1"), playing.write_phase

    def dying(folder, place, record):
        if place == 1:
            raise KeyboardInterrupt
        write(folder, place, record)

    monkeypatch.setattr(playing, "write_phase", dying)
    with pytest.raises(KeyboardInterrupt):
        played(plan, workspace)
    monkeypatch.setattr(playing, "write_phase", write)
    assert outcomes(played(plan, workspace, resume=True)) == [("start", "GO"), ("short", "NO_OP"), ("end", "FROZEN")]


@pytest.mark.parametrize("part", ["holds", "values", "next", "dropped"])
def test_a_record_whose_conditions_do_not_follow_is_found(tmp_path, workspace, part):
    """As a forger would leave it: the record, its digest in the freeze and the freeze's id are all made to agree."""
    plan = branching(tmp_path, {"when": "q1/servers < 1", "next": "again"})
    standing = played(plan, workspace)
    record = standing.records[1]
    forged = {
        "holds": replace(record, triggers=(replace(record.triggers[0], holds=True),)),
        "values": replace(record, triggers=(replace(record.triggers[0], values={"q1/servers": 3.0}),)),
        "next": replace(record, next="again"),
        "dropped": replace(record, triggers=()),
    }[part]
    document = read_json(workspace.campaigns / standing.run / "campaign.json")["campaign"]
    assert all(check.ok for check in _conditions(document, standing.records[:-1]))
    found = [check.name for check in _conditions(document, [standing.records[0], forged]) if not check.ok]
    assert found == ["record short: next" if part == "next" else "record short: conditions"]
    write_phase(workspace.campaigns / standing.run, 1, forged)
    assert not freeze_of(workspace, standing).ok


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"when": "q1/wait_p99 > 1"}, r"/phases/short/when: .*column 1: 'q1' is not a known name"),
        ({"when": "1 < 2"}, "depends on nothing"),
        ({"when": "q1/servers <"}, "/phases/short/when: .*cannot be read"),
        ({"when": "later == 'GO'"}, "'later' is not a known name"),
        ({}, "/phases/short/then/NO_OP: needs when beside it"),
        ({"when": "q1/servers > 1", "then": everywhere("end")}, "/phases/short/when: needs then/NO_OP beside it"),
        (
            {"then": everywhere("end", GO=[{"when": "q1/servers > 1", "next": "end"}] * 2)},
            "/then/GO: the last branch has a condition: nothing would follow where none holds",
        ),
        (
            {"then": everywhere("end", GO=[{"next": "end"}, {"next": "end"}])},
            "/then/GO: a branch before the last has no condition",
        ),
        (
            {"then": everywhere("end", GO=[{"when": "q1/servers > 1", "next": "short"}, {"next": "end"}])},
            "the campaign comes back to it: short -> short",
        ),
        ({"then": everywhere("end", GO=[{"when": "q1/servers > 1", "next": "end"}])}, "/phases/short/then/GO"),
        ({"then": everywhere("end", GO=[{"when": "q1/servers > 1", "next": "x"}, {"next": "end"}])}, "no phase 'x'"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_before_anything_is_played(tmp_path, change, why):
    phase = {"then": everywhere("end", NO_OP={"next": "end"}), **change}
    with pytest.raises((PolicyError, LaneError), match=why):
        campaign(tmp_path, start=start("short"), short=lane(lane_file(tmp_path, "short"), **phase))


def test_what_is_no_condition_or_was_not_measured_stops_the_campaign(tmp_path, workspace):
    with pytest.raises(LaneError, match=r"/phases/short/when: 'q1/servers' is 8.0, neither true nor false"):
        played(unless(tmp_path, "q1/servers"), workspace)


def test_other_kinds_have_no_condition(tmp_path):
    with pytest.raises(PolicyError, match="when"):
        campaign(tmp_path, start=start("end", when="q1/servers > 1"), end=END)
