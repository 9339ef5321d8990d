"""The table of tasks: what a task's name stands for, here and on every worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lanelock.sweeps.work.executor import Json, Task
from lanelock.sweeps.work.trials import TRIAL, trial_task_from

TASKS: Mapping[str, Callable[[Json], Task]] = {TRIAL: trial_task_from}  # name -> a document made a task again
