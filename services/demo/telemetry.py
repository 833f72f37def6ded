"""What several services of one process send over OTLP, each under a resource of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from services.shared.telemetry.token_headers import TokenHeaders

ENDPOINT_VARIABLE = "AIRIS_OTLP_ENDPOINT"
TOKEN_FILE_VARIABLE = "AIRIS_TELEMETRY__TOKEN_FILE"  # noqa: S105 (a name)

_SCOPE = "airis.demo"
_EXPORT_TIMEOUT = 5.0
_QUEUE = 4096
_QUIET_SECONDS = 60.0


def endpoint() -> str:
    """Where to send, as `http://host:port` of OTLP/gRPC.

    Raises:
        SystemExit: The environment does not say.
    """
    found = os.environ.get(ENDPOINT_VARIABLE, "")
    if not found:
        raise SystemExit(f"set {ENDPOINT_VARIABLE} to the OTLP/gRPC receiver, for example http://127.0.0.1:4317")
    return found


class Log:
    """The log of one service; a record carries the ids of the span that it is written in."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def info(self, message: str, **attributes: str | int | float) -> None:
        """Writes what went as it should."""
        self._emit(SeverityNumber.INFO, "INFO", message, attributes)

    def warn(self, message: str, **attributes: str | int | float) -> None:
        """Writes what someone may want to look at."""
        self._emit(SeverityNumber.WARN, "WARN", message, attributes)

    def error(self, message: str, **attributes: str | int | float) -> None:
        """Writes what failed."""
        self._emit(SeverityNumber.ERROR, "ERROR", message, attributes)

    def _emit(
        self, severity: SeverityNumber, text: str, message: str, attributes: Mapping[str, str | int | float]
    ) -> None:
        self._logger.emit(
            timestamp=time.time_ns(),
            severity_number=severity,
            severity_text=text,
            body=message,
            attributes=dict(attributes),
        )


@dataclass(frozen=True)
class Telemetry:
    """What one service traces, measures and logs with."""

    tracer_provider: TracerProvider
    tracer: Tracer
    meter: Meter
    log: Log


class Exports:
    """The way out for all services of the process: one batch and one connection for traces, and one for logs.

    A receiver that is away costs what its queues cannot hold, and one line on stderr a minute.
    """

    def __init__(self, endpoint: str, metric_interval: float, token_file: Path | None = None) -> None:
        """Starts to send.

        Args:
            endpoint: `http://host:port` of an OTLP/gRPC receiver.
            metric_interval: Seconds between exports of metrics.
            token_file: A file with the token to send along; None: what the environment says, if anything.
        """
        quiet_logging()
        self._options: dict[str, Any] = {"endpoint": endpoint, "insecure": True, "timeout": _EXPORT_TIMEOUT}
        named = token_file or os.environ.get(TOKEN_FILE_VARIABLE)
        if named:
            self._options["headers"] = TokenHeaders(Path(named))
        self._metric_interval = metric_interval
        self._spans = BatchSpanProcessor(
            OTLPSpanExporter(**self._options), max_queue_size=_QUEUE, schedule_delay_millis=1000
        )
        self._records = BatchLogRecordProcessor(
            OTLPLogExporter(**self._options), max_queue_size=_QUEUE, schedule_delay_millis=1000
        )
        self._stops: list[Callable[[], None]] = [self._spans.shutdown, self._records.shutdown]

    def service(self, name: str, attributes: Mapping[str, str] | None = None) -> Telemetry:
        """The telemetry of one more service.

        Args:
            name: Its `service.name`.
            attributes: Further attributes of its resource.
        """
        resource = Resource.create({"service.name": name, **(attributes or {})})
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracers.add_span_processor(self._spans)
        loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
        loggers.add_log_record_processor(self._records)
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(**self._options), export_interval_millis=self._metric_interval * 1000
        )
        meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._stops.append(meters.shutdown)
        return Telemetry(tracers, tracers.get_tracer(_SCOPE), meters.get_meter(_SCOPE), Log(loggers.get_logger(_SCOPE)))

    def stop(self, seconds: float = 2.0) -> None:
        """Sends what is held and ends; gives up on it after that many seconds."""
        # The SDK's own shutdown waits half a minute for a receiver that is away.
        threads = [threading.Thread(target=stop, daemon=True) for stop in self._stops]
        for thread in threads:
            thread.start()
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


class OncePerMinute(logging.Filter):
    """Lets one record a minute of each logger through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this logger was silent for a minute."""
        now = self._clock()
        if now - self._last.get(record.name, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._last[record.name] = now
        return True


def quiet_logging() -> None:
    """Sends what libraries warn of to stderr, an exporter's complaints once a minute."""
    handler = logging.StreamHandler()
    handler.addFilter(OncePerMinute())
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
