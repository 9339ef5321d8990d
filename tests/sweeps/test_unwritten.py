"""A full disk is worded once, wherever it is met."""

import errno

import pytest

from lanelock.policies import WorkspaceError
from lanelock.sweeps.search import study
from lanelock.sweeps.workspace import why_unwritten, writing


class Full:
    study_name = "queue-1"

    def add_trial(self, frozen):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_place_that_takes_nothing_is_worded_once(tmp_path, number):
    error = OSError(number, "whatever the system calls it")
    with pytest.raises(WorkspaceError) as raised, writing(tmp_path):
        raise error
    assert str(raised.value) == f"workspace {tmp_path}: {why_unwritten(error)}"


def test_a_study_says_it_in_the_same_words():
    with pytest.raises(WorkspaceError) as raised:
        study._store(Full(), None)
    words = why_unwritten(OSError(errno.ENOSPC, ""))
    assert str(raised.value) == f"study queue-1: {words}; earlier trials are kept"
    assert words.startswith("the disk is full; make room and repeat the command (a sweep with --resume)")
