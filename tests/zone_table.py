"""The shipped table of zones, built from tzdata: `python tests/zone_table.py` writes it, and a test compares it.

After writing, put the printed SHA-256 and tzdata's version into `engine/segment_2b/zones.py`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import struct
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import pyarrow as pa

from lanelock.engine.segment_2b.zones import ZONES

# Countries with places in a zone that zone.tab gives to another: the north of Vietnam, which zone1970.tab names;
# Kosovo, which has no zone; and Laayoune, which GeoNames counts to Morocco.
MORE_COUNTRIES = {"Asia/Bangkok": "VN", "Europe/Belgrade": "XK", "Africa/El_Aaiun": "MA"}
# Names of a clock, not of a place: no site lies in one of them.
CLOCKS = {"CET", "CST6CDT", "EET", "EST", "EST5EDT", "Factory", "HST", "MET", "MST", "MST7MDT", "PST8PDT", "WET"}
# Old names whose link leads abroad, since tzdata merges zones across countries: the zone of the place itself.
AT_HOME = {
    "Africa/Asmera": "Africa/Asmara",
    "Africa/Timbuktu": "Africa/Bamako",
    "America/Coral_Harbour": "America/Atikokan",
    "America/Virgin": "America/St_Thomas",
    "Antarctica/South_Pole": "Antarctica/McMurdo",
    "Atlantic/Jan_Mayen": "Arctic/Longyearbyen",
    "Iceland": "Atlantic/Reykjavik",
    "Pacific/Ponape": "Pacific/Pohnpei",
    "Pacific/Truk": "Pacific/Chuuk",
    "Pacific/Yap": "Pacific/Chuuk",
}
FIRST, LAST = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (1970, 2100))
WEEK = dt.timedelta(days=7)  # two changes by a rule lie further apart


def zone_table() -> pa.Table:
    """Returns the zones of places and of the sea, sorted, with their countries, other names and offsets from UTC."""
    rules = {zone: offsets(zone) for zone in countries()}
    return pa.table(
        {
            "zone": pa.array(rules, pa.string()),
            "countries": pa.array([sorted(here) for here in countries().values()], pa.list_(pa.string())),
            "other_names": pa.array([other_names(zone) for zone in rules], pa.list_(pa.string())),
            "since": pa.array([[at for at, _ in changes] for changes in rules.values()], pa.list_(pa.int64())),
            "offset": pa.array([[to for _, to in changes] for changes in rules.values()], pa.list_(pa.int32())),
        }
    )


@cache
def countries() -> dict[str, set[str]]:
    """Returns zone -> its countries: the zones of zone.tab, and those of the sea, which have none."""
    rows = [line.split("\t") for line in lines("zone.tab")]
    here: dict[str, set[str]] = {}
    for zone, country in [*((zone, country) for country, _, zone, *_ in rows), *MORE_COUNTRIES.items()]:
        here.setdefault(zone, set()).add(country)
    here |= {name: set() for kind, name, *_ in database() if kind == "Z" and name.startswith("Etc/")}
    return dict(sorted(here.items()))


def other_names(zone: str) -> list[str]:
    """Returns the links that end in a zone, except clocks: a link that zone.tab lists is a zone of its own."""
    return sorted(name for name in links() if name not in CLOCKS and canonical(name) == zone != name)


def canonical(name: str) -> str:
    while name not in countries():
        name = AT_HOME.get(name) or links()[name]
    return name


def base(name: str) -> str:
    """Returns the zone whose rules tzdata gives a name."""
    while name in links():
        name = links()[name]
    return name


@cache
def links() -> dict[str, str]:
    return {row[2]: row[1] for row in database() if row[0] == "L"}


@cache
def database() -> list[list[str]]:
    return [line.split() for line in lines("tzdata.zi")]


def lines(name: str) -> list[str]:
    text = files("tzdata").joinpath("zoneinfo", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def offsets(zone: str) -> list[tuple[int, int]]:
    """Returns (UTC seconds, offset from then on in seconds) from 1970 until 2100."""
    return _offsets(base(zone))


@cache
def _offsets(zone: str) -> list[tuple[int, int]]:
    data = files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
    rules, changes = ZoneInfo.from_file(io.BytesIO(data), zone), list[tuple[int, int]]()
    for at in instants(data, rules):
        if not changes or _offset(rules, at) != changes[-1][1]:
            changes.append((int(at.timestamp()), _offset(rules, at)))
    return changes


def instants(data: bytes, rules: ZoneInfo) -> Iterator[dt.datetime]:
    """Yields 1970, and every instant at which the offset may change: those in the file (RFC 9636), then by its rule."""
    uts, stds, leaps, times, kinds, letters = struct.unpack_from(">20x6I", data)
    head = 44 + times * 5 + kinds * 6 + letters + leaps * 8 + stds + uts  # the first block has 32 bits
    count = struct.unpack_from(">20x6I", data, head)[3]
    explicit = [at for at in struct.unpack_from(f">{count}q", data, head + 44) if at > FIRST.timestamp()]
    yield FIRST
    yield from (dt.datetime.fromtimestamp(at, dt.UTC) for at in explicit if at < LAST.timestamp())
    at = dt.datetime.fromtimestamp(explicit[-1], dt.UTC) if explicit else FIRST
    while at < LAST:
        if _offset(rules, at + WEEK) != _offset(rules, at):
            yield _turn(rules, at, at + WEEK)
        at += WEEK


def _turn(rules: ZoneInfo, low: dt.datetime, high: dt.datetime) -> dt.datetime:
    """Returns the second in which the offset is first that of `high`, by bisection."""
    first = _offset(rules, low)
    while high - low > dt.timedelta(seconds=1):
        middle = low + dt.timedelta(seconds=(high - low) // dt.timedelta(seconds=2))
        low, high = (middle, high) if _offset(rules, middle) == first else (low, middle)
    return high


def _offset(zone: ZoneInfo, at: dt.datetime) -> int:
    return int(at.astimezone(zone).utcoffset().total_seconds())


def write_zones() -> None:
    """Writes the table as one compressed Arrow file and prints its digest."""
    table = zone_table()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 19))
    with pa.ipc.new_file(str(ZONES), table.schema, options=options) as writer:
        writer.write_table(table)
    version = files("tzdata").joinpath("zoneinfo/tzdata.zi").read_text(encoding="utf-8").split()[2]
    print(f"{hashlib.sha256(ZONES.read_bytes()).hexdigest()}  {ZONES.name}  tzdata {version}, {table.num_rows} zones")


if __name__ == "__main__":
    write_zones()
