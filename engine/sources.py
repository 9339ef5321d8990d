"""Digests of the source code that computes: of a module or a function, and of all that it takes from local code.

Local modules lie beside the module's top-level package, or in that package if it is installed. Of what is installed
otherwise nothing is covered. Sources are read once per process, since imported code does not change when its file does.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, SourceFileLoader
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from lanelock.policies import LaneError
from lanelock.policies.documents import digest
from lanelock.policies.files import read_bytes

_INSTALLED = {"site-packages", "dist-packages"}
_OURS = "lanelock"  # its version is recorded where a run is; a checkout of it is no code of the user's


def source_digest(module: ModuleType) -> str:
    """Returns a hex64 digest over the source of a module and of every local module it imports, directly or not."""
    return digest(sources_of(module))


@cache
def sources_of(module: ModuleType) -> Mapping[str, str]:
    """Returns the digest (hex64) of each file of a module and of the local modules that it imports, by path."""
    root = root_of(module)
    own = module.__name__.partition(".")[0] if _INSTALLED & set(root.parts) else None
    sources, queue = dict[str, str](), [_file(module)]
    while queue:
        path = queue.pop()
        name = path.relative_to(root).as_posix()
        if name not in sources:
            sources[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            queue += [file for part in _imports(path, root) if own in (None, part[0]) for file in _files(root, part)]
    return sources


def root_of(module: ModuleType) -> Path:
    """Returns the folder that contains the module's top-level package."""
    path = _file(module)
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return path.parents[depth]


def file_sources(names: Sequence[str], folder: Path, where: str) -> Mapping[str, str]:
    """Returns the digest (hex64) of each named file, by its name. Raises LaneError for one that cannot be read."""
    sources = {}
    for name in names:
        try:
            sources[name] = hashlib.sha256(read_bytes(folder / name)).hexdigest()
        except OSError as error:
            raise LaneError(f"{where}: {folder / name}: cannot be read: {error.strerror}") from None
    return sources


def function_sources(function: Callable[..., Any], where: str) -> Mapping[str, str]:
    """Returns what a function consists of, by name: digests (hex64) of files, texts of functions, and values.

    Of a function that its module holds under its name, these are the module's files. Of any other, such as one of a
    notebook, a partial or an inner function, they are its text and what it uses: functions, classes, variables, local
    modules. Raises LaneError for what no text covers, such as a lambda of a notebook or the state of an object.
    """
    module, name = sys.modules.get(getattr(function, "__module__", "")), getattr(function, "__qualname__", "")
    if module is not None and _has_file(module) and held(module, name) is function:
        _check_current(function, module, where)
        return attribute_sources(module, name)
    parts = _Parts(where)
    parts.add_callable("function", function)
    return parts.found


def attribute_sources(module: ModuleType, attribute: str) -> Mapping[str, str]:
    """Returns the files of a module by path, and which function of which of them is meant."""
    name = _file(module).relative_to(root_of(module)).as_posix()
    return {**sources_of(module), "function": f"{name}:{attribute}"}


