"""The contract of an engine, as a test class for every engine to inherit. Only this module imports pytest.

    class TestMyEngine(EngineContract):
        def make_engine(self):
            return MyEngine()

        def make_pack(self):
            return load_pack("path/to/a/pack", MyEngine.policy_schemas)

A function needs no class: `TestMyFunction = contract_of("my_module:simulate", {"demand": 10})`.

Tests of protocols that the engine lacks are skipped, each naming its protocol.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest

from lanelock.engine.function import FunctionEngine
from lanelock.engine.keep.published import RECEIPT, engine_of
from lanelock.engine.keep.receipts import digests, read_receipt
from lanelock.engine.protocol import (
    Declaring,
    Engine,
    Exporting,
    Feeding,
    Isolating,
    Keeping,
    Layouts,
    PolicyForms,
    Publishing,
    Run,
    Serving,
    Sharding,
    Worlds,
)
from lanelock.engine.resolved import PARTS, Resolved
from lanelock.engine.surface import table_digest
from lanelock.policies import IntegrityError, LanelockError, Pack, PolicyError, pack_of
from lanelock.policies.documents import read_json, resolve, shipped_schema, validate
from lanelock.policies.pack import PACK

_HEX64 = re.compile("[0-9a-f]{64}")
_CHILD = """
import importlib, json, pathlib, sys, tempfile
module, name = sys.argv[1:]
contract = getattr(importlib.import_module(module), name)()
with tempfile.TemporaryDirectory() as scratch:
    print(json.dumps(contract.evaluated(pathlib.Path(scratch)).digests()))
