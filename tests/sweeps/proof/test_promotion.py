"""Promotion: names move onto locks by rule and on record; the registry follows, and serves what was locked."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from conftest import child_environment, forged
from lanes import QUEUE, lane_with
from servers import MlflowServer

from lanelock.engine.segment_2b.store import publish
from lanelock.policies import DataError, IntegrityError, LaneError, PolicyError, pack_of
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import load_gates, parse_gates
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof import promotion
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.freezes import reopen
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import holders, moves, stack
from lanelock.sweeps.proof.promotion import ALIASES, promote, rollback
from lanelock.sweeps.record.mlflow_store import Store
from lanelock.sweeps.record.registry import follow
from lanelock.sweeps.service import serve_lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace in which the queue's campaign was played: locks `short` and, tuned from it, `steady`, certified."""
    workspace = Workspace.at(tmp_path_factory.mktemp("promotion"))
    play_campaign(load_campaign(str(QUEUE / "campaign.json")), workspace)
    return workspace


@pytest.fixture
def place(made, tmp_path):
    """A workspace with the same locks and evidence and no moves yet."""
    for folder in ("locks", "evidence"):
        (tmp_path / folder).symlink_to(made.root / folder)
    return Workspace.at(tmp_path)


def lock(place, phase):
    return find_lock(f"counter-1.{phase}", place)


def test_a_certified_lock_may_carry_every_name(place):
    for alias in ALIASES:
        found = promote(lock(place, "steady"), alias, place, why="it holds")
        assert found.written and not found.refusals
    assert set(holders(place)) == set(ALIASES)
    assert [move.number for move in moves(place)] == [1, 2, 3, 4] and moves(place)[0].before is None
    assert all(move.to.verdict == "PASS_BPLUS" for move in moves(place))
    named = [move.alias for move in moves(place) if move.to.evidence is not None]
    assert named == ["last-good", "certified"], "a record names the certification that was proved for it"


def test_a_lock_that_was_never_certified_is_refused_for_certified(place):
    for alias in ("last-good", "certified"):
        found = promote(lock(place, "short"), alias, place)
        assert not found.written and found.refusals[0].startswith("it was never certified here")
    assert moves(place) == ()
    assert promote(lock(place, "short"), "authority", place).written, "what its verdict allows"


def own_gates(document, **fields):
    return {**document, "gates": [{**row, **fields.get(row["id"], {})} for row in document["gates"]]}


LAX = {"wait": {"thresholds": {"B": 1e9, "B+": 1e9}}, "at_once": {"thresholds": {"B": -1e9, "B+": -1e9}}}
ONE_BAND = {"wait": {"thresholds": {"B": 1.0}}, "at_once": {"thresholds": {"B": 0.5}}}


@pytest.mark.parametrize("kind", ["thresholds at 1e9", "bands cut to one", "a gate left out", "a veto made a gate"])
def test_a_lock_that_carries_gates_of_its_own_stands_on_candidate_at_most(made, tmp_path, kind):
    document = read_json(QUEUE / "gates.json")
    own = {
        "thresholds at 1e9": own_gates(document, **LAX),
        "bands cut to one": own_gates(document, **ONE_BAND) | {"bands": ["B"]},
        "a gate left out": {**document, "gates": document["gates"][1:]},
        "a veto made a gate": own_gates(document, crowd={"severity": "gate"}),
    }[kind]
    (tmp_path / "own.json").write_text(json.dumps(own))
    grade = [row["id"] for row in own["gates"]]
    band = own["bands"][-1]
    objectives = [{"name": "margin", "direction": "maximize", "worst_margin": band}]
    lane = lane_with(tmp_path, gates__file=str(tmp_path / "own.json"), gates__grade=grade, objectives=objectives)
    workspace = Workspace.at(tmp_path / "ws")
    path = play(lane.with_search(trials=8), workspace, track=False).lock
    assert Lock.read(path).decision == "GO" and certify_lock(path, workspace, holdout=2).verdict.passed
    for alias in ("authority", "last-good", "certified"):
        found = promote(path, alias, workspace, force=True, why="hurry")
        assert not found.written and "that are not those of the installed engine queue (queue)" in found.refusals[0]
    assert promote(path, "candidate", workspace).written


