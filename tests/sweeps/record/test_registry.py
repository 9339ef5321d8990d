"""Whoever can write to MLflow decides nothing: what they change is found, said, set right, and never loaded."""

import json
import shutil
import sqlite3
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import pytest
import yaml
from conftest import forged
from lanes import QUEUE, refused
from mlflow import MlflowClient
from worlds import tiny_world

from lanelock.policies import IntegrityError, LaneError, PolicyError, WorkspaceError
from lanelock.policies.documents import read_json, shipped
from lanelock.service import load
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote, rollback
from lanelock.sweeps.proof.signatures import sign
from lanelock.sweeps.record.mlflow_store import Store
from lanelock.sweeps.record.registered import at_a_glance
from lanelock.sweeps.record.registry import Registry, compare, follow
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

EVIL = "import pathlib\npathlib.Path({mark!r}).touch()\ndef _load_pyfunc(path, model_config=None):\n    return None\n"
ASKED = pd.DataFrame({"customer": [7, 3]})


class Attacker:
    """Whoever may write to MLflow: its API, its database, the folder of its artifacts."""

    def __init__(self, place):
        self.client, self.database, self.model = Store(place).client, place.tracking_database, "queue"
        self.mark = place.root / "the-code-of-the-attacker-ran"

    def version(self, alias="candidate"):
        return self.client.get_model_version_by_alias(self.model, alias)

    def folder(self, alias="candidate"):
        row = self.version(alias)
        run = self.client.get_run(row.run_id).info.artifact_uri
        return Path(urlparse(run).path) / row.source.split("/", 2)[2]

    def describe(self, change):
        path = self.folder() / "MLmodel"
        document = yaml.safe_load(path.read_text())
        change(document)
        path.write_text(yaml.safe_dump(document))

    def forgery(self, tagged=True):
        """A model of their own, with code of their own, whose version carries the tags of the true one."""
        true, run = self.version(), self.client.create_run("0")
        folder = self.database.parent / "forged"
        shutil.copytree(self.folder(), folder, dirs_exist_ok=True)
        module = f"evil_{run.info.run_id[:8]}"
        (folder / "code").mkdir(exist_ok=True)
        (folder / "code" / f"{module}.py").write_text(EVIL.format(mark=str(self.mark)))
        document = yaml.safe_load((folder / "MLmodel").read_text())
        document["flavors"]["python_function"] |= {"loader_module": module, "code": "code"}
        (folder / "MLmodel").write_text(yaml.safe_dump(document))
        self.client.log_artifacts(run.info.run_id, str(folder), "model")
        tags = dict(true.tags) if tagged else {}
        return self.client.create_model_version(
            self.model, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id, tags=tags
        )

    def sql(self, statement, *values):
        with sqlite3.connect(self.database) as base:
            base.execute(statement, values)
        base.close()


def moves_alias(attacker):
    attacker.client.set_registered_model_alias("queue", "candidate", attacker.version("authority").version)


def deletes_alias(attacker):
    attacker.client.delete_registered_model_alias("queue", "candidate")


def makes_an_alias(attacker):
    attacker.client.set_registered_model_alias("queue", "certified", attacker.version().version)


def copies_tags_to_a_forgery(attacker):
    attacker.client.set_registered_model_alias("queue", "candidate", attacker.forgery().version)


def copies_tags_and_waits(attacker):
    attacker.forgery()


def points_to_an_untagged_forgery(attacker):
    attacker.client.set_registered_model_alias("queue", "candidate", attacker.forgery(tagged=False).version)


def overwrites_the_lock(attacker):
    path = next(attacker.folder().glob("data/*/lock.json"))
    path.write_text(path.read_text().replace('"verdict": "PASS_BPLUS"', '"verdict": "PASS_B"', 1))


def puts_another_lock_there(attacker):
    shutil.copy(next(attacker.folder("authority").glob("data/*/lock.json")), next(attacker.folder().glob("data/*")))


def replaces_the_loader(attacker):
    (attacker.folder() / "evil_loader.py").write_text(EVIL.format(mark=str(attacker.mark)))
    attacker.describe(lambda document: document["flavors"]["python_function"].update(loader_module="evil_loader"))


