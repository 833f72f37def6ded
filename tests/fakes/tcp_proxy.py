"""A TCP proxy that misbehaves when told to: it resets, refuses, delays, throttles, half-closes and swallows.

It stands between a client and a server, both real, and changes while they talk. Each direction of a connection holds
at most `_CHUNKS * _CHUNK_BYTES` bytes; a sender that is faster is held back by TCP as on a real network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType

_CHUNK_BYTES = 4096
_CHUNKS = 64
_THROTTLE_STEP_SECONDS = 0.01
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


@dataclass(slots=True)
class _Way:
    """How bytes of one direction fare, in all connections."""

    delay: float = 0.0
    bytes_per_second: float | None = None
    passed: int = 0
    reset_at: int | None = None


@dataclass(eq=False, slots=True)
class _Connection:
    client: socket.socket
    server: socket.socket
    is_up: bool = False
    is_reset: bool = False
    closed_ways: set[Direction] = field(default_factory=set)
    task: asyncio.Task[None] | None = None

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """The sockets that the bytes of a direction come from and go to."""
        return (self.client, self.server) if direction is Direction.TO_SERVER else (self.server, self.client)

    def reset(self) -> None:
        """Ends both halves with RST; bytes that are still here are lost."""
        self.is_reset = True
        for end in (self.client, self.server):
            if end.fileno() >= 0:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


class TcpProxy:
    """`async with TcpProxy("127.0.0.1:8001") as proxy:` and connect to `proxy.address`.

    Args:
        server: Host and port of the server; it need not be there yet. A connection made while it is not is reset.

    Attributes:
        address: Host and port to connect to, on loopback; the same before and after `refuse`.
        accepted: Connections accepted since the start.
    """

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._place = socket.socket()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[_Connection] = set()
        self._ways = {direction: _Way() for direction in Direction}
        self._is_open = asyncio.Event()
        self._changed = asyncio.Event()
        self.address = ""
        self.accepted = 0

    async def __aenter__(self) -> TcpProxy:
        # Bound and never listening, it keeps the port ours while connections are refused.
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._place.getsockname()[1]}"
        self._is_open.set()
        self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        self.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._place.close()

    @property
    def connections(self) -> int:
        """Connections that are up now, to the server too."""
        return sum(connection.is_up for connection in self._connections)

    def passed(self, direction: Direction) -> int:
        """Bytes handed on in a direction, in all connections since the start."""
        return self._ways[direction].passed

    def accept(self) -> None:
        """Takes connections, as it does from the start."""
        if self._listener is not None:
            return
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        self._listener.bind(self._place.getsockname())
        self._listener.listen(128)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._listener))

    def refuse(self) -> None:
        """Refuses new connections (ECONNREFUSED) until `accept`; those that are up stay."""
        if self._listener is None or self._accepting is None:
            return
        self._accepting.cancel()
        # The cancelled task would forget the descriptor only later, when its number may be another's.
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = self._accepting = None

    def reset(self) -> int:
        """Ends all connections with RST, at once; bytes that are still here are lost. Gives their number."""
        ended = [connection for connection in self._connections if not connection.is_reset]
        for connection in ended:
            connection.reset()
            if connection.task is not None:
                connection.task.cancel()
        return len(ended)

    def reset_after(self, byte_count: int, direction: Direction = Direction.TO_SERVER) -> None:
        """Ends all connections with RST, once, when exactly so many more bytes have passed: amid a message."""
        way = self._ways[direction]
        way.reset_at = way.passed + byte_count

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Bytes that arrive from now on go on that many seconds later; None: in both directions."""
        for way in self._chosen(direction):
            way.delay = seconds

    def throttle(self, bytes_per_second: float | None, direction: Direction | None = None) -> None:
        """Each connection gets no more than that; None: no limit."""
        for way in self._chosen(direction):
            way.bytes_per_second = bytes_per_second

    def blackhole(self) -> None:
        """Nothing passes and nobody is told, as with an unplugged cable, until `heal`: then what is here goes on."""
        self._is_open.clear()

    def half_close(self, direction: Direction) -> None:
        """Says end-of-file in one direction of the connections that are up; what comes after it is dropped."""
        for connection in self._connections:
            if connection.is_up and direction not in connection.closed_ways:
                connection.closed_ways.add(direction)
                with contextlib.suppress(OSError):
                    connection.ends(direction)[1].shutdown(socket.SHUT_WR)

    def heal(self) -> None:
        """Passes everything at once again, and takes connections. What is half closed or reset stays so."""
        for way in self._ways.values():
            way.delay, way.bytes_per_second, way.reset_at = 0.0, None, None
        self._is_open.set()
        self.accept()

    async def until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        """Waits until a condition over the proxy's figures is true. Raises `TimeoutError` after so many seconds."""
        async with asyncio.timeout(within):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _chosen(self, direction: Direction | None) -> list[_Way]:
        return [self._ways[one] for one in Direction if direction in (None, one)]

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.accepted += 1
            connection = _Connection(client, socket.socket())
            self._connections.add(connection)
            connection.task = loop.create_task(self._serve(connection))
            self._changed.set()

    async def _serve(self, connection: _Connection) -> None:
        client, server = connection.client, connection.server
        try:
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._is_open.wait()
            await asyncio.get_running_loop().sock_connect(server, self._server)
            connection.is_up = True
            self._changed.set()
            async with asyncio.TaskGroup() as group:
                for direction in Direction:
                    held: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(_CHUNKS)
                    group.create_task(self._read(connection, direction, held))
                    group.create_task(self._write(connection, direction, held))
        except* OSError:
            # A client that is connected to us can be told of the server's refusal or reset by a reset only.
            connection.reset()
        finally:
            client.close()
            server.close()
            self._connections.discard(connection)
            self._changed.set()

    async def _read(
        self, connection: _Connection, direction: Direction, held: asyncio.Queue[tuple[float, bytes | None]]
    ) -> None:
        loop, way = asyncio.get_running_loop(), self._ways[direction]
        chunk: bytes | None = b"first"
        while chunk:
            try:
                chunk = await loop.sock_recv(connection.ends(direction)[0], _CHUNK_BYTES)
            except OSError:
                chunk = None
            await held.put((loop.time() + way.delay, chunk))

    async def _write(
        self, connection: _Connection, direction: Direction, held: asyncio.Queue[tuple[float, bytes | None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await held.get()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            await self._is_open.wait()
            if chunk is None:
                raise ConnectionResetError
            if direction in connection.closed_ways:
                if not chunk:
                    return
                continue
            if not chunk:
                connection.closed_ways.add(direction)
                connection.ends(direction)[1].shutdown(socket.SHUT_WR)
                return
            try:
                await self._hand_on(connection, chunk, direction)
            except BrokenPipeError:
                if direction not in connection.closed_ways:
                    raise

    async def _hand_on(self, connection: _Connection, chunk: bytes, direction: Direction) -> None:
        loop, way, target = asyncio.get_running_loop(), self._ways[direction], connection.ends(direction)[1]
        while chunk:
            if connection.is_reset:
                raise ConnectionResetError
            rate = way.bytes_per_second
            size = len(chunk) if rate is None else max(1, min(len(chunk), int(rate * _THROTTLE_STEP_SECONDS)))
            if way.reset_at is not None:
                size = min(size, way.reset_at - way.passed)
            way.passed += size
            await loop.sock_sendall(target, chunk[:size])
            self._changed.set()
            chunk = chunk[size:]
            if way.reset_at is not None and way.passed >= way.reset_at:
                way.reset_at = None
                self.reset()
            if rate is not None:
                await asyncio.sleep(size / rate)
            await self._is_open.wait()
