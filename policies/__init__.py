"""Packs, schemas, gates and lanes as data: how to load, validate and compare them."""

from lanelock.policies.errors import (
    DataError,
    EngineError,
    Failed,
    IntegrityError,
    LaneError,
    LanelockError,
    PolicyError,
    RefusedError,
    WorkspaceError,
)
from lanelock.policies.pack import FieldChange, Pack, Policy, Schemas, diff, load_pack, pack_of

__all__ = [
    "DataError",
    "EngineError",
    "Failed",
    "FieldChange",
    "IntegrityError",
    "LaneError",
    "LanelockError",
    "Pack",
    "Policy",
    "PolicyError",
    "RefusedError",
    "Schemas",
    "WorkspaceError",
    "diff",
    "load_pack",
    "pack_of",
]
