"""The durable study: one Optuna study that holds a sweep's trials.

A trial reaches the durable storage once, whole, when it has finished, so no unfinished trial is ever on disk. A killed
sweep loses only proposals, and a resumed one makes the same proposals again (`search.proposals`): each is drawn by a
sampler seeded by (lane seed, trial number) from the trials that finished before its batch.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lanelock.policies import IntegrityError, LaneError, LanelockError, PolicyError, WorkspaceError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.errors import cause
from lanelock.policies.files import open_file
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import RECORD, Trial, TrialRecord
from lanelock.sweeps.search.proposals import Proposal, Proposer, directions_of
from lanelock.sweeps.search.transcript import follows, link, origin_of
from lanelock.sweeps.secrets import shown, without_secrets
from lanelock.sweeps.workspace import why_unwritten

optuna.logging.set_verbosity(optuna.logging.ERROR)

_LAST = "authority"  # the attribute that a study gets last: one without it, and without trials, was not begun
_LONGEST = 1 << 26  # bytes of a journal's line
_PATIENCE = 180.0  # seconds that a sweep waits for an unreachable study database


class Study:
    """One sweep's trials. Contract: the same results in the same order give the same proposals."""

    def __init__(self, durable: optuna.Study, lane: Lane) -> None:
        self._durable = durable
        self.name = durable.study_name  # read once: the database may be unreachable later
        self.attributes = _begun(durable)
        self._proposer = Proposer(lane, self.attributes.get("listed", []))
        stored = durable.get_trials(deepcopy=False)
        trials = [_trial(self.name, frozen) for frozen in stored]
        self.origin = origin_of(self.attributes)
        heads_of(self.name, self.origin, trials, stored)  # raises where the study was changed
        if other := next((row.number for row in stored if row.distributions != self._proposer.space), None):
            raise IntegrityError(f"study {self.name}: trial {other}: its knobs have other ranges than the lane's")
        # A kill may leave a batch unfinished. Its proposals must be drawn from the same history again, so the study
        # goes on at the beginning of the last batch, whose stored trials wait in `_ahead` to be matched.
        proposed = [trial for trial in trials if trial.paid]
        whole = proposed[-1].record.asked_at if proposed else len(trials)
        self._stored = stored[:whole]
        self.history: list[Trial] = trials[:whole]
        self._ahead = {trial.number: trial for trial in trials[whole:]}

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All stored trials, with an unfinished batch. For readers only; do not resume from it."""
        return (*self.history, *self._ahead.values())

    @property
    def head(self) -> str:
        """The head of the transcript after `history`."""
        return self.history[-1].record.chain if self.history else self.origin

    @property
    def interrupted(self) -> bool:
        """Whether stored trials of a batch that a kill interrupted are still to be matched, whatever the budget."""
        return bool(self._ahead)

    def ask(self, count: int, ledger: Ledger) -> tuple[Proposal, ...]:
        """Returns up to `count` candidates that no trial had; fewer where the space is spent."""
        count = max(count, 1 + max(self._ahead) - len(self.history)) if self._ahead else count
        proposals = self._proposer.batch(self.history, self._stored, count, ledger)
        for proposal in proposals:
            ahead = self._ahead.get(proposal.number)
            if ahead is not None and dict(ahead.values) != dict(proposal.values):
                raise IntegrityError(
                    f"study {self.name}: trial {proposal.number} was stored with {dict(ahead.values)}, the sampler now "
                    f"proposes {dict(proposal.values)}; it was recorded by other code and cannot be resumed"
                )
        return proposals

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
        record = replace(record, asked_at=proposal.asked_at, repeats=proposal.repeats)
        return self._add(proposal.number, proposal.values, objectives, constraints, record, proposal.attributes)

    def take(
        self,
        values: Mapping[str, Value],
        objectives: Sequence[float] | None,
        constraints: Mapping[str, float],
        record: TrialRecord,
    ) -> Trial:
        """Adds a trial that an earlier sweep ran, before the first proposal."""
        return self._add(len(self.history), values, objectives, constraints, record, {})

    def _add(
        self,
        number: int,
        values: Mapping[str, Value],
        objectives: Sequence[float] | None,
        constraints: Mapping[str, float],
        record: TrialRecord,
        attributes: Mapping[str, Any],
    ) -> Trial:
        trial = Trial(number, values, None if objectives is None else tuple(objectives), constraints, record)
        record = replace(record, chain=link(self.head, trial, attributes))
        frozen = create_trial(
            state=TrialState.FAIL if objectives is None else TrialState.COMPLETE,
            values=None if objectives is None else list(objectives),
            params=dict(values),
            distributions=dict(self._proposer.space),
            user_attrs={RECORD: record.document},
            system_attrs=dict(attributes),
            constraints=dict(constraints),
        )
        frozen.number = number
        ahead = self._ahead.pop(number, None)
        if ahead is None:
            _store(self._durable, frozen)
        finished = ahead or _trial(self.name, frozen)
        self._stored.append(frozen)
        self.history.append(finished)
        return finished


class Followed:
    """A study to which another process may be adding trials: each look reads what is new, and locks nothing."""

    def __init__(self, study: optuna.Study, place: Path | str) -> None:
        self._study, self._place, self.name = study, place, study.study_name
        self.begun = _begun(study)
        self._head = origin_of(self.begun)
        self._trials: list[Trial] = []

    def trials(self) -> tuple[Trial, ...]:
        """Returns the finished trials. Raises IntegrityError at the first that does not follow from those before it."""
        with _reading(self._place):
            for frozen in self._study.get_trials(deepcopy=False)[len(self._trials) :]:
                trial = _trial(self.name, frozen)
                if trial.record.chain:  # an older version stored none
                    (self._head,) = heads_of(self.name, self._head, [trial], [frozen])
                self._trials.append(trial)
        return tuple(self._trials)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The trials of a study in order, and the head of its chain after each."""

    trials: tuple[Trial, ...]
    stored: Sequence[FrozenTrial]  # the same, as Optuna keeps them
    heads: tuple[str, ...]


