"""Confirms a candidate on fresh seeds before it is locked, and on the witness seeds of its lane before those.

The least intervention sits on the edge of what holds, so a candidate may hold on the seeds of the lane by luck. The
fresh seeds follow from the candidate's own digest: nobody could have searched on them. A candidate that holds less on
them than it claims is passed over for the next in rank.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lanelock.engine.chain import draws_worlds
from lanelock.policies import IntegrityError, Pack, WorkspaceError
from lanelock.policies.errors import cause
from lanelock.scoring.scorecard import GateResult, Scorecard, combine, score
from lanelock.sweeps.decision.decision import Blocker, Confirmation, Decision, decide
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial

USUAL = 8  # fresh seeds where a seed draws a world
_MOST = 16  # candidates that are run on fresh seeds before the lane gives up
_SEED_BITS = 31


Confirm = Callable[[Ground, Pack, Sequence[int], str], Confirmation]


def fresh_seeds(pack_digest: str, count: int, used: Sequence[int], purpose: str = "") -> tuple[int, ...]:
    """Returns `count` seeds that follow from a candidate's digest and a purpose, without those in `used`."""
    drawn = (hashlib.sha256(f"{pack_digest}/{purpose}{number}".encode()).digest() for number in itertools.count())
    seeds: dict[int, None] = {}
    while len(seeds) < count:
        seed = int.from_bytes(next(drawn)[:4], "big") >> (32 - _SEED_BITS)
        if seed not in used:
            seeds[seed] = None
    return tuple(seeds)


def confirm_seeds(lane: Lane, world: Path | None, pack: Pack) -> tuple[int, ...]:
    """Returns the witness seeds of a lane, and a candidate's fresh ones.

    Fresh are as many as the lane declares, or `USUAL` where seeds draw worlds.
    """
    usual = USUAL if draws_worlds(lane.engine, world) else 0
    count = lane.document["decision"].get("confirm_seeds", usual)
    return (*lane.witness, *fresh_seeds(pack.digest, count, (*lane.seeds, *lane.witness), "confirm/"))


def decide_confirmed(history: Sequence[Trial], ledger: Ledger, confirm: Confirm | None = None) -> Decision:
    """Returns the decision for the best candidate that also holds on fresh seeds.

    `confirm` stands in for runs on fresh seeds whose results are known.

    Where no candidate holds all it claims, the best that still meets the lane's accept band is taken for what it holds;
    where none does, the decision is NO_GO.
    """
    refused: list[Decision] = []
    passed_over = dict[int, str]()
    while len(refused) < min(_MOST, max(1, len(history))):
        decision = decide(history, ledger, passed_over)
        if decision.outcome != "GO" or decision.best is None:
            break
        best = decision.best
        pack = ledger.ground.lane.candidate(best.values)
        seeds = confirm_seeds(ledger.ground.lane, ledger.ground.world, pack)
        if not seeds:
            return decision
        confirmation = (confirm or confirm_on)(ledger.ground, pack, seeds, str(ledger.band(best)))
        decision = replace(decision, confirmation=confirmation)
        if not confirmation.fault:
            return decision
        refused.append(decision)
        passed_over[best.number] = f"trial {best.number} was passed over: {confirmation.fault}"
    return _settled(refused, ledger) if refused else decision


def _settled(refused: Sequence[Decision], ledger: Ledger) -> Decision:
    """Returns the decision where every candidate holds less on fresh seeds than on the lane's."""
    gates = ledger.ground.lane.gates
    accept = gates.of_band(ledger.ground.lane.document["decision"]["accept_band"])
    for decision in refused:
        confirmation = decision.confirmation
        assert confirmation is not None  # `refused` holds the ones that were run on fresh seeds
        verdict = gates.of_band(confirmation.band)
        if verdict.rank >= accept.rank:
            reason = f"{decision.reason}; on fresh seeds it holds {confirmation.band}: {confirmation.fault}"
            return replace(decision, verdict=str(verdict), reason=reason)
    confirmation = refused[0].confirmation
    assert confirmation is not None
    reason = (
        f"{len(refused)} candidates hold {accept.band} on the lane's seeds, none on fresh ones: {confirmation.fault}"
    )
    return replace(
        refused[0], outcome="NO_GO", verdict=str(gates.of_band(None)), reason=reason,
        blockers=confirmation.blockers, runner_up=None,
    )  # fmt: skip


def confirm_on(ground: Ground, pack: Pack, seeds: Sequence[int], claimed: str) -> Confirmation:
    """Runs a candidate on fresh seeds, until one shows less than the lane accepts."""
    lane, cards = ground.lane, list[Scorecard]()
    accept = lane.document["decision"]["accept_band"]
    fault, blockers = "", tuple[Blocker, ...]()
    for seed in seeds:
        try:
            card = graded_on(lane, pack, seed, ground.world)
        except (IntegrityError, WorkspaceError):
            raise
        except (Exception, SystemExit) as error:  # whatever the engine raises: this candidate does not hold there
            fault = f"{kind_of(seed, lane)} seed {seed}: {cause(error)}"
            blocker = Blocker("confirmation", "", accept, None, None, seed)
            return Confirmation({}, None, fault, (blocker,))
        cards.append(card)
        if not fault and (row := _below(card, claimed)) is not None:
            blockers = (Blocker(row.id, row.metric, claimed, row.value, row.thresholds.get(claimed), seed),)
            seen = "is not measured, and" if row.value is None else f"{row.value:.6g}"
            fault = f"{kind_of(seed, lane)} seed {seed}: {row.id} {seen} does not hold {claimed}"
        if _below(card, accept) is not None:
            break
    metrics = {int(card.seed or 0): dict(card.metrics) for card in cards}
    return Confirmation(metrics, band_of(cards, lane), fault, blockers)


def kind_of(seed: int, lane: Lane) -> str:
    """Returns what a seed is that the search did not see: one of the lane's, or one that follows from the candidate."""
    return "witness" if seed in lane.witness else "fresh"


def band_of(cards: Sequence[Scorecard], lane: Lane) -> str | None:
    """Returns the highest band that holds on every one of these seeds, without a veto."""
    return combine(cards, lane.gates).verdict.band


def graded_on(lane: Lane, pack: Pack, seed: int, world: Path | None) -> Scorecard:
    """Returns the scorecard of a pack on any seed. The authority is run only where a gate follows it."""
    follows = any(gate.relative is not None for gate in lane.gates.gates)
    run = lane.engine.evaluate(pack, seed, world=world, until=lane.until)
    authority = lane.yardstick(seed, world) if follows else None
    return score(lane.measure(run, world), lane.gates_on(seed), seed=seed, authority=authority)


def _below(card: Scorecard, band: str) -> GateResult | None:
    """Returns the first gate that does not hold a band; None where all hold it."""
    return next((row for row in card.gates if not row.passed[band]), None)
