"""Shards: the same bytes whatever the cuts and workers; bounded in flight; errors in order; nothing left running."""

import dataclasses
import hashlib
import threading
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.engine.segment_2b import run as engine_run
from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.shards import Cuts, joined
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.surface import Surface, table_digest
from lanelock.engine.workers import mapped
from lanelock.policies import DataError, PolicyError, load_pack

MERCHANTS = 60


@dataclasses.dataclass(frozen=True)
class Given:
    """Cuts as a test wants them, in place of equal ones."""

    edges: tuple[int, ...]
    threads: int = 1

    def spans(self, world):
        return tuple(pairwise([0, *self.edges, len(world.merchant_id)]))


def digests_of(runs):
    """The digests of the whole's surfaces, laid end to end from the parts'."""
    surfaces = {name: [run.surfaces[name] for run in runs] for name in runs[0].surfaces}
    index, blob = (surfaces.pop(name) for name in ("s2_alias_index", "s2_alias_blob"))
    alias = alias_end_to_end(list(zip(index, blob, strict=True)))
    whole = {name: joined(parts) for name, parts in surfaces.items()} | {one.name: one for one in alias}
    return {name: table_digest(surface.table()) for name, surface in whole.items()}


def alias_end_to_end(parts):
    """The two alias surfaces of a world from those of its shards in order: one blob, and offsets into it."""
    blobs = [bytes(blob["blob"][0]) for _, blob in parts]
    before = np.cumsum([0, *map(len, blobs)])
    index = {name: np.concatenate([np.asarray(part[name]) for part, _ in parts]) for name in parts[0][0].columns}
    index["offset"] = np.concatenate([part["offset"] + at for (part, _), at in zip(parts, before, strict=False)])
    whole = b"".join(blobs)
    columns = {
        "blob": np.array([whole], object),
        "size": np.array([len(whole)], np.int64),
        "sha256": np.array([hashlib.sha256(whole).hexdigest()], object),
    }
    return Surface("s2_alias_index", parts[0][0].schema, index), Surface("s2_alias_blob", parts[0][1].schema, columns)


def running():
    return sum(thread.name.startswith("part") for thread in threading.enumerate())


@cache
def small(name):
    return load_pack(name, SEGMENT_2B.policy_schemas).with_knobs({"world_v1#/merchants/count": MERCHANTS})


@cache
def whole(name):
    """Digests of the states that a shard can compute, from a run that was never cut."""
    run = Segment2B().evaluate(small(name), 42)
    return {name: digest for name, digest in run.digests().items() if TABLES[name].state in Segment2B.by_merchant}


@pytest.fixture(params=["baseline", "p3_recorded"], scope="module")
def name(request):
    return request.param


@pytest.fixture
def pack(name):
    return small(name)


@given(st.sets(st.integers(1, MERCHANTS - 1), max_size=8))
def test_shards_end_to_end_are_the_whole_byte_for_byte(name, edges):
    engine = Segment2B()
    engine._cuts = Given(tuple(sorted(edges)))
    runs = list(engine.evaluate_shards(small(name), 42))
    assert [run.upstream.merchants_before for run in runs] == [0, *sorted(edges)]
    assert digests_of(runs) == whole(name)


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("merchants", [1, 7, 59, 60, 1000, None])
def test_any_size_and_any_number_of_workers_give_the_same_run(name, merchants, jobs):
    engine = Segment2B().sharded(merchants, jobs)
    cut = engine.evaluate(small(name), 42, until="S4").digests()
    assert cut == {surface: digest for surface, digest in whole(name).items() if surface in cut}
    runs = list(engine.evaluate_shards(small(name), 42))
    assert digests_of(runs) == whole(name)
    assert len({(run.run_id, run.world_digest) for run in runs}) == 1
    assert running() == 0


def test_the_reference_world_is_the_same_on_two_workers(packs):
    """Many rows: threads do meet in the kernels."""
    pack = packs("p3_recorded")
    whole, cut = Segment2B(), Segment2B().sharded(100, 2)
    assert cut.evaluate(pack, 42, until="S4").digests() == whole.evaluate(pack, 42, until="S4").digests()


