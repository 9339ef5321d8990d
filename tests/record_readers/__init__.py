"""Strict readers of the record's form, and its consumers, written from its layout and independent of what writes it.

A tree is a run's root folder. `read_all` opens every file in it, holds each to its schema and all of them to each
other, and refuses what is unknown, missing, out of order or of another form. The consumers read what the record's own
scorers and its floor analyser read.
"""

from record_readers.checks import CHECKS, read_all
from record_readers.consumers import floor_shares, p0_scores, p1_scores, p2_scores, p3_scores
from record_readers.kinds import Unreadable
from record_readers.tree import Tree

__all__ = [
    "CHECKS", "Tree", "Unreadable", "floor_shares", "p0_scores", "p1_scores", "p2_scores", "p3_scores", "read_all",
]  # fmt: skip
