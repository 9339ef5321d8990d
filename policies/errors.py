"""Lanelock's errors, grouped by who must act. A failed gate is a verdict, never an error.

Every message is one line: the file, the field, the value, what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LanelockError(Exception):
    """An error that a command reports in one line before it exits with `exit_code`."""

    exit_code = 2

    def worded(self, text: str) -> LanelockError:
        """Returns the same error with another text."""
        return type(self)(text)


class PolicyError(LanelockError):
    """Fix the policy, pack or gate file."""


class DataError(LanelockError):
    """Fix the input tables (an imported world or data set, a metric that is NaN)."""


class LaneError(LanelockError):
    """Fix the lane, or the options it was run with."""


class EngineError(LaneError):
    """Fix the engine: it raised, or gave what no engine gives. `what` is that alone, without `where`.

    `details`: all that it said, if that is more than a line.
    """

    def __init__(self, where: str, what: str, details: str = "") -> None:
        super().__init__(f"{where}: {what}")
        self.what, self.details = what, details

    def worded(self, text: str) -> LanelockError:
        where, _, _ = text.rpartition(f": {self.what}")
        return EngineError(where or text, self.what, self.details)


class WorkspaceError(LanelockError):
    """Fix the workspace: read-only, full, locked by another sweep, or written by a newer version."""


class RefusedError(LanelockError):
    """Look at the rule that refuses this, such as a freeze: it is an answer and no fault."""

    exit_code = 1


class Failed(Exception):
    """Raised by an engine of a user's to fail a trial for a reason, which is shown as it is."""


class IntegrityError(LanelockError):
    """Stop: a recorded file was changed."""

    exit_code = 3


@contextmanager
def referred_to_by(where: str) -> Iterator[None]:
    """Puts `where`, a document and its field, before an error about what that field refers to."""
    try:
        yield
    except LanelockError as error:
        said = str(error).removeprefix(f"{where}: ")  # it may name the document by itself
        raise error.worded(f"{where}: {said}") from None


def cause(error: BaseException) -> str:
    """Returns one line on what an engine raised: its kind, unless it is one of ours, and its message's first line."""
    if isinstance(error, EngineError):
        return error.what
    kind = "" if isinstance(error, LanelockError | Failed) else type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an engine's own exception may fail to say what it is
        lines = []
    return ": ".join(filter(None, (kind, *lines[:1]))) or type(error).__name__


@contextmanager
def out_of_memory(where: str) -> Iterator[None]:
    """Turns a MemoryError into an EngineError: what ran took more memory than there is."""
    try:
        yield
    except MemoryError as error:
        raise EngineError(where, cause(error)) from error


@contextmanager
def blamed(where: str) -> Iterator[None]:
    """Turns what an engine raises into an EngineError; errors that already say who must act are left as they are."""
    try:
        yield
    except (LanelockError, OSError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise EngineError(where, cause(error)) from error
