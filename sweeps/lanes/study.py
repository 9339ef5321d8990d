"""The search: one Optuna study that spends a lane's budget. Only this module and our own sampler import optuna.

A study has two storages. Proposals are made in an in-memory mirror; a trial reaches the durable storage once, whole,
when it has finished, so no unfinished trial is ever on disk. A killed sweep loses only proposals, and a resumed one
makes the same proposals again: each is drawn by a sampler seeded by (lane seed, trial number) from the trials that
finished before its batch.
"""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, GridSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lanelock.policies import IntegrityError, LaneError, WorkspaceError
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.workspace import shown

optuna.logging.set_verbosity(optuna.logging.ERROR)

_DIRECTIONS: Mapping[bool, Literal["minimize", "maximize"]] = {True: "maximize", False: "minimize"}
_RECORD = "lanelock"  # the user attribute that carries a trial's record
_PATIENCE = 180.0  # seconds that a sweep waits for an unreachable study database
GRID_POINTS = 5  # values in a grid of a knob without a step


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed trial that has not finished."""

    number: int
    values: Mapping[str, Value]  # by knob name
    handle: optuna.Trial


class Study:
    """One sweep's trials. Contract: the same results in the same order give the same proposals."""

    def __init__(self, durable: optuna.Study, lane: Lane) -> None:
        self._durable = durable
        self.name = durable.study_name  # read once: the database may be unreachable later
        self.attributes: dict[str, Any] = durable.user_attrs  # as `Studies.create` stored them
        self._lane = lane
        self._space = {knob.name: _distribution(knob) for knob in lane.knobs}
        directions = [_DIRECTIONS[objective.maximize] for objective in lane.objectives]
        self._mirror = optuna.create_study(directions=directions)
        stored = durable.get_trials(deepcopy=False)
        # A kill may leave a batch unfinished. Its proposals must be drawn from the same history again, so the mirror
        # starts at the beginning of the batch, and the batch's stored trials wait in `_ahead` to be matched.
        whole = len(stored) // lane.document["batch"] * lane.document["batch"]
        self._mirror.add_trials(stored[:whole])
        self.history: list[Trial] = [_trial(self.name, frozen) for frozen in stored[:whole]]
        self._ahead = {frozen.number: _trial(self.name, frozen) for frozen in stored[whole:]}

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All stored trials, with an unfinished batch. For readers only; do not resume from it."""
        return (*self.history, *self._ahead.values())

    @property
    def capacity(self) -> int | None:
        """Returns how many different trials the sampler can propose; None: without limit."""
        if self._lane.document["sampler"]["name"] != "grid":
            return None
        return math.prod(map(len, _grid(self._lane.knobs).values()))

    def ask(self, count: int) -> tuple[Proposal, ...]:
        return tuple(self._ask_one() for _ in range(count))

    def _ask_one(self) -> Proposal:
        number = len(self._mirror.get_trials(deepcopy=False))
        self._mirror.sampler = _sampler(self._lane, number)
        trial = self._mirror.ask(self._space)
        if trial.number != number:
            raise IntegrityError(f"study {self.name}: expected trial {number}, Optuna returned {trial.number}")
        ahead = self._ahead.get(number)
        if ahead is not None and dict(ahead.values) != dict(trial.params):
            raise IntegrityError(
                f"study {self.name}: trial {number} was stored with {dict(ahead.values)}, the sampler now proposes "
                f"{dict(trial.params)}; it was recorded by other code and cannot be resumed"
            )
        return Proposal(number, dict(trial.params), trial)

    def stored(self, proposal: Proposal) -> Trial | None:
        """Returns the trial already stored for a proposal, where a kill interrupted its batch."""
        return self._ahead.get(proposal.number)

    def tell(
        self,
        proposal: Proposal,
        objectives: Sequence[float] | None,
        constraints: Mapping[str, float],
        record: TrialRecord,
    ) -> Trial:
        """Finishes a proposal, in memory and, in one append, on disk."""
        trial = proposal.handle
        for name, violation in constraints.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr(_RECORD, record.document)
        # Telling draws nothing; a grid sampler would stop an optimize() loop that does not exist here.
        self._mirror.sampler = RandomSampler(seed=0)
        if objectives is None:
            frozen = self._mirror.tell(trial, state=TrialState.FAIL)
        else:
            frozen = self._mirror.tell(trial, list(objectives))
        if self._ahead.pop(proposal.number, None) is None:
            _store(self._durable, frozen)
        finished = _trial(self.name, frozen)
        self.history.append(finished)
        return finished


class Studies:
    """The studies of a workspace: in a journal file, or in a database by URL."""

    def __init__(self, place: Path | str, *, reading: bool = False) -> None:
        """Opens the storage. `reading` a journal neither locks, repairs nor creates it: its disk may be read-only."""
        self._storage = _open(place, reading)

    def names(self) -> tuple[str, ...]:
        """Returns the names of all studies, oldest first."""
        return tuple(study.study_name for study in self._storage.get_all_studies())

    def summaries(self) -> tuple[tuple[str, int, Mapping[str, Any]], ...]:
        """Returns name, number of trials and attributes of every study, oldest first."""
        studies = optuna.get_all_study_summaries(self._storage)
        return tuple((study.study_name, study.n_trials, study.user_attrs) for study in studies)

    def create(self, name: str, lane: Lane, attributes: Mapping[str, Any]) -> Study:
        """Creates a study. Raises LaneError where the name is taken."""
        directions = [_DIRECTIONS[objective.maximize] for objective in lane.objectives]
        try:
            durable = optuna.create_study(storage=self._storage, study_name=name, directions=directions)
        except optuna.exceptions.DuplicatedStudyError:
            raise LaneError(f"lane {lane.id}: another process has just started {name}; start again") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            durable.set_metric_names([objective.name for objective in lane.objectives])
        for key, value in attributes.items():
            durable.set_user_attr(key, value)
        return Study(durable, lane)

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Returns what `create` stored with a study."""
        return self._load(name).user_attrs

    def trials(self, name: str) -> tuple[Trial, ...]:
        return tuple(_trial(name, frozen) for frozen in self._load(name).get_trials(deepcopy=False))

    def open(self, name: str, lane: Lane) -> Study:
        return Study(self._load(name), lane)

    def _load(self, name: str) -> optuna.Study:
        return optuna.load_study(study_name=name, storage=self._storage)


