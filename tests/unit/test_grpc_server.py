"""A server that no path can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from fakes.clock import FakeClock

from services.shared.rpc import grpc_server
from services.shared.rpc.grpc_server import GrpcServer, Line

NO_TEXT = [
    b"/a.b.C/\xff",
    b"/a.b.C/Echo?x=\xff",
    b"/a.b.C/Echo\xc3",
    b"/a.b\xf4\x90\x80\x80.C/Echo",
    b"\xed\xa0\x80",
]
"""No UTF-8: a byte that is none, one too few, above the last character, half a surrogate pair."""


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def echo_all(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def serve(server: GrpcServer, **others: Any) -> Any:
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "EchoAll": grpc.stream_stream_rpc_method_handler(echo_all),
    }
    server.add_registered_method_handlers("a.b.C", methods | others)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}")


@pytest.fixture
async def channel() -> AsyncIterator[Any]:
    server = GrpcServer(options=(("grpc.so_reuseport", 0),), maximum_concurrent_rpcs=3)
    async with await serve(server) as made:
        yield made
    async with asyncio.timeout(5):
        await server.stop(None)


async def refused(channel: Any, path: bytes) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(path)(b"", timeout=5)
    return caught.value.code()


@pytest.mark.parametrize("path", NO_TEXT)
async def test_a_path_that_is_no_text_is_refused_and_ends_neither_the_server_nor_a_call_under_way(
    channel: Any, path: bytes
) -> None:
    stream = channel.stream_stream("/a.b.C/EchoAll")()
    await stream.write(b"before")
    assert await stream.read() == b"before"
    for _ in range(3):
        assert await refused(channel, path) is grpc.StatusCode.UNIMPLEMENTED
    await stream.write(b"after")
    assert await stream.read() == b"after"
    assert await channel.unary_unary("/a.b.C/Echo")(b"one more", timeout=5) == b"one more"


async def test_an_unknown_method_is_refused(channel: Any) -> None:
    for path in (b"/a.b.C/None", b"/a.b.D/Echo", b"/a.b.C/Echo/", b"/", "/a.b.C/말".encode()):
        assert await refused(channel, path) is grpc.StatusCode.UNIMPLEMENTED


async def test_calls_beyond_the_limit_are_refused_as_those_of_other_servers(channel: Any) -> None:
    streams = [channel.stream_stream("/a.b.C/EchoAll")() for _ in range(3)]
    for stream in streams:
        await stream.write(b"here")
        assert await stream.read() == b"here"
    assert await refused(channel, b"/a.b.C/Echo") is grpc.StatusCode.RESOURCE_EXHAUSTED
    await streams[0].done_writing()
    assert await streams[0].read() is grpc.aio.EOF
    assert await streams[0].code() is grpc.StatusCode.OK
    assert await channel.unary_unary("/a.b.C/Echo")(b"again", timeout=5) == b"again"


async def test_calls_of_unknown_methods_whose_callers_leave_keep_nothing_from_being_served(channel: Any) -> None:
    calls = [channel.unary_unary(b"/a.b.C/\xff")(b"x" * 100_000) for _ in range(200)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    assert await channel.unary_unary("/a.b.C/Echo")(b"served", timeout=5) == b"served"


async def test_calls_under_way_end_in_the_grace_of_a_stop_and_others_are_cut_off_after_it() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(request: bytes, context: Any) -> bytes:
        begun.set()
        await may_end.wait()
        return request

    server = GrpcServer(maximum_concurrent_rpcs=100)
    async with await serve(server, Slow=grpc.unary_unary_rpc_method_handler(slow)) as channel:
        stream = channel.stream_stream("/a.b.C/EchoAll")()
        await stream.write(b"here")
        assert await stream.read() == b"here"
        call = channel.unary_unary("/a.b.C/Slow")(b"kept")
        await begun.wait()
        stopping = asyncio.create_task(server.stop(0.3))
        may_end.set()
        assert await call == b"kept"
        async with asyncio.timeout(5):
            await stopping
            await server.served()
        assert await stream.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_many_calls_are_taken_each_time_the_event_loop_comes_round() -> None:
    begun = 0

    async def count(request: bytes, context: Any) -> bytes:
        nonlocal begun
        begun += 1
        seen = begun
        await asyncio.sleep(0)
        return str(begun - seen).encode()

    server = GrpcServer(maximum_concurrent_rpcs=1000)
    async with await serve(server, Count=grpc.unary_unary_rpc_method_handler(count)) as channel:
        calls = [channel.unary_unary("/a.b.C/Count")(b"", timeout=10) for _ in range(200)]
        others = [int(await call) for call in calls]
    await server.stop(None)
    assert begun == 200
    assert max(others) > 1


class Rounds:
    """An event loop that takes calls."""

    def __init__(self, most: int) -> None:
        self.clock = FakeClock(10.0)
        self.line = Line(most, self.clock, lambda callback: setattr(self, "ends", callback))

    def take(self, calls: int, seconds: float = 0.02) -> list[bool]:
        """A round that takes some calls. Returns whether the line stood for each."""
        found = [self.line.took() for _ in range(calls)]
        if calls:
            self.ends()
        self.clock.advance(seconds)
        return found


def test_a_line_stands_when_each_round_was_full_for_some_time_and_until_one_is_not() -> None:
    rounds = Rounds(8)
    assert not any(any(rounds.take(8)) for _ in range(4))
    assert all(all(rounds.take(calls)) for calls in (8, 7, 6, 8) * 3)
    assert all(rounds.take(5))
    assert not any(any(rounds.take(8)) for _ in range(4))
    assert all(rounds.take(8))


def test_bursts_with_pauses_are_no_line_and_one_that_stood_is_forgotten_when_nobody_comes() -> None:
    rounds = Rounds(8)
    assert not any(any(rounds.take(8, seconds=0.3)) for _ in range(10))
    for _ in range(5):
        rounds.take(8)
    assert all(rounds.take(8, seconds=0.3))
    assert not any(rounds.take(8))


async def test_who_is_turned_away_hears_of_it_before_anything_of_a_message_is_read() -> None:
    refusal = (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "too many", (("why-bin", b"\x00\xff"),))
    server = GrpcServer(
        maximum_concurrent_rpcs=100, turn_away=lambda method, stands: refusal if method == "/a.b.C/Echo" else None
    )
    async with await serve(server) as channel:
        silent = channel.stream_unary("/a.b.C/Echo")(timeout=10)
        for call in (silent, channel.unary_unary("/a.b.C/Echo")(b"x" * 3_000_000, timeout=10)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert caught.value.details() == "too many"
            assert caught.value.trailing_metadata()["why-bin"] == b"\x00\xff"
        leaving = [channel.unary_unary("/a.b.C/Echo")(b"x" * 100_000) for _ in range(200)]
        await asyncio.sleep(0)
        for call in leaving:
            call.cancel()
        stream = channel.stream_stream("/a.b.C/EchoAll")()
        await stream.write(b"others are served")
        assert await stream.read() == b"others are served"
        stream.cancel()
    async with asyncio.timeout(5):
        await server.stop(0.1)


async def test_who_serves_learns_that_no_calls_are_taken_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no room for a call")

    server = GrpcServer(maximum_concurrent_rpcs=100)
    async with await serve(server) as channel:
        stream = channel.stream_stream("/a.b.C/EchoAll")()
        await stream.write(b"under way")
        assert await stream.read() == b"under way"
        monkeypatch.setattr(grpc_server._Calls, "_begin", fail)
        call = channel.unary_unary("/a.b.C/Echo")(b"", timeout=10)
        async with asyncio.timeout(5):
            with pytest.raises(MemoryError):
                await server.served()
        call.cancel()
        async with asyncio.timeout(5):
            await server.stop(0.1)
