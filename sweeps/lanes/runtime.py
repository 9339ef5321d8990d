"""What an accepted candidate costs in time beside its authority: a lane's precondition, outside every metric.

Both packs are run on seeds that nothing has used, so that no remembered state is timed, turn and turn about. What
counts is the middle one of the ratios round by round, in processor seconds: on a busy machine the least of each side's
seconds still swung by a fifth over five rounds, this by a twentieth over twenty-five.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lanelock.policies import Pack
from lanelock.sweeps.lanes.decision import Blocker, Decision
from lanelock.sweeps.lanes.lane import Lane

ROUNDS = 25  # odd: one of them is the middle


@dataclass(frozen=True, slots=True)
class Runtime:
    """Seconds of the timed states, and how they compare."""

    authority_seconds: float  # of the processor, median over the rounds
    candidate_seconds: float  # the same
    ratio: float  # candidate's to authority's in one round, median over the rounds
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
    sides = {"authority": lane.authority, "candidate": candidate}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name in sides if turn % 2 else reversed(sides):
            seed = secrets.randbelow(1 << 32)  # each its own: where the packs are alike so far, a state is not reused
            began = time.process_time()
            lane.engine.evaluate(sides[name], seed, world=world, until=asked["until"])
            spent[name].append(time.process_time() - began)
    theirs, ours = (spent[name][1:] for name in sides)
    ratio = statistics.median(mine / its for its, mine in zip(theirs, ours, strict=True))
    at_most = float(asked["at_most_times"])
    return Runtime(statistics.median(theirs), statistics.median(ours), ratio, at_most)


def hold_to_runtime(decision: Decision, found: Runtime | None, lane: Lane) -> Decision:
    """The decision, turned to NO_GO where the candidate takes too long."""
    if found is None or found.holds or decision.outcome != "GO":
        return decision
    proof = (
        f"the candidate takes {found.ratio:.2f} times what the authority takes, {found.at_most:g} are allowed "
        f"({found.candidate_seconds:.3f} s against {found.authority_seconds:.3f} s)"
    )
    band, verdict = lane.document["decision"]["accept_band"], str(lane.gates.of_band(None))
    blocker = Blocker(  # of no gate: a lock's document has this one place for what stood in the way
        gate="runtime",
        metric="seconds/ratio",
        band=band,
        value=found.ratio,
        threshold=found.at_most,
        seed=0,
        bound=None,
        proof=proof,
        movable_by="",
    )
    return replace(decision, outcome="NO_GO", verdict=verdict, reason=f"runtime: {proof}", blockers=(blocker,))