def test_what_a_gate_file_asks_of_a_name_changes_no_lock(place, tmp_path):
    """The numbers of a promotion grade nothing, so no lock carries them, and none may state its own."""
    gates = Lock.read(lock(place, "short")).gates
    assert "promotion" in read_json(QUEUE / "gates.json") and "promotion" not in gates
    own = forged(lock(place, "short"), tmp_path, gates={**gates, "promotion": {"certified": {"holdout_seeds": 1}}})
    with pytest.raises(IntegrityError, match="gates: those of the installed engine"):
        promote(own, "authority", place)


def test_names_ask_for_held_out_seeds_and_say_what_to_run(made, tmp_path):
    (tmp_path / "locks").symlink_to(made.root / "locks")
    place = Workspace.at(tmp_path)
    path = lock(place, "steady")
    certify_lock(path, place, seeds=(1, 2, 3))
    for alias, count in (("last-good", 1), ("certified", 2)):
        (refusal,) = promote(path, alias, place).refusals
        assert refusal.startswith(f"it is certified on 0 held-out seeds, {alias} needs {count}; run: lanelock certify ")
        assert refusal.endswith(f" --holdout-seeds {count}") and f"certify {path.stem} " in refusal
    certify_lock(path, place, seeds=(1, 2), holdout=2)
    (refusal,) = promote(path, "certified", place).refusals
    assert refusal.startswith("it is certified on 0 held-out seeds"), "one that leaves out a seed of the lock is behind"
    certify_lock(path, place, holdout=1)
    assert promote(path, "last-good", place).written and not promote(path, "certified", place).written
    certify_lock(path, place, holdout=2)
    assert promote(path, "certified", place).written
    assert read_json(place.evidence / moves(place)[-1].to.evidence / "certification.json")["claim"]["seeds"] == 2


def test_seeds_of_ones_choice_do_not_stand_for_those_of_the_lock(made, tmp_path):
    (tmp_path / "locks").symlink_to(made.root / "locks")
    place = Workspace.at(tmp_path)
    certify_lock(lock(place, "steady"), place, seeds=(7, 8, 9, 10), holdout=4)
    (refusal,) = promote(lock(place, "steady"), "certified", place).refusals
    assert refusal.startswith("its certification leaves out seeds of the lock: 1, 2, 3; run: lanelock certify")


def test_the_usual_numbers_are_four_and_sixteen_and_those_of_segment_2b_are_stated():
    bare = parse_gates({k: v for k, v in read_json(QUEUE / "gates.json").items() if k != "promotion"}, "bare")
    for gates in (bare, load_gates("segment_2b")):
        asked = {alias: gates.holdout_seeds(alias, rule.holdout_seeds) for alias, rule in ALIASES.items()}
        assert asked == {"candidate": 0, "authority": 0, "last-good": 4, "certified": 16}
    assert load_gates("segment_2b").document["promotion"]["certified"]["holdout_seeds"] == 16


def test_a_lane_that_closed_no_go_is_no_authority(place, tmp_path):
    knobs = {"service": {"at": "queue_policy_v1#/service", "choices": [0.5, 0.4]}}
    terminal = play(lane_with(tmp_path, id="slow", knobs=knobs), Workspace.at(tmp_path / "own"), track=False).lock
    (refusal,) = promote(terminal, "authority", place).refusals
    assert refusal.startswith("its lane closed NO_GO: ")
    for alias in ("candidate", "authority"):
        with pytest.raises(IntegrityError, match="the lock does not verify: decision: stated GO, found NO_GO"):
            promote(forged(terminal, tmp_path, decision="GO", candidate="accepted"), alias, place)
    assert promote(terminal, "candidate", place).written, "a terminal candidate may be looked at"


