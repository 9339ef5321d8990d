"""A lock as a type: it writes the document that it was read from, and its id follows from the rest."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import digest, read_json, shipped, shipped_schema, validate
from lanelock.sweeps.decision.decision import Blocker
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.checks import collected, hold, same
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

NAMES = st.text(min_size=1, max_size=12)
NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53) + 1, 2**53 - 1))
BLOCKERS = st.builds(
    Blocker, NAMES, NAMES, NAMES, NUMBERS, st.none() | NUMBERS, st.integers(0, 2**32), st.none() | NUMBERS, NAMES, NAMES
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    workspace = Workspace.at(tmp_path_factory.mktemp("lock"))
    return play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), workspace, track=False).lock


def test_a_lock_writes_the_document_that_it_was_read_from(path):
    for place in (path, *shipped("locks", ".json").values()):
        document = read_json(place)
        lock = Lock.read(place)
        assert lock.document == document and Lock.of(lock.document, "again") == lock
        assert lock.lock_id == document["lock_id"] and lock.name == f"{lock.sweep}.{lock.lock_id[:12]}"
        required = set(shipped_schema("lock")["required"])
        assert set(document) - {"confirmation", "whole"} == required, "the decision chose them, not a person"


@given(
    knobs=st.dictionaries(NAMES, st.one_of(NUMBERS, NAMES, st.booleans())),
    because=st.text(),
    blockers=st.lists(BLOCKERS, max_size=3),
    trial=st.none() | st.integers(0, 10**6),
    metrics=st.dictionaries(NAMES, NUMBERS),
    reason=st.text(),
)
def test_any_lock_is_read_back_from_its_json_under_the_id_of_its_content(
    path, knobs, because, blockers, trial, metrics, reason
):
    made = Lock.read(path)
    first, proof = next(iter(made.proof)), next(iter(made.proof.values()))
    lock = replace(
        made,
        knobs=knobs,
        search=replace(made.search, because=because),
        blockers=tuple(blockers),
        trial=trial,
        reason=reason,
        proof={**made.proof, first: replace(proof, metrics=metrics)},
        authority_metrics={**made.authority_metrics, first: metrics},
    )
    validate(lock.document, shipped_schema("lock"), "lock")
    document = json.loads(json.dumps(lock.document))
    assert Lock.of(document, "lock") == lock
    assert document.pop("lock_id") == digest(document) == lock.lock_id


def test_what_is_no_whole_lock_is_told_by_its_file_and_field(path, tmp_path):
    other = tmp_path / "lock.json"
    with pytest.raises(PolicyError, match="no such file"):
        Lock.read(other)
    document = read_json(path)
    for changed, said in (
        ({**document, "sweep": "another"}, "/lock_id: the lock states "),
        ({**document, "sweep": 7}, "/sweep: 7 is not of type string"),
        ({**document, "more": 1}, "unknown field more"),
        ({**document, "proof": {"one": document["proof"]["1"]}}, "seeds are whole numbers"),
        ({**document, "proof": {"01": document["proof"]["1"]}}, "both must have a row for each of /seeds"),
        (
            {**document, "authority": {**document["authority"], "metrics": {}}},
            "both must have a row for each of /seeds",
        ),
        ({**document, "seeds": [1, 2]}, "both must have a row for each of /seeds"),
        ([], "is not of type object"),
    ):
        other.write_text(json.dumps(changed))
        with pytest.raises(IntegrityError, match=r"lock\.json") as refused:
            Lock.read(other)
        assert said in str(refused.value)


def test_what_holds_is_silent_and_what_does_not_names_its_first_difference(tmp_path):
    seen = []
    checks = collected((same(str(at), at, at % 2) for at in range(4)), seen.append)
    assert seen == [*checks] and [check.ok for check in checks] == [True, True, False, False]
    hold(tmp_path, "lock", [*checks][:2])
    with pytest.raises(IntegrityError, match=r"lock does not verify: 2: stated 2, found 0 \(2 of 4 checks differ"):
        hold(tmp_path, "lock", checks)
