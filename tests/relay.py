"""A tiny engine of three states, installed into a folder: what its code does may differ from folder to folder.

    side = relay.installed(tmp_path / "slow", middle="time.sleep(0.3)")

Its states are steps: `first` draws rows, `middle` doubles them after a step that prepares its input, `last` sums them.
It publishes, replays and audits itself, so that a version of its code can be held to another's bytes.
"""

import importlib.util
import json
import sys
from pathlib import Path

from lanelock.engine.resolved import Resolved
from lanelock.sweeps.perf.measure import Side

CODE = """
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from lanelock.engine.protocol import Run
from lanelock.engine.resolved import NO_WORLD
from lanelock.engine.steps import Memory, Stands, Steps, folded
from lanelock.engine.surface import Surface
from lanelock.engine.tables import TableRuns
from lanelock.policies.documents import digest

SCHEMA = {{
    "$id": "relay_v1", "type": "object", "additionalProperties": False, "required": ["rows"],
    "properties": {{"rows": {{"type": "integer", "minimum": 1, "maximum": 1000000, "default": 1000}}}},
}}
ROWS = pa.schema([("value", pa.float64())])


class Relay(TableRuns):
    name, policy_schemas, states = "relay", {{"relay_v1": SCHEMA}}, ("first", "middle", "last")
    code_version = digest("{version}")

    def evaluate(self, pack, seed):
        step = Steps(Stands((), ("numpy",)), Memory(0), pack, seed)
        first = step("first", (), ("relay_v1",), (), lambda policy: self.first(policy["relay_v1"]["rows"], seed))
        ready = step("preparing", ("first",), (), (), lambda _: self.preparing(first))
        middle = step("middle", ("preparing",), (), (), lambda _: self.middle(ready))
        last = step("last", ("middle",), (), (), lambda _: self.last(middle))
        {between}
        surfaces = {{one.name: one for one in (first, middle, last)}}
        run_id = digest([self.name, pack.digest, seed])[:32]
        audit = SimpleNamespace(passed={audit})
        return Run(run_id, self.name, seed, pack, NO_WORLD, self.code_version, surfaces,
                   folded(step.reports, {{"preparing": "middle"}}), audit=audit)

    def contract(self):
        return [{{"surface": state, "state": state}} for state in self.states]

    def first(self, rows, seed):
        return Surface("first", ROWS, {{"value": np.random.default_rng(seed).random(rows)}})

    def preparing(self, first):
        held = bytearray(({held_mb} << 20) + 1)
        return Surface("ready", ROWS, {{"value": first["value"] + held[0]}})

    def middle(self, ready):
        {middle}
        return Surface("middle", ROWS, {{"value": 2 * ready["value"]}})

    def last(self, middle):
        {last}
        return Surface("last", ROWS, {{"value": np.array([middle["value"].sum(){twist}])}})


RELAY = Relay()
"""


def installed(folder, *, middle="pass", last="pass", between="pass", held_mb=0, twist="", audit=True, version="1"):
    """Writes the engine, its entry point and its pack `pack` to a folder. Returns the side that finds them there."""
    folder.mkdir(parents=True, exist_ok=True)
    text = CODE.format(
        middle=middle, last=last, between=between, held_mb=held_mb, twist=twist, audit=audit, version=version
    )
    (folder / "relay_code.py").write_text(text)
    info = folder / "relay_code-0.1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: relay-code\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[lanelock.engines]\nrelay = relay_code:RELAY\n")
    (folder / "pack").mkdir(exist_ok=True)
    for name, document in {"pack": {"engine": "relay"}, "relay_v1": {"rows": 1000}}.items():
        (folder / "pack" / f"{name}.json").write_text(json.dumps(document))
    here = tuple(path or str(Path.cwd()) for path in sys.path)
    return Side(f"relay in {folder.name}", sys.executable, (str(folder), *here), str(folder))


def engine(folder):
    """Returns the engine in a folder, for this process, where no entry point is looked for."""
    spec = importlib.util.spec_from_file_location("relay_code", Path(folder, "relay_code.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["relay_code"] = module
    spec.loader.exec_module(module)
    return Resolved(module.RELAY)
