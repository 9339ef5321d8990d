"""Required seeds, laws and runs: nobody passes on seeds of their own, and no pass outvotes what fell short."""

import json
from dataclasses import replace
from itertools import count, islice

import pytest
import queue_engine
from lanes import QUEUE, lane_with, refused

from lanelock.policies import load_pack
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.proof.evidence import certify_lock, verify_evidence
from lanelock.sweeps.proof.grading import Examination, gates_of_engine
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import holders
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.weighing import evidence_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.status import status
from lanelock.sweeps.workspace import Workspace

FIXED = {"queue_policy_v1#/arrivals": 9.0, "queue_policy_v1#/servers": 12, "queue_policy_v1#/service": 0.94}
KNOBS = {"service": {"at": "queue_policy_v1#/service", "choices": [0.94]}}


def seeds_where(passed, number):
    """Returns the first seeds on which the candidate on the edge passes, or does not."""
    engine, metrics = engine_named("queue"), metrics_named("queue")
    gates = load_gates(str(QUEUE / "gates.json"))
    pack = load_pack(QUEUE / "pack", engine.policy_schemas).with_knobs(FIXED)

    def passes(seed):
        return score(metrics.measure(engine.evaluate(pack, seed)), gates, seed=seed, authority=None).verdict.passed

    return list(islice((seed for seed in count(1) if passes(seed) == passed), number))


GOOD, BAD = seeds_where(True, 8), seeds_where(False, 1)
OWN = [1000, 1001]


def with_profiles(folder, seeds, promotion=None, **required):
    """Writes the queue's gate file with three profiles, each with the seeds of the one before it."""
    rows = {
        name: {"seeds": seeds[:number], "minutes": 1, "what": name}
        for name, number in (("smoke", 1), ("witness", 2), ("certification", len(seeds)))
    }
    rows["certification"] |= required
    document = {**read_json(QUEUE / "gates.json"), "profiles": rows}
    if promotion is not None:
        document["promotion"] = promotion
    path = folder / "gates.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def required(tmp_path, monkeypatch):
    """Gives the queue required seeds. Returns a call that plays a lane on seeds of its own under them."""

    def call(seeds, lane_seeds=OWN, **more):
        path = with_profiles(tmp_path, seeds, **more)
        monkeypatch.setattr(queue_engine.QueueMetrics, "gates_file", path)
        workspace = Workspace.at(tmp_path / "ws")
        fixed = {name: value for name, value in FIXED.items() if not name.endswith("service")}
        lane = lane_with(tmp_path, seeds=lane_seeds, knobs=KNOBS, fixed=fixed, id="edge")
        return play(lane.with_search(trials=1), workspace, track=False).lock, workspace

    return call


def test_the_usual_seeds_are_the_required_ones_and_those_of_the_lock(required, here):
    path, workspace = required(GOOD[:4], lane_seeds=[GOOD[5], GOOD[6]])
    certified = certify_lock(path, workspace, holdout=1)
    assert certified.document["seeds"] == [*GOOD[:4], GOOD[5], GOOD[6]] and certified.profile.name == "certification"
    assert {row.name: row.ok for row in certified.preconditions}["required seeds"]
    assert "- profile certification" in (certified.folder / "report.md").read_text()
    found = promote(path, "last-good", workspace)
    assert found.written and found.move.to.profile == "certification"
    assert holders(workspace)["last-good"].to == found.move.to, "read back from its record"
    assert "by profile certification)" in status(workspace).holders["last-good"]
    code, out, _ = here("lock", "show", path, workspace=workspace.root)
    assert code == 0 and f"seeds      {GOOD[5]}, {GOOD[6]} (no profile)" in out


