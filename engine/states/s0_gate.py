"""S0, the gate: what a run reads, sealed before anything reads it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import World
from policies import Pack


@dataclass(frozen=True, slots=True)
class Asset:
    """One sealed input."""

    asset_id: str
    kind: str  # "world" or "policy"
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SealedInputs:
    """The receipt of S0. Every later state reads only what stands here."""

    manifest_fingerprint: str  # hex64, the world's digest
    parameter_hash: str  # hex64, the pack's digest
    seed: int
    created_utc: str  # the world's verified time: anchored to the inputs, never to a clock
    assets: tuple[Asset, ...]


def seal(world: World, pack: Pack, seed: int) -> SealedInputs:
    """Seals the world and every policy of the pack, in ASCII order of asset id."""
    policies = (Asset(name, "policy", name.rpartition("_")[2], policy.digest) for name, policy in pack.policies.items())
    assets = sorted([Asset("upstream_world", "world", world.source, world.digest), *policies], key=lambda a: a.asset_id)
    return SealedInputs(world.digest, pack.digest, seed, str(pack["world_v1"]["verified_utc"]), tuple(assets))
