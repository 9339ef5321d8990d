"""A user's one file, from `init` to a certified lock with an alias; what it ejects; and the same from Python."""

import json
import shutil
import sys

import pandas as pd
import pytest

import lanelock
from lanelock.policies import LaneError, PolicyError, WorkspaceError
from lanelock.policies.project import FILE
from lanelock.sweeps.engines import project_here
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.project.begin import read_source, write_project
from lanelock.sweeps.project.copies import copy, eject

SOURCE = """
import numpy as np

def simulate(params, seed):
    draw = np.random.default_rng(seed)
    if params["slots"] > 18:
        raise lanelock.Failed("the hall has room for 18 slots")
    wait = draw.exponential(params["load"] / params["slots"], 200)
    return {"wait_p90": float(np.quantile(wait, 0.9)), "slots": params["slots"]}
"""
PROJECT = """
[engine]
id = "foyer"
function = "foyer:simulate"
[params]
load = 10
slots = { value = 12, low = 2, high = 20 }
[gates]
wait = "wait_p90 <= 3, 2.5"
[vetoes]
crowd = "wait_p90 <= 20"
[sweep]
minimize = "slots"
seeds = [1, 2]
trials = 8
sampler = { name = "random" }
"""


@pytest.fixture
def foyer(tmp_path, monkeypatch):
    """A project of its own, as the current folder."""
    folder = tmp_path / "foyer"
    folder.mkdir()
    (folder / "foyer.py").write_text("import lanelock\n" + SOURCE)
    (folder / FILE).write_text(PROJECT)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    sys.modules.pop("foyer", None)


def test_a_function_becomes_a_certified_lock_with_an_alias(foyer, here):
    place = foyer / ".lanelock"

    def call(*arguments):
        code, out, err = here(*arguments, "--json", workspace=place)
        assert code == 0, err
        return json.loads(out)

    checked = call("check")
    assert checked["ok"] and checked["verdict"] == "PASS_BPLUS" and checked["metrics"]["slots"] == 12
    defaults = {row["field"]: row["value"] for row in checked["settings"] if row["default"]}
    assert defaults["sweep.batch"] == 4 and defaults["sweep.accept"] == "B" and "sweep.seeds" not in defaults
    run = call("run", "--score", "--publish")
    assert (run["seed"], run["verdict"]) == (1, "PASS_BPLUS")
    assert call("verify", run["run_id"])["ok"] and call("replay", run["run_id"])["identical"]
    swept = call("sweep")
    assert swept["decision"] == "GO" and swept["best"]["values"]["slots"] < 12
    assert call("verify", "foyer-1")["ok"]
    assert call("certify", "foyer-1", "--holdout-seeds", 4)["verdict"] == "PASS_BPLUS"
    assert call("promote", "foyer-1", "--to", "last-good")
    assert call("run", "--pack", "last-good", "--seed", 3, "--score")["verdict"] == "PASS_BPLUS"


def test_init_writes_what_the_source_says_and_refuses_to_overwrite(tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foyer.py").write_text(SOURCE)
    code, out, _ = here("init", "foyer", "--function", "foyer:simulate", workspace=tmp_path / ".lanelock")
    assert code == 0 and [line.strip() for line in out.splitlines()[2:]] == [
        "lanelock check", "lanelock sweep", "lanelock ui",
    ]  # fmt: skip
    project = project_here()
    assert project is not None and list(project.start["params"]) == ["slots", "load"]
    assert list(project.gates["metrics"]) == ["wait_p90"] and load_lane("foyer").knobs[0].name == "slots"
    text = (tmp_path / FILE).read_text()
    assert (tmp_path / text.partition("#:schema ")[2].partition("\n")[0]).is_file(), "the schema for editors"
    with pytest.raises(WorkspaceError, match="exists"):
        write_project(tmp_path, "other", "foyer:simulate", None)
    assert (tmp_path / FILE).read_text() == text


@pytest.mark.parametrize(
    ("name", "function", "command", "why"),
    [
        ("queue", "a:b", None, "the name of an installed engine"),
        ("Foyer", "a:b", None, "/engine/id"),
        ("foyer", "simulate", None, "/engine/function"),
        ("foyer", None, "", "--command: empty"),
        ("foyer", None, "a 'b", "--command: No closing quotation"),
    ],
)
def test_init_refuses_what_cannot_be_one_and_writes_nothing(tmp_path, name, function, command, why):
    with pytest.raises(PolicyError, match=why):
        write_project(tmp_path, name, function, command)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "source", ["", "def f(:", "x = 1", "def simulate(): pass", "class A:\n def simulate(self, p): return p['a']", "\0"]
)
def test_a_source_that_says_nothing_is_no_error(tmp_path, source):
    (tmp_path / "a.py").write_text(source)
    read_source(tmp_path / "a.py", "simulate")
    assert read_source(tmp_path / "b.py", "simulate").params == {}


