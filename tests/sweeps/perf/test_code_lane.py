"""A code lane: two builds of a small engine in real processes; what must hold, what is gained, what is refused."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import click
import pytest
import relay

from lanelock.engine.keep.staging import clear_abandoned
from lanelock.policies import DataError, EngineError, IntegrityError, PolicyError, WorkspaceError, load_pack
from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.policies.project import FILE
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.perf.code_lane import Comparison, Measured, Terms, check_states, compare, derived
from lanelock.sweeps.perf.comparison_page import comparison_page, rows
from lanelock.sweeps.perf.comparisons import find_comparison, read, store, store_next
from lanelock.sweeps.perf.environments import sides
from lanelock.sweeps.perf.measure import Request, one_round
from lanelock.sweeps.terminal.commands.code_lanes import Share
from lanelock.sweeps.workspace import Workspace

BUSY = "sum(range(3_000_000))"  # tens of milliseconds of a processor
STATES = ("first", "middle", "last", "publishing", "elsewhere", "loading")


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Folders with builds of one engine: as it is, with a busy middle state, with one that rests, and with a twist."""
    root = tmp_path_factory.mktemp("builds")
    relay.installed(root / "plain", version="plain")
    relay.installed(root / "busy", middle=BUSY, version="busy")
    relay.installed(root / "rests", middle="time.sleep(0.2)", version="rests")
    relay.installed(root / "twisted", twist=", 1", version="twisted")
    relay.installed(root / "wanders", between="time.sleep(0.4)", version="wanders")
    return root


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace.at(tmp_path_factory.mktemp("lanes") / "ws")


def compared(
    builds, here, against, workspace, name="relay-compare-1", watch=lambda *_: None, keep=lambda it: it, **terms
):
    """The comparison of the build `here`, as this tree, with another."""
    engine, before = relay.engine(builds / here), list(sys.path)
    pack = load_pack(builds / here / "pack", engine.policy_schemas)
    sys.path.insert(0, str(builds / here))
    try:
        return compare(pack, engine, str(builds / against), workspace, name, Terms(**terms), watch, keep)
    finally:
        sys.path[:] = before


@pytest.fixture(scope="module")
def faster(builds, workspace):
    """The plain build against the busy one, over three rounds."""

    def keep(made):
        assert [*workspace.scratch.iterdir()], (
            "what is laid out is still there, and an end while it is removed is no loss"
        )
        return store_next(made, workspace)

    return compared(builds, "plain", "busy", workspace, keep=keep, rounds=3)


@pytest.mark.plan("5.1.1", "5.1.2", "5.1.3", "5.2.2", "5.4.1", "5.4.2", "5.4.3")
def test_a_faster_build_that_gives_the_same_closes_go(faster, workspace):
    found = faster.derived
    assert found.outcome == "GO" and found.holds and not found.slower, found.reason
    gain = {row.state: row for row in found.gains}
    assert set(gain) == {*STATES, "all"} and gain["middle"].faster and gain["all"].faster
    assert gain["middle"].ratio.high < 0.5 and gain["middle"].saved.low > 0
    assert next(iter(rows(faster)))[0] == "middle", "the state that changed most stands first"
    assert [rail.rail for rail in found.rails] == ["surfaces", "rows", "replay", "audit"]
    assert all(rail.ok for rail in found.rails)
    assert faster.candidate.replay == faster.reference.replay == "" and faster.candidate.audit is True
    assert faster.candidate.code_version != faster.reference.code_version, "each side ran its own code"
    assert [len(side.cpu_s["middle"]) for side in (faster.reference, faster.candidate)] == [3, 3]
    assert not [*workspace.scratch.iterdir()], "what was laid out is gone"
    assert read(find_comparison(faster.name, workspace)) == faster


