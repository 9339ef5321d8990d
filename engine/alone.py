"""One state alone: computed again, from inputs that are taken from where they are kept.

An engine calls its steps twice. The `Plan` computes nothing and notes each step's address, so that every key is known
before anything is looked for. `Alone` then computes the steps of one state; what these read it takes from memory, from
disk or from an opened run whose receipt states the same key, and all else it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

from lanelock.engine.protocol import Run, StateReport, Taken, moved_by
from lanelock.engine.steps import Memory, Reads, Steps, folded, named
from lanelock.policies import DataError

_NOTHING = ()  # the value of a step that is left out: no surface


class Plan(Steps):
    """Steps that compute nothing: each notes its address. `within` is step -> its state, of steps inside a state."""

    def __init__(self, steps: Steps, within: Mapping[str, str]) -> None:
        super().__init__(steps._base, steps._memory, steps._pack, steps._seed, steps._disk)
        self._keys, self._sealed, self._within = dict(steps._keys), steps._sealed, within
        self._lasting = set[str]()  # steps whose values are kept

    def __call__(
        self, name: str, inputs: tuple[str, ...], policies: tuple[str, ...], modules: tuple[ModuleType, ...],
        compute: Callable[[Reads], Any], *, draws: bool = False, files: Mapping[str, str] | None = None,
        keep: bool = True,
    ) -> Any:  # fmt: skip
        """Notes a step, and returns the value of one that is left out."""
        address = self._addressed(name, inputs, policies, modules, draws, files)
        self.reports.append(StateReport(name, self._keys[name], 0, 0.0, False, address))
        self._lasting |= {name} if keep else set()
        return _NOTHING

    def alone(self, state: str, always: Collection[str], given: Run | None, surfaces: Mapping[str, Any]) -> Alone:
        """Returns the steps that compute `state` and those named in `always`, and take what they read.

        `surfaces` names the surfaces of each step, as a run has them. Raises DataError naming the inputs that are kept
        nowhere, and one that is another in the run that is given.
        """
        values, taken = dict[str, Any](), []
        for name in self._read_by(state):
            value, source = self._memory.held(self._keys[name]), "cache"
            if value is None and self._disk is not None:
                value = self._disk.get(self._keys[name])
            if value is None and given is not None:
                value, source = self._from(given, name, surfaces[name]), "run"
            if value is not None:
                values[name] = value
                taken.append(Taken(name, self._keys[name], source))
        if lacking := [name for name in self._read_by(state) if name not in values]:
            raise DataError(
                f"{state}: what it reads is not kept: {', '.join(lacking)}; first run all states on this pack and seed "
                "(lanelock run without --only), or name a published run (--from RUN)"
            )
        own = {row.name for row in self.reports if self._within.get(row.name, row.name) == state}
        return Alone(self, own, frozenset(always), values, tuple(taken))

    def _read_by(self, state: str) -> list[str]:
        """Returns the steps of other states that the steps of a state read, and whose values are kept, in order."""
        of = {row.name: self._within.get(row.name, row.name) for row in self.reports}
        read = {which for row in self.reports if of[row.name] == state for which in row.address["inputs"]}
        states = read & {*of.values()}
        wanted = {name for name in of if name in read or of[name] in states}
        return [name for name in of if name in wanted & self._lasting and of[name] != state]

    def _from(self, given: Run, name: str, surfaces: Collection[str]) -> Any:
        """Returns a step's value as a run has it. Raises DataError where its key is another there."""
        if _stated(given).get(name) != self._keys[name]:
            raise DataError(f"run {given.run_id}: {name} is another there: {'; '.join(self._others(given, name))}")
        values = tuple(given.surfaces[surface] for surface in surfaces)
        return values[0] if len(values) == 1 else values

    def _others(self, given: Run, name: str) -> Iterator[str]:
        """Yields what differs at the states from which a difference comes, the step itself or those it follows from."""
        there, here = ({row.name: row.address for row in rows} for rows in (given.states, self._folded()))
        above, seen = [self._within.get(name, name)], set[str]()
        while above:
            state = above.pop(0)
            seen.add(state)
            parts = moved_by(there.get(state, {}), here[state])
            inner = [part.removeprefix("input ") for part in parts if part.removeprefix("input ") in here]
            above += [part for part in inner if part not in seen and part not in above]
            if own := [part for part in parts if part.removeprefix("input ") not in here]:
                yield f"{state} by its {', '.join(own)}"

    def _folded(self) -> tuple[StateReport, ...]:
        return folded(self.reports, self._within)


class Alone(Steps):
    """Steps that compute one state; `taken` says where what it reads came from."""

    def __init__(
        self, plan: Plan, own: Collection[str], always: Collection[str], values: Mapping[str, Any],
        taken: tuple[Taken, ...],
    ) -> None:  # fmt: skip
        super().__init__(plan._base, Memory(0), plan._pack, plan._seed, plan._disk)
        self._keys, self._sealed = dict(plan._keys), plan._sealed
        self._own, self._always, self._values, self.taken = own, always, values, taken
        self.surfaces: dict[str, Any] = {}  # of the state itself

    def __call__(
        self, name: str, inputs: tuple[str, ...], policies: tuple[str, ...], modules: tuple[ModuleType, ...],
        compute: Callable[[Reads], Any], *, draws: bool = False, files: Mapping[str, str] | None = None,
        keep: bool = True,
    ) -> Any:  # fmt: skip
        """Returns a step's value: computed, whatever is kept of it; taken; or that of a step left out."""
        if name not in self._own and name not in self._always:
            return self._values.get(name, _NOTHING)
        value = super().__call__(name, inputs, policies, modules, compute, draws=draws, files=files, keep=False)
        if name not in self._own:
            self.reports.pop()
            return value
        self.surfaces |= named(value)
        if keep and self._disk is not None:
            self._kept(self._keys[name], value, self._disk)
        return value


def _stated(given: Run) -> dict[str, str]:
    """Returns the keys that a run states, by state, and of the steps within one by what other states read of them."""
    read = {name: str(key) for row in given.states for name, key in row.address.get("inputs", {}).items()}
    return read | {row.name: row.key for row in given.states}
