"""What a person sees: tables, scorecards, a sweep's closing words. Nothing here computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.lanes.decision import Decision
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.pages.gates import gate_table, reach_table
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.proof.lock import Lock

if TYPE_CHECKING:
    from lanelock.sweeps.sweep import Closed  # a lane that is refused never pays for the search


def best_document(closed: Closed) -> dict[str, Any] | None:
    """The chosen trial for machines: its knobs, objectives and worst metrics."""
    best = closed.decision.best
    if best is None:
        return None
    names = [objective.name for objective in closed.ground.lane.objectives]
    objectives = None if best.objectives is None else dict(zip(names, best.objectives, strict=True))
    measures = best.record.document["measures"]
    return {"trial": best.number, "knobs": dict(best.values), "objectives": objectives, "metrics": measures}


def refused_document(refused: Decision) -> dict[str, Any]:
    """A refusal for machines, in the shape of a closed sweep."""
    return {**refused.as_document(), "refused": True, "sweep": None, "best": None, "lock": None, "trials": 0}


def refusal_text(lane: Lane, refused: Decision, found: Sequence[GateReach]) -> str:
    """Why a lane was not played: what, why, the table, and how to play it all the same."""
    lines = [f"{refused.outcome}  {lane.title}", f"  {refused.reason}", "", reach_table(found, lane.gates.bands), ""]
    return "\n".join([*lines, f"no trial was run; for the best that can be had: lanelock sweep {lane.id} --anyway"])


def closing(closed: Closed) -> str:
    """How a sweep ended, in the order a reader asks: what, why, which candidate, where."""
    decision, lane = closed.decision, closed.ground.lane
    wall, search = closed.seconds["wall"], closed.seconds["search"]
    rate = len(closed.trials) / search
    lines = [f"{decision.outcome}  {lane.title}", f"  {decision.reason}", ""]
    best = decision.best
    if best is not None:
        knobs = ", ".join(f"{name} {short(value)}" for name, value in best.values.items())
        lines += [f"best trial {best.number}: {knobs}", ""]
        found = closed.ledger.cards(best)
        results = [found[seed].gates for seed in lane.seeds if seed in found]
        lines += [columns(*gate_table(results, ("gate", "kind", "", "bands", "seeds", "holds"))), ""]
    if closed.runtime is not None:
        timed = closed.runtime
        seconds = f"{timed.candidate_seconds:.3f} s against the authority's {timed.authority_seconds:.3f} s"
        lines.append(f"runtime {seconds}: {timed.ratio:.2f} times, at most {timed.at_most:g} are allowed")
    vetoes = closed.ledger.vetoes(closed.trials)
    vetoed = ", ".join(f"{name} ended {count}" for name, count in sorted(vetoes.items())) or "no trial was vetoed"
    lines += [
        f"{len(closed.trials)} trials in {search:.1f} s ({rate:.1f}/s), {wall - search:.1f} s around them; {vetoed}",
        f"lock   {closed.lock}",
        f"prove  lanelock verify {closed.lock.stem}",
    ]
    return "\n".join(lines)


def lock_text(lock: Lock) -> str:
    """A lock for a reader."""
    head = {
        "lock": lock.lock_id,
        "decision": f"{lock.decision} ({lock.candidate} candidate, {lock.verdict})",
        "reason": lock.reason,
        "lane": f"{lock.lane_document['id']}: {lock.lane_document['title']}",
        "sweep": f"{lock.sweep}, trial {lock.trial}",
        "knobs": ", ".join(f"{name} {short(value)}" for name, value in lock.knobs.items()),
        "pack": lock.candidate_pack.digest,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
        "code": lock.code_version,
        "seeds": ", ".join(map(str, lock.seeds)),
    }
    width = max(map(len, head))
    lines = [f"{name:<{width}}  {value}" for name, value in head.items()]
    measures = [lock.proof[seed].metrics for seed in lock.seeds]
    rows = [(name, *(short(metrics.get(name)) for metrics in measures)) for name in sorted(measures[0])]
    return "\n".join([*lines, "", columns(("metric", *(f"seed {seed}" for seed in lock.seeds)), rows)])
