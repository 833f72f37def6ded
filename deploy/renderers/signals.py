"""The four services as renderers see them: policies, pools and the paths of OTLP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from resilience.contract import BulkheadRule, MethodPolicy, airis_services, method_policy, service_bulkheads

_COLLECTOR = "opentelemetry.proto.collector"
_OTLP = {
    "metrics": (f"/{_COLLECTOR}.metrics.v1.MetricsService/Export", "/v1/metrics"),
    "logs": (f"/{_COLLECTOR}.logs.v1.LogsService/Export", "/v1/logs"),
    "traces": (f"/{_COLLECTOR}.trace.v1.TraceService/Export", "/v1/traces"),
}


@dataclass(frozen=True, slots=True)
class Otlp:
    """OTLP's way into a service, which has the policy of the service's own unary ingest.

    Attributes:
        method: Its gRPC path.
        http_path: Its path over HTTP.
        policy: The policy of the unary ingest.
    """

    method: str
    http_path: str
    policy: MethodPolicy


@dataclass(frozen=True, slots=True)
class Signal:
    """One service.

    Attributes:
        name: "metrics".
        service: Its descriptor.
        policies: Those of its RPCs, in the order of the contract.
        bulkheads: Its pools, in the order of the contract.
        otlp: Its OTLP dialect; None: it has none.
    """

    name: str
    service: ServiceDescriptor
    policies: tuple[MethodPolicy, ...]
    bulkheads: tuple[BulkheadRule, ...]
    otlp: Otlp | None

    @property
    def domain(self) -> str:
        """The domain of its errors."""
        return f"{self.name}.airis"


def read_signals(files: Iterable[FileDescriptor]) -> tuple[Signal, ...]:
    """The services of the contracts by name.

    Raises:
        LookupError: An RPC has no policy, or an incomplete one.
    """
    return tuple(sorted((_signal(service) for service in airis_services(files)), key=lambda signal: signal.name))


def method_name(policy: MethodPolicy) -> str:
    """The name of an RPC within its service: "QueryMetrics"."""
    return policy.method.rpartition("/")[2]


def _signal(service: ServiceDescriptor) -> Signal:
    name = service.full_name.split(".")[1]
    found = tuple(method_policy(method) for method in service.methods)
    otlp = None
    if name in _OTLP:
        (ingest,) = [policy for policy in found if method_name(policy).startswith("Ingest")]
        otlp = Otlp(*_OTLP[name], ingest)
    return Signal(name, service, found, tuple(service_bulkheads(service).values()), otlp)
