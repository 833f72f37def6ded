"""Where the canary's metrics go: to Prometheus, who asks for them, and over OTLP into the platform itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airis.client.canary.measures import MeterMeasures
from airis.client.credentials import TokenSource
from airis.client.errors import AirisError
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import start_http_server

_EXPORT_MILLISECONDS = 5_000
_TIMEOUT_SECONDS = 5
_LAST_EXPORT_MILLISECONDS = 3_000


@contextlib.contextmanager
def telemetry(otlp: str, port: int, token_file: Path | None = None) -> Iterator[MeterMeasures]:
    """Opens both ways, and closes them in the end.

    Args:
        otlp: Host and port that take OTLP/gRPC; empty: none.
        port: Of `/metrics` on loopback; 0: none.
        token_file: A file with the token; None: `AIRIS_TOKEN` or `AIRIS_TOKEN_FILE`, if set.

    Raises:
        OSError: The port cannot be had.
    """
    # An exporter that cannot reach the platform logs each failure: the canary itself says what is wrong.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    readers: list[MetricReader] = []
    server = None
    if port:
        server, _ = start_http_server(port, addr="127.0.0.1")
        readers.append(PrometheusMetricReader())
    if otlp:
        exporter = OTLPMetricExporter(
            endpoint=f"http://{otlp}", insecure=True, headers=_headers(token_file), timeout=_TIMEOUT_SECONDS
        )
        readers.append(PeriodicExportingMetricReader(exporter, export_interval_millis=_EXPORT_MILLISECONDS))
    resource = Resource.create({"service.name": "airis-canary"})
    provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    try:
        yield MeterMeasures(provider.get_meter("airis.canary"))
    finally:
        provider.shutdown(timeout_millis=_LAST_EXPORT_MILLISECONDS)
        if server is not None:
            server.shutdown()
            server.server_close()


class _Headers(Sequence[tuple[str, str]]):
    """Headers of an exporter, which goes through them for each export: the token of that moment."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def __iter__(self) -> Iterator[tuple[str, str]]:
        with contextlib.suppress(AirisError):
            yield "authorization", self._source.header()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]


def _headers(token_file: Path | None) -> _Headers | None:
    source = TokenSource.find(None, token_file)
    return _Headers(source) if source is not None else None
