"""Looking at a lane before spending on it: what each gate can reach, and whether the lane is played at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lanelock.engine.protocol import Run
from lanelock.policies import Pack
from lanelock.scoring.feasibility import Bound, Box, GateReach, frozen, reach
from lanelock.sweeps.lanes.decision import Blocker, Decision

if TYPE_CHECKING:
    from lanelock.sweeps.lanes.lane import Lane


def prospect(lane: Lane, world: Path | None) -> tuple[GateReach, ...]:
    """What each gate can at best reach in this lane, from the frozen upstream and the knob box alone."""
    return reach(lane.gates, {seed: _bounds(lane, seed, world) for seed in lane.seeds})


def refusal(lane: Lane, found: tuple[GateReach, ...]) -> Decision | None:
    """NO_GO without a trial where a gate's bound forbids the lane's accept band; None where none does."""
    accept = lane.document["decision"]["accept_band"]
    blockers = tuple(
        Blocker(
            gate=row.gate,
            metric=row.metric,
            band=accept,
            value=row.bound,
            threshold=row.thresholds[accept],
            seed=row.seed or 0,
            bound=row.bound,
            proof=row.proof,
            movable_by=row.movable_by,
        )
        for row in found
        if not row.reachable.get(accept, True)
    )
    if not blockers:
        return None
    told = "; ".join(f"{row.gate}: {row.proof}, against {row.threshold:.6g}" for row in blockers)
    reason = f"refused without a trial: band {accept} is out of reach. {told}"
    return Decision("NO_GO", "FAIL_REALISM", reason, None, blockers)


def _bounds(lane: Lane, seed: int, world: Path | None) -> list[Bound]:
    box = Box(
        lane.start,
        {knob.at: knob.ends() for knob in lane.knobs},
        frozenset(knob.at for knob in lane.knobs if knob.choices),
        partial(_run, lane, seed, world),
    )
    return [*lane.metrics.bounds(box), *frozen(box, lane.engine.states, lane.gates, lane.measure)]


def _run(lane: Lane, seed: int, world: Path | None, pack: Pack, until: str) -> Run:
    return lane.engine.evaluate(pack, seed, world=world, until=until)