def test_what_a_comparison_states_follows_from_its_rounds(faster, tmp_path):
    place = Workspace.at(tmp_path / "ws")
    path = store(faster, place)
    validate(read_json(path), shipped_schema("comparison"), str(path))
    assert read(path) == faster == Comparison.of(faster.document)
    assert find_comparison(faster.name, place) == path
    assert path.with_suffix(".md").read_text() == as_markdown(comparison_page(faster))
    assert "GO" in path.with_suffix(".html").read_text()
    for before, after in (('"outcome": "GO"', '"outcome": "NO_GO"'), ('"holds": true', '"holds": false')):
        text = path.read_text()
        path.write_text(text.replace(before, after))
        with pytest.raises(IntegrityError, match="does not follow from the rounds"):
            read(path)
        path.write_text(text)
    with pytest.raises(PolicyError, match=f"known: {faster.name}"):
        find_comparison("other", place)


@pytest.mark.plan("5.5")
def test_a_state_that_rests_is_found_though_it_takes_no_processor_and_blocks(builds, workspace):
    slowed = compared(builds, "rests", "plain", workspace, rounds=1)
    found = slowed.derived
    assert found.outcome == "NO_GO" and not found.holds and all(rail.ok for rail in found.rails)
    assert "middle" in found.slower and found.reason.startswith("middle takes "), found.reason
    assert "without an explained cause" in found.reason
    assert next(iter(rows(slowed)))[0] == "middle" and next(iter(rows(slowed)))[-1] == "SLOWER"
    assert not [*workspace.scratch.iterdir()]
    why = Terms(rounds=1, explained=dict.fromkeys(found.slower, "it waits for a lamp"))
    again = derived(slowed.reference, slowed.candidate, why, slowed.order, {})
    assert again.holds and again.slower == found.slower, "an explained cause lets it close"


def test_what_is_hidden_outside_of_all_states_is_found_and_blocks(builds, workspace, faster):
    found = compared(builds, "wanders", "plain", workspace, rounds=1).derived
    assert not found.holds and "elsewhere" in found.slower and found.reason.startswith("elsewhere takes "), found.reason
    gain = {row.state: row for row in found.gains}
    assert gain["all"].wall_after.value >= gain["elsewhere"].wall_after.value > 0.4, "and it counts with the states"

    def moved(seconds, **to):
        """The faster build with seconds of each round somewhere else."""
        side = copy.deepcopy(faster.candidate.document)
        for clock in ("cpu_s", "wall_s"):
            side[clock].update({name: [one + seconds for one in side[clock][name]] for name in to})
        return derived(faster.reference, Measured(**side), faster.terms, faster.order, {})

    assert moved(0).outcome == "GO"
    assert moved(1, elsewhere=True).slower == ("elsewhere", "all")
    loading = moved(1, loading=True)
    assert loading.slower == ("loading",) and loading.outcome == "NO_GO" and loading.whole.faster


@pytest.mark.plan("5.2")
def test_a_build_that_changes_one_byte_is_refused_and_the_surface_named(builds, workspace):
    found = compared(builds, "twisted", "plain", workspace, rounds=1).derived
    assert found.outcome == "NO_GO" and found.changed == ("last",) and found.following == ()
    assert found.reason == "surfaces: last differs"


def altered(comparison, **digests):
    """The reference of a comparison with other digests, by surface."""
    side = comparison.reference.document
    return Measured(**{**side, "digests": {**side["digests"], **digests}})


def test_what_follows_from_a_changed_law_is_told_apart_and_may_be_allowed(faster):
    def found(reference=None, candidate=None, **terms):
        sides = reference or faster.reference, candidate or faster.candidate
        return derived(*sides, Terms(rounds=3, **terms), faster.order, {})

    other = altered(faster, middle="0" * 64, last="1" * 64)
    seen = found(other)
    assert (seen.changed, seen.following, seen.outcome) == (("middle",), ("last",), "NO_GO")
    assert seen.reason == "surfaces: middle differs; following from that: last"
    assert found(other, allowed=("middle",)).outcome == "GO", "and so is what follows from it"
    assert found(other, allowed=("last",)).reason == "surfaces: middle differs"
    assert found(altered(faster, world="2" * 64)).changed == ("world",)
    less = {**faster.candidate.document, "rows": {**faster.candidate.rows, "last": 2}}
    assert found(candidate=Measured(**less)).reason == "rows: last: 2, were 1"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("audit", False, "audit: this tree: failed"),
        ("replay", "last.parquet", "replay: this tree: its published run replays otherwise: last.parquet"),
        ("unlike", 2, "replay: this tree: round 2 gave other bytes than the first"),
    ],
)
def test_each_rail_is_broken_by_what_it_is_about(faster, field, value, reason):
    side = Measured(**{**faster.candidate.document, field: value})
    found = derived(faster.reference, side, faster.terms, faster.order, {})
    assert (found.outcome, found.reason, found.holds) == ("NO_GO", reason, False)


