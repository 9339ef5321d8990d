"""What may be tuned: packs, schemas, gates and lanes as data, and the one way to load and compare them."""

from policies.errors import DataError, IntegrityError, LaneError, PolicyError, ProofmarkError, WorkspaceError
from policies.pack import FieldChange, Pack, Policy, Schemas, diff, load_pack, pack_of

__all__ = [
    "DataError",
    "FieldChange",
    "IntegrityError",
    "LaneError",
    "Pack",
    "Policy",
    "PolicyError",
    "ProofmarkError",
    "Schemas",
    "WorkspaceError",
    "diff",
    "load_pack",
    "pack_of",
]
