"""The audit's evidence, and the comparisons of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.segment_2b.states import s3_day_effects
from lanelock.engine.segment_2b.states.s0_gate import SealedInputs
from lanelock.engine.segment_2b.world import Grid, World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.policies import Pack

Failing = NDArray[np.bool_]  # one flag per checked row, true where the check fails


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the audit reads. A missing surface raises KeyError, which fails the check."""

    world: World
    pack: Pack
    seed: int
    sealed: SealedInputs
    surfaces: Mapping[str, Surface]

    def __getitem__(self, name: str) -> Surface:
        return self.surfaces[name]

    @cached_property
    def grid(self) -> Grid:
        """Returns the rows that S3 and S4 must have, from the world and the policy alone."""
        return s3_day_effects.grid(self.world, self.pack["day_effect_policy_v1"])

    @cached_property
    def horizon(self) -> Mapping[str, int]:
        """Returns day -> index, over the policy's horizon."""
        return {day: at for at, day in enumerate(s3_day_effects.horizon(self.pack["day_effect_policy_v1"]))}

    @property
    def streams(self) -> Mapping[str, str]:
        """Returns the names of the random streams of S5 and S6, by draw."""
        return dict(self.pack["route_rng_policy_v1"]["streams"])


def differ(ours: Column, theirs: Column) -> Failing:
    """Returns per row whether two columns differ; if their lengths differ, every row does."""
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


def any_differ(ours: Surface, theirs: Mapping[str, Column] | Surface, names: Iterable[str]) -> Failing:
    """Returns per row whether any of the named columns differs."""
    return np.asarray(np.logical_or.reduce([differ(ours[name], theirs[name]) for name in names]))


def is_not(column: Column, value: str) -> Failing:
    """Returns per row whether a string differs from `value`."""
    return among(column, lambda name: name != value)


def among(column: Column, holds: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Returns per row whether `holds` is true of the string; calls it once per distinct string."""
    assert isinstance(column, Categories)
    return np.asarray(np.array([holds(value) for value in column.values], np.bool_)[column.codes])


def coded(column: Column, place: Mapping[str, int]) -> NDArray[np.int64]:
    """Returns per row the number that `place` gives the string, or -1."""
    assert isinstance(column, Categories)
    return np.asarray(np.array([place.get(value, -1) for value in column.values], np.int64)[column.codes])
