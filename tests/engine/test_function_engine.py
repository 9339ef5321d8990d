"""Functions as engines: one contract for all of them, however they are written and whatever they return."""

import functools
import linecache
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lanelock.engine.chain import bind
from lanelock.engine.function import FunctionEngine
from lanelock.engine.protocol import Publishing
from lanelock.engine.resolved import Resolved
from lanelock.engine.tables import surfaces_of
from lanelock.engine.testing import contract_of
from lanelock.policies import DataError, EngineError, Failed, LaneError, LanelockError, pack_of

PARAMS = {"demand": 10, "law": "smooth", "shares": [0.5, 0.25], "cost": {"fixed": 1.5}}
SCHEMA = {"type": "object", "additionalProperties": False, "properties": {"demand": {"type": "integer"}}}


def numbers(params, seed):
    """Right only where calls wait for each other, which is the default: it has one generator for all."""
    np.random.seed(seed)
    time.sleep(0.001)
    params["demand"] += 1
    params["cost"]["fixed"] = 0
    params["shares"].append(1)
    return {"stock": np.random.normal(params["demand"]), "law": len(params["law"]), "days": np.int64(3)}


def tables(params, *, seed):
    draw = np.random.default_rng(seed)
    law = pd.Categorical(draw.choice(["a", "b"], 50))
    waits = pd.DataFrame({"wait": draw.normal(size=50), "law": law, "day": pd.date_range("2026-01-01", periods=50)})
    return {"late": 3, "waits": waits, "paths": pa.table({"path": [[1, 2], None]}), "stock": [params["demand"], 2]}


TestNumbers = contract_of(numbers, PARAMS)
TestTables = contract_of(tables, PARAMS, parallel=True)


def engine_of(function, **options):
    return FunctionEngine("shop", function, SCHEMA, **options)


def run(function, seed=1, **options):
    engine = engine_of(function, **options)
    return Resolved(engine).evaluate(pack_of("start", {"params": {"demand": 3}}, engine.policy_schemas), seed)


def rows(made):
    return {row["name"]: row["value"] for row in made.surfaces["metrics"].table().to_pylist()}


def test_calls_wait_for_each_other_unless_the_function_says_otherwise():
    inside, most = [], []

    def count(params, seed):
        inside.append(seed)
        time.sleep(0.02)
        most.append(len(inside))
        inside.remove(seed)
        return {"demand": 1}

    for parallel in (False, True):
        most.clear()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed, parallel=parallel: _called(count, seed, parallel), range(4)))
        assert (max(most) > 1) is parallel


def _called(function, seed, parallel):
    engine = engine_of(function, parallel=parallel)
    engine.code_version = "0" * 64  # of an inner function over lists there is none
    engine.evaluate(pack_of("start", {"params": {"demand": 3}}, engine.policy_schemas), seed)


# --- how it is called ---------------------------------------------------------------------------------------------


def by_place(params, number):
    return {"seed": number}


def by_name(params, *, verbose=False, seed):
    return {"seed": seed}


def by_default(params, seed=7):
    return {"seed": seed}


def by_rest(*both):
    return {"seed": both[1]}


def seedless(params):
    return {"seed": 0}


@pytest.mark.parametrize("function", [by_place, by_name, by_default, by_rest])
def test_the_seed_is_the_second_argument_or_the_one_of_that_name(function):
    assert rows(run(function, 5)) == {"seed": 5}


def test_a_function_without_a_seed_gives_the_same_on_each():
    assert run(seedless, 5).digests() == run(seedless, 6).digests()


def no_parameter():
    return {}


def another_default(params, verbose=False):
    return {}


def three(params, seed, other):
    return {}


@pytest.mark.parametrize(
    ("function", "message"),
    [(no_parameter, "cannot be called with (params, seed): too many positional"), (three, "missing a required"),
     (another_default, "is its parameter verbose the seed? Name it `seed`, or put a * before it"),
     ("no colon", "function: 'no colon' is neither a function nor MODULE:FUNCTION"), (3, "function: 3 is neither")],
)  # fmt: skip
def test_what_cannot_be_called_is_refused(function, message):
    with pytest.raises(LaneError) as refused:
        run(function)
    assert str(refused.value).startswith("engine shop: ") and message in str(refused.value)


