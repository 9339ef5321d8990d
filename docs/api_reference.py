"""Writes the reference of the public Python names into a folder, as pages that need no network: `make docs`.

`lanelock` imports its names at their first use, and pdoc reads only names that are there: each is asked for first.
"""

import sys
import warnings
from pathlib import Path

import pdoc

import lanelock

MODULES = ("lanelock", "lanelock.service")
PRIVATE = tuple(f"!lanelock.{name}" for name in ("__main__", "engine", "policies", "scoring", "sweeps"))


def write(folder: Path) -> None:
    """Writes index.html and a page per module. A warning of pdoc, such as a name that does not resolve, is an error."""
    for name in lanelock.__all__:
        setattr(lanelock, name, getattr(lanelock, name))
    lanelock.engine = lanelock.engine.__call__  # a package that is called: what it does then is what is public of it
    pdoc.render.configure(docformat="google", show_source=False, footer_text=f"Lanelock {lanelock.__version__}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*MODULES, *PRIVATE, output_directory=folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"{sys.argv[1]}/index.html")
