"""Points as a collector batches them: ten hosts a request, ten metrics of each, ten attribute sets of each.

All series report once in ten seconds of the data's time, host by host, one to three milliseconds late. Half the metrics
are integer counters, the others gauges: small counts, latencies with one decimal, and a limit that does not change.
"""

from __future__ import annotations

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric

from bench.templates import Template, decimal, double_mark, fixed64_mark, octets, sfixed64_mark, text_mark

POINTS = 1000
_HOSTS, _SETS = 10, 10
_STEP_NS = 10_000_000_000
_COUNTERS = {
    "http.server.requests": "{request}",
    "http.server.errors": "{error}",
    "http.server.request.bytes": "By",
    "http.server.response.bytes": "By",
    "http.server.busy": "ms",
}
_GAUGES = {
    "http.server.active_requests": "{request}",
    "http.server.queue.depth": "{request}",
    "http.server.latency.p50": "ms",
    "http.server.latency.p99": "ms",
    "http.server.limit": "{request}",
}
METRIC_NAMES = (*_COUNTERS, *_GAUGES)
"""As OTLP names them; Prometheus and VictoriaMetrics may write them otherwise."""

_SERVICES = ("frontend", "cart", "catalog", "payment", "shipping", "recommendation", "inventory", "account")
_REGIONS = ("ap-northeast-2", "eu-central-1", "us-east-1")
_ROUTES = (
    "/",
    "/cart",
    "/cart/{id}",
    "/checkout",
    "/items",
    "/items/{id}",
    "/login",
    "/orders",
    "/orders/{id}",
    "/search",
)
_TIME, _INTEGER, _DOUBLE, _START = 1, 2, 3, 4
_HOST_DIGITS = 6
_RATES = np.repeat(np.array([40, 2, 20_000, 90_000, 800]), _SETS)


class MetricPayloads:
    """Requests of 1,000 points, each of another series.

    Args:
        base_ns: The time of the first sweep over all series.
        series: A multiple of 1,000. The first `series / 1000` requests bring a thousand new series each.
    """

    items = POINTS
    step_ns = _STEP_NS

    def __init__(self, base_ns: int, series: int) -> None:
        if series % POINTS:
            raise ValueError(f"series must be a multiple of {POINTS}, not {series}")
        self.period = series // POINTS
        self._base_ns = base_ns
        self._template = Template(
            _message().SerializeToString(), {_TIME: 8, _INTEGER: 8, _DOUBLE: 8, _START: 8}, (_HOST_DIGITS,)
        )
        weights = np.random.Generator(np.random.PCG64(7)).uniform(0.2, 2.0, POINTS // 2)
        self._rates = np.maximum(1, (np.tile(_RATES, _HOSTS) * weights)).astype(np.int64)
        self._levels = np.round(weights * 20, 1)

    def request(self, number: int) -> bytes:
        """The request of a number."""
        step, group = divmod(number, self.period)
        random = np.random.Generator(np.random.SFC64([number, 1]))
        hosts = np.arange(group * _HOSTS, (group + 1) * _HOSTS, dtype=np.int64)
        late = random.integers(1, 4, _HOSTS) * 1_000_000
        times = self._base_ns + step * _STEP_NS + hosts % 9_000 * 1_000_000 + late
        counters = (step + 1) * self._rates * 10 + (self._rates * 10 * random.random(POINTS // 2)).astype(np.int64)
        gauges = np.empty((_HOSTS, len(_GAUGES), _SETS))
        levels = self._levels.reshape(gauges.shape)
        noise = random.random(gauges.shape)
        gauges[:, :2] = np.floor(noise[:, :2] * levels[:, :2] / 4)
        gauges[:, 2:4] = np.round(levels[:, 2:4] * (1 + noise[:, 2:4]), 1)
        gauges[:, 4] = np.floor(levels[:, 4] * 100)
        started = np.full(_HOSTS, self._base_ns - 3600 * 1_000_000_000, np.int64)
        return self._template.fill(
            {
                str(_TIME): octets(np.repeat(times, POINTS // _HOSTS)),
                str(_START): octets(np.repeat(started, POINTS // _HOSTS)),
                str(_INTEGER): octets(counters),
                str(_DOUBLE): octets(gauges.ravel()),
                f"text {_HOST_DIGITS}": decimal(hosts, _HOST_DIGITS),
            }
        )


def _message() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    for host in range(_HOSTS):
        group = request.resource_metrics.add()
        name = text_mark(host, _HOST_DIGITS)
        for key, value in (
            ("service.name", _SERVICES[host % len(_SERVICES)]),
            ("service.instance.id", f"host-{name}:8080"),
            ("host.name", f"host-{name}"),
            ("cloud.region", _REGIONS[host % len(_REGIONS)]),
            ("deployment.environment.name", "production"),
        ):
            group.resource.attributes.add(key=key).value.string_value = value
        scope = group.scope_metrics.add()
        scope.scope.name = "bench"
        at = host * len(METRIC_NAMES)
        for place, (metric_name, unit) in enumerate((_COUNTERS | _GAUGES).items()):
            metric = scope.metrics.add(name=metric_name, unit=unit)
            _points(metric, (at + place) * _SETS, (host * 5 + place % 5) * _SETS, counter=metric_name in _COUNTERS)
    return request


def _points(metric: Metric, time: int, value: int, *, counter: bool) -> None:
    if counter:
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    points = metric.sum.data_points if counter else metric.gauge.data_points
    for place in range(_SETS):
        point = points.add(time_unix_nano=fixed64_mark(_TIME, time + place))
        if counter:
            point.start_time_unix_nano = fixed64_mark(_START, time + place)
            point.as_int = sfixed64_mark(_INTEGER, value + place)
        else:
            point.as_double = double_mark(_DOUBLE, value + place)
        point.attributes.add(key="http.request.method").value.string_value = "POST" if place % 4 == 3 else "GET"
        point.attributes.add(key="http.route").value.string_value = _ROUTES[place]
        point.attributes.add(key="http.response.status_code").value.int_value = 200 if place % 5 else 404