"""


class EngineContract:
    """The tests of every engine. Override `make_engine` and `make_pack`, and the other methods if they apply."""

    seed = 1

    def make_engine(self) -> Engine:
        """Returns a new engine, with nothing in memory."""
        raise NotImplementedError

    def make_pack(self) -> Pack:
        """Returns a pack of the engine that runs quickly."""
        raise NotImplementedError

    def make_world(self, folder: Path) -> Path | None:
        """Writes a world below `folder` to import; None if the engine draws its world or has no world."""
        return None

    def question(self) -> pa.Table | None:
        """Returns a few rows that the engine's service can answer."""
        return None

    def make_metrics(self) -> Any:
        """Returns the engine's metric source; None if it has none that could be checked here."""
        return None

    def evaluated(self, scratch: Path) -> Run:
        """Returns a run of a new engine, with files in `scratch`."""
        return Resolved(self.make_engine()).evaluate(self.make_pack(), self.seed, world=self.make_world(scratch))

    @pytest.fixture
    def engine(self) -> Engine:
        return self.make_engine()

    @pytest.fixture
    def pack(self) -> Pack:
        return self.make_pack()

    @pytest.fixture
    def world(self, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
        return self.make_world(tmp_path_factory.mktemp("world"))

    @pytest.fixture
    def run(self, engine: Engine, pack: Pack, world: Path | None) -> Run:
        """A whole run."""
        return Resolved(engine).evaluate(pack, self.seed, world=world)

    # --- every engine -------------------------------------------------------------------------------

    def test_schemas_allow_no_unknown_field(self, engine: Engine, pack: Pack) -> None:
        assert engine.policy_schemas and Path(PACK).stem not in engine.policy_schemas, f"{PACK} names the engine"
        for name, schema in engine.policy_schemas.items():
            validate(schema, shipped_schema("policy"), name)
            documents: dict[str, Any] = pack.documents()
            documents[name]["no such field"] = 1
            with pytest.raises(PolicyError, match="no such field"):
                pack_of("other", documents, engine.policy_schemas)

    def test_a_run_states_its_inputs(self, engine: Engine, pack: Pack, run: Run) -> None:
        own = Resolved(engine)
        assert (run.engine, run.seed, run.pack.digest) == (own.name, self.seed, pack.digest)
        assert re.fullmatch("[0-9a-f]{32}", run.run_id)
        assert _HEX64.fullmatch(run.world_digest) and _HEX64.fullmatch(run.code_version)
        assert run.code_version == own.code_version and run.surfaces
        assert run.fingerprint == own.fingerprint and (own.fingerprint == "" or _HEX64.fullmatch(own.fingerprint))
        assert len(set(own.states)) == len(own.states) > 0
        for name, surface in run.surfaces.items():
            assert surface.table().num_rows == surface.rows, name

    def test_what_is_measured_is_declared_and_a_number(self, run: Run) -> None:
        if (source := self.make_metrics()) is None:
            pytest.skip("override `make_metrics` to check them")
        metrics = source.measure(run)
        given = source.gates_file
        gates = given if isinstance(given, Mapping) else read_json(resolve(str(given), "gates", ".json"))
        declared = gates["metrics"]
        assert metrics and set(metrics) <= set(declared), "add what is missing to /metrics of the gate file"
        for name, value in metrics.items():
            assert not isinstance(value, str | bytes | complex) and getattr(value, "shape", ()) == (), name
            assert isinstance(float(value), float), name
        again = {name: float(value) for name, value in source.measure(run).items()}
        assert repr({name: float(value) for name, value in metrics.items()}) == repr(again)

    def test_a_second_run_is_the_same_whatever_ran_before(
        self, engine: Engine, pack: Pack, world: Path | None, run: Run
    ) -> None:
        Resolved(engine).evaluate(pack, self.seed + 1, world=world)
        _same(run, Resolved(engine).evaluate(pack, self.seed, world=world))

    def test_another_process_gives_the_same_bytes(self, run: Run) -> None:
        """With another hash seed, so that no order of a set counts."""
        module = sys.modules[type(self).__module__]
        name = next((name for name, value in vars(module).items() if value is type(self)), None)
        if name is None or "." in name:
            pytest.skip("the test class is not at the top level of its module")
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "12345"}
        command = [sys.executable, "-c", _CHILD, module.__name__, name]
        child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        assert json.loads(child.stdout) == run.digests()

    def test_a_run_leaves_its_pack_as_it_was(self, engine: Engine, pack: Pack, run: Run) -> None:
        for one in (pack, run.pack):
            assert pack_of(one.name, one.documents(), engine.policy_schemas).digest == pack.digest

    def test_a_surface_says_the_same_twice(self, run: Run) -> None:
        for name, surface in run.surfaces.items():
            assert surface.table().equals(surface.table()) and surface.table().num_rows == surface.rows, name
        assert run.digests() == {name: table_digest(surface.table()) for name, surface in run.surfaces.items()}

    def test_a_pickled_pack_gives_the_same_bytes(
        self, engine: Engine, pack: Pack, world: Path | None, run: Run
    ) -> None:
        copy = pickle.loads(pickle.dumps(pack))
        _same(run, Resolved(engine).evaluate(copy, self.seed, world=world))

    def test_another_seed_is_another_run(self, engine: Engine, pack: Pack, world: Path | None, run: Run) -> None:
        other = Resolved(engine).evaluate(pack, self.seed + 1, world=world)
        assert other.run_id != run.run_id and set(other.surfaces) == set(run.surfaces)

    def test_runs_on_several_threads_give_the_same_bytes(
        self, engine: Engine, pack: Pack, world: Path | None, run: Run
    ) -> None:
        seeds = [self.seed, self.seed + 1, self.seed, self.seed + 2]
        with ThreadPoolExecutor(len(seeds)) as pool:
            runs = [*pool.map(lambda seed: Resolved(engine).evaluate(pack, seed, world=world), seeds)]
        _same(run, runs[0])
        _same(run, runs[2])

    def test_a_run_ends_at_the_state_wanted(self, engine: Engine, pack: Pack, world: Path | None, run: Run) -> None:
        own, whole = Resolved(engine), run.digests()
        for state in own.states:
            part = own.evaluate(pack, self.seed, world=world, until=state)
            assert part.run_id == run.run_id
            assert {name: whole[name] for name in part.surfaces} == part.digests(), state
        with pytest.raises(PolicyError, match="no such state"):
            own.evaluate(pack, self.seed, world=world, until="no such state")

    def test_lacking_protocols_are_refused_in_one_line(self, engine: Engine, pack: Pack, tmp_path: Path) -> None:
        own = Resolved(engine)
        for part in PARTS:
            if not isinstance(engine, part):
                with pytest.raises(LanelockError, match=part.__name__) as refused:
                    own.part(part)
                assert "\n" not in str(refused.value)
        if not isinstance(engine, Worlds):
            with pytest.raises(LanelockError, match="takes no world"):
                own.evaluate(pack, self.seed, world=tmp_path)

    # --- optional protocols --------------------------------------------------------------------------------------

    def test_cached_states_are_not_computed_again(
        self, pack: Pack, world: Path | None, run: Run, tmp_path: Path
    ) -> None:
        for reused in (False, True):
            cached = _having(self.make_engine(), Keeping).keeping(tmp_path, 1 << 30)
            again = Resolved(cached).evaluate(pack, self.seed, world=world)
            _same(run, again)
            assert cached.unkept == "" and {state.reused for state in again.states} == {reused}

    def test_a_state_alone_gives_the_bytes_of_the_whole_run(
        self, pack: Pack, world: Path | None, run: Run, tmp_path: Path
    ) -> None:
        able = _having(self.make_engine(), Isolating)
        engine = Resolved(_having(able, Keeping).keeping(tmp_path, 1 << 30))
        engine.evaluate(pack, self.seed, world=world)
        digests, alone = run.digests(), set[str]()
        for state in engine.states:
            with suppress(PolicyError):  # it cannot be alone, such as one that digests files
                isolated = engine.evaluate_alone(pack, self.seed, state, world=world)
                found = {name: isolated.run.digests()[name] for name in isolated.own}
                assert found == {name: digests[name] for name in found} and not isolated.run.states[-1].reused
                alone |= found.keys()
        assert alone == digests.keys(), "every surface is that of a state that can be run alone"

    def test_a_published_run_opens_as_the_same_run(self, engine: Engine, run: Run, tmp_path: Path) -> None:
        able = _having(engine, Publishing)
        folder = able.publish(run, tmp_path).folder
        assert folder == tmp_path / run.run_id and engine_of(folder) == run.engine
        stated = read_receipt(folder / RECEIPT)
        assert (stated["run_id"], stated["seed"]) == (run.run_id, run.seed)
        assert stated["parameter_hash"] == run.pack.digest and stated["manifest_fingerprint"] == run.world_digest
        assert [row["name"] for row in stated["states"]] == [state.name for state in run.states]
        assert stated.get("fingerprint", "") == run.fingerprint
        assert stated["files"] == digests(folder, (RECEIPT,)) and not [*able.faults(folder)]
        opened = able.open_run(folder)
        _same(run, opened)
        assert opened.pack.digest == run.pack.digest and opened.engine == run.engine

    def test_publishing_is_whole_or_not_at_all(self, engine: Engine, run: Run, tmp_path: Path) -> None:
        able = _having(engine, Publishing)
        broken: dict[str, Any] = dict(run.surfaces)
        broken[[*broken][-1]] = _Broken()
        with pytest.raises(_BrokenError):
            able.publish(replace(run, surfaces=broken), tmp_path)
        assert _folders(tmp_path) == []
        folder = able.publish(run, tmp_path).folder
        assert _folders(tmp_path) == [folder]

    def test_publishing_again_is_a_no_op_and_other_bytes_are_refused(
        self, engine: Engine, run: Run, tmp_path: Path
    ) -> None:
        able = _having(engine, Publishing)
        folder = able.publish(run, tmp_path).folder
        before = _written(folder)
        assert able.publish(run, tmp_path).folder == folder and _written(folder) == before
        _turn_a_byte(_largest(folder))
        with pytest.raises(IntegrityError):
            able.publish(run, tmp_path)

    def test_a_changed_byte_a_missing_file_and_an_extra_file_are_faults(
        self, engine: Engine, run: Run, tmp_path: Path
    ) -> None:
        able = _having(engine, Publishing)
        folder = able.publish(run, tmp_path).folder
        victim = _largest(folder)
        name, whole = victim.relative_to(folder).as_posix(), victim.read_bytes()
        _turn_a_byte(victim)
        assert name in {file for file, _ in able.faults(folder)}
        victim.unlink()
        assert name in {file for file, _ in able.faults(folder)}
        with pytest.raises(LanelockError):
            able.open_run(folder)
        victim.write_bytes(whole)
        (folder / "extra").write_text("x")
        assert [file for file, _ in able.faults(folder)] == ["extra"]
        (folder / "extra").unlink()
        _turn_a_byte(folder / RECEIPT)
        with pytest.raises(IntegrityError):
            [*able.faults(folder)]

    def test_a_replay_gives_the_same_files(self, engine: Engine, run: Run, tmp_path: Path) -> None:
        able = _having(engine, Publishing)
        folder = able.publish(run, tmp_path / "runs").folder
        replayed = able.replay(folder, tmp_path / "scratch")
        assert replayed.identical and replayed.files == len(digests(folder))
        assert _folders(tmp_path / "scratch") == [], "scratch folders are removed"

    def test_a_run_is_exported(self, engine: Engine, run: Run, tmp_path: Path) -> None:
        able = _having(engine, Exporting)
        first, second = (able.export(run, tmp_path / name) for name in ("one", "two"))
        assert first.is_relative_to(tmp_path / "one") and digests(first) == digests(second) != {}

    def test_a_layout_is_written_whole_and_twice_the_same(self, engine: Engine, run: Run, tmp_path: Path) -> None:
        able = _having(engine, Layouts)
        assert able.layouts and all(able.layouts.values()), "each layout says what it is"
        for layout in able.layouts:
            first, second = (able.lay_out(run, layout, tmp_path / name / layout) for name in ("one", "two"))
            assert first == tmp_path / "one" / layout and digests(first) == digests(second) != {}
            able.lay_out(run, layout, first)
            assert _folders(first.parent) == [first], "written again it is the same, and nothing is left beside it"
            name = next(iter(digests(first)))
            _turn_a_byte(first / name)
            with pytest.raises(IntegrityError, match=re.escape(name)):
                able.lay_out(run, layout, first)
        with pytest.raises(PolicyError, match=next(iter(able.layouts))):
            Resolved(engine).with_layout("no such layout")

    def test_policies_come_back_from_every_form(self, engine: Engine, pack: Pack) -> None:
        able = _having(engine, PolicyForms)
        for form in able.policy_forms:
            given = {f"{name}.json": document for name, document in able.export_policies(pack, form).items()}
            documents, unused = able.import_policies(json.loads(json.dumps(given)), form, pack)
            assert pack_of(pack.name, documents, engine.policy_schemas).digest == pack.digest
            assert set(unused) <= set(given)

    def test_every_surface_is_declared(self, engine: Engine, run: Run) -> None:
        declared = {row["surface"]: row for row in _having(engine, Declaring).contract()}
        assert set(declared) == set(run.surfaces)
        for name, row in declared.items():
            schema = run.surfaces[name].table().schema
            assert [(c["name"], c["type"]) for c in row["columns"]] == [(f.name, str(f.type)) for f in schema], name
            assert all(column["unit"] for column in row["columns"])
            assert row["state"] in Resolved(engine).states and row["path"] and set(row["key"]) <= set(schema.names)

    def test_a_kept_world_opens_as_the_same_world(
        self, engine: Engine, pack: Pack, world: Path | None, run: Run, tmp_path: Path
    ) -> None:
        able = _having(engine, Worlds)
        opened = able.open_world(pack, self.seed, world)
        assert able.describe_world(opened, pack)["digest"] == run.world_digest
        able.keep_world(opened, tmp_path / "world")
        able.keep_world(opened, tmp_path / "world")
        assert (
            able.describe_world(able.open_world(pack, self.seed, tmp_path / "world"), pack)["digest"]
            == run.world_digest
        )
        assert Resolved(engine).evaluate(pack, self.seed, world=tmp_path / "world").digests() == run.digests()
        if isinstance(engine, Publishing):
            folder = engine.publish(run, tmp_path / "runs").folder
            published = able.open_world(pack, self.seed, able.world_of(folder))
            assert able.describe_world(published, pack)["digest"] == run.world_digest

    def test_every_input_data_set_is_a_surface_of_the_run(self, engine: Engine, run: Run) -> None:
        assert set(_having(engine, Feeding).feeds.values()) <= set(run.surfaces)

    @pytest.mark.parametrize(("size", "jobs"), [(1, 2), (None, 3), (10**6, 1)])
    def test_any_sharding_gives_the_same_bytes(
        self, engine: Engine, pack: Pack, world: Path | None, run: Run, size: int | None, jobs: int
    ) -> None:
        cut = Resolved(_having(engine, Sharding).sharded(size, jobs))
        _same(run, cut.evaluate(pack, self.seed, world=world))
        rows = {state.name: state.rows for state in run.states}
        parts = [*cut.evaluate_shards(pack, self.seed, world=world)]
        assert {(part.run_id, part.world_digest) for part in parts} == {(run.run_id, run.world_digest)}
        for name in {state.name for part in parts for state in part.states}:
            assert sum(state.rows for part in parts for state in part.states if state.name == name) == rows[name], name

    def test_a_service_answers_each_row_by_itself(
        self, engine: Engine, pack: Pack, world: Path | None, run: Run
    ) -> None:
        frozen, service = Resolved(_having(engine, Serving)).serve(pack, self.seed, world=world)
        whole, question = run.digests(), self.question()
        assert frozen.run_id == run.run_id and frozen.digests() == {name: whole[name] for name in frozen.surfaces}
        assert question is not None, "override `question`: the service needs rows to answer"
        answer = service.answer(question)
        assert answer.num_rows == question.num_rows
        backwards = service.answer(question.take(pa.array(range(question.num_rows))[::-1]))
        assert backwards.to_pylist() == answer.to_pylist()[::-1], "an answer depends on its row alone"


