"""Shared by tests of sweeps: the second engine's files, its lane changed by keyword, and the check for bad input."""

import json
import shutil
from pathlib import Path

from lanelock.engine.keep.receipts import bundle, digests, text_of
from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.sweep import play

TESTS = Path(__file__).resolve().parent
QUEUE = TESTS / "queue_engine"


def lane_with(tmp_path, **changed):
    """Returns the queue's lane with fields replaced; `a__b=1` sets /a/b."""
    document = read_json(QUEUE / "lane.json")
    document["authority"] = str(QUEUE / "pack")
    for address, value in changed.items():
        *parents, last = address.split("__")
        node = document
        for name in parents:
            node = node[name]
        node[last] = value
    path = tmp_path / "lane.json"
    path.write_text(json.dumps(document))
    return load_lane(str(path))


def refused(answer, *parts, code=2):
    """Checks that a call failed with `code` and one line on stderr that has all `parts`. Returns the line."""
    exit_code, out, err = answer
    assert exit_code == code and out == "", (exit_code, out, err)
    assert err.count("\n") == 1 and err.startswith("lanelock: ") and "Traceback" not in err, err
    for part in parts:
        assert part in err, err
    return err


def leaky_lane(folder, **changed):
    """Writes the queue's lane for an engine that fails for some candidates, and its pack. Returns the lane's path."""
    pack = folder / "leaky"
    pack.mkdir(parents=True, exist_ok=True)
    for path in (QUEUE / "pack").glob("*.json"):
        shutil.copy(path, pack)
    (pack / "pack.json").write_text('{"engine": "leaky"}')
    lane_with(folder, engine="leaky", authority=str(pack), id="leaky", **changed)
    return folder / "lane.json"


def seal(folder, passed=True):
    """Makes the index of an evidence pack good over whatever the folder holds now, and its flag if it passed."""
    for name in ("index.json", "_passed.flag"):
        (folder / name).unlink(missing_ok=True)
    index, flag = bundle(digests(folder), lambda name: (folder / name).read_bytes())
    (folder / "index.json").write_text(text_of(index))
    if passed:
        (folder / "_passed.flag").write_text(flag)


def edge_lock(workspace):
    """Returns a lock that holds B on its lane's seeds 1, 2, 3 and on six held-out seeds, and fails on the seventh."""
    knobs = {"service": {"at": "queue_policy_v1#/service", "choices": [0.94, 0.5]}}
    fixed = {"queue_policy_v1#/arrivals": 9.0, "queue_policy_v1#/servers": 12}
    folder = workspace.root / "edge"
    folder.mkdir()
    return play(lane_with(folder, id="edge", knobs=knobs, fixed=fixed), workspace, track=False).lock
