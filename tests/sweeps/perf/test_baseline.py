"""A baseline: real rounds of a small engine of three states, of a function, and what is refused."""

import json
import sys
from dataclasses import replace

import pytest
import relay
from conftest import ROOT

from lanelock.policies import DataError, EngineError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.project import FILE
from lanelock.sweeps.perf import page
from lanelock.sweeps.perf.baseline import baseline
from lanelock.sweeps.perf.budgets import Budget, Budgets
from lanelock.sweeps.perf.measure import Request, Side, one_round
from lanelock.sweeps.perf.profiles import Function, Profile
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.workspace import Workspace

REST, HELD = 0.4, 48  # seconds that `middle` sleeps, MiB that its preparation holds


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A baseline of an engine in which the middle state sleeps, beyond its limit."""
    folder = tmp_path_factory.mktemp("relay") / "slow"
    side = relay.installed(folder, middle=f"time.sleep({REST}); print('slept')", held_mb=HELD)
    budgets = Budgets("relay", {"middle": Budget(REST / 4, REST / 2)}, "For the test.")
    rounds = list[str]()
    made = baseline(relay.engine(folder), "pack", Request("pack", 7), 2, budgets, (), side, rounds.append)
    assert rounds == ["warming up", "round 1 of 2", "round 2 of 2", "profiling"]
    return made


@pytest.mark.plan("5.0.2", "5.0.4")
def test_a_slowed_state_is_ranked_first_and_red_with_its_evidence(made):
    first = made.hot_spots[0]
    assert first.state == "middle" == made.first.state and first.colour == "RED" == made.colour
    assert first.wall.least >= REST
    assert "sleep" in [function.name for function in made.profiles["middle"].functions[:2]]
    assert "time.sleep" in made.profiles["middle"].top() and "time.sleep" not in made.profiles["last"].top(), (
        "each state's functions are its own"
    )


@pytest.mark.plan("5.0.1", "5.4")
def test_each_state_has_its_seconds_memory_rows_and_bytes(made):
    assert [row.state for row in made.states] == ["first", "middle", "last"]
    assert [row.rows for row in made.states] == [1000, 1000, 1]
    by_name = {row.state: row for row in made.states}
    assert all(row.wall.low <= row.wall.value <= row.wall.high for row in made.states)
    assert by_name["middle"].processor.value < REST <= by_name["middle"].wall.value, "a sleep takes no processor"
    assert made.all.wall.least >= REST and made.all.rows == 2001
    if sys.platform == "linux":
        least = min(row.peak_mb for row in made.states)
        assert by_name["middle"].peak_mb >= least + 0.9 * HELD, "what prepares a state's input counts for that state"
        assert by_name["last"].peak_mb < by_name["middle"].peak_mb, "the mark is set back between states"
    published = made.answer["published"]
    assert by_name["first"].bytes == published["sizes"]["first.parquet"]
    assert sum(row.bytes for row in made.states) == published["bytes"] == made.all.bytes
    assert made.rounds[0].printed == len("slept\n"), "what an engine prints is a log, and no part of the answer"
    assert made.rounds[0].log_bytes == len("slept\n") + sum(
        size for path, size in published["sizes"].items() if not path.endswith(".parquet")
    )


def test_a_baseline_is_written_whole_under_the_next_number(made, tmp_path):
    place = Workspace.at(tmp_path)
    (first, files), (second, _) = page.write(made, place), page.write(made, place)
    assert (first["id"], second["id"]) == ("pack-1", "pack-2")
    assert {path.name for path in place.perf.iterdir()} == {
        f"pack-{number}{suffix}" for number in (1, 2) for suffix in (".json", ".md", ".html", ".png")
    }
    written = json.loads((place.perf / "pack-1.json").read_text())
    validate(written, shipped_schema("perf_baseline"), "pack-1.json")
    assert written == first and written["begin_with"] == "middle" and written["status"] == "RED"
    assert any("time.sleep" in row["function"] for row in written["hot_spots"][0]["functions"][:2])
    shown = page.text(made, first, place.perf)
    for text in (files["pack-1.md"], files["pack-1.html"], shown):
        assert "middle" in text and "RED" in text and "time.sleep" in text
    assert files["pack-1.html"].count("<svg") > 1 and files["pack-1.png"].startswith(b"\x89PNG")


def test_a_busy_machine_is_said_where_seconds_are_read(made, tmp_path):
    place = Workspace.at(tmp_path)
    for load, said in ((0.0, False), (1e4, True)):
        one = replace(made, load=load)
        document, files = page.write(one, place)
        shown = page.text(one, document, place.perf)
        assert document["load"] == load and ("load 10000.0" in one.busy) == said == ("machine was busy" in shown)
        assert ("machine was busy" in files[f"{document['id']}.md"]) == said


def test_pinned_budgets_follow_from_the_fastest_round(made):
    document = made.as_budgets(None)
    budgets = Budgets.of(document, "pinned")
    budgets.check("relay", ["first", "middle", "last"])
    middle = next(row for row in made.states if row.state == "middle").wall.least
    assert budgets.states["middle"].target_s == pytest.approx(2 * middle, rel=0.05)
    assert budgets.states["middle"].limit_s == pytest.approx(4 * middle, rel=0.05)
    assert document["measured"]["rounds"] == 2


def test_rounds_that_do_not_agree_are_no_baseline(tmp_path):
    side = relay.installed(tmp_path / "odd", twist=" + time.time()")
    with pytest.raises(EngineError, match="two rounds gave other bytes for last"):
        baseline(relay.engine(tmp_path / "odd"), "pack", Request("pack", publish=False), 1, None, (), side)


def test_a_round_that_fails_names_its_side_and_the_reason(tmp_path):
    side = relay.installed(tmp_path / "broken", last="raise ValueError('the baton fell')")
    with pytest.raises(
        EngineError, match="relay in broken: engine relay: pack pack, seed 42: ValueError: the baton fell"
    ):
        one_round(side, Request("pack"))
    with pytest.raises(EngineError, match=r"ran longer than 0\.01 s"):
        one_round(side, Request("pack"), timeout_s=0.01)
    with pytest.raises(DataError, match="none: /no/python: cannot be started"):
        one_round(Side("none", "/no/python"), Request("pack"))


def test_a_function_is_measured_from_a_command(tmp_path, monkeypatch, here):
    """By its project's file: one state, its budget from there, all in the workspace and in the outbox."""
    (tmp_path / "foyer.py").write_text("def simulate(params, seed):\n    return {'wait': seed / params['slots']}\n")
    (tmp_path / FILE).write_text(
        '[engine]\nid = "foyer"\nfunction = "foyer:simulate"\n[params]\nslots = {value = 3, low = 1, high = 9}\n'
        '[budgets]\ntarget_s = 600\nlimit_s = 600\n[gates]\nwait = "wait <= 3"\n'
    )
    monkeypatch.chdir(tmp_path)
    call = ("perf", "baseline", "start", "--seed", 2, "--rounds", 1, "--json", "--pin", "--to", tmp_path / "to.json")
    code, out, err = here(*call, workspace=tmp_path / "ws")
    document = json.loads(out)
    assert (code, err) == (0, "") and document["status"] == "GREEN" and document["engine"] == "foyer"
    (row,) = document["states"]
    assert row["state"] == "foyer" and row["limit_s"] == 600 and row["bytes"] == document["published"]["bytes"]
    assert row["processor_s"]["value"] > 0 and document["process"]["processor_s"]["value"] > 0
    assert set(json.loads((tmp_path / "to.json").read_text())["states"]) == {"foyer"}
    (heading,) = Outbox(Workspace.at(tmp_path / "ws")).addressed()[0].values()
    assert (heading.experiment, heading.sweep) == ("foyer-performance", "start-1")
    compared = compare(Workspace.at(tmp_path / "ws"))
    assert compared.differences == () and compared.pending == {"start-1": 2}, "what waits is no difference"
    for limits, said in (("foyer=0", "STATE=SECONDS"), ("9", "STATE=SECONDS"), ("foyer=x", "STATE=SECONDS")):
        code, _, err = here("perf", "baseline", "start", "--limit", limits, workspace=tmp_path / "ws")
        assert code == 2 and said in err


