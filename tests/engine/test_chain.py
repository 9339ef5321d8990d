"""Chains: a till behind a queue. One contract, one pack of both, one lock from which both are run again."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import atlas
import pytest
import queue_engine
import till
from conftest import forged
from hypothesis import given
from hypothesis import strategies as st
from lanes import TESTS

from lanelock.engine import chain as chains
from lanelock.engine.chain import bind, upstream_codes, upstream_runs
from lanelock.engine.resolved import Resolved
from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.testing import EngineContract
from lanelock.policies import IntegrityError, LaneError, PolicyError, load_pack, pack_of
from lanelock.scoring.scorecard import gates_of, measured, score
from lanelock.sweeps import engines
from lanelock.sweeps.audit import audit
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.verification import otherwise, verify_lock
from lanelock.sweeps.search.played_by import played_by
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

CHAINED = TESTS / "chained_engines"
LANE = {
    "id": "till", "title": "Quick tills", "why": "A test.", "engine": "till", "authority": str(CHAINED / "till_pack"),
    "fixed": {},
    "knobs": {
        "pay": {"at": "till_policy_v1#/pay", "low": 0.5, "high": 4.0},
        "calls": {"at": "till_policy_v1#/calls", "low": 0.5, "high": 2.0},
    },
    "seeds": [1, 2], "gates": {"grade": ["minutes"], "rails": []},
    "objectives": [{"name": "margin", "direction": "maximize", "worst_margin": "B+"}],
    "budget": {"trials": 8, "seconds": 120}, "batch": 4, "sampler": {"name": "random", "seed": 7},
    "decision": {"accept_band": "B", "margin_reserve": 0.05, "confirm_seeds": 2},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def installed():
    """Makes the chains' engines known to the tests of this module alone."""
    sys.path.append(str(CHAINED))
    yield
    sys.path.remove(str(CHAINED))


def chain(name="till"):
    return bind(getattr(till, {"till": "ENGINE", "mall": "MALL"}[name]), queue_engine.QueueEngine())


def pack_of_till(engine=None):
    return load_pack(CHAINED / "till_pack", (engine or chain()).policy_schemas, "till")


def lane(folder, **changed):
    (folder / "till.json").write_text(json.dumps({**LANE, **changed}))
    return load_lane(str(folder / "till.json"))


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


@pytest.fixture
def fresh():
    """Forgets the chains before and after a test that changes an engine."""
    forget()
    yield
    forget()


def forget():
    for known in (engines._installed_engine, engines._installed_metrics, engines._chained):
        known.cache_clear()


class TestTill(EngineContract):
    def make_engine(self):
        return chain()

    def make_pack(self):
        return pack_of_till()

    def make_metrics(self):
        return metrics_named("till")


@pytest.mark.slow
class TestAtlasBehindSegment2B(EngineContract):
    """A segment behind segment 2B, which is not changed for it: how many of a merchant's arrivals come at night."""

    def make_engine(self):
        return bind(atlas.ENGINE, Segment2B())

    def make_pack(self):
        documents = load_pack("p3_recorded", SEGMENT_2B.policy_schemas, SEGMENT_2B.name).documents()
        documents["route_rng_policy_v1"]["roster"]["arrivals_per_merchant_day"] = 0.1
        return pack_of("atlas", {**documents, "atlas_policy_v1": {"night_ends": 6}}, self.make_engine().policy_schemas)

    def make_metrics(self):
        return metrics_named("atlas")


