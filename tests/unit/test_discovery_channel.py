"""How calls are shared among instances, without a directory's network: real servers, and a directory by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from airis.client.discovery import Instance
from airis.client.discovery_channel import DiscoveredChannel
from airis.client.errors import UnavailableError
from airis.client.signals.metrics import Metrics
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from resilience.grpc.client import wrap

PATH = "/test.Echo/Call"


class Written:
    """A directory that says what a test tells it."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[tuple[Instance, ...]] = asyncio.Queue()

    def say(self, *instances: Instance) -> None:
        self._answers.put_nowait(instances)

    async def watch(self, service: str) -> AsyncIterator[tuple[Instance, ...]]:
        while True:
            yield await self._answers.get()

    async def close(self) -> None: ...


class World:
    """Servers that answer with their names."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.directory = Written()
        self.channel = DiscoveredChannel("test", self.directory, grpc.aio.insecure_channel)
        self.called: list[str] = []
        self.release = asyncio.Event()

    async def serve(self, name: str, *, fails: bool = False, waits: bool = False) -> Instance:
        async def answer(request: bytes, context: Any) -> bytes:
            self.called.append(name)
            if fails:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "never")
            if waits:
                await self.release.wait()
            return name.encode()

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", {"Call": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        return Instance(name, "127.0.0.1", port)

    async def call(self, **options: Any) -> str:
        answer: bytes = await self.channel.unary_unary(PATH)(b"", **options)
        return answer.decode()

    async def connected(self, *instances: Instance) -> None:
        """Returns when each is connected, so that all take part."""
        await self.until(lambda: set(self.channel.instances) == set(instances))
        ready = grpc.ChannelConnectivity.READY
        await self.until(lambda: all(each.channel.get_state(True) is ready for each in self.channel._order))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 (what is waited for is inside gRPC)
                await asyncio.sleep(0.01)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        made = World(stack)
        yield made
        await made.channel.close()


async def test_calls_wait_for_the_first_instances(world: World) -> None:
    call = asyncio.create_task(world.call(timeout=5))
    world.directory.say(await world.serve("a"))
    assert await call == "a"


async def test_a_call_without_an_instance_says_so_and_has_a_status(world: World) -> None:
    call = world.channel.unary_unary(PATH)(b"", timeout=0.1)
    with pytest.raises(grpc.aio.AioRpcError, match="No healthy instance of test"):
        await call
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert "No healthy instance" in await call.details()
    cancelled = world.channel.unary_unary(PATH)(b"")
    assert cancelled.cancel()
    assert await cancelled.code() is grpc.StatusCode.CANCELLED


async def test_idle_instances_take_turns(world: World) -> None:
    instances = [await world.serve(name) for name in "abc"]
    world.directory.say(*instances)
    await world.call()
    await world.connected(*instances)
    answers = [await world.call() for _ in range(9)]
    assert sorted(answers) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


async def test_an_instance_that_is_slow_gets_no_more_than_it_finishes(world: World) -> None:
    slow, quick = await world.serve("slow", waits=True), await world.serve("quick")
    world.directory.say(slow, quick)
    world.release.set()
    await world.call()
    await world.connected(slow, quick)
    world.release.clear()
    world.called.clear()
    waiting = [asyncio.create_task(world.call()) for _ in range(2)]
    await world.until(lambda: "slow" in world.called)
    world.called.clear()
    assert {await world.call() for _ in range(10)} == {"quick"}
    world.release.set()
    await asyncio.gather(*waiting)


async def test_an_instance_that_fails_at_once_does_not_draw_all_calls(world: World) -> None:
    broken, good = await world.serve("broken", fails=True), await world.serve("good")
    world.directory.say(broken, good)
    await world.until(lambda: world.channel.get_state(True) is grpc.ChannelConnectivity.READY)
    await world.connected(broken, good)
    failures = 0
    for _ in range(20):
        try:
            assert await world.call() == "good"
        except grpc.aio.AioRpcError:
            failures += 1
    assert failures <= 1


async def test_a_call_to_an_instance_that_left_goes_on_and_new_ones_go_elsewhere(world: World) -> None:
    leaving, staying = await world.serve("leaving", waits=True), await world.serve("staying")
    world.directory.say(leaving)
    under_way = asyncio.create_task(world.call())
    await world.until(lambda: world.called == ["leaving"])
    world.directory.say(staying)
    await world.connected(staying)
    assert {await world.call() for _ in range(5)} == {"staying"}
    world.release.set()
    assert await under_way == "leaving"


async def test_nobody_left_means_that_the_last_ones_are_still_called(world: World) -> None:
    world.directory.say(await world.serve("a"))
    assert await world.call() == "a"
    world.directory.say()
    await asyncio.sleep(0)
    assert await world.call() == "a"


async def test_an_instance_that_is_gone_is_skipped_while_another_is_connected(world: World) -> None:
    a = await world.serve("a")
    nobody = Instance("b", "127.0.0.1", 1)
    world.directory.say(a, nobody)
    await world.until(lambda: world.channel.get_state(True) is grpc.ChannelConnectivity.READY)
    assert {await world.call() for _ in range(10)} == {"a"}


class Metered(metrics_pb2_grpc.MetricsServiceServicer):
    """Takes sessions and acknowledges, and never ends a call."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.sequences: list[int] = []

    async def StreamMetrics(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for request in requests:
            if request.HasField("open"):
                self.called.set()
                limits = {"max_outstanding_batches": 10, "max_outstanding_bytes": 1 << 20}
                yield metrics_pb2.StreamMetricsResponse(opened=limits)
            else:
                self.sequences.append(request.batch.sequence)
                yield metrics_pb2.StreamMetricsResponse(ack={"through_sequence": request.batch.sequence})

    async def WatchMetrics(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield metrics_pb2.WatchMetricsResponse()
        await asyncio.Event().wait()

    async def QueryMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.called.set()
        await asyncio.Event().wait()


class Moving:
    """A client of MetricsService whose instance leaves, with no time for the calls that it has."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._directory = Written()
        channel = DiscoveredChannel("test", self._directory, grpc.aio.insecure_channel, drain_seconds=0)
        stack.push_async_callback(channel.close)
        self.metrics = Metrics(wrap(channel, name="test"))

    async def serve(self) -> Metered:
        """The one instance from now on."""
        server, servicer = grpc.aio.server(), Metered()
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        self._directory.say(Instance(str(port), "127.0.0.1", port))
        return servicer


@pytest.fixture
async def moving() -> AsyncIterator[Moving]:
    async with AsyncExitStack() as stack:
        yield Moving(stack)


async def test_a_session_goes_on_elsewhere_when_its_instance_has_left_and_runs_on(moving: Moving) -> None:
    before = await moving.serve()
    session = moving.metrics.session()
    async with asyncio.timeout(60):
        await session.send([metrics_pb2.Metric(name="m")])
        await session.flush()
        after = await moving.serve()
        await after.called.wait()
        await session.send([metrics_pb2.Metric(name="m")])
        await session.flush()
    assert (before.sequences, after.sequences) == ([1], [2])
    await session.close()


async def test_a_stream_says_that_its_instance_has_left(moving: Moving) -> None:
    await moving.serve()
    watched = moving.metrics.watch(metrics_pb2.QueryMetricsRequest())
    async with asyncio.timeout(60):
        await anext(watched)
        await moving.serve()
        with pytest.raises(UnavailableError, match="The channel was closed"):
            await anext(watched)


async def test_a_call_says_that_its_instance_has_left(moving: Moving) -> None:
    before = await moving.serve()
    call = asyncio.ensure_future(moving.metrics.query("m"))
    async with asyncio.timeout(60):
        await before.called.wait()
        await moving.serve()
        with pytest.raises(UnavailableError, match="The channel was closed"):
            await call


async def test_a_task_that_is_cancelled_in_a_call_or_a_stream_is_cancelled(moving: Moving) -> None:
    servicer = await moving.serve()
    watched = moving.metrics.watch(metrics_pb2.QueryMetricsRequest())
    async with asyncio.timeout(60):
        await anext(watched)
        call = asyncio.ensure_future(moving.metrics.query("m"))
        await servicer.called.wait()
        for task in (asyncio.ensure_future(anext(watched)), call):
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
