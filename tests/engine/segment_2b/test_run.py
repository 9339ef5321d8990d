"""A run is a function of (world, pack, seed); only what changes recomputes; published bytes are proved."""

import json

import pyarrow.parquet as pq
import pytest
from lanes import TESTS

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.store import check_run, publish
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.policies import IntegrityError, PolicyError

GOLDEN = TESTS / "golden" / "reference_seed_42.txt"


def states(run):
    return {state.name: state.reused for state in run.states}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from worlds import tiny_world

    from lanelock.engine.segment_2b.world_import import write_world

    folder = tmp_path_factory.mktemp("world")
    write_world(tiny_world(), folder)
    return folder


@pytest.mark.plan("P0.1")
def test_the_reference_run_is_the_golden_one(packs, request):
    """`pytest --golden` writes the file anew; a change to it is a change of the engine's law."""
    lines = []
    for name in ("baseline", "p1", "p2", "p3_recorded", "p3_wide"):
        run = SEGMENT_2B.evaluate(packs(name), 42)
        lines += [
            f"{name}/world:{run.world_digest}",
            *(f"{name}/{key}:{value}" for key, value in run.digests().items()),
        ]
    found = "\n".join(lines) + "\n"
    if request.config.getoption("--golden"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


@pytest.mark.plan("1.4")
def test_surfaces_have_their_declared_schema_key_and_order(packs):
    run = SEGMENT_2B.evaluate(packs("p3_recorded"), 7)
    assert set(run.surfaces) == set(TABLES)
    for name, surface in run.surfaces.items():
        table, spec = surface.table(), TABLES[name]
        assert table.schema == spec.schema
        if name == "s2_alias_blob":
            continue
        frame = table.select(list(spec.key)).to_pandas()
        assert frame.equals(frame.sort_values(list(spec.key)).reset_index(drop=True)), f"{name} is not in key order"
        assert not frame.duplicated().any(), f"{name} repeats a key"


@pytest.mark.plan("4.1.1", "4.1.4", "4.1.5")
def test_a_knob_recomputes_its_own_state_and_what_follows(packs, tiny):
    engine, pack = Segment2B(), packs("p2")
    assert not any(states(engine.evaluate(pack, 42, world=tiny)).values())
    assert all(states(engine.evaluate(pack, 42, world=tiny)).values())
    moves = {
        "group_mix_regularizer_v1#/enabled": (True, {"S4", "S5"}),
        "alias_layout_policy_v1#/quantised_bits": (20, {"S1", "S2", "S4", "S5"}),
        "route_rng_policy_v1#/roster/arrivals_per_merchant_day": (5, {"S5", "S6"}),
        "virtual_edge_policy_v1#/default_edges/0/weight": (0.5, {"S6"}),
    }
    for knob, (value, moved) in moves.items():  # S0 seals every policy, and S7 audits all
        found = states(engine.evaluate(pack.with_knobs({knob: value}), 42, world=tiny))
        assert {name for name, reused in found.items() if not reused} == moved | {"S0", "S7"}, knob
    seeded = states(engine.evaluate(pack, 43, world=tiny))  # a world from outside is the same for every seed
    assert {name for name, reused in seeded.items() if not reused} == {"S0", "S3", "S4", "S5", "S6", "S7"}


def test_forgetting_changes_nothing(packs, tiny):
    small, large = Segment2B(memory_bytes=1), Segment2B()
    for name in ("p1", "p2", "p3_recorded"):
        assert (
            small.evaluate(packs(name), 5, world=tiny).digests() == large.evaluate(packs(name), 5, world=tiny).digests()
        )


def test_any_state_may_be_the_last(packs, tiny):
    for last in SEGMENT_2B.states:
        run = Segment2B().evaluate(packs("p3_recorded"), 42, world=tiny, until=last)
        assert run.states[-1].name == min(last, "S7") and (run.audit is None or run.audit.passed)


def test_an_unknown_state_is_refused(packs):
    with pytest.raises(PolicyError, match="'S99' is not a state of segment_2b"):
        SEGMENT_2B.evaluate(packs("p2"), 42, until="S99")


def test_published_and_opened_it_is_the_same_run(packs, tiny, tmp_path):
    run = Segment2B().evaluate(packs("p3_recorded"), 42, world=tiny)
    folder = publish(run, tmp_path)
    assert publish(run, tmp_path) == folder, "publishing again is a no-op"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [run.run_id], "no staging is left"
    again = SEGMENT_2B.open_run(folder)
    assert again.digests() == run.digests()
    table = pq.ParquetFile(next((folder / "data/layer1/2B/s4_group_weights").rglob("*.parquet"))).read()
    assert table.schema.names == TABLES["s4_group_weights"].schema.names


@pytest.mark.parametrize("name", ["parquet", "policies", "receipt", "extra", "gone"])
def test_a_changed_byte_is_found(packs, tiny, tmp_path, name):
    run = Segment2B().evaluate(packs("p3_recorded"), 42, world=tiny)
    folder = publish(run, tmp_path)
    victim = {
        "parquet": next(folder.rglob("s3_day_effects/**/*.parquet")),
        "policies": folder / "policies" / "world_v1.json",
        "receipt": folder / "run_receipt.json",
        "extra": folder / "policies" / "more.json",
        "gone": next(folder.rglob("s1_site_weights/**/*.parquet")),
    }[name]
    if name == "gone":
        victim.unlink()
    elif name == "extra":
        victim.write_text("{}")
    elif name == "receipt":
        receipt = json.loads(victim.read_text())
        victim.write_text(json.dumps({**receipt, "seed": 43}))
    else:
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(bytes(data))
    with pytest.raises(IntegrityError):
        check_run(folder)
    if name != "receipt":
        with pytest.raises(IntegrityError, match="published before with other bytes"):
            publish(run, tmp_path)