def test_check_names_what_is_not_deterministic_and_what_is_not_measured(foyer, here):
    source = (foyer / "foyer.py").read_text()
    (foyer / "foyer.py").write_text(source.replace("default_rng(seed)", "default_rng()"))
    code, out, _ = here("check", workspace=foyer / ".lanelock")
    assert code == 1 and "PROBLEM  not deterministic: seed 1 gave another metrics the second time" in out
    (foyer / "foyer.py").write_text(source)
    (foyer / FILE).write_text(PROJECT.replace("foyer:", "hall2:").replace("wait_p90 <=", "wait_p99 <="))
    shutil.copy(foyer / "foyer.py", foyer / "hall2.py")
    code, out, _ = here("check", workspace=foyer / ".lanelock")
    assert code == 1 and "metric wait_p99 is missing or not finite on seed 1; the engine gives" in out
    assert "the engine gives metrics (wait_p90, slots)" in out


def test_check_lists_each_table_with_its_own_columns(foyer, here):
    source = (foyer / "foyer.py").read_text().replace('"slots": params["slots"]}', '"calls": {"wait": wait}}')
    (foyer / "foyer.py").write_text(source)
    _, out, _ = here("check", workspace=foyer / ".lanelock")
    assert "metric slots is missing" in out and "the engine gives metrics (wait_p90), calls (wait)\n" in out


@pytest.mark.parametrize(("value", "noted"), [(2, False), (18, False), (1, True), (19, True)])
def test_check_notes_a_start_outside_its_range(foyer, here, value, noted):
    knob = f"value = {value}, low = 2, high = 18"
    source = (foyer / "foyer.py").read_text().replace('params["slots"] > 18', 'params["slots"] > 19')
    (foyer / "foyer.py").write_text(source)
    (foyer / FILE).write_text(PROJECT.replace("value = 12, low = 2, high = 20", knob))
    _, out, _ = here("check", workspace=foyer / ".lanelock")
    assert ("outside the knob slots: 2 … 18" in out) == noted


def test_a_sweep_of_an_engine_that_draws_at_random_says_what_may_be_wrong(foyer, here):
    source = (foyer / "foyer.py").read_text()
    (foyer / "foyer.py").write_text(source.replace("default_rng(seed)", "default_rng()"))
    code, _, err = here("sweep", workspace=foyer / ".lanelock")
    assert code == 3 and "the engine gives other results the second time" in err


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("low = 2", "low = 30", "/params/slots: low 30 is not below high 20"),
        ("trials = 8", "trials = 0", "/sweep/trials: 0 is below the minimum 1"),
        ('{ name = "random" }', '{ name = "annealing" }', "/sweep/sampler/name: 'annealing' is not one of"),
        ("seeds = [1, 2]", 'seeds = [1, 2]\naccept = "C"', "/sweep/accept: not one of"),
        ("seeds = [1, 2]", "seeds = [1, 2]\ncolour = 1", "lanelock.toml: /sweep: unknown field colour"),
        ('"foyer:simulate"', '"foyer:simulat"', "simulat"),
        ('"foyer:simulate"', '"hallo:simulate"', "hallo"),
        ('"foyer"\n', '"queue"\n', "/engine/id: queue is the name of an installed engine"),
    ],
)
def test_a_wrong_field_is_named_as_the_file_has_it(foyer, here, old, new, why):
    (foyer / FILE).write_text(PROJECT.replace(old, new, 1))
    code, _, err = here("check", workspace=foyer / ".lanelock")
    assert code == 2 and why in err and err.count("\n") == 1, err


