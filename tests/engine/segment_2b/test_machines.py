"""The same bytes on every machine: other code in the C library, in NumPy and from the compiler changes nothing."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import child_environment
from machines import OLD_C_LIBRARY, old_numpy
from worlds import tiny_world

from lanelock.engine.keep.published import computed_otherwise
from lanelock.engine.resolved import Resolved
from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS

PLAIN_CODE = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
PACKS = {"baseline": "S4", "p3_recorded": "S4", "p3_wide": "S7"}  # and the last state
CALL = """
import json, sys
from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import load_pack
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
results = {"fingerprint": SEGMENT_2B.fingerprint}
for name, last in json.loads(sys.argv[1]).items():
    run = SEGMENT_2B.evaluate(load_pack(name, SEGMENT_2B.policy_schemas), 42, until=last)
    results[name] = [run.world_digest, run.digests(), {key: value.hex() for key, value in METRICS.measure(run).items()}]
print(json.dumps(results))
"""


def elsewhere(**environment):
    command = [sys.executable, "-c", CALL, json.dumps(PACKS)]
    child = subprocess.run(command, capture_output=True, text=True, env=child_environment(**environment))
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.fixture(scope="module")
def here_computed(packs):
    results = {"fingerprint": SEGMENT_2B.fingerprint}
    for name, last in PACKS.items():
        run = SEGMENT_2B.evaluate(packs(name), 42, until=last)
        metrics = {key: value.hex() for key, value in METRICS.measure(run).items()}
        results[name] = [run.world_digest, run.digests(), metrics]
    return results


def test_an_older_processor_gives_the_same_bytes_and_metrics(here_computed):
    assert elsewhere(**OLD_C_LIBRARY, **old_numpy()) == here_computed


@pytest.mark.slow
def test_the_plainest_machine_code_gives_the_same_bytes_and_metrics(here_computed, tmp_path):
    plain = {**PLAIN_CODE, "NUMBA_CACHE_DIR": str(tmp_path)}
    assert elsewhere(**OLD_C_LIBRARY, **old_numpy(), **plain) == here_computed


def test_numpy_hears_that_it_is_to_be_old():
    """Else the tests above would compare NumPy with itself."""
    call = """
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
print([name for name in __cpu_dispatch__ if __cpu_features__[name]])
"""
    child = subprocess.run(
        [sys.executable, "-c", call], capture_output=True, text=True, env=child_environment(**old_numpy())
    )
    assert child.stdout == "[]\n", child.stderr


# --- a machine that computes otherwise is named ------------------------------------------------------------


@pytest.fixture
def published_elsewhere(packs, tmp_path):
    """Returns the workspace and the folder of a run whose receipt names another machine's fingerprint."""
    write_world(tiny_world(), tmp_path / "world")
    run = Segment2B().evaluate(packs("p3_recorded"), 42, world=tmp_path / "world")
    assert run.fingerprint == Resolved(SEGMENT_2B).fingerprint == SEGMENT_2B.fingerprint
    other = replace(run, fingerprint="0" * 64)
    return tmp_path / "workspace", SEGMENT_2B.publish(other, tmp_path / "workspace" / "runs").folder


def test_verify_and_replay_name_a_machine_that_computes_otherwise(published_elsewhere, here):
    workspace, folder = published_elsewhere
    code, out, err = here("verify", folder.name, "--json", workspace=workspace)
    assert (code, json.loads(out)["ok"]) == (0, True), "every file is as it was published"
    assert "this machine computes otherwise" in json.loads(out)["machine"] and "0000000000000000" in err
    code, out, err = here("replay", folder.name, "--json", workspace=workspace)
    assert (code, json.loads(out)["differences"]) == (3, ["run_receipt.json"])
    assert "this machine computes otherwise" in err
    assert SEGMENT_2B.open_run(folder).fingerprint == "0" * 64


def test_nothing_is_named_where_machines_agree_or_one_is_unknown(published_elsewhere):
    _, folder = published_elsewhere
    assert computed_otherwise(folder, "0" * 64) == computed_otherwise(folder, "") == ""


def test_the_arithmetic_stands_in_every_key(packs, tmp_path):
    write_world(tiny_world(), tmp_path)
    run = Segment2B().evaluate(packs("p3_recorded"), 42, world=tmp_path)
    assert {state.address["arithmetic"] for state in run.states} == {"arithmetic_v1"}
