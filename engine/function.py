"""An engine that is a Python function: `function(params, seed)` returns numbers, tables, or both.

    FunctionEngine("inventory", "inventory:simulate", schema)     # from a file, found when it is needed
    FunctionEngine("inventory", simulate, schema)                 # from a script or a notebook

`engine.tables` says what it may return. It fails a trial by `raise lanelock.Failed("reason")`, or by any other
exception. It must give the same result for the same parameters and seed whenever it is called: random numbers come
from the seed, and nothing is kept from call to call. What it prints goes to stderr.
"""

from __future__ import annotations

import copy
import ctypes
import importlib.util
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from threading import Lock, RLock
from types import ModuleType
from typing import Any, NamedTuple

from lanelock.engine.protocol import Run
from lanelock.engine.resolved import run_of
from lanelock.engine.sources import attribute_sources, file_sources, function_sources, held, sources_of
from lanelock.engine.tables import TableRuns, surfaces_of
from lanelock.policies import EngineError, LaneError, Pack
from lanelock.policies.documents import digest
from lanelock.policies.errors import cause
from lanelock.policies.names import check_name

_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")  # module:attribute
_ALONE = RLock()  # held by the one function that runs, of those that may not run beside another


class FunctionEngine(TableRuns):
    """A function as an engine with one policy and one state, both named after what they are.

    `function` takes `(params, seed)`: the policy as a new plain dict, and an integer. A function that has no parameter
    for the seed gives the same result on every seed. One with a parameter `world` stands on the run of another engine
    (`engine.chain`), and takes its tables by name.

    `parallel`: whether the function may run on several threads at once. By default calls wait for each other, since a
    function that seeds NumPy's or Python's global generator, or keeps a global variable, would give results that
    depend on what runs beside it. Where calls wait, `--processes` runs seeds beside each other and `--jobs` does not.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | str,
        schema: Mapping[str, Any],
        *,
        policy: str = "params",
        code: Sequence[str] = (),
        folder: Path | None = None,
        parallel: bool = False,
    ) -> None:
        """Looks at nothing but the names: the function is found at its first use.

        `function`: callable, or "module:attribute", imported from `folder` (default: the current one) or as installed.
        `code`: further files that results depend on, seen from `folder`.
        """
        self.name, self.policy_schemas = check_name(name, "an engine"), {policy: schema}
        self._where, self._policy, self._code = f"engine {name}", policy, (*code,)
        self._folder = (folder or Path()).resolve()
        self._alone = nullcontext() if parallel else _ALONE
        if not (_NAMED.fullmatch(function) if isinstance(function, str) else callable(function)):
            raise LaneError(f"{self._where}: function: {function!r:.80} is neither a function nor MODULE:FUNCTION")
        self._given = function

    def evaluate(self, pack: Pack, seed: int, *, upstream: Run | None = None) -> Run:
        """Returns one run. Raises EngineError for what the function raises, DataError for what it may not return."""
        began, used = time.perf_counter(), time.process_time()
        world = {} if upstream is None else {"world": {name: part.table() for name, part in upstream.surfaces.items()}}
        with self._alone, _STDOUT.aside():
            result = self._result(copy.deepcopy(dict(pack[self._policy])), seed, world, pack)
        surfaces = surfaces_of(result, self._where)
        return run_of(self, pack, seed, surfaces, time.perf_counter() - began, time.process_time() - used)

    @cached_property
    def code_version(self) -> str:
        """Hex64 digest of the function, the local code that it uses, and the files named."""
        files = file_sources(self._code, self._folder, f"{self._where}: code")
        return digest({"function": self._found.sources, "files": files})

    @property
    def code_files(self) -> Mapping[str, str]:
        """Digests of what the code version covers, by file or by name."""
        parts = {**self._found.sources, **file_sources(self._code, self._folder, f"{self._where}: code")}
        return {name: digest(text) for name, text in parts.items()}

    @cached_property
    def _found(self) -> _Found:
        """The function, how it is called, and what it consists of. Raises LaneError or EngineError."""
        if not isinstance(self._given, str):
            return _Found(_call_of(self._given, self._where), function_sources(self._given, self._where))
        module, attribute = self._given.split(":")
        with _STDOUT.aside():
            home = _imported(module, self._folder, self._where)
        function = _attribute(home, attribute, f"{self._where}: {self._given}")
        for top in {file.partition("/")[0].partition(".")[0] for file in sources_of(home)}:
            _check_home(top, self._folder, self._where)
        return _Found(_call_of(function, f"{self._where}: {self._given}"), attribute_sources(home, attribute))

    def _result(self, params: dict[str, Any], seed: int, world: Mapping[str, Any], pack: Pack) -> Any:
        try:
            result = self._found.call(params, seed, world)
        except KeyError as error:
            if not error.args or error.args[0] in params or not isinstance(error.args[0], str):
                raise
            known = f"KeyError: {error.args[0]!r}; the parameters are {', '.join(params)}"
            raise EngineError(f"{self._where}: pack {pack.name}, seed {seed}", known) from error
        except OSError as error:  # a file that the function did not find is no fault of the workspace's disk
            raise EngineError(f"{self._where}: pack {pack.name}, seed {seed}", cause(error)) from error
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody awaited it
        return result


_Call = Callable[[dict[str, Any], int, Mapping[str, Any]], Any]  # of parameters, seed, and `world` if there is one


class _Found(NamedTuple):
    """A function that was found: how it is called, and what it consists of."""

    call: _Call
    sources: Mapping[str, str]


def _call_of(function: Callable[..., Any], where: str) -> _Call:
    """Returns the call of a function that takes the seed by name, by place, or not at all. Raises LaneError."""
    named, placed = _takes_seed(function, where)
    try:
        signature = inspect.signature(function)
    except ValueError:  # compiled code may not say what it takes
        signature = None

    def call(params: dict[str, Any], seed: int, world: Mapping[str, Any]) -> Any:
        places, names = (seed,) if placed else (), {**({"seed": seed} if named else {}), **world}
        _check_fit(signature, (params, *places), names, where)
        return function(params, *places, **names)

    return call


def _check_fit(
    signature: inspect.Signature | None, places: tuple[Any, ...], names: Mapping[str, Any], where: str
) -> None:
    """Raises LaneError if a function does not take what it would be given."""
    try:
        if signature is not None:
            signature.bind(*places, **names)
    except TypeError as error:
        taken = ", ".join(("params", "seed", *names.keys() & {"world"}))
        hint = "; no engine is named as its world" if "world" not in names and "'world'" in str(error) else ""
        raise LaneError(f"{where}: cannot be called with ({taken}): {error}{hint}") from None


def _takes_seed(function: Callable[..., Any], where: str) -> tuple[bool, bool]:
    """Returns whether a function takes the seed by the name `seed`, and whether it takes it as its second argument."""
    try:
        known = inspect.signature(function).parameters
    except ValueError:
        return False, True
    kinds = inspect.Parameter
    if "seed" in known and known["seed"].kind is not kinds.POSITIONAL_ONLY:
        return True, False
    places = [one for one in known.values() if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    if len(places) < 2:
        return False, any(one.kind is kinds.VAR_POSITIONAL for one in known.values())
    if places[1].default is not kinds.empty and places[1].name != "seed":
        raise LaneError(f"{where}: is its parameter {places[1].name} the seed? Name it `seed`, or put a * before it")
    return False, True


# --- finding a function ---------------------------------------------------------------------------------------------


def _imported(name: str, folder: Path, where: str) -> ModuleType:
    """Returns a module of the user's folder, or an installed one. Raises LaneError or EngineError in one line.

    The folder is searched last: a file in it can then never stand for a module of Python's or of a library, which
    Lanelock itself may not have imported yet. Where a file has such a name, this is said.
    """
    top = name.partition(".")[0]
    _check_home(top, folder, where)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise LaneError(f"{where}: there is no module {error.name} in {folder}, and none is installed") from None
        raise EngineError(where, f"importing {name}: {cause(error)}") from error
    except (Exception, SystemExit) as error:
        raise EngineError(where, f"importing {name}: {cause(error)}") from error


def _check_home(top: str, folder: Path, where: str) -> None:
    """Raises LaneError if a file of the folder has the name of another module, which would be imported instead."""
    own = next((path for path in (folder / f"{top}.py", folder / top / "__init__.py") if path.is_file()), None)
    if own is None:
        return
    if top in sys.stdlib_module_names:
        raise LaneError(f"{where}: {own} has the name of one of Python's own modules, which goes first: rename it")
    with suppress(ValueError, ImportError):  # a module without a specification
        spec = importlib.util.find_spec(top)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != own.resolve():
            raise LaneError(f"{where}: {own} has the name of {spec.origin}, which goes first: rename it")


def _attribute(module: ModuleType, name: str, where: str) -> Callable[..., Any]:
    """Returns a function of a module. Raises LaneError naming those that it has."""
    function: Callable[..., Any] | None = held(module, name)
    if callable(function) and not isinstance(function, type):
        return function
    own = [key for key, one in inspect.getmembers(module, inspect.isfunction) if one.__module__ == module.__name__]
    kind = "a class" if isinstance(function, type) else f"of type {type(function).__name__}"
    what = "it is missing" if function is None else f"it is {kind}"
    raise LaneError(f"{where}: {what}; functions of {module.__file__}: {', '.join(own) or 'none'}")


# --- what a function prints -----------------------------------------------------------------------------------------


class _Stdout:
    """Standard output, which belongs to Lanelock's answer: sent to stderr while any function runs.

    This holds for what Python prints, for compiled code, and for programs that a function starts.
    """

    def __init__(self) -> None:
        self._lock, self._running, self._before, self._copy = Lock(), 0, sys.stdout, -1

    @contextmanager
    def aside(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._leave()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._come_back()

    def _leave(self) -> None:
        self._before, sys.stdout, self._copy = sys.stdout, sys.stderr, -1
        with suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            self._before.flush()
            self._copy = os.dup(1)
            os.dup2(2, 1)

    def _come_back(self) -> None:
        _LIBC.fflush(None)  # what compiled code printed and C keeps back
        sys.stdout = self._before
        if self._copy >= 0:
            os.dup2(self._copy, 1)
            os.close(self._copy)


_LIBC = ctypes.CDLL(None)
_STDOUT = _Stdout()
