"""The run time of an accepted candidate against its authority's: a lane's precondition, outside every metric.

The two packs run alternately, each time on an unused seed, so that no cached state is timed. The median of the ratios
per round decides, in processor seconds: on a busy machine it varied by a twentieth over 25 rounds, whereas each side's
minimum varied by a fifth over five.
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
from lanelock.policies.errors import out_of_memory
from lanelock.sweeps.decision.decision import Blocker, Decision
from lanelock.sweeps.lanes.lane import Lane

RUNTIME = "runtime"  # in place of a gate's id, for a candidate that takes too long
ROUNDS = 25  # odd, so that the median is one of them


@dataclass(frozen=True, slots=True)
class Runtime:
    """Seconds of the timed states, and their ratio."""

    authority_seconds: float  # processor time, median over the rounds
    candidate_seconds: float  # the same
    ratio: float  # candidate / authority per round, median over the rounds
    at_most: float

    @property
    def holds(self) -> bool:
        return self.ratio <= self.at_most

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


def time_candidate(lane: Lane, candidate: Pack, world: Path | None, locked: Pack | None = None) -> Runtime | None:
    """Times both packs; None where the lane sets no limit. The first round warms up and does not count.

    `locked`: the pack of the runtime lock that the lane is held to, in place of its authority. It runs on this machine
    too, so that the ratio is that to the locked seconds on whichever machine.
    """
    limit: Mapping[str, Any] | None = lane.document.get("runtime")
    if limit is None:
        return None
    with out_of_memory(f"engine {lane.engine.name}: timing pack {candidate.name}"):
        return _timed(lane, locked or lane.authority, candidate, world, limit)


def _timed(lane: Lane, before: Pack, candidate: Pack, world: Path | None, limit: Mapping[str, Any]) -> Runtime:
    sides = {"authority": before, "candidate": candidate}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name in sides if turn % 2 else reversed(sides):
            seed = secrets.randbelow(1 << 32)  # one per run: packs that are alike so far would share a cached state
            began = time.process_time()
            lane.engine.evaluate(sides[name], seed, world=world, until=limit["until"])
            seconds[name].append(time.process_time() - began)
    theirs, ours = (seconds[name][1:] for name in sides)
    ratio = statistics.median(mine / its for its, mine in zip(theirs, ours, strict=True))
    return Runtime(statistics.median(theirs), statistics.median(ours), ratio, float(limit["at_most_times"]))


def hold_to_runtime(decision: Decision, runtime: Runtime | None, lane: Lane) -> Decision:
    """Returns the decision, changed to NO_GO where the candidate takes too long."""
    if runtime is None or runtime.holds or decision.outcome != "GO":
        return decision
    before = "what was locked" if "against" in lane.document["runtime"] else "what the authority takes"
    proof = (
        f"the candidate takes {runtime.ratio:.2f} times {before}, {runtime.at_most:g} are allowed "
        f"({runtime.candidate_seconds:.3f} s against {runtime.authority_seconds:.3f} s)"
    )
    band, verdict = lane.document["decision"]["accept_band"], str(lane.gates.of_band(None))
    # Not a gate, but a lock has no other field for what stood in the way.
    blocker = Blocker(RUNTIME, "seconds/ratio", band, runtime.ratio, runtime.at_most, seed=0, proof=proof)
    return replace(decision, outcome="NO_GO", verdict=verdict, reason=f"runtime: {proof}", blockers=(blocker,))
