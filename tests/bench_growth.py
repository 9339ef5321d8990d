"""`make bench-growth`: what the commands cost in a workspace that has grown.

It makes a workspace with one sweep of many trials, many sweeps, many locks and many moves, and prints the seconds of
each command that people type often. The trials are stored by the product's own code; all but the first of each sweep
state measurements that no engine made, since only their number counts. Seconds are of the processor, as
the machine may be shared. `--short` only shows that it runs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.lane import Lane, load_lane
from lanelock.sweeps.lanes.survey import Ground, survey
from lanelock.sweeps.lanes.trial import TrialRecord
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import PROMOTE, Standing, append, moves, new_move
from lanelock.sweeps.search.beginning import NOTHING_FIRST, first_of
from lanelock.sweeps.search.proposals import Proposal, _key
from lanelock.sweeps.search.study import Studies, Study
from lanelock.sweeps.search.tally import tallied
from lanelock.sweeps.sweep import _attributes, play
from lanelock.sweeps.trial import evaluate
from lanelock.sweeps.workspace import Workspace, write_document

TESTS = Path(__file__).resolve().parent
QUEUE = TESTS / "queue_engine"
BATCH = 50
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(QUEUE)])}


@dataclass(frozen=True, slots=True)
class Size:
    """How far a workspace has grown."""

    trials: int  # of its one large sweep
    sweeps: int  # others
    trials_each: int
    locks: int
    moves: int


LARGE, SHORT = Size(20_000, 100, 100, 5_000, 200), Size(100, 3, 10, 20, 4)


def lane_file(folder: Path, name: str, trials: int) -> Path:
    """Writes the queue's lane under another name, for a list of points, and returns its path."""
    document = read_json(QUEUE / "lane.json")
    path = folder / f"{name}.json"
    budget = {"trials": trials, "seconds": 100_000}
    document |= {"id": name, "authority": str(QUEUE / "pack"), "batch": BATCH, "budget": budget}
    write_document(path, {**document, "sampler": {"name": "qmc", "seed": 7}, "stop": {"optimum": 0}})
    return path


class _NoSampler:
    """Stands in for what a sampler is told: a list of points is not told anything."""

    def pending(self, values: Mapping[str, Any]) -> None:
        pass


def proposals(study: Study, count: int) -> Iterator[Proposal]:
    """Yields the candidates that a sweep proposes, without grading those before them again in every batch."""
    known: set[Any] = set()
    for number in range(count):
        values, repeats, attributes = study._proposer._next(number, known, _NoSampler())  # type: ignore[arg-type,misc]
        known.add(_key(values))
        yield Proposal(number, values, number - number % BATCH, repeats, attributes)


def search(workspace: Workspace, lane: Lane, ground: Ground, name: str, count: int) -> None:
    """Stores a sweep of `count` trials. Those after the first that ran on every seed are not run."""
    studies = Studies(workspace.study_storage)
    study = studies.create(
        name, lane, {**_attributes(ground, workspace), **first_of(ground, NOTHING_FIRST, studies, workspace)}
    )
    whole = None
    for proposal in proposals(study, count):
        if whole is not None:
            study.tell(proposal, *worse(ground, whole, proposal))
            continue
        first = evaluate(ground, proposal.values, lane.seeds)
        study.tell(proposal, first.objectives, first.constraints, first.record)
        whole = first.record if len(first.record.measures) == len(lane.seeds) else None
    with tallied(workspace, studies, study, lane):
        pass


def worse(ground: Ground, record: TrialRecord, proposal: Proposal) -> tuple[Any, Any, TrialRecord]:
    """Returns the outcome of a trial that ran on every seed and held no band."""
    worst = {"q1/wait_p90": 3.0 + proposal.number % 997 / 100, "q1/served_at_once": 0.3}
    measures = {seed: {**worst, "q1/servers": float(proposal.values["servers"])} for seed in record.measures}
    pack = ground.lane.candidate(proposal.values)
    policies = {name: policy.digest for name, policy in pack.policies.items()}
    cards = [ground.graded(seed, row) for seed, row in measures.items()]
    return (
        objectives_of(ground, cards),
        constraints_of(cards),
        replace(record, measures=measures, pack=pack.digest, policies=policies),
    )


def grow(folder: Path, size: Size) -> Workspace:
    """Makes the workspace."""
    workspace = Workspace.at(folder / "workspace")
    small = load_lane(str(lane_file(folder, "small", 4)))
    lock = Lock.read(play(small, workspace, track=False).lock)
    for number in range(size.locks):
        copy = replace(lock, sweep=f"kept-{number}")
        (workspace.locks / f"{copy.name}.json").write_bytes((workspace.locks / f"{lock.name}.json").read_bytes())
        write_document(workspace.locks / f"{copy.name}.json", copy.document)
    for number in range(size.sweeps):
        search(workspace, small, survey(small, None), f"small-{number + 2}", size.trials_each)
    large = load_lane(str(lane_file(folder, "large", size.trials)))
    search(workspace, large, survey(large, None), "large-1", size.trials)
    to = Standing(lock.lock_id, lock.sweep, lock.engine, lock.candidate_pack.digest, lock.verdict, None)
    write_document(workspace.promoted / lock.lock_id / "lock.json", lock.document)
    history = list(moves(workspace))
    for _ in range(size.moves):
        move = new_move(history, workspace, PROMOTE, "candidate", to, forced=True, why="it grows")
        append(workspace, move)
        history.append(move)
    return workspace


def seconds(command: list[str]) -> tuple[float, float]:
    """Runs a command and returns its seconds, of the processor and of the clock. Raises RuntimeError where it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "lanelock", *command], capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.perf_counter() - began


def resumed(lane: Path, workspace: Workspace) -> tuple[float, float]:
    """Resumes the large sweep in a process of its own. It is not tracked: 20,000 runs take MLflow its own time."""
    code = (
        "import sys; from pathlib import Path\n"
        "from lanelock.sweeps.lanes.lane import load_lane; from lanelock.sweeps.sweep import play\n"
        "from lanelock.sweeps.workspace import Workspace\n"
        "play(load_lane(sys.argv[1]), Workspace.at(Path(sys.argv[2])), track=False, resume=True)"
    )
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, lane, workspace.root], check=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, time.perf_counter() - began


def main(folder: Path, size: Size) -> None:
    workspace = grow(folder, size)
    asked = {
        "status": ["status"],
        "prune": ["prune"],
        "compare two trials": ["compare", "small-2/3", "small-2/4"],
        "report of a sweep": ["report", "small-1"],
        "a lock by its sweep": ["lock", "show", "kept-7"],
        "a lock by an alias": ["lock", "show", "candidate"],
    }
    rows = {name: seconds([*command, "--workspace", str(workspace.root)]) for name, command in asked.items()}
    rows["resume of the large sweep"] = resumed(folder / "large.json", workspace)
    print(f"{size.trials:,} trials in one sweep, {size.sweeps} more sweeps, {size.locks:,} locks, {size.moves} moves")
    cells = ((name, f"{spent:.2f}", f"{wall:.2f}") for name, (spent, wall) in rows.items())
    print(columns(("command", "processor s", "clock s"), cells))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made), SHORT if sys.argv[1:] == ["--short"] else LARGE)
