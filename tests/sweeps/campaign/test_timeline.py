"""The page of a campaign's run: its phases in order with their decisions, figures, and its report."""

import re

from serving import serving
from small import campaign, lane, lane_file, start

from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.campaign.report import write_report
from lanelock.sweeps.workspace import Workspace


def test_a_campaign_is_a_timeline_of_its_phases(tmp_path):
    place = Workspace.at(tmp_path / "ws")
    plan = campaign(tmp_path, start=start("tune"), tune=lane(lane_file(tmp_path, "short")))
    standing = play_campaign(plan, place, track=False)
    with serving(place) as ask:
        page = ask("/campaigns/small-1")
        titles = re.findall(r"<h3>([^<]*)</h3>", page.body)
        assert [title for title in titles if title in ("Start", "Lane", "End")] == ["Start", "Lane", "End"]
        record = standing.records[1]
        assert (
            record.reason in page.text
            and "/sweeps/small-1.tune" in page.body
            and 'id="figure-study_history"' in page.body
        )
        assert standing.records[-1].ending in page.text and ask("/campaigns/small-1/report").status == 404
        write_report(standing, place.campaigns / "small-1")
        assert ask("/campaigns/small-1/report").status == 200 and "its report" in ask("/campaigns/small-1").text
        assert ask("/sweeps/small-1.tune").status == 200 and "small-1" in ask("/").text
