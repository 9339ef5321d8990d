"""Delivers pending uploads from the outbox: in order, and in effect once.

Before the first letter of a box is delivered, and again after the tracking server did not answer, the runs of the sweep
and of its trials are looked up by their tags. A complete run is skipped, an incomplete run is completed, a missing run
is made. So a delivery may be killed anywhere, and a request whose answer was lost may have been executed or not. Where
somebody deleted a run that was delivered, all of the box is delivered again.

A letter that is refused by itself is set aside with the reason, and the next one is delivered; `sync` and the next
sweep try it again. If the server refuses everything, or its experiment was deleted, the letters wait in order.

`main` runs in a process of its own beside a sweep (`courier` is the sweep's end): it reads orders from stdin and
answers on stdout, one JSON object per line, and ends with stdin.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lanelock.policies import LanelockError, WorkspaceError
from lanelock.policies.errors import cause
from lanelock.sweeps.record.letters import Letter
from lanelock.sweeps.record.mlflow_store import Away, Barred
from lanelock.sweeps.record.outbox import Box, Outbox, meant_for
from lanelock.sweeps.record.tracking import Tracking
from lanelock.sweeps.secrets import shown, without_secrets
from lanelock.sweeps.workspace import Workspace

_PAUSE = 2.0  # seconds between two attempts to reach a server that was away
_REFUSED = 30.0  # the same, to a server that refused
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
        """Delivers what waits; a letter that is refused by itself is set aside.

        Raises Away if the server stops answering, WorkspaceError if it refuses the sweep as a whole.
        """
        self._box.mend()
        try:
            while any(True for _ in self._box.lines_to_deliver()) and not stop():
                if not self._looked_up:
                    self._look_up()
                self._deliver_lines(stop)
        except BaseException:
            self._looked_up, self._interrupted = False, True
            raise
        self._box.explain("")

    def _deliver_lines(self, stop: Callable[[], bool]) -> None:
        """Delivers line by line. Returns behind one that was set aside: whether the server is well is looked up."""
        for at, mark, line in self._box.lines_to_deliver():
            if stop():
                return
            try:
                letter = self._box.read(line)
                self._deliver(letter)
            except (Away, Barred):
                raise
            except Exception as error:  # whatever is wrong with one letter, the others are delivered
                self._looked_up, self._interrupted = False, True
                self._box.set_aside(at, mark, _reason(error))
                return
            self._box.delivered(mark)
            self.delivered += 1
            if letter.kind == "close" and self._box.remove(mark):
                return

    def _look_up(self) -> None:
        opening = self._box.opening()
        assert opening.heading is not None  # `opening` has checked it
        before, self.parent = self.parent, self._tracking.open_sweep(opening.heading, opening.entry)
        if before not in (None, self.parent):
            self._tracking.forget(before)
        self._runs = self._tracking.trials(self.parent)
        if self._box.trials_before_mark() - self._runs.keys():  # somebody deleted runs that were delivered
            self._box.start_over()
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
            case "more" if number in self._box.trials_aside():
                raise WorkspaceError(f"trial {number} was refused")
            case "ranks":
                self._tracking.rank({number: run for number, (run, _) in self._runs.items()}, letter.entry)
            case "close" if letter.heading is not None:
                if self._interrupted:
                    self._tracking.trials(self.parent)  # deletes duplicates that lost requests have made
                self._tracking.close_sweep(letter.heading, self.parent, run_id, letter.entry)


def _reason(error: Exception) -> str:
    return " ".join(cause(error).split())


@dataclass(frozen=True, slots=True)
class Synced:
    """The result of delivering the outbox."""

    delivered: int
    waiting: Mapping[str, int]  # sweep -> letters
    why: Mapping[str, str]  # sweep -> why they wait, where that is known
    doubled: int  # deleted duplicates, which lost requests had made
    away: str  # why letters for this server still wait, or ""
    elsewhere: tuple[str, ...]  # other servers that letters wait for
    changed: tuple[str, ...]  # boxes that were changed by hand, so that nobody knows their server


def sync(workspace: Workspace, uri: str, redirect: bool = False, restore: bool = False) -> Synced:
    """Delivers every box that is addressed to `uri`, the oldest sweep first; with `redirect`, every box.

    What was refused before is tried again. With `restore`, experiments that were deleted are restored.
    Raises WorkspaceError if the server refuses everything.
    """
    here = meant_for(workspace, uri)
    boxes, unknown = Outbox(workspace).addressed()
    tracking, delivered, away = None, 0, ""
    for box, heading in boxes.items():
        with box.delivering() as acquired:
            if not acquired or away or not box.waits() or not (redirect or shown(heading.record) == here):
                continue
            delivery = None
            try:
                tracking = tracking or Tracking(workspace, uri, restore=restore)
                box.again()
                delivery = Delivery(tracking, box)
                delivery.deliver()
            except Away as error:
                away = str(error)
                box.explain(away)
            except Exception as error:  # of this sweep; the others are delivered
                box.explain(_reason(error))
                if tracking is None:
                    raise
            delivered += delivery.delivered if delivery is not None else 0
    left = {box: heading for box, heading in boxes.items() if box.waits()}
    others = {shown(heading.record) for heading in left.values() if shown(heading.record) != here}
    return Synced(
        delivered,
        {heading.sweep: box.waits() for box, heading in left.items()},
        {heading.sweep: reason for box, heading in left.items() if (reason := box.notes().reason)},
        0 if tracking is None else tracking.doubled,
        away,
        tuple(sorted(others)),
        tuple(unknown.values()),
    )


class _Post:
    """The delivery beside one sweep. Whatever is refused once it has begun, letters wait and the reason is kept."""

    def __init__(self, root: str, uri: str) -> None:
        self._workspace, self._uri = Workspace(Path(root)), uri
        self._tracking: Tracking | None = None
        self._box: Box | None = None
        self._delivery: Delivery | None = None
        self._locks = ExitStack()
        self._again = 0.0  # when to try again after a failure
        self.why = ""  # why letters wait

    def connect(self) -> None:
        """Connects. Raises WorkspaceError if the server refuses; that it is away is no error."""
        try:
            self._tracking = self._tracking or Tracking(self._workspace, self._uri)
        except Away as error:
            self._failed(error)

    def take(self, box: str) -> None:
        """Sets the box to deliver from now on, after the letters of older sweeps."""
        taken = Box(Path(box))
        if not self._locks.enter_context(taken.delivering(_ORPHAN)):
            self._failed(WorkspaceError("another process delivers the letters of this sweep"))
            return
        self._box = taken
        self._box.again()
        if not self.why:
            with suppress(Exception):  # it is noted in the boxes
                sync(self._workspace, self._uri)

    def deliver(self, *, at_once: bool = False) -> None:
        """Connects and delivers what waits, unless that failed a moment ago."""
        if self.why and not at_once and time.monotonic() < self._again:
            return
        try:
            self._tracking = self._tracking or Tracking(self._workspace, self._uri)
            if self._box is not None:
                self._delivery = self._delivery or Delivery(self._tracking, self._box)
                self._delivery.deliver(_alone.is_set)
            self.why = ""
        except Exception as error:
            self._failed(error)

    def known(self) -> dict[str, str | None]:
        """Returns the sweep's run, as an answer."""
        return {"run": None if self._delivery is None else self._delivery.parent}

    def leave(self) -> None:
        """Releases the box; what still waits is for another process."""
        self._locks.close()

    def _failed(self, error: Exception) -> None:
        pause = _PAUSE if isinstance(error, Away) else _REFUSED
        self.why, self._again = without_secrets(_reason(error), self._uri), time.monotonic() + pause
        if self._box is not None:
            with suppress(WorkspaceError):  # a full disk: the reason is lost, the letters are not
                self._box.explain(self.why)