class FunctionContract(EngineContract):
    """The contract of a function. `contract_of` makes one in a line."""

    function: Callable[..., Any] | str
    params: Mapping[str, Any]
    options: Mapping[str, Any] = MappingProxyType({})

    def make_engine(self) -> Engine:
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": [*self.params],
            "properties": {name: {"default": value, "description": name} for name, value in self.params.items()},
        }
        return FunctionEngine("function", self.function, schema, **self.options)

    def make_pack(self) -> Pack:
        return pack_of("params", {"params": {**self.params}}, self.make_engine().policy_schemas)


def contract_of(
    function: Callable[..., Any] | str, params: Mapping[str, Any], **options: Any
) -> type[FunctionContract]:
    """Returns a test class for a function with these parameters; `options` are those of `FunctionEngine`."""
    given = function if isinstance(function, str) else staticmethod(function)
    here = sys._getframe(1).f_globals["__name__"]
    parts = {"__module__": here, "function": given, "params": params, "options": options}
    return type("FunctionContract", (FunctionContract,), parts)


class _BrokenError(Exception):
    """The error of a surface that cannot be written."""


class _Broken:
    """A surface that raises on every access."""

    def __getattr__(self, name: str) -> Any:
        raise _BrokenError(name)

    def __getitem__(self, name: str) -> Any:
        raise _BrokenError(name)


def _having(engine: Engine, part: type) -> Any:
    """Returns the engine, or skips the test if it lacks the protocol."""
    if not isinstance(engine, part):
        pytest.skip(f"engine {engine.name} lacks {part.__name__}: {PARTS[part]}")
    return engine


def _same(first: Run, second: Run) -> None:
    assert first.digests() == second.digests()
    for part in ("run_id", "world_digest", "code_version"):
        assert getattr(first, part) == getattr(second, part), part


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.glob("*") if path.is_dir())


def _written(folder: Path) -> Mapping[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _largest(folder: Path) -> Path:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != RECEIPT]
    return max(files, key=lambda path: path.stat().st_size)


def _turn_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
