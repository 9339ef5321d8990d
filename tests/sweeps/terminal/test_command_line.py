"""The command as a person meets it: one line for what is wrong, the right exit code, nothing half-written."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from conftest import remount, small_disk
from lanes import QUEUE, refused

from lanelock.policies.documents import ROOT

MIX = "group_mix_regularizer_v1"


def pack_with(tmp_path, old, new, policy=MIX):
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "segment_2b" / "packs" / "p3_recorded", folder)
    path = folder / f"{policy}.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "field", "bound"),
    [
        ('"knee"', '"kneee"', "/: unknown field kneee", "known: "),
        ('"entropy_floor": 0.5', '"entropy_floor": 0.9', "/entropy_floor: 0.9", "above the maximum"),
        ('"entropy_floor": 0.5', '"entropy_floor": NaN', "/entropy_floor: nan", "not a JSON number"),
        ('"entropy_floor": 0.5', '"entropy_floor": "much"', '/entropy_floor: "much"', "type number"),
        ("{", "", "line", "not JSON"),
    ],
)
def test_a_bad_policy(lanelock, tmp_path, old, new, field, bound):
    text = (ROOT / "segment_2b" / "packs" / "p3_recorded" / f"{MIX}.json").read_text()
    if '"entropy_floor"' in old:
        now = json.loads(text)["entropy_floor"]
        old = f'"entropy_floor": {now}'
    folder = pack_with(tmp_path, old, new)
    for command in (
        ("policy", "validate", folder),
        ("run", "--pack", folder, "--seed", 42),
        ("policy", "diff", "p2", folder),
    ):
        refused(lanelock(*command), f"{folder}/{MIX}.json", field, bound)


def test_a_missing_and_an_unknown_policy(lanelock, tmp_path):
    folder = pack_with(tmp_path, "{", "{")
    (folder / f"{MIX}.json").unlink()
    refused(lanelock("run", "--pack", folder, "--seed", 42), f"{folder}/{MIX}.json", "missing")
    shutil.copy(ROOT / "segment_2b" / "packs" / "p3_recorded" / f"{MIX}.json", folder / f"{MIX}.json")
    shutil.copy(ROOT / "segment_2b" / "packs" / "p3_recorded" / f"{MIX}.json", folder / "magic_v9.json")
    refused(lanelock("run", "--pack", folder, "--seed", 42), f"{folder}/magic_v9.json", "not a policy")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("sweep", "nolane"), ("nolane", "shipped lanes: ")),
        (("sweep", "p3", "--trials", "0"), ("--trials", "0 is not in the range")),
        (("sweep", "p3", "--sampler", "magic"), ("/sampler/name: 'magic'", "surrogate, tpe, gp")),
        (("run", "--pack", "nope", "--seed", "1"), ("nope", "shipped packs: baseline")),
        (("run", "--pack", "p1", "--seed", "-1"), ("--seed", "0<=x<=4294967295")),
        (("run", "--pack", "p1"), ("--seed",)),
        (("run", "--pack", "p1", "--seed", "1", "--world", "/nowhere"), ("/nowhere", "--world")),
        (("policy", "diff", "p1"), ("AFTER",)),
        (("lock", "show", "nothing"), ("nothing: no lock has this name",)),
        (("lock", "show", "*"), ("'*' is not a name for a lock, and there is no such file",)),
        (("lock", "show", "/tmp"), ("/tmp: is a folder that holds no run and no evidence",)),
        (("certify", "/"), ("/: is a folder that holds no run and no evidence",)),
        (("score", "abc"), ("abc: no such run",)),
        (("frobnicate",), ("frobnicate",)),
    ],
)
def test_bad_usage(lanelock, tmp_path, call, said):
    workspace = tmp_path / "workspace"
    refused(lanelock(*call, workspace=workspace), *said)
    assert not list(workspace.rglob("*.json")) if workspace.exists() else True


def test_a_world_with_a_duplicate_key(lanelock, tmp_path):
    rows = ["merchant_id,legal_country_iso,site_order,lat_deg,lon_deg", *["5,FR,1,48.85,2.35"] * 2]
    (tmp_path / "site_locations.csv").write_text("\n".join(rows))
    for command in (("run", "--pack", "p1", "--seed", 42), ("world", "show"), ("sweep", "p3_wide", "--trials", 4)):
        refused(lanelock(*command, "--world", tmp_path), "site_locations.csv", "row 2", "given twice")


def test_a_full_disk_loses_no_told_trial_and_resumes(lanelock, tmp_path):
    sweep = ("sweep", QUEUE / "lane.json", "--trials", 400, "--json")
    with small_disk(tmp_path / "disk", "400k"):
        workspace = tmp_path / "disk" / "workspace"
        refused(lanelock(*sweep, workspace=workspace), "the disk is full", "--workspace DIR")
        assert not (workspace / "mlflow.db").exists(), "nothing half-written"
        remount(tmp_path / "disk", "size=3m")
        refused(lanelock(*sweep, workspace=workspace), "the disk is full", "--resume")
        remount(tmp_path / "disk", "size=100m")
        code, said, err = lanelock(*sweep, "--resume", workspace=workspace)
        assert code in (0, 1) and said["trials"]["number"] == 400, err
        with closing(sqlite3.connect(workspace / "mlflow.db")) as database:
            where = "key = 'lanelock.trial'"
            assert database.execute(f"SELECT COUNT(DISTINCT value), COUNT(*) FROM tags WHERE {where}").fetchone() == (
                400,
                400,
            )


def test_a_read_only_workspace(lanelock, tmp_path):
    with small_disk(tmp_path / "disk", "1m"):
        remount(tmp_path / "disk", "ro")
        found = lanelock("sweep", QUEUE / "lane.json", workspace=tmp_path / "disk" / "workspace")
        refused(found, "workspace", "read-only", "--workspace DIR")


def test_a_workspace_that_is_a_file(lanelock, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(lanelock("sweep", QUEUE / "lane.json", workspace=tmp_path / "file"), "it is not a folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_database_or_journal_from_a_newer_version(lanelock, tmp_path):
    sweep = ("sweep", QUEUE / "lane.json", "--trials", 4, "--quiet")
    assert lanelock(*sweep, workspace=tmp_path) == (0, "", "")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as database:
        (present,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = (tmp_path / "optuna.journal").read_bytes()
    refused(lanelock(*sweep, workspace=tmp_path), "mlflow.db", "another version of MLflow")
    assert (tmp_path / "optuna.journal").read_bytes() == before, "refused before anything is begun"
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (present,))
    with (tmp_path / "optuna.journal").open("a") as journal:
        journal.write('{"op_code": 99, "worker_id": "x"}\n')
    refused(lanelock(*sweep, workspace=tmp_path), "optuna.journal", "newer version")


@pytest.mark.parametrize(
    "call",
    [
        ("policy", "validate", "p1"),
        ("policy", "digest", "p1"),
        ("policy", "diff", "p1", "p2"),
        ("world", "show"),
        ("world", "build"),
        ("run", "--pack", "p1", "--seed", 42, "--score", "--publish"),
        ("feasibility", "p3_wide"),
    ],
)
def test_json_is_one_object_and_nothing_else_and_quiet_says_nothing(lanelock, tmp_path, call):
    code, said, err = lanelock(*call, "--json", workspace=tmp_path)
    assert code in (0, 1) and isinstance(said, dict) and err == ""
    assert lanelock(*call, "--quiet", workspace=tmp_path)[1:] == ("", "")


def test_a_run_is_published_scored_again_and_the_same(lanelock, tmp_path):
    run = ("run", "--pack", "p1", "--seed", 42, "--score", "--publish", "--json")
    _, made, _ = lanelock(*run, workspace=tmp_path)
    assert {"run_id", "states", "metrics", "verdict", "gates"} <= made.keys()
    _, again, _ = lanelock("score", made["run_id"], "--json", workspace=tmp_path)
    assert {key: again[key] for key in ("metrics", "verdict", "gates")} == {
        key: made[key] for key in ("metrics", "verdict", "gates")
    }


def test_a_world_brought_in_is_swept_and_its_lock_proved(lanelock, tmp_path):
    _, built, _ = lanelock(
        "world", "build", "--pack", "p3_wide", "--out", tmp_path / "world", "--json", workspace=tmp_path
    )
    sweep = ("sweep", "p3_wide", "--trials", 8, "--world", built["folder"], "--json")
    code, said, err = lanelock(*sweep, workspace=tmp_path)
    assert code in (0, 1), err
    _, drawn, _ = lanelock("world", "show", "--pack", "p3_wide", "--json", workspace=tmp_path)
    assert drawn["digest"] == built["digest"], "one world for every seed, and it is the folder's"
    refused(lanelock("lock", "verify", said["lock"], workspace=tmp_path), "--world DIR")
    code, checked, _ = lanelock(
        "lock", "verify", said["lock"], "--world", built["folder"], "--json", workspace=tmp_path
    )
    assert code == 0 and checked["ok"]
