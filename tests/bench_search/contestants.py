"""The contestants. A peer is a generator: it yields a candidate and is sent the candidate measured on every seed.

Peers are used as their own documentation shows, with constraints where the method takes them. Optuna's and pymoo's
populations suit a hundred trials (their defaults would be random sampling for half of them).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from itertools import islice
from typing import Any

import numpy as np

from lanelock.sweeps.lanes.knob import Knob, Value

from .problem import Point, Problem, spread

Peer = Generator[dict[str, Value], Point, None]
POPULATION = 12  # of the genetic algorithms
PRODUCT = "lanelock"


def optuna_peer(problem: Problem, seed: int, sampler: Callable[[int], Any], *, penalty: bool = False) -> Peer:
    """Asks and tells a plain Optuna study. `penalty`: for a sampler without constraints, by one ranking value."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize"] * len(problem.cost_metrics), sampler=sampler(seed))
    space = {knob.name: _distribution(knob) for knob in problem.lane.knobs}
    study.enqueue_trial(problem.start())
    while True:
        trial = study.ask(space)
        point = yield dict(trial.params)
        violations = problem.told(point)
        for name, violation in violations.items() if not penalty else ():
            trial.set_constraint(name, violation)
        if not np.isfinite([*point.costs, *violations.values()]).all():
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, [ranked(point)] if penalty else list(point.costs))


def ranked(point: Point) -> float:
    """Returns a number that orders candidates as Deb's rule does: feasible ones by cost, then the others by violation.

    Costs are squeezed into -1 … 1, which keeps their order and is all that a method by ranks reads.
    """
    violation = sum(max(0.0, each) for each in point.violations.values())
    return 1 + violation if violation > 0 else point.costs[0] / (1 + abs(point.costs[0]))


def _distribution(knob: Knob) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if knob.integral:
        return IntDistribution(int(knob.low), int(knob.high), log=knob.log, step=int(knob.step or 1))
    return FloatDistribution(float(knob.low), float(knob.high), log=knob.log, step=knob.step)


def random(problem: Problem, seed: int) -> Peer:
    from optuna.samplers import RandomSampler

    return optuna_peer(problem, seed, lambda seed: RandomSampler(seed=seed))


def optuna_tpe(problem: Problem, seed: int) -> Peer:
    from optuna.samplers import TPESampler

    return optuna_peer(problem, seed, lambda seed: TPESampler(seed=seed))


def optuna_gp(problem: Problem, seed: int) -> Peer:
    from optuna.samplers import GPSampler

    return optuna_peer(problem, seed, lambda seed: GPSampler(seed=seed, deterministic_objective=True))


def optuna_nsga2(problem: Problem, seed: int) -> Peer:
    from optuna.samplers import NSGAIISampler

    return optuna_peer(problem, seed, lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION))


def optuna_cmaes(problem: Problem, seed: int) -> Peer:
    from optuna.samplers import CmaEsSampler

    return optuna_peer(problem, seed, lambda seed: CmaEsSampler(seed=seed), penalty=True)