_alone = threading.Event()  # set once the sweep's process is gone


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library may print, in Python or below; only answers go to the pipe
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    post = None
    while not _alone.is_set():
        try:
            order = orders.get(timeout=_PAUSE if post is not None and post.why else None)
        except queue.Empty:
            order = {"do": "deliver"}
        if order["do"] == "open":
            post = _Post(order["root"], order["uri"])
        if post is not None and (answer := _obeyed(post, order)) is not None:
            _answer(answer, answers)
        if order["do"] == "leave":
            post = None


def _obeyed(post: _Post, order: dict[str, Any]) -> dict[str, Any] | None:
    """Executes an order. Returns the answer, if it asks for one."""
    match order["do"]:
        case "open":
            return _opened(post, bool(order["answer"]))
        case "take":
            post.take(order["box"])
            post.deliver()
        case "deliver":
            post.deliver()
        case "settle":
            post.deliver(at_once=True)
            return post.known()
        case "leave":
            post.leave()
            return post.known()
    return None


def _opened(post: _Post, answer: bool) -> dict[str, Any] | None:
    if not answer:
        post.deliver()
        return None
    try:
        post.connect()
    except LanelockError as error:
        return {"refused": str(error)}
    except Exception:
        return {"broken": without_secrets(traceback.format_exc())}
    return post.known()


def _read(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    _alone.set()
    orders.put({"do": "end"})


def _answer(answer: dict[str, Any], answers: TextIO) -> None:
    try:
        print(json.dumps(answer), file=answers, flush=True)
    except BrokenPipeError:
        _alone.set()
