"""What the comparison page is told of a lane: its views, notes and colours; and the server of the page itself."""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from browser import comparison_page, mlflow_root
from conftest import child_environment

from lanelock.policies.documents import shipped
from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import Severity
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.record import notes
from lanelock.sweeps.record import views as comparison

MOST = 20_000  # characters of an experiment's tag, by MLflow
LANES = sorted(shipped("lanes", ".json"))


def ground(name, *reach):
    return Ground(load_lane(name), None, {}, reach)


def state(views, key):
    return json.loads(json.loads(views[f"mlflow.sharedViewState.{key}"])["state"])


@pytest.mark.parametrize("name", LANES)
def test_every_lane_has_views_that_mlflow_can_keep(name):
    of = ground(name)
    every_veto = [gate.id for gate in of.lane.gates.gates if gate.severity.ends_trial]
    views = comparison.views(of, every_veto, 7, reserved=True)
    assert len(views) == 5 + (len(of.lane.objectives) > 1) and all(len(value) < MOST for value in views.values())
    for key, value in views.items():
        held = json.loads(value)
        assert held["createdAt"] == held["updatedAt"] == 7 and held["name"]
        shown = json.loads(held["state"])
        assert len(set(shown["selectedColumns"])) == len(shown["selectedColumns"]), key
        assert shown["columnOrder"][2:] == shown["selectedColumns"]
    assert len(notes.of_lane(of.lane)) < MOST


@pytest.mark.parametrize("name", LANES)
def test_the_first_view_shows_what_a_lane_is_about_in_the_order_that_it_is_asked(name):
    of = ground(name)
    lane = of.lane
    columns = state(comparison.views(of, [], 7), comparison.FIRST_VIEW)["selectedColumns"]
    objectives = [f"metrics.`{objective.name}`" for objective in lane.objectives]
    which = ["tags.`lanelock.locked`", "metrics.`rank`", "tags.`lanelock.sweep`", "tags.`lanelock.why_not`"]
    knobs = [f"params.`{knob.name}`" for knob in lane.knobs]
    assert columns[: 4 + len(knobs) + len(objectives)] == [*which, *knobs, *objectives], "knobs before what they gave"
    assert columns[-3:] == [f"tags.`lanelock.{tag}`" for tag in ("verdict", "vetoed", "lock")]
    rest = columns[4 + len(knobs) + len(objectives) : -3]
    graded = [gate for gate in lane.gates.gates if gate.severity is Severity.GATE]
    margins = [name for name in rest if name.startswith("metrics.`margin/")]
    assert margins and set(margins) <= {f"metrics.`margin/{gate.id}`" for gate in graded}
    gates = rest[len(margins) :]
    assert rest == [*margins, *gates] and set(gates) <= {f"metrics.`{gate.metric}`" for gate in graded}


def test_a_lane_of_s4_shows_the_gates_of_s4_and_the_veto_that_ended_a_trial():
    of = ground("p3_wide")
    columns = state(comparison.views(of, ["s4_cliff"], 7), comparison.FIRST_VIEW)["selectedColumns"]
    gates = ["max_p_median", "tail_share", "multigroup_share", "entropy_p50", "cliff"]
    assert columns[-8:-3] == [f"metrics.`s4/{name}`" for name in gates]


def test_a_gate_out_of_reach_brings_the_margin_over_all_gates_beside_the_one_that_was_searched():
    lane = load_lane("p3_wide")
    gate = next(gate for gate in lane.gates.gates if gate.id == "s4_tail")
    can = {"B": False, "B+": False}
    out = GateReach(gate.id, gate.metric, gate.comparison, gate.thresholds, 0.48, 42, can, "why", "1B")
    for reach, shown in (((), False), ((out,), True)):
        views = comparison.views(ground("p3_wide", *reach), [], 7)
        assert ("metrics.`worst_margin`" in state(views, comparison.FIRST_VIEW)["selectedColumns"]) == shown


def test_a_colour_says_the_verdict_and_its_shade_only_tells_neighbours_apart():
    lane = load_lane("p3_wide")

    def hue(verdict, vetoed=False, number=0):
        found = comparison.colour(lane.gates.verdict(verdict), vetoed, lane, number)
        assert re.fullmatch("#[0-9a-f]{6}", found)
        return found

    kinds = [("PASS_BPLUS",), ("PASS_B",), ("FAIL_REALISM",), ("INVALID_FOR_GRADING",), ("FAIL_REALISM", True)]
    assert len({hue(*kind) for kind in kinds}) == 5
    assert (
        len({hue(*kind, number=number) for kind in ((*one, False)[:2] for one in kinds) for number in range(5)}) == 25
    )


def test_a_note_says_what_a_lane_may_touch_and_what_to_search_for():
    lane = load_lane("p3_wide")
    said = notes.of_lane(lane)
    for knob in lane.knobs:
        assert f"**{knob.name}**: `{knob.at}` in {knob.low} … {knob.high}" in said
    assert all(f"`{at}`" in said for at in lane.document["fixed"])
    assert "tags.lanelock.verdict = 'PASS_BPLUS'" in said and "tags.lanelock.state = 'complete'" in said
    assert said.splitlines()[0].startswith(f"**{lane.title}**") and "$EXPERIMENT" in said.splitlines()[0]


def test_ui_serves_on_this_machine_alone_and_ctrl_c_leaves_nothing(tmp_path):
    with comparison_page(tmp_path / "ws") as served:
        assert served["lanes"] == []
        port = int(served["url"].rpartition(":")[2])
        assert reached("127.0.0.1", port) and not reached("127.0.0.2", port)
    assert not reached("127.0.0.1", port)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_however_ui_is_ended_its_server_ends_with_it(tmp_path, end):
    with comparison_page(tmp_path / "ws", end=end) as served:
        ports = [int(address.rpartition(":")[2]) for address in (served["url"], mlflow_root(served))]
        assert all(reached("127.0.0.1", port) and not reached("127.0.0.2", port) for port in ports)
    patience = time.monotonic() + 20  # a killed one cannot wait for its server
    while end == signal.SIGKILL and reached("127.0.0.1", ports[1]) and time.monotonic() < patience:
        time.sleep(0.1)
    assert not any(reached("127.0.0.1", port) for port in ports)


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "lanelock",
            "ui",
            "--port",
            str(port),
        ]
        done = subprocess.run(
            [*command, "--workspace", str(tmp_path / "ws")], capture_output=True, text=True, env=child_environment()
        )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and f"--port {port}" in done.stderr and "another" in done.stderr


def reached(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True