def adds_code(attacker):
    (attacker.folder() / "code" / "lanelock").mkdir(parents=True)
    (attacker.folder() / "code" / "lanelock" / "service.py").write_text(EVIL.format(mark=str(attacker.mark)))
    attacker.describe(lambda document: document["flavors"]["python_function"].update(code="code"))


def adds_a_file(attacker):
    (attacker.folder() / "input_example.json").write_text("{}")


def changes_the_metadata(attacker):
    attacker.describe(lambda document: document["metadata"].update(lock_id="0" * 64))


def takes_the_anchor_out(attacker):
    attacker.describe(lambda document: document["flavors"]["python_function"]["config"].pop("lock_id"))


def adds_a_requirement(attacker):
    (attacker.folder() / "requirements.txt").write_text("lanelock\nevil-package\n")


def links_the_lock(attacker):
    path = next(attacker.folder().glob("data/*/lock.json"))
    path.rename(attacker.database.parent / "elsewhere.json")
    path.symlink_to(attacker.database.parent / "elsewhere.json")


def changes_the_source(attacker):
    other, version = attacker.version("authority"), attacker.version().version
    statement = "update model_versions set source = ?, storage_location = ? where version = ?"
    attacker.sql(statement, other.source, other.source, version)


def edits_a_tag(attacker):
    attacker.client.set_model_version_tag("queue", attacker.version().version, "lanelock.verdict", "PASS_EVERYTHING")


def deletes_the_version(attacker):
    attacker.client.delete_model_version("queue", attacker.version().version)


def deletes_the_model(attacker):
    attacker.client.delete_registered_model("queue")


