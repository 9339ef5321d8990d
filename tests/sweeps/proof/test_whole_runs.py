"""Whole runs: what a lane locks is run to the last state, audited and bundled, and the lock and its evidence say so."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import forged
from lanes import TESTS, lane_with, refused, seal

from lanelock.engine.keep.published import receipt_in
from lanelock.engine.keep.receipts import text_of
from lanelock.policies import EngineError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof import lock as locks
from lanelock.sweeps.proof.evidence import certify_lock, verify_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

TIDES = TESTS / "tides_engine"


def failing(found):
    return [check.name for check in found if not check.ok]


def tides_lock(place):
    return play(load_lane(str(TIDES / "lane.json")).with_search(trials=3), place, track=False).lock


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace, and the lock of an engine that publishes its runs and has no audit, under gates with profiles."""
    place = Workspace.at(tmp_path_factory.mktemp("whole"))
    surge = read_json(TIDES / "pack" / "tide_policy_v1.json")["surge_m"]
    spec = {"tide_policy_v1#/surge_m": [surge]}
    profiles = {
        "smoke": {"seeds": [1], "minutes": 1, "what": "w"},
        "certification": {"seeds": [1, 2], "minutes": 1, "what": "w", "bundled": True, "spec": spec},
    }
    path = place.root / "gates.json"
    path.write_text(json.dumps({**read_json(TIDES / "gates.json"), "profiles": profiles}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TIDES)
        patch.setattr(type(metrics_named("tides")), "gates_file", path)
        yield place, tides_lock(place)


@pytest.fixture
def engine(made):
    """The class of the engine, for a test to change it."""
    return type(engine_named("tides").own)


@pytest.mark.plan("P2.0.6", "P3.4.2", "P1.RO.3", "P1.1B.4", "P1L.6")
def test_a_lock_states_the_digest_of_the_files_that_anyone_publishes(made, tmp_path):
    place, path = made
    lock, engine = Lock.read(path), engine_named("tides")
    assert lock.format == "lanelock.lock/3" and [*lock.whole] == [1, 2]
    for seed, run in lock.whole.items():
        published = engine.own.publish(engine.evaluate(lock.pack(), seed), tmp_path / str(seed))
        assert run.bundle == digest(receipt_in(published.folder)["files"]) and run.audit is None
    assert len({run.bundle for run in lock.whole.values()}) == 2
    assert verify_lock(path, workspace=place).ok


CHANGES = {
    "a bundle": lambda whole: whole["1"].update(bundle="0" * 64),
    "two bundles exchanged": lambda whole: whole.update({"1": whole["2"], "2": whole["1"]}),
    "an audit": lambda whole: whole["2"].update(audit=True),
    "an audit failed": lambda whole: whole["2"].update(audit=False),
    "all left out": lambda whole: whole.clear(),
}


@pytest.mark.plan("P2.0.6", "P3.4.2", "P1.RO.3")
@pytest.mark.parametrize("kind", CHANGES)
def test_whatever_is_changed_in_them_is_found(made, tmp_path, kind):
    whole = read_json(made[1])["whole"]
    CHANGES[kind](whole)
    found = verify_lock(forged(made[1], tmp_path, whole=whole), workspace=made[0])
    assert not found.ok and all("audit" in name or "bundle" in name or "whole" in name for name in failing(found))


def without_whole(path):
    return {name: value for name, value in read_json(path).items() if name not in ("whole", "lock_id")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"whole": {"1": {"audit": None, "bundle": "0" * 64}}}, "/whole: must have a row for each of /seeds"),
        ({"format": "lanelock.lock/2"}, "/whole: a lock of format lanelock.lock/3 states its whole runs"),
        ({"format": "lanelock.lock/1"}, "/format: lanelock.lock/1 is of another version; this one reads"),
        ({"format": "lanelock.lock/10", "more": 1}, "/format: lanelock.lock/10 is of another version"),
    ],
)
def test_what_is_of_another_form_is_told_in_one_line(made, tmp_path, here, changed, said):
    path = forged(made[1], tmp_path, **changed)
    for command in (("lock", "show"), ("verify",), ("certify",), ("lock", "verify")):
        refused(here(*command, path, workspace=made[0].root), "not a whole lock", said, code=3)


def test_a_lock_of_the_earlier_form_is_read_and_what_it_does_not_say_is_listed(made, engine, tmp_path, monkeypatch):
    body = {**without_whole(made[1]), "format": "lanelock.lock/2"}
    path = tmp_path / "lock.json"
    path.write_text(json.dumps({**body, "lock_id": digest(body)}))
    lock = Lock.read(path)
    assert lock.document == read_json(path) and not lock.whole
    found = verify_lock(path, workspace=made[0])
    assert found.ok and any(row.startswith("that its candidate runs to the last state") for row in found.not_proved)
    monkeypatch.setattr(engine, "serve", lambda self, pack, seed: None, raising=False)
    (refusal, *_) = promote(path, "authority", Workspace.at(tmp_path / "ws")).refusals
    assert refusal.startswith("it states no whole runs of its candidate")