@pytest.mark.slow
def test_a_lane_behind_segment_2b_keeps_all_that_it_passes(tmp_path, workspace):
    """Its rails are the gates of segment 2B; its lock carries the policies of both, and verifies alone."""
    pack = TestAtlasBehindSegment2B().make_pack()
    folder = tmp_path / "pack"
    folder.mkdir()
    for name, document in {"pack": {"engine": "atlas"}, **pack.documents()}.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    knobs = {"night": {"at": "atlas_policy_v1#/night_ends", "low": 1, "high": 8}}
    gates = {"grade": ["nights"], "rails": []}
    changed = {"engine": "atlas", "authority": str(folder), "knobs": knobs, "gates": gates, "seeds": [42], "batch": 2}
    decision = {"accept_band": "B", "margin_reserve": 0.05, "confirm_seeds": 0}
    budget = {"trials": 3, "seconds": 600}
    ours = lane(tmp_path, **changed, id="atlas", decision=decision, budget=budget, racing=False)
    closed = play(ours, workspace, track=False)
    kept = [row for row in Lock.read(closed.lock).proof[42].card["gates"] if row["id"].startswith("keeps_")]
    assert len(kept) > 20 and all(row["margins"] for row in kept)
    shutil.rmtree(folder)
    assert verify_lock(closed.lock, workspace=workspace).ok


class TestTillBehindATill(EngineContract):
    """A chain of three: the upstream of a chain may be a chain."""

    def make_engine(self):
        class Exit(till.TillEngine):
            name = "exit"
            policy_schemas: ClassVar = {"exit_policy_v1": till.SCHEMA}
            states = ("exit",)

            def evaluate(self, pack, seed, *, upstream):
                assert upstream.engine == "till" and upstream.upstream.engine == "queue"
                return till.run_of(self, pack, seed, {"leaves": upstream.surfaces["leaves"]})

            def contract(self):
                return [{**super().contract()[0], "state": "exit"}]

        return bind(Exit(), chain())

    def make_pack(self):
        documents = {**pack_of_till().documents(), "exit_policy_v1": {"pay": 1.0, "calls": 0}}
        return pack_of("three", documents, self.make_engine().policy_schemas)


# --- one engine of two --------------------------------------------------------------------------------------


def test_a_pack_names_the_pack_of_its_upstream_and_has_the_policies_of_both(tmp_path):
    pack = pack_of_till()
    assert set(pack.policies) == {"till_policy_v1", "queue_policy_v1"}
    shutil.copytree(CHAINED / "till_pack", tmp_path / "till_pack")
    with pytest.raises(PolicyError, match=r"pack\.json: /upstream: "):
        load_pack(tmp_path / "till_pack", chain().policy_schemas)
    shutil.copytree(CHAINED / "till_queue", tmp_path / "till_queue")
    assert load_pack(tmp_path / "till_pack", chain().policy_schemas).digest == pack.digest
    (tmp_path / "till_pack" / "pack.json").write_text('{"engine": "till", "upstream": "."}')
    with pytest.raises(PolicyError, match=r"/upstream: \.: not the folder of another pack"):
        load_pack(tmp_path / "till_pack", chain().policy_schemas)
    (tmp_path / "till_pack" / "pack.json").write_text('{"engine": "till"}')
    with pytest.raises(PolicyError, match=r"queue_policy_v1\.json: the policy is missing"):
        load_pack(tmp_path / "till_pack", chain().policy_schemas)


@given(st.sampled_from(["queue_policy_v1#/servers", "till_policy_v1#/pay"]), st.integers(1, 9), st.integers(0, 99))
def test_a_run_is_known_by_its_pack_its_upstreams_and_its_seed(at, value, seed):
    engine, pack = Resolved(chain()), pack_of_till()
    before, after = engine.evaluate(pack, seed), engine.evaluate(moved := pack.with_knobs({at: value}), seed)
    same = moved.digest == pack.digest
    assert (before.run_id == after.run_id) == same
    assert (before.world_digest == after.world_digest) == (same or at.startswith("till"))
    (world,) = upstream_runs(after)
    alone = Resolved(queue_engine.QueueEngine()).evaluate(moved.part(queue_engine.QueueEngine.policy_schemas), seed)
    assert (world.run_id, world.surfaces, world.pack) == (alone.run_id, alone.digests(), alone.pack.digest)
    assert {*after.upstream.surfaces} == {"waits"}