def importance(knobs: Sequence[Knob], points: Sequence[tuple[Mapping[str, Value], float]]) -> dict[str, float]:
    """Returns each knob's share of the points' variance, greatest first, by fANOVA with a seeded forest. Sums to 1."""
    # Imports scikit-learn for its forest: seconds that only the end of a sweep pays.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    space = {knob.name: _distribution(knob) for knob in knobs}
    study = optuna.create_study()
    study.add_trials([
        optuna.trial.create_trial(params=dict(values), distributions=space, value=value) for values, value in points
    ])  # fmt: skip
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=16, max_depth=12, seed=0))


class _KernelLock:
    """A journal lock that ends with its process, unlike Optuna's own, which a killed process leaves behind."""

    def __init__(self, path: str) -> None:
        self.file = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self.file.acquire()
        return True

    def release(self) -> None:
        self.file.release()


class _AlreadyStored(Exception):
    """The database already has a trial of that number."""


class _Database(RDBStorage):
    """Optuna's tables, storing each trial once, under its own number.

    Optuna numbers a trial on arrival, and sends it again where an answer was lost, so a trial could be stored twice.
    The number is therefore compared inside Optuna's own transaction, which locks the study's row. No connection
    outlives its transaction, so an outage leaves no stale connection.
    """

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        trial = super()._get_prepared_new_trial(study_id, template_trial, session)
        if template_trial is not None and trial.number != template_trial.number:
            raise _AlreadyStored  # rolls the transaction back
        return trial


def _store(study: optuna.Study, frozen: FrozenTrial) -> None:
    """Stores a trial, in one append or one transaction, and waits for a database that is unreachable.

    Raises LaneError where another process has stored a trial of that number meanwhile.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            study.add_trial(frozen)
            return
        except _AlreadyStored:
            stored = next((trial for trial in study.get_trials() if trial.number == frozen.number), None)
            if stored is None or stored.user_attrs != frozen.user_attrs:
                raise LaneError(
                    f"study {study.study_name}: trial {frozen.number} was stored by another process; a sweep runs in "
                    "one process: wait for the other to end, then continue with --resume"
                ) from None
            return  # this process stored it, and the answer was lost
        except OSError as error:
            raise WorkspaceError(f"study {study.study_name}: the trial cannot be stored: {error.strerror}") from None
        except optuna.exceptions.StorageInternalError as error:
            if not _is_away(error) or time.monotonic() > until:
                raise WorkspaceError(
                    f"the study's database: the trial cannot be stored: {_first_line(error)}; earlier trials are "
                    "stored: continue with --resume"
                ) from None
            time.sleep(1)


def _is_away(error: Exception) -> bool:
    """Returns whether the database may answer later."""
    cause = error.__cause__
    return isinstance(cause, OperationalError | InterfaceError) or getattr(cause, "connection_invalidated", False)


def _first_line(error: Exception) -> str:
    """Returns the database's own message."""
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", cause)).strip().splitlines()[0][:200]