BURNS = """import json, sys, time
held, until = bytearray(64 << 20), time.process_time() + 0.3
while time.process_time() < until:
    pass
sys.stderr.write("noise")
print(json.dumps({"wait": 1}))
"""


def test_a_program_counts_with_its_processor_time_its_memory_and_its_log(tmp_path):
    (tmp_path / "burns.py").write_text(BURNS)
    command = json.dumps([sys.executable, "burns.py", "{slots}", "{seed}"])
    (tmp_path / FILE).write_text(
        f'[engine]\nid = "burner"\ncommand = {command}\n[params]\nslots = {{value = 3, low = 1, high = 9}}\n'
        '[gates]\nwait = "wait <= 3"\n'
    )
    found = one_round(replace(Side.here(), folder=str(tmp_path)), Request("start"))
    (state,) = found.states
    assert found.answer["published"]["log_bytes"] >= len("noise")
    if sys.platform == "linux":
        assert state.cpu_s >= 0.25, "its clock ticks a hundred times a second"
        assert state.peak_mb > found.answer["published"]["peak_mb"] + 64 / 2, "beside our own process"


def test_an_engine_that_does_not_publish_is_measured_without(tmp_path):
    folder = str(ROOT / "tests" / "mix_engine")
    side = Side("mix", path=(folder, *Side.here().path), folder=folder)
    found = one_round(side, Request("pack", seed=3))
    assert found.answer["published"] is None and [state.state for state in found.states] == ["mix"]
    assert found.log_bytes == 0 and found.states[0].rows == 1


def test_the_name_of_a_function_is_short():
    names = {
        "engine/steps.py:84(<lambda>)": "<lambda>",
        "<built-in method time.sleep>": "sleep",
        "<method 'repeat' of 'numpy.ndarray' objects>": "repeat",
        "pyarrow/parquet/core.py:1191(write_table)": "write_table",
    }
    assert {long: Function(long, 1, 0.0, 0.0).name for long in names} == names
    assert Profile("one", 0.0, (Function("a", 1, 0.0, 0.0),)).share(Function("a", 1, 0.0, 0.0)) == 0.0
