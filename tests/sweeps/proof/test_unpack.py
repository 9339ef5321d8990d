"""A lock's pack as policy files: in a new folder, or its values in the files that are there; whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from lanes import QUEUE, refused

from lanelock.policies import load_pack
from lanelock.policies.documents import read_json
from lanelock.sweeps.engines import open_pack
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

POLICY = "queue_policy_v1.json"


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    return place, Lock.read(play(load_lane(str(QUEUE / "lane.json")).with_search(trials=8), place, track=False).lock)


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_folder_is_the_locks_pack(here, closed, tmp_path):
    place, lock = closed
    code, out, _ = here("lock", "unpack", "queue-1", "--to", tmp_path / "new" / "pack", "--json", workspace=place.root)
    assert code == 0 and json.loads(out)["written"]
    pack, engine = open_pack(str(tmp_path / "new" / "pack"))
    assert (pack.digest, engine.name) == (lock.candidate_pack.digest, "queue")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["pack"], "nothing is left beside it"


def test_in_files_that_are_there_only_values_change(here, closed, tmp_path):
    place, lock = closed
    folder = shutil.copytree(QUEUE / "pack", tmp_path / "pack")
    (folder / "notes.txt").write_text("mine")
    (folder / POLICY).write_text('{"servers": 8,\r\n   "arrivals": 9.00, "service" : 1}')
    (folder / POLICY).chmod(0o640)
    before = held(folder)
    wanted = lock.candidate_pack.policies["queue_policy_v1"]

    code, out, _ = here("lock", "unpack", "queue-1", "--to", folder, "--diff", workspace=place.root)
    assert code == 0 and held(folder) == before, "--diff writes nothing"
    assert '-   "arrivals": 9.00, "service" : 1}' in out and f'"service" : {wanted["service"]!r}}}' in out

    assert here("lock", "unpack", "queue-1", "--to", folder, "--quiet", workspace=place.root) == (0, "", "")
    text = f'{{"servers": {wanted["servers"]},\r\n   "arrivals": 9.00, "service" : {wanted["service"]!r}}}'
    assert held(folder) == before | {POLICY: text.encode()} and (folder / POLICY).stat().st_mode & 0o777 == 0o640
    assert load_pack(folder, lock.lane().engine.policy_schemas).digest == lock.candidate_pack.digest
    again = json.loads(here("lock", "unpack", "queue-1", "--to", folder, "--json", workspace=place.root)[1])
    assert (again["written"], again["files"], again["diff"]) == (False, [], "")


def test_what_cannot_take_it_is_named_and_nothing_is_written(here, closed, tmp_path):
    place, _ = closed
    folder = shutil.copytree(QUEUE / "pack", tmp_path / "pack")
    for name, text, *said in (
        (POLICY, '{"arrivals": 9, "service": 1}', "/servers: is missing from the file"),
        (POLICY, '{"arrivals": 9, "service": 1, "servers": 8, "x": 1}', "/x: is in the file, not in the pack"),
        (POLICY, '{"arrivals": 9, "arrivals": 9}', "/arrivals: the field is given twice"),
        (POLICY, "{", "line 1 column 2"),
        ("pack.json", '{"engine": "other"}', "/engine: a pack of engine other, the lock's is of queue"),
    ):
        kept = (folder / name).read_text()
        (folder / name).write_text(text)
        before = held(folder)
        refused(here("lock", "unpack", "queue-1", "--to", folder, workspace=place.root), f"{folder / name}: ", *said)
        assert held(folder) == before
        (folder / name).write_text(kept)
    refused(here("lock", "unpack", "queue-1", "--to", folder / POLICY, workspace=place.root), "--to: is a file")


def test_all_files_change_or_none(here, tmp_path, monkeypatch):
    """Of the six files of a shipped lock's pack, the second rename fails: the first is put back."""
    folder = shutil.copytree(ROOT / "policies/segment_2b/packs/baseline", tmp_path / "pack")
    before, renames, rename = held(folder), [], Path.replace

    def replace(path, target):
        if path.name.endswith(".unpacked"):
            renames.append(target)
            if len(renames) == 2:
                raise OSError(28, "No space left on device", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    call = ("lock", "unpack", "segment_2b_certified", "--to", folder)
    refused(here(*call, workspace=tmp_path / "ws"), "No space left on device")
    assert len(renames) == 2 and held(folder) == before
    monkeypatch.undo()
    assert here(*call, "--quiet", workspace=tmp_path / "ws") == (0, "", "")
    changed = [name for name, data in held(folder).items() if data != before[name]]
    certified = read_json(ROOT / "policies/segment_2b/locks/segment_2b_certified.json")
    assert len(changed) > 1 and open_pack(str(folder))[0].digest == certified["pack"]["digest"]