def test_cutting_is_no_part_of_a_state_key(pack):
    engine = Segment2B()
    keys = [(state.name, state.key) for state in engine.evaluate(pack, 42).states]
    cut = engine.sharded(7, 2)
    again = cut.evaluate(pack, 42)
    assert [(state.name, state.key) for state in again.states] == keys and all(state.reused for state in again.states)
    shards = list(cut.evaluate_shards(pack, 42))
    assert [(state.name, state.key) for state in shards[0].states] == keys[:6]
    assert {state.name for state in shards[-1].states} == {"S1", "S2", "S3", "S4"}
    for name in ("S1", "S3", "S4"):
        rows = [state.rows for run in shards for state in run.states if state.name == name]
        assert sum(rows) == next(state.rows for state in again.states if state.name == name)


def test_a_shard_of_a_shard_is_a_shard_and_an_empty_one_is_refused(pack):
    world = Segment2B().evaluate(pack, 42, until="S0").upstream
    twice, once = world.shard(10, 50).shard(5, 20), world.shard(15, 30)
    for field in dataclasses.fields(world):
        one, other = getattr(once, field.name), getattr(twice, field.name)
        assert one == other if isinstance(one, str | int | tuple) else np.array_equal(
            getattr(one, "codes", one), getattr(other, "codes", other)
        ), field.name  # fmt: skip
    assert once.merchants_before == 15 and once.digest == world.digest
    for first, last in ((5, 5), (6, 5), (-1, 5), (0, MERCHANTS + 1)):
        with pytest.raises(ValueError, match="no merchants"):
            world.shard(first, last)


def test_cuts_are_whole_merchants_of_about_equal_rows(packs):
    world = SEGMENT_2B.evaluate(packs("p3_recorded"), 42, until="S0").upstream
    for cuts in (Cuts(50), Cuts(1), Cuts(None, 3), Cuts(10**9)):
        spans = cuts.spans(world)
        assert [*spans[0][:1], *(last for _, last in spans)] == [0, *(first for first, _ in spans[1:]), 1238]
        assert all(first < last for first, last in spans)
    groups = [int(world.group_offsets[b] - world.group_offsets[a]) for a, b in Cuts(50).spans(world)]
    assert len(groups) == 25 and max(groups) - min(groups) <= 2 * 12


def test_no_more_is_begun_than_was_asked_for():
    begun = []
    results = mapped(lambda item: begun.append(item) or item, range(100), jobs=3)
    for taken, result in enumerate(results):
        assert result == taken and len(begun) <= taken + 1 + 3
    lazy = mapped(begun.append, range(5), jobs=1)
    del begun[:]
    next(lazy)
    assert len(begun) == 1


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_first_shard_that_raises_ends_it_and_cancels_the_rest(jobs):
    begun, slow = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 2:
            slow.wait(0.05)  # a later one fails first; the error told is still the first in order
            raise DataError("shard 2")
        if item == 3:
            raise DataError("shard 3")
        return item

    taken = []
    with pytest.raises(DataError, match="shard 2"):
        for result in mapped(work, range(1000), jobs):
            taken.append(result)  # noqa: PERF402
    assert taken == [0, 1] and len(begun) <= 3 + jobs and running() == 0


def test_a_state_that_raises_in_a_shard_says_so_plainly(pack, monkeypatch):
    def broken(rows, raw, policy, created_utc):
        if raw.mass[0] == second:
            raise DataError("row 1: p_group: broken on purpose")
        return real(rows, raw, policy, created_utc)

    real = engine_run.s4_group_weights.group_weights
    engine = Segment2B().sharded(20, 2)
    second = list(engine.evaluate_shards(pack, 42))[1].surfaces["s4_group_weights"]["mass_raw"][0]
    monkeypatch.setattr(engine_run.s4_group_weights, "group_weights", broken)
    shards = engine.evaluate_shards(pack, 42)
    next(shards)
    with pytest.raises(DataError, match="broken on purpose"):
        next(shards)
    with pytest.raises(DataError, match="broken on purpose"):
        Segment2B().sharded(20, 2).evaluate(pack, 42)
    assert running() == 0


def test_closing_early_leaves_no_thread(pack):
    shards = Segment2B().sharded(3, 2).evaluate_shards(pack, 42)
    next(shards)
    assert running() > 0
    shards.close()
    assert running() == 0


def test_bad_input_is_refused_before_the_first_shard(pack):
    for state in ("S99", "S5"):  # arrivals are in order of time, not by merchant
        with pytest.raises(PolicyError, match=f"'{state}' is not a state of segment_2b that can end this"):
            Segment2B().evaluate_shards(pack, 42, until=state)
