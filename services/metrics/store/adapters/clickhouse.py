"""Metrics in ClickHouse, in-process or as a server: one SQL, two DSNs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa

from services.metrics.config import MetricsConfig
from services.metrics.model import (
    DISTRIBUTION_COLUMNS,
    Aggregation,
    Capabilities,
    Kind,
    LabelValues,
    MetricColumns,
    MetricDescriptor,
    RangeQuery,
    Series,
    SeriesRow,
    TimeSeries,
    milliseconds,
)
from services.metrics.store.adapters import clickhouse_sql
from services.metrics.store.port import Plan
from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.ids import StoredIds
from services.shared.clickhouse.inserts import Inserts, Rollup, Source
from services.shared.clickhouse.migrations import migrate
from services.shared.errors import ResourceExhaustedError
from services.shared.filter import Checked
from services.shared.filter.clickhouse import compile_clickhouse

_IDS_TABLE = "metric_known_ids"

_POINT = "tenant, metric, series_id, timestamp"
_SAMPLES = Source(
    "samples",
    # A series may have several points at a moment. By its bits, as 0 and -0 are equal and not the same.
    f"{_POINT}, reinterpretAsUInt64(value)",
    "timestamp",
    tuple(
        Rollup(
            f"samples_{step}", f"samples_to_{step}", _POINT, f"tenant, metric, series_id, {start}(timestamp)", "count"
        )
        for step, start in (("1m", "toStartOfMinute"), ("1h", "toStartOfHour"))
    ),
)
_DISTRIBUTIONS = Source(
    "distributions", f"{_POINT}, cityHash64(toString(({', '.join(DISTRIBUTION_COLUMNS)})))", "timestamp"
)

_MAX_POINTS = 1_000_000
_MAX_DISTRIBUTION_POINTS = 200_000
_MAX_DISTRIBUTION_BYTES = 128 * 1024 * 1024
_MAX_VALUES = 1000
# A series that has a point at a moment was seen at most so long before it: a living one is written once a day, and a
# point may be a day ahead of when it is received.
_SEEN_WITHIN_MS = 2 * 86_400_000


class ClickHouseMetricStore:
    """Implements `MetricWriter` and `MetricReader`.

    Args:
        clickhouse: An open pool.
        config: The retention.
    """

    def __init__(self, clickhouse: ClickHouse, config: MetricsConfig) -> None:
        self._clickhouse = clickhouse
        self._config = config
        self._inserts = Inserts(clickhouse, config.raw_retention_days)
        self.ids = StoredIds(clickhouse, _IDS_TABLE)

    async def open(self) -> None:
        """Brings the tables up to date and applies the retention."""
        await migrate(self._clickhouse, "metrics", files("services.metrics.store") / "sql")
        await self._inserts.open()
        raw, rollup = self._config.raw_retention_days, self._config.rollup_days
        for table, column, days in (
            ("samples", "timestamp", raw),
            ("distributions", "timestamp", raw),
            ("samples_1m", "timestamp", rollup),
            ("samples_1h", "timestamp", rollup),
            ("series", "last_seen", rollup + 2),
        ):
            await self._clickhouse.retain(table, column, days)

    async def load_ids(self, into: RecentIds) -> None:
        """Reads back the ids of stored requests."""
        await self.ids.load(into)

    async def write(
        self, batches: Sequence[tuple[Header, MetricColumns]], token: str, is_repeated: bool = False
    ) -> list[SeriesRow]:
        """See `MetricWriter.write`."""
        columns = [column for _, column in batches]
        series = list({(row.tenant, row.series_id): row for column in columns for row in column.series}.values())
        received_at = max(header.received_at for header, _ in batches)
        # Series first: a sample never stands there without its labels.
        await self._clickhouse.insert("series", series_table(series, received_at))
        samples = pa.concat_tables([c.samples for c in columns])
        await self._inserts.store(_SAMPLES, samples, token, is_repeated)
        distributions = pa.concat_tables([c.distributions for c in columns])
        await self._inserts.store(_DISTRIBUTIONS, distributions, token, is_repeated)
        await self.ids.write([header for header, _ in batches])
        return series

    def capabilities(self, now_ms: int) -> Capabilities:
        """See `MetricReader.capabilities`."""
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        return Capabilities(frozenset(Aggregation), now - timedelta(days=self._config.raw_retention_days))

    async def kinds(self, query: RangeQuery, series: Checked | None, timeout: float) -> frozenset[Kind]:
        """See `MetricReader.kinds`."""
        compiled = compile_clickhouse(series)
        rows = await self._clickhouse.rows(
            "SELECT DISTINCT kind FROM airis.series "
            "WHERE tenant = {tenant:String} AND metric = {metric:String} "
            f"AND last_seen >= fromUnixTimestamp64Milli({{alive_since:Int64}}) AND {compiled.sql}",
            {
                "tenant": query.tenant,
                "metric": query.metric,
                "alive_since": query.start - _SEEN_WITHIN_MS,
                **compiled.parameters,
            },
            timeout=timeout,
        )
        return frozenset(Kind[row["kind"]] for row in rows)

    async def aggregate(
        self, query: RangeQuery, plan: Plan, series: Checked | None, timeout: float
    ) -> list[TimeSeries]:
        """See `MetricReader.aggregate`."""
        sql, parameters = clickhouse_sql.aggregate(query, plan, series)
        table = await self._clickhouse.query(sql, parameters, timeout=timeout, max_rows=_MAX_POINTS)
        return await asyncio.to_thread(_time_series, table, query)

    async def distributions(
        self, query: RangeQuery, series: Checked | None, lookback_ms: int, timeout: float
    ) -> pa.Table:
        """See `MetricReader.distributions`."""
        sql, parameters = clickhouse_sql.distributions(query, series, lookback_ms)
        return await self._clickhouse.query(
            sql,
            parameters,
            timeout=timeout,
            max_rows=_MAX_DISTRIBUTION_POINTS,
            max_bytes=_MAX_DISTRIBUTION_BYTES,
        )

    async def metrics(
        self, tenant: str, series: Checked | None, after: str, limit: int, timeout: float
    ) -> list[MetricDescriptor]:
        """See `MetricReader.metrics`."""
        compiled = compile_clickhouse(series)
        rows = await self._clickhouse.rows(
            "SELECT metric, groupUniqArray(16)(kind) AS kinds, arraySort(groupUniqArray(16)(unit)) AS units, "
            "uniqExact(series_id) AS series_count FROM airis.series "
            f"WHERE tenant = {{tenant:String}} AND metric > {{after:String}} AND {compiled.sql} "
            "GROUP BY metric ORDER BY metric LIMIT {limit:UInt32}",
            {"tenant": tenant, "after": after, "limit": limit, **compiled.parameters},
            timeout=timeout,
        )
        return [
            MetricDescriptor(
                row["metric"], sorted(Kind[kind] for kind in row["kinds"]), row["units"], row["series_count"]
            )
            for row in rows
        ]

    async def labels(
        self, tenant: str, metric: str, series: Checked | None, after: str, limit: int, timeout: float
    ) -> list[LabelValues]:
        """See `MetricReader.labels`."""
        compiled = compile_clickhouse(series)
        rows = await self._clickhouse.rows(
            "SELECT key, arraySlice(arraySort(groupUniqArray(value)), 1, {values:UInt32}) AS values, "
            "uniqExact(value) AS value_count FROM airis.series "
            "ARRAY JOIN mapKeys(labels) AS key, mapValues(labels) AS value "
            f"WHERE tenant = {{tenant:String}} AND metric = {{metric:String}} AND {compiled.sql} "
            "AND key > {after:String} GROUP BY key ORDER BY key LIMIT {limit:UInt32}",
            {
                "tenant": tenant,
                "metric": metric,
                "after": after,
                "limit": limit,
                "values": _MAX_VALUES,
                **compiled.parameters,
            },
            timeout=timeout,
        )
        return [LabelValues(row["key"], row["values"], row["value_count"]) for row in rows]

    async def series(
        self, tenant: str, metric: str, series: Checked | None, after: int, limit: int, timeout: float
    ) -> list[Series]:
        """See `MetricReader.series`."""
        compiled = compile_clickhouse(series)
        rows = await self._clickhouse.rows(
            "SELECT series_id, any(s.labels) AS labels, any(s.kind) AS kind, any(s.unit) AS unit, "
            "argMax(s.metadata, s.last_seen) AS metadata FROM airis.series AS s "
            "WHERE tenant = {tenant:String} AND metric = {metric:String} "
            "AND ({first:Bool} OR series_id > {after:UInt64}) "
            "AND series_id IN (SELECT series_id FROM airis.series WHERE tenant = {tenant:String} "
            f"AND metric = {{metric:String}} AND {compiled.sql}) "
            "GROUP BY series_id ORDER BY series_id LIMIT {limit:UInt32}",
            {
                "tenant": tenant,
                "metric": metric,
                "first": after < 0,
                "after": max(after, 0),
                "limit": limit,
                **compiled.parameters,
            },
            timeout=timeout,
        )
        return [
            Series(row["series_id"], dict(row["labels"]), Kind[row["kind"]], row["unit"], row["metadata"])
            for row in rows
        ]


def series_table(rows: Sequence[SeriesRow], received_at: int) -> pa.Table:
    """Rows of the table `series`; `received_at` in nanoseconds since 1970."""
    # Large, as the labels of all series of an insert may be more than 2 GiB: Arrow ends the process at smaller maps.
    keys = [key for row in rows for key in row.labels]
    values = [value for row in rows for value in row.labels.values()]
    offsets = np.cumsum([0, *(len(row.labels) for row in rows)], dtype=np.int32)
    return pa.table(
        {
            "tenant": pa.array([row.tenant for row in rows], pa.string()),
            "metric": pa.array([row.metric for row in rows], pa.string()),
            "series_id": pa.array([row.series_id for row in rows], pa.uint64()),
            "kind": pa.array([row.kind for row in rows], pa.string()),
            "unit": pa.array([row.unit for row in rows], pa.string()),
            "labels": pa.MapArray.from_arrays(
                pa.array(offsets), pa.array(keys, pa.large_string()), pa.array(values, pa.large_string())
            ),
            "metadata": pa.array([row.metadata for row in rows], pa.large_string()),
            "last_seen": milliseconds(np.full(len(rows), received_at, np.int64)),
        }
    )


def _time_series(table: pa.Table, query: RangeQuery) -> list[TimeSeries]:
    if table.num_rows == 0:
        return []
    groups = table.column("g").to_pylist()
    times, values = table.column("t").to_numpy(), table.column("v").to_numpy()
    result: list[TimeSeries] = []
    begin = 0
    for end in [*(at for at in range(1, len(groups)) if groups[at] != groups[at - 1]), len(groups)]:
        finite = np.isfinite(values[begin:end])
        result.append(
            TimeSeries(
                dict(zip(query.group_by, groups[begin], strict=True)),
                _listed(times[begin:end][finite]),
                _listed(values[begin:end][finite]),
            )
        )
        begin = end
    if len(result) > query.max_series:
        raise ResourceExhaustedError(
            f"The result has {len(result)} series; at most {query.max_series} are allowed. Group by fewer labels, "
            "or set a filter.",
            reason="RESULT_TOO_LARGE",
        )
    return result


def _listed(values: Any) -> list[Any]:
    return list(values.tolist())
