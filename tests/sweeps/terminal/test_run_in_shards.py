"""`run --shard-size --jobs`: the same numbers as the whole, whatever the cuts and threads."""

import pytest
from lanes import TESTS

QUEUE = TESTS / "queue_engine" / "pack"


@pytest.fixture(scope="module")
def whole(lanelock):
    return lanelock("run", "--pack", "p2", "--seed", 7, "--score", "--jobs", 1, "--json")[1]


@pytest.mark.parametrize(("merchants", "jobs"), [(100, 1), (333, 2), (5000, 2)])
def test_a_run_in_shards_measures_what_the_whole_does(lanelock, whole, merchants, jobs):
    call = ("run", "--pack", "p2", "--seed", 7, "--shard-size", merchants, "--jobs", jobs, "--score", "--json")
    code, said, err = lanelock(*call)
    assert (code, err) == (1, ""), "what is not computed by merchant is missing, so there is no grade"
    assert said["shards"] == max(1, -(-1238 // merchants)) and said["verdict"] == "INVALID_FOR_GRADING"
    for name in ("run_id", "pack_digest", "world_digest"):
        assert said[name] == whole[name]
    assert {name: value for name, value in whole["metrics"].items() if not name.startswith("s5/")} == said["metrics"]
    rows = {state["name"]: (state["rows"], state["key"]) for state in whole["states"]}
    assert {state["name"]: (state["rows"], state["key"]) for state in said["states"]} == {
        name: rows[name] for name in ("world", "S0", "S1", "S2", "S3", "S4")
    }


def test_threads_change_no_digest(lanelock, whole):
    assert lanelock("run", "--pack", "p2", "--seed", 7, "--jobs", 2, "--json")[1]["digests"] == whole["digests"]


def test_what_cannot_be_done_in_shards_is_refused(lanelock):
    publish = ("run", "--pack", "p2", "--seed", 7, "--shard-size", 100, "--publish")
    queue = ("run", "--pack", QUEUE, "--seed", 7, "--shard-size", 100)
    for call, said in (
        (publish, "--publish"),
        (queue, "engine queue lacks Sharding (lanelock.engine.protocol): it does not run in shards"),
    ):
        code, out, err = lanelock(*call)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    code, out, err = lanelock("run", "--pack", "p2", "--seed", 7, "--shard-size", 0)
    assert code == 2 and "--shard-size" in err
