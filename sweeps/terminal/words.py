"""What a person reads about a sweep, a refusal and a lock. Nothing here computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import parse_gates
from lanelock.sweeps.decision.decision import Decision, best_found
from lanelock.sweeps.decision.reserve import asked_of_gates, ceiling_of, reserve_of
from lanelock.sweeps.decision.stopping import distance, provable
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import STATES, Ledger
from lanelock.sweeps.lanes.limits import limits_lines, limits_used
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial, engine_runs
from lanelock.sweeps.pages.gates import gate_table, reach_table
from lanelock.sweeps.pages.text import columns, one_line, short, terms_text
from lanelock.sweeps.proof.lock import Lock

if TYPE_CHECKING:
    from lanelock.sweeps.sweep import Closed  # a refused lane never pays for importing the search


def best_document(closed: Closed) -> dict[str, Any] | None:
    """Returns the chosen trial as JSON: its knobs, objectives and worst metrics."""
    best = closed.decision.best
    if best is None:
        return None
    measures = best.record.document["measures"]
    return {
        "trial": best.number,
        "values": dict(best.values),
        "knobs": dict(best.values),  # the field's name up to version 0.2
        "objectives": closed.ledger.named(best) or None,
        **({"terms": terms} if (terms := closed.ledger.terms(best)) else {}),
        "verdict": closed.decision.verdict,
        "metrics": measures,
    }


def closed_document(closed: Closed) -> dict[str, Any]:
    """Returns a closed sweep as JSON."""
    start, ledger = closed.start, closed.ledger
    states = Counter(map(ledger.state, closed.trials))
    return {
        **closed.decision.as_document(),
        "sweep": closed.sweep,
        "best": best_document(closed),
        "start": None if start is None else ledger.named(start) or None,
        "lock": str(closed.lock),
        "trials": {
            "number": len(closed.trials),
            "distinct": len({tuple(trial.values.items()) for trial in closed.trials}),
            "repeats": sum(trial.record.repeats for trial in closed.trials),
            "taken": sum(not trial.paid for trial in closed.trials),
            "runs": engine_runs(closed.trials),
            **{state: states[state] for state in STATES},
        },
        "provable": provable_document(closed),
        "reserve": reserve_document(closed.trials, ledger),
        **({"limits": limits} if (limits := limits_used(ledger.ground.lane, closed.trials)) else {}),
        "stopped_by": closed.stopped_by,
        "seconds": dict(closed.seconds),
    }


def reserve_document(history: Sequence[Trial], ledger: Ledger) -> dict[str, Any]:
    """Returns the reserve in use as JSON, with what it asks of every gate."""
    reserve = reserve_of(history, ledger)
    return {
        "value": reserve.value,
        "asked": reserve.asked,
        "ceiling": None if reserve.ceiling is None else asdict(reserve.ceiling),
        "asks": list(asked_of_gates(ledger.ground.lane, reserve.value)),
    }


def reserve_text(lane: Lane, reach: Sequence[GateReach]) -> str:
    """Returns what the lane's reserve asks of every gate, and whether it is beyond what is provably possible."""
    decision, ceiling = lane.document["decision"], ceiling_of(Ground(lane, None, {}, tuple(reach)))
    first = lane.objectives[0].name
    if "reserve" in decision:
        purpose = decision["reserve"]
        return (
            f"reserve: {first} such that {purpose['coverage']:.4g} of all seeds hold with confidence "
            f"{purpose['confidence']:.4g}, estimated from the spread over {len(lane.seeds)} seeds as trials come in"
        )
    asked = float(decision["margin_reserve"])
    used, capped = asked, ""
    if ceiling is not None and asked > ceiling.value:
        used = ceiling.value
        capped = (
            f", beyond the proven ceiling: {ceiling.gate} allows at most {used:.6g} ({ceiling.proof}), which is used"
        )
    asks = "; ".join(asked_of_gates(lane, used))
    return f"reserve: {first} {asked:g}{capped}" + (f"; asks {asks}" if asks else "")


def refused_document(refused: Decision) -> dict[str, Any]:
    """Returns a refusal as JSON, in the shape of a closed sweep."""
    return {
        **refused.as_document(),
        "refused": True,
        "sweep": None,
        "best": None,
        "lock": None,
        "trials": {"number": 0},
    }


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
        results = [(*cards[seed].gates, *cards[seed].observed) for seed in lane.seeds if seed in cards]
        lines += [columns(*gate_table(results, ("gate", "kind", "", "bands", "seeds", "holds"))), ""]
        lines += [*(f"{name} = {terms_text(terms)}" for name, terms in closed.ledger.terms(best).items())]
    if runtime is not None:
        seconds = f"{runtime.candidate_seconds:.3f} s against the authority's {runtime.authority_seconds:.3f} s"
        lines.append(f"runtime {seconds}: {runtime.ratio:.2f} times, limit {runtime.at_most:g}")
    return "\n".join([*lines, *_spent(closed), f"lock   {closed.lock}", f"prove  lanelock verify {closed.lock.stem}"])


