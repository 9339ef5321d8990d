"""What an accepted candidate costs in time beside its authority: a lane's precondition, outside every metric.

Both packs are run on seeds that nothing has used, so that no remembered state is timed, turn and turn about;
the least of each side's seconds is compared, which a busy machine disturbs the least.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from policies import Pack
from sweeps.decision import Blocker, Decision
from sweeps.lane import Lane

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Runtime:
    """Seconds of the timed states, and how they compare."""

    authority_seconds: float
    candidate_seconds: float
    ratio: float
    at_most: float

    @property
    def holds(self) -> bool:
        return self.ratio <= self.at_most

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


def time_candidate(lane: Lane, candidate: Pack, world: Path | None) -> Runtime | None:
    """Both packs timed; None where the lane asks for nothing. The first round warms up and does not count."""
    asked: Mapping[str, Any] | None = lane.document.get("runtime")
    if asked is None:
        return None
    least = {"authority": float("inf"), "candidate": float("inf")}
    for turn in range(ROUNDS + 1):
        seed = secrets.randbelow(1 << 32)
        sides = [("authority", lane.authority), ("candidate", candidate)]
        for name, pack in sides if turn % 2 else reversed(sides):
            began = time.perf_counter()
            lane.engine.evaluate(pack, seed, world=world, until=asked["until"])
            seconds = time.perf_counter() - began
            least[name] = min(least[name], seconds) if turn else least[name]
    ratio = least["candidate"] / least["authority"]
    return Runtime(least["authority"], least["candidate"], ratio, float(asked["at_most_times"]))


def hold_to_runtime(decision: Decision, found: Runtime | None, band: str) -> Decision:
    """The decision, turned to NO_GO where the candidate takes too long."""
    if found is None or found.holds or decision.outcome != "GO":
        return decision
    proof = (
        f"the candidate takes {found.candidate_seconds:.3f} s where the authority takes {found.authority_seconds:.3f} s"
    )
    blocker = Blocker("runtime", "seconds/ratio", band, found.ratio, found.at_most, 0, None, proof, "")
    return replace(decision, outcome="NO_GO", verdict="FAIL_REALISM", reason=f"runtime: {proof}", blockers=(blocker,))
