"""One channel to all instances of a service: each call chooses one of those that are known and connected."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from airis.client.discovery import Balancing, Directory, Instance
from airis.client.discovery_pending import PendingCall, unavailable

_Ready = grpc.ChannelConnectivity.READY
_Failed = grpc.ChannelConnectivity.TRANSIENT_FAILURE

# Choosing costs the same however many instances there are.
_COMPARED = 4
_SHUNNED_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
_DRAIN_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Endpoint:
    """One instance and the channel to it.

    Args:
        instance: Where it is.
        channel: The channel.

    Attributes:
        in_flight: Calls under way.
        shunned_until: Monotonic seconds until which it is called only if there is no other.
    """

    def __init__(self, instance: Instance, channel: grpc.aio.Channel) -> None:
        self.instance = instance
        self.channel = channel
        self.in_flight = 0
        self.shunned_until = 0.0
        self.idle = asyncio.Event()
        self.idle.set()
        self._methods: dict[tuple[Any, ...], Any] = {}

    def multicallable(self, shape: str, method: tuple[Any, ...]) -> Any:
        """Of its channel: made once for each method."""
        key = (shape, *method)
        if key not in self._methods:
            self._methods[key] = getattr(self.channel, shape)(*method)
        return self._methods[key]

    def call(self, shape: str, method: tuple[Any, ...], request: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Makes a call, counted until it ends."""
        call = self.multicallable(shape, method)(*request, **options)
        self.in_flight += 1
        self.idle.clear()
        call.add_done_callback(self._ended)
        return call

    def _ended(self, call: Any) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self.idle.set()
        if _code(call) is grpc.StatusCode.UNAVAILABLE:
            # One that fails at once always has the fewest calls under way.
            self.shunned_until = time.monotonic() + _SHUNNED_SECONDS


