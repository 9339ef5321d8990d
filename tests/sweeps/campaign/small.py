"""Campaigns of the queue's engine small enough to be played in a blink, built from phases by keyword."""

import json

from lanes import QUEUE

from lanelock.policies.documents import read_json
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign

SEED = 1


def lane_file(folder, name, **changed):
    """Writes the queue's lane with few trials on one seed, fields replaced by address `a__b`. Returns its path."""
    document = read_json(QUEUE / "lane.json") | {"id": name, "authority": str(QUEUE / "pack"), "seeds": [SEED]}
    document["budget"] = {"trials": 4, "seconds": 120}
    for address, value in changed.items():
        *parents, last = address.split("__")
        node = document
        for part in parents:
            node = node[part]
        node[last] = value
    (folder / f"{name}.json").write_text(json.dumps(document))
    return str(folder / f"{name}.json")


def everywhere(next_, **outcomes):
    """The branches of a lane: to one phase whatever the outcome, unless `outcomes` say otherwise."""
    return {outcome: {"next": next_} for outcome in ("GO", "NO_GO", "REFUSED")} | outcomes


def start(next_, **more):
    return {"kind": "authority", "title": "Start", "pack": str(QUEUE / "pack"), "then": {"GO": {"next": next_}}} | more


def lane(path, next_="end", then=None, **more):
    return {"kind": "lane", "title": "Lane", "lane": path, "then": then or everywhere(next_)} | more


def question(yes="end", no="end", **more):
    asked = {"asks": "May it be?", "evidence": ["start"], "consequences": {"yes": "It is.", "no": "It is not."}}
    return {
        "kind": "question",
        "title": "A question",
        **asked,
        "then": {"YES": {"next": yes}, "NO": {"next": no}},
    } | more


END = {"kind": "freeze", "title": "End"}


def campaign(folder, begin="start", **phases):
    """Returns a campaign of these phases and an end, loaded from a file in `folder`."""
    document = {
        "id": "small", "title": "Small", "why": "A test.", "engine": "queue", "until": "Q1", "seeds": [SEED],
        "frozen": [], "floors": ["q1/servers"], "first": begin, "phases": {**phases, "end": END} | {
            name: row for name, row in phases.items() if name == "end"
        },
    }  # fmt: skip
    (folder / "small.json").write_text(json.dumps(document))
    return load_campaign(str(folder / "small.json"))


def played(plan, workspace, **options):
    """Plays a campaign without tracking, and returns where it stands."""
    return play_campaign(plan, workspace, track=False, **options)