@pytest.mark.plan("0.3", "P4.2")
def test_a_lane_of_own_seeds_passes_on_none_of_them_alone(required, here):
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[5:7])
    own = ",".join(map(str, GOOD[5:7]))
    code, out, _ = here("certify", path, "--seeds", own, "--holdout-seeds", "1", "--json", workspace=workspace.root)
    said = json.loads(out)
    assert code == 1 and said["verdict"] == "INVALID" and said["profile"] is None
    missing = f"smoke also needs {GOOD[0]}; witness also needs {GOOD[0]}, {GOOD[1]}; certification also needs "
    assert said["reason"] == f"required seeds: {own.replace(',', ', ')} meet no profile: {missing}" + ", ".join(
        map(str, GOOD[:4])
    )
    (refusal,) = promote(path, "last-good", workspace).refusals
    assert refusal.startswith("its certification is on seeds that meet no profile, last-good needs certification; run:")
    certify_lock(path, workspace, holdout=1)
    assert promote(path, "last-good", workspace).written, "seeds that were not enough say nothing of the candidate"


@pytest.mark.plan("0.3", "0.9")
@pytest.mark.parametrize("first", ["the required", "its own"])
def test_a_failure_on_the_required_seeds_is_never_outvoted(required, first):
    path, workspace = required([*GOOD[:3], *BAD], lane_seeds=GOOD[5:7])
    others = [{"seeds": GOOD[5:7]}, {"profile": "witness"}, {"seeds": (*GOOD[:2], *GOOD[5:7]), "holdout": 1}]
    asked = [{}, *others] if first == "the required" else [*others, {}]
    verdicts = [str(certify_lock(path, workspace, **options).verdict) for options in asked]
    expected = ["FAIL", "INVALID", "PASS_B", "PASS_B"]
    assert verdicts == (expected if first == "the required" else [*expected[1:], "FAIL"])
    for alias in ("last-good", "certified"):
        (refusal,) = promote(path, alias, workspace, force=True, why="hurry").refusals
        assert "says FAIL, which stands against this lock" in refusal


def test_a_failure_on_seeds_that_meet_no_profile_stands_against_the_candidate(required):
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[5:7])
    found = certify_lock(path, workspace, seeds=BAD)
    assert str(found.verdict) == "INVALID" and str(found.graded.verdict) == "FAIL"
    assert certify_lock(path, workspace, holdout=1).verdict.passed
    (refusal,) = promote(path, "last-good", workspace).refusals
    assert "says FAIL, which stands against this lock" in refusal


@pytest.mark.plan("P4.2")
def test_evidence_of_a_weaker_profile_is_not_enough_and_needs_no_new_candidate(required, here):
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[5:7])
    code, out, _ = here("certify", path, "--profile", "witness", "--holdout-seeds", "2", workspace=workspace.root)
    assert code == 0 and out.startswith(f"PASS_B  {path.stem}, profile witness\n")
    assert " s of 1 minutes: GREEN\n" in out
    assert "a certification of level witness: not enough for last-good, certified\n" in out
    said = json.loads(here("certify", path, "--profile", "witness", "--json", workspace=workspace.root)[1])
    assert said["profile"] == "witness" and said["not_enough_for"] == ["last-good", "certified"]
    assert said["budget"] == {"minutes": 1, "colour": "GREEN"} and said["seeds"] == GOOD[:2]
    (refusal,) = promote(path, "last-good", workspace).refusals
    assert refusal.startswith("its certification meets profile witness, last-good needs certification; run: ")
    certify_lock(path, workspace, holdout=1)
    (row,) = (row for row in evidence_of(Lock.read(path), workspace, gates_of_engine("queue")) if row.strength == 3)
    assert promote(path, "last-good", workspace).move.to.evidence == row.folder.name, "though on fewer held-out seeds"


def test_an_alias_asks_for_the_profile_that_the_gate_file_names_for_it(required):
    asked = {"last-good": {"profile": "witness", "holdout_seeds": 1}, "certified": {"holdout_seeds": 1}}
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[:2], promotion=asked)
    certify_lock(path, workspace, profile="witness", holdout=1)
    found = promote(path, "last-good", workspace)
    assert found.written and found.move.to.document["profile"] == "witness"
    refusals = promote(path, "certified", workspace).refusals
    assert "PASS_BPLUS is needed" in refusals[0], "the band is asked for before the profile"


