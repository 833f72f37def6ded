"""The asynchronous client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
from airis.client.dialect import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from airis.client.signals.alerts import Alerts
    from airis.client.signals.logs import Logs
    from airis.client.signals.metrics import Metrics
    from airis.client.signals.traces import Traces

DEFAULT_TARGET = "127.0.0.1:8080"
SIGNALS = ("metrics", "logs", "traces", "alerts")

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

    Connects, and loads a signal's contract, when that is first used. Use it from one event loop. Each RPC has the
    deadline of its contract unless the call gives a `timeout`.

    Args:
        target: Host and port that all services answer at: Envoy's.
        targets: Other addresses by signal: `{"metrics": "127.0.0.1:8001"}`.
        credentials: For TLS; None: plain text.
        interceptors: Of grpc.aio, for all channels.
        options: Further channel arguments; they win.

    Raises:
        ValueError: A signal of `targets` does not exist.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        targets: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        self._targets = dict.fromkeys(SIGNALS, target) | dict(targets or {})
        unknown = sorted(set(self._targets) - set(SIGNALS))
        if unknown:
            raise ValueError(f"There is no signal {unknown[0]!r}; there are {', '.join(SIGNALS)}.")
        self._credentials = credentials
        self._interceptors = list(interceptors)
        self._options = [*_OPTIONS, *options]
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _channel(self, signal: str) -> grpc.aio.Channel:
        target = self._targets[signal]
        if target not in self._channels:
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(target, self._options, interceptors=self._interceptors)
            else:
                channel = grpc.aio.secure_channel(
                    target, self._credentials, self._options, interceptors=self._interceptors
                )
            self._channels[target] = channel
        return self._channels[target]
