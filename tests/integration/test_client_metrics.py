"""The client against the real metrics service: what was acknowledged is there once, whatever happens between."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from airis.client import (
    AirisClient,
    DeadlineExceededError,
    IngestSession,
    InvalidArgumentError,
    SyncAirisClient,
    UnavailableError,
)
from airis.client.signals.ingest import QUERYABLE
from airis.client.signals.metrics import query_request
from airis.common.v1.aggregation_pb2 import Aggregation
from airis.metrics.v1 import metrics_pb2
from client_server import ServiceChild

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUTE = 60_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceChild]:
    child = ServiceChild("metrics", Path(tmp_path_factory.mktemp("metrics")))
    await child.start()
    yield child
    await child.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: ServiceChild) -> AsyncIterator[AirisClient]:
    async with AirisClient(targets={"metrics": server.target}) as client:
        yield client


def points(name: str, count: int, first: int = 0) -> list[metrics_pb2.Metric]:
    """Points of one series, a millisecond apart, that tell each other apart by their values."""
    begin = (time.time_ns() - 30 * MINUTE) // 1_000_000
    result = []
    for number in range(first, first + count):
        point = metrics_pb2.Metric(name=name, value=float(number), labels={"host": "a"})
        point.timestamp.FromMilliseconds(begin + number)
        result.append(point)
    return result


async def stored(client: AirisClient, name: str) -> tuple[int, float]:
    """How many points a metric has, and their sum."""
    totals = []
    for aggregation in (Aggregation.COUNT, Aggregation.SUM):
        answer = await client.metrics.query(name, aggregation=aggregation)
        totals.append(sum(point.value for series in answer.series for point in series.points))
    return int(totals[0]), totals[1]


async def settle(client: AirisClient) -> None:
    """Returns when everything that was acknowledged can be queried.

    A server that was killed first repeats the insert amid which it was, and nobody promises how fast.
    """
    request_id, batch = uuid.uuid4().hex, points("settled", 1)
    while True:
        with suppress(DeadlineExceededError):
            await client.metrics.ingest(batch, request_id=request_id, wait_for=QUERYABLE)
            return


async def test_what_is_ingested_can_be_queried_listed_and_watched(client: AirisClient) -> None:
    answer = await client.metrics.ingest(points("shop.orders", 120), wait_for=QUERYABLE)
    assert answer.accepted_count == 120
    assert await stored(client, "shop.orders") == (120, sum(range(120)))
    assert "shop.orders" in [descriptor.metric async for descriptor in client.metrics.list(page_size=1)]
    assert [label.key async for label in client.metrics.labels("shop.orders")] == ["host"]
    assert len(await client.metrics.series("shop.orders").collect(10)) == 1
    query = query_request("shop.orders", aggregation=Aggregation.COUNT)
    results = [result async for result in client.metrics.watch(query, interval=1.0, max_count=1)]
    assert sum(point.value for point in results[0].result.series[0].points) == 120


async def test_a_repeated_request_id_is_stored_once(client: AirisClient) -> None:
    batch = points("repeated.unary", 50)
    for _ in range(3):
        await client.metrics.ingest(batch, request_id="one-and-the-same", wait_for=QUERYABLE)
    assert (await stored(client, "repeated.unary"))[0] == 50


async def test_an_error_names_its_reason_and_fields(client: AirisClient) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.metrics.query("cpu", filter="host = (")
    assert caught.value.reason == "INVALID_FILTER"
    assert "filter" in caught.value.violations[0].field


async def test_an_unreachable_service_is_unavailable() -> None:
    async with AirisClient("127.0.0.1:1") as client:
        with pytest.raises(UnavailableError):
            await client.metrics.query("cpu")


async def test_a_session_stores_each_batch_once_and_says_what_was_refused(client: AirisClient) -> None:
    told = []
    async with client.metrics.session(on_rejection=told.append) as session:
        for first in range(0, 1000, 100):
            await session.send(points("session.plain", 100, first))
        await session.send([*points("session.plain", 1, 1000), metrics_pb2.Metric(name="not a name", value=1)])
        await session.flush()
        assert session.acknowledged_through == 11
    assert session.stored_items == 1001
    assert session.rejected_items == 1
    assert [(rejection.sequence, rejection.items[0].index) for rejection in told] == [(11, 1)]
    assert told[0].items[0].error.reason == "INVALID_NAME"
    await settle(client)
    assert await stored(client, "session.plain") == (1001, sum(range(1001)))


async def test_a_producer_goes_on_after_its_last_sequence(client: AirisClient) -> None:
    for round_number in range(2):
        async with client.metrics.session(producer_id="same-producer") as session:
            assert session.resume_after == round_number
            assert await session.send(points("session.resumed", 10, 10 * round_number)) == round_number + 1
    await settle(client)
    assert (await stored(client, "session.resumed"))[0] == 20


async def test_batching_joins_points_and_sends_the_last_ones_by_age(client: AirisClient) -> None:
    async with client.metrics.batcher(max_items=300, max_age=0.05) as batcher:
        await batcher.add_all(points("batched.stream", 1000))
        await batcher.flush()
    async with client.metrics.batcher(client.metrics.unary_sender(), max_items=300) as batcher:
        await batcher.add_all(points("batched.unary", 1000))
    await settle(client)
    assert await stored(client, "batched.stream") == (1000, sum(range(1000)))
    assert await stored(client, "batched.unary") == (1000, sum(range(1000)))


async def test_the_blocking_client_does_the_same(server: ServiceChild) -> None:
    def use() -> tuple[int, int, list[str]]:
        with SyncAirisClient(targets={"metrics": server.target}) as client:
            with client.metrics.session() as session:
                session.send(points("blocking.session", 10))
            with client.metrics.batcher() as batcher:
                batcher.add_all(points("blocking.session", 10, 10))
            client.metrics.ingest(points("settled", 1), wait_for=QUERYABLE)
            answer = client.metrics.query("blocking.session", aggregation=Aggregation.COUNT)
            count = sum(point.value for series in answer.series for point in series.points)
            watched = list(client.metrics.watch(query_request("blocking.session"), interval=1, max_count=1))
            names = [metric.metric for metric in client.metrics.list(filter='metric = "blocking.session"')]
            return int(count), len(watched), names

    assert await asyncio.to_thread(use) == (20, 1, ["blocking.session"])


async def test_killing_the_server_loses_and_doubles_nothing(server: ServiceChild, client: AirisClient) -> None:
    batches, size = 300, 200

    async def send(session: IngestSession[metrics_pb2.Metric], is_halfway: asyncio.Event) -> None:
        for number in range(batches):
            await session.send(points("session.killed", size, number * size))
            if number == batches // 2:
                is_halfway.set()

    async with client.metrics.session() as session:
        for _ in range(2):
            is_halfway = asyncio.Event()
            sender = asyncio.create_task(send(session, is_halfway))
            halfway = asyncio.create_task(is_halfway.wait())
            await asyncio.wait({sender, halfway}, return_when=asyncio.FIRST_COMPLETED)
            if not halfway.done():
                halfway.cancel()
                await sender
            await server.kill()
            await server.start()
            await sender
            await session.flush()
    assert session.stored_items == 2 * batches * size
    await settle(client)
    expected = sum(range(batches * size))
    assert await stored(client, "session.killed") == (2 * batches * size, 2 * expected)
