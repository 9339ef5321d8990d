"""`make fuzz-coverage`: the readers under Atheris, which changes bytes so as to reach lines not reached before.

`python -m tests.fuzz.coverage SUBJECT [libFuzzer's options]` tries bytes as the first file of a subject, read by its
first function. Atheris is no part of the other checks: pip install 'lanelock[fuzz]'.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

from . import ROOT


def _computing() -> list[str]:
    """Returns the modules that compute: what Numba compiles cannot be followed, and reads no file of a user."""
    paths = [path for folder in ("engine", "scoring") for path in (ROOT / folder).rglob("*.py")]
    reading = ("keep", "user_tables.py", "world_import.py", "roster_import.py", "gates.py")
    others = [path for path in paths if not {path.name, path.parent.name} & set(reading)]
    return ["lanelock." + ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in others]


with atheris.instrument_imports(include=["lanelock"], exclude=_computing()):
    from .ground import build
    from .judge import fault, stated
    from .subjects import BY_NAME
    from .trial import Answer, answer


def main() -> None:
    name, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        ground = build(Path(folder) / "ground")
        subject, seeds = BY_NAME[name], Path(folder) / "seeds"
        path = subject.where(ground)[0]
        content, reader = path.read_bytes(), subject.readers[0]
        before, names = answer(reader, ground), (path.name, path.stem, path.parent.name, *subject.named(ground))
        seeds.mkdir()
        (seeds / "whole").write_bytes(content)

        def once(data: bytes) -> None:
            path.write_bytes(data)
            states = stated(content, data, subject.form)
            after: Answer = answer(reader, ground)
            if (found := fault(reader.law, states, before, after, names)) is not None:
                raise AssertionError(f"{name}: {found}: {after.message}")

        # Our own alarm and limit watch an input; libFuzzer's would take the same signal.
        atheris.Setup([sys.argv[0], "-timeout=0", "-rss_limit_mb=0", *options, str(seeds)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