@pytest.mark.parametrize("alias", ALIASES)
def test_one_byte_changed_is_refused_for_every_name(place, tmp_path, alias, lanelock):
    text = lock(place, "steady").read_text()
    changed = tmp_path / "changed.json"
    changed.write_text(text.replace('"candidate": "accepted"', '"candidate": "terminal"'))
    code, out, err = lanelock("promote", changed, "--to", alias, workspace=place.root)
    assert code == 3 and out == "" and "/lock_id" in err and err.count("\n") == 1
    assert moves(place) == ()


def test_a_number_changed_under_an_id_made_good_is_found_by_running_it(place, tmp_path):
    proof = read_json(lock(place, "short"))["proof"]
    proof["1"]["metrics"]["q1/wait_p90"] = 0.001
    with pytest.raises(IntegrityError, match="the lock does not verify: seed 1: metrics"):
        promote(forged(lock(place, "short"), tmp_path, proof=proof), "candidate", place)
    assert moves(place) == () and not (place.promoted).exists()


def test_evidence_with_a_byte_changed_is_refused(made, tmp_path):
    (tmp_path / "locks").symlink_to(made.root / "locks")
    subprocess.run(["cp", "-r", made.evidence, tmp_path / "evidence"], check=True)
    place = Workspace.at(tmp_path)
    path = next(place.evidence.glob("*/seeds/1.json"))
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(IntegrityError, match=r"the evidence does not verify: seeds/1\.json"):
        promote(lock(place, "steady"), "certified", place)
    assert moves(place) == ()


def test_a_lock_whose_world_or_pack_is_missing_is_refused(place, tmp_path, lanelock):
    abroad = forged(lock(place, "short"), tmp_path, world_source="imported")
    with pytest.raises(PolicyError, match="name it with --world DIR"):
        promote(abroad, "candidate", place)
    code, _, err = lanelock("promote", abroad, "--to", "candidate", "--world", tmp_path / "gone", workspace=place.root)
    assert code == 2 and "gone" in err and err.count("\n") == 1
    body = read_json(lock(place, "short"))
    del body["pack"]
    (tmp_path / "packless.json").write_text(json.dumps(body))
    with pytest.raises(IntegrityError, match="missing field pack"):
        promote(tmp_path / "packless.json", "candidate", place)
    assert moves(place) == ()


def test_a_stale_parent_is_refused_unless_forced_with_a_reason(place, lanelock):
    assert promote(lock(place, "short"), "authority", place).written
    assert promote(lock(place, "steady"), "authority", place).written, "it was tuned from what the name stands on"
    found = promote(lock(place, "short"), "authority", place)
    assert not found.written and "its parent is pack" in found.refusals[0] and "counter-1.steady" in found.refusals[0]
    code, _, err = lanelock("promote", "counter-1.short", "--to", "authority", "--force", workspace=place.root)
    assert code == 2 and "--why" in err
    found = promote(lock(place, "short"), "authority", place, force=True, why="steady broke the service")
    assert found.written
    last = moves(place)[-1]
    assert last.forced and last.why == "steady broke the service" and last.held == moves(place)[1].to.lock_id
    assert promote(lock(place, "short"), "authority", place).refusals == ("authority points to it already",)


def test_force_sets_aside_the_parent_and_nothing_else(place):
    promote(lock(place, "steady"), "certified", place)
    found = promote(lock(place, "short"), "certified", place, force=True, why="hurry")
    assert not found.written and found.refusals[0].startswith("it was never certified")


def test_a_dry_run_checks_everything_and_moves_nothing(place, tmp_path):
    found = promote(lock(place, "steady"), "certified", place, dry_run=True)
    assert not found.written and not found.refusals and found.move.alias == "certified"
    assert not place.promotions.exists() and not place.promoted.exists()
    proof = read_json(lock(place, "short"))["proof"]
    proof["1"]["world"] = "0" * 64
    with pytest.raises(IntegrityError):
        promote(forged(lock(place, "short"), tmp_path, proof=proof), "candidate", place, dry_run=True)


