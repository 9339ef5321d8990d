"""A trial's record: what the study stores of it is read back as it was, and what is no record is refused."""

import json

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import IntegrityError
from lanelock.sweeps.lanes.trial import TrialRecord
from lanelock.sweeps.search.study import Studies

NAMES = st.text(min_size=1, max_size=8)
NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def records(draw):
    seeds = draw(st.lists(SEEDS, max_size=4, unique=True))
    return TrialRecord(
        measures={seed: draw(st.dictionaries(NAMES, NUMBERS, max_size=4)) for seed in seeds},
        pack=draw(NAMES),
        policies=draw(st.dictionaries(NAMES, NAMES, max_size=3)),
        worlds={seed: draw(NAMES) for seed in seeds},
        seconds={"engine": draw(NUMBERS), "scoring": draw(NUMBERS)},
        at_ms=draw(st.integers(0, 2**50)),
    )


@given(records())
def test_a_record_is_read_back_from_its_json_in_the_order_of_its_seeds(record):
    text = json.dumps(record.document)
    again = TrialRecord.of(json.loads(text))
    assert again == record and list(again.measures) == list(record.measures) and json.dumps(again.document) == text
    assert list(record.document) == ["measures", "pack", "policies", "worlds", "seconds", "at_ms"]


@pytest.mark.parametrize("stored", [{}, {"lanelock": {}}, {"lanelock": {"measures": [], "worlds": {}}}])
def test_a_trial_that_carries_no_record_is_refused_in_one_line(tmp_path, stored):
    journal = tmp_path / "optuna.journal"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    study = optuna.create_study(study_name="other-1", storage=storage)
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=stored))
    with pytest.raises(IntegrityError, match=r"study other-1: trial 0: /user_attrs/lanelock: not a trial's record"):
        Studies(journal).transcript("other-1")