@pytest.mark.plan("5.2.3")
def test_metrics_may_be_compared_in_place_of_bytes_within_a_tolerance(faster):
    def found(before, after, **terms):
        sides = (
            Measured(**{**side.document, "metrics": metrics, "digests": {**side.digests, "last": digest * 64}})
            for side, metrics, digest in ((faster.reference, before, "0"), (faster.candidate, after, "1"))
        )
        asked = Terms(rounds=3, surfaces="metrics", **terms)
        return derived(*sides, asked, faster.order, {"sum": "last", "count": "first"})

    assert found({"sum": 1.0, "count": 5.0}, {"sum": 1.0 + 1e-12, "count": 5.0}).outcome == "GO"
    assert found({"sum": 1.0}, {"sum": 1.1}).reason == "metrics: sum: 1.1, was 1.0 (1 differ)"
    assert found({"sum": 1.0}, {"sum": 1.1}, tolerance=0.2).outcome == "GO"
    assert found({"sum": 1.0, "count": 5.0}, {"sum": 2.0, "count": 5.0}, allowed=("last",)).outcome == "GO"
    assert found({"sum": None}, {"sum": None}).outcome == "GO" and not found({"sum": 1.0}, {"sum": None}).holds
    assert not found({}, {"sum": 1.0}).holds and not found({}, {}).holds, "nothing compared shows nothing"


@pytest.mark.parametrize("kind", ["wheel", "commit"])
def test_a_side_is_a_wheel_or_a_commit_laid_out_and_removed(builds, tmp_path, monkeypatch, kind):
    place, root = Workspace.at(tmp_path / "ws"), tmp_path / "repo"
    monkeypatch.chdir(tmp_path)
    if kind == "wheel":
        against = "relay_code-0.1-py3-none-any.whl"
        with zipfile.ZipFile(against, "w") as wheel:
            for file in (path for path in (builds / "twisted").rglob("*") if path.is_file()):
                wheel.write(file, file.relative_to(builds / "twisted"))
    else:
        relay.installed(root / "code", twist=", 1", version="twisted")
        (root / "src").mkdir()
        for file in ("relay_code.py", "relay_code-0.1.dist-info"):
            (root / "src" / file).symlink_to(f"../code/{file}")
        against = _committed(root, "as it was")
        (root / "code" / "relay_code.py").write_text("raise SystemExit('not as it was')")
        monkeypatch.chdir(root)
    with sides(against, place) as (here, other):
        assert here.name == "this tree" and against in other.name
        laid_out = Path(other.path[0])
        assert laid_out.is_relative_to(place.scratch)
        row = one_round(other, Request(str(builds / "twisted" / "pack"), publish=False))
    assert row.answer["code_version"] == relay.engine(builds / "twisted").code_version
    assert not laid_out.exists() and not [*place.scratch.iterdir()]


def _committed(root, what, tag="before"):
    """Commits everything in a folder, and returns the name of a tag on it."""
    said = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for call in (["init", "-q"], ["add", "-A"], ["commit", "-qm", what], ["tag", tag]):
        subprocess.run(["git", *who, *call], cwd=root, env=said, check=True)
    return tag


