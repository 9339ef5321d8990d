"""Runs published, opened, executed again and damaged; states kept on disk; processes killed and disks filled."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, child_environment, remount, small_disk
from worlds import tiny_world

from lanelock.engine import surface
from lanelock.engine.keep.receipts import bundle, digests, file_digest, read_receipt, write_json, write_receipt
from lanelock.engine.segment_2b import store
from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.states import s5_routing
from lanelock.engine.segment_2b.tables import TABLES, contract
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.engine.steps import Memory, Stands, Steps
from lanelock.engine.surface import table_digest
from lanelock.policies import DataError, IntegrityError, WorkspaceError
from lanelock.policies.documents import ROOT as POLICIES

ROUTING = "route_rng_policy_v1#/roster/arrivals_per_merchant_day"
RUN = "run_receipt.json"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(tiny_world(virtual=[3]), folder)
    return folder


@pytest.fixture(scope="module")
def published(tiny, packs, tmp_path_factory):
    """A small run, published: (run, folder)."""
    run = Segment2B().evaluate(packs("p3_recorded").with_knobs({ROUTING: 2.0}), 42, world=tiny)
    return run, store.publish(run, tmp_path_factory.mktemp("runs"))


@pytest.mark.plan("0.8")
def test_the_layout_is_the_records(published):
    run, folder = published
    partition = f"seed=42/manifest_fingerprint={run.world_digest}"
    log = f"seed=42/parameter_hash={run.pack.digest}/run_id={run.run_id}"
    data = "data/layer1/2B"
    for path in (
        f"{data}/s0_gate_receipt/{partition}/s0_gate_receipt.json",
        f"{data}/sealed_inputs/{partition}/sealed_inputs.json",
        f"{data}/s1_site_weights/{partition}/part-00000.parquet",
        f"{data}/s2_alias_index/{partition}/s2_alias_index.json",
        f"{data}/s2_alias_blob/{partition}/alias.bin",
        f"{data}/s3_day_effects/{partition}/part-00000.parquet",
        f"{data}/s4_group_weights/{partition}/part-00000.parquet",
        f"{data}/s5_arrival_roster/{partition}/part-00000.parquet",
        f"{data}/s5_selection_log/{log}/utc_day=2026-01-01/part-00000.parquet",
        f"{data}/s6_edge_log/{log}/utc_day=2026-03-31/part-00000.parquet",
        f"{data}/s7_audit_report/{partition}/s7_audit_report.json",
        f"{data}/validation/manifest_fingerprint={run.world_digest}/index.json",
        f"{data}/validation/manifest_fingerprint={run.world_digest}/_passed.flag",
        *(f"reports/layer1/2B/state=S{n}/{partition}/s{n}_run_report.json" for n in range(9)),
        "upstream/_passed.flag",
        RUN,
    ):
        assert (folder / path).is_file(), path
    receipt = json.loads((folder / RUN).read_text())
    assert receipt["created_utc"] == "2026-01-01T00:00:00.000000Z" and receipt["parameter_hash"] == run.pack.digest
    report = json.loads((folder / f"reports/layer1/2B/state=S3/{partition}/s3_run_report.json").read_text())
    assert report["summary"]["overall_status"] == "PASS" and report["summary"]["fail_count"] == 0
    assert report["rng_accounting"]["rows_written"] == run.surfaces["s3_day_effects"].rows
    for spec in contract():
        if spec["state"] != "S2":
            paths = sorted((folder / data / spec["surface"]).rglob("*.parquet"))
            schema = pq.read_schema(paths[0])
            assert [(c["name"], c["type"]) for c in spec["columns"]] == [(f.name, str(f.type)) for f in schema]


def test_opened_it_is_the_run_that_was_published(published):
    run, folder = published
    opened = SEGMENT_2B.open_run(folder)
    assert opened.digests() == run.digests() and set(opened.surfaces) == set(TABLES)


def test_one_byte_changed_in_any_file_is_found(published):
    """Every kind of file, and eighty of all: a byte at a random place, turned."""
    _, folder = published
    names, draw = sorted(digests(folder)), random.Random(1)
    kinds = {tuple(part for part in name.split("/") if "=" not in part): name for name in names}
    for name in [*kinds.values(), *draw.sample(names, 80)]:
        path = folder / name
        held = path.read_bytes()
        place = draw.randrange(len(held))
        path.write_bytes(held[:place] + bytes([held[place] ^ 1 << draw.randrange(8)]) + held[place + 1 :])
        with pytest.raises(IntegrityError):
            store.check_run(folder)
        path.write_bytes(held)
    store.check_run(folder)


def test_a_file_too_many_and_a_file_too_few_are_named(published, tmp_path):
    run, folder = published
    copy = tmp_path / run.run_id
    shutil.copytree(folder, copy)
    (copy / "data" / "more").write_text("x")
    with pytest.raises(IntegrityError, match=r"data/more: sha256 .* the receipt states nothing"):
        store.check_run(copy)
    (copy / "data" / "more").unlink()
    gone = next(copy.rglob("utc_day=2026-02-03/part-00000.parquet"))
    gone.unlink()
    with pytest.raises(IntegrityError, match=r"utc_day=2026-02-03/part-00000\.parquet: missing"):
        store.check_run(copy)
    with pytest.raises(DataError, match=r"utc_day=2026-02-03/part-00000\.parquet: missing"):
        SEGMENT_2B.open_run(copy)


def test_verify_names_every_file_that_differs(lanelock, published, tmp_path):
    run, folder = published
    copy = tmp_path / "runs" / run.run_id
    shutil.copytree(folder, copy)
    for name in ("policies/world_v1.json", "upstream/merchants.parquet"):
        (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    code, said, err = lanelock("verify", run.run_id, "--json", workspace=tmp_path)
    assert code == 3 and not said["ok"] and said["checked"] == len(digests(folder))
    assert [row["name"] for row in said["failed"]] == ["policies/world_v1.json", "upstream/merchants.parquet"]
    assert err.count("\n") == 2


@pytest.mark.plan("P0.1", "P3.0.1", "P3.2.4")
def test_executed_again_every_byte_is_the_same(published, tmp_path):
    _, folder = published
    replayed = SEGMENT_2B.replay(folder, tmp_path)
    assert replayed.identical and replayed.files == len(digests(folder))
    assert not any(path.is_dir() for path in tmp_path.iterdir()), "the scratch place is left clean"


def test_what_was_changed_is_named_by_a_replay_and_an_input_that_was_is_not_executed(lanelock, published, tmp_path):
    run, folder = published
    copy = tmp_path / "runs" / run.run_id
    shutil.copytree(folder, copy)
    victim = next(copy.rglob("s4_group_weights/**/*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    code, said, _ = lanelock("replay", run.run_id, "--json", workspace=tmp_path)
    assert code == 3 and said["differences"] == [victim.relative_to(copy).as_posix()] and not said["identical"]
    (copy / "upstream" / "merchants.parquet").write_bytes(b"")
    code, said, err = lanelock("replay", run.run_id, "--json", workspace=tmp_path)
    assert code == 3 and not said and "merchants.parquet: sha256" in err and err.count("\n") == 1


def test_other_inputs_under_a_receipt_that_holds_are_found_by_verify(lanelock, published, packs, tmp_path):
    """Whoever changes a policy and digests everything anew still did not run it."""
    run, folder = published
    copy = tmp_path / "runs" / run.run_id
    shutil.copytree(folder, copy)
    assert lanelock("verify", run.run_id, workspace=tmp_path)[0] == 0
    path = copy / "policies" / "group_mix_regularizer_v1.json"
    write_json(
        path, packs("p3_recorded").with_knobs({"group_mix_regularizer_v1#/enabled": False})["group_mix_regularizer_v1"]
    )
    receipt = read_receipt(copy / RUN)
    index, flag = (next(copy.glob(f"data/layer1/2B/validation/*/{name}")) for name in ("index.json", "_passed.flag"))
    names = [row["path"] for row in json.loads(index.read_text())["files"]]
    document, passed = bundle({name: file_digest(copy / name) for name in names}, lambda n: (copy / n).read_bytes())
    write_json(index, document)
    flag.write_text(passed)
    write_receipt(copy / RUN, {**receipt, "files": digests(copy, (RUN,))})
    code, said, _ = lanelock("verify", run.run_id, "--json", workspace=tmp_path)
    assert code == 3 and {"sealed_inputs.json", RUN} <= {row["name"].split("/")[-1] for row in said["failed"]}


def test_a_drawn_world_and_the_same_one_from_a_folder_are_two_runs(packs, tmp_path):
    """Their surfaces are the same, and each is replayed the way it came: one drawn again, one read."""
    pack = packs("p3_recorded").with_knobs({ROUTING: 0.1, "world_v1#/merchants/count": 50})
    engine = Segment2B().keeping(tmp_path / "cache", 1 << 30)
    drawn = engine.evaluate(pack, 7)
    write_world(drawn.upstream, tmp_path / "world")
    read = engine.evaluate(pack, 7, world=tmp_path / "world")
    assert drawn.run_id != read.run_id and drawn.digests() == read.digests()
    for run, source in ((drawn, "drawn"), (read, "imported")):
        folder = store.publish(run, tmp_path / "runs")
        receipt = store.check_run(folder)
        assert receipt["sources"]["world"] == source and not SEGMENT_2B.faults(folder)
        assert SEGMENT_2B.replay(folder, tmp_path / "scratch").identical


@pytest.mark.parametrize(("merchants", "jobs"), [(1, 1), (2, 2), (None, 3)])
def test_any_cut_publishes_the_same_bytes(published, tiny, tmp_path, merchants, jobs):
    run, folder = published
    cut = Segment2B().sharded(merchants, jobs).evaluate(run.pack, 42, world=tiny)
    assert digests(store.publish(cut, tmp_path)) == digests(folder)


@pytest.mark.plan("P3.2.4")
@pytest.mark.plan("5.4.4")
def test_publishing_again_is_a_no_op_and_other_bytes_are_refused(published, packs, tiny, tmp_path):
    run, _ = published
    folder = store.publish(run, tmp_path)
    assert store.publish(run, tmp_path) == folder
    path = next(folder.rglob("s1_run_report.json"))
    path.write_text(path.read_text() + " ")
    with pytest.raises(IntegrityError, match=r"s1_run_report\.json: published before with other bytes"):
        store.publish(run, tmp_path)


@pytest.mark.plan("2.6")
def test_a_run_whose_audit_fails_has_no_flag(published, tmp_path):
    import dataclasses

    run, _ = published
    check = dataclasses.replace(run.audit.checks[0], passed=False, failures=1)
    failing = dataclasses.replace(run, audit=dataclasses.replace(run.audit, checks=(check, *run.audit.checks[1:])))
    folder = store.publish(failing, tmp_path)
    assert not list((folder / "validation").rglob("_passed.flag")) and store.check_run(folder)


# --- processes and disks ----------------------------------------------------------------------------------


def child(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=child_environment())


KILLED = """
import os, signal, sys
from lanelock.engine.keep import staging
die = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv.pop(1) == "rename":
    os.rename = die
