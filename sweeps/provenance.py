"""Where something was made: by which package, commit, interpreter, libraries and user.

It explains a difference; it never is part of a pack's, a run's or a trial's identity, and nobody can prove it.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "numba", "pyarrow", "scipy", "optuna", "mlflow")  # on which results, proposals and records depend
_PATIENCE = 5  # seconds for one question to git


@dataclass(frozen=True, slots=True)
class Provenance:
    """The circumstances under which a document was made."""

    lanelock: str  # version
    git: str | None  # commit of the repository that the command ran in
    diff: str | None  # SHA-256 of what was not committed there; None: nothing, or no repository
    python: str
    platform: str
    libraries: Mapping[str, str]  # name -> version
    user: str

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)

    def differences(self, stated: Mapping[str, Any]) -> Iterator[str]:
        """Yields what is other here than in a document's provenance, in words; users may differ."""
        for name in ("lanelock", "git", "diff", "python", "platform"):
            if stated.get(name) != getattr(self, name):
                yield f"{_SAID[name]} {_short(stated.get(name))}, here {_short(getattr(self, name))}"
        for name, installed in self.libraries.items():
            if (theirs := stated.get("libraries", {}).get(name)) != installed:
                yield f"{name} {_short(theirs)}, here {installed}"

    def __str__(self) -> str:
        commit = "no commit" if self.git is None else f"commit {self.git[:12]}"
        changed = "" if self.diff is None else " with uncommitted changes"
        return f"{self.user}, lanelock {self.lanelock}, {commit}{changed}, Python {self.python}, {self.platform}"


_SAID = {
    "lanelock": "other package: lanelock", "git": "other commit:", "diff": "other uncommitted changes:",
    "python": "other Python:", "platform": "other platform:",
}  # fmt: skip


@cache
def here() -> Provenance:
    """Returns the provenance of what this process makes."""
    diff = uncommitted()
    return Provenance(
        lanelock=version("lanelock"),
        git=_git("rev-parse", "HEAD"),
        diff=hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        python=platform.python_version(),
        platform=" ".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
        libraries={name: installed for name in LIBRARIES if (installed := _installed(name)) is not None},
        user=user(),
    )


@cache
def uncommitted() -> str:
    """Returns the changes of the current folder's repository since its last commit, as git shows them."""
    return _git("diff", "HEAD", "--no-ext-diff", "--no-color", "--no-textconv") or ""


def user() -> str:
    """Returns the name of the user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _git(*arguments: str) -> str | None:
    """Returns git's answer about the current folder; None without git, a repository or a commit."""
    command = ["git", "-C", str(Path.cwd()), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace").strip()


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) < 50 else f"{text[:12]}…"