def test_evidence_by_other_profiles_counts_for_nothing(required, tmp_path):
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[5:7])
    certify_lock(path, workspace, holdout=1)
    with_profiles(tmp_path, GOOD[:5])
    assert evidence_of(Lock.read(path), workspace, gates_of_engine("queue")) == ()
    refusals = promote(path, "last-good", workspace).refusals
    assert any(row.startswith("it was never certified here by the gates of its engine") for row in refusals)


@pytest.mark.plan("3.1.4")
def test_other_laws_than_the_chosen_ones_are_no_pass(required):
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[:2], spec={"queue_policy_v1#/servers": [16, 20]})
    found = certify_lock(path, workspace, holdout=1)
    assert str(found.verdict) == "INVALID" and found.reason == "spec: queue_policy_v1#/servers is 12, not 16 or 20"
    assert certify_lock(path, workspace, profile="witness").verdict.passed, "which asks for no spec"
    (refusal,) = promote(path, "last-good", workspace).refusals
    assert "says INVALID, which stands against this lock" in refusal
    assert verify_evidence(found.folder).ok


@pytest.mark.plan("3.2.16")
def test_a_bundle_that_the_engine_cannot_make_is_no_pass(required):
    path, workspace = required(GOOD[:4], lane_seeds=GOOD[:2], bundled=True)
    found = certify_lock(path, workspace)
    assert str(found.verdict) == "INVALID"
    assert found.reason == "bundle: engine queue publishes no runs, and profile certification asks for bundles"


def test_more_minutes_than_the_profile_allows_are_said_and_are_no_verdict(required, here, tmp_path):
    path, workspace = required(GOOD[:4])
    gates = tmp_path / "gates.json"
    document = read_json(gates)
    document["profiles"]["witness"]["minutes"] = 1e-9
    gates.write_text(json.dumps(document))
    code, _, err = here("certify", path, "--profile", "witness", workspace=workspace.root)
    assert code == 0 and "minutes, profile witness allows 1e-09" in err


def test_a_profile_that_is_not_there_or_two_ways_to_name_seeds_are_refused(required, here):
    path, workspace = required(GOOD[:4])
    refused(here("certify", path, "--profile", "gold", workspace=workspace.root), "'gold' is not one of them: smoke,")
    refused(here("certify", path, "--profile", "smoke", "--seeds", "1", workspace=workspace.root), "give one of them")


def test_a_spec_of_fields_that_are_not_there_stops_whoever_certifies(required, here):
    path, workspace = required(GOOD[:4], spec={"queue_policy_v1#/tills": [1]})
    refused(here("certify", path, workspace=workspace.root), "/profiles/certification/spec/", "no field /tills")


@pytest.mark.plan("3.1.4")
def test_the_scalar_law_put_back_is_refused_by_the_certification_profile():
    """The shipped candidate with S3 as it was recorded first; nothing is run, since no number could mend it."""
    from lanelock.policies.documents import shipped

    lock = Lock.read(shipped("locks", ".json")["segment_2b_certified"])
    examined = Examination.of(lock, None, "shipped")
    profile = examined.gates.profile("certification")
    assert all(row.ok for row in examined._required(profile.seeds, profile))
    scalar = replace(examined, pack=examined.pack.with_knobs({"day_effect_policy_v1#/law": "scalar_sigma_v1"}))
    (unmet,) = (row for row in scalar._required(profile.seeds, profile) if not row.ok)
    assert unmet.name == "spec"
    assert unmet.said == 'day_effect_policy_v1#/law is "scalar_sigma_v1", not "sigma_gamma_policy_v2"'


def test_a_run_on_one_seed_says_that_it_is_no_certification(here, required):
    path, workspace = required(GOOD[:4])
    code, out, _ = here("run", "--pack", path, "--seed", GOOD[0], "--score", workspace=workspace.root)
    assert code == 0 and f"graded on seed {GOOD[0]} alone, profile smoke; not a certification, which takes seeds" in out
    code, out, _ = here("run", "--pack", path, "--seed", "77", "--score", "--json", workspace=workspace.root)
    assert json.loads(out)["profile"] is None
