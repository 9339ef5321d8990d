"""A phase that certifies on the seeds of a named profile: which names are read, and what a weaker one freezes."""

import json

import pytest
import queue_engine
from lanes import QUEUE

from lanelock.policies import LanelockError
from lanelock.policies.documents import read_json
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.workspace import Workspace

OUTCOMES = ("GO", "NO_GO", "REFUSED")


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Gives the queue profiles. Returns a call that writes a campaign whose phase `grade` has some fields."""
    sizes = {"smoke": [1], "witness": [1, 2], "certification": [1, 2, 3]}
    profiles = {name: {"seeds": seeds, "minutes": 5, "what": name} for name, seeds in sizes.items()}
    gates = tmp_path / "gates.json"
    gates.write_text(json.dumps({**read_json(QUEUE / "gates.json"), "profiles": profiles}))
    monkeypatch.setattr(queue_engine.QueueMetrics, "gates_file", gates)
    lane = read_json(QUEUE / "lane.json") | {"authority": str(QUEUE / "pack"), "budget": {"trials": 8, "seconds": 60}}
    (tmp_path / "lane.json").write_text(json.dumps(lane))

    def call(in_lane=None, **grade):
        document = {
            "id": "till", "title": "A till", "why": "Small.", "engine": "queue", "until": "Q1", "seeds": [1, 2],
            "frozen": [], "floors": ["q1/wait_p90"], "first": "start",
            "phases": {
                "start": {"kind": "authority", "title": "Start", "pack": str(QUEUE / "pack"),
                          "then": {"GO": {"next": "lane"}}},
                "lane": {"kind": "lane", "title": "Lane", "lane": str(tmp_path / "lane.json"), **(in_lane or {}),
                         "then": {name: {"next": "grade", "carry": "candidate"} for name in OUTCOMES}},
                "grade": {"kind": "certify", "title": "Grade", "accept_band": "B", "done_when": ["runtime"], **grade,
                          "then": {"GO": {"next": "end"}, "NO_GO": {"next": "end"}}},
                "end": {"kind": "freeze", "title": "End"},
            },
        }  # fmt: skip
        path = tmp_path / "campaign.json"
        path.write_text(json.dumps(document))
        return load_campaign(str(path))

    return call


@pytest.mark.parametrize(("profile", "certified"), [("witness", False), ("certification", True)])
def test_only_the_strongest_profile_certifies_what_is_frozen(campaign, tmp_path, profile, certified):
    workspace = Workspace.at(tmp_path / "ws")
    played = play_campaign(campaign(profile=profile), workspace, track=False)
    grade, end = played.records[-2:]
    assert grade.outcome == "GO" and grade.graded.certification["profile"] == profile
    assert grade.graded.certification["seeds"] == [1, 2, 3][: 2 if profile == "witness" else 3]
    assert end.end.certified == certified


def test_a_profile_that_nothing_is_graded_by_is_refused(campaign):
    for more, error in (
        ({"profile": "quick"}, "/phases/grade/profile: 'quick' is not a profile of its gates: smoke, witness, certif"),
        ({"profile": "witness", "seeds": [1, 2]}, "/phases/grade"),
        ({}, "/phases/grade"),
        ({"seeds": [1, 2], "in_lane": {"profile": "witness"}}, "/phases/lane/profile: only a phase of kind certify"),
    ):
        with pytest.raises(LanelockError, match=error):
            campaign(**more)
