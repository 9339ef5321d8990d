"""The upstream in a tree of the record's form: its own bundle is checked before any of its tables is read.

Such a tree is a folder with `data/layer1/1B/validation/…/_passed.flag`, `data/layer1/1B/site_locations/…` and
`data/layer1/2A/site_timezones/…`. The flag must pass what the index beside it lists; if it does not, nothing is read.
In a tree that Lanelock wrote, the bundle lists every file of 1B and 2A, so that each of their bytes is vouched for;
another's bundle may vouch for less. Columns that no state reads are left unread. Which merchants are virtual is stated
by the table `merchants` in the bundle; without it, none is.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from lanelock.engine.segment_2b.record import bundle
from lanelock.engine.segment_2b.record.places import PATHS, UPSTREAM
from lanelock.engine.segment_2b.user_tables import read_table
from lanelock.policies import DataError, IntegrityError

MERCHANTS = "merchants.parquet"  # evidence in the bundle
_BUNDLE = "validation_bundle_1B"
_TABLES = {"site_locations": "site_locations", "site_timezones": "site_timezones", "merchants": _BUNDLE}
_VALUE = re.compile(r"\{\w+\}")  # of a partition, in a path


def is_tree(folder: Path) -> bool:
    """Returns whether a folder is the root of a tree of the record's form."""
    return (folder / UPSTREAM / "1B").is_dir()


def checked(root: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file with a table of the upstream, by path, once the bundle has been checked."""
    _check_bundle(root)
    return {file.relative_to(root).as_posix(): bundle.digest_at(file) for file in _read_files(root)}


def read(root: Path, name: str, known: Collection[str]) -> tuple[Path, pa.Table | None]:
    """Returns (path, table with its `known` columns) of a table of the upstream; None in place of one it may lack."""
    files = _files(root, name)
    if not files and name != "merchants":
        raise DataError(f"{root / UPSTREAM}: no table {name}; it lies in {PATHS[name]}")
    tables = [_known(read_table(file), known) for file in files]
    return (files[0] if files else root), pa.concat_tables(tables) if tables else None


def _known(table: pa.Table, known: Collection[str]) -> pa.Table:
    return table.select([name for name in table.column_names if name in known])


def _check_bundle(root: Path) -> None:
    """Checks the bundle, and every file that it lists. Raises IntegrityError naming the first that is not as stated."""
    folder = _only(root, _BUNDLE)
    if folder is None:
        raise IntegrityError(f"{root / PATHS[_BUNDLE] / bundle.FLAG}: missing: no PASS, no read")
    evidence = bundle.check_bundle(folder)
    if bundle.FILES in evidence:
        listed = bundle.listed_in(folder / bundle.FILES, evidence[bundle.FILES])
        bundle.check_files(root, listed)
        own = {(folder / each).relative_to(root).as_posix() for each in (*evidence, bundle.INDEX, bundle.FLAG)}
        for segment in ("1B", "2A"):
            bundle.check_only(root / UPSTREAM / segment, root, own | listed.keys())
        for file in _read_files(root):  # a link may lead to a folder with more than the look above has seen
            bundle.check_listed(file, root, own | listed.keys())


def _read_files(root: Path) -> list[Path]:
    return [file for name in _TABLES for file in _files(root, name)]


def _files(root: Path, name: str) -> list[Path]:
    """Returns the Parquet files of a table, in order of their names."""
    folder = _only(root, _TABLES[name])
    if folder is None:
        return []
    return sorted(folder.glob(MERCHANTS if name == "merchants" else "*.parquet"))


def _only(root: Path, name: str) -> Path | None:
    """Returns the one partition of a data set, None if there is none. Raises DataError if there are several."""
    found = _partitions(root, name)
    if len(found) > 1:
        raise DataError(f"{root}: {found[0].relative_to(root)} and {found[1].relative_to(root)}: keep one of them")
    return found[0] if found else None


def _partitions(root: Path, name: str) -> list[Path]:
    return sorted(path for path in root.glob(_VALUE.sub("*", PATHS[name]).rstrip("/")) if path.is_dir())
