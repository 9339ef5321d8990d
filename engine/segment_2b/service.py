"""A service over a run's frozen tables: it maps arrivals to zone and site exactly as the published log does.

The choice depends only on the arrival's merchant, its moment and its number among equal arrivals (`s5_routing`), so
the service needs no roster and keeps no state. Equal arrivals (same merchant and microsecond) are distinguished by
their order within one call; split over two calls, both get the choice of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.segment_2b.cells import refuse, typed_columns
from lanelock.engine.segment_2b.roster_import import moments
from lanelock.engine.segment_2b.states.s5_roster import merchants_at
from lanelock.engine.segment_2b.states.s5_routing import Router
from lanelock.engine.segment_2b.tables import TABLES

_LOG = TABLES["s5_selection_log"].schema
_WHERE = Path("arrivals")  # the name of the table in errors
ANSWER = pa.schema([_LOG.field(name).with_nullable(True) for name in ("tz_group_id", "site_id")])


@dataclass(frozen=True, slots=True, eq=False)
class RoutingService:
    """Routes arrivals of one run's merchants, on any day of its horizon."""

    router: Router
    virtual: NDArray[np.bool_]  # [m] merchants whose arrivals take an edge instead of a site

    def answer(self, arrivals: pa.Table) -> pa.Table:
        """Returns `tz_group_id` and `site_id` per row of `arrivals`; both are null for a virtual merchant.

        `arrivals` has `merchant_id` and `utc_timestamp` (with an offset). Raises DataError naming the first row and
        field that cannot be routed.
        """
        types = {"merchant_id": _LOG.field("merchant_id").type}
        if arrivals.num_rows == 0:
            return ANSWER.empty_table()
        merchant_id = typed_columns(_WHERE, arrivals, types, ("merchant_id", "utc_timestamp"))["merchant_id"]
        moment = moments(_WHERE, arrivals["utc_timestamp"])
        at = merchants_at(self.router.merchant_id, merchant_id)
        refuse(_WHERE, at < 0, lambda row: f"merchant_id: {merchant_id[row]} is not a merchant of the world")
        routed = np.flatnonzero(~self.virtual[at])
        zone, routed_site = self.router.route(merchant_id[routed], moment[routed], routed)
        code, site = np.zeros(len(at), np.int32), np.zeros(len(at), np.uint64)
        code[routed], site[routed] = zone.codes, routed_site
        codes, sites = (pa.array(values, mask=self.virtual[at]) for values in (code, site))
        zones = pa.DictionaryArray.from_arrays(codes, pa.array(zone.values, pa.string()))
        return pa.Table.from_arrays([zones.cast(ANSWER.field("tz_group_id").type), sites], schema=ANSWER)