def test_a_world_is_computed_once_however_many_ask_at_once():
    class Counted(queue_engine.QueueEngine):
        runs: ClassVar = []

        def evaluate(self, pack, seed):
            self.runs.append(seed)
            return super().evaluate(pack, seed)

    engine, pack = Resolved(bind(till.ENGINE, Counted())), pack_of_till()
    packs = [pack.with_knobs({"till_policy_v1#/pay": 1 + at / 10}) for at in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda row: engine.evaluate(row[1], row[0] % 2), enumerate(packs)))
    assert sorted(Counted.runs) == [0, 1]
    fixed = Resolved(bind(till.MALL, Counted(), seed=5))
    assert fixed.evaluate(pack, 1).world_digest == fixed.evaluate(pack, 2).world_digest and Counted.runs[2:] == [5]
    for seed in range(40):
        engine.evaluate(pack, seed)
    assert len(engine.own._worlds._known) == 16, "and no more are remembered"


def test_an_upstream_that_fails_once_is_asked_again(monkeypatch):
    engine, pack, evaluate = Resolved(chain()), pack_of_till(), queue_engine.QueueEngine.evaluate
    monkeypatch.setattr(queue_engine.QueueEngine, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(Exception, match=r"engine queue: .*division by zero"):
        engine.evaluate(pack, 1)
    monkeypatch.setattr(queue_engine.QueueEngine, "evaluate", evaluate)
    assert engine.evaluate(pack, 1).surfaces


@pytest.mark.parametrize("name", ["ring_a", "ring_b"])
def test_a_chain_that_comes_back_is_refused(name):
    other = {"ring_a": "ring_b", "ring_b": "ring_a"}[name]
    with pytest.raises(LaneError, match=f"the chain of worlds comes back to {name}: {name} -> {other} -> {name}"):
        engine_named(name)
    with pytest.raises(LaneError, match="comes back to it: till <- till <- queue"):
        bind(till.ENGINE, chain())


def test_two_policies_of_one_name_and_an_engine_that_takes_no_upstream_are_refused():
    class Twin(till.TillEngine):
        name, policy_schemas = "twin", queue_engine.QueueEngine.policy_schemas

    with pytest.raises(LaneError, match="engine queue has a policy queue_policy_v1 as well"):
        bind(Twin(), queue_engine.QueueEngine())

    class Deaf(till.TillEngine):
        def evaluate(self, pack, seed):
            return None

    with pytest.raises(LaneError, match=r"does not take \(pack, seed, upstream=\)"):
        _ = Resolved(bind(Deaf(), queue_engine.QueueEngine())).states
    with pytest.raises(LaneError, match=r"does not take \(pack, seed, upstream=\)"):
        Resolved(Deaf())


# --- what the upstream passes must still pass ---------------------------------------------------------------


def test_a_chain_keeps_what_its_upstream_passes():
    """The queue passes B+ of both gates; the till that calls customers late loses what it was given."""
    metrics, engine, pack = metrics_named("till"), engine_named("till"), pack_of_till()
    gates = gates_of(metrics)
    assert [gate.id for gate in gates.gates] == ["minutes", "keeps_wait", "keeps_at_once", "keeps_crowd"]
    margins = {}
    for calls in (0, 0.5, 1.0, 2.0):
        run = engine.evaluate(pack.with_knobs({"till_policy_v1#/calls": calls, "queue_policy_v1#/servers": 12}), 1)
        card = score(measured(metrics, run), gates, seed=1, authority=None)
        margins[calls] = card.metrics["kept/wait"]
        assert card.vetoed == ()
    assert margins[0] == margins[1.0] < margins[0.5] and margins[2.0] < margins[1.0]
    hard = pack.with_knobs({"queue_policy_v1#/servers": 10, "queue_policy_v1#/arrivals": 8.6})
    lost = engine.evaluate(hard.with_knobs({"till_policy_v1#/calls": 2.0}), 1)
    own = measured(metrics_named("queue"), lost.upstream)
    assert own["q1/wait_p90"] <= 1.0, "the queue alone passes"
    card = score(measured(metrics, lost), gates, seed=1, authority=None)
    assert card.vetoed == (("keeps_wait",) if 2 * own["q1/wait_p90"] > 1.0 else ()) != ()


def test_what_the_upstream_never_passed_cannot_be_lost():
    metrics, engine = metrics_named("till"), engine_named("till")
    crowded = pack_of_till().with_knobs({"queue_policy_v1#/servers": 8})  # waits without end
    values = measured(metrics, engine.evaluate(crowded.with_knobs({"till_policy_v1#/calls": 2.0}), 1))
    assert values["kept/wait"] == 0.0 == values["kept/at_once"]


def test_a_run_without_its_upstream_has_no_grade():
    metrics, run = metrics_named("till"), engine_named("till").evaluate(pack_of_till(), 1)
    card = score(measured(metrics, replace(run, upstream=None)), gates_of(metrics), seed=1, authority=None)
    assert card.verdict.invalid


def test_every_lane_keeps_the_rails_whatever_gate_file_it_names(tmp_path):
    document = json.loads((CHAINED / "till_gates.json").read_text())
    (tmp_path / "own.json").write_text(json.dumps({**document, "id": "own"}))
    for gates in (LANE["gates"], LANE["gates"] | {"file": str(tmp_path / "own.json")}):
        kept = [gate.id for gate in lane(tmp_path, gates=gates).gates.gates]
        assert kept == ["minutes", "keeps_wait", "keeps_at_once", "keeps_crowd"]


# --- a sweep, and its lock ----------------------------------------------------------------------------------


def test_a_lock_of_a_chain_is_proved_without_any_pack_on_disk(tmp_path, workspace):
    for name in ("till_pack", "till_queue"):
        shutil.copytree(CHAINED / name, tmp_path / name)
    closed = play(lane(tmp_path, authority=str(tmp_path / "till_pack")), workspace, track=False)
    shutil.rmtree(tmp_path / "till_queue")
    shutil.rmtree(tmp_path / "till_pack")
    lock = Lock.read(closed.lock)
    assert lock.decision == "GO" and lock.confirmation is not None and len(lock.confirmation.metrics) == 2
    assert set(lock.candidate_pack.policies) == {"till_policy_v1", "queue_policy_v1"}
    assert [run.engine for run in lock.proof[1].upstream] == ["queue"]
    found = verify_lock(closed.lock, workspace=workspace)
    assert found.ok and "seed 1: upstream queue: surface waits" in [check.name for check in found]
    assert audit(closed.sweep, workspace, 0.5, lock).findings.ok


def test_an_upstream_pack_edited_between_trial_and_resume_is_named(tmp_path, workspace):
    for name in ("till_pack", "till_queue"):
        shutil.copytree(CHAINED / name, tmp_path / name)
    own = {"authority": str(tmp_path / "till_pack")}
    closed = play(lane(tmp_path, **own), workspace, track=False)
    (tmp_path / "till_queue" / "queue_policy_v1.json").write_text('{"arrivals": 9.0, "service": 1.0, "servers": 12}')
    with pytest.raises(LaneError, match="its authority changed"):
        play(lane(tmp_path, **own), workspace, track=False, resume=True)
    assert verify_lock(closed.lock, workspace=workspace).ok, "the lock has the pack that was played"


def test_other_upstream_code_is_named(tmp_path, workspace, monkeypatch, fresh):
    closed = play(lane(tmp_path), workspace, track=False)
    before = upstream_codes(engine_named("till"))["queue"]
    monkeypatch.setattr(queue_engine.QueueEngine, "code_version", "f" * 64, raising=False)
    forget()
    differ = [check.name for check in verify_lock(closed.lock, workspace=workspace) if not check.ok]
    assert differ[0] == "seed 1: upstream queue: code_version"
    assert f"other code upstream: engine queue {before[:12]}, here ffffffffffff" in [*otherwise(Lock.read(closed.lock))]
    assert next(iter(played_by(lane(tmp_path)))) == "upstream queue"
    with pytest.raises(LaneError, match=r"was played by upstream queue code .* installed is ffffffffffff"):
        play(lane(tmp_path), workspace, track=False, resume=True)


def test_a_published_run_whose_upstream_changed_is_not_opened(tmp_path, monkeypatch):
    engine = chain()
    folder = engine.publish(Resolved(engine).evaluate(pack_of_till(), 1), tmp_path).folder
    assert chain().open_run(folder).upstream.engine == "queue"
    monkeypatch.setattr(queue_engine.QueueEngine, "code_version", "e" * 64, raising=False)
    with pytest.raises(IntegrityError, match=r"engine queue \(code eeeeeeeeeeee\) now gives"):
        chain().open_run(folder)


def test_a_forged_upstream_is_found(tmp_path, workspace):
    closed = play(lane(tmp_path, budget={"trials": 1, "seconds": 60}), workspace, track=False)
    proof = Lock.read(closed.lock).document["proof"]
    proof["1"]["upstream"][0]["surfaces"]["waits"] = "0" * 64
    differ = [check.name for check in verify_lock(forged(closed.lock, tmp_path, proof=proof)) if not check.ok]
    assert differ == ["seed 1: upstream queue: surface waits"]
    del proof["1"]["upstream"]
    differ = [check.name for check in verify_lock(forged(closed.lock, tmp_path, proof=proof)) if not check.ok]
    assert differ == ["seed 1: engines upstream"]


PROJECT = """
[engine]
id = "desk"
function = "desk:simulate"
world = {engine = "queue", pack = "PACK"}
[params]
pay = {value = 1.0, low = 0.5, high = 4.0}
[metrics]
minutes = {unit = "minutes"}
[gates]
quick = "minutes <= 6, 5"
[sweep]
minimize = "minutes"
seeds = [1, 2]
trials = 4
"""
SIMULATE = """
def simulate(params, seed, world):
    waits = world["waits"]
    minutes = [wait + busy + params["pay"] for wait, busy in zip(waits["wait"].to_pylist(), waits["busy"].to_pylist())]
    return {"minutes": sorted(minutes)[int(0.9 * len(minutes))], "leaves": {"minutes": minutes}}
"""


def test_a_project_of_one_file_stands_on_another_engines_run(tmp_path, workspace, monkeypatch):
    (tmp_path / "lanelock.toml").write_text(PROJECT.replace("PACK", str(CHAINED / "till_queue")))
    (tmp_path / "desk.py").write_text(SIMULATE)
    monkeypatch.chdir(tmp_path)
    ours = load_lane("desk")
    assert set(ours.authority.policies) == {"params", "queue_policy_v1"}
    assert [gate.id for gate in ours.gates.gates if gate.id.startswith("keeps_")] == [
        "keeps_wait", "keeps_at_once", "keeps_crowd",
    ]  # fmt: skip
    closed = play(ours, workspace, track=False)
    lock = Lock.read(closed.lock)
    assert lock.decision == "GO" and [run.engine for run in lock.proof[1].upstream] == ["queue"]
    assert verify_lock(closed.lock, workspace=workspace).ok


def test_large_worlds_are_forgotten_and_the_newest_stays(monkeypatch):
    """The runs that are remembered are bounded by their bytes, so that a large upstream does not fill the memory."""
    worlds, made = chains._Worlds(), []

    def get(seed):
        return worlds.get(("pack", seed), lambda: made.append(seed) or chains.World(None, str(seed), 10))

    monkeypatch.setattr(chains, "_BYTES", 25)
    for seed in (1, 2, 3, 2, 1):
        assert get(seed).digest == str(seed)
    assert made == [1, 2, 3, 1], "two fit, and the third makes the oldest go"
