"""`make bench`: the cost of the engine, the search and tracking, each beside a yardstick.

Machines differ, and one machine differs by the hour: quote the ratios of a single run. Each part has a process of its
own, because it leaves behind state (MLflow's tracking address, warm caches) that would affect the next part. The
hand-written loop is the code a user would write without Lanelock: Optuna on journal storage, the same engine and
scoring, and one MLflow run per trial with the same numbers. `--short` only shows that every part runs
(`tests/test_bench.py`).
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.store import bundled, publish
from lanelock.policies import load_pack
from lanelock.scoring.scorecard import combine, score
from lanelock.sweeps.lanes.lane import Knob, load_lane
from lanelock.sweeps.lanes.survey import Ground, survey
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.sweep import play
from lanelock.sweeps.trial import evaluate
from lanelock.sweeps.workspace import Workspace
from tests.oracle import laws

ROOT = Path(__file__).resolve().parent.parent
SEED = 42


@dataclass(frozen=True)
class Size:
    """The amount of work."""

    lane: str
    merchants: int | None  # in the engine's world; None: as in the reference world
    trials: int
    tracked: int  # trials of the sweeps with and without tracking
    rounds: int
    runs: int  # of the engine

    def pack(self):
        """Returns the pack that the engine is measured with."""
        pack = load_pack("p3_recorded", SEGMENT_2B.policy_schemas)
        return pack if self.merchants is None else pack.with_knobs({"world_v1#/merchants/count": self.merchants})


FULL = Size("p3", None, trials=100, tracked=200, rounds=3, runs=5)
SHORT = Size(str(ROOT / "tests" / "queue_engine" / "lane.json"), 20, trials=4, tracked=4, rounds=1, runs=1)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bench_engine(size: Size) -> None:
    """Prints the seconds of each state: reference world, whole validation, realism roster, empty caches."""
    pack = size.pack()
    SEGMENT_2B.evaluate(pack, SEED)  # compiles, and reads the cities
    rounds = []
    for _ in range(size.runs):
        run = Segment2B().evaluate(pack, SEED)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            published = publish(run, Path(folder))
            rounds.append([*run.states, bundled(run, published, time.perf_counter() - began)])
    rows = [
        (s.name, f"{s.rows:,}", statistics.median(states[i].seconds for states in rounds))
        for i, s in enumerate(rounds[0])
    ]
    total = statistics.median(sum(state.seconds for state in states) for states in rounds)
    print(f"engine: seconds per state, reference world, one seed, S8 with publishing (median of {size.runs})")
    print(columns(("state", "rows", "seconds"), [*rows, ("all", "", total)]), "\n")


def bench_oracle(size: Size) -> None:
    """Times the row-by-row oracle of each law against the engine, over every row of the reference world."""
    pack = size.pack()
    Segment2B().evaluate(pack, SEED, until="S4")  # loads the compiled loops
    run = Segment2B().evaluate(pack, SEED, until="S4")
    fast = {state.name: state.seconds for state in run.states}
    world, (layout, effects, mix) = run.upstream, (pack[name] for name in (
        "alias_layout_policy_v1", "day_effect_policy_v1", "group_mix_regularizer_v1"))  # fmt: skip
    orders = np.split(world.site_order, world.site_offsets[1:-1])
    s3, s4 = run.surfaces["s3_day_effects"], run.surfaces["s4_group_weights"]

    def s1_slow() -> None:
        for merchant, its in zip(world.merchant_id, orders, strict=True):
            laws.site_weights(int(merchant), its.tolist(), layout)

    def s3_slow() -> None:
        days = s3["utc_day"]
        for i, merchant in enumerate(world.merchant_id):
            its = orders[i].tolist()
            zones = [world.zones[z] for z in world.group_zone[world.group_offsets[i] : world.group_offsets[i + 1]]]
            for d, day in enumerate(days.values):
                for rank, zone in enumerate(zones):
                    laws.day_effect(world.digest, SEED, int(merchant), its, zone, rank, d, day, effects)

    def s4_slow() -> None:
        keys = np.stack([s4["merchant_id"], s4["utc_day"].codes.astype(np.uint64)])
        starts = np.flatnonzero(np.r_[True, (np.diff(keys, axis=1) != 0).any(axis=0)])
        for a, b in zip(starts, [*starts[1:], s4.rows], strict=True):
            laws.day_mix(s4["base_share"][a:b], s4["gamma"][a:b], mix)

    rows = []
    for law, slow in (("S1", s1_slow), ("S3", s3_slow), ("S4", s4_slow)):
        took = seconds(slow)
        rows.append((law, took, fast[law], f"{took / fast[law]:.0f}"))
    print("oracle: the same law, one row at a time, over every row")
    print(columns(("law", "oracle s", "engine s", "ratio"), rows), "\n")


def bench_sweep(size: Size) -> None:
    """Prints the lane's trials per second, and the cost of a trial apart from the engine and the scoring."""
    lane = load_lane(size.lane).with_search(trials=size.trials)
    ground = survey(lane, None)
    ours, hands, rates = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(size.rounds):
            place = Path(folder, str(index))
            closed = play(lane, Workspace.at(place / "ours"), jobs=1)
            alone = bare(ground, [trial.values for trial in closed.trials])
            ours.append((closed.seconds["search"] - alone) / size.trials)
            took, values = by_hand(ground, place / "hand", size.trials)
            hands.append((took - bare(ground, values)) / size.trials)
            closed = play(lane, Workspace.at(place / "both"), jobs=os.cpu_count() or 1)
            rates.append(size.trials / closed.seconds["search"])
    mine, hand = statistics.median(ours), statistics.median(hands)
    print(f"sweep: {lane.id}, {len(lane.seeds)} seeds, {size.trials} trials (medians of {size.rounds})")
    print(f"  {statistics.median(rates):.1f} trials/s with --jobs {os.cpu_count()}, tracked")
    print("  apart from engine and scoring, one job, seconds per trial:")
    print(columns(("harness", "hand-written loop", "ratio"), [(mine, hand, f"{mine / hand:.2f}")]), "\n")