class Studies:
    """The studies of a workspace: in a journal file, or in a database by URL."""

    def __init__(self, place: Path | str, *, reading: bool = False) -> None:
        """Opens the storage. `reading` a journal neither locks, repairs nor creates it: its disk may be read-only."""
        self._place, self._reading = place, reading
        self._storage = _open(place, reading)  # of a journal: the studies, without their trials

    def names(self) -> tuple[str, ...]:
        """Returns the names of all studies, oldest first, but of none that was killed while it was created."""
        with _reading(self._place):
            studies = self._storage.get_all_studies()
            return tuple(_name(study) for study in studies if _LAST in study.user_attrs or self._trials(study))

    def _trials(self, study: FrozenStudy) -> int:
        """Returns the number of trials, those included that are not read here."""
        skipped = getattr(getattr(self._storage, "_backend", None), "skipped", {})
        return int(skipped.get(study._study_id, 0)) + self._storage.get_n_trials(study._study_id)

    def summaries(self) -> tuple[tuple[str, int, Mapping[str, Any]], ...]:
        """Returns name, number of trials and attributes of every study, oldest first."""
        with _reading(self._place):
            studies = self._storage.get_all_studies()
            rows = ((_name(study), self._trials(study), study.user_attrs) for study in studies)
            return tuple((name, trials, begun) for name, trials, begun in rows if _LAST in begun or trials)

    def create(self, name: str, lane: Lane, attributes: Mapping[str, Any]) -> Study:
        """Creates a study, or finishes one whose creation was killed. Raises LaneError where the name is taken."""
        if name in self.names():
            raise LaneError(f"lane {lane.id}: another process has just started {name}; start again")
        directions = directions_of(lane.objectives)
        durable = optuna.create_study(
            storage=self._storage, study_name=name, directions=directions, load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            durable.set_metric_names([objective.name for objective in lane.objectives])
        for key in sorted(attributes, key=lambda key: key == _LAST):
            durable.set_user_attr(key, attributes[key])
        return self.open(name, lane)

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Returns what `create` stored with a study."""
        with _reading(self._place):
            return _begun(optuna.load_study(study_name=name, storage=self._storage))

    def open(self, name: str, lane: Lane) -> Study:
        """Opens a study to go on with it. Raises IntegrityError where its transcript was changed."""
        with _reading(self._place):
            return Study(self._load(name), lane)

    def transcript(self, name: str) -> Transcript:
        """Returns the trials of a study. Raises IntegrityError naming the first that does not follow from the others.

        The trials that an older version stored have no heads.
        """
        with _reading(self._place):
            study = self._load(name)
            stored = study.get_trials(deepcopy=False)
            trials = tuple(_trial(name, frozen) for frozen in stored)
            chained = any(trial.record.chain for trial in trials)
            heads = heads_of(name, origin_of(_begun(study)), trials, stored) if chained else ()
            return Transcript(trials, stored, heads)

    def follow(self, name: str) -> Followed:
        """Returns a study to be read again and again while a sweep plays it."""
        with _reading(self._place):
            return Followed(self._load(name), self._place)

    def _load(self, name: str) -> optuna.Study:
        """Returns a study with its trials; of a journal, no other study's trials are read."""
        study = optuna.load_study(study_name=name, storage=self._storage)
        if isinstance(self._place, str):
            return study
        return optuna.load_study(study_name=name, storage=_open(self._place, self._reading, study._study_id))


def _name(study: FrozenStudy) -> str:
    if not isinstance(study.study_name, str):
        raise ValueError(f"a study is named {study.study_name!r:.60}")
    return study.study_name


class _KernelLock:
    """A journal lock that ends with its process, unlike Optuna's own, which a killed process leaves behind."""

    def __init__(self, path: str) -> None:
        self.file = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self.file.acquire()
        return True

    def release(self) -> None:
        self.file.release()


class _Journal(JournalFileBackend):
    """Optuna's journal without the trials of other studies: their lines are neither parsed nor kept.

    A line that does not begin as Optuna writes a new trial is read whatever its study, so nothing else is left out. No
    line refers to a trial by a number over all studies, as long as trials are stored whole.
    """

    _TRIAL = re.compile(rb'\{"op_code":4,"worker_id":"[^"\\]*","study_id":(\d+),')

    def __init__(self, path: str, lock: _KernelLock, study: int | None) -> None:
        super().__init__(path, lock_obj=lock)  # type: ignore[arg-type]
        self._study = study  # None: no trials at all
        self._read = 0  # bytes
        self.skipped = Counter[int]()  # study -> trials

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yields the lines that were not read before. Ignores a last line without its end."""
        with open_file(Path(self._file_path)) as file:
            file.seek(self._read)
            for line in _lines(file):
                self._read += len(line)
                trial = self._TRIAL.match(line)
                if trial is None or int(trial[1]) == self._study:
                    yield json.loads(line)
                else:
                    self.skipped[int(trial[1])] += 1


def _lines(file: BufferedReader) -> Iterator[bytes]:
    """Yields whole lines. Raises ValueError at one that is longer than any trial, as a broken disk leaves it."""
    while (line := file.readline(_LONGEST)).endswith(b"\n"):
        yield line
    if len(line) == _LONGEST:
        raise ValueError(f"a line has {_LONGEST:,} bytes or more")


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
            raise WorkspaceError(f"study {study.study_name}: {why_unwritten(error)}; earlier trials are kept") from None
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


def _first_line(error: Exception, *urls: str) -> str:
    """Returns the database's own message."""
    cause = error.__cause__ or error
    return without_secrets(str(getattr(cause, "orig", cause)), *urls).strip().splitlines()[0][:200]


def _open(place: Path | str, reading: bool, study: int | None = None) -> BaseStorage:
    """Opens a database, or a journal with the trials of one study or none."""
    if isinstance(place, str):
        return _open_database(place)
    if reading and not place.exists():
        return optuna.storages.InMemoryStorage()  # empty
    lock = _KernelLock(str(place))
    with _reading(place):
        if os.path.lexists(place):
            open_file(place).close()  # raises for a pipe, which Optuna would wait for
        if not reading:  # a reader needs no repair: Optuna ignores a last line without its end
            with lock.file:
                _drop_torn_line(place)
        return JournalStorage(_Journal(str(place), lock, study))


@contextmanager
def _reading(place: Path | str) -> Iterator[None]:
    """Turns whatever is raised while studies are read that are not as Optuna or a sweep stores them into one line."""
    try:
        yield
    except (LanelockError, MemoryError):
        raise
    except OSError as error:
        where = place if isinstance(place, Path) else shown(place)
        raise WorkspaceError(f"{where}: the study journal cannot be opened: {error.strerror}") from None
    except Exception as error:
        where, kind = (_first_odd(place), "journal") if isinstance(place, Path) else (shown(place), "database")
        raise WorkspaceError(
            f"{where}: not a study {kind} of this Optuna ({optuna.__version__}): "
            f"{without_secrets(cause(error), str(place))[:120]}; it was changed, or written by a newer version"
        ) from None


def _first_odd(journal: Path) -> str:
    """Returns the journal with the first line in it that is not one of a journal, where that can be told."""
    try:
        with open_file(journal) as file:
            for number, line in enumerate(_lines(file), 1):
                if not _is_log(line):
                    return f"{journal}: line {number}"
    except (OSError, ValueError):
        pass
    return str(journal)


def _is_log(line: bytes) -> bool:
    try:
        log = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(log, dict) and type(log.get("op_code")) is int and isinstance(log.get("worker_id"), str)


def _open_database(url: str) -> BaseStorage:
    place = shown(url)
    try:
        _refuse_other_tables(url, place)
        return optuna.storages.get_storage(_Database(url, {"poolclass": NullPool}))
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError, ValueError) as error:
        raise WorkspaceError(f"{place}: the study's database cannot be opened: {_first_line(error, url)}") from None
    except ImportError as error:
        raise WorkspaceError(
            f"{place}: needs a driver: pip install 'lanelock[postgres]' ({without_secrets(str(error), url)})"
        ) from None


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
    if journal.exists() and journal.stat().st_size:
        with journal.open("rb+") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as lines:
                whole = lines.rfind(b"\n") + 1
            file.truncate(whole)