else:
    staging.sync_tree = die
from lanelock.sweeps.terminal.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("before", ["sync", "rename"])
def test_killed_between_staging_and_rename_nothing_is_published_and_the_next_run_repairs(
    lanelock, tiny, tmp_path, before
):
    call = (
        "run",
        "--pack",
        "p3_recorded",
        "--seed",
        42,
        "--world",
        tiny,
        "--publish",
        "--cache-gb",
        0,
        "--workspace",
        tmp_path,
    )
    assert child(KILLED, before, *call).returncode == -signal.SIGKILL
    assert any(path.name.startswith(".staging-") and path.is_dir() for path in (tmp_path / "runs").iterdir())
    code, _, err = lanelock("score", "0" * 32, "--workspace", tmp_path)
    assert code == 2 and "published: none" in err
    code, made, err = lanelock(*call, "--json")
    assert code == 0, err
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == [made["run_id"]]
    assert lanelock("verify", made["run_id"], "--workspace", tmp_path)[0] == 0


def test_killed_while_a_state_is_kept_the_cache_is_sound(lanelock, tiny, tmp_path):
    call = ("run", "--pack", "p3_recorded", "--seed", 42, "--world", tiny, "--workspace", tmp_path)
    assert child(KILLED, "rename", *call).returncode == -signal.SIGKILL
    assert list((tmp_path / "cache").glob(".staging-*/*.arrow"))
    code, made, err = lanelock(*call, "--json")
    assert code == 0 and not any(state["reused"] for state in made["states"]), err
    assert not list((tmp_path / "cache").glob(".staging-*"))
    assert all(state["reused"] for state in lanelock(*call, "--json")[1]["states"])


