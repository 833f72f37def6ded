"""The four services with authentication on, and two tenants that write the same names, ids and times into them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from airis.alerts.v1 import alerts_pb2, alerts_pb2_grpc
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from airis.traces.v1 import traces_pb2, traces_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from service_process import ServiceProcess

from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.permissions import contract_permissions

SECOND = 1_000_000_000
QUERYABLE = 2
REQUEST_ID = "the-same-request"
PRODUCER = "the-same-producer"
TRACE = "ab" * 16
LONELY = "cd" * 16
"""A trace in which only the first tenant has the calling span."""

STUBS: dict[str, Any] = {
    "metrics": metrics_pb2_grpc.MetricsServiceStub,
    "logs": logs_pb2_grpc.LogServiceStub,
    "traces": traces_pb2_grpc.TraceServiceStub,
    "alerts": alerts_pb2_grpc.AlertServiceStub,
}
SERVICES = {
    "metrics": metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"],
    "logs": logs_pb2.DESCRIPTOR.services_by_name["LogService"],
    "traces": traces_pb2.DESCRIPTOR.services_by_name["TraceService"],
    "alerts": alerts_pb2.DESCRIPTOR.services_by_name["AlertService"],
}


class Platform:
    """The running services and who may call them."""

    def __init__(self, folder: Path, dsn: str, stack: ExitStack) -> None:
        keys = KeyFolder(folder, key_bits=2048)
        keys.init()
        self._issuer = TokenIssuer(keys)
        environment = {
            "AIRIS_AUTH__ENABLED": "true",
            "AIRIS_AUTH__JWKS_FILE": str(keys.jwks_file),
            "AIRIS_TRACES__EDGE_INTERVAL": "0.1",
            "AIRIS_POSTGRES__DSN": dsn,
            "AIRIS_ALERTS__EVALUATION_POLL_INTERVAL": "0.05",
            "AIRIS_ALERTS__INGESTION_DELAY": "0",
            "AIRIS_ALERTS__ALLOW_LOCAL_TARGETS": "true",
            "AIRIS_ALERTS__SIGNALS_TOKEN_FILE": str(folder / "alerts.jwt"),
        }
        (folder / "alerts.jwt").write_text(self.token("*", ["metrics.read", "logs.read"]))
        self.processes: dict[str, ServiceProcess] = {}
        for name in SERVICES:
            self.processes[name] = ServiceProcess(name, folder / name, **environment)
            self.processes[name].start()
            stack.callback(self.processes[name].stop)
            if name in ("metrics", "logs"):
                environment[f"AIRIS_ALERTS__{name.upper()}_TARGET"] = self.processes[name].grpc
        self.channels = {
            name: stack.enter_context(grpc.insecure_channel(process.grpc)) for name, process in self.processes.items()
        }
        # What both write is of this time, a few whole minutes ago, so that rollups answer for it.
        self.begin = (time.time_ns() // SECOND // 60 - 5) * 60 * SECOND

    def token(self, tenant: str, permissions: list[str] | None = None) -> str:
        allowed = permissions or sorted(contract_permissions())
        return self._issuer.issue(subject="somebody", tenant=tenant, permissions=allowed)

    def tenant(self, name: str, factor: int) -> Tenant:
        return Tenant(self, name, factor)


@contextmanager
def open_platform(folder: Path, postgres_socket: str, database: str) -> Iterator[Platform]:
    """Starts the services in order and stops them."""

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={postgres_socket}")
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run(f"CREATE DATABASE {database}"))
    with ExitStack() as stack:
        yield Platform(folder, f"postgresql://postgres@/{database}?host={postgres_socket}", stack)


class Tenant:
    """Somebody of a tenant, and the data that they write: `factor` tells it from that of others.

    Attributes:
        mark: A text that is in all of their data that holds text.
    """

    def __init__(self, platform: Platform, name: str, factor: int) -> None:
        self.platform = platform
        self.name = name
        self.factor = factor
        self.mark = f"mark-of-{name}"
        self.metadata = (("authorization", f"Bearer {platform.token(name)}"),)
        self._stubs = {service: STUBS[service](channel) for service, channel in platform.channels.items()}

    def call(self, service: str, method: str, request: Any) -> Any:
        return getattr(self._stubs[service], method)(request, metadata=self.metadata, timeout=20)

    def outcome(self, service: str, method: str, request: Message) -> list[Message] | str:
        """What a call gives: its responses, or its error."""
        try:
            answer = self.call(service, method, request)
            return [answer] if isinstance(answer, Message) else list(answer)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"

    def write(self) -> None:
        """Writes metrics, logs, spans and alert resources under names and ids that others have too."""
        for service, request in self.streams().items():
            self.stream(service, request)
        self._export_histogram()
        # These wait until they can be read, and so can what was taken before them.
        self.call("metrics", "IngestMetrics", self.metrics())
        self.call("logs", "IngestLogs", self.logs())
        self.call("traces", "IngestSpans", self.spans())
        self.create_resources()

    def stream(self, service: str, batch: Message) -> int:
        """Sends one batch of the producer; gives what its stream was resumed after."""
        method = {"metrics": "StreamMetrics", "logs": "StreamLogs", "traces": "StreamSpans"}[service]
        kind = type(batch)
        opening = kind()
        opening.open.producer_id = PRODUCER  # type: ignore[attr-defined]
        opened, *rest = self.call(service, method, iter([opening, batch]))
        assert [response.WhichOneof("message") for response in rest] == ["ack"], rest
        resumed: int = opened.opened.resume_after
        return resumed

    def metrics(self) -> Any:
        request = metrics_pb2.IngestMetricsRequest(request_id=REQUEST_ID, wait_for=QUERYABLE)
        for second in range(0, 120, 10):
            self._point(request.metrics.add(), "cpu", self.factor, second, "GAUGE")
            self._point(request.metrics.add(), "jobs", self.factor * second, second, "COUNTER")
        self._point(request.metrics.add(), f"only.{self.name}", 1, 0, "GAUGE")
        return request

    def logs(self) -> Any:
        request = logs_pb2.IngestLogsRequest(request_id=REQUEST_ID, wait_for=QUERYABLE)
        for number in range(5 * self.factor):
            self._entry(request.entries.add(), number)
        return request

    def spans(self) -> Any:
        request = traces_pb2.IngestSpansRequest(request_id=REQUEST_ID, wait_for=QUERYABLE)
        for place, service in enumerate(("web", "cart", self.mark)):
            self._span(request.spans.add(), TRACE, place, service)
        # Both have the called span, one has the caller: it must not call the other's.
        if self.factor == 1:
            self._span(request.spans.add(), LONELY, 0, "caller")
        else:
            self._span(request.spans.add(), LONELY, 1, "called")
        return request

    def streams(self) -> dict[str, Message]:
        """The first batch of the producer, by signal."""
        metrics, logs, traces = (
            metrics_pb2.StreamMetricsRequest(),
            logs_pb2.StreamLogsRequest(),
            traces_pb2.StreamSpansRequest(),
        )
        for batch in (metrics.batch, logs.batch, traces.batch):
            batch.sequence = 1
        self._point(metrics.batch.metrics.add(), "streamed", self.factor, 0, "GAUGE")
        self._entry(logs.batch.entries.add(), 1000)
        self._span(traces.batch.spans.add(), "ef" * 16, 0, "web")
        return {"metrics": metrics, "logs": logs, "traces": traces}

    def create_resources(self) -> None:
        pb = alerts_pb2
        hook = pb.Channel(display_name=self.mark, webhook=pb.Channel.Webhook(url=f"http://127.0.0.1:9/{self.mark}"))
        for identifier in ("same", self.mark):
            self.call("alerts", "CreateChannel", pb.CreateChannelRequest(channel=hook, channel_id=identifier))
        policy = pb.EscalationPolicy(
            display_name=self.mark, steps=[pb.EscalationPolicy.Step(channels=["channels/same"])]
        )
        silence = pb.Silence(comment=self.mark, filter="severity = CRITICAL")
        silence.start_time.FromNanoseconds(self.platform.begin)
        silence.end_time.FromNanoseconds(self.platform.begin + 86_400 * SECOND)
        self.call(
            "alerts",
            "CreateEscalationPolicy",
            pb.CreateEscalationPolicyRequest(escalation_policy=policy, escalation_policy_id="same"),
        )
        self.call("alerts", "CreateSilence", pb.CreateSilenceRequest(silence=silence, silence_id="same"))
        for identifier in ("same", self.mark):
            self.call("alerts", "CreateAlertRule", self.rule(identifier))

    def rule(self, identifier: str, **fields: Any) -> Any:
        """Fires at once: by the number of this tenant's own data."""
        condition = alerts_pb2.AlertRule.Condition(
            metric="cpu", aggregation="MAX", window=Duration(seconds=3600), operator="EQ", threshold=self.factor
        )
        rule = alerts_pb2.AlertRule(
            display_name=self.mark,
            conditions=[condition],
            labels={"owner": self.name},
            evaluation_interval=Duration(seconds=1),
            **fields,
        )
        return alerts_pb2.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id=identifier)

    def alerts(self) -> Any:
        """Both rules' alerts, once they fire."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            found = self.call("alerts", "ListAlerts", alerts_pb2.ListAlertsRequest()).alerts
            if len(found) == 2:
                return found
        raise AssertionError(self.outcome("alerts", "ListAlertRules", alerts_pb2.ListAlertRulesRequest()))

    def edges(self) -> list[tuple[str, str, int]]:
        """The calls between services, once those of the trace are found."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            request = self.ranged(traces_pb2.GetServiceMapRequest())
            found = self.call("traces", "GetServiceMap", request).edges
            if len(found) >= 2:
                return [(edge.caller, edge.callee, edge.call_count) for edge in found]
        raise AssertionError("the service map stayed empty")

    def ranged(self, request: Any) -> Any:
        """The request, over the time of all data."""
        request.start_time.FromNanoseconds(self.platform.begin - 600 * SECOND)
        request.end_time.FromNanoseconds(self.platform.begin + 600 * SECOND)
        return request

    def _point(self, point: Any, name: str, value: float, second: int, kind: str) -> None:
        point.name, point.value, point.kind = name, value, getattr(metrics_pb2.Metric, kind)
        point.timestamp.FromNanoseconds(self.platform.begin + second * SECOND)
        point.labels.update(host="h", tenant=self.name, owner=self.mark)

    def _entry(self, entry: Any, number: int) -> None:
        entry.timestamp.FromNanoseconds(self.platform.begin + number * SECOND)
        entry.message = f"the order {number} of {self.mark} failed"
        entry.service, entry.trace_id = "shop", TRACE
        entry.labels.update(tenant=self.name, owner=self.mark)

    def _span(self, span: Any, trace: str, place: int, service: str) -> None:
        span.trace_id, span.span_id, span.service_name = trace, f"{place + 1:016x}", service
        span.parent_span_id = f"{place:016x}" if place else ""
        span.operation_name, span.kind = "work", traces_pb2.Span.SERVER
        start = self.platform.begin + place * SECOND
        span.start_time.FromNanoseconds(start)
        span.end_time.FromNanoseconds(start + self.factor * SECOND // 10)
        span.tags["owner"].string_value = self.mark

    def _export_histogram(self) -> None:
        request = metrics_service_pb2.ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="latency")
        metric.histogram.aggregation_temporality = 1
        metric.histogram.data_points.add(
            time_unix_nano=self.platform.begin + SECOND,
            count=self.factor,
            sum=self.factor,
            bucket_counts=[self.factor, 0],
            explicit_bounds=[1.0],
        )
        stub = metrics_service_pb2_grpc.MetricsServiceStub(self.platform.channels["metrics"])
        stub.Export(request, metadata=self.metadata, timeout=20)