class _Parts:
    """What a function consists of, by name; `where` stands before every error."""

    def __init__(self, where: str) -> None:
        self._where, self.found = where, dict[str, str]()

    def add_callable(self, name: str, function: Any) -> None:
        """Adds a function with what is around it: the arguments of a partial, decorators, the class of a method."""
        if isinstance(function, functools.partial):
            self.add(f"{name}.args", function.args)
            self.add(f"{name}.keywords", function.keywords)
            self.add_callable(name, function.func)
        elif isinstance(function, MethodType) and isinstance(function.__self__, type):
            self.add_callable(name, function.__func__)
        elif isinstance(function, FunctionType):
            self._add_function(name, function)
        elif hasattr(function, "__wrapped__"):  # of a compiler or a cache
            self.add_callable(name, function.__wrapped__)
        else:
            owner = function.__self__ if isinstance(function, MethodType) else function
            what = f"{name} is, or belongs to, an object {_kind(owner)}, whose state no code version covers"
            raise LaneError(f"{self._where}: {what}; give a function")

    def add(self, name: str, value: Any) -> None:
        """Adds what a name stands for."""
        if isinstance(value, ModuleType):
            self._add_module(value)
        elif isinstance(value, type):
            self._add_class(name, value)
        elif isinstance(value, FunctionType | MethodType | functools.partial) or hasattr(value, "__wrapped__"):
            self.add_callable(name, value)
        elif (text := _text(value)) is not None:
            self.found[name] = text
        elif callable(value) and getattr(value, "__module__", None) is not None:  # a builtin, or of compiled code
            self._add_module(sys.modules.get(value.__module__))
        else:
            raise LaneError(
                f"{self._where}: the code version cannot cover {name}, {_kind(value)}; "
                "move the function into a module, or read the value from a file that `code` names"
            )

    def _add_module(self, module: ModuleType | None) -> None:
        if module is not None and _is_local(module):
            self.found |= sources_of(module)

    def _add_class(self, name: str, kind: type) -> None:
        module = sys.modules.get(kind.__module__)
        if module is None or _has_file(module) or kind.__module__ == "builtins":
            self._add_module(module)
        elif name not in self.found:
            self.found[name] = f"class {[base.__qualname__ for base in kind.__bases__]}"
            for inner, value in vars(kind).items():
                part = getattr(value, "__func__", getattr(value, "fget", value))  # of a method or a property
                if not inner.startswith("__") or (isinstance(part, FunctionType) and _has_text(part)):
                    self.add(f"{name}.{inner}", part)
            for base in kind.__bases__:
                self.add(base.__qualname__, base)

    def _add_function(self, name: str, function: FunctionType) -> None:
        module = sys.modules.get(function.__module__)
        if module is not None and _has_file(module):
            self._add_module(module)
            self.found[name] = f"{function.__module__}.{function.__qualname__}"
            if held(module, function.__qualname__) is not function:
                self._add_closure(name, function)
        elif function.__name__ == "<lambda>":
            raise LaneError(f"{self._where}: {name} is a lambda outside a module; write it as `def NAME(params, seed)`")
        elif self._is_new(name, function):
            self._add_closure(name, function)
            self._add_used(name, function)

    def _is_new(self, name: str, function: FunctionType) -> bool:
        """Adds the text of a function of a notebook, and returns whether it was not there yet."""
        if not _has_text(function):
            what = f"the source of {function.__qualname__} cannot be read"
            raise LaneError(f"{self._where}: {what}; write it into a file or a notebook")
        before, self.found[name] = self.found.get(name), textwrap.dedent(inspect.getsource(function))
        return before != self.found[name]

    def _add_closure(self, name: str, function: FunctionType) -> None:
        """Adds the values that an inner function takes from around it, and its defaults."""
        for inner, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # an empty cell
                if cell.cell_contents is not function:
                    self.add(f"{name}.{inner}", cell.cell_contents)
        self.add(f"{name}.defaults", [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()])

    def _add_used(self, name: str, function: Any) -> None:
        """Adds what a function of a notebook names outside itself."""
        code, around = getattr(function, "__code__", None), getattr(function, "__globals__", {})
        for part in _codes(code) if code is not None else ():
            for step in dis.get_instructions(part):
                if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in around:
                    self.add(step.argval, around[step.argval])
                elif step.opname == "IMPORT_NAME":
                    with suppress(ImportError):
                        self._add_module(import_module(step.argval))


def _has_text(function: FunctionType) -> bool:
    try:
        return bool(inspect.getsource(function))
    except (OSError, TypeError):
        return False


def _text(value: Any) -> str | None:
    """Returns a text that says all of a value; None for a value that has none."""
    if value is None or isinstance(value, str | bytes | int | float | complex | np.generic | PurePath):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"array {value.dtype.str} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if type(value) in (list, tuple, dict, set, frozenset):
        parts = [_text(part) for part in (value.items() if isinstance(value, dict) else value)]
        known = [part for part in parts if part is not None]
        ordered = sorted(known) if isinstance(value, set | frozenset) else known
        return f"{type(value).__name__} {ordered!r}" if len(known) == len(parts) else None
    return None


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


def held(module: ModuleType, name: str) -> Any:
    """Returns what a module holds under a dotted name, or None."""
    held: Any = module
    for part in name.split("."):
        held = getattr(held, part, None)
    return held


def _has_file(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_file()


def _is_local(module: ModuleType) -> bool:
    """Returns whether a module is neither installed, nor Python's own, nor Lanelock's."""
    top = module.__name__.partition(".")[0]
    if top in sys.stdlib_module_names or top == _OURS or not _has_file(module):
        return False
    return not _INSTALLED & set(_file(module).parts)


def _check_current(function: Callable[..., Any], module: ModuleType, where: str) -> None:
    """Raises LaneError if a function is not what its file says now, as after an edit without a new start."""
    own, path = inspect.unwrap(function), _file(module)
    loader = getattr(module, "__loader__", None)
    if not isinstance(own, FunctionType) or type(loader) is not SourceFileLoader:  # others may rewrite what they load
        return
    code = own.__code__
    if Path(code.co_filename).resolve() == path:
        whole = compile(path.read_bytes(), code.co_filename, "exec", dont_inherit=True)
        if not any(part == code for part in _codes(whole)):
            raise LaneError(f"{where}: {path} was changed after it was imported; start Python again")


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yields a code object and those within it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _codes(part)


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__)).resolve()


def _imports(path: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """Yields the dotted names that a source file imports, split at the dots. `from a import b` yields (a, b)."""
    if path.suffix != ".py":  # compiled
        return
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            yield from ((*base, alias.name) for alias in node.names)


def _files(root: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Yields the files that importing a dotted name reads: each package's on the way, and the module's."""
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        files = (place.with_name(place.name + suffix) for suffix in (".py", *EXTENSION_SUFFIXES))
        yield from (file for file in (*files, place / "__init__.py") if file.is_file())