def pymoo(problem: Problem, seed: int) -> Peer:
    """Asks and tells pymoo's GA, or NSGA-II where there are two costs; both rank by violation before cost."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem as Declared
    from pymoo.core.termination import NoTermination
    from pymoo.problems.static import StaticProblem

    knobs, costs = problem.lane.knobs, len(problem.cost_metrics)
    count = len(problem.told(problem.measured(problem.start())))
    declared = Declared(n_var=len(knobs), n_obj=costs, n_ieq_constr=count, xl=0.0, xu=1.0)
    first = np.random.default_rng(seed).random((POPULATION, len(knobs)))
    first[0] = _units(problem, problem.start())
    algorithm = (GA if costs == 1 else NSGA2)(pop_size=POPULATION, sampling=first)
    algorithm.setup(declared, termination=NoTermination(), seed=seed, verbose=False)
    while True:
        born = algorithm.ask()
        told = []
        for row in born.get("X"):
            point = yield spread(knobs, row)
            told.append((_finite(point.costs), _finite(problem.told(point).values())))
        known = StaticProblem(declared, F=np.array([f for f, _ in told]), G=np.array([g for _, g in told]))
        Evaluator().eval(known, born)
        algorithm.tell(infills=born)


def botorch(problem: Problem, seed: int) -> Peer:
    """Asks BoTorch: a Gaussian process per cost and constraint, constrained noisy (hypervolume) improvement.

    Constraints are squeezed by a signed logarithm (Eriksson and Poloczek 2021), since some span four decades.
    """
    import torch
    from botorch.utils.sampling import draw_sobol_samples

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    knobs = problem.lane.knobs
    cube = torch.tensor([[0.0] * len(knobs), [1.0] * len(knobs)], dtype=torch.double)
    first = min(2 * len(knobs), problem.trials // 4)
    design = draw_sobol_samples(cube, n=first, q=1, seed=seed).squeeze(1).tolist()
    tried: list[list[float]] = []
    told: list[list[float]] = []

    def place() -> list[float]:
        if not tried:
            return _units(problem, problem.start())
        return design[len(tried) - 1] if len(tried) <= len(design) else _improving(cube, tried, told, costs)

    costs = len(problem.cost_metrics)
    while True:
        values = spread(knobs, place())
        point = yield values
        violations = np.array(_finite(problem.told(point).values()))
        tried.append([knob.unit(values[knob.name]) for knob in knobs])
        told.append([*_finite(point.costs), *(np.sign(violations) * np.log1p(np.abs(violations)))])


def _improving(cube: Any, tried: list[list[float]], told: list[list[float]], costs: int) -> list[float]:
    """Returns the place of the greatest expected improvement."""
    import torch
    from botorch import fit_gpytorch_mll
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.acquisition.objective import GenericMCObjective
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.mlls import ExactMarginalLogLikelihood

    places, numbers = (torch.tensor(rows, dtype=torch.double) for rows in (tried, told))
    numbers[:, :costs] *= -1  # BoTorch maximises
    moves = [column for column in range(numbers.shape[1]) if column < costs or numbers[:, column].std() > 1e-9]
    model = SingleTaskGP(places, numbers[:, moves], outcome_transform=Standardize(len(moves)))  # one per column
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    limits = [lambda samples, at=at: samples[..., at] for at in range(costs, len(moves))] or None
    given = {"model": model, "X_baseline": places, "sampler": SobolQMCNormalSampler(torch.Size([32])),
             "constraints": limits, "prune_baseline": True}  # fmt: skip
    if costs == 1:
        objective = GenericMCObjective(lambda samples, X=None: samples[..., 0])
        gain = qLogNoisyExpectedImprovement(objective=objective, **given)
    else:
        corner = torch.tensor([-1.1] * costs, dtype=torch.double)
        objective = IdentityMCMultiOutputObjective(outcomes=[*range(costs)])
        gain = qLogNoisyExpectedHypervolumeImprovement(ref_point=corner, objective=objective, **given)
    best, _ = optimize_acqf(gain, cube, q=1, num_restarts=3, raw_samples=64, options={"maxiter": 50})
    return best.squeeze(0).tolist()


def _units(problem: Problem, values: dict[str, Value]) -> list[float]:
    return [knob.unit(values[knob.name]) for knob in problem.lane.knobs]


def _finite(numbers: Any) -> list[float]:
    """Returns numbers with what is missing replaced by much: these methods take no gaps."""
    return [float(number) if np.isfinite(number) else 1e6 for number in numbers]


PEERS: dict[str, Callable[[Problem, int], Peer]] = {
    "random": random,
    "optuna-tpe": optuna_tpe,
    "optuna-gp": optuna_gp,
    "optuna-nsga2": optuna_nsga2,
    "optuna-cmaes": optuna_cmaes,
    "botorch": botorch,
    "pymoo": pymoo,
}
NAMES = (PRODUCT, *PEERS)
NEEDS = {"optuna-gp": "torch", "botorch": "botorch", "pymoo": "pymoo"}
MOST_SEEDS = {"optuna-gp": 3, "botorch": 3}  # their asks take seconds


def missing(name: str) -> str | None:
    """Returns the package that a contestant needs and this environment lacks."""
    needed = NEEDS.get(name)
    return needed if needed is not None and find_spec(needed) is None else None


def plays(name: str, problem: str) -> bool:
    """Returns whether a contestant can play a problem: Optuna's CMA-ES has one objective."""
    return not (name == "optuna-cmaes" and problem == "c2dtlz2")


def played(peer: Peer, problem: Problem) -> Iterator[tuple[Point, float]]:
    """Yields a peer's trials, each with the processor seconds that asking took."""
    point: Point | None = None
    for _ in range(problem.trials):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            began = time.process_time()
            values = next(peer) if point is None else peer.send(point)
            asking = time.process_time() - began
        point = problem.measured(values)
        yield point, asking


def play_peer(name: str, problem: Problem, seed: int) -> tuple[list[Point], list[float], int]:
    """Returns a peer's trials, the seconds of its asks, and the engine runs: every trial on every seed."""
    problem.told(problem.measured(problem.start()))  # finds the constraints that move, outside what is timed
    trials = list(islice(played(PEERS[name](problem, seed), problem), problem.trials))
    return [point for point, _ in trials], [asking for _, asking in trials], len(trials) * len(problem.lane.seeds)