@pytest.mark.slow
def test_a_commit_that_asks_for_other_libraries_runs_in_an_environment_of_its_own(tmp_path, monkeypatch):
    root, place = tmp_path / "repo", Workspace.at(tmp_path / "ws")
    _lamp(root, "import sys; open('prefix', 'w').write(sys.prefix); return {'light': params['load']}")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "lamp"\nversion = "0.1"\n[tool.setuptools]\npy-modules = ["lamp"]\n'
    )
    (root / "requirements.lock").write_text("# as it was\n")
    before = _committed(root, "as it was")
    monkeypatch.chdir(root)
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "false")  # which pip reads as: build with what is here
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    with sides(before, place) as (here, other):
        assert other.python == here.python == sys.executable, "the same libraries: the same Python"
    (root / "requirements.lock").write_text("# as it is\n")
    with sides(before, place) as (here, other):
        assert Path(other.python).is_relative_to(place.scratch) and other.python != here.python
        row = one_round(other, Request("start", publish=False))
        assert Path((Path(other.folder) / "prefix").read_text()) == Path(other.python).parents[1]
    assert row.answer["engine"] == "lamp" and not Path(other.python).exists() and not [*place.scratch.iterdir()]
    (root / "requirements.lock").write_text("no-such-library==0 ; python_version < '3'\n-r gone.lock\n")
    _committed(root, "wrong", "wrong")
    (root / "requirements.lock").write_text("# as it is\n")
    with (
        pytest.raises(WorkspaceError, match=r"^wrong: its requirements.lock is another .*gone.lock"),
        sides("wrong", place),
    ):
        pass
    assert not [*place.scratch.iterdir()]


