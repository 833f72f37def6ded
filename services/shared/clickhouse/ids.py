"""The ids of stored requests, kept with the data, so that a repeated one is recognized after a restart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import xxhash

from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.target import DATABASE

_TIMEOUT = 60.0
# A server takes a megabyte of parameters: 23 bytes a hash, and the names of their tenants.
_HASHES_AT_ONCE = 5_000


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

    async def write(self, headers: Sequence[Header]) -> None:
        """Stores the ids of one insert. Twice does no harm: the table keeps of equal rows one."""
        known = [header for header in headers if header.request_id or header.producer_id]
        rows = pa.table(
            {
                "tenant": pa.array([header.tenant for header in known], pa.string()),
                "id_hash": pa.array([_hash_of(header) for header in known], pa.uint64()),
                "request_id": pa.array([header.request_id for header in known], pa.string()),
                "producer_id": pa.array([header.producer_id for header in known], pa.string()),
                "sequence": pa.array([header.sequence for header in known], pa.uint64()),
                "received_at": pa.array([header.received_at for header in known], pa.int64()).cast(
                    pa.timestamp("ns", tz="UTC")
                ),
            }
        )
        await self._clickhouse.insert(self._table, rows)

    async def known_requests(self, headers: Sequence[Header]) -> set[tuple[str, str]]:
        """See `KnownIds.known_requests`."""
        asked = {(header.tenant, header.request_id) for header in headers}
        rows = await self._by_hash("request_id", "r", asked)
        return {(row["tenant"], row["request_id"]) for row in rows} & asked

    async def highest_sequences(self, producers: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """See `KnownIds.highest_sequences`."""
        rows = await self._by_hash("producer_id", "p", producers)
        highest = {(row["tenant"], row["producer_id"]): int(row["sequence"]) for row in rows}
        return {producer: highest[producer] for producer in highest.keys() & producers}

    async def _by_hash(self, column: str, kind: str, ids: Iterable[tuple[str, str]]) -> list[Any]:
        """Tenant, id and highest sequence of those that are stored, and of others with a hash of theirs."""
        rows: list[Any] = []
        for part in _parts(sorted(ids)):
            rows += await self._clickhouse.rows(
                f"SELECT tenant, {column}, max(sequence) AS sequence FROM {DATABASE}.{self._table} "
                "WHERE tenant IN {tenants:Array(String)} AND id_hash IN {hashes:Array(UInt64)} "
                f"AND {column} != '' AND stored_at > now() - INTERVAL 1 DAY GROUP BY tenant, {column}",
                {"tenants": sorted({tenant for tenant, _ in part}), "hashes": [_hash(*each, kind) for each in part]},
                timeout=_TIMEOUT,
            )
        return rows

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


def _parts(ids: Sequence[tuple[str, str]]) -> Iterable[Sequence[tuple[str, str]]]:
    return (ids[first : first + _HASHES_AT_ONCE] for first in range(0, len(ids), _HASHES_AT_ONCE))


def _hash_of(header: Header) -> int:
    if header.request_id:
        return _hash(header.tenant, header.request_id, "r")
    return _hash(header.tenant, header.producer_id, "p")


def _hash(tenant: str, name: str, kind: str) -> int:
    """As the migration `ids_by_hash` computes it."""
    return xxhash.xxh3_64_intdigest(f"{len(tenant.encode())}:{tenant}{kind}{name}".encode())
