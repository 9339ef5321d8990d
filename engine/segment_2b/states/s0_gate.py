"""S0, the gate: seals every input of a run before any state reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lanelock.engine.segment_2b.world import World
from lanelock.policies import Pack, PolicyError
from lanelock.policies.documents import digest

ENGINE = "segment_2b"


@dataclass(frozen=True, slots=True)
class Asset:
    """One sealed input."""

    asset_id: str
    kind: str  # "world", "policy" or "roster"
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SealedInputs:
    """The receipt of S0. Later states read only the inputs listed here."""

    manifest_fingerprint: str  # hex64, the world's digest
    parameter_hash: str  # hex64, the pack's digest
    seed: int
    created_utc: str  # the verified time of the world policy, never a clock
    assets: tuple[Asset, ...]

    @property
    def rows(self) -> int:
        return len(self.assets)

    def digests(self) -> dict[str, str]:
        """Returns asset id -> sha256 (hex64)."""
        return {asset.asset_id: asset.sha256 for asset in self.assets}


def seal(world: World, pack: Pack, seed: int, roster_sha256: str | None = None) -> SealedInputs:
    """Seals the world, every policy of the pack and an imported roster, in order of asset id.

    World and roster are sealed by content, so the same tables in another file are the same input. Raises PolicyError
    if two kinds of draw would share a random stream.
    """
    _keep_streams_apart(pack)
    policies = (Asset(name, "policy", name.rpartition("_")[2], policy.digest) for name, policy in pack.policies.items())
    assets = [Asset("upstream_world", "world", world.source, world.digest), *policies]
    if roster_sha256 is not None:
        assets.append(Asset("arrival_roster", "roster", "imported", roster_sha256))
    assets.sort(key=lambda asset: asset.asset_id)
    return SealedInputs(world.digest, pack.digest, seed, verified_utc(pack["world_v1"]), tuple(assets))


def verified_utc(policy: Mapping[str, Any]) -> str:
    """Returns the world policy's verified time with the six fraction digits that every published time has."""
    seconds, _, fraction = str(policy["verified_utc"]).removesuffix("Z").partition(".")
    return f"{seconds}.{fraction.ljust(6, '0')}Z"


def run_id_of(pack: Pack, seed: int, sealed: SealedInputs) -> str:
    """Returns the run's id (hex32), which the sealed inputs and the seed determine."""
    return digest([ENGINE, pack.digest, seed, [asdict(asset) for asset in sealed.assets]])[:32]


def _keep_streams_apart(pack: Pack) -> None:
    """Raises PolicyError if two draws name the same stream: at the same address they would get the same number."""
    taken = {str(pack["day_effect_policy_v1"]["rng_stream_id"]): "day_effect_policy_v1: /rng_stream_id"}
    for what, name in sorted(pack["route_rng_policy_v1"]["streams"].items()):
        where = f"route_rng_policy_v1: /streams/{what}"
        if name in taken:
            raise PolicyError(f"{where}: {name!r} is already the stream of {taken[name]}; each draw needs its own")
        taken[name] = where
