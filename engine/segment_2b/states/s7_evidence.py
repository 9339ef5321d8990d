"""What the audit reads, and how it compares columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.segment_2b.states import s3_day_effects
from lanelock.engine.segment_2b.states.s0_gate import SealedInputs
from lanelock.engine.segment_2b.world import Grid, World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.policies import Pack

Failing = NDArray[np.bool_]  # one flag a row looked at, true where a check fails


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the audit reads. A surface that is asked for and missing is a KeyError, which fails the check."""

    world: World
    pack: Pack
    seed: int
    sealed: SealedInputs
    surfaces: Mapping[str, Surface]

    def __getitem__(self, name: str) -> Surface:
        return self.surfaces[name]

    @cached_property
    def grid(self) -> Grid:
        """The rows that S3 and S4 must have: from the world and the policy alone."""
        return s3_day_effects.grid(self.world, self.pack["day_effect_policy_v1"])

    @cached_property
    def horizon(self) -> Mapping[str, int]:
        """Day -> index, over the policy's horizon."""
        return {day: at for at, day in enumerate(s3_day_effects.horizon(self.pack["day_effect_policy_v1"]))}

    @property
    def streams(self) -> Mapping[str, str]:
        """Names of the random streams of S5 and S6."""
        found: Mapping[str, str] = self.pack["route_rng_policy_v1"]["streams"]
        return found


def differ(ours: Column, theirs: Column) -> Failing:
    """Row by row, whether two columns differ; another length is a failure of every row."""
    if len(ours) != len(theirs):
        return np.ones(max(len(ours), len(theirs)), np.bool_)
    if ours is theirs:
        return np.zeros(len(ours), np.bool_)
    if isinstance(ours, Categories) and isinstance(theirs, Categories):
        if ours.values == theirs.values and len(set(ours.values)) == len(ours.values):
            return np.asarray(ours.codes != theirs.codes)
        names: dict[str, int] = {}
        mine, other = (
            np.array([names.setdefault(value, len(names)) for value in column.values], np.int64)
            for column in (ours, theirs)
        )
        return np.asarray(mine[ours.codes] != other[theirs.codes])
    return np.asarray(np.asarray(ours) != np.asarray(theirs))


def is_not(column: Column, value: str) -> Failing:
    """Row by row, whether a column of strings says anything but `value`."""
    return among(column, lambda name: name != value)


def among(column: Column, holds: Any) -> NDArray[np.bool_]:
    """Row by row, what `holds` says of the value: asked once a distinct one."""
    assert isinstance(column, Categories)
    return np.asarray(np.array([holds(value) for value in column.values], np.bool_)[column.codes])


def coded(column: Column, place: Mapping[str, int]) -> NDArray[np.int64]:
    """Row by row, the number that `place` gives the value, -1 where it gives none."""
    assert isinstance(column, Categories)
    return np.asarray(np.array([place.get(value, -1) for value in column.values], np.int64)[column.codes])
