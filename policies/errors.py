"""The five errors of Lanelock, grouped by who must act. A failed gate is a verdict, never an error.

Every message is one line: what was read, the field, what was seen, what is allowed.
"""

from __future__ import annotations


class LanelockError(Exception):
    """Anything a command reports in one line; `exit_code` is what the command then leaves with."""

    exit_code = 2


class PolicyError(LanelockError):
    """Mend the policy, pack or gate file."""


class DataError(LanelockError):
    """Mend the input tables (a world or another data set brought in from outside, a metric that is NaN)."""


class LaneError(LanelockError):
    """Mend the lane or how it was called."""


class WorkspaceError(LanelockError):
    """Mend the place: read-only, full, locked by another sweep, or written by a newer version."""


class IntegrityError(LanelockError):
    """Stop: something recorded was changed."""

    exit_code = 3