def test_rollback_goes_back_move_by_move(place):
    with pytest.raises(LaneError, match="it points to no lock"):
        rollback("candidate", place)
    promote(lock(place, "short"), "candidate", place)
    promote(lock(place, "steady"), "candidate", place)
    promote(lock(place, "short"), "candidate", place, force=True, why="again")
    assert rollback("candidate", place, dry_run=True).move.to.sweep == "counter-1.steady"
    assert rollback("candidate", place, why="it was slow").written
    assert holders(place)["candidate"].to.sweep == "counter-1.steady"
    assert rollback("candidate", place).written
    assert holders(place)["candidate"].to.sweep == "counter-1.short"
    refused = rollback("candidate", place)
    assert not refused.written and "nothing to roll back to" in refused.refusals[0]
    assert [move.kind for move in moves(place)] == ["promote"] * 3 + ["rollback"] * 2, "nothing is taken back"
    assert len(stack(moves(place), "candidate")) == 1
    promote(lock(place, "steady"), "candidate", place)
    assert rollback("candidate", place).move.to.sweep == "counter-1.short", "a move after a rollback is undone alone"


def test_a_record_changed_or_missing_is_seen(place):
    for phase in ("short", "steady"):
        promote(lock(place, phase), "candidate", place)
    rollback("candidate", place)
    first, second, _ = sorted(place.promotions.glob("0*.json"))
    text = first.read_text()
    first.write_text(text.replace('"why": ""', '"why": "I meant it"'))
    with pytest.raises(IntegrityError, match="/before: states"):
        moves(place)
    first.write_text(text)
    second.unlink()
    with pytest.raises(IntegrityError, match="numbered without gaps"):
        promote(lock(place, "steady"), "candidate", place)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(place, monkeypatch):
    """Both have looked and verified before either writes."""
    both = threading.Barrier(2)
    verify = promotion.verify_lock
    monkeypatch.setattr(promotion, "verify_lock", lambda *given: (verify(*given), both.wait())[0])
    found = {}

    def one(phase, alias):
        found[phase] = promote(lock(place, phase), alias, place)

    for names, written in ((("candidate", "candidate"), 1), (("last-good", "authority"), 2)):
        threads = [threading.Thread(target=one, args=pair) for pair in zip(("steady", "short"), names, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(row.written for row in found.values()) == written
        if written == 1:
            told = next(row for row in found.values() if not row.written)
            assert "moved candidate to" in told.refusals[0] and "meanwhile (record 1)" in told.refusals[0]
    assert len(moves(place)) == 3, "two names may be moved at once; the chain holds"


def test_two_processes_at_once_leave_one_move(place):
    def start(phase):
        command = [
            sys.executable,
            "-m",
            "lanelock",
            "promote",
            f"counter-1.{phase}",
        ]
        return subprocess.Popen(
            [*command, "--to", "candidate", "--json", "--workspace", place.root],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment(),
        )  # fmt: skip

    # Neither is the other's parent's child from the start, so whoever comes second is refused, however late it comes.
    promote(lock(place, "short"), "candidate", place)
    started = [start("steady"), start("steady")]
    done = [(process.communicate(), process.returncode) for process in started]
    assert sorted(code for _, code in done) == [0, 1], done
    loser = json.loads(next(out for (out, _), code in done if code == 1))
    assert loser["refusals"] and not loser["moved"]
    assert [move.to.sweep for move in moves(place)] == ["counter-1.short", "counter-1.steady"]


def test_killed_at_any_moment_the_record_is_whole_and_the_registry_follows(place):
    command = [
        sys.executable,
        "-m",
        "lanelock",
        "promote",
        "counter-1.steady",
    ]
    for wait in (0.8, 1.6, 2.4, 3.2):
        process = subprocess.Popen(
            [*command, "--to", "candidate", "--workspace", place.root],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=child_environment(), start_new_session=True,
        )  # fmt: skip
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert len(moves(place)) <= 1
    if not moves(place):
        promote(lock(place, "steady"), "candidate", place)
    versions = follow(place)
    assert follow(place) == versions == {"candidate": "1"}, "once, however often it is asked"


def test_the_registry_says_what_the_records_say_and_links_both_ways(made):
    reopen("queue", made, "the registry is looked at")  # the campaign's freeze has moved every alias to `steady`
    for name in ("short", "steady"):
        assert promote(lock(made, name), "candidate", made, force=True, why="a rehearsal").written
    versions = follow(made)
    client, held = Store(made).client, Lock.read(lock(made, "steady"))
    assert versions["candidate"] == versions["certified"]
    found = client.get_model_version_by_alias("queue", "certified")
    assert found.tags["lanelock.lock"] == held.lock_id and found.tags["lanelock.verdict"] == "PASS_BPLUS"
    claim = "with 95 % confidence at least 22.3 % of runs of this policy meet B+ (2 held-out seeds, none below)"
    assert found.tags["lanelock.claim"] == claim and f"- {claim}" in found.description
    assert follow(made) == versions and client.get_model_version_by_alias("queue", "candidate").tags == found.tags
    assert client.get_run(found.run_id).data.tags["lanelock.trial"] == str(held.trial), "a version leads to its trial"
    named = client.get_experiment_by_name(held.lane_document["id"])
    carrying = Store(made).search(named.experiment_id, f"tags.`lanelock.lock` = '{held.lock_id}'")
    assert {row.data.tags["lanelock.kind"] for row in carrying} == {"sweep", "trial"}
    for run in (row.info.run_id for row in carrying):
        assert client.get_run(run).data.tags["lanelock.model_version"] == f"queue/{found.version}"
    evidence = [
        file.path for file in client.list_artifacts(found.run_id, f"evidence/{found.tags['lanelock.evidence']}")
    ]
    assert any(path.endswith("_passed.flag") for path in evidence)
    stood = {one.dataset.name: one.dataset.digest for one in client.get_run(found.run_id).inputs.dataset_inputs}
    pack = made.evidence / found.tags["lanelock.evidence"]
    stated = read_json(pack / "certification.json")
    assert stated["holdout_seeds"]
    for seed in (*stated["seeds"], *stated["holdout_seeds"]):
        proof = read_json(pack / f"seeds/{seed}.json")
        assert stood[f"seed_{seed}/world"] == proof["world"][:16]
        assert stood[f"seed_{seed}/customers"] == proof["surfaces"]["waits"][:16]
    rollback("candidate", made)
    follow(made)
    before = client.get_model_version_by_alias("queue", "candidate")
    assert before.tags["lanelock.lock"] == Lock.read(lock(made, "short")).lock_id
    assert client.get_model_version_by_alias("queue", "certified").version == found.version


def test_a_lock_from_elsewhere_gets_a_run_of_its_own(made, tmp_path):
    place = Workspace.at(tmp_path)
    path = lock(made, "short")
    assert promote(path, "candidate", place).written
    assert follow(place) == follow(place) == {"candidate": "1"}
    client = Store(place).client
    run = client.get_run(client.get_model_version_by_alias("queue", "candidate").run_id)
    assert run.data.tags["lanelock.kind"] == "lock" and run.data.tags["lanelock.model_version"] == "queue/1"
    assert find_lock("candidate", place) == place.promoted / Lock.read(path).lock_id / "lock.json"


def test_with_the_server_away_a_move_stands_and_sync_brings_the_registry_to_it(tmp_path, lanelock):
    """Sweeps and promotions while the server is away; what is delivered then links a version to its trial."""
    server = MlflowServer(f"sqlite:///{tmp_path / 'server.db'}", tmp_path)
    workspace = Workspace.at(tmp_path / "ws", server.url)
    call = partial(lanelock, workspace=workspace.root, MLFLOW_TRACKING_URI=server.url)
    held = [Lock.read(play(load_lane(str(QUEUE / "lane.json")).with_search(trials=n), workspace).lock) for n in (4, 8)]
    for row, forced in zip(held, ((), ("--force", "--why", "again")), strict=True):
        code, said, err = call("promote", row.sweep, "--to", "candidate", "--json", *forced)
        assert code == 0 and said["moved"] and said["version"] is None and said["model"] is None
        assert err.count("\n") == 1 and "the move is recorded" in err and "lanelock sync" in err and server.url in err
    code, said, err = call("sync", "--json")
    assert code == 1 and "does not answer" in said["away"]
    with server:
        code, said, err = call("sync", "--json")
        assert code == 0 and said["waiting"] == 0 and said["names"] == {"candidate": "1"} and said["away"] == "", said
        client = Store(workspace).client
        version = client.get_model_version_by_alias("queue", "candidate")
        assert version.tags["lanelock.lock"] == held[1].lock_id, "where the last of the moves stands"
        run = client.get_run(version.run_id).data
        assert run.tags["lanelock.kind"] == "trial" and run.tags["lanelock.lock"] == held[1].lock_id
        assert run.tags["lanelock.model_version"] == "queue/1"
        parent = client.get_run(run.tags["mlflow.parentRunId"]).data
        assert parent.tags["lanelock.model_version"] == "queue/1", "the sweep leads to it as well"
        code, said, err = call("rollback", "candidate", "--json")
        assert code == 0 and said["version"] == "2" and err == ""
        server.kill()
        code, out, err = call("promote", held[1].sweep, "--to", "candidate", *forced)
        assert code == 0 and "the move is recorded" in err and "load_model" not in out
        server.start()
        assert call("sync", "--json")[1]["names"] == {"candidate": "1"}


def test_what_is_served_is_what_was_locked(place, tmp_path):
    held = Lock.read(lock(place, "short"))
    model = serve_lock(held, 2, None)
    waits = (
        engine_named("queue")
        .evaluate(pack_of("p", held.candidate_pack.policies, engine_named("queue").policy_schemas), 2)
        .surfaces["waits"]["wait"]
    )
    asked = pd.DataFrame({"customer": [7, 3, 7]}, index=["a", "b", "c"])
    answer = model.predict(asked)
    assert list(answer["wait"]) == [waits[7], waits[3], waits[7]] and list(answer.index) == ["a", "b", "c"]
    with pytest.raises(DataError, match="row 2: customer"):
        model.predict(pd.DataFrame({"customer": [1, 5_000]}))
    with pytest.raises(LaneError, match="seed 77 is not one of its seeds"):
        serve_lock(held, 77, None)
    other = replace(held.proof[2], surfaces={**held.proof[2].surfaces, "waits": "0" * 64})
    with pytest.raises(IntegrityError, match="waits digests to"):
        serve_lock(replace(held, proof={**held.proof, 2: other}), 2, None)


CLEAN = """
import sys
import mlflow.pyfunc
import pyarrow.dataset as ds
import pyarrow.compute as pc

log = ds.dataset(sys.argv[1], format="parquet").to_table(
    columns=["merchant_id", "utc_timestamp", "tz_group_id", "site_id"]
)
log = log.take(pc.sort_indices(log, [("utc_timestamp", "ascending"), ("merchant_id", "ascending")]))
model = mlflow.pyfunc.load_model("models:/segment-2b@candidate")
asked = log.select(["merchant_id", "utc_timestamp"]).to_pandas()
order = asked.sample(frac=1, random_state=1).index
answer = model.predict(asked.loc[order]).loc[asked.index]
zones = (answer["tz_group_id"].astype(str) == log["tz_group_id"].to_pandas().astype(str)).sum()
sites = (answer["site_id"].astype("uint64") == log["site_id"].to_pandas()).sum()
print(len(asked), zones, sites)
"""


def test_a_clean_process_routes_a_million_arrivals_as_the_published_log_did(tmp_path):
    """Nothing but the name of the model and the record's address: the whole published selection log, in any order."""
    workspace = Workspace.at(tmp_path / "ws")
    path = play(load_lane("p1").with_search(trials=4), workspace, track=False).lock
    held, engine = Lock.read(path), engine_named("segment_2b")
    assert promote(path, "candidate", workspace).written and follow(workspace) == {"candidate": "1"}
    pack = pack_of("p", held.candidate_pack.policies, engine.policy_schemas)
    folder = publish(engine.evaluate(pack, held.seeds[0]), workspace.runs)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "LANELOCK", "PYTHON"))
    } | {"MLFLOW_TRACKING_URI": f"sqlite:///{workspace.tracking_database}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CLEAN, next(folder.glob("data/*/*/s5_selection_log"))],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, zones, sites = map(int, done.stdout.split())
    assert rows >= 1_000_000 and zones == sites == rows
