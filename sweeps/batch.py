"""A batch: candidates that were proposed together, run on the lane's seeds, racing each other and those before them.

Where the lane has stages, only the candidates that promise most in each come as far as their full run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lanelock.sweeps.decision.decision import seed_order
from lanelock.sweeps.decision.race import promise, race_of, races
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.screening import screened
from lanelock.sweeps.search.proposals import Proposal
from lanelock.sweeps.trial import OnSeed, Outcome, Spread, evaluate, first_run, recalled, run_on

Stored = Callable[[Proposal], Trial | None]  # the trial of a proposal that finished before an interruption


def played(
    proposals: Sequence[Proposal],
    history: Sequence[Trial],
    ledger: Ledger,
    spread: Spread = map,
    jobs: int = 1,
    stored: Stored = lambda proposal: None,
    on_seed: Callable[[Proposal], OnSeed] = lambda proposal: run_on,
) -> Iterable[Outcome | Trial]:
    """Returns the outcomes of a batch, in its order. They do not depend on the number of workers.

    `spread` is `map` over `jobs` workers. `on_seed` says per proposal how it is run on a seed.
    """
    if not ledger.ground.stages:
        return _raced(proposals, history, ledger, spread, jobs, stored, on_seed)
    known = {proposal.number: trial for proposal in proposals if (trial := stored(proposal)) is not None}

    def run(proposal: Proposal) -> OnSeed:
        """Recalls what a stored trial gave in a stage: the others are ranked beside it, as before an interruption."""
        return recalled(known[proposal.number]) if proposal.number in known else on_seed(proposal)

    came = screened(proposals, ledger.ground, reserve_of(history, ledger).value, spread, run)
    left = [proposal for proposal in proposals if came[proposal.number].ended is None]
    full = _raced(left, history, ledger, spread, jobs, stored, on_seed)
    ran = {proposal.number: outcome for proposal, outcome in zip(left, full, strict=True)}
    return [known.get(number) or came[number].joined(ran.get(number)) for number in came]


def _raced(
    proposals: Sequence[Proposal], history: Sequence[Trial], ledger: Ledger, spread: Spread, jobs: int, stored: Stored,
    on_seed: Callable[[Proposal], OnSeed],
) -> Iterable[Outcome | Trial]:  # fmt: skip
    """Returns the outcomes of the full runs of a batch, in its order."""
    ground, seeds = ledger.ground, seed_order(history, ledger)
    if not races(ground.lane):
        return spread(
            lambda proposal: stored(proposal) or evaluate(ground, proposal.values, seeds, on_seed=on_seed(proposal)),
            proposals,
        )
    known = {proposal.number: stored(proposal) for proposal in proposals}
    begun = spread(
        lambda proposal: (
            None if known[proposal.number] else first_run(ground, proposal.values, seeds[0], on_seed(proposal))
        ),
        proposals,
    )
    firsts = {proposal.number: run for proposal, run in zip(proposals, begun, strict=True)}
    reserve = reserve_of(history, ledger).value

    def promised(proposal: Proposal) -> tuple[float, ...]:
        outcome, run = known[proposal.number], firsts[proposal.number]
        card = run.card if run is not None else ledger.cards(outcome).get(seeds[0]) if outcome is not None else None
        return promise(card, ledger, reserve)

    finished = dict[int, Trial]()
    for proposal in sorted(proposals, key=promised, reverse=True):
        race = race_of([*history, *finished.values()], ledger)
        outcome = known[proposal.number] or evaluate(
            ground,
            proposal.values,
            seeds,
            race,
            firsts[proposal.number],
            map if jobs == 1 else spread,  # with several workers, seeds are run ahead
            on_seed(proposal),
        )
        finished[proposal.number] = Trial(
            proposal.number, proposal.values, outcome.objectives, outcome.constraints, outcome.record
        )
    return [finished[proposal.number] for proposal in proposals]
