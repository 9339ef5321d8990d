"""A run's frozen tables as a service: arrivals in, zone and site out, the very choices the published log holds.

Where an arrival goes is a function of its merchant, its moment and its place among equal ones (`s5_routing`), so a
service needs no roster and no state of its own. Equal arrivals, of one merchant in one microsecond, are told apart
by their order within one call: whoever splits them over two calls gets the first one's choice twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lanelock.engine.segment_2b.roster_import import moments
from lanelock.engine.segment_2b.states.s5_roster import merchants_at
from lanelock.engine.segment_2b.states.s5_routing import Router
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.user_tables import typed_columns
from lanelock.policies import DataError

_LOG = TABLES["s5_selection_log"].schema
_WHERE = Path("arrivals")  # how a fault names the table
ANSWER = pa.schema([_LOG.field(name).with_nullable(True) for name in ("tz_group_id", "site_id")])


@dataclass(frozen=True, slots=True, eq=False)
class RoutingService:
    """Routes arrivals of one run's merchants, on any day of its horizon."""

    router: Router
    virtual: NDArray[np.bool_]  # [m] merchants whose arrivals take an edge instead of a site

    def answer(self, arrivals: pa.Table) -> pa.Table:
        """`tz_group_id` and `site_id` a row, in the order asked; both null for a virtual merchant, which has an edge.

        `arrivals` has `merchant_id` and `utc_timestamp` (with its offset). Raises DataError naming the first row and
        field that cannot be routed.
        """
        types = {"merchant_id": _LOG.field("merchant_id").type}
        if arrivals.num_rows == 0:
            return ANSWER.empty_table()
        merchant_id = typed_columns(_WHERE, arrivals, types, ("merchant_id", "utc_timestamp"))["merchant_id"]
        moment = moments(_WHERE, arrivals["utc_timestamp"])
        at = merchants_at(self.router.merchant_id, merchant_id)
        if len(unknown := np.flatnonzero(at < 0)):
            row = unknown[0]
            raise DataError(f"{_WHERE}: row {row + 1}: merchant_id: {merchant_id[row]} is not a merchant of the world")
        routed = np.flatnonzero(~self.virtual[at])
        zone, site = self.router.route(merchant_id[routed], moment[routed], routed)
        code, found = np.zeros(len(at), np.int32), np.zeros(len(at), np.uint64)
        code[routed], found[routed] = zone.codes, site
        zones = pa.DictionaryArray.from_arrays(
            pa.array(code, mask=self.virtual[at]), pa.array(zone.values, pa.string())
        )
        columns = [zones.cast(ANSWER.field("tz_group_id").type), pa.array(found, mask=self.virtual[at])]
        return pa.Table.from_arrays(columns, schema=ANSWER)