ATTACKS = [
    moves_alias,
    makes_an_alias,
    copies_tags_to_a_forgery,
    overwrites_the_lock,
    replaces_the_loader,
    changes_the_source,
    edits_a_tag,
    deletes_the_model,
    *(
        pytest.param(attack, marks=pytest.mark.slow)
        for attack in (
            deletes_alias,
            copies_tags_and_waits,
            points_to_an_untagged_forgery,
            puts_another_lock_there,
            adds_code,
            adds_a_file,
            changes_the_metadata,
            takes_the_anchor_out,
            adds_a_requirement,
            links_the_lock,
            deletes_the_version,
        )
    ),
]
REFUSED = {moves_alias, deletes_alias, overwrites_the_lock, puts_another_lock_there, changes_the_metadata,
               changes_the_source, deletes_the_version, deletes_the_model, links_the_lock}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with two locks: `candidate` points to the second, after the first, and `authority` to the first."""
    place, lane = Workspace.at(tmp_path_factory.mktemp("registry")), load_lane(str(QUEUE / "lane.json"))
    first, second = (play(lane.with_search(trials=trials), place).lock for trials in (4, 8))
    assert promote(first, "candidate", place).written and promote(first, "authority", place).written
    assert promote(second, "candidate", place, force=True, why="more trials").written
    follow(place)
    return place, Lock.read(first), Lock.read(second)


@pytest.fixture
def attacker(made):
    return Attacker(made[0])


def registered(lock_id, place, **more):
    return load("models:/queue@candidate", workspace=place, lock_id=lock_id, **more)


def test_what_is_as_the_moves_say_differs_in_nothing(made, here):
    place, _, second = made
    assert compare(place) == at_a_glance(place) == []
    before, reported = place.registry.read_bytes(), []
    assert follow(place, reported.append) == {"authority": "1", "candidate": "2"} and reported == []
    assert place.registry.read_bytes() == before
    assert registered(second.lock_id, place).lock_id == second.lock_id
    code, out, err = here("status", workspace=place.root)
    assert code == 0 and err == "" and len(out.splitlines()) <= 10


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_is_found_said_set_right_and_never_loaded(made, attacker, attack, here):
    place, first, second = made
    attack(attacker)
    assert [row for row in compare(place) if row.changed], "the whole comparison"
    assert [row for row in at_a_glance(place) if row.changed], "the one of status"
    if attack in REFUSED:
        with pytest.raises((IntegrityError, WorkspaceError)):
            registered(second.lock_id, place)
    else:  # the expected lock, by our loader, whatever else lies beside it
        assert registered(second.lock_id, place).lock_id == second.lock_id
    reported = []
    versions = follow(place, reported.append)
    assert reported and compare(place) == at_a_glance(place) == []
    for alias, lock in (("candidate", second), ("authority", first)):
        row = attacker.version(alias)
        assert (str(row.version), row.tags["lanelock.lock"]) == (versions[alias], lock.lock_id)
        assert load(f"models:/queue@{alias}", workspace=place, lock_id=lock.lock_id).lock_id == lock.lock_id
    assert "certified" not in attacker.client.get_registered_model("queue").aliases
    again = []
    assert follow(place, again.append) == versions and again == []
    assert not attacker.mark.exists() and not any(name.startswith("evil") for name in sys.modules)


def test_the_commands_say_it_and_end_with_3(made, attacker, here):
    place, *_ = made
    moves_alias(attacker)
    for command in (("status",), ("verify", "candidate")):
        code, out, err = here(*command, workspace=place.root)
        assert code == 3 and "queue@candidate: points to version 1, lock" in err.replace("“", ""), err
    code, out, err = here("sync", "--json", workspace=place.root)
    assert code == 3 and json.loads(out)["changed"] and "it was left at version" in err
    for command in (("status",), ("verify", "candidate"), ("sync",)):
        assert here(*command, workspace=place.root)[0] == 0
    deletes_alias(attacker)
    code, out, err = here("rollback", "authority", "--json", workspace=place.root)
    assert code == 1, "nothing to roll back to; the registry is not asked"
    assert here("sync", "--quiet", workspace=place.root)[0] == 3


def test_a_registry_that_is_behind_was_not_changed(made):
    """The server was away when the alias moved: sync brings the registry up to date, and that is no finding."""
    place, _, second = made
    assert rollback("candidate", place).written
    assert [row.kind for row in compare(place)] == ["behind"] == [row.kind for row in at_a_glance(place)]
    reported = []
    assert follow(place, reported.append)["candidate"] == "1" and reported == []
    assert promote(place.promoted / second.lock_id / "lock.json", "candidate", place, force=True, why="back").written
    follow(place, reported.append)
    assert reported == []


@pytest.mark.parametrize("written", [0, 1])
def test_killed_among_the_tags_of_a_certification_it_is_behind_and_what_others_write_is_still_found(
    made, tmp_path, monkeypatch, written
):
    place, second = Workspace(Path(shutil.copytree(made[0].root, tmp_path / "copy"))), made[2]
    follow(place)
    path, set_tag, said = place.promoted / second.lock_id / "lock.json", MlflowClient.set_model_version_tag, []
    certify_lock(path, place, holdout=4)
    assert promote(path, "last-good", place, force=True, why="certified").written

    def killed(client, model, version, tag, value):
        if len(said) == written:
            raise KeyboardInterrupt
        said.append(tag)
        set_tag(client, model, version, tag, value)

    monkeypatch.setattr(MlflowClient, "set_model_version_tag", killed)
    with pytest.raises(KeyboardInterrupt):
        follow(place)
    monkeypatch.undo()
    assert {row.kind for row in compare(place)} == {"behind"} == {row.kind for row in at_a_glance(place)}
    reported = []
    follow(place, reported.append)
    assert reported == [] == compare(place)
    MlflowClient(Store(place).uri).set_model_version_tag("queue", follow(place)["last-good"], "lanelock.claim", "none")
    assert [row.kind for row in compare(place)] == ["tag"]


def test_killed_once_an_alias_is_pointed_it_is_behind_after_the_next_move_too(made, tmp_path, monkeypatch):
    place, point = Workspace(Path(shutil.copytree(made[0].root, tmp_path / "copy"))), Registry.point
    follow(place)

    def killed(*arguments):
        point(*arguments)
        raise KeyboardInterrupt

    path = place.promoted / made[1].lock_id / "lock.json"
    assert promote(path, "candidate", place, force=True, why="once more the first").written
    monkeypatch.setattr(Registry, "point", killed)
    with pytest.raises(KeyboardInterrupt):
        follow(place)
    monkeypatch.undo()
    assert compare(place) == []
    assert rollback("candidate", place).written
    assert {row.kind for row in compare(place)} == {"behind"} == {row.kind for row in at_a_glance(place)}
    reported = []
    follow(place, reported.append)
    assert reported == [] == compare(place)


def test_without_its_note_a_right_version_is_known_by_its_bytes_and_a_forgery_is_not(made, attacker):
    """As after the workspace was rebuilt: what this package would register is taken over, nothing else."""
    place, _, second = made
    versions = follow(place)
    place.registry.unlink()
    reported = []
    assert follow(place, reported.append) == versions and reported == []
    place.registry.unlink()
    copies_tags_to_a_forgery(attacker)
    assert follow(place, reported.append)["authority"] == versions["authority"] and len(reported) >= 1
    assert registered(second.lock_id, place).lock_id == second.lock_id


def test_a_service_is_loaded_from_a_workspace_a_file_or_a_model_with_an_anchor(made, tmp_path):
    place, first, second = made
    served = load("candidate", workspace=place.root)
    assert served.lock_id == second.lock_id and served.seed == second.seeds[0]
    answer = served.predict(ASKED)
    lone = shutil.copy(place.promoted / second.lock_id / "lock.json", tmp_path / "lock.json")
    for name, more in ((lone, {}), (second.lock_id, {"workspace": place}), (str(lone), {"lock_id": second.lock_id})):
        assert load(name, **more).predict(ASKED).equals(answer)
    assert registered(second.lock_id, place, seed=second.seeds[1]).seed == second.seeds[1]
    with pytest.raises(PolicyError, match="give lock_id or trust"):
        load("models:/queue@candidate", workspace=place)
    with pytest.raises(IntegrityError, match=f"expected is lock {first.lock_id}"):
        registered(first.lock_id, place)
    with pytest.raises(IntegrityError, match="expected is lock"):
        load("candidate", workspace=place, lock_id=first.lock_id)
    with pytest.raises(PolicyError, match="not the whole id"):
        load("candidate", workspace=place, lock_id=second.short_id)
    with pytest.raises(LaneError, match="seed 77"):
        load("candidate", workspace=place, seed=77)
    with pytest.raises(WorkspaceError, match="models:/queue@nobody"):
        load("models:/queue@nobody", workspace=place, lock_id=first.lock_id)


def test_a_trust_file_is_an_anchor_as_well(made, tmp_path):
    """A signature that was added after the promotion is served with the next sync."""
    place, _, second = made
    key, other = (SigningKey.make(tmp_path / f"{name}.pem") for name in ("ada", "eve"))

    def trust(name, key, *roles):
        row = {"name": name, "public": key.public, "roles": list(roles)}
        path = tmp_path / f"{name}{len(roles)}.json"
        path.write_text(json.dumps({"format": "lanelock.trust/1", "keys": [row], "aliases": {}}))
        return path

    def from_mlflow(trusted):
        return load("models:/queue@candidate", workspace=place, trust=trusted)

    with pytest.raises(IntegrityError, match="is not signed by a key that"):
        from_mlflow(trust("ada", key, "maker"))
    version, reported = follow(place)["candidate"], []
    assert sign(place.promoted / second.lock_id / "lock.json", key)
    assert follow(place, reported.append)["candidate"] != version and reported == []
    assert from_mlflow(trust("ada", key, "maker")).lock_id == second.lock_id
    assert load("candidate", workspace=place, trust=trust("ada", key, "maker")).lock_id == second.lock_id
    for stranger in (trust("eve", other, "maker"), trust("ada", key)):
        with pytest.raises(IntegrityError, match="is not signed by a key that"):
            from_mlflow(stranger)


def test_another_world_beside_the_lock_is_not_served(tmp_path):
    """The tables of an imported world lie beside the lock, where whoever writes to MLflow can exchange them."""
    engine, shipped_lock = engine_named("segment_2b"), shipped("locks", ".json")["segment_2b_certified"]
    engine.own.keep_world(tiny_world(), tmp_path / "world")
    run, _ = engine.serve(Lock.read(shipped_lock).pack(), 42, world=tmp_path / "world")
    stated = read_json(shipped_lock)["proof"]
    proof = {**stated, "42": {**stated["42"], "world": run.world_digest, "surfaces": run.digests()}}
    lock = forged(shipped_lock, tmp_path, world_source="imported", proof=proof)
    assert load(lock, seed=42).lock_id == Lock.read(lock).lock_id
    shutil.rmtree(tmp_path / "world")
    engine.own.keep_world(tiny_world(sites={1: {"Europe/London": 3}, 2: {"Asia/Tokyo": 6}}), tmp_path / "world")
    with pytest.raises(IntegrityError, match="world digests to"):
        load(lock, seed=42)


def test_a_promoted_folder_that_holds_another_lock_is_not_served(made, tmp_path):
    place, first, second = made
    copy = Workspace(Path(shutil.copytree(place.root, tmp_path / "copy")))
    shutil.copy(copy.promoted / first.lock_id / "lock.json", copy.promoted / second.lock_id / "lock.json")
    with pytest.raises(
        IntegrityError, match=rf"{second.lock_id}/lock\.json: holds lock {first.lock_id}; it was exchanged"
    ):
        load("candidate", workspace=copy)


def load_by_mlflow(folder, **config):
    with warnings.catch_warnings():  # about MLflow's own types
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(str(folder), model_config=config)


def test_mlflow_loads_it_and_holds_it_to_an_expected_lock(made, attacker):
    place, first, second = made
    folder = attacker.folder()
    true = load("candidate", workspace=place, seed=second.seeds[1]).predict(ASKED)
    assert load_by_mlflow(folder, lock_id=second.lock_id, seed=second.seeds[1]).predict(ASKED).equals(true)
    with pytest.raises(IntegrityError, match="expected is lock"):
        load_by_mlflow(folder, lock_id=first.lock_id)
    takes_the_anchor_out(attacker)
    with pytest.raises(LaneError, match="takes neither lock_id nor trust"):
        load_by_mlflow(folder, lock_id=second.lock_id)
    attacker.describe(lambda document: document["flavors"]["python_function"]["config"].update(lock_id=None))
    puts_another_lock_there(attacker)
    with pytest.raises(IntegrityError, match="its folder is named"):
        load_by_mlflow(folder)
    changes_the_metadata(attacker)
    with pytest.raises(IntegrityError, match="/metadata/lock_id"):
        load_by_mlflow(folder)
    follow(place)


def test_what_is_overwritten_while_it_is_registered_is_not_noted_as_ours(made, attacker, monkeypatch):
    place, _, second = made
    describe = Registry._describe

    def overwritten(self, version, row):
        if version.lock.lock_id == second.lock_id:
            run = attacker.client.get_run(row.run_id).info.artifact_uri
            (Path(urlparse(run).path) / row.source.rpartition("/")[2] / "requirements.txt").write_text("evil-package")
        describe(self, version, row)

    deletes_the_version(attacker)
    monkeypatch.setattr(Registry, "_describe", overwritten)
    follow(place)
    monkeypatch.undo()
    assert [row.kind for row in compare(place)] == ["files", "alias"]
    follow(place)
    assert compare(place) == []


@pytest.mark.slow
def test_two_stores_are_noted_apart(made, tmp_path):
    copy = Workspace(Path(shutil.copytree(made[0].root, tmp_path / "copy")))
    other, reported = replace(copy, tracking_uri=f"sqlite:///{tmp_path / 'other.db'}"), []
    assert sorted(follow(other, reported.append).values()) == ["1", "2"] and reported == [] == compare(copy)
    assert len(json.loads(copy.registry.read_text())) == 2


def test_a_note_that_was_changed_is_refused(made, tmp_path, here):
    place, *_ = made
    copy = Workspace(Path(shutil.copytree(place.root, tmp_path / "copy")))
    copy.registry.write_text('{"workspace": {"queue": {}}}')
    refused(here("sync", workspace=copy.root), "registry.json", code=3)
