"""Shards: contiguous ranges of a world's merchants, mapped in order over threads.

S1 to S4 know no merchant but the one at hand and draw by address, so a shard's rows are the whole's rows and
laying them end to end gives the whole's bytes, whatever the cuts and however many workers. Threads, not
processes: the laws are compiled loops without the interpreter's lock, and nothing has to be copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lanelock.engine.segment_2b.world import Grid, World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.engine.workers import mapped

Span = tuple[int, int]  # merchants [first, last)


@dataclass(frozen=True, slots=True)
class Cuts:
    """How work is cut: it moves seconds and memory, never a byte."""

    merchants: int | None = None  # about so many a shard; None: as many shards as threads
    jobs: int | None = None  # threads; None: one over shards, and every core where a state spreads by itself

    @property
    def threads(self) -> int:
        return self.jobs or 1

    def spans(self, world: World) -> tuple[Span, ...]:
        """Shards of about equal rows of S3 and S4, whole merchants each, in order."""
        size, groups = len(world.merchant_id), world.group_offsets
        count = self.threads if self.merchants is None else -(-size // self.merchants)
        edges = np.searchsorted(groups, np.arange(1, count) * int(groups[-1]) // count)
        bounds = np.unique(np.concatenate([[0], edges, [size]])).tolist()
        return tuple(pairwise(bounds))


class Across:
    """Computes states of one world over its shards, and lays the parts end to end."""

    def __init__(self, cuts: Cuts, world: World, days: int) -> None:
        self._world, self._days, self._threads = world, days, cuts.threads
        self._spans = cuts.spans(world)

    def __call__(self, law: Callable[..., Any], *inputs: Any) -> Any:
        """`law(*inputs)`, where worlds, grids, surfaces and raw mixes among the inputs are cut, the rest is not."""
        if len(self._spans) == 1:
            return law(*inputs)
        parts = mapped(lambda span: law(*(self._cut(value, span) for value in inputs)), self._spans, self._threads)
        return joined(list(parts))

    def _cut(self, value: Any, span: Span) -> Any:
        if isinstance(value, World | Grid):
            return value.shard(*span)
        if isinstance(value, Surface) and "site_order" in value.columns:
            sites = self._world.site_offsets
            return value.part(slice(sites[span[0]], sites[span[1]]))
        if hasattr(value, "part"):
            groups = self._world.group_offsets
            return value.part(slice(groups[span[0]] * self._days, groups[span[1]] * self._days))
        return value


def joined(parts: list[Any]) -> Any:
    """The parts of one surface or raw mix, in order, end to end."""
    whole = parts[0]
    if isinstance(whole, Surface):
        columns = {name: _end_to_end([part[name] for part in parts]) for name in whole.columns}
        return Surface(whole.name, whole.schema, columns)
    names = type(whole).__slots__
    return type(whole)(*(_end_to_end([getattr(part, name) for part in parts]) for name in names))


def _end_to_end(columns: list[Column]) -> Column:
    first = columns[0]
    if isinstance(first, Categories):
        return Categories(np.concatenate([part.codes for part in columns]), first.values)  # type: ignore[union-attr]
    return np.concatenate(columns)  # type: ignore[arg-type]
