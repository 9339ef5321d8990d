"""A runtime lock: made of a comparison that holds, proved from itself, found where it was edited; code that drifts."""

import json
import sys
from types import SimpleNamespace

import pytest
import relay

from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, LaneError, PolicyError, RefusedError, load_pack
from lanelock.policies.documents import digest, read_json, shipped_schema, validate
from lanelock.sweeps.decision.decision import Decision
from lanelock.sweeps.decision.runtime import hold_to_runtime, time_candidate
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.page import as_markdown
from lanelock.sweeps.perf import locking
from lanelock.sweeps.perf.code_lane import Comparison, Measured, Terms, compared, derived, measured_of
from lanelock.sweeps.perf.comparisons import store
from lanelock.sweeps.perf.locked_page import locked_page
from lanelock.sweeps.perf.locking import lock_runtime, verify_runtime
from lanelock.sweeps.perf.measure import Request, one_round
from lanelock.sweeps.proof.runtime_locks import (
    STATUS,
    RuntimeLock,
    find_runtime_lock,
    newest,
    reference_of,
    runtime_locks,
)
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.upkeep.retention import survey
from lanelock.sweeps.upkeep.status import locks_in
from lanelock.sweeps.workspace import Workspace

NAME, SIDES = "relay-compare-1", ("candidate", "reference")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a runtime lock of the relay's code, its comparison and its engine.

    It is compared with itself, and the reference is then given three times its seconds: the gain is as if there were
    one, in two processes.
    """
    folder = tmp_path_factory.mktemp("locked")
    side, engine = relay.installed(folder / "code"), relay.engine(folder / "code")
    workspace, pack = Workspace.at(folder / "ws"), load_pack(folder / "code" / "pack", engine.policy_schemas)
    before, sys.path[:] = list(sys.path), [str(folder / "code"), *sys.path]
    try:
        first = one_round(side, Request(str(folder / "code" / "pack"), 7))
        reference = slower_reference(first)
        comparison = compared(pack, engine, reference, workspace, NAME, Terms(rounds=1, seed=7))
    finally:
        sys.path[:] = before
    store(comparison, workspace)
    path = lock_runtime(comparison, engine, workspace, "it is three times as fast")
    return SimpleNamespace(workspace=workspace, engine=engine, comparison=comparison, path=path, pack=pack)


def slower_reference(first):
    """One round as a reference that took a second longer in each state."""
    document = measured_of("a build before", first, [first]).document
    for clock in ("cpu_s", "wall_s"):
        document[clock] = {state: [1 + value for value in values] for state, values in document[clock].items()}
    return Measured(**document)


@pytest.fixture
def here(made, monkeypatch):
    """What was made, where verifying finds the engine by its name."""
    monkeypatch.setattr(locking, "engine_named", lambda name: made.engine)
    monkeypatch.syspath_prepend(str(made.workspace.root.parent / "code"))
    return made


@pytest.mark.plan("5.5.1")
def test_a_runtime_lock_holds_code_pack_run_and_seconds_and_is_proved_from_itself(here):
    lock = RuntimeLock.read(here.path)
    validate(lock.document, shipped_schema("runtime_lock"), str(here.path))
    assert lock.document["status"] == STATUS == "FROZEN_OPTIMIZATION_LOCKED"
    assert RuntimeLock.of(lock.document, "") == lock
    assert lock.code == here.engine.code_files and len(lock.code) > 0
    assert lock.pack.digest == here.pack.digest and lock.comparison["candidate"]["run_id"]
    assert lock.comparison["candidate"]["digests"]["last"] and lock.made_by["python"] and lock.why and lock.who
    found = verify_runtime(here.path)
    assert found.ok and any("gives 3 surfaces" in row for row in found.proved)
    assert any("and replays them" in row for row in found.proved)
    for said in ("the seconds of every round", "a build before gave and took", "the budgets", "locked at"):
        assert any(said in row for row in found.not_proved), said
    assert here.path.with_suffix(".md").read_text() == as_markdown(locked_page(lock))
    boxes, _ = Outbox(here.workspace).addressed()
    letters = [letter for box in boxes for letter in box.letters() if letter.kind == "close"]
    (told,) = [letter.entry for letter in letters if letter.entry.tags["lanelock.kind"] == "runtime_lock"]
    assert told.tags["lanelock.status"] == STATUS and told.metrics["saved_seconds/middle"] > 0.5
    assert json.loads(told.files["runtime_lock.json"]) == lock.document


def test_it_stands_beside_the_locks_and_disturbs_none(here):
    assert here.path.is_relative_to(here.workspace.locks) and not [*locks_in(here.workspace)]
    assert not survey(here.workspace).remove, "nothing of it is pruned, and no lock is looked for in it"
    assert find_runtime_lock(NAME, here.workspace) == find_runtime_lock(str(here.path), here.workspace) == here.path
    assert (
        find_runtime_lock("other", here.workspace)
        is None
        is find_runtime_lock(str(here.path.with_suffix(".md")), here.workspace)
    )
    with pytest.raises(RefusedError, match="is locked already"):
        lock_runtime(here.comparison, here.engine, here.workspace, "again")


def edited(path, target, change, *, signed):
    """Writes a lock with one change to a copy, its id made to fit where `signed`."""
    document = read_json(path)
    change(document)
    if signed:
        document["runtime_id"] = digest({name: value for name, value in document.items() if name != "runtime_id"})
    target.write_text(json.dumps(document))
    return target


FORGERIES = {
    "a shorter median": lambda lock: lock["comparison"]["gains"][-1]["after"].update(value=0.0),
    "another outcome": lambda lock: lock["comparison"].update(outcome="NO_GO"),
    "a rail": lambda lock: lock["comparison"]["rails"][0].update(witness="all is well"),
    "a surface": lambda lock: [lock["comparison"][side]["digests"].update(last="0" * 64) for side in SIDES],
    "a run": lambda lock: lock["comparison"]["candidate"].update(run_id="0" * 32),
    "an audit": lambda lock: lock["comparison"]["candidate"].update(audit=None),
    "a file of code": lambda lock: lock["code"].update({next(iter(lock["code"])): "0" * 64}),
    "another name": lambda lock: lock.update(name="relay-compare-2"),
    "rows of a state": lambda lock: [lock["comparison"][side]["rows"].update(last=2) for side in SIDES],
    "a replay": lambda lock: lock["comparison"]["candidate"].update(replay=None),
    "what states read": lambda lock: lock["comparison"]["candidate"]["inputs"].clear(),
    "the state of a surface": lambda lock: lock["comparison"]["candidate"]["states"].update(last="first"),
    "published files": lambda lock: lock["comparison"]["candidate"]["published"].update(files=1),
    "rounds that it lacks": lambda lock: lock["comparison"]["terms"].update(rounds=9),
    "the pack": lambda lock: lock["comparison"]["pack"]["policies"]["relay_v1"].update(rows=999),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_whatever_is_edited_is_found_also_under_an_id_that_fits(here, tmp_path, change):
    with pytest.raises(IntegrityError, match="runtime_id"):
        verify_runtime(edited(here.path, tmp_path / "plain.json", change, signed=False))
    signed = edited(here.path, tmp_path / "signed.json", change, signed=True)
    try:
        assert not verify_runtime(signed).ok
    except IntegrityError as error:
        assert "\n" not in str(error)


def test_what_is_no_runtime_lock_any_more_is_said(here, tmp_path):
    def gone(lock):
        del lock["comparison"]["terms"]

    with pytest.raises(IntegrityError, match=r"not a whole runtime lock: .*/comparison"):
        RuntimeLock.read(edited(here.path, tmp_path / "a.json", gone, signed=True))
    place = Workspace.at(tmp_path / "ws")
    place.runtime_locks.mkdir()
    (place.runtime_locks / "other.json").write_text(here.path.read_text())
    with pytest.raises(IntegrityError, match="not the name of its file"):
        runtime_locks(place)


def test_a_comparison_that_does_not_hold_or_ran_other_code_is_not_locked(here, tmp_path):
    place, old = Workspace.at(tmp_path / "ws"), here.comparison
    worse = Measured(**{**old.candidate.document, "audit": False})
    document = {**old.document, "candidate": worse.document}
    with pytest.raises(RefusedError, match="is not locked: audit: this tree: failed"):
        lock_runtime(Comparison.of(document), here.engine, place, "why")
    other = Measured(**{**old.candidate.document, "code_version": "0" * 64})
    with pytest.raises(RefusedError, match="it ran code 000000000000, here is "):
        lock_runtime(Comparison.of({**old.document, "candidate": other.document}), here.engine, place, "why")
    carried = {**old.document["pack"], "policies": {"relay_v1": {"rows": 7}}}
    with pytest.raises(RefusedError, match="another pack than it carries"):
        lock_runtime(Comparison.of({**old.document, "pack": carried}), here.engine, place, "why")
    assert not runtime_locks(place) and newest(place, "relay") is None


@pytest.mark.plan("5.5.4")
def test_code_that_differs_from_what_is_locked_is_said_and_refused_where_a_lane_asks(here, monkeypatch):
    lock = newest(here.workspace, "relay")
    assert lock is not None and lock.drift(here.engine) == ""
    runtime = {"against": "lock", "frozen_code": True}
    lane = SimpleNamespace(id="sprint", engine=here.engine, document={"runtime": runtime})
    assert reference_of(lane, here.workspace).digest == here.pack.digest
    name = next(iter(lock.code))
    changed = {**lock.code, name: "0" * 64, "new.py": "1" * 64}
    monkeypatch.setattr(Resolved, "code_files", property(lambda engine: changed))
    drift = lock.drift(here.engine)
    assert drift.startswith(f"the code of relay is not what runtime lock {NAME} froze: ")
    assert "lanelock perf compare" in drift
    assert name in drift and "new.py" in drift and "\n" not in drift
    with pytest.raises(RefusedError, match="lane sprint: /runtime/frozen_code: the code of relay"):
        reference_of(lane, here.workspace)
    lane.document = {"runtime": {"against": f"lock:{NAME}"}}
    assert reference_of(lane, here.workspace).digest == here.pack.digest, "else it is said, and nothing more"
    assert not verify_runtime(here.path).ok


def test_the_files_of_the_code_are_those_that_its_version_covers_and_an_edit_names_one(here, tmp_path, monkeypatch):
    lock = newest(here.workspace, "relay")
    assert lock.changed(here.engine) == ()
    monkeypatch.setitem(sys.modules, "relay_code", sys.modules["relay_code"])  # put back when this is done
    relay.installed(tmp_path / "edited", middle="time.sleep(0)")
    edited = relay.engine(tmp_path / "edited")
    assert lock.changed(edited) == tuple(lock.code) == ("relay_code.py",)
    shipped = engine_named("segment_2b").code_files
    assert {"steps", "workers", "surface", "s5_routing"} <= {name.rpartition(".")[2] for name in shipped}
    assert all(len(sha256) == 64 for sha256 in shipped.values())


def test_a_lane_names_its_lock_or_has_none(here, tmp_path):
    lane = SimpleNamespace(id="sprint", engine=here.engine, document={})
    assert reference_of(lane, here.workspace) is None
    lane.document = {"runtime": {"until": "last", "at_most_times": 2}}
    assert reference_of(lane, here.workspace) is None
    for against in ("lock:gone", "lock"):
        lane.document["runtime"]["against"] = against
        with pytest.raises(LaneError, match=r"lane sprint: /runtime/against: no runtime lock .*known: none"):
            reference_of(lane, Workspace.at(tmp_path / "ws"))
    schema = shipped_schema("lane")["properties"]["runtime"]
    validate({"until": "S5", "at_most_times": 1.2, "against": "lock:a-1", "frozen_code": True}, schema, "lane")
    for wrong in ({"against": "p1"}, {"frozen_code": True}, {"against": "lock:../x"}):
        with pytest.raises(PolicyError):
            validate({"until": "S5", "at_most_times": 1.2, **wrong}, schema, "lane")


def test_a_candidate_is_timed_against_the_locked_pack_in_the_authoritys_place():
    timed = list[str]()

    def evaluate(pack, seed, **options):
        timed.append(pack.name)
        return sum(range(pack.work))

    quick, busy = (SimpleNamespace(name=name, work=work) for name, work in (("locked", 1_000), ("busy", 200_000)))
    limit = {"until": "last", "at_most_times": 1.5, "against": "lock"}
    engine = SimpleNamespace(name="relay", evaluate=evaluate)
    gates = SimpleNamespace(of_band=lambda band: "FAIL")
    lane = SimpleNamespace(
        engine=engine, authority=busy, gates=gates, document={"runtime": limit, "decision": {"accept_band": "B"}}
    )
    runtime = time_candidate(lane, busy, None, quick)
    assert set(timed) == {"locked", "busy"} and timed.count("locked") == timed.count("busy")
    assert not runtime.holds and runtime.ratio > 1.5
    go = Decision("GO", "PASS", "it holds", None, (), None)
    held = hold_to_runtime(go, runtime, lane)
    assert held.outcome == "NO_GO" and "times what was locked, 1.5 are allowed" in held.reason


def test_seconds_of_another_round_would_have_been_another_lock(here):
    document = here.comparison.document
    slower = {**document["candidate"], "cpu_s": {state: [9.0] for state in document["candidate"]["cpu_s"]}}
    again = Comparison.of({**document, "candidate": slower})
    assert here.comparison.derived.outcome == "GO" and again.derived.outcome == "NO_GO"
    assert again.derived == derived(here.comparison.reference, Measured(**slower), again.terms, again.order, {})