# --- what it gives ------------------------------------------------------------------------------------------------


def fails(params, seed):
    raise Failed("pump burst")


def breaks(params, seed):
    return {"x": 1 / 0}


def leaves(params, seed):
    sys.exit(3)


def misses_a_file(params, seed):
    with open("no such file") as file:  # noqa: PTH123
        return file


def recurses(params, seed):
    return recurses(params, seed)


def yields(params, seed):
    yield {"x": 1}


async def waits(params, seed):
    return {"x": 1}


def forgets(params, seed):
    {"x": 1}  # noqa: B018


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [(fails, EngineError, "pack start, seed 1: pump burst"), (leaves, EngineError, "pack start, seed 1: SystemExit: 3"),
     (breaks, EngineError, "pack start, seed 1: ZeroDivisionError: division by zero"),
     (misses_a_file, EngineError, "pack start, seed 1: FileNotFoundError: [Errno 2] No such file"),
     (recurses, EngineError, "pack start, seed 1: RecursionError: maximum recursion depth"),
     (yields, DataError, "the result is generator <generator object yields>; give a mapping of names to"),
     (waits, DataError, "the result is coroutine <coroutine object waits>; give a mapping of names to"),
     (forgets, DataError, "the result is None; give a mapping of names to")],
)  # fmt: skip
def test_what_a_function_does_wrong_is_said_in_one_line(function, kind, message):
    with pytest.raises(kind) as refused:
        run(function)
    assert str(refused.value).startswith(f"engine shop: {message}") and "\n" not in str(refused.value)


def prints(params, seed):
    print("by Python")
    os.write(1, b"by the system\n")
    subprocess.run(["echo", "by a program"], check=True)
    return {"x": 1}


def test_what_a_function_prints_goes_to_stderr(capfd):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: run(prints, seed, parallel=True), range(8)))
    print("the answer")
    out, err = capfd.readouterr()
    assert out == "the answer\n"
    for how in ("Python", "the system", "a program"):
        assert err.count(f"by {how}") == 8  # the ends of lines may change places between threads


def waits_of(params, seed):
    return {"wait": [float(seed), 2.0]}


def most(params, seed, world):
    return {"most": max(world["output"]["wait"].to_pylist())}


def test_a_function_may_stand_on_another_engines_run():
    queue = FunctionEngine("queue", waits_of, SCHEMA, policy="queue")
    chain = bind(engine_of(most), queue)
    pack = pack_of("start", {"params": {"demand": 3}, "queue": {"demand": 1}}, chain.policy_schemas)
    assert rows(Resolved(chain).evaluate(pack, 9)) == {"most": 9.0}
    with pytest.raises(LaneError, match="missing a required argument: 'world'; no engine is named as its world"):
        run(most)
    with pytest.raises(LaneError, match=r"\(params, seed, world\): got an unexpected keyword argument 'world'"):
        Resolved(bind(engine_of(by_place), queue)).evaluate(pack, 9)


# --- where it is found --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Writes files of a user's project: text by name."""

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return tmp_path

    before = [*sys.path]
    yield write
    sys.path[:] = before
    for name in {path.stem for path in tmp_path.glob("*.py")} - sys.stdlib_module_names - {"click"}:
        sys.modules.pop(name, None)


LAW = "def law(demand): return demand + 1\n"
SHOP = "import shop_law\ndef simulate(params, seed): return {'x': shop_law.law(params['demand'])}\n"


def test_a_function_is_found_in_a_folder_that_is_not_installed(folder):
    place = folder(shop_a=SHOP, shop_law=LAW)
    assert rows(run("shop_a:simulate", folder=place)) == {"x": 4}
    assert isinstance(engine_of("shop_a:simulate", folder=place), Publishing)


