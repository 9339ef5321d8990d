"""S0, the gate: what a run reads, sealed before anything reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

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
    """The receipt of S0. Every later state reads only what stands here."""

    manifest_fingerprint: str  # hex64, the world's digest
    parameter_hash: str  # hex64, the pack's digest
    seed: int
    created_utc: str  # the world's verified time: anchored to the inputs, never to a clock
    assets: tuple[Asset, ...]

    @property
    def rows(self) -> int:
        return len(self.assets)

    def digests(self) -> dict[str, str]:
        """Asset id -> sha256 (hex64)."""
        return {asset.asset_id: asset.sha256 for asset in self.assets}


def seal(world: World, pack: Pack, seed: int, roster_sha256: str | None = None) -> SealedInputs:
    """Seals the world, every policy of the pack and, where one was brought in, the roster; in order of asset id.

    World and roster are sealed by their content, so the same tables in another file are the same input.
    Raises PolicyError where two kinds of draw would share a random stream.
    """
    _keep_streams_apart(pack)
    policies = (Asset(name, "policy", name.rpartition("_")[2], policy.digest) for name, policy in pack.policies.items())
    assets = [Asset("upstream_world", "world", world.source, world.digest), *policies]
    if roster_sha256 is not None:
        assets.append(Asset("arrival_roster", "roster", "imported", roster_sha256))
    assets.sort(key=lambda asset: asset.asset_id)
    return SealedInputs(world.digest, pack.digest, seed, str(pack["world_v1"]["verified_utc"]), tuple(assets))


def run_id_of(pack: Pack, seed: int, sealed: SealedInputs) -> str:
    """Hex32: the same inputs sealed under the same seed are the same run."""
    return digest([ENGINE, pack.digest, seed, [asdict(asset) for asset in sealed.assets]])[:32]


def _keep_streams_apart(pack: Pack) -> None:
    """A stream's key is made of its name: two draws under one name could meet at one address, and be one draw."""
    taken = {str(pack["day_effect_policy_v1"]["rng_stream_id"]): "day_effect_policy_v1: /rng_stream_id"}
    for what, name in sorted(pack["route_rng_policy_v1"]["streams"].items()):
        where = f"route_rng_policy_v1: /streams/{what}"
        if name in taken:
            raise PolicyError(f"{where}: {name!r} is already the stream of {taken[name]}; each draw needs its own")
        taken[name] = where
