"""The proxy of the tests does to a connection what it says, so that what tests prove with it is true."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakes.tcp_proxy import Direction, TcpProxy

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EchoServer:
    """Sends back what it gets; `ended` has how each of its connections ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.received = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                self.received += len(chunk)
                writer.write(chunk)
                await writer.drain()
            self.ended.put_nowait("end of file")
        except ConnectionResetError:
            self.ended.put_nowait("reset")
        finally:
            writer.close()


@asynccontextmanager
async def echo_through_proxy() -> AsyncIterator[tuple[EchoServer, TcpProxy]]:
    echo = EchoServer()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with TcpProxy(f"{host}:{port}") as proxy:
        yield echo, proxy
    server.close()


@asynccontextmanager
async def connected(proxy: TcpProxy) -> AsyncIterator[Connection]:
    host, _, port = proxy.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echoed(connection: Connection, payload: bytes) -> bytes:
    connection[1].write(payload)
    return await connection[0].readexactly(len(payload))


async def test_bytes_pass_unchanged_both_ways_however_many() -> None:
    payload = os.urandom(3_000_000)
    async with echo_through_proxy() as (_, proxy), connected(proxy) as connection:
        assert await echoed(connection, payload) == payload
        assert proxy.passed(Direction.TO_SERVER) == proxy.passed(Direction.TO_CLIENT) == len(payload)


async def test_an_end_of_file_passes_and_the_other_direction_goes_on() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read() == b"last words"
        assert await echo.ended.get() == "end of file"
        await proxy.until(lambda: proxy.connections == 0)


async def test_a_reset_reaches_both_ends() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as connection:
        await echoed(connection, b"up")
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await connection[0].read()
        assert await echo.ended.get() == "reset"
        assert proxy.connections == 0


async def test_a_reset_of_one_end_reaches_the_other() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as connection:
        await echoed(connection, b"up")
        connection[1].transport.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0
        connection[1].transport.abort()
        assert await echo.ended.get() == "reset"


async def test_a_reset_after_some_bytes_lets_exactly_those_pass() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as connection:
        await echoed(connection, b"x" * 100)
        proxy.reset_after(12_345)
        connection[1].write(b"y" * 1_000_000)
        assert await echo.ended.get() == "reset"
        assert proxy.passed(Direction.TO_SERVER) == 12_445
        async with connected(proxy) as another:
            assert await echoed(another, b"once only") == b"once only"


async def test_refused_is_refused_until_accepted_again_and_spares_connections_that_are_up() -> None:
    async with echo_through_proxy() as (_, proxy), connected(proxy) as connection:
        await echoed(connection, b"up")
        for _ in range(2):
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                async with connected(proxy):
                    pass
            assert await echoed(connection, b"still up") == b"still up"
            proxy.accept()
            async with connected(proxy) as another:
                assert await echoed(another, b"new") == b"new"


async def test_a_delay_adds_to_the_time_and_not_to_the_rate() -> None:
    loop = asyncio.get_running_loop()
    async with echo_through_proxy() as (_, proxy), connected(proxy) as connection:
        proxy.delay(0.1)
        begun = loop.time()
        payload = os.urandom(100_000)
        assert await echoed(connection, payload) == payload
        assert 0.2 <= loop.time() - begun < 1.0
        proxy.heal()
        begun = loop.time()
        await echoed(connection, b"prompt")
        assert loop.time() - begun < 0.1


async def test_a_throttled_direction_gets_no_more_than_its_rate() -> None:
    loop = asyncio.get_running_loop()
    async with echo_through_proxy() as (_, proxy), connected(proxy) as connection:
        proxy.throttle(50_000, Direction.TO_CLIENT)
        begun = loop.time()
        await echoed(connection, b"z" * 10_000)
        assert loop.time() - begun >= 0.19
        assert proxy.passed(Direction.TO_SERVER) == 10_000


async def test_a_slow_direction_holds_its_sender_back() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as (_, writer):
        proxy.throttle(1_000, Direction.TO_SERVER)
        writer.write(b"w" * 50_000_000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.2)
        assert echo.received < 2_000


async def test_a_blackhole_passes_nothing_and_tells_nobody_until_it_is_healed() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as connection:
        await echoed(connection, b"before")
        proxy.blackhole()
        connection[1].write(b"held")
        async with connected(proxy) as unanswered:
            unanswered[1].write(b"held too")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(unanswered[0].read(1), 0.1)
            assert echo.received == len(b"before")
            proxy.heal()
            assert await connection[0].readexactly(4) == b"held"
            assert await unanswered[0].readexactly(8) == b"held too"


async def test_a_half_closed_connection_goes_on_in_the_other_direction() -> None:
    async with echo_through_proxy() as (echo, proxy), connected(proxy) as connection:
        await echoed(connection, b"up")
        proxy.half_close(Direction.TO_CLIENT)
        assert await connection[0].read() == b""
        connection[1].write(b"heard, not answered")
        await proxy.until(lambda: proxy.passed(Direction.TO_SERVER) == 21)
        assert proxy.connections == 1
        assert proxy.passed(Direction.TO_CLIENT) == 2
        proxy.half_close(Direction.TO_SERVER)
        assert await echo.ended.get() == "end of file"
        async with connected(proxy) as another:
            assert await echoed(another, b"whole") == b"whole"


async def test_a_server_that_is_not_there_is_a_reset() -> None:
    async with echo_through_proxy() as (_, proxy):
        proxy.refuse()
        async with TcpProxy(proxy.address) as outer, connected(outer) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
            proxy.accept()
            async with connected(outer) as again:
                assert await echoed(again, b"back") == b"back"


async def test_leaving_ends_all_connections_and_frees_the_port() -> None:
    async with echo_through_proxy() as (_, proxy):
        async with connected(proxy) as connection:
            await echoed(connection, b"up")
            await proxy.__aexit__(None, None, None)
            with pytest.raises(ConnectionResetError):
                await connection[0].read()
        with pytest.raises(ConnectionRefusedError):
            async with connected(proxy):
                pass
