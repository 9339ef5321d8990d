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
