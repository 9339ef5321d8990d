"""One state run alone: its bytes are those of the whole run, its inputs are kept ones, and others are named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import QUEUE
from worlds import tiny_world

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.policies import DataError, PolicyError

ARRIVALS = "route_rng_policy_v1#/roster/arrivals_per_merchant_day"
STRENGTH = "group_mix_regularizer_v1#/regularization_strength"
CAP = "alias_layout_policy_v1#/profile_mixture_v2/top1_soft_cap/large"
STATES = ("S1", "S2", "S3", "S4", "S5", "S6", "S7")
BEGUN = ["world", "S0"]
READ = {  # state -> what it reads of other states
    "S1": [], "S2": ["S1"], "S3": [], "S4": ["S1", "S3"], "S5": ["S1", "S4"], "S6": ["roster"],
    "S7": ["S1", "S2", "S3", "S4", "roster", "S5", "S6"],
}  # fmt: skip


@pytest.fixture(scope="module")
def pack(packs):
    return packs("p3_wide").with_knobs({ARRIVALS: 0.1})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(tiny_world(virtual=[3]), folder)
    return folder


@pytest.fixture(scope="module")
def whole(pack, world):
    return Segment2B().evaluate(pack, 42, world=world)


@pytest.fixture(scope="module")
def kept(pack, world, tmp_path_factory):
    """An engine whose cache holds the whole run, and nothing in memory."""
    folder = tmp_path_factory.mktemp("cache")
    Segment2B().keeping(folder, 1 << 30).evaluate(pack, 42, world=world)
    return lambda: Segment2B().keeping(folder, 1 << 30)


@pytest.fixture(scope="module")
def published(whole, tmp_path_factory):
    """The whole run, opened from its files."""
    return SEGMENT_2B.open_run(SEGMENT_2B.publish(whole, tmp_path_factory.mktemp("runs")).folder)


def of_state(state):
    return {name for name, spec in TABLES.items() if spec.state == state}


@given(state=st.sampled_from(STATES), source=st.sampled_from(["cache", "run"]), jobs=st.sampled_from([None, 2]))
@settings(max_examples=20, deadline=None)
def test_a_state_alone_gives_the_bytes_of_the_whole_run(whole, kept, published, pack, world, state, source, jobs):
    engine = kept() if source == "cache" else Segment2B()
    if jobs is not None:
        engine = engine.sharded(None, jobs)
    alone = engine.evaluate_alone(pack, 42, state, published if source == "run" else None, world=world)
    assert set(alone.own) == of_state(state)
    digests = whole.digests()
    assert {name: alone.run.surfaces[name].digest() for name in alone.own} == {
        name: digests[name] for name in alone.own
    }
    (report,) = alone.run.states
    (stated,) = [row for row in whole.states if row.name == state]
    assert (report.name, report.key, report.rows, report.reused) == (state, stated.key, stated.rows, False)
    assert [row.name for row in alone.taken] == [*BEGUN, *READ[state]]
    assert {row.source for row in alone.taken[2:]} <= {source}
    assert alone.run.run_id == whole.run_id
    if state == "S7":
        assert alone.run.audit.as_document() == whole.audit.as_document()


def test_only_what_a_state_reads_is_there_beside_it(kept, pack, world):
    alone = kept().evaluate_alone(pack, 42, "S6", None, world=world)
    assert set(alone.run.surfaces) == {"s5_arrival_roster", *of_state("S6")}


def test_what_is_not_kept_is_named_and_nothing_is_run_in_its_place(pack, world):
    for state, lacking in READ.items():
        if lacking:
            with pytest.raises(
                DataError, match=f"^{state}: what it reads is not kept: {', '.join(lacking)}; first run"
            ):
                Segment2B().evaluate_alone(pack, 42, state, None, world=world)


def test_states_before_a_moved_field_are_reused_and_the_moved_one_is_named(kept, published, pack, world):
    moved = pack.with_knobs({STRENGTH: 0.05})
    with pytest.raises(DataError, match="S5: what it reads is not kept: S4; first run"):
        kept().evaluate_alone(moved, 42, "S5", None, world=world)
    assert kept().evaluate_alone(moved, 42, "S4", None, world=world).taken[2].source == "cache"
    assert kept().evaluate_alone(moved, 42, "S5", None, world=world).own, "a state that was run alone is kept too"
    with pytest.raises(DataError, match=r"S4 is another there: S4 by its policy group_mix_regularizer_v1$"):
        Segment2B().evaluate_alone(moved, 42, "S5", published, world=world)


def test_the_state_from_which_a_difference_comes_is_named(published, pack, world):
    other = pack.with_knobs({CAP: 0.55})
    with pytest.raises(DataError, match=r"run [0-9a-f]{32}: S1 is another there: S1 by its policy alias_layout"):
        Segment2B().evaluate_alone(other, 42, "S4", published, world=world)
    near = Segment2B()  # in whose memory S1 is
    near.evaluate(other, 42, world=world, until="S1")
    with pytest.raises(DataError, match=r"S4 is another there: S1 by its policy alias_layout_policy_v1$"):
        near.evaluate_alone(other, 42, "S5", published, world=world)


def test_another_seed_is_named(published, pack, world):
    with pytest.raises(DataError, match="roster is another there: S5 by its seed"):
        Segment2B().evaluate_alone(pack, 43, "S6", published, world=world)


def test_a_state_that_cannot_be_alone_is_refused(pack):
    for state in ("S0", "S8", "S9"):
        with pytest.raises(PolicyError, match=f"'{state}' is not a state of segment_2b that can be run alone: S1, S2"):
            Segment2B().evaluate_alone(pack, 42, state, None)


def test_an_engine_without_it_is_refused_in_one_line(here, tmp_path):
    code, _, err = here("run", "--pack", QUEUE / "pack", "--seed", 1, "--only", "Q1", workspace=tmp_path)
    assert code == 2 and err.count("\n") == 1
    assert "--only: engine queue lacks Isolating" in err and "none of its states can be run alone" in err


def test_the_command_prints_one_state_and_where_its_inputs_came_from(here, tmp_path):
    call = ("run", "--pack", "baseline", "--seed", 42, "--workspace", tmp_path)
    first = json.loads(here(*call, "--publish", "--json", workspace=tmp_path)[1])
    code, out, _ = here("run", "--only", "S4", "--from", first["run_id"], "--score", "--json", workspace=tmp_path)
    alone = json.loads(out)
    assert code == 0 and (alone["only"], alone["run_id"]) == ("S4", first["run_id"])
    assert alone["digests"] == {"s4_group_weights": first["digests"]["s4_group_weights"]}
    assert [row["name"] for row in alone["states"]] == ["S4"] and alone["verdict"] is None
    assert {row["source"] for row in alone["inputs"]} <= {"cache", "run"}
    graded = {row["metric"].split("/")[0] for row in alone["gates"]}
    assert {"s1", "s3", "s4"} <= graded and not graded & {"s5", "s6"}
    text = here("run", "--only", "S4", "--from", first["run_id"], workspace=tmp_path)[1]
    assert "input" in text and "taken from" in text and first["digests"]["s4_group_weights"] in text
    for more, error in (
        (("--from", first["run_id"]), "--from is read with --only STATE"),
        (("--only", "S4", "--publish"), "--only: cannot be combined with --publish"),
    ):
        code, _, err = here(*call, *more, workspace=tmp_path)
        assert code == 2 and error in err