def _spent(closed: Closed) -> Iterator[str]:
    """Yields what the sweep spent, why it stopped, and how far it is from what is provably possible."""
    wall, search, ledger = closed.seconds["wall"], closed.seconds["search"], closed.ledger
    spent = f"{search:.1f} s evaluating, {wall - search:.1f} s start-up, tracking and report"
    states, vetoes = Counter(map(ledger.state, closed.trials)), ledger.vetoes(closed.trials)
    vetoed = ", ".join(f"{name} {count}" for name, count in sorted(vetoes.items())) or "none"
    yield f"{len(closed.trials)} trials in {wall:.1f} s: {spent}; vetoed: {vetoed}"
    ended = f"; behind on the first seeds: {states['behind']}" if states["behind"] else ""
    failed = [trial.record.failure for trial in closed.trials if trial.failed]
    ended += f"; failed {len(failed)}: {failed[-1]}" if failed else ""
    repeats = sum(trial.record.repeats for trial in closed.trials)
    ended += f"; known candidates proposed again: {repeats}, at no cost" if repeats else ""
    yield f"{engine_runs(closed.trials)} engine runs{ended}; stopped: {closed.stopped_by}"
    yield from limits_lines(closed.ground.lane, closed.trials)
    yield from (f"provable: {text}" for text in _distances(closed))
    start = closed.start
    if start is not None and (values := ledger.named(start)):
        reached = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        yield f"start: {reached} (trial {start.number})"


def _distances(closed: Closed) -> list[str]:
    """Returns, per objective, how far the best trial is from what is provable."""
    best, limits = closed.decision.best, provable(closed.ground)
    values = {} if best is None else closed.ledger.named(best)
    both = (row for row in closed.ground.lane.objectives if row.name in values and row.name in limits)
    return [distance(values[row.name], limits[row.name], row) for row in both]


def provable_document(closed: Closed) -> dict[str, Any]:
    """Returns, per objective and per gate with a proven bound, the bound, the best found, and the gap between them."""
    ground, best, limits = closed.ground, closed.decision.best, provable(closed.ground)
    values = dict[str, float]()
    if best is not None:
        found = best_found(closed.ledger.overall(best), closed.trials, closed.ledger)
        values = {**closed.ledger.named(best), **found}
    bounds = {row.gate: row.bound for row in ground.reach if row.bound is not None and row.thresholds} | limits
    return {
        name: {"bound": bound, "found": values[name], "gap": abs(values[name] - bound)}
        for name, bound in bounds.items()
        if name in values
    }


def _whole_text(lock: Lock) -> str:
    """Returns what a lock states of its candidate's runs to the last state."""
    failed = ", ".join(str(seed) for seed, run in lock.whole.items() if run.audit is False)
    audited = f"the audit fails on seeds {failed}" if failed else "audited"
    if all(run.audit is None for run in lock.whole.values()):
        audited = "not audited: the engine has no audit"
    return f"{len(lock.whole)}, published and checked, {audited}"


def lock_text(lock: Lock) -> str:
    """Returns a lock's facts, and its metrics per seed."""
    profile = parse_gates(lock.gates, lock.name).profile_text(lock.seeds)
    waiver = lock.lane_document.get("waiver")
    head = {
        "lock": lock.lock_id,
        "decision": f"{lock.decision} ({lock.candidate} candidate, {lock.verdict})",
        "because": lock.because,
        "reason": lock.reason,
        **({} if lock.chosen_by_hand is None else {"by hand": lock.chosen_by_hand}),
        "lane": f"{lock.lane_document['id']}: {lock.lane_document['title']}",
        "sweep": f"{lock.sweep}, trial {lock.trial}",
        **({} if waiver is None else {"waiver": f"{waiver['who']}: {waiver['why']}"}),
        "knobs": ", ".join(f"{name} {short(value)}" for name, value in lock.knobs.items()),
        "pack": lock.candidate_pack.digest,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
        "code": lock.code_version,
        "seeds": ", ".join(map(str, lock.seeds)) + (f" ({profile})" if profile else ""),
        **({"whole runs": _whole_text(lock)} if lock.whole else {}),
    }
    width = max(map(len, head))
    lines = [f"{name:<{width}}  {one_line(value)}" for name, value in head.items()]
    measures = [lock.proof[seed].metrics for seed in lock.seeds]
    rows = [(name, *(short(metrics.get(name)) for metrics in measures)) for name in sorted(measures[0])]
    return "\n".join([*lines, "", columns(("metric", *(f"seed {seed}" for seed in lock.seeds)), rows)])