def _open(place: Path | str, reading: bool) -> BaseStorage:
    if isinstance(place, str):
        return _open_database(place)
    if reading and not place.exists():
        return optuna.storages.InMemoryStorage()  # empty
    lock = _KernelLock(str(place))
    try:
        if not reading:  # a reader needs no repair: Optuna ignores a last line without its end
            with lock.file:
                _drop_torn_line(place)
        return JournalStorage(JournalFileBackend(str(place), lock_obj=lock))  # type: ignore[arg-type]
    except OSError as error:
        raise WorkspaceError(f"{place}: the study journal cannot be opened: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, NotImplementedError, AssertionError) as error:
        raise WorkspaceError(
            f"{place}: not a study journal of this Optuna ({optuna.__version__}): {str(error).splitlines()[0][:120]}; "
            "it was changed, or written by a newer version"
        ) from None


def _open_database(url: str) -> BaseStorage:
    place = shown(url)
    try:
        _refuse_other_tables(url, place)
        return optuna.storages.get_storage(_Database(url, {"poolclass": NullPool}))
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError, ValueError) as error:
        raise WorkspaceError(f"{place}: the study's database cannot be opened: {_first_line(error)}") from None
    except ImportError as error:
        raise WorkspaceError(f"{place}: needs a driver: pip install 'lanelock[postgres]' ({error})") from None


def _refuse_other_tables(url: str, place: str) -> None:
    """Raises WorkspaceError for MLflow's tables: both programs keep their version in a table of the same name."""
    engine = create_engine(url, poolclass=NullPool)
    try:
        tables = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if "alembic_version" in tables and "studies" not in tables:
        raise WorkspaceError(
            f"{place}: holds another program's tables (MLflow's?); the study needs a database or a schema of its own"
        )


def _drop_torn_line(journal: Path) -> None:
    """Drops a last line without its end, which a killed writer left: it was never reported as stored."""
    if journal.exists():
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _sampler(lane: Lane, number: int) -> BaseSampler:
    """Returns the sampler of one trial, seeded by (lane seed, trial number); a grid has one order for all trials."""
    name, base = lane.document["sampler"]["name"], lane.document["sampler"]["seed"]
    seed = int.from_bytes(hashlib.sha256(f"{base}/{number}".encode()).digest()[:4], "little")
    batch = lane.document["batch"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(seed=seed, multivariate=True, n_startup_trials=max(10, 2 * batch))
            case "gp":
                return _gp(seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=max(12, 2 * batch))
            case "random":
                return RandomSampler(seed=seed)
            case "grid":
                return GridSampler(_grid(lane.knobs), seed=base)  # orders the whole grid, so all trials share it
    raise LaneError(f"/sampler/name: {name!r} is not one of tpe, gp, nsga2, random, grid")


def _gp(seed: int) -> BaseSampler:
    try:
        import torch

        torch.set_num_threads(1)  # another order of summation would give other proposals
    except ImportError:
        raise LaneError("/sampler/name: gp needs PyTorch: make setup, or pip install 'lanelock[gp]'") from None
    return GPSampler(seed=seed, deterministic_objective=True)


def _distribution(knob: Knob) -> BaseDistribution:
    if knob.choices:
        return CategoricalDistribution(knob.choices)
    if knob.integral:
        return IntDistribution(int(knob.low), int(knob.high), log=knob.log, step=int(knob.step or 1))
    return FloatDistribution(float(knob.low), float(knob.high), log=knob.log, step=knob.step)


def _grid(knobs: Sequence[Knob]) -> dict[str, Sequence[Value]]:
    return {knob.name: knob.points(GRID_POINTS) for knob in knobs}


def _trial(study: str, frozen: FrozenTrial) -> Trial:
    objectives = tuple(frozen.values) if frozen.state == TrialState.COMPLETE and frozen.values else None
    try:
        record = TrialRecord.of(frozen.user_attrs[_RECORD])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            f"study {study}: trial {frozen.number}: /user_attrs/{_RECORD}: not a trial's record ({error!r}); it was "
            "stored by another program or version, or changed"
        ) from None
    return Trial(frozen.number, dict(frozen.params), objectives, frozen.constraints, record)