@pytest.mark.parametrize(
    ("files", "function", "message"),
    [({}, "shop_b:simulate", "there is no module shop_b in "),
     ({}, "shop_b.inner:simulate", "there is no module shop_b in "),
     ({"shop_b": "x = 1\ndef other(p, s): pass\n"}, "shop_b:simulate", "shop_b:simulate: it is missing; functions of"),
     ({"shop_b": "x = 1\ndef other(p, s): pass\n"}, "shop_b:x", "shop_b:x: it is of type int; functions of"),
     ({"shop_b": "class Shop: pass\n"}, "shop_b:Shop", "shop_b:Shop: it is a class; functions of"),
     ({"shop_b": "def simulate(:\n"}, "shop_b:simulate", "importing shop_b: SyntaxError: invalid syntax"),
     ({"shop_b": "raise ValueError('no\\nway')\n"}, "shop_b:simulate", "importing shop_b: ValueError: no"),
     ({"shop_b": "exit(3)\n"}, "shop_b:simulate", "importing shop_b: SystemExit: 3"),
     ({"shop_b": "import not_there\n"}, "shop_b:simulate", "importing shop_b: ModuleNotFoundError: No module named"),
     ({"queue": "def simulate(p, s): pass\n"}, "queue:simulate", "queue.py has the name of one of Python's own"),
     ({"click": "def simulate(p, s): pass\n"}, "click:simulate", "click.py has the name of "),
     ({"shop_b": "import types\ndef simulate(p, s): return {'x': 1}\n", "types": ""}, "shop_b:simulate",
      "types.py has the name of one of Python's own modules, which goes first: rename it")],
)  # fmt: skip
def test_what_is_not_found_is_said_in_one_line(folder, files, function, message):
    with pytest.raises(LanelockError) as refused:
        run(function, folder=folder(**files))
    assert message in str(refused.value) and str(refused.value).startswith("engine shop: ")
    assert "\n" not in str(refused.value)


def test_a_module_of_another_folder_is_not_taken_for_that_of_this_one(folder, tmp_path):
    run("shop_c:simulate", folder=folder(shop_c=SHOP, shop_law=LAW))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "shop_c.py").write_text(SHOP)
    with pytest.raises(LaneError, match=r"other/shop_c\.py has the name of .*shop_c\.py, which goes first"):
        run("shop_c:simulate", folder=tmp_path / "other")


# --- its code version ---------------------------------------------------------------------------------------------


def version(function, **options):
    return engine_of(function, **options).code_version


def test_a_code_version_covers_the_files_that_are_named(folder):
    place = folder(shop_d=SHOP, shop_law=LAW)
    (place / "rates.csv").write_text("1\n")
    versions = [version("shop_d:simulate", folder=place), version("shop_d:simulate", folder=place, code=["rates.csv"])]
    (place / "rates.csv").write_text("2\n")
    versions.append(version("shop_d:simulate", folder=place, code=["rates.csv"]))
    assert len(set(versions)) == 3
    with pytest.raises(LaneError, match=r"engine shop: code: .*rates\.cvs: cannot be read: No such file"):
        version("shop_d:simulate", folder=place, code=["rates.cvs"])


def test_a_function_has_one_code_version_by_name_by_itself_and_in_a_script(folder):
    script = (
        "def other(params, seed): return {}\nfrom lanelock.engine.function import FunctionEngine\n"
        "if __name__ == '__main__': print(FunctionEngine('shop', simulate, {}).code_version)\n"
    )
    place = folder(shop_e=f"{SHOP}{script}", shop_law=LAW)
    command, paths = [sys.executable, str(place / "shop_e.py")], os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": paths}
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    by_name = version("shop_e:simulate", folder=place)
    import shop_e

    assert by_name == version(shop_e.simulate) == child.stdout.strip()
    assert by_name != version("shop_e:other", folder=place)


