"""Three engines under one contract: segment 2B, a queue, and a third that is written by the protocol alone."""

import importlib.util
import sys

import pyarrow as pa
import pytest
from lanes import QUEUE, TESTS
from queue_engine import QueueEngine, QueueMetrics
from worlds import tiny_world

from lanelock.engine.resolved import Resolved
from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.engine.sources import source_digest
from lanelock.engine.testing import EngineContract
from lanelock.policies import LaneError, load_pack
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
from lanelock.sweeps import engines

TIDES = TESTS / "tides_engine"


def module_of(path, name):
    """A module loaded from a file that is on no path of imports."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tides = module_of(TIDES / "tides_engine.py", "tides_engine")


class TestSegment2B(EngineContract):
    def make_engine(self):
        return Segment2B()

    def make_pack(self):
        pack = load_pack("p3_recorded", SEGMENT_2B.policy_schemas, SEGMENT_2B.name)
        return pack.with_knobs({"route_rng_policy_v1#/roster/arrivals_per_merchant_day": 0.1})

    def make_metrics(self):
        return METRICS

    def make_world(self, folder):
        write_world(tiny_world(virtual=[3]), folder)
        return folder

    def question(self):
        moment = pa.array(["2026-01-05T10:00:00Z", "2026-01-05T10:00:01Z", "2026-02-01T23:59:59Z"])
        return pa.table({"merchant_id": pa.array([1, 3, 4], pa.uint64()), "utc_timestamp": moment})


class TestQueue(EngineContract):
    def make_engine(self):
        return QueueEngine()

    def make_pack(self):
        return load_pack(QUEUE / "pack", QueueEngine.policy_schemas, "queue")

    def make_metrics(self):
        return QueueMetrics()

    def question(self):
        return pa.table({"customer": [3, 1, 1_999]})


class TestTides(EngineContract):
    def make_engine(self):
        return tides.TidesEngine()

    def make_pack(self):
        return load_pack(TIDES / "pack", tides.TidesEngine.policy_schemas, "tides")


def test_what_an_engine_leaves_out_is_filled_in():
    own = Resolved(tides.TidesEngine())
    assert own.states == ("tides",) and own.baseline is None
    assert own.code_version == source_digest(tides)
    assert Resolved(SEGMENT_2B).code_version == SEGMENT_2B.code_version


@pytest.mark.parametrize(
    ("file", "moved"),
    [("mine/engine.py", True), ("mine/law.py", True), ("mine/deep/more.py", True), ("beside.py", True),
     ("mine/unused.py", False), (".venv/lib/site-packages/other.py", False)],
)  # fmt: skip
def test_a_code_version_covers_the_local_modules_that_an_engine_imports(tmp_path, file, moved):
    """Also those that are imported late, whether or not that has happened yet."""
    sources = {
        "mine/__init__.py": "",
        "mine/engine.py": "from . import law\nimport numpy\ndef late():\n    import beside\n    import other\n",
        "mine/law.py": "from .deep.more import x\n",
        "mine/deep/__init__.py": "",
        "mine/deep/more.py": "x = 1\n",
        "beside.py": "",
        "mine/unused.py": "",
        ".venv/lib/site-packages/other.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def version():
        module = type(sys)("mine.engine")
        module.__file__ = str(tmp_path / "mine" / "engine.py")
        return source_digest(module)

    before = version()
    (tmp_path / file).write_text(sources[file] + "# changed\n")
    assert (version() != before) is moved


def test_what_is_no_engine_is_refused_by_what_it_lacks(monkeypatch):
    with pytest.raises(LaneError, match="is no engine: it has no policy_schemas"):
        Resolved(type("Half", (), {"name": "half"})())
    monkeypatch.setattr(engines, "_load", lambda group, name: (name, QueueEngine()))
    with pytest.raises(LaneError, match="the entry point 'other' gives an engine named 'queue'"):
        engines._installed_engine.__wrapped__("other", ())


def test_what_an_engine_does_not_take_is_refused_by_name(tmp_path):
    pack = load_pack(QUEUE / "pack", QueueEngine.policy_schemas)
    with pytest.raises(LaneError, match=r"engine queue: evaluate\(\) takes no customers"):
        Resolved(QueueEngine()).evaluate(pack, 1, feeds={"customers": tmp_path / "customers.csv"})
