"""The ingest session against a server that breaks, throttles and falls silent at the worst moments."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from airis.client import (
    AirisClient,
    FailedPreconditionError,
    IngestSession,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from airis.client.backoff import Backoff
from airis.client.signals import metrics as metrics_helpers
from airis.common.v1 import ingest_pb2
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from resilience import BreakerSettings
from resilience.grpc.client import ClientSettings

Response = metrics_pb2.StreamMetricsResponse
Stream = Callable[["Server", Any, Any], AsyncIterator[Response]]


def opened(resume_after: int, batches: int = 64, size: int = 64 * 1024 * 1024) -> Response:
    return Response(
        opened=ingest_pb2.StreamOpened(
            resume_after=resume_after, max_outstanding_batches=batches, max_outstanding_bytes=size
        )
    )


def ack(through: int) -> Response:
    return Response(ack=ingest_pb2.StreamAck(through_sequence=through))


def throttle(sequence: int, seconds: float) -> Response:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return Response(throttle=ingest_pb2.StreamThrottle(retry_delay=delay, from_sequence=sequence))


class Server(metrics_pb2_grpc.MetricsServiceServicer):
    """Stores batches in memory, once each; the script decides what a stream does."""

    def __init__(self, script: Stream) -> None:
        self.script = script
        self.stored: dict[int, float] = {}
        self.streams = 0
        self.requests: list[str] = []
        self.answers: list[Callable[[Any], Awaitable[None]] | None] = []

    @property
    def resume_after(self) -> int:
        through = 0
        while through + 1 in self.stored:
            through += 1
        return through

    def store(self, batch: Any) -> None:
        assert batch.sequence not in self.stored or self.stored[batch.sequence] == batch.metrics[0].value
        self.stored[batch.sequence] = batch.metrics[0].value

    async def StreamMetrics(self, request_iterator: Any, context: Any) -> AsyncIterator[Response]:  # noqa: N802
        self.streams += 1
        async for response in self.script(self, request_iterator, context):
            yield response

    async def IngestMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request.request_id)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            await answer(context)
        return metrics_pb2.IngestMetricsResponse(accepted_count=len(request.metrics))


@asynccontextmanager
async def serving(script: Stream, **options: Any) -> AsyncIterator[tuple[Server, AirisClient]]:
    server, servicer = grpc.aio.server(), Server(script)
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AirisClient(f"127.0.0.1:{port}", **options) as client:
        yield servicer, client
    await server.stop(None)


def new_session(client: AirisClient, **options: Any) -> IngestSession[metrics_pb2.Metric]:
    options.setdefault("backoff", Backoff(0.01, 0.02))
    return IngestSession(client.metrics._calls, metrics_helpers.DIALECT, **options)


def point(value: float) -> metrics_pb2.Metric:
    return metrics_pb2.Metric(name="m", value=value)


async def faithful(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
    async for request in requests:
        if request.HasField("open"):
            yield opened(server.resume_after)
        else:
            server.store(request.batch)
            yield ack(server.resume_after)


@pytest.mark.parametrize("seed", range(6))
async def test_every_batch_arrives_once_and_in_order_whatever_the_server_does(seed: int) -> None:
    chance = random.Random(seed)

    async def hostile(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        refused = unanswered = 0
        limit = chance.randint(1, 6)
        async for request in requests:
            if request.HasField("open"):
                if chance.random() < 0.2:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
                yield opened(server.resume_after, batches=limit)
                continue
            sequence = request.batch.sequence
            if refused and sequence > refused:
                continue
            refused = 0
            match chance.random():
                case luck if luck < 0.08:
                    refused = sequence
                    yield throttle(sequence, 0.001)
                    continue
                case luck if luck < 0.14:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "before the batch is stored")
            server.store(request.batch)
            unanswered += 1
            match chance.random():
                case luck if luck < 0.06:
                    await context.abort(grpc.StatusCode.INTERNAL, "stored, and nobody hears of it")
                case luck if luck < 0.08:
                    return
                case luck if luck < 0.6 or unanswered >= limit:
                    unanswered = 0
                    yield ack(server.resume_after)

    async with serving(hostile) as (server, client), new_session(client, max_outstanding_batches=6) as session:
        for number in range(1, 201):
            assert await session.send([point(float(number))]) == number
        flushing = asyncio.create_task(session.flush())
        # The script may owe the last acknowledgement: a further batch brings it.
        while not flushing.done():
            await asyncio.wait({flushing}, timeout=0.2)
            if not flushing.done():
                await session.send([point(float(session.acknowledged_through))])
        await flushing
        assert session.acknowledged_through >= 200
        assert [server.stored[number] for number in range(1, 201)] == [float(number) for number in range(1, 201)]
        assert server.streams > 1


@pytest.mark.parametrize(("producer_id", "first_known"), [(None, 0), ("agent-7", None)])
async def test_the_server_is_told_what_the_sender_knows_to_be_settled(
    producer_id: str | None, first_known: int | None
) -> None:
    opens: list[int | None] = []

    async def breaking(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        async for request in requests:
            if request.HasField("open"):
                opens.append(request.open.settled_through if request.open.HasField("settled_through") else None)
                yield opened(server.resume_after)
                continue
            server.store(request.batch)
            yield ack(server.resume_after)
            if server.streams == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")

    async with serving(breaking) as (_, client), new_session(client, producer_id=producer_id) as session:
        await session.send([point(1.0)])
        await session.flush()
        await session.send([point(2.0)])
        await session.flush()
    assert opens == [first_known, 1]


async def test_sending_waits_while_the_server_acknowledges_nothing() -> None:
    release = asyncio.Event()

    async def slow(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        async for request in requests:
            if request.HasField("open"):
                yield opened(0)
                continue
            server.store(request.batch)
            if request.batch.sequence == 3:
                await release.wait()
                yield ack(3)
            elif release.is_set():
                yield ack(server.resume_after)

    async with serving(slow) as (server, client), new_session(client, max_outstanding_batches=3) as session:
        for number in range(3):
            await session.send([point(number)])
        fourth = asyncio.create_task(session.send([point(3)]))
        await asyncio.wait({fourth}, timeout=0.2)
        assert not fourth.done()
        assert session.acknowledged_through == 0
        fourth.cancel()
        await asyncio.wait({fourth})
        release.set()
        assert await session.send([point(30)]) == 4
        await session.flush()
        assert server.stored[4] == 30


async def test_no_more_batches_are_sent_than_the_server_allows() -> None:
    unanswered = 0
    most = 0

    async def counting(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        nonlocal unanswered, most
        async for request in requests:
            if request.HasField("open"):
                yield opened(0, batches=2)
                continue
            unanswered += 1
            most = max(most, unanswered)
            server.store(request.batch)
            if unanswered == 2 or request.batch.sequence == 9:
                unanswered = 0
                yield ack(server.resume_after)

    async with serving(counting) as (_, client), new_session(client) as session:
        for number in range(9):
            await session.send([point(number)])
    assert most == 2


async def test_a_refused_batch_is_told_and_does_not_end_the_session() -> None:
    async def refusing(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        async for request in requests:
            if request.HasField("open"):
                yield opened(0)
                continue
            status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="The batch is wrong.")
            if request.batch.sequence == 2:
                yield Response(rejection=ingest_pb2.StreamRejection(sequence=2, status=status))
            yield ack(request.batch.sequence)

    async with serving(refusing) as (_, client), new_session(client) as session:
        for number in range(3):
            await session.send([point(number), point(number)])
        await session.flush()
        assert session.stored_items == 4
        assert [(told.sequence, told.first_item, told.item_count) for told in session.rejections] == [(2, 2, 2)]
        assert isinstance(session.rejections[0].error, InvalidArgumentError)


async def test_a_throttled_session_waits_and_sends_again_from_the_named_batch() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def throttling(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        async for request in requests:
            if request.HasField("open"):
                yield opened(0)
            elif request.batch.sequence == 1 and not times:
                times.append(loop.time())
                yield throttle(1, 0.15)
            elif times:
                times.append(loop.time())
                server.store(request.batch)
                yield ack(server.resume_after)

    async with serving(throttling) as (server, client), new_session(client) as session:
        await session.send([point(1)])
        await session.flush()
    assert times[1] - times[0] >= 0.15
    assert server.stored == {1: 1.0}


async def test_a_session_gives_up_when_nothing_moves_for_long() -> None:
    now = 0.0

    async def full(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        nonlocal now
        async for request in requests:
            if request.HasField("open"):
                yield opened(0)
            else:
                now += 40
                yield throttle(request.batch.sequence, 0.001)

    def clock() -> float:
        return now + asyncio.get_running_loop().time()

    async with serving(full) as (_, client):
        session = new_session(client, give_up_after=100, clock=clock)
        await session.start()
        await session.send([point(1)])
        with pytest.raises(ResourceExhaustedError):
            await session.flush()
        await session.abort()


async def test_a_session_that_reaches_nobody_says_so() -> None:
    async with AirisClient("127.0.0.1:1") as client:
        with pytest.raises(UnavailableError):
            async with new_session(client, give_up_after=0.2):
                pass


async def test_what_a_new_stream_cannot_mend_ends_the_session_at_once() -> None:
    async def forbidding(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The producer id is too long.")
        yield opened(0)

    async with serving(forbidding) as (server, client):
        with pytest.raises(InvalidArgumentError, match="too long"):
            async with new_session(client):
                pass
        assert server.streams == 1


async def test_two_sessions_of_one_producer_are_noticed() -> None:
    async def shared(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        async for request in requests:
            if request.HasField("open"):
                yield opened(0 if server.streams == 1 else 7)
            else:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "reset")

    async with serving(shared) as (_, client):
        session = new_session(client, producer_id="twice")
        await session.start()
        await session.send([point(1)])
        with pytest.raises(FailedPreconditionError, match="twice"):
            await session.flush()
        await session.abort()


async def test_leaving_by_an_exception_does_not_wait() -> None:
    async def deaf(server: Server, requests: Any, context: Any) -> AsyncIterator[Response]:
        async for request in requests:
            if request.HasField("open"):
                yield opened(0)

    async with serving(deaf) as (_, client):
        session = new_session(client)
        with contextlib.suppress(KeyError):
            async with session:
                await session.send([point(1)])
                raise KeyError
        with pytest.raises(FailedPreconditionError):
            await session.send([point(2)])


async def test_an_empty_or_too_long_batch_is_refused_before_it_is_sent() -> None:
    async with serving(faithful) as (_, client), new_session(client) as session:
        with pytest.raises(InvalidArgumentError):
            await session.send([])
        long = metrics_pb2.Metric(name="m", labels={"k": "v" * (33 * 1024 * 1024)})
        with pytest.raises(InvalidArgumentError, match="fewer items"):
            await session.send([long])
        assert await session.send([point(1)]) == 1


async def test_unary_batches_are_repeated_under_the_same_request_id() -> None:
    async def unavailable(context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    async def full(context: Any) -> None:
        status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="The backlog is full.")
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1_000_000)))
        status.details.append(detail)
        await context.abort_with_status(rpc_status.to_status(status))

    async with serving(faithful) as (server, client):
        server.answers = [unavailable, full, None]
        async with client.metrics.unary_sender(max_in_flight=1) as sender:
            await sender.send([point(1)])
        assert len(server.requests) == 3
        assert len(set(server.requests)) == 1
        assert sender.stored_items == 1


async def test_a_batch_that_the_circuit_breaker_holds_back_is_not_counted_as_sent() -> None:
    async def unavailable(context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    breaker = BreakerSettings(consecutive_failures=1, open_seconds=0.5, half_open_calls=1, half_open_successes=1)
    async with serving(faithful, resilience=ClientSettings(breaker=breaker)) as (server, client):
        server.answers = [unavailable, None]
        # The first delay is shorter than the time that the breaker is open.
        async with client.metrics.unary_sender(max_attempts=2) as sender:
            await sender.send([point(1)])
        assert sender.stored_items == 1
        assert len(server.requests) == 2
        server.answers = [unavailable]
        sender = client.metrics.unary_sender(give_up_after=0.0)
        await sender.send([point(1)])
        with pytest.raises(UnavailableError, match="breaker is open"):
            await sender.flush()
        assert len(server.requests) == 3


async def test_unary_batches_are_not_repeated_for_ever_nor_when_it_is_no_use() -> None:
    async def unavailable(context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "down")

    async def wrong(context: Any) -> None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong")

    async with serving(faithful) as (server, client):
        server.answers = [unavailable, unavailable, unavailable]
        sender = client.metrics.unary_sender(max_attempts=2)
        await sender.send([point(1)])
        with pytest.raises(UnavailableError):
            await sender.flush()
        assert len(server.requests) == 2
        server.answers = [wrong]
        sender = client.metrics.unary_sender()
        await sender.send([point(1)])
        with pytest.raises(InvalidArgumentError):
            await sender.flush()
        assert len(server.requests) == 3