def test_what_is_ejected_plays_the_same_trials(foyer, here, monkeypatch):
    before = lane_digest(load_lane("foyer"))
    eject(project_here(), foyer / "out")
    with pytest.raises(WorkspaceError, match="exists"):
        eject(project_here(), foyer / "out")
    monkeypatch.chdir(foyer / "out")
    assert lane_digest(load_lane("lane.json")) == before
    code, out, err = here("sweep", "lane.json", "--json", workspace=foyer / ".lanelock")
    assert code == 0 and json.loads(out)["best"]["values"]["slots"] < 12, err


def lane_digest(lane):
    """What decides a sweep's trials, whatever the files are called."""
    document = {key: value for key, value in lane.document.items() if key not in ("authority", "$schema")}
    gates = {key: value for key, value in lane.gates_file.items() if key != "$schema"}
    return json.dumps([document, lane.authority.digest, gates], sort_keys=True)


@pytest.mark.parametrize("name", ["p3_wide", "baseline", "segment_2b_recorded"])
def test_a_shipped_document_is_copied_and_means_the_same(tmp_path, name):
    target = tmp_path / ("copied" if name == "baseline" else "copied.json")
    for file in copy(name, target, None):
        assert file.is_file()
    with pytest.raises(WorkspaceError, match="exists"):
        copy(name, target, None)
    if name == "p3_wide":
        assert (tmp_path / json.loads(target.read_text())["$schema"]).is_file()  # an editor completes the copy
        assert load_lane(str(target)).identity == load_lane(name).identity
        for suffix in (".toml", ".yaml"):
            (file,) = copy(name, tmp_path / f"lane{suffix}", None)
            assert load_lane(str(file)).identity == load_lane(name).identity


def test_what_is_not_shipped_is_not_copied(tmp_path):
    with pytest.raises(PolicyError, match=r"nosuch: .*p3_wide"):
        copy("nosuch", tmp_path / "x", None)
    with pytest.raises(PolicyError, match="suffixes"):
        copy("p3_wide", tmp_path / "lane.txt", None)


@lanelock.engine(params={"slots": {"value": 12, "low": 2, "high": 20}}, gates={"wait": "wait <= 3, 2"}, seeds=[1, 2])
def declared(params, seed):
    """A function that declares what a sweep of it needs."""
    return {"wait": 10 / params["slots"] + seed % 7 / 100}


def test_a_declared_function_is_swept_from_python(tmp_path):
    swept = lanelock.sweep(declared, trials=6, sampler={"name": "random"}, workspace=tmp_path / "w", jobs=1)
    assert swept.outcome == "GO" and "of" in swept.reason and swept.name == "declared-1"
    assert isinstance(swept.trials, pd.DataFrame) and len(swept.trials) == 6
    assert swept.best == swept.lock.document["knobs"] if "knobs" in swept.lock.document else swept.best["slots"] > 4
    assert swept.figures["study_history"]._repr_png_().startswith(b"\x89PNG")
    assert repr(swept.lock) == f"<lock {swept.lock.name}: GO, {swept.lock.verdict}>"
    assert "GO" in repr(swept) and "slots" in swept._repr_html_() and "<img" in swept.figures._repr_html_()
    assert declared({"slots": 5}, 1) == {"wait": 2.01}, "the function stays what it is"


def test_a_wrong_keyword_is_named(tmp_path):
    with pytest.raises(PolicyError, match="/sweep: unknown field colour"):
        lanelock.sweep(declared, colour="red", workspace=tmp_path / "w")
    with pytest.raises(LaneError, match="3 is not a function"):
        lanelock.sweep(3, workspace=tmp_path / "w")
    with pytest.raises(LaneError, match="the function is called <lambda>; name the engine with id="):
        lanelock.sweep(lambda params, seed: {}, params={"a": 1}, workspace=tmp_path / "w")


def test_a_parameter_that_is_not_there_is_named_with_those_that_are(foyer, here):
    (foyer / FILE).write_text(PROJECT.replace("load = 10", "laod = 10"))
    code, _, err = here("check", workspace=foyer / ".lanelock")
    assert code == 2 and "KeyError: 'load'; the parameters are laod, slots" in err and err.count("\n") == 1


def test_a_quiet_check_still_says_what_is_wrong(foyer, here):
    (foyer / FILE).write_text(PROJECT.replace("wait_p90 <= 3", "wait_p9 <= 3"))
    code, out, err = here("check", "--quiet", workspace=foyer / ".lanelock")
    assert (code, out) == (1, "") and "metric wait_p9 is missing" in err