SHARED = """
import sys
from pathlib import Path
from worlds import tiny_world
from lanelock.engine.keep.cache import Cache
from lanelock.engine.segment_2b.run import KINDS
cache, world, found = Cache(Path(sys.argv[1]), 3 * 40_000, KINDS), tiny_world(), 0
for turn in range(150):
    key = f"{turn * 7 % 10:064x}"
    value = cache.get(key)
    found += value is not None
    assert value is None or value.digest == world.digest
    if value is None:
        cache.put(key, world)
    assert not cache.trouble
print(found)
"""


def test_processes_share_a_cache_that_has_no_room_and_none_sees_half_an_entry(tmp_path):
    """Four readers and writers of ten entries where few have room: entries come and go while others read them."""
    path = os.pathsep.join([child_environment()["PYTHONPATH"], str(ROOT / "tests")])
    command = [sys.executable, "-c", SHARED, str(tmp_path)]
    several = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=child_environment(PYTHONPATH=path))
        for _ in range(4)
    ]  # fmt: skip
    said = [process.communicate() for process in several]
    assert [process.returncode for process in several] == [0] * 4, [err for _, err in said]
    assert any(int(out) for out, _ in said), "some were found"
    assert not (tmp_path / "aside").exists() and not list(tmp_path.glob(".staging-*"))


