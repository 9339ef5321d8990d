"""The two sides of a code lane: where each finds its code, and with which Python it runs.

A side is this tree as it runs now; a commit of its repository, laid out by `git archive`; a wheel, unpacked; a folder
with `src/`, with packages or with a project; or an environment of its own, by its folder or its Python. All but the
last run with this Python and its libraries, so that only the code differs; a commit whose `requirements.lock` is
another gets an environment of its own, installed from that. What is laid out lies in one temporary folder, which is
removed at the end; that of a killed process is removed by the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lanelock.engine.keep.staging import staging
from lanelock.policies import PolicyError, WorkspaceError
from lanelock.policies.project import FILE
from lanelock.sweeps.perf.measure import Side
from lanelock.sweeps.workspace import Workspace, writing

HERE = "this tree"
_LIBRARIES = "requirements.lock"
_PYTHON = Path("bin", "python")


@contextmanager
def sides(against: str, workspace: Workspace) -> Iterator[tuple[Side, Side]]:
    """Yields this tree, and the side that a user names: a wheel, a folder, a Python or a commit, in this order.

    Raises PolicyError where it is none of them, WorkspaceError where git or an environment cannot give it.
    """
    with writing(workspace.root), staging(workspace.scratch, "perf") as scratch:
        other = _side(against, scratch)
        yield this_tree(), replace(other, name=f"./{HERE}") if other.name == HERE else other


def this_tree() -> Side:
    """Returns the side of the code that runs now, in the current folder."""
    return Side.here(HERE)


def _side(against: str, scratch: Path) -> Side:
    if not against.strip():
        raise PolicyError("--against: name a commit, a wheel, a folder or a Python")
    path = Path(against)
    if path.suffix == ".whl":
        return _wheel(path, scratch)
    if _is(path.is_dir):
        return _folder(path.absolute(), against)
    if _is(path.is_file):
        if not os.access(path, os.X_OK):
            raise PolicyError(f"{against}: a file is a side only as a wheel (.whl) or as the Python of an environment")
        return Side(against, str(path.absolute()), folder=str(Path.cwd()))
    return _commit(against, scratch)


def _is(kind: Callable[[], bool]) -> bool:
    """Returns what a path is; false where it cannot be one, such as a name that is too long."""
    try:
        return kind()
    except OSError:
        return False


def _wheel(path: Path, scratch: Path) -> Side:
    """Unpacks a wheel, which is all that installing one of pure Python does; its libraries are those of this tree."""
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(scratch)
    except FileNotFoundError:
        raise PolicyError(f"{path}: no such file") from None
    except (IsADirectoryError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise PolicyError(f"{path}: not a wheel: {error}") from None
    return Side(path.name, sys.executable, (str(scratch), *_searched()), str(Path.cwd()), root=str(scratch))


def _folder(folder: Path, name: str) -> Side:
    """Returns the side of a build: an environment, or a folder whose packages or project this Python runs."""
    if (folder / _PYTHON).is_file():
        return Side(name, str(folder / _PYTHON), folder=str(Path.cwd()))
    return _laid_out(folder, name, folder, sys.executable)


def _laid_out(root: Path, name: str, project: Path, python: str) -> Side:
    """Returns the side of a tree: its packages in `src/` or beside each other, its project in `project`."""
    source = root / "src" if (root / "src").is_dir() else root
    folder, within = (project, project) if (project / FILE).is_file() else (Path.cwd(), root)
    return Side(name, python, (str(source), *_searched()), str(folder), root=str(within))


def _searched() -> tuple[str, ...]:
    """Returns where Python was asked to look for packages: this Lanelock, if it is not installed, and engines."""
    return tuple(
        str(Path(folder).absolute()) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder
    )


def _commit(ref: str, scratch: Path) -> Side:
    """Lays out a commit of the current folder's repository."""
    if ref.startswith("-"):
        raise PolicyError(f"{ref}: no wheel, no folder and no name of a commit")
    top = Path(_git(ref, "rev-parse", "--show-toplevel"))
    commit = _git(ref, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    _archived(top, commit, scratch, ref)
    project = scratch / Path.cwd().resolve().relative_to(top.resolve())
    python = sys.executable if _same_libraries(top, scratch) else _environment(scratch, ref)
    return _laid_out(scratch, f"{ref} ({commit[:12]})", project, python)


def _archived(top: Path, commit: str, scratch: Path, ref: str) -> None:
    """Writes the files and links of a commit below `scratch`."""
    with subprocess.Popen(["git", "-C", str(top), "archive", commit], stdout=subprocess.PIPE) as archive:
        assert archive.stdout is not None  # a pipe, as asked for
        try:
            with tarfile.open(fileobj=archive.stdout, mode="r|") as files:
                files.extractall(scratch, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise WorkspaceError(f"{ref}: git archive gives no whole tree: {error}") from None
    if archive.returncode:
        raise WorkspaceError(f"{ref}: git archive gives no whole tree: exit code {archive.returncode}")


def _git(ref: str, *arguments: str) -> str:
    """Returns git's answer about the current folder's repository. Raises one line where it has none."""
    try:
        asked = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise WorkspaceError(f"{ref}: no such wheel or folder, and git, which knows commits, is not here") from None
    if asked.returncode == 0:
        return asked.stdout.strip()
    if arguments[-1] == "--show-toplevel":
        raise WorkspaceError(f"{ref}: no such wheel or folder, and {Path.cwd()} is in no git repository with commits")
    raise PolicyError(f"{ref}: no such wheel or folder, and no commit here; name a branch, a tag or an id")


def _same_libraries(top: Path, scratch: Path) -> bool:
    """Returns whether a commit asks for the libraries that this tree asks for."""
    asked = [path.read_bytes() if path.is_file() else None for path in (top / _LIBRARIES, scratch / _LIBRARIES)]
    return asked[0] == asked[1] or asked[1] is None


def _environment(scratch: Path, ref: str) -> str:
    """Makes the environment that a commit's `requirements.lock` describes, and returns its Python."""
    folder = scratch / ".environment"
    python = str(folder / _PYTHON)
    _installed(ref, [sys.executable, "-m", "venv", str(folder)])
    _installed(ref, [python, "-m", "pip", "install", "--quiet", "-r", str(scratch / _LIBRARIES)])
    _installed(ref, [python, "-m", "pip", "install", "--quiet", "--no-deps", str(scratch)])  # for its entry points
    return python


def _installed(ref: str, command: Sequence[str]) -> None:
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        said = (made.stderr.strip().splitlines() or ["failed"])[-1]
        raise WorkspaceError(f"{ref}: its {_LIBRARIES} is another than this tree's, and cannot be installed: {said}")
