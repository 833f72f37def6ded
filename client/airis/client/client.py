"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
from airis.client.credentials import AuthorizedChannel, TokenSource
from airis.client.dialect import MAX_MESSAGE_BYTES
from airis.client.discovery import Directory, Discovery
from airis.client.discovery_channel import DiscoveredChannel

from resilience.grpc.client import ClientSettings, wrap

if TYPE_CHECKING:
    from airis.client.signals.alerts import Alerts
    from airis.client.signals.logs import Logs
    from airis.client.signals.metrics import Metrics
    from airis.client.signals.traces import Traces

DEFAULT_TARGET = "127.0.0.1:8080"
SIGNALS = ("metrics", "logs", "traces", "alerts")
# Envoy, or a service, is back sooner when it was started again.
_RECONNECT_SECONDS = 3.0

_OPTIONS: tuple[tuple[str, int], ...] = (
    # A message has 32 MiB at most; what it is wrapped in needs room too.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 1024 * 1024),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + 1024 * 1024),
    # Only one layer retries, and it is not gRPC's own.
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A service that was restarted is found again quickly.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class AirisClient:
    """Calls AIRIS: `async with AirisClient() as client: await client.metrics.query("cpu")`.

    Connects, and loads a signal's contract, when that is first used. Use it from one event loop. Each call goes
    through deadline, retry or hedging, circuit breaker and bulkhead, as its contract says; a `timeout` may shorten
    its deadline.

    Args:
        target: Host and port that all services answer at: Envoy's; None: `127.0.0.1:8080`, or what `discovery` finds.
        targets: Other addresses by signal: `{"metrics": "127.0.0.1:8001"}`.
        discovery: Where the instances of the services are found, in place of `target`: "consul://127.0.0.1:8500", or a
            `Discovery`. Without it and `target`: `AIRIS_DISCOVERY_URL`, if set. Each call goes to a healthy instance,
            a repeated one to another.
        token: Shown with each call. Without it and `token_file`: `AIRIS_TOKEN` or `AIRIS_TOKEN_FILE`, if set.
        token_file: A file with the token; read again when it changes.
        credentials: For TLS; None: plain text.
        interceptors: Of grpc.aio, for all channels.
        options: Further channel arguments; they win.
        resilience: When circuit breakers open, how long a lost connection is waited for, and who is told of retries and
            refusals; None: the defaults, and 3 s for a lost connection.

    Raises:
        ValueError: A signal of `targets` does not exist.
        ValueError: There is both a `target` and a `discovery`.
        AirisError: The token can be none, or there are two; or `discovery` names no directory.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        targets: Mapping[str, str] | None = None,
        discovery: str | Discovery | None = None,
        token: str | None = None,
        token_file: Path | str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        options: Sequence[tuple[str, str | int]] = (),
        resilience: ClientSettings | None = None,
    ) -> None:
        if target is not None and discovery is not None:
            raise ValueError("Give a target or a discovery, not both; targets of single signals go with either.")
        self._targets = dict.fromkeys(SIGNALS, target or DEFAULT_TARGET) | dict(targets or {})
        unknown = sorted(set(self._targets) - set(SIGNALS))
        if unknown:
            raise ValueError(f"There is no signal {unknown[0]!r}; there are {', '.join(SIGNALS)}.")
        self._discovery = Discovery.find(discovery, use_environment=target is None)
        self._discovered = frozenset(SIGNALS if self._discovery else ()) - set(targets or {})
        self._directory: Directory | None = None
        self._token_source = TokenSource.find(token, token_file)
        self._credentials = credentials
        self._interceptors = list(interceptors)
        self._options = [*_OPTIONS, *options]
        self._resilience = resilience or ClientSettings(reconnect_seconds=_RECONNECT_SECONDS)
        self._channels: dict[str, grpc.aio.Channel] = {}

    @cached_property
    def metrics(self) -> Metrics:
        """MetricsService."""
        from airis.client.signals.metrics import Metrics

        return Metrics(self._channel("metrics"))

    @cached_property
    def logs(self) -> Logs:
        """LogService."""
        from airis.client.signals.logs import Logs

        return Logs(self._channel("logs"))

    @cached_property
    def traces(self) -> Traces:
        """TraceService."""
        from airis.client.signals.traces import Traces

        return Traces(self._channel("traces"))

    @cached_property
    def alerts(self) -> Alerts:
        """AlertService."""
        from airis.client.signals.alerts import Alerts

        return Alerts(self._channel("alerts"))

    async def close(self) -> None:
        """Closes the connections; calls under way fail."""
        for channel in self._channels.values():
            await channel.close()
        if self._directory is not None:
            await self._directory.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _channel(self, signal: str) -> grpc.aio.Channel:
        discovery = self._discovery if signal in self._discovered else None
        target = discovery.service(signal) if discovery else self._targets[signal]
        if target not in self._channels:
            channel = self._discover(target, discovery) if discovery else self._connect(target)
            if self._token_source is not None:
                channel = AuthorizedChannel(channel, self._token_source)
            # Of several instances, another is called.
            settings = self._resilience if discovery is None else replace(self._resilience, reconnect_seconds=0.0)
            self._channels[target] = wrap(channel, settings, name=target)
        return self._channels[target]

    def _discover(self, service: str, discovery: Discovery) -> grpc.aio.Channel:
        if self._directory is None:
            self._directory = discovery.open()
        return DiscoveredChannel(service, self._directory, self._connect, discovery.balancing)

    def _connect(self, target: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, self._options, interceptors=self._interceptors)
        return grpc.aio.secure_channel(target, self._credentials, self._options, interceptors=self._interceptors)