def test_a_full_disk_leaves_nothing_half_published(lanelock, tiny, tmp_path):
    with small_disk(tmp_path / "disk", "1m"):
        call = (
            "run",
            "--pack",
            "p3_recorded",
            "--seed",
            42,
            "--world",
            tiny,
            "--publish",
            "--workspace",
            tmp_path / "disk" / "w",
        )
        code, out, err = lanelock(*call)
        assert code == 2 and out == "" and "the disk is full" in err and err.count("\n") == 1
        assert not [path for path in (tmp_path / "disk" / "w" / "runs").iterdir() if path.is_dir()]
        remount(tmp_path / "disk", "size=200m")
        code, made, err = lanelock(*call, "--json")
        assert code == 0, err
        assert lanelock("replay", made["run_id"], "--json", "--workspace", tmp_path / "disk" / "w")[1]["identical"]


def test_two_processes_may_run_and_publish_the_same_at_once(tiny, tmp_path):
    command = [
        sys.executable,
        "-m",
        "lanelock",
        "run",
        "--pack",
        "p3_recorded",
        "--seed",
        "42",
    ]
    command += ["--world", str(tiny), "--publish", "--json", "--workspace", str(tmp_path)]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment()) for _ in range(2)]
    said = [json.loads(process.communicate()[0]) for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert said[0]["digests"] == said[1]["digests"] and said[0]["published"] == said[1]["published"]
    store.check_run(tmp_path / "runs" / said[0]["run_id"])


def test_runs_of_other_places_threads_and_shards_are_the_same_bytes(lanelock, tmp_path):
    """The reference world, three times: published on one thread, on two, and from a world in a folder elsewhere."""
    found = []
    for index, more in enumerate((("--jobs", 1), ("--jobs", 2, "--cache-gb", 0), ())):
        place = tmp_path / f"place {index}"
        code, made, err = lanelock("run", "--pack", "p1", "--seed", 42, "--publish", "--json", *more, workspace=place)
        assert code == 0, err
        found.append(digests(place / "runs" / made["run_id"]))
    assert found[0] == found[1] == found[2] and len(found[0]) > 400
    assert lanelock("replay", made["run_id"], "--json", workspace=place)[1] == {
        "identical": True,
        "files": len(found[0]),
        "differences": [],
        "machine": "",
    }


def test_a_state_that_raises_leaves_everything_sound(packs, tiny, tmp_path, monkeypatch):
    engine, pack = Segment2B().keeping(tmp_path / "cache", 1 << 30), packs("p3_recorded").with_knobs({ROUTING: 2.0})
    with monkeypatch.context() as broken:
        broken.setattr(s5_routing, "route", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.evaluate(pack, 42, world=tiny)
    again = Segment2B().keeping(tmp_path / "cache", 1 << 30).evaluate(pack, 42, world=tiny)
    assert again.digests() == Segment2B().evaluate(pack, 42, world=tiny).digests() and again.audit.passed
    reused = {state.name for state in again.states if state.reused}
    assert {"S1", "S2", "S3", "S4"} <= reused and "S5" not in reused


# --- states kept on disk ----------------------------------------------------------------------------------


def test_what_is_read_back_is_what_was_computed(packs, tiny, tmp_path):
    kept = [Segment2B().keeping(tmp_path, 1 << 30).evaluate(packs("p3_recorded"), 42, world=tiny) for _ in range(2)]
    assert all(state.reused for state in kept[1].states)
    assert kept[0].digests() == kept[1].digests() and kept[0].audit == kept[1].audit


def test_the_digest_of_a_kept_surface_is_kept_with_it_and_a_part_has_its_own(packs, tiny, tmp_path, monkeypatch):
    first, again = [
        Segment2B().keeping(tmp_path, 1 << 30).evaluate(packs("p3_recorded"), 42, world=tiny) for _ in range(2)
    ]
    assert first.digests() == {name: table_digest(made.table()) for name, made in again.surfaces.items()}
    part = again.surfaces["s4_group_weights"].part(slice(0, 5))
    assert part.digest() == table_digest(part.table()) != again.surfaces["s4_group_weights"].digest()
    monkeypatch.setattr(surface, "table_digest", lambda _: 1 / 0)
    assert again.digests() == first.digests()


def test_a_corrupt_entry_is_named_set_aside_and_computed_anew(packs, tiny, tmp_path):
    def evaluate():
        return Segment2B().keeping(tmp_path, 1 << 30).evaluate(packs("p3_recorded"), 42, world=tiny)

    first = evaluate()
    key = next(state.key for state in first.states if state.name == "S4")
    victim = max((tmp_path / key[:2] / key).glob("*.arrow"), key=lambda path: path.stat().st_size)
    held = bytearray(victim.read_bytes())
    held[len(held) // 2] ^= 1
    victim.write_bytes(held)
    with pytest.raises(WorkspaceError, match=victim.name):
        evaluate()
    again = evaluate()
    assert again.digests() == first.digests()
    assert [state.name for state in again.states if not state.reused] == ["S4"]


def test_a_cache_that_names_code_to_call_calls_nothing(packs, tiny, tmp_path):
    """Whoever may write a shared cache must not decide what its readers run."""
    cache, mark = tmp_path / "cache", tmp_path / "mark"
    pack = packs("p3_recorded")
    Segment2B().keeping(cache, 1 << 30).evaluate(pack, 42, world=tiny, until="S4")
    manifests = sorted(cache.glob("??/*/manifest.json"))
    assert manifests
    for path in manifests:
        body = read_receipt(path)
        called = {"type": "subprocess:run", "fields": {"args": {"list": ["touch", str(mark)]}}}
        write_receipt(path, {**body, "tree": {**body["tree"], "value": called}})
    with pytest.raises(WorkspaceError, match=r"subprocess:run.* is none of the types"):
        Segment2B().keeping(cache, 1 << 30).evaluate(pack, 42, world=tiny, until="S4")
    assert not mark.exists()


def test_the_cache_stays_within_its_bound_the_least_recently_used_out_first(packs, tiny, tmp_path):
    bound, pack = 6 << 20, packs("p3_recorded").with_knobs({ROUTING: 1.0})
    for seed in range(6):
        os.utime(tmp_path)
        Segment2B().keeping(tmp_path, bound).evaluate(pack, seed, world=tiny)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= bound + (1 << 16)
    last = Segment2B().keeping(tmp_path, bound).evaluate(pack, 5, world=tiny)
    assert any(state.reused for state in last.states), "what was used last is still there"


def test_editing_a_policy_moves_its_states_and_explain_says_why(lanelock, packs, tiny, tmp_path):
    def run(moves):
        folder = tmp_path / f"pack{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        shutil.copy(POLICIES / "segment_2b" / "packs" / "p3_recorded" / "pack.json", folder)
        for name, document in packs("p3_recorded").with_knobs(moves).documents().items():
            (folder / f"{name}.json").write_text(json.dumps(document))
        call = ("run", "--pack", folder, "--seed", 42, "--world", tiny, "--json")
        code, made, err = lanelock(*call, workspace=tmp_path / "w")
        assert code == 0, err
        return made

    first = run({})
    changes = {
        "group_mix_regularizer_v1#/max_p_group_soft_cap": (
            0.7,
            {"S4", "S5", "S7"},
            "S4",
            "policy group_mix_regularizer_v1",
        ),
        ROUTING: (3.0, {"S5", "S6", "S7"}, "S6", "policy route_rng_policy_v1"),
    }
    for knob, (value, moved, state, why) in changes.items():
        made = run({knob: value})
        assert {s["name"] for s in made["states"] if not s["reused"]} == moved | {"S0"}
        call = ("explain", made["run_id"], "--against", first["run_id"], "--json")
        rows = {row["name"]: row for row in lanelock(*call, workspace=tmp_path / "w")[1]["states"]}
        assert {name for name, row in rows.items() if not row["same"]} == moved | {"S0"}
        assert why in rows[state]["moved_by"] and rows["S1"]["moved_by"] == []
        alone = lanelock("explain", made["run_id"], "--json", workspace=tmp_path / "w")[1]
        assert alone["against"] != made["run_id"], "what a run is held against by itself is the run made before it"
        assert {row["name"] for row in alone["states"] if not row["reused"]} == moved | {"S0"}
    code, again, _ = lanelock("run", "--pack", tmp_path / "pack0", "--seed", 42, "--world", tiny, "--json",
                               workspace=tmp_path / "w")  # fmt: skip
    assert code == 0 and all(state["reused"] for state in again["states"]), (
        "a run that changes nothing computes nothing"
    )
    code, _, err = lanelock("explain", "f" * 32, workspace=tmp_path / "w")
    assert code == 2 and "known: " in err


def test_a_run_published_elsewhere_explains_what_its_states_read(lanelock, published, tmp_path):
    run, folder = published
    code, said, err = lanelock("explain", folder, "--json", workspace=tmp_path)
    assert code == 0, err
    rows = {row["name"]: row for row in said["states"]}
    assert said["run_id"] == run.run_id and {row["reused"] for row in rows.values()} == {None}
    mix = run.pack.policies["group_mix_regularizer_v1"].digest
    assert rows["S4"]["reads"]["policies"] == {"group_mix_regularizer_v1": mix}


@pytest.mark.plan("2.3")
def test_a_state_reads_what_it_declares_and_s0_sealed(packs):
    pack = packs("p3_recorded")
    step = Steps(Stands((), ()), Memory(1 << 20), pack, 42)
    assert step("T1", (), ("world_v1",), (), lambda policy: policy["world_v1"]["verified_utc"])
    with pytest.raises(IntegrityError, match="T2: reads world_v1, which it does not declare"):
        step("T2", (), ("virtual_edge_policy_v1",), (), lambda policy: policy["world_v1"])
    step.seal({"world_v1": pack.policies["world_v1"].digest})
    with pytest.raises(IntegrityError, match=r"T3: reads virtual_edge_policy_v1 .* the run sealed nothing"):
        step("T3", (), ("virtual_edge_policy_v1",), (), lambda policy: policy["virtual_edge_policy_v1"])
    step.seal({"world_v1": "0" * 64})
    with pytest.raises(IntegrityError, match="T4: reads world_v1"):
        step("T4", (), ("world_v1",), (), lambda policy: policy["world_v1"])


# --- worlds and rosters from outside ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "_passed.flag").unlink(), "_passed.flag: missing: no PASS, no read"),
        (lambda folder: (folder / "world_receipt.json").unlink(), "world_receipt.json: missing: no PASS, no read"),
        (lambda folder: (folder / "_passed.flag").write_text("sha256_hex = 0\n"), "_passed.flag: it does not pass"),
        (lambda folder: (folder / "merchants.parquet").unlink(), "merchants.parquet: sha256 missing"),
        (lambda folder: (folder / "site_timezones.csv").write_text("x"), "site_timezones.csv: sha256"),
    ],
)
def test_no_pass_no_read(lanelock, tiny, tmp_path, damage, said):
    world = tmp_path / "world"
    shutil.copytree(tiny, world)
    damage(world)
    code, out, err = lanelock("run", "--pack", "p3_recorded", "--seed", 42, "--world", world, workspace=tmp_path / "w")
    assert code == 3 and out == "" and said in err and err.count("\n") == 1


GOOD = [
    "2026-01-01T00:00:01Z,1,2026-01-01,false,purchase,online",
    "2026-01-02T10:00:00.5+01:00,3,2026-01-02,true,refund,phone",
]
HEAD = "utc_timestamp,merchant_id,utc_day,is_virtual,arrival_class,channel"


@pytest.fixture
def roster(tmp_path):
    def write(rows, head=HEAD):
        path = tmp_path / "roster.csv"
        path.write_text("\n".join([head, *rows]))
        return path

    return write


def fed(world, file):
    """Returns the command of a run with an imported roster."""
    return ("run", "--pack", "p3_recorded", "--seed", 42, "--world", world, "--feed", f"roster={file}")


def test_a_roster_from_outside_is_routed_published_and_replayed(lanelock, tiny, roster, tmp_path):
    call = (*fed(tiny, roster(GOOD)), "--publish", "--json")
    code, made, err = lanelock(*call, workspace=tmp_path / "w")
    assert code == 0, err
    rows = {state["name"]: state["rows"] for state in made["states"]}
    assert (rows["S5"], rows["S6"]) == (1, 1)
    folder = tmp_path / "w" / "runs" / made["run_id"]
    sealed = json.loads(next(folder.rglob("sealed_inputs.json")).read_text())
    assert {"arrival_roster", "upstream_world"} <= {asset["asset_id"] for asset in sealed}
    assert lanelock("replay", made["run_id"], "--json", workspace=tmp_path / "w")[1]["identical"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD[0].replace("2026-01-01", "2025-12-31")], "row 1: utc_day: outside the policy's horizon 2026-01-01"),
        ([GOOD[0], GOOD[1].replace(",2026-01-02,", ",2026-01-03,")], "row 2: utc_day: not the day of utc_timestamp"),
        ([GOOD[0].replace(",1,", ",99,")], "row 1: merchant_id: not a merchant of the world"),
        ([GOOD[0].replace("01Z", "01")], "row 1: utc_timestamp: '2026-01-01T00:00:01' has no offset"),
        (
            [GOOD[0].replace("2026-01-01T00:00:01Z", "yesterday")],
            "row 1: utc_timestamp: 'yesterday' is not an ISO 8601",
        ),
        (GOOD[::-1], "row 2: utc_timestamp: not in the order"),
        ([GOOD[0].replace("false", "true")], "row 1: is_virtual: the world says otherwise"),
        ([GOOD[0].replace("purchase", "theft")], "row 1: arrival_class: not one of purchase"),
        ([GOOD[0].replace("online", "pigeon")], "row 1: channel: not one of in_store"),
        ([GOOD[0].replace(",1,", ",one,")], "row 1: merchant_id: 'one' is not of type uint64"),
        ([GOOD[0].replace("purchase", "")], "row 1: arrival_class: empty"),
        ([], "the table is empty"),
    ],
)
def test_a_bad_roster_is_refused_by_row(lanelock, tiny, roster, tmp_path, rows, said):
    call = (*fed(tiny, roster(rows)), "--publish")
    code, out, err = lanelock(*call, workspace=tmp_path / "w")
    assert code == 2 and out == "" and "roster.csv: " in err and said in err and err.count("\n") == 1
    assert not [path for path in (tmp_path / "w" / "runs").iterdir() if path.is_dir()]


def test_logs_go_out_as_json_lines_on_request(lanelock, tiny, roster, tmp_path):
    call = (*fed(tiny, roster(GOOD)), "--jsonl", "--json")
    code, made, err = lanelock(*call, workspace=tmp_path / "w")
    assert code == 0, err
    paths = sorted((tmp_path / "w" / "exports" / made["run_id"]).rglob("s6_edge_log/**/*.jsonl"))
    (row,) = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    assert (
        row["merchant_id"] == 3
        and row["utc_day"] == "2026-01-02"
        and row["utc_timestamp"].startswith("2026-01-02T09:00:00.5")
    )


@pytest.mark.plan("1.4")
def test_the_contract_can_be_printed(lanelock):
    _, said, _ = lanelock("contract", "--json")
    assert {surface["surface"] for surface in said["surfaces"]} == set(TABLES)
    assert all(column["unit"] for surface in said["surfaces"] for column in surface["columns"])
