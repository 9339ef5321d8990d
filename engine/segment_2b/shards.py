"""Shards: contiguous ranges of a world's merchants, mapped in order over threads.

S1 to S4 compute each merchant by itself and draw by address, so a shard's rows are the rows of the whole, and
joining the shards gives the same bytes for any cuts and any number of workers. Threads, not processes: the laws
are compiled loops that run without the interpreter's lock, so nothing has to be copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lanelock.engine.segment_2b.states.s1_site_weights import Ranking
from lanelock.engine.segment_2b.world import Grid, World
from lanelock.engine.surface import Categories, Column, Surface
from lanelock.engine.workers import mapped

Span = tuple[int, int]  # merchants [first, last)


@dataclass(frozen=True, slots=True)
class Cuts:
    """The size and number of shards: it changes time and memory, never a byte."""

    merchants: int | None = None  # about this many per shard; None: as many shards as threads
    jobs: int | None = None  # threads; None: one for the shards, every core within a state that spreads its own work

    @property
    def threads(self) -> int:
        return self.jobs or 1

    def spans(self, world: World) -> tuple[Span, ...]:
        """Returns shards of about equally many rows of S3 and S4, in order; each holds whole merchants."""
        size, groups = len(world.merchant_id), world.group_offsets
        count = self.threads if self.merchants is None else -(-size // self.merchants)
        edges = np.searchsorted(groups, np.arange(1, count) * int(groups[-1]) // count)
        bounds = np.unique(np.concatenate([[0], edges, [size]])).tolist()
        return tuple(pairwise(bounds))


class Across:
    """Computes states of one world shard by shard and joins the parts."""

    def __init__(self, cuts: Cuts, world: World, days: int) -> None:
        self._world, self._days, self._threads = world, days, cuts.threads
        self._spans = cuts.spans(world)

    def __call__(self, law: Callable[..., Any], *inputs: Any) -> Any:
        """Returns `law(*inputs)`, cutting worlds, grids, rankings, surfaces and raw mixes, nothing else."""
        if len(self._spans) == 1:
            return law(*inputs)
        parts = mapped(lambda span: law(*(self._cut(value, span) for value in inputs)), self._spans, self._threads)
        return joined(list(parts))

    def _cut(self, value: Any, span: Span) -> Any:
        if isinstance(value, World | Grid | Ranking):
            return value.shard(*span)
        if isinstance(value, Surface) and "site_order" in value.columns:
            sites = self._world.site_offsets
            return value.part(slice(sites[span[0]], sites[span[1]]))
        if hasattr(value, "part"):
            groups = self._world.group_offsets
            return value.part(slice(groups[span[0]] * self._days, groups[span[1]] * self._days))
        return value


def joined(parts: list[Any]) -> Any:
    """Returns one surface or raw mix from its parts, in order."""
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
