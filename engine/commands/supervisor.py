"""A process that starts programs for its parent, one at a time, and ends all that they leave behind.

It is run as a script, with no library but Python's own: `supervisor.py FOLDER PARENT`. A line of JSON on its standard
input describes a program; a line on its standard output says how that program ended. When its input is closed, or its
parent is gone, it ends the program with all its descendants, removes FOLDER, and ends itself. Descendants that leave
their session or their parent become children of this process (PR_SET_CHILD_SUBREAPER), so that none is lost.
"""

# Without pathlib, which a start of Python would take a quarter longer for.
# ruff: noqa: PTH102, PTH123, PTH208
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

_PDEATHSIG, _SUBREAPER = 1, 36  # of prctl(2)
LOOK = 0.02  # seconds between two looks at a program's memory
_PATIENCE = 5.0  # seconds for killed processes to be gone
_PAGE = os.sysconf("SC_PAGE_SIZE")
_INPUT = 0
_libc = ctypes.CDLL(None)


def main(folder: str, parent: int) -> None:
    """Serves requests until there will be no more."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    _libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    os.umask(0o077)
    os.mkdir(folder)
    try:
        watched = os.pidfd_open(parent)
        os.write(1, b"ready\n")
        while os.getppid() == parent and (request := _next(watched)):
            ended = _run(json.loads(request), watched)
            if ended is None:
                return
            os.write(1, json.dumps(ended).encode() + b"\n")
    finally:
        _end_all()
        remove(folder)


def _next(watched: int) -> bytes:
    """Returns the next request, a line; nothing where there will be none."""
    line = b""
    while not line.endswith(b"\n"):
        if watched in select.select([_INPUT, watched], [], [])[0] or not (part := os.read(_INPUT, 1 << 16)):
            return b""
        line += part
    return line


def _run(job: dict[str, Any], watched: int) -> dict[str, Any] | None:
    """Runs a program to its end and returns how it ended; None where nobody waits for it any more."""
    began = time.monotonic()
    try:
        pid = _start(job)
    except OSError as error:
        return {"refused": os.strerror(error.errno or 0)}
    over = _await(pid, job, watched, None if job["seconds"] is None else began + job["seconds"])
    if over is not None:
        os.killpg(pid, signal.SIGKILL)  # it is our child and not yet waited for: the number is still its own
    status, usage = os.wait4(pid, 0)[1:]
    _end_all()
    peak = usage.ru_maxrss << 10
    if over == "" and job["memory"] is not None and peak > job["memory"]:
        over = "memory"  # between two looks
    code = os.waitstatus_to_exitcode(status)
    return (
        None
        if over == "gone"
        else {"code": code, "over": over or "", "peak": peak, "seconds": time.monotonic() - began}
    )


def _await(pid: int, job: dict[str, Any], watched: int, until: float | None) -> str | None:
    """Waits for a program's end. Returns why it has to be ended ("seconds", "memory", "gone"), or None."""
    ended = os.pidfd_open(pid)
    try:
        while True:
            left = None if until is None else max(until - time.monotonic(), 0)
            wait = left if job["memory"] is None else min(LOOK, LOOK if left is None else left)
            ready = select.select([ended, _INPUT, watched], [], [], wait)[0]
            if ended in ready:
                return None
            if ready:
                return "gone"
            if until is not None and time.monotonic() >= until:
                return "seconds"
            if job["memory"] is not None and in_use(os.getpid(), job["memory"]) > job["memory"]:
                return "memory"
    finally:
        os.close(ended)


def _start(job: dict[str, Any]) -> int:
    """Starts a program in a session of its own and returns its id. Raises OSError if it cannot be started."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(job)
        except BaseException as error:
            os.write(tell, str(getattr(error, "errno", 0)).encode())
        finally:
            os._exit(127)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        if failed := file.read():  # closed unwritten by a successful exec
            os.waitpid(pid, 0)
            raise OSError(int(failed), "")
    for stream in job["streams"]:
        if isinstance(stream, int):
            os.close(stream)  # a pipe between the parent and the program
    return pid


def _become(job: dict[str, Any]) -> None:
    """Turns this process into the program."""
    os.setsid()
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.chdir(job["cwd"])
    for number, stream in enumerate(job["streams"]):
        if isinstance(stream, int):
            os.set_inheritable(stream, False)
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(stream if isinstance(stream, int) else os.open(stream, flags, 0o600), number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (job["file"], job["file"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; a program would inherit that
        signal.signal(ignored, signal.SIG_DFL)
    os.execve(job["program"], job["argv"], job["env"])


def _end_all() -> None:
    """Kills every descendant and waits until they are gone."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:  # already gone
                continue
        time.sleep(0.001)


def _descendants(pid: int) -> Iterator[int]:
    """Yields the ids of all processes below one."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        for child in _text(f"/proc/{pid}/task/{thread}/children").split():
            yield int(child)
            yield from _descendants(int(child))


def in_use(pid: int, limit: int) -> int:
    """Returns the resident bytes of all descendants of a process; above `limit`, what they share is counted once."""
    pids = [*_descendants(pid)]
    resident = sum(int((_text(f"/proc/{pid}/statm").split() or "00")[1]) for pid in pids) * _PAGE
    return resident if resident <= limit else sum(map(_proportional, pids))


def _proportional(pid: int) -> int:
    """Returns the bytes of a process, with its part of what it shares."""
    rows = [line.split() for line in _text(f"/proc/{pid}/smaps_rollup").splitlines()]
    return sum(int(row[1]) for row in rows if row[0] == "Pss:") << 10


def _text(path: str) -> str:
    """Returns the content of a file below /proc; nothing if its process is gone."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def remove(folder: str) -> None:
    """Removes a folder with all that is in it, however deep, also where the right to do so was taken away."""
    import shutil  # late: a start needs neither
    import subprocess

    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
