"""The record's form of a moment."""

from __future__ import annotations

import datetime as dt


def micros(moment: str) -> str:
    """Returns a moment in RFC 3339 as UTC with exactly six fraction digits: 2026-01-01T00:00:00.000000Z."""
    utc = dt.datetime.fromisoformat(moment).astimezone(dt.UTC)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")
