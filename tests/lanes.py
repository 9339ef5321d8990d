"""What tests of the sweep share: where the second engine's files lie, its lane changed by keyword, refused calls."""

import json
from pathlib import Path

from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.lane import load_lane

TESTS = Path(__file__).resolve().parent
QUEUE = TESTS / "queue_engine"


def lane_with(tmp_path, **changed):
    """The queue's lane with fields replaced."""
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


def refused(found, *said, code=2):
    """Holds a call to its contract for bad input; its line."""
    exit_code, out, err = found
    assert exit_code == code and out == "", (exit_code, out, err)
    assert err.count("\n") == 1 and err.startswith("lanelock: ") and "Traceback" not in err, err
    for part in said:
        assert part in err, err
    return err
