"""What the contract promises of the calls that the canary makes, and how far that is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airis.alerts.v1 import alerts_pb2
from airis.client.canary.record import Counts
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2

from resilience.contract import method_policy

_METRICS = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].methods_by_name
_LOGS = logs_pb2.DESCRIPTOR.services_by_name["LogService"].methods_by_name
_TRACES = traces_pb2.DESCRIPTOR.services_by_name["TraceService"].methods_by_name
_ALERTS = alerts_pb2.DESCRIPTOR.services_by_name["AlertService"].methods_by_name
_CALLS = {
    "metrics": (_METRICS["IngestMetrics"], _METRICS["QueryMetrics"]),
    "logs": (_LOGS["IngestLogs"], _LOGS["SearchLogs"]),
    "traces": (_TRACES["IngestSpans"], _TRACES["GetTrace"]),
    "alerts": (_METRICS["IngestMetrics"], _ALERTS["ListAlerts"]),
}


@dataclass(frozen=True, slots=True)
class Objective:
    """What is promised of a signal. Times are seconds.

    Attributes:
        availability: The share of rounds that go well.
        write_p95: Within what 95 % of the writes are acknowledged.
        read_p95: Within what 95 % of the reads are answered.
    """

    availability: float
    write_p95: float
    read_p95: float

    def burn(self, availability: float) -> float:
        """How many times as fast as allowed the budget of failures is used up: 1 uses up all of it, and no more."""
        allowed = 1.0 - self.availability
        return (1.0 - availability) / allowed if allowed else math.inf if availability < 1.0 else 0.0

    def misses(self, counts: Counts) -> list[str]:
        """What is not as it should be, as sentences without a subject; empty: everything is."""
        found = [
            f"{count:,} {what}" for what in ("missing", "doubled", "unverified") if (count := getattr(counts, what))
        ]
        if counts.availability < self.availability:
            found.append(f"availability {counts.availability:.3%} below {self.availability:.3%}")
        for name, latencies, limit in (
            ("writes", counts.write, self.write_p95),
            ("reads", counts.read, self.read_p95),
        ):
            if latencies.quantile(0.95) > limit:
                found.append(f"p95 of {name} {latencies.quantile(0.95) * 1000:.0f} ms above {limit * 1000:.0f} ms")
        return found


def objective(signal: str) -> Objective:
    """What the contract promises of the calls that a round of a signal makes: the least of what each does."""
    write, read = (method_policy(method) for method in _CALLS[signal])
    return Objective(min(write.availability, read.availability), write.latency_p95, read.latency_p95)
