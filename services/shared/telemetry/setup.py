"""Structured logs with trace ids, and OpenTelemetry for the service's own traces, metrics and logs.

Nothing feeds on itself: the exporters' channels are not instrumented, and calls of OTLP, health and reflection are
neither traced (`tracing.py`) nor logged.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO, cast

import structlog
from opentelemetry import metrics, trace
from opentelemetry._logs import SeverityNumber, set_logger_provider
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from services.shared.telemetry.config import TelemetryConfig
from services.shared.telemetry.output import LossyOutput
from services.shared.telemetry.token_headers import TokenHeaders

Stop = Callable[[], None]

# Longer than the platform takes to start: the first logs of a service wait for Envoy.
_EXPORT_SECONDS = 30
_STOP_SECONDS = 1.0

_SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}


def start(service: str, config: TelemetryConfig) -> Stop:
    """Sets up logging and telemetry of this process.

    Args:
        service: Its `service.name`: "airis-metrics".
        config: The settings.

    Returns:
        What flushes and ends it.
    """
    resource = Resource.create({"service.name": service})
    logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    tracer_provider = TracerProvider(
        resource=resource, sampler=ParentBased(TraceIdRatioBased(config.trace_ratio)), shutdown_on_exit=False
    )
    readers: list[Any] = [PrometheusMetricReader()]
    if config.otlp_endpoint:
        options: dict[str, Any] = {"endpoint": config.otlp_endpoint, "insecure": True, "timeout": _EXPORT_SECONDS}
        if config.token_file is not None:
            options["headers"] = TokenHeaders(config.token_file)
        tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**options), max_queue_size=4096))
        logger_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**options)))
        readers.append(
            PeriodicExportingMetricReader(
                OTLPMetricExporter(**options), export_interval_millis=config.metric_interval * 1000
            )
        )
    meter_provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    set_logger_provider(logger_provider)
    _configure_logs(service, config, logger_provider)

    def shut_down() -> None:
        tracer_provider.shutdown()
        meter_provider.shutdown()
        logger_provider.shutdown()

    def stop() -> None:
        # When the whole platform stops, Envoy has gone before: what cannot be sent then must not hold up the stop.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        ending = threading.Thread(target=shut_down, daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)

    return stop


def _configure_logs(service: str, config: TelemetryConfig, provider: LoggerProvider) -> None:
    otel = provider.get_logger("airis")

    def trace_ids(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = f"{context.trace_id:032x}"
            event["span_id"] = f"{context.span_id:016x}"
        return event

    def export(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        fields = {key: str(value) for key, value in event.items() if key not in ("event", "timestamp", "level")}
        otel.emit(
            severity_number=_SEVERITIES.get(level, SeverityNumber.INFO),
            severity_text=level.upper(),
            body=str(event.get("event", "")),
            attributes=fields,
        )
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            trace_ids,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            export,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(config.log_level)),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", LossyOutput(sys.stdout))),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries warn through the standard logger; exporters that cannot reach a service that is starting say so there.
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
