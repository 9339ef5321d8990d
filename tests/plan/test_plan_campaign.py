"""What the plan asks of campaigns, played on the queue."""

import json

import pytest
from lanes import QUEUE

from lanelock.policies.documents import read_json
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.workspace import Workspace


@pytest.fixture
def queue_campaign(tmp_path):
    """Writes the queue's campaign after `change(document)`; returns it loaded."""

    def write(change):
        document = read_json(QUEUE / "campaign.json")
        for phase in document["phases"].values():
            phase.update({key: str(QUEUE / phase[key]) for key in ("pack", "lane") if key in phase})
        for row in document["record"]["rows"]:
            row.update({"pack": str(QUEUE / row["pack"])} if "pack" in row else {})
        change(document)
        (tmp_path / "campaign.json").write_text(json.dumps(document))
        return load_campaign(str(tmp_path / "campaign.json"))

    return write


@pytest.mark.plan("P2.5.5")
def test_a_no_go_passes_on_the_authority(queue_campaign, tmp_path):
    def change(document):
        document["phases"]["few"]["anyway"] = True
        document["phases"]["few"]["then"]["NO_GO"] = {"next": "grade"}

    standing = play_campaign(queue_campaign(change), Workspace.at(tmp_path / "ws"), track=False)
    rows = {row.phase: row for row in standing.records}
    assert rows["few"].outcome == "NO_GO" and rows["few"].carried == "authority"
    assert rows["few"].holder.pack.digest == rows["short"].holder.pack.digest
