"""The process beside a sweep is killed, stopped, or answers nonsense: the sweep closes as it would without it."""

import os
import signal
import time

import pytest
from lanes import TESTS

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.record import courier
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.delivery import sync
from lanelock.sweeps.record.outbox import Outbox, own_record
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

LANE = load_lane(str(TESTS / "queue_engine" / "lane.json")).with_search(sampler="random")


@pytest.fixture
def begun(monkeypatch):
    """The processes that are begun for a sweep, none of them used before."""
    monkeypatch.setattr(courier, "_idle", [])
    processes = []

    class Process(courier._Process):
        def __init__(self):
            processes.append(self)
            super().__init__()

    monkeypatch.setattr(courier, "_Process", Process)
    yield processes
    for process in processes:
        process.end(kill=True)


def signalled(begun, *when):
    """Returns a watcher that sends a signal to the newest process, each (trials, signal) once."""
    left = list(when)

    def watch(progress):
        if left and progress.done >= left[0][0]:
            child = begun[-1]._beside.child
            os.kill(child.pid, left.pop(0)[1])
            while left and child.poll() is None and len(when) > 1:
                time.sleep(0.01)

    return watch


def test_killed_once_another_process_delivers_everything(tmp_path, begun):
    place = Workspace.at(tmp_path)
    closed = play(LANE.with_search(trials=12), place, watch=signalled(begun, (4, signal.SIGKILL)))
    assert len(begun) == 2 and len(closed.trials) == 12 and closed.parent_run is not None
    assert Outbox(place).boxes() == () and compare(place).differences == ()


NEVER = {
    "ends at once": "raise SystemExit(3)",
    "answers rubbish": "print('{', flush=True); import time; time.sleep(600)",
    "answers no object": "print('[1]', flush=True); import time; time.sleep(600)",
    "answers no text": "import sys, time; sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush(); time.sleep(600)",
    "closes its pipes": "import os, time; os.close(0); os.close(1); time.sleep(600)",
    "never answers": "import time; time.sleep(600)",
}


@pytest.mark.parametrize("start", NEVER.values(), ids=NEVER)
def test_a_process_that_is_of_no_use_costs_nothing_but_the_letters_wait(tmp_path, begun, monkeypatch, start, here):
    monkeypatch.setattr(courier, "_START", start)
    monkeypatch.setattr(courier, "_PATIENCE", 0.5)
    place = Workspace.at(tmp_path)
    closed = play(LANE.with_search(trials=4), place)
    assert len(begun) == 2 and closed.lock.exists() and closed.parent_run is None
    (box,) = Outbox(place).boxes()
    assert box.waits() >= 6 and "the process that writes to the tracking server" in box.notes().reason
    assert all(process._beside.child.poll() is not None for process in begun), "none is left behind"


def test_stopped_for_good_it_holds_up_neither_the_sweep_nor_the_end_of_the_program(tmp_path, begun, monkeypatch):
    monkeypatch.setattr(courier, "_PATIENCE", 20.0)
    place = Workspace.at(tmp_path)
    closed = play(LANE.with_search(trials=4), place, watch=signalled(begun, (4, signal.SIGSTOP)))
    assert len(begun) == 2 and closed.lock.exists() and closed.parent_run is not None
    assert Outbox(place).boxes() == () and begun[0]._beside.child.poll() == -signal.SIGKILL


def test_orders_that_nobody_reads_do_not_block_the_sweep(begun, monkeypatch):
    monkeypatch.setattr(courier, "_START", "import time; time.sleep(600)")
    process = courier._Process()
    for _ in range(20_000):
        process.order({"do": "deliver"})
    with pytest.raises(courier._GoneError, match="takes no orders"):
        process.order({"do": "settle"})


@pytest.mark.slow
def test_killed_twice_the_letters_wait_for_sync(tmp_path, begun):
    place = Workspace.at(tmp_path)
    watch = signalled(begun, (4, signal.SIGKILL), (8, signal.SIGKILL))
    closed = play(LANE.with_search(trials=16), place, watch=watch)
    assert len(begun) == 2 and len(closed.trials) == 16 and closed.lock.exists()
    (box,) = Outbox(place).boxes()
    assert "exit code -9" in box.notes().reason
    assert not sync(place, own_record(place)).waiting and compare(place).differences == ()
