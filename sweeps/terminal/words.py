"""What a person reads about a sweep, a refusal and a lock. Nothing here computes."""

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
    from lanelock.sweeps.sweep import Closed  # a refused lane never pays for importing the search


def best_document(closed: Closed) -> dict[str, Any] | None:
    """Returns the chosen trial as JSON: its knobs, objectives and worst metrics."""
    best = closed.decision.best
    if best is None:
        return None
    names = [objective.name for objective in closed.ground.lane.objectives]
    objectives = None if best.objectives is None else dict(zip(names, best.objectives, strict=True))
    measures = best.record.document["measures"]
    return {"trial": best.number, "knobs": dict(best.values), "objectives": objectives, "metrics": measures}


def refused_document(refused: Decision) -> dict[str, Any]:
    """Returns a refusal as JSON, in the shape of a closed sweep."""
    return {**refused.as_document(), "refused": True, "sweep": None, "best": None, "lock": None, "trials": 0}


def refusal_text(lane: Lane, refused: Decision, reach: Sequence[GateReach]) -> str:
    """Returns why a lane was not played, what each gate can reach, and how to play it anyway."""
    lines = [f"{refused.outcome}  {lane.title}", f"  {refused.reason}", "", reach_table(reach, lane.gates.bands), ""]
    return "\n".join([*lines, f"no trial was run; for the best that can be had: lanelock sweep {lane.id} --anyway"])


def closing(closed: Closed) -> str:
    """Returns how a sweep ended, in the order a reader asks: what, why, which candidate, where."""
    decision, lane, runtime = closed.decision, closed.ground.lane, closed.runtime
    lines = [f"{decision.outcome}  {lane.title}", f"  {decision.reason}", ""]
    best = decision.best
    if best is not None:
        knobs = ", ".join(f"{name} {short(value)}" for name, value in best.values.items())
        lines += [f"best trial {best.number}: {knobs}", ""]
        cards = closed.ledger.cards(best)
        results = [cards[seed].gates for seed in lane.seeds if seed in cards]
        lines += [columns(*gate_table(results, ("gate", "kind", "", "bands", "seeds", "holds"))), ""]
    if runtime is not None:
        seconds = f"{runtime.candidate_seconds:.3f} s against the authority's {runtime.authority_seconds:.3f} s"
        lines.append(f"runtime {seconds}: {runtime.ratio:.2f} times, limit {runtime.at_most:g}")
    wall, search = closed.seconds["wall"], closed.seconds["search"]
    spent = f"{search:.1f} s evaluating, {wall - search:.1f} s start-up, tracking and report"
    vetoes = closed.ledger.vetoes(closed.trials)
    vetoed = ", ".join(f"{name} {count}" for name, count in sorted(vetoes.items())) or "none"
    lines += [
        f"{len(closed.trials)} trials in {wall:.1f} s: {spent}; vetoed: {vetoed}",
        f"lock   {closed.lock}",
        f"prove  lanelock verify {closed.lock.stem}",
    ]
    return "\n".join(lines)


def lock_text(lock: Lock) -> str:
    """Returns a lock's facts, and its metrics per seed."""
    head = {
        "lock": lock.lock_id,
        "decision": f"{lock.decision} ({lock.candidate} candidate, {lock.verdict})",
        "reason": lock.reason,
        **({} if lock.chosen_by_hand is None else {"by hand": lock.chosen_by_hand}),
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
