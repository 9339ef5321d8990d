"""What git says of a change: the commit it began from, the paths it touches, and the files on both sides.

Git is asked through its own command, with a list of arguments and never through a shell. Only files that are data are
read; nothing of the change is executed, and no hook or driver is run. A filter runs only if this machine's settings
hold it, which a change cannot alter.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lanelock.policies import PolicyError, WorkspaceError
from lanelock.sweeps.repository.documents import TRUST

BASES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")  # tried in this order
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false")
_PLAIN = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "-z")
_FILE = ("100644", "100755")  # modes of a regular file: a link or a submodule is no document


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a repository: its files as they were and as they are, without links and submodules."""

    root: Path
    base: str  # the commit that the change began from
    touched: frozenset[str]  # paths, relative to the root, that are not as they were
    before: Mapping[str, bytes]  # the JSON files at the base
    after: Mapping[str, bytes]  # the JSON files in the working tree
    meanwhile: Mapping[str, bytes | None]  # what the base's branch changed since, where the change did not; None: gone
    links: frozenset[str]  # touched paths that are links now
    converted: frozenset[str]  # touched JSON files of which git keeps another text than it lays here (.gitattributes)
    trust: bytes | None  # of the branch that the change goes to: a change cannot widen what approves it


def read_change(folder: Path, ref: str | None) -> Change:
    """Returns the change from where `ref` and HEAD parted to the working tree.

    Raises PolicyError for an unknown `ref`, WorkspaceError where git cannot tell.
    """
    root = Path(_text(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
    tip = _commit(root, ref)
    base = _merge_base(root, tip)
    untracked = _paths(root, "ls-files", "--others", "--exclude-standard", "-z")
    touched = _paths(root, "diff", "--name-only", *_PLAIN, base, "--") | untracked
    known = _paths(root, "ls-files", "--cached", "-z") | untracked
    before = _blobs(root, _tree(root, base))
    present = {path for path in known if (root / path).is_file() and not _linked(root, path)}
    after = {path: (root / path).read_bytes() for path in sorted(present) if path.endswith(".json")}
    theirs = _paths(root, "diff", "--name-only", *_PLAIN, base, tip, "--") - touched
    at_tip = _blobs(root, {path: oid for path, oid in _tree(root, tip).items() if path in theirs})
    meanwhile = {path: at_tip.get(path) for path in theirs if path.endswith(".json")}
    links = frozenset(path for path in touched if _linked(root, path))
    laid_out = touched & after.keys() - _paths(root, "diff", "--name-only", *_PLAIN)  # as git keeps them
    kept = _blobs(root, {path: oid for path, oid in _index(root).items() if path in laid_out})
    converted = frozenset(path for path, data in kept.items() if _lines(data) != _lines(after[path]))
    trust = _blobs(root, {path: oid for path, oid in _tree(root, tip).items() if path == TRUST}).get(TRUST)
    return Change(root, base, frozenset(touched), before, after, meanwhile, links, converted, trust)


def _commit(root: Path, ref: str | None) -> str:
    """Returns the commit that a reference names; without one, the first of `BASES` that the repository has."""
    for name in BASES if ref is None else (ref,):
        asked = _asked(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if asked.returncode == 0:
            return asked.stdout.decode().strip()
    if ref is None:
        raise PolicyError(f"{root}: --base: none of {', '.join(BASES)} is known here; name the branch to compare with")
    raise PolicyError(f"--base: {ref!r} is no commit of {root}; fetch it, or name a branch, a tag or an id")


def _merge_base(root: Path, tip: str) -> str:
    asked = _asked(root, "merge-base", tip, "HEAD")
    if asked.returncode:
        raise PolicyError(f"{root}: --base: it has no commit in common with HEAD here; fetch the whole history")
    return asked.stdout.decode().strip()


def _tree(root: Path, commit: str) -> dict[str, str]:
    """Returns path -> object id of the JSON files of a commit, and of no link."""
    rows = _output(root, "ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")
    named = (row.split(b"\t", 1) for row in rows if row)
    entries = ((os.fsdecode(path), *head.decode().split()) for head, path in named)
    return {path: oid for path, mode, _, oid in entries if mode in _FILE and path.endswith(".json")}


def _index(root: Path) -> dict[str, str]:
    """Returns path -> object id of the JSON files that git would commit now, and of no link."""
    rows = _output(root, "ls-files", "--cached", "--stage", "-z").split(b"\0")
    named = (row.split(b"\t", 1) for row in rows if row)
    entries = ((os.fsdecode(path), *head.decode().split()) for head, path in named)
    return {path: oid for path, mode, oid, stage in entries if mode in _FILE and path.endswith(".json")}


def _lines(data: bytes) -> bytes:
    """Returns a text with one form of line ends, which git may convert where it lays out a file."""
    return data.replace(b"\r\n", b"\n")


def _blobs(root: Path, ids: Mapping[str, str]) -> dict[str, bytes]:
    """Returns path -> content."""
    asked = "".join(f"{oid}\n" for oid in ids.values()).encode()
    answer, blobs, at = _output(root, "cat-file", "--batch", send=asked), dict[str, bytes](), 0
    for path in ids:
        end = answer.index(b"\n", at)
        said = answer[at:end].split()
        if len(said) != 3:  # "<id> missing", in a clone that has only a part of the history
            raise WorkspaceError(f"{root}: git has no content of {path} at the base; fetch the whole history")
        size = int(said[2])
        blobs[path] = answer[end + 1 : end + 1 + size]
        at = end + size + 2
    return blobs


def _linked(root: Path, path: str) -> bool:
    """Returns whether a path is a link, or leads through one."""
    steps = [root / path, *(root / above for above in Path(path).parents if above.name)]
    return any(step.is_symlink() for step in steps)


def _paths(root: Path, *arguments: str) -> frozenset[str]:
    return frozenset(os.fsdecode(path) for path in _output(root, *arguments).split(b"\0") if path)


def _text(root: Path, *arguments: str) -> str:
    return os.fsdecode(_output(root, *arguments))


def _output(root: Path, *arguments: str, send: bytes = b"") -> bytes:
    asked = _asked(root, *arguments, send=send)
    if asked.returncode:
        said: Iterable[str] = asked.stderr.decode(errors="replace").strip().splitlines()
        raise WorkspaceError(f"{root}: git {arguments[0]}: {next(iter(said), 'failed')}")
    return asked.stdout


def _asked(root: Path, *arguments: str, send: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(["git", *_SAFE, *arguments], cwd=root, input=send, capture_output=True, env=environment)
    except FileNotFoundError:
        raise WorkspaceError(f"{root}: --base: git is not installed, or the folder is missing") from None
