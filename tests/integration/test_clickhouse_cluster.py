"""A cluster of two real servers, sharded by tenant. What replication adds, which they lack, is in golden files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pyarrow as pa
import pytest
import pytest_asyncio
from clickhouse_signals import METRICS, NOW, ROWS, TRACES, header, points, signals, stored
from clickhouse_world import opened
from trace_world import columns_of

from deploy.servers import Server, make_server
from services.metrics.model import Aggregation, MetricColumns, RangeQuery
from services.metrics.query import MetricQuery
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.errors import UnavailableError
from services.traces.model import Span
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]

TENANTS = [f"tenant-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("cluster")
    servers = [make_server("clickhouse", folder / name) for name in ("a", "b")]
    shards = "".join(
        f"<shard><replica><host>127.0.0.1</host><port>{server.ports['tcp']}</port></replica></shard>"
        for server in servers
    )
    with contextlib.ExitStack() as stack:
        for server in servers:
            server.config["remote_servers"] = f"<shop><secret>between us</secret>{shards}</shop>"
            server.start()
            stack.callback(server.stop)
        yield servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(servers: list[Server]) -> AsyncIterator[ClickHouse]:
    config = ClickHouseConfig(cluster="shop", replicated=False, nodes=tuple(server.address for server in servers))
    async with opened(f"{servers[0].url}/airis_cluster", config, drops=False) as cluster:
        for signal in signals(cluster):
            await signal.open()
            # As by another replica.
            await signal.open()
        yield cluster


async def test_each_insert_is_stored_once_on_the_shards_of_its_tenants(
    servers: list[Server], cluster: ClickHouse
) -> None:
    store = ClickHouseMetricStore(cluster, METRICS)
    batches = [(replace(header(number), tenant=tenant), own(tenant)) for number, tenant in enumerate(TENANTS)]
    for _ in range(3):
        await store.write(batches, "the same")
    assert await stored(cluster, signals(cluster)[0]) == dict.fromkeys(
        ("samples", "samples_1m", "samples_1h"), ROWS * len(TENANTS)
    )
    tenants: list[set[str]] = []
    for server in servers:
        async with opened(f"{server.url}/airis_cluster", drops=False) as one:
            rows = await one.rows("SELECT DISTINCT tenant FROM airis.samples_local", timeout=10)
            tenants.append({row["tenant"] for row in rows})
    assert tenants[0] | tenants[1] == set(TENANTS)
    assert tenants[0].isdisjoint(tenants[1])
    assert all(tenants)
    asked = [header_ for header_, _ in batches] + [replace(header(0), tenant="unknown")]
    assert await store.ids.known_requests(asked) == {(each.tenant, each.request_id) for each, _ in batches}


async def test_a_query_finds_its_tenant_wherever_that_is(cluster: ClickHouse) -> None:
    query = MetricQuery(ClickHouseMetricStore(cluster, METRICS))
    start = NOW // 1_000_000 // 3_600_000 * 3_600_000
    for tenant in TENANTS:
        for aggregation in (Aggregation.SUM, Aggregation.RATE):
            ask = RangeQuery(
                tenant=tenant, metric="cpu", filter="host = a", start=start, end=start + 7_200_000, step=7_200_000,
                aggregation=aggregation, quantile=0.5, group_by=("host",), max_series=10,
            )  # fmt: skip
            (series,) = (await query.query(ask, start + 7_200_000, 10.0)).series
            if aggregation is Aggregation.SUM:
                assert series.values == [sum(range(ROWS))]


async def test_the_service_map_is_made_on_a_cluster(cluster: ClickHouse) -> None:
    store = ClickHouseTraceStore(cluster, TRACES)
    for tenant in TENANTS:
        web = Span("a" * 32, "1" * 16, "", "GET /", "web", NOW, NOW + 1000)
        cart = Span("a" * 32, "2" * 16, "1" * 16, "GET /", "cart", NOW + 5, NOW + 900)
        await store.write([(replace(header(1), tenant=tenant), columns_of([web, cart], NOW, tenant))], f"t-{tenant}")
    minute = NOW // 60_000_000_000
    for _ in range(2):
        await store.refresh_edges(minute, minute)
    for tenant in TENANTS:
        (edge,) = await store.edges(tenant, NOW - 60_000_000_000, NOW + 60_000_000_000, 10, 10.0)
        assert (edge.caller, edge.callee, edge.call_count) == ("web", "cart", 1)
        assert len(await store.trace(tenant, "a" * 32, 10, 10.0)) == 2


async def test_what_a_dead_shard_should_keep_is_not_acknowledged(servers: list[Server], cluster: ClickHouse) -> None:
    store = ClickHouseMetricStore(cluster, METRICS)
    batches = [(replace(header(9), tenant=tenant, request_id="later"), own(tenant, 9)) for tenant in TENANTS]
    servers[1].kill()
    with pytest.raises(UnavailableError):
        await store.write(batches, "later")
    servers[1].start()
    await store.write(batches, "later")
    assert set((await stored(cluster, signals(cluster)[0])).values()) == {2 * ROWS * len(TENANTS)}


def own(tenant: str, number: int = 0) -> MetricColumns:
    """Points of a tenant."""
    columns = points(number)
    at = columns.samples.schema.get_field_index("tenant")
    samples = columns.samples.set_column(at, "tenant", pa.array([tenant] * ROWS))
    return MetricColumns(samples, columns.distributions, [replace(row, tenant=tenant) for row in columns.series])
