"""Small calls: one point a request. What a call costs is nearly all there is to it."""

from __future__ import annotations

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bench.templates import Template, fixed64_mark, octets, text_mark

CALL_METRIC = "http.server.limit"
_TIME, _HOST_DIGITS, _HOSTS = 1, 6, 1000
_STEP_NS = 1_000_000


class CallPayloads:
    """Requests of one point, each a millisecond after the last, of a thousand series.

    Args:
        base_ns: The time of the first point.
    """

    items = 1
    period = _HOSTS
    step_ns = _STEP_NS

    def __init__(self, base_ns: int) -> None:
        self._base_ns = base_ns
        request = ExportMetricsServiceRequest()
        group = request.resource_metrics.add()
        group.resource.attributes.add(key="service.name").value.string_value = "frontend"
        group.resource.attributes.add(key="host.name").value.string_value = f"host-{text_mark(0, _HOST_DIGITS)}"
        metric = group.scope_metrics.add().metrics.add(name=CALL_METRIC, unit="{request}")
        metric.gauge.data_points.add(time_unix_nano=fixed64_mark(_TIME, 0), as_double=2000.0)
        self._template = Template(request.SerializeToString(), {_TIME: 8}, (_HOST_DIGITS,))

    def request(self, number: int) -> bytes:
        """The request of a number."""
        digits = np.frombuffer(f"{number % _HOSTS:0{_HOST_DIGITS}d}".encode(), np.uint8).reshape(1, _HOST_DIGITS)
        time = octets(np.array([self._base_ns + number * _STEP_NS]))
        return self._template.fill({str(_TIME): time, f"text {_HOST_DIGITS}": digits})
