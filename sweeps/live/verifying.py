"""Verifications that a page asked for: each is `lanelock verify` in a process of its own, whose answer is kept."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, Thread

from lanelock.sweeps.workspace import Workspace

_LONGEST = 20_000  # characters of an answer that are shown


@dataclass(frozen=True, slots=True)
class Verification:
    """One call of `verify`, under way or answered."""

    at: str  # when it was asked for, local time
    code: int | None = None  # its exit code; None: it has not ended
    said: str = ""


class Verifying:
    """The verifications that were asked for since the server began, the last of each file."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[Path, Verification] = {}
        self._processes: set[subprocess.Popen[str]] = set()
        self._guard = Lock()

    def of(self, file: Path) -> Verification | None:
        return self._found.get(file)

    def begin(self, file: Path) -> None:
        """Verifies a lock's file, unless that is under way."""
        with self._guard:
            last = self._found.get(file)
            if last is not None and last.code is None:
                return
            self._found[file] = begun = Verification(time.strftime("%Y-%m-%d %H:%M:%S"))
            command = [sys.executable, "-m", "lanelock", "verify", str(file), "--workspace", str(self._workspace.root)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._processes.add(process)
        Thread(target=self._await, args=(file, begun, process), daemon=True).start()

    def end(self) -> None:
        """Ends what is still under way."""
        for process in [*self._processes]:
            process.terminate()

    def _await(self, file: Path, begun: Verification, process: subprocess.Popen[str]) -> None:
        said = process.communicate()[0][-_LONGEST:].strip()
        self._found[file] = replace(begun, code=process.returncode, said=said)
        self._processes.discard(process)