def heads_of(study: str, origin: str, trials: Sequence[Trial], stored: Sequence[FrozenTrial]) -> tuple[str, ...]:
    """Returns the head of the transcript after each trial. Raises IntegrityError where one does not follow."""
    head = origin
    for trial, frozen in zip(trials, stored, strict=True):
        if frozen.state not in (TrialState.COMPLETE, TrialState.FAIL) or frozen.intermediate_values:
            raise IntegrityError(f"study {study}: trial {trial.number}: not as a sweep stores a trial; it was changed")
        follows(study, trial, link(head, trial, frozen.system_attrs))
        head = trial.record.chain
    return tuple(trial.record.chain for trial in trials)


def _begun(study: optuna.Study) -> dict[str, Any]:
    """Returns what `Studies.create` stored with a study. Raises IntegrityError where it is not that."""
    begun: dict[str, Any] = study.user_attrs
    try:
        validate(begun, shipped_schema("study"), f"study {study.study_name}")
    except PolicyError as error:
        raise IntegrityError(
            f"not the beginning of a sweep: {error}; it was stored by another program or version, or changed"
        ) from None
    return begun


def _trial(study: str, frozen: FrozenTrial) -> Trial:
    objectives = tuple(frozen.values) if frozen.state == TrialState.COMPLETE and frozen.values else None
    try:
        record = TrialRecord.of(frozen.user_attrs[RECORD])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            f"study {study}: trial {frozen.number}: /user_attrs/{RECORD}: not a trial's record ({error!r}); it was "
            "stored by another program or version, or changed"
        ) from None
    return Trial(frozen.number, dict(frozen.params), objectives, frozen.constraints, record)
