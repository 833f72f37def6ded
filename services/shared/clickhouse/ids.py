"""The ids of stored requests, kept with the data, so that a repeated one is recognized after a restart."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import DATABASE, ClickHouse

_TIMEOUT = 60.0


class StoredIds:
    """One signal's table of ids.

    Args:
        clickhouse: An open pool.
        table: Its name.
        max_ids: Newest request ids that are read back.
    """

    def __init__(self, clickhouse: ClickHouse, table: str, max_ids: int = 10_000_000) -> None:
        self._clickhouse = clickhouse
        self._table = table
        self._max_ids = max_ids

    async def write(self, headers: Sequence[Header], token: str) -> None:
        """Stores the ids of one insert, under its deduplication token."""
        known = [header for header in headers if header.request_id or header.producer_id]
        rows = pa.table(
            {
                "tenant": pa.array([header.tenant for header in known], pa.string()),
                "request_id": pa.array([header.request_id for header in known], pa.string()),
                "producer_id": pa.array([header.producer_id for header in known], pa.string()),
                "sequence": pa.array([header.sequence for header in known], pa.int64()),
                "received_at": pa.array([header.received_at for header in known], pa.int64()).cast(
                    pa.timestamp("ns", tz="UTC")
                ),
            }
        )
        await self._clickhouse.insert(self._table, rows, token=token)

    async def load(self, into: RecentIds) -> None:
        """Reads back the ids of the last day, the newest at most."""
        requests = await self._clickhouse.query(
            f"SELECT tenant, request_id, toUnixTimestamp64Nano(received_at) AS at FROM {DATABASE}.{self._table} "
            "WHERE request_id != '' AND received_at > now() - INTERVAL 1 DAY "
            "ORDER BY received_at DESC LIMIT {limit:UInt32}",
            {"limit": self._max_ids},
            timeout=_TIMEOUT,
            max_rows=self._max_ids,
        )
        for batch in reversed(requests.to_batches(max_chunksize=100_000)):
            columns = [reversed(batch.column(name).to_pylist()) for name in ("tenant", "request_id", "at")]
            into.load_requests(zip(*columns, strict=True))
        producers = await self._clickhouse.rows(
            "SELECT tenant, producer_id, max(sequence) AS sequence, toUnixTimestamp64Nano(max(received_at)) AS at "
            f"FROM {DATABASE}.{self._table} "
            "WHERE producer_id != '' AND received_at > now() - INTERVAL 1 DAY "
            "GROUP BY tenant, producer_id ORDER BY at DESC LIMIT 100000",
            timeout=_TIMEOUT,
        )
        oldest_first = reversed(producers)
        into.load_producers((row["tenant"], row["producer_id"], row["sequence"], row["at"]) for row in oldest_first)