def test_what_is_no_side_is_said_in_one_line(builds, tmp_path, monkeypatch):
    place = Workspace.at(tmp_path / "ws")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.whl").write_text("no archive")
    (tmp_path / "notes.txt").write_text("")

    def refused(against, kind=PolicyError):
        with pytest.raises(kind) as error, sides(against, place):
            pass
        assert "\n" not in str(error.value) and not [*place.scratch.iterdir()]
        return str(error.value)

    assert refused("gone.whl") == "gone.whl: no such file"
    assert refused("broken.whl").startswith("broken.whl: not a wheel: ")
    assert "as a wheel (.whl) or as the Python" in refused("notes.txt")
    assert "is in no git repository" in refused("v1.0", WorkspaceError)
    assert "no name of a commit" in refused("--output=x") and "no name of a commit" in refused("--help")
    assert refused(" ") == refused("") == "--against: name a commit, a wheel, a folder or a Python"
    assert "is in no git repository" in refused("a" * 5000, WorkspaceError)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "a.txt").write_text("")
    _committed(tmp_path / "repo", "one")
    monkeypatch.chdir(tmp_path / "repo")
    assert "no commit here; name a branch, a tag or an id" in refused("v1.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git, which knows commits, is not here" in refused("v1.0", WorkspaceError)


def test_a_state_that_there_is_not_and_a_side_that_does_not_run_are_named(workspace, tmp_path):
    for terms in ({"allowed": ("fourth",)}, {"explained": {"fourth": "why"}}):
        with pytest.raises(PolicyError, match="'fourth' is not a state: first, middle, last, publishing"):
            check_states(Terms(**terms), STATES)
    relay.installed(tmp_path / "broken", middle="raise ValueError('no lamp')", version="broken")
    with pytest.raises(EngineError, match="no lamp"):
        compared(tmp_path, "broken", "broken", workspace, rounds=1)


def test_two_that_end_at_once_are_both_kept_and_none_takes_the_name_of_a_lock(faster, tmp_path):
    place = Workspace.at(tmp_path / "ws")
    first, second = (store_next(faster, place) for _ in range(2))
    assert first == faster and second == replace(faster, name="pack-compare-1")
    place.runtime_locks.mkdir(parents=True)
    (place.runtime_locks / "pack-compare-2.json").write_text("{}")
    third = store_next(faster, place)
    assert third.name == "pack-compare-3"
    assert [read(find_comparison(made.name, place)) for made in (first, second, third)] == [first, second, third]


def more_rounds(document):
    document["candidate"]["cpu_s"]["middle"].append(1.0)


FORGED = {
    "a round more": more_rounds,
    "fewer rounds": lambda it: it["terms"].update(rounds=1),
    "a state of one clock": lambda it: it["candidate"]["wall_s"].pop("middle"),
    "no state": lambda it: [it[side].update(cpu_s={}, wall_s={}) for side in ("candidate", "reference")],
    "no order": lambda it: it.update(order=[]),
    "an order twice": lambda it: it.update(order=[*it["order"], *it["order"]]),
    "a cause of no state": lambda it: it["terms"]["explained"].update(fourth="why"),
    "another name": lambda it: it.update(name="other"),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_comparison_without_all_its_rounds_is_refused_in_one_line(faster, tmp_path, change):
    path = store(faster, Workspace.at(tmp_path / "ws"))
    document = read_json(path)
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=r"^[^\n]*relay-compare-1\.json: [^\n]*$"):
        read(path)


def test_a_state_that_says_to_read_itself_ends(faster):
    side = Measured(**{**altered(faster, last="0" * 64).document, "inputs": {"middle": ["middle"], "last": ["last"]}})
    assert derived(side, replace(faster.candidate, inputs=side.inputs), faster.terms, faster.order, {}).changed == (
        "last",
    )


def test_terms_that_cannot_be_met_are_said_after_the_first_round(builds, workspace):
    turns = []
    with pytest.raises(PolicyError, match="--allow: 'fourth' is not a state"):
        compared(builds, "plain", "busy", workspace, watch=lambda *turn: turns.append(turn), allowed=("fourth",))
    assert [turn for turn, _ in turns] == [0, 0]
    for kind, text in ((Share(0, 1), "nan"), (Share(0, 100), "inf")):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_a_side_that_holds_nothing_or_ends_without_an_answer_is_no_side(builds, tmp_path, monkeypatch):
    place = Workspace.at(tmp_path / "ws")
    _lamp(tmp_path / "lamp", "return {'light': params['load']}")
    monkeypatch.chdir(tmp_path / "lamp")
    Path("em pty").mkdir()
    with zipfile.ZipFile("other-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    for against in ("em pty", "other-1.0-py3-none-any.whl"):
        with sides(against, place) as (_, other), pytest.raises(DataError, match="nothing in it was run"):
            one_round(other, Request("start", publish=False))
    with sides("/bin/true", place) as (_, other), pytest.raises(EngineError, match="ended without an answer"):
        one_round(other, Request("start"))
    Path("this tree").mkdir()
    with sides("this tree", place) as (here, other):
        assert here.name != other.name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_comparison_that_is_ended_leaves_nothing(tmp_path, number, code):
    project = _lamp(tmp_path / "lamp", "open('began', 'w').write(str(os.getpid())); time.sleep(300)")
    call = [sys.executable, "-m", "lanelock", "perf", "compare", "start", "--against", ".", "--workspace", "ws"]
    with subprocess.Popen(call, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as ours:
        worker = _until(lambda: (project / "began").exists() and (project / "began").read_text())
        ours.send_signal(number)
        assert ours.wait(30) == code
    _until(lambda: not Path(f"/proc/{worker}").exists() or "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text())
    place = Workspace(project / "ws")
    clear_abandoned(place.scratch)  # as whatever is laid out there next does; after a kill there is something to clear
    assert not [*place.scratch.iterdir()] and not place.perf.exists()


def _lamp(project, does):
    """Writes a project of one function, and returns its folder."""
    project.mkdir()
    (project / "lamp.py").write_text(f"import os, time\ndef run(params, seed):\n    {does}\n")
    (project / FILE).write_text(
        '[engine]\nid = "lamp"\nfunction = "lamp:run"\n[params]\nload = { value = 1, low = 0, high = 2 }\n'
        '[gates]\nlight = "light >= 1, 2"\n[sweep]\nminimize = "light"\n'
    )
    return project


def _until(seen):
    """Returns what is seen once it is; fails where that takes a minute."""
    until = time.monotonic() + 60
    while not (found := seen()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def test_an_interval_follows_from_the_rounds_whatever_their_order(faster):
    def turned(side):
        document = copy.deepcopy(side.document)
        for clock in ("cpu_s", "wall_s"):
            document[clock] = {state: values[::-1] for state, values in reversed([*document[clock].items()])}
        return Measured(**document)

    again = derived(turned(faster.reference), turned(faster.candidate), faster.terms, faster.order, {})
    assert again == faster.derived