def bench_record(size: Size) -> None:
    """Prints the seconds of a sweep with tracking and without, in turn; each tracked sweep creates its own database."""
    lane = load_lane(size.lane).with_search(trials=size.tracked)
    survey(lane, None)
    rows = []
    for jobs in (1, 2):
        taken: dict[bool, list[float]] = {False: [], True: []}
        for index in range(2 * size.rounds):
            track = (index % 4) in (1, 2)  # off, on, on, off: a machine that slows down slows both
            with tempfile.TemporaryDirectory() as folder:
                taken[track].append(play(lane, Workspace.at(Path(folder)), jobs=jobs, track=track).seconds["wall"])
        off, on = (statistics.median(taken[track]) for track in (False, True))
        pairs = sorted(b / a for a, b in zip(taken[False], taken[True], strict=True))
        rows.append((str(jobs), off, on, f"{on / off:.3f}", f"{pairs[0]:.2f} … {pairs[-1]:.2f}"))
    print(f"tracking: {lane.id}, {size.tracked} trials, wall seconds of the sweep (medians of {size.rounds})")
    print(columns(("jobs", "not tracked", "tracked", "ratio", "of pairs"), rows), "\n")


def bare(ground: Ground, values: list[dict]) -> float:
    """Returns the seconds of the engine and the scoring alone on these trials."""
    return seconds(lambda: [evaluate(ground, knobs, ground.lane.seeds) for knobs in values])


def by_hand(ground: Ground, folder: Path, trials: int) -> tuple[float, list[dict]]:
    """Runs the loop a user would write: ask, evaluate on every seed until a veto, one MLflow run, tell."""
    import mlflow
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    lane = ground.lane
    folder.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("hand", (folder / "artifacts").as_uri()))
    storage = JournalStorage(JournalFileBackend(str(folder / "journal")))
    sampler = optuna.samplers.TPESampler(seed=1, multivariate=True)
    directions = ["maximize" if objective.maximize else "minimize" for objective in lane.objectives]
    study = optuna.create_study(storage=storage, directions=directions, sampler=sampler)
    tried = []

    def suggested(trial: optuna.Trial, knob: Knob) -> float | str:
        if knob.choices:
            return trial.suggest_categorical(knob.name, knob.choices)
        if knob.integral:
            return trial.suggest_int(knob.name, knob.low, knob.high, step=knob.step or 1, log=knob.log)
        return trial.suggest_float(knob.name, knob.low, knob.high, step=knob.step, log=knob.log)

    def loop() -> None:
        for number in range(trials):
            trial = study.ask()
            values = lane.space.canonical({knob.name: suggested(trial, knob) for knob in lane.knobs})
            pack, outcome = lane.candidate(values), evaluate(ground, values, lane.seeds)
            cards = [score(metrics, lane.gates, seed=seed, authority=ground.authority[seed])
                     for seed, metrics in outcome.record.measures.items()]  # fmt: skip
            overall = combine(cards, lane.gates)
            metrics = dict(overall.metrics)
            for card in cards:
                metrics |= {f"seed_{card.seed}/{name}": value for name, value in card.metrics.items()}
            with mlflow.start_run(run_name=str(number)):
                mlflow.log_params(values)
                mlflow.log_metrics(metrics)
                mlflow.set_tags({"verdict": str(overall.verdict), "pack": pack.digest, **outcome.record.policies})
                mlflow.log_text(json.dumps(overall.as_document()), "scorecard.json")
                mlflow.log_text(json.dumps(pack.documents()), "pack.json")
            for name, violation in outcome.constraints.items():
                trial.set_constraint(name, violation)
            study.tell(trial, outcome.objectives)
            tried.append(values)

    return seconds(loop), tried


PARTS = {"engine": bench_engine, "oracle": bench_oracle, "sweep": bench_sweep, "record": bench_record}


def main(*arguments: str) -> None:
    short = [argument for argument in arguments if argument == "--short"]
    parts = [argument for argument in arguments if argument not in short]
    if parts:
        for part in parts:
            PARTS[part](SHORT if short else FULL)
        return
    for part in PARTS:
        subprocess.run([sys.executable, "-m", "tests.bench", *short, part], cwd=ROOT, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