def test_files_of_another_library_are_listed_not_refused(made, tmp_path):
    document = read_json(made[1])
    document["made_by"]["libraries"]["pyarrow"] = "1.0"
    document["whole"]["1"]["bundle"] = "0" * 64
    path = forged(made[1], tmp_path, whole=document["whole"], made_by=document["made_by"])
    found = verify_lock(path, workspace=made[0])
    assert found.ok and any(
        "files that it publishes on seed 1: written by pyarrow 1.0" in row for row in found.not_proved
    )
    assert not any("seed 2: written" in row for row in found.not_proved)


@pytest.fixture(scope="module")
def certified(made):
    return certify_lock(made[1], made[0], holdout=2)


@pytest.mark.plan("3.2.16")
def test_evidence_states_the_bundles_of_the_required_seeds(made, certified):
    lock = Lock.read(made[1])
    rows = {path.stem: read_json(path) for path in (certified.folder / "seeds").glob("*.json")}
    assert {int(seed): row["bundle"] for seed, row in rows.items() if "bundle" in row} == {
        seed: run.bundle for seed, run in lock.whole.items()
    }
    assert len(rows) == 4 and verify_evidence(certified.folder).ok
    assert {row.name: row.said for row in certified.preconditions}["bundle"] == "published and checked on seeds 1, 2"


def _bundle(folder, seed, bundle):
    path = folder / "seeds" / f"{seed}.json"
    row = read_json(path)
    row = {**row, "bundle": bundle} if bundle else {name: value for name, value in row.items() if name != "bundle"}
    path.write_text(text_of(row))


def _profile(folder, profile):
    path = folder / "certification.json"
    document = {**read_json(path), "profile": profile}
    path.write_text(text_of({name: value for name, value in document.items() if value != ""}))


FORGED = {
    "another bundle": lambda folder: _bundle(folder, 1, "0" * 64),
    "no bundle": lambda folder: _bundle(folder, 2, None),
    "another profile": lambda folder: _profile(folder, "smoke"),
    "no profile met": lambda folder: _profile(folder, None),
    "no profile": lambda folder: _profile(folder, ""),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_pack_with_every_digest_made_good_is_found_out(certified, tmp_path, kind):
    folder = shutil.copytree(certified.folder, tmp_path / certified.folder.name)
    FORGED[kind](folder)
    seal(folder)
    assert not verify_evidence(folder).ok


def test_evidence_written_by_another_library_is_proved_but_for_its_files(certified, tmp_path):
    folder = shutil.copytree(certified.folder, tmp_path / certified.folder.name)
    document = read_json(folder / "made_by.json")
    document["libraries"]["pyarrow"] = "1.0"
    (folder / "made_by.json").write_text(text_of(document))
    _bundle(folder, 1, "0" * 64)
    seal(folder)
    found = verify_evidence(folder, with_lock=False)
    assert found.ok and any(
        "files that it publishes on seed 1: written by pyarrow 1.0" in row for row in found.not_proved
    )


def test_a_candidate_that_fails_its_audit_is_a_candidate_and_nothing_more(engine, tmp_path, monkeypatch):
    evaluate = engine.evaluate

    def audited(self, pack, seed):
        return replace(evaluate(self, pack, seed), audit=SimpleNamespace(passed=seed != 2))

    monkeypatch.setattr(engine, "evaluate", audited)
    monkeypatch.setattr(engine, "serve", lambda self, pack, seed: None, raising=False)
    place = Workspace.at(tmp_path)
    path = tides_lock(place)
    assert {seed: run.audit for seed, run in Lock.read(path).whole.items()} == {1: True, 2: False}
    assert verify_lock(path, workspace=place).ok, "it states what is so"
    (refusal,) = promote(path, "authority", place, dry_run=True).refusals
    assert refusal == "its candidate, run to the last state, fails the engine's own audit on seeds 2"
    assert promote(path, "candidate", place, dry_run=True).refusals == ()
    assert certify_lock(path, place).verdict.invalid


def test_files_that_are_not_as_published_end_a_sweep_in_one_line(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "faults", lambda self, folder: [("heights.parquet", "torn")])
    with pytest.raises(EngineError, match=r"^engine tides: bundle of pack .*, seed 1: heights\.parquet: torn$"):
        tides_lock(Workspace.at(tmp_path))


def test_an_engine_that_publishes_nothing_states_nothing(tmp_path):
    place = Workspace.at(tmp_path / "ws")
    path = play(lane_with(tmp_path).with_search(trials=2), place, track=False).lock
    assert read_json(path)["whole"] == {} and verify_lock(path, workspace=place).ok
    invented = {seed: {"audit": True, "bundle": "0" * 64} for seed in "123"}
    assert failing(verify_lock(forged(path, tmp_path, whole=invented), workspace=place)) == ["whole runs"]


def test_a_candidate_that_needs_too_much_memory_at_the_close_is_the_engines_error(tmp_path, monkeypatch):
    def prove_on(*given):
        raise MemoryError("Unable to allocate 64 GiB")

    place, lane = Workspace.at(tmp_path / "ws"), lane_with(tmp_path).with_search(trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(locks, "prove_on", prove_on)
        said = "^engine queue: the candidate of queue-1: MemoryError: Unable to allocate 64 GiB$"
        with pytest.raises(EngineError, match=said) as raised:
            play(lane, place, track=False)
    assert raised.value.exit_code == 2 and not [*place.locks.glob("*.json")]
    assert play(lane, place, track=False, resume=True).lock.is_file(), "it closes once there is enough"
