"""Lanelock's five errors, grouped by who must act. A failed gate is a verdict, never an error.

Every message is one line: the file, the field, the value, what is allowed.
"""

from __future__ import annotations


class LanelockError(Exception):
    """An error that a command reports in one line before it exits with `exit_code`."""

    exit_code = 2


class PolicyError(LanelockError):
    """Fix the policy, pack or gate file."""


class DataError(LanelockError):
    """Fix the input tables (an imported world or data set, a metric that is NaN)."""


class LaneError(LanelockError):
    """Fix the lane, or the options it was run with."""


class WorkspaceError(LanelockError):
    """Fix the workspace: read-only, full, locked by another sweep, or written by a newer version."""


class IntegrityError(LanelockError):
    """Stop: a recorded file was changed."""

    exit_code = 3


def cause(error: BaseException) -> str:
    """Returns one line on what an engine raised: its kind, unless Lanelock raised it, and its message's first line."""
    kind = "" if isinstance(error, LanelockError) else type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an engine's own exception may fail to say what it is
        lines = []
    return ": ".join(filter(None, (kind, *lines[:1]))) or type(error).__name__