class DiscoveredChannel(grpc.aio.Channel):  # type: ignore[misc]
    """Has a connection to each instance of a service that the directory knows, and follows its changes.

    It keeps the last instances that it knew while the directory is away, or says that there are none: calling them does
    no harm. Calls to an instance that left go on for a while, and are cancelled then. A call begins to look for
    instances; while none was ever known it waits for one, at most 5 seconds.

    Args:
        service: The service's name in the directory.
        directory: Who knows the instances.
        connect: Makes the channel to a `host:port`.
        balancing: How calls are shared.
        drain_seconds: How long calls to an instance that left go on.
    """

    def __init__(
        self,
        service: str,
        directory: Directory,
        connect: Callable[[str], grpc.aio.Channel],
        balancing: Balancing = "least_request",
        drain_seconds: float = _DRAIN_SECONDS,
    ) -> None:
        self._service = service
        self._directory = directory
        self._connect = connect
        self._drain_seconds = drain_seconds
        self._compared = _COMPARED if balancing == "least_request" else 1
        self._endpoints: dict[Instance, Endpoint] = {}
        self._order: tuple[Endpoint, ...] = ()
        self._leaving: dict[Instance, tuple[Endpoint, asyncio.Task[None]]] = {}
        self._turn = 0
        self._known = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that calls go to."""
        return tuple(endpoint.instance for endpoint in self._order)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._multicallable("unary_unary", method, *args, **kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._multicallable("unary_stream", method, *args, **kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._multicallable("stream_unary", method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._multicallable("stream_stream", method, *args, **kwargs)

    async def close(self, grace: float | None = None) -> None:
        """Closes the channels to all instances and stops following their changes."""
        self._is_closed = True
        leaving = [task for _, task in self._leaving.values()]
        tasks = [*leaving, *([self._follower] if self._follower is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        channels = [endpoint.channel for endpoint in self._order]
        self._endpoints, self._order = {}, ()
        await asyncio.gather(*(channel.close(grace) for channel in channels))

    async def __aenter__(self) -> DiscoveredChannel:
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY if an instance is; TRANSIENT_FAILURE if none can be; else CONNECTING."""
        if self._is_closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if try_to_connect:
            self._follow()
        states = {endpoint.channel.get_state(try_to_connect) for endpoint in self._order}
        if _Ready in states:
            return _Ready
        return _Failed if states == {_Failed} else grpc.ChannelConnectivity.CONNECTING

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As of `grpc.aio.Channel`."""
        # Which channels there are changes as well.
        while self.get_state() is last_observed_state:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)

    async def channel_ready(self) -> None:
        """As of `grpc.aio.Channel`: returns when an instance is connected."""
        while (state := self.get_state(try_to_connect=True)) is not _Ready:
            await self.wait_for_state_change(state)

    def _multicallable(
        self,
        shape: str,
        path: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Callable[..., Any]:
        method = (path, request_serializer, response_deserializer, _registered_method)

        def call(*request: Any, timeout: float | None = None, **options: Any) -> Any:
            if self._is_closed:
                raise unavailable("The client is closed.")
            self._follow()
            endpoint = self._choose()
            if endpoint is not None:
                return endpoint.call(shape, method, request, {"timeout": timeout, **options})
            return PendingCall(lambda: self._call_later(shape, method, request, timeout, options))

        return call

    async def _call_later(
        self, shape: str, method: tuple[Any, ...], request: tuple[Any, ...], timeout: float | None, options: Any
    ) -> Any:
        began = time.monotonic()
        patience = _PATIENCE_SECONDS if timeout is None else min(timeout, _PATIENCE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._known.wait()
        endpoint = self._choose()
        if endpoint is None:
            raise unavailable(f"No healthy instance of {self._service} is known.")
        if timeout is not None:
            timeout = max(0.0, timeout - (time.monotonic() - began))
        return endpoint.call(shape, method, request, {"timeout": timeout, **options})

    def _choose(self) -> Endpoint | None:
        """Of the next instances in turn that are connected, the one with the fewest calls under way."""
        order = self._order
        if not order:
            return None
        start = self._turn = (self._turn + 1) % len(order)
        now = time.monotonic()
        best: Endpoint | None = None
        second: Endpoint | None = None
        compared = 0
        for endpoint in (*order[start:], *order[:start]):
            # One that is not connected begins to be, without a call that waits for it.
            state = endpoint.channel.get_state(True)
            if state is not _Ready or endpoint.shunned_until > now:
                if second is None and state is not _Failed:
                    second = endpoint
                continue
            if best is None or endpoint.in_flight < best.in_flight:
                best = endpoint
            compared += 1
            if compared == self._compared:
                break
        return best or second or order[start]

    def _follow(self) -> None:
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._keep_up(), name=f"instances-{self._service}")

    async def _keep_up(self) -> None:
        async for instances in self._directory.watch(self._service):
            # No instances at all: more likely the directory lost them than that all are gone, and calling does no harm.
            if instances:
                self._update(instances)
                self._known.set()

    def _update(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if instance not in self._endpoints:
                self._endpoints[instance] = self._enter(instance)
        for instance in self._endpoints.keys() - set(instances):
            endpoint = self._endpoints.pop(instance)
            self._leaving[instance] = (endpoint, asyncio.get_running_loop().create_task(self._leave(endpoint)))
        self._order = tuple(self._endpoints.values())

    def _enter(self, instance: Instance) -> Endpoint:
        if instance in self._leaving:
            endpoint, leaving = self._leaving.pop(instance)
            leaving.cancel()
            return endpoint
        endpoint = Endpoint(instance, self._connect(instance.target))
        endpoint.channel.get_state(True)
        return endpoint

    async def _leave(self, endpoint: Endpoint) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain_seconds):
                    await endpoint.idle.wait()
        except asyncio.CancelledError:
            if self._is_closed:
                await endpoint.channel.close()
            raise
        del self._leaving[endpoint.instance]
        await endpoint.channel.close()


def _code(call: Any) -> grpc.StatusCode | None:
    """The status of a call that has ended, without a task for each: asking for it does not wait any more then."""
    asked = call.code()
    try:
        asked.send(None)
    except StopIteration as answer:
        found: grpc.StatusCode = answer.value
        return found
    except BaseException:  # A cancelled call has no status that can be had so.
        return None
    asked.close()
    return None