def test_a_file_that_changed_after_its_import_is_not_taken_for_what_runs(folder):
    place = folder(shop_f=SHOP, shop_law=LAW)
    sys.path.append(str(place))
    import shop_f

    version(shop_f.simulate)
    (place / "shop_f.py").write_text(SHOP.replace("demand'])", "demand']) + 1"))
    with pytest.raises(LaneError, match=r"shop_f\.py was changed after it was imported; start Python again"):
        version(shop_f.simulate)


CELL = """
import functools
import numpy as np
rate, unused, law = 0.5, 1, [1, 2]
def half(x):
    return x * rate
class Stock:
    def grow(self, x):
        return half(x) + law[0]
def simulate(params, seed):
    return {"x": Stock().grow(params["demand"]) + np.pi}
"""


@pytest.fixture
def notebook():
    """Runs a text as a cell of a notebook does, in a module without a file: its names."""

    def run_cell(text):
        module = sys.modules["notebook_main"] = type(sys)("notebook_main")
        name = f"<cell {abs(hash(text))}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), vars(module))
        return module

    yield run_cell
    sys.modules.pop("notebook_main", None)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [("rate, unused", "rate, unused", False), ("np.pi", "np.e", True), ("x * rate", "x / rate", True),
     ("0.5, 1,", "0.6, 1,", True), ("0.5, 1,", "0.5, 2,", False), ("law[0]", "law[1]", True),
     ("[1, 2]", "[1, 3]", True)],
)  # fmt: skip
def test_a_code_version_covers_what_a_function_of_a_notebook_uses(notebook, before, after, moved):
    first = version(notebook(CELL).simulate)
    assert rows(run(notebook(CELL).simulate)) == {"x": 3 * 0.5 + 1 + np.pi}
    assert (version(notebook(CELL.replace(before, after)).simulate) != first) is moved


@pytest.mark.parametrize(
    ("text", "message"),
    [("simulate = lambda params, seed: {'x': 1}", "function is a lambda outside a module; write it as `def"),
     ("import pandas as pd\ntable = pd.DataFrame()\ndef simulate(p, s): return table",
      "the code version cannot cover table, of type DataFrame; move the function into a module"),
     ("class Shop:\n    def run(self, p, s): return {}\nsimulate = Shop().run",
      "function is, or belongs to, an object of type Shop, whose state no code version covers"),
     ("class Shop:\n    def __call__(self, p, s): return {}\nsimulate = Shop()",
      "function is, or belongs to, an object of type Shop, whose state no code version covers; give a function")],
)  # fmt: skip
def test_what_no_code_version_covers_is_refused(notebook, text, message):
    with pytest.raises(LaneError) as refused:
        version(notebook(text).simulate)
    assert message in str(refused.value)


def test_a_function_without_a_source_is_refused(notebook):
    module = notebook("def simulate(p, s): return {}")
    linecache.cache.clear()
    with pytest.raises(LaneError, match="the source of simulate cannot be read; write it into a file or a notebook"):
        version(module.simulate)


def scaled(factor):
    def simulate(params, seed):
        return {"x": params["demand"] * factor}

    return simulate


def logged(function):
    @functools.wraps(function)
    def outer(*arguments):
        return function(*arguments)

    return outer


@logged
def decorated(params, seed):
    return {"x": 1}


def test_partials_inner_and_decorated_functions_have_versions_of_their_own():
    half, third = functools.partial(by_name, verbose=1), functools.partial(by_name, verbose=2)
    several = [by_name, by_place, half, third, scaled(1), scaled(2), decorated, logged(by_name)]
    assert len({version(function) for function in several}) == len(several)
    assert version(scaled(1)) == version(scaled(1)) and rows(run(half, 4)) == {"seed": 4}
    with pytest.raises(LaneError, match=r"cannot cover function\.factor, of type Event"):
        version(scaled(threading.Event()))


def test_a_surface_of_a_run_is_that_of_its_result():
    assert run(seedless).digests() == {name: part.digest() for name, part in surfaces_of({"seed": 0}, "").items()}
