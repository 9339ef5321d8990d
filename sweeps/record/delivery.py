"""Delivers pending uploads from the outbox: in order, and in effect once.

Before the first letter of a box is delivered, and again after the tracking server did not answer, the runs of the sweep
and of its trials are looked up by their tags. A complete run is skipped, an incomplete run is completed, a missing run
is made. So a delivery may be killed anywhere, and a request whose answer was lost may have been executed or not.

`main` runs in a process of its own beside a sweep (`courier` is the sweep's end): it reads orders from stdin and
answers on stdout, one JSON object per line, and ends with stdin.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import LanelockError, WorkspaceError
from lanelock.sweeps.record.letters import Letter
from lanelock.sweeps.record.mlflow_store import Away
from lanelock.sweeps.record.outbox import Box, Outbox, meant_for
from lanelock.sweeps.record.tracking import Tracking
from lanelock.sweeps.secrets import shown, without_secrets
from lanelock.sweeps.workspace import Workspace

_PAUSE = 2.0  # seconds between two attempts to reach a server that was away
_ORPHAN = 60.0  # seconds to wait until the delivery process of a killed sweep has ended


class Delivery:
    """The delivery of one box's letters."""

    def __init__(self, tracking: Tracking, box: Box) -> None:
        self._tracking, self._box = tracking, box
        self._runs: dict[int, tuple[str, bool]] = {}  # trial -> run id, whether complete
        self._looked_up = False
        self._interrupted = False  # the server may hold runs that we do not know of
        self.parent: str | None = None
        self.delivered = 0

    def deliver(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Delivers what waits. Raises Away if the server stops answering."""
        try:
            for letter, mark in self._box.waiting():
                if stop():
                    return
                if not self._looked_up:
                    self._look_up()
                self._deliver(letter)
                self._box.delivered(mark)
                self.delivered += 1
                if letter.kind == "close" and self._box.remove(mark):
                    return
        except BaseException:
            self._looked_up, self._interrupted = False, True
            raise

    def _look_up(self) -> None:
        opening = self._box.opening()
        assert opening.heading is not None  # `opening` has checked it
        self.parent = self._tracking.open_sweep(opening.heading, opening.entry)
        self._runs = self._tracking.trials(self.parent)
        self._interrupted = self._interrupted or bool(self._runs)
        self._looked_up = True

    def _deliver(self, letter: Letter) -> None:
        assert self.parent is not None  # set by `_look_up`
        number = letter.trial
        run_id, whole = (None, False) if number is None else self._runs.get(number, (None, False))
        match letter.kind:
            case "sweep" if letter.heading is not None:
                self._tracking.open_sweep(letter.heading, letter.entry)
            case "trial" if number is not None and not whole:
                self._runs[number] = self._tracking.write_trial(self.parent, number, letter.entry, run_id), True
            case "more" if run_id is not None:
                self._tracking.add(self.parent, run_id, letter.entry)
            case "close" if letter.heading is not None:
                if self._interrupted:
                    self._tracking.trials(self.parent)  # deletes duplicates that lost requests have made
                self._tracking.close_sweep(letter.heading, self.parent, run_id, letter.entry)


@dataclass(frozen=True, slots=True)
class Synced:
    """The result of delivering the outbox."""

    delivered: int
    waiting: Mapping[str, int]  # sweep -> letters
    doubled: int  # deleted duplicates, which lost requests had made
    away: str  # why letters for this server still wait, or ""
    elsewhere: tuple[str, ...]  # other servers that letters wait for


def sync(workspace: Workspace, uri: str, redirect: bool = False) -> Synced:
    """Delivers every box that is addressed to `uri`, the oldest sweep first; with `redirect`, every box."""
    here = meant_for(workspace, uri)
    boxes = {box: heading for box in Outbox(workspace).boxes() if (heading := box.opening().heading) is not None}
    tracking, delivered, away = None, 0, ""
    for box, heading in boxes.items():
        with box.delivering() as acquired:
            if not acquired or away or not box.waits() or not (redirect or shown(heading.record) == here):
                continue
            delivery = None
            try:
                tracking = tracking or Tracking(workspace, uri)
                delivery = Delivery(tracking, box)
                delivery.deliver()
            except Away as error:
                away = str(error)
            delivered += delivery.delivered if delivery is not None else 0
    left = {heading.sweep: box.waits() for box, heading in boxes.items() if box.waits()}
    others = {shown(heading.record) for box, heading in boxes.items() if shown(heading.record) != here and box.waits()}
    return Synced(delivered, left, 0 if tracking is None else tracking.doubled, away, tuple(sorted(others)))


class _Post:
    """The delivery beside one sweep."""

    def __init__(self, root: str, uri: str) -> None:
        self._workspace, self._uri = Workspace(Path(root)), uri
        self._tracking: Tracking | None = None
        self._box: Box | None = None
        self._delivery: Delivery | None = None
        self._locks = ExitStack()
        self._again = 0.0  # when to try a server that was away again
        self.away = ""

    def take(self, box: str) -> None:
        """Sets the box to deliver from now on, after the letters of older sweeps."""
        self._box = Box(Path(box))
        if not self._locks.enter_context(self._box.delivering(_ORPHAN)):
            raise WorkspaceError(f"{box}: another process is delivering it; wait for it to end")
        if not self.away:
            sync(self._workspace, self._uri)

    def deliver(self, *, at_once: bool = False) -> None:
        """Connects and delivers what waits, unless the server was just away. Raises WorkspaceError if it refuses."""
        if self.away and not at_once and time.monotonic() < self._again:
            return
        try:
            self._tracking = self._tracking or Tracking(self._workspace, self._uri)
            if self._box is not None:
                self._delivery = self._delivery or Delivery(self._tracking, self._box)
                self._delivery.deliver(_alone.is_set)
            self.away = ""
        except Away as error:
            self.away, self._again = str(error), time.monotonic() + _PAUSE

    def known(self) -> dict[str, str | None]:
        """Returns the sweep's run, as an answer."""
        return {"run": None if self._delivery is None else self._delivery.parent}

    def leave(self) -> None:
        """Releases the box; what still waits is for another process."""
        self._locks.close()


_alone = threading.Event()  # set once the sweep's process is gone


def main() -> None:
    sys.stdout = sys.stderr  # a library may print; only answers go to the real stdout
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    post, uri = None, ""
    while not _alone.is_set():
        try:
            order = orders.get(timeout=_PAUSE if post is not None and post.away else None)
        except queue.Empty:
            order = {"do": "deliver"}
        try:
            if order["do"] == "open":
                uri = order["uri"]
                post = _Post(order["root"], uri)
            if post is not None:
                _obey(post, order)
            if order["do"] == "leave":
                post = None
        except LanelockError as error:
            post = None  # stops writing: the study holds everything, and a resumed sweep writes it in order
            kind = "WorkspaceError" if isinstance(error, Away) else type(error).__name__
            _answer({"refused": str(error), "error": kind})
        except Exception:
            post = None
            _answer({"refused": "", "broken": without_secrets(traceback.format_exc(), uri)})


def _obey(post: _Post, order: dict[str, Any]) -> None:
    match order["do"]:
        case "open":
            post.deliver()
            if order["answer"]:
                _answer(post.known())
        case "take":
            post.take(order["box"])
            post.deliver()
        case "deliver":
            post.deliver()
        case "settle":
            post.deliver(at_once=True)
            _answer(post.known())
        case "leave":
            post.leave()
            _answer(post.known())


def _read(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    _alone.set()
    orders.put({"do": "end"})


def _answer(answer: dict[str, Any]) -> None:
    try:
        print(json.dumps(answer), file=sys.__stdout__, flush=True)
    except BrokenPipeError:
        _alone.set()
